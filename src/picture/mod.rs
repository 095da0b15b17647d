//! Pictures as bytes and as pixels: photographs of several formats with what travels beside their
//! pixels, plain PNG files, and the 227x227 view that a network sees. Pure: bytes in, bytes out.
//! The only home of `image`, `tiff` and `fast_image_resize`.

mod jpeg;
mod notes;
mod photo;
mod png;
mod view;

pub use photo::{Format, Photo, PhotoError, Samples};
pub use png::{PngError, decode, encode_grey, encode_rgb};
pub use view::{Crop, View};
