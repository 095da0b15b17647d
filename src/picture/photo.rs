//! A photograph: its pixels, and what its file says of them.

use std::io::Cursor;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::codecs::png::{CompressionType, FilterType, PngDecoder, PngEncoder};
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::{WebPDecoder, WebPEncoder};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat};

use super::jpeg::{Flaw, flaw};
use super::notes;

/// A larger photo is refused by its header, before anything is decoded.
const PIXELS_MAX: u64 = 150_000_000;

/// A photograph in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    pub format: Format,
    /// In pixels, as they are stored: `orientation` says how to turn them.
    pub width: u32,
    pub height: u32,
    /// Samples a pixel: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha.
    pub channels: usize,
    pub samples: Samples,
    pub(super) orientation: Orientation,
    /// The colour profile and the camera's notes, byte by byte.
    icc: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
    /// All that a TIFF says beside its pixels, the profile among it.
    notes: notes::Notes,
}

/// Samples, pixel by pixel, row by row from the top.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

/// The formats that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    Tiff,
    WebP,
}

/// Why a photo can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhotoError {
    #[error("it is empty")]
    Empty,
    #[error("it is no JPEG, PNG, TIFF or WebP")]
    Unknown,
    #[error("its content is {found:?}, not what its name says; rename it to end in .{}", found.ending())]
    Misnamed { found: Format },
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("{0}; it is left as it is")]
    Unsupported(String),
    #[error("it has {width}x{height} pixels, allowed are {} million", pixels_max / 1_000_000)]
    TooLarge { width: u32, height: u32, pixels_max: u64 },
    #[error("it can't be written: {0}")]
    Unwritable(String),
}

impl Format {
    /// By a file's ending, whatever its case; `None` if it is none of a photo.
    pub fn of_ending(ending: &str) -> Option<Self> {
        match ending.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "png" => Some(Self::Png),
            "tif" | "tiff" => Some(Self::Tiff),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }

    /// Its media type.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Tiff => "image/tiff",
            Self::WebP => "image/webp",
        }
    }

    /// The usual ending of a file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Tiff => "tif",
            Self::WebP => "webp",
        }
    }
}

impl Photo {
    /// Reads a photo. `named` is the format that its name promises, if it has a name.
    ///
    /// # Errors
    /// When it is none of the formats or not the one its name says, is damaged or cut short, is
    /// too large, holds several pictures, or colours that are not red, green and blue.
    pub fn read(bytes: &[u8], named: Option<Format>) -> Result<Self, PhotoError> {
        Self::read_within(bytes, named, PIXELS_MAX)
    }

