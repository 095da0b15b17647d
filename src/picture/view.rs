//! The 227x227 picture of a photograph that a network sees.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::DynamicImage;
use image::metadata::Orientation;

use super::photo::{Photo, PhotoError, Samples};

/// 227x227 pixels of red, green and blue of 0 to 255, row by row from the top. The photo's aspect
/// ratio is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    rgb: Vec<u8>,
}

/// A part of a photo, in pixels from its top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl View {
    /// Width and height.
    pub const SIDE: usize = 227;

    /// Brings a photo to this size by a triangle filter that takes in every pixel, and turns it
    /// upright. Alpha does not count.
    ///
    /// # Errors
    /// When the photo is grey.
    pub fn of(photo: &Photo) -> Result<Self, PhotoError> {
        let (width, height) = (photo.width, photo.height);
        let mut rgb = match (&photo.samples, photo.channels) {
            (Samples::Eight(samples), 3) => resized(samples, width, height, PixelType::U8x3, None)?,
            (Samples::Eight(samples), 4) => {
                let four = resized(samples, width, height, PixelType::U8x4, None)?;
                without_fourth(&four)
            }
            (Samples::Sixteen(samples), 3) => {
                let bytes = bytemuck::cast_slice(samples);
                eight_bits(&resized(bytes, width, height, PixelType::U16x3, None)?)
            }
            (Samples::Sixteen(samples), 4) => {
                let bytes = bytemuck::cast_slice(samples);
                without_fourth(&eight_bits(&resized(bytes, width, height, PixelType::U16x4, None)?))
            }
            _ => return Err(PhotoError::Unsupported("it is grey".to_owned())),
        };
        if photo.orientation != Orientation::NoTransforms {
            rgb = upright(rgb, photo.orientation)?;
        }
        Ok(Self { rgb })
    }

    /// From pixels of red, green and blue of 0 to 255, or a part of them.
    ///
    /// # Errors
    /// When there are not `width * height` pixels, or the part is not within them.
    pub fn of_rgb(
        rgb: &[u8],
        width: u32,
        height: u32,
        crop: Option<Crop>,
    ) -> Result<Self, PhotoError> {
        Ok(Self { rgb: resized(rgb, width, height, PixelType::U8x3, crop)? })
    }

    /// Pixels of three bytes.
    pub fn pixels(&self) -> &[[u8; 3]] {
        self.rgb.as_chunks().0
    }

    /// The values of one channel (0 is red), row by row from the top.
    pub fn plane(&self, channel: usize) -> impl Iterator<Item = u8> {
        self.rgb.iter().skip(channel).step_by(3).copied()
    }
}

fn resized(
    samples: &[u8],
    width: u32,
    height: u32,
    kind: PixelType,
    crop: Option<Crop>,
) -> Result<Vec<u8>, PhotoError> {
    let failed = |why: String| PhotoError::Unsupported(format!("it can't be resized: {why}"));
    let source =
        ImageRef::new(width, height, samples, kind).map_err(|error| failed(error.to_string()))?;
    let side = View::SIDE as u32;
    let mut view = Image::new(side, side, kind);
    let triangle = ResizeAlg::Convolution(FilterType::Bilinear);
    let mut options = ResizeOptions::new().resize_alg(triangle).use_alpha(false);
    if let Some(Crop { left, top, width, height }) = crop {
        options = options.crop(left, top, width, height);
    }
    Resizer::new()
        .resize(&source, &mut view, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(view.into_vec())
}

fn without_fourth(samples: &[u8]) -> Vec<u8> {
    samples.as_chunks().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
}

fn eight_bits(samples: &[u8]) -> Vec<u8> {
    let levels = samples.as_chunks().0.iter().map(|&pair| u32::from(u16::from_ne_bytes(pair)));
    levels.map(|level| ((level + 128) / 257) as u8).collect()
}

fn upright(rgb: Vec<u8>, orientation: Orientation) -> Result<Vec<u8>, PhotoError> {
    let side = View::SIDE as u32;
    let image = image::RgbImage::from_raw(side, side, rgb);
    let image = image.ok_or_else(|| PhotoError::Unsupported("its view is incomplete".to_owned()))?;
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    Ok(image.into_bytes())
}
