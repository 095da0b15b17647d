//! The 227x227 image of 8-bit pixels that a network sees, and its PNG form.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageEncoder};

/// 227x227 grey pixels in the order of a picture for people: row 0 is the top, the highest band;
/// time runs to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pixels: Vec<u8>,
}

/// A file that is not such an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("not a readable PNG: {0}")]
    Unreadable(String),
    #[error(
        "the image is {width}x{height} {color}, a network image is 227x227 8-bit grey (make one with `hearken spectrogram`)"
    )]
    Shape { width: u32, height: u32, color: String },
    #[error("the PNG could not be written: {0}")]
    Unwritable(String),
}

impl Image {
    /// Width and height in pixels.
    pub const SIDE: usize = 227;

    /// From columns in time, each from the lowest band up. Missing columns at the end stay 0,
    /// digital silence; surplus ones are ignored.
    pub fn from_columns<'a>(columns: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut pixels = vec![0; Self::SIDE * Self::SIDE];
        let columns: Vec<&[u8]> = columns.take(Self::SIDE).collect();
        // Row by row: the image is written once from front to end (7 times faster than by column).
        for (band, row) in pixels.chunks_exact_mut(Self::SIDE).rev().enumerate() {
            for (pixel, column) in row.iter_mut().zip(&columns) {
                *pixel = column.get(band).copied().unwrap_or(0);
            }
        }
        Self { pixels }
    }

    /// The rows from top (highest band) to bottom, each 227 pixels from left to right.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.pixels.chunks_exact(Self::SIDE)
    }

    /// All pixels, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bare image as an 8-bit grey PNG: no axes, no frame.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let side = Self::SIDE as u32;
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&self.pixels, side, side, image::ExtendedColorType::L8)
            .map_err(|error| ImageError::Unwritable(error.to_string()))?;
        Ok(bytes)
    }

    /// Reads what [`Image::to_png`] wrote. The size is checked before anything is decoded.
    pub fn from_png(bytes: &[u8]) -> Result<Self, ImageError> {
        let unreadable = |error: image::ImageError| ImageError::Unreadable(error.to_string());
        let decoder =
            image::codecs::png::PngDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
        let (width, height) = decoder.dimensions();
        let color = decoder.color_type();
        let side = Self::SIDE as u32;
        if (width, height) != (side, side) || color != ColorType::L8 {
            return Err(ImageError::Shape { width, height, color: format!("{color:?}") });
        }
        let mut pixels = vec![0; Self::SIDE * Self::SIDE];
        decoder.read_image(&mut pixels).map_err(unreadable)?;
        Ok(Self { pixels })
    }
}

/// A picture of three bytes a pixel, row by row from the top, as a PNG.
pub fn encode_rgb_png(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, ImageError> {
    let expected = u64::from(width) * u64::from(height) * 3;
    if rgb.len() as u64 != expected {
        let got = rgb.len();
        let why = format!("{got} bytes are not {width}x{height} pixels of 3 bytes");
        return Err(ImageError::Unwritable(why));
    }
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(rgb, width, height, image::ExtendedColorType::Rgb8)
        .map_err(|error| ImageError::Unwritable(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_upright_with_the_lowest_band_at_the_bottom() {
        let first: Vec<u8> = (0..Image::SIDE).map(|band| band as u8).collect();
        let image = Image::from_columns([first.as_slice()].into_iter());
        let left: Vec<u8> = image.rows().rev().map(|row| row[0]).collect();
        assert_eq!(left, first);
        assert!(image.rows().all(|row| row[1..].iter().all(|&pixel| pixel == 0)));
    }

    #[test]
    fn a_png_gives_the_same_image_back() {
        let pixels: Vec<u8> =
            (0..Image::SIDE * Image::SIDE).map(|i| (i * 31 % 251) as u8).collect();
        let image = Image { pixels };
        assert_eq!(Image::from_png(&image.to_png().unwrap()).unwrap(), image);
    }

    #[test]
    fn other_pictures_are_refused_with_their_size() {
        let mut png = Vec::new();
        image::codecs::png::PngEncoder::new(&mut png)
            .write_image(&[0; 3 * 4 * 3], 4, 3, image::ExtendedColorType::Rgb8)
            .unwrap();
        let error = Image::from_png(&png).unwrap_err().to_string();
        assert!(error.contains("4x3 Rgb8"), "{error}");
        assert!(matches!(Image::from_png(b"not a png"), Err(ImageError::Unreadable(_))));
        let good = Image::from_columns([].into_iter()).to_png().unwrap();
        assert!(matches!(Image::from_png(&good[..good.len() / 2]), Err(ImageError::Unreadable(_))));
    }
}