    /// The same with a limit of its own on the pixels, which is checked before they are decoded.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_within(
        bytes: &[u8],
        named: Option<Format>,
        pixels_max: u64,
    ) -> Result<Self, PhotoError> {
        if bytes.is_empty() {
            return Err(PhotoError::Empty);
        }
        let found = match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => Format::Jpeg,
            Ok(ImageFormat::Png) => Format::Png,
            Ok(ImageFormat::Tiff) => Format::Tiff,
            Ok(ImageFormat::WebP) => Format::WebP,
            _ => return Err(PhotoError::Unknown),
        };
        if named.is_some_and(|named| named != found) {
            return Err(PhotoError::Misnamed { found });
        }
        let source = Cursor::new(bytes);
        match found {
            Format::Jpeg => {
                match flaw(bytes) {
                    Some(Flaw::Truncated) => {
                        return Err(PhotoError::Damaged("its end is missing".to_owned()));
                    }
                    Some(Flaw::FourInks) => return Err(unsupported("its colours are CMYK")),
                    None => {}
                }
                decode(JpegDecoder::new(source).map_err(damaged)?, found, pixels_max)
            }
            Format::Png => {
                let decoder = PngDecoder::new(source).map_err(damaged)?;
                if decoder.is_apng().map_err(damaged)? {
                    return Err(unsupported("it is animated"));
                }
                decode(decoder, found, pixels_max)
            }
            Format::Tiff => {
                if notes::is_album(bytes) {
                    return Err(unsupported("it holds several pictures"));
                }
                let photo = decode(TiffDecoder::new(source).map_err(damaged)?, found, pixels_max)?;
                let notes = notes::Notes::read(bytes);
                if notes.extra_samples > 1 - photo.channels % 2 {
                    return Err(unsupported("it has further channels, which would be lost"));
                }
                Ok(Self { notes, ..photo })
            }
            Format::WebP => {
                let decoder = WebPDecoder::new(source).map_err(damaged)?;
                if decoder.has_animation() {
                    return Err(unsupported("it is animated"));
                }
                decode(decoder, found, pixels_max)
            }
        }
    }

    /// Writes it as it was read: format, depth, alpha, profile, notes. `quality` (1 to 100) is that
    /// of a JPEG; all other formats lose nothing.
    ///
    /// # Errors
    /// When the encoder refuses.
    pub fn write(&self, quality: u8) -> Result<Vec<u8>, PhotoError> {
        let mut out = Cursor::new(Vec::new());
        match self.format {
            Format::Jpeg => self.encode(JpegEncoder::new_with_quality(&mut out, quality))?,
            Format::Png => {
                let (best, filter) = (CompressionType::Fast, FilterType::Adaptive);
                self.encode(PngEncoder::new_with_quality(&mut out, best, filter))?;
            }
            Format::Tiff => {
                let written = notes::write(self, &self.notes);
                return written.map_err(|error| PhotoError::Unwritable(error.to_string()));
            }
            Format::WebP => self.encode(WebPEncoder::new_lossless(&mut out))?,
        }
        Ok(out.into_inner())
    }

    /// Whether it has no colour: one channel, or three that are always equal.
    pub fn is_grey(&self) -> bool {
        fn equal<T: PartialEq>(samples: &[T], channels: usize) -> bool {
            let mut pixels = samples.chunks_exact(channels);
            pixels.all(|pixel| matches!(pixel, [r, g, b, ..] if r == g && g == b))
        }
        self.channels < 3
            || match &self.samples {
                Samples::Eight(samples) => equal(samples, self.channels),
                Samples::Sixteen(samples) => equal(samples, self.channels),
            }
    }

    /// Red, green and blue of 8 bits, upright, with its width and height; grey as equal channels.
    pub fn rgb8(&self) -> (u32, u32, Vec<u8>) {
        let samples: Vec<u8> = match &self.samples {
            Samples::Eight(samples) => samples.clone(),
            Samples::Sixteen(samples) => {
                samples.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect()
            }
        };
        let pixels = samples.chunks_exact(self.channels.max(1));
        let rgb = pixels.flat_map(|pixel| match *pixel {
            [red, green, blue, ..] => [red, green, blue],
            [grey, ..] => [grey; 3],
            [] => [0; 3],
        });
        match image::RgbImage::from_raw(self.width, self.height, rgb.collect()) {
            Some(image) => {
                let mut image = DynamicImage::from(image);
                image.apply_orientation(self.orientation);
                (image.width(), image.height(), image.into_bytes())
            }
            None => (0, 0, Vec::new()),
        }
    }

    /// A photo of 8 bits and three channels.
    pub fn from_rgb8(format: Format, width: u32, height: u32, rgb: Vec<u8>) -> Self {
        Self {
            format,
            width,
            height,
            channels: 3,
            samples: Samples::Eight(rgb),
            orientation: Orientation::NoTransforms,
            icc: None,
            exif: None,
            notes: notes::Notes::default(),
        }
    }

    fn encode(&self, mut encoder: impl ImageEncoder) -> Result<(), PhotoError> {
        let refused = |what: String| PhotoError::Unwritable(what);
        if let Some(icc) = &self.icc {
            encoder.set_icc_profile(icc.clone()).map_err(|error| refused(error.to_string()))?;
        }
        if let Some(exif) = &self.exif {
            encoder.set_exif_metadata(exif.clone()).map_err(|error| refused(error.to_string()))?;
        }
        let (bytes, color) = match &self.samples {
            Samples::Eight(samples) => (
                samples.as_slice(),
                match self.channels {
                    1 => ExtendedColorType::L8,
                    2 => ExtendedColorType::La8,
                    3 => ExtendedColorType::Rgb8,
                    _ => ExtendedColorType::Rgba8,
                },
            ),
            Samples::Sixteen(samples) => (
                bytemuck::cast_slice(samples),
                match self.channels {
                    1 => ExtendedColorType::L16,
                    2 => ExtendedColorType::La16,
                    3 => ExtendedColorType::Rgb16,
                    _ => ExtendedColorType::Rgba16,
                },
            ),
        };
        encoder
            .write_image(bytes, self.width, self.height, color)
            .map_err(|error| refused(error.to_string()))
    }
}

