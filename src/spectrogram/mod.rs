//! Sound to image: mix-down, resampling, sliding STFT, mel bands, 8-bit columns, windows of
//! 227x227 pixels. Pure: no clock, no I/O, no threads, no logging.
//!
//! [`Analyser`] is the whole of it, and the only way from samples to a network's image: the live
//! sources, `classify` and `spectrogram` all go through it, and every number it uses comes from a
//! [`Recipe`].

mod analyser;
mod colormap;
mod image;
mod mel;
mod mix;
pub mod plot;
mod recipe;
mod resample;
pub mod settings;
mod slide;
mod stft;
mod window;

pub use analyser::{Analyser, InputFormat, Slice, SpectrogramError};
pub use image::{Image, ImageError};
pub use mel::FilterBank;
pub use mix::mix_into;
pub use recipe::{Recipe, RecipeError, RowOrder};
pub use resample::Resampler;
pub use settings::ChannelChoice;
pub use slide::Slide;
pub use stft::{ColumnMaker, PowerStft};
pub use window::WindowMaker;

/// The colours of values 0 to 255, in all pictures for people.
pub fn palette() -> [[u8; 3]; 256] {
    std::array::from_fn(|value| colormap::color(u8::try_from(value).unwrap_or(u8::MAX)))
}
