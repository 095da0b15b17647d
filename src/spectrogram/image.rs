//! The 227x227 image of 8-bit pixels that a network sees, and its PNG form.

use crate::picture::{PngError, decode_grey, encode_grey};

/// 227x227 grey pixels in the order of a picture for people: row 0 is the top, the highest band;
/// time runs to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pixels: Vec<u8>,
}

/// A file that is not such an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Png(PngError),
    #[error(
        "the image is {width}x{height} {color}, a network image is 227x227 8-bit grey (make one with `hearken spectrogram`)"
    )]
    Shape { width: u32, height: u32, color: String },
}

impl From<PngError> for ImageError {
    fn from(error: PngError) -> Self {
        match error {
            PngError::Shape { width, height, color } => Self::Shape { width, height, color },
            other => Self::Png(other),
        }
    }
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

    /// The last `count` columns in time, each from the lowest band up: what
    /// [`Image::from_columns`] takes.
    pub fn last_columns(&self, count: usize) -> Vec<u8> {
        let first = Self::SIDE.saturating_sub(count);
        let column = |at: usize| self.rows().rev().filter_map(move |row| row.get(at).copied());
        (first..Self::SIDE).flat_map(column).collect()
    }

    /// All pixels, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bare image as an 8-bit grey PNG: no axes, no frame.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let side = Self::SIDE as u32;
        Ok(encode_grey(side, side, &self.pixels)?)
    }

    /// Reads what [`Image::to_png`] wrote. The size is checked before anything is decoded.
    pub fn from_png(bytes: &[u8]) -> Result<Self, ImageError> {
        let side = Self::SIDE as u32;
        Ok(Self { pixels: decode_grey(bytes, side, side)? })
    }
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
    fn the_last_columns_are_those_that_came_last() {
        let columns: Vec<Vec<u8>> = (0..Image::SIDE)
            .map(|at| (0..Image::SIDE).map(|band| (at * 7 + band) as u8).collect())
            .collect();
        let image = Image::from_columns(columns.iter().map(Vec::as_slice));
        assert_eq!(image.last_columns(2), [columns[225].clone(), columns[226].clone()].concat());
        assert_eq!(image.last_columns(9_999), columns.concat());
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
        let png = crate::picture::encode_rgb(4, 3, &[0; 3 * 4 * 3]).unwrap();
        let error = Image::from_png(&png).unwrap_err().to_string();
        assert!(error.contains("4x3 Rgb8"), "{error}");
        assert!(matches!(
            Image::from_png(b"not a png"),
            Err(ImageError::Png(PngError::Unreadable(_)))
        ));
        let good = Image::from_columns([].into_iter()).to_png().unwrap();
        assert!(matches!(
            Image::from_png(&good[..good.len() / 2]),
            Err(ImageError::Png(PngError::Unreadable(_)))
        ));
    }
}