fn decode(
    mut decoder: impl ImageDecoder,
    format: Format,
    pixels_max: u64,
) -> Result<Photo, PhotoError> {
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > pixels_max.min(PIXELS_MAX) {
        return Err(PhotoError::TooLarge { width, height, pixels_max });
    }
    let (channels, is_deep) = match decoder.color_type() {
        ColorType::L8 => (1, false),
        ColorType::La8 => (2, false),
        ColorType::Rgb8 => (3, false),
        ColorType::Rgba8 => (4, false),
        ColorType::L16 => (1, true),
        ColorType::La16 => (2, true),
        ColorType::Rgb16 => (3, true),
        ColorType::Rgba16 => (4, true),
        other => return Err(unsupported(&format!("its samples are {other:?}"))),
    };
    if matches!(decoder.original_color_type(), ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16)
    {
        return Err(unsupported("its colours are CMYK"));
    }
    // What stands beside the pixels may be damaged without them.
    let icc = decoder.icc_profile().ok().flatten();
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let count = width as usize * height as usize * channels;
    let samples = if is_deep {
        let mut samples = vec![0_u16; count];
        decoder.read_image(bytemuck::cast_slice_mut(&mut samples)).map_err(damaged)?;
        Samples::Sixteen(samples)
    } else {
        let mut samples = vec![0_u8; count];
        decoder.read_image(&mut samples).map_err(damaged)?;
        Samples::Eight(samples)
    };
    let notes = notes::Notes::default();
    Ok(Photo { format, width, height, channels, samples, orientation, icc, exif, notes })
}

fn damaged(error: image::ImageError) -> PhotoError {
    PhotoError::Damaged(error.to_string())
}

fn unsupported(what: &str) -> PhotoError {
    PhotoError::Unsupported(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn damaged_photos_never_panic(
            which in 0_usize..6,
            changes in proptest::collection::vec((0_usize..2_600, proptest::prelude::any::<u8>()), 0..12),
            // Half of them are whole.
            keep in 0_usize..5_200,
        ) {
            let photos: [&[u8]; 6] = [
                include_bytes!("../../tests/data/photos/alpha.png"),
                include_bytes!("../../tests/data/photos/grey.jpg"),
                include_bytes!("../../tests/data/photos/cmyk.jpg"),
                include_bytes!("../../tests/data/photos/animated.webp"),
                include_bytes!("../../tests/data/photos/bomb.jpg"),
                include_bytes!("../../tests/data/photos/notes.tif"),
            ];
            let mut bytes = photos[which].to_vec();
            for (at, value) in changes {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            bytes.truncate(keep.max(1));
            if let Ok(photo) = Photo::read(&bytes, None) {
                proptest::prop_assert!(photo.width > 0 && photo.height > 0);
                // What damaged notes say may be odd, and is still written.
                proptest::prop_assert!(photo.write(90).is_ok());
            }
        }
    }
}
