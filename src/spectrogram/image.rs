//! The 227x227 image of 8-bit pixels that a network sees, and its PNG form.

use super::recipe::RowOrder;
use crate::picture::{PngError, decode, encode_grey, encode_rgb};

/// 227x227 pixels of one channel or three, in the order of a picture for people: row 0 is the top,
/// the highest band; time runs to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Channel by channel.
    pixels: Vec<u8>,
}

/// A file that is not such an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Png(PngError),
    #[error(
        "the image is {width}x{height} {color}, a network image is 227x227 8-bit grey or RGB (make one with `hearken spectrogram`)"
    )]
    Shape { width: u32, height: u32, color: String },
    #[error(
        "the image has {found} channels, the model's have {wanted} (make one with `hearken spectrogram` and this model)"
    )]
    Channels { found: usize, wanted: usize },
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

    /// Pixels of a channel.
    const PLANE: usize = Self::SIDE * Self::SIDE;

    /// From spectra in time, `channels` to a column, each from the lowest band up. Missing ones at
    /// the end stay 0, digital silence; surplus ones are ignored.
    pub fn from_spectra<'a>(channels: usize, spectra: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut pixels = vec![0; channels * Self::PLANE];
        let spectra: Vec<&[u8]> = spectra.take(channels * Self::SIDE).collect();
        for (channel, plane) in pixels.chunks_exact_mut(Self::PLANE).enumerate() {
            let spectra: Vec<&[u8]> =
                spectra.iter().skip(channel).step_by(channels).copied().collect();
            // Row by row: the image is written once from front to end (7 times faster than by
            // column).
            for (band, row) in plane.chunks_exact_mut(Self::SIDE).rev().enumerate() {
                for (pixel, spectrum) in row.iter_mut().zip(&spectra) {
                    *pixel = spectrum.get(band).copied().unwrap_or(0);
                }
            }
        }
        Self { pixels }
    }

    /// 1 or 3.
    pub fn channels(&self) -> usize {
        self.pixels.len() / Self::PLANE
    }

    /// The rows of each channel from top (highest band) to bottom, each 227 pixels from left to
    /// right; one channel after the other.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pixels.chunks_exact(Self::SIDE)
    }

    /// The same rows as a network wants them.
    pub fn rows_in(&self, order: RowOrder) -> impl Iterator<Item = &[u8]> {
        let place = move |row| match order {
            RowOrder::HighestFirst => row,
            RowOrder::LowestFirst => Self::SIDE - 1 - row,
        };
        self.pixels.chunks_exact(Self::PLANE).flat_map(move |plane| {
            (0..Self::SIDE).filter_map(move |row| plane.chunks_exact(Self::SIDE).nth(place(row)))
        })
    }

    /// The last `count` columns in time, each from the lowest band up, to be looked at: the
    /// highest value of all channels.
    pub fn last_columns(&self, count: usize) -> Vec<u8> {
        let first = Self::SIDE.saturating_sub(count);
        let pixel = |row: usize, column: usize| {
            let planes = self.pixels.chunks_exact(Self::PLANE);
            planes.filter_map(|plane| plane.get(row * Self::SIDE + column)).max().copied()
        };
        let column = |at| (0..Self::SIDE).rev().filter_map(move |row| pixel(row, at));
        (first..Self::SIDE).flat_map(column).collect()
    }

    /// All pixels, row by row from the top, one channel after the other.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bare image as an 8-bit PNG, grey or red, green and blue: no axes, no frame.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let side = Self::SIDE as u32;
        let planes: Vec<&[u8]> = self.pixels.chunks_exact(Self::PLANE).collect();
        Ok(match planes.as_slice() {
            [red, green, blue] => {
                let pixels = red.iter().zip(*green).zip(*blue);
                let rgb: Vec<u8> = pixels.flat_map(|((&r, &g), &b)| [r, g, b]).collect();
                encode_rgb(side, side, &rgb)?
            }
            _ => encode_grey(side, side, &self.pixels)?,
        })
    }

    /// Reads what [`Image::to_png`] wrote. The size is checked before anything is decoded.
    pub fn from_png(bytes: &[u8]) -> Result<Self, ImageError> {
        let side = Self::SIDE as u32;
        let (channels, interleaved) = decode(bytes, side, side)?;
        let plane = |channel| interleaved.iter().copied().skip(channel).step_by(channels);
        Ok(Self { pixels: (0..channels).flat_map(plane).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_upright_with_the_lowest_band_at_the_bottom() {
        let first: Vec<u8> = (0..Image::SIDE).map(|band| band as u8).collect();
        let image = Image::from_spectra(1, [first.as_slice()].into_iter());
        let left: Vec<u8> = image.rows_in(RowOrder::LowestFirst).map(|row| row[0]).collect();
        assert_eq!(left, first);
        assert!(image.rows().all(|row| row[1..].iter().all(|&pixel| pixel == 0)));
    }

    #[test]
    fn the_last_columns_are_those_that_came_last() {
        let columns: Vec<Vec<u8>> = (0..Image::SIDE)
            .map(|at| (0..Image::SIDE).map(|band| (at * 7 + band) as u8).collect())
            .collect();
        let image = Image::from_spectra(1, columns.iter().map(Vec::as_slice));
        assert_eq!(image.last_columns(2), [columns[225].clone(), columns[226].clone()].concat());
        assert_eq!(image.last_columns(9_999), columns.concat());
    }

    #[test]
    fn three_spectra_stand_in_the_channels_of_a_column() {
        let spectra: Vec<Vec<u8>> = (0..3 * Image::SIDE)
            .map(|at| (0..Image::SIDE).map(|band| (at * 7 + band * 3) as u8).collect())
            .collect();
        let image = Image::from_spectra(3, spectra.iter().map(Vec::as_slice));
        let rows: Vec<&[u8]> = image.rows_in(RowOrder::LowestFirst).collect();
        assert_eq!((image.channels(), rows.len()), (3, 3 * Image::SIDE));
        for (channel, band, column) in [(0, 0, 0), (2, 5, 1), (1, 226, 226)] {
            let pixel = rows[channel * Image::SIDE + band][column];
            assert_eq!(pixel, spectra[3 * column + channel][band]);
        }
        let upside_down: Vec<&[u8]> = image.rows_in(RowOrder::HighestFirst).collect();
        assert!(image.rows().eq(upside_down.iter().copied()));
        assert_eq!(upside_down[Image::SIDE], rows[2 * Image::SIDE - 1]);
        // To be looked at: the highest of three.
        let highest = |band: usize| (678..681).map(|at| spectra[at][band]).max().unwrap();
        assert_eq!(image.last_columns(1), (0..Image::SIDE).map(highest).collect::<Vec<u8>>());
    }

    #[test]
    fn a_png_gives_the_same_image_back() {
        for channels in [1, 3] {
            let pixels: Vec<u8> =
                (0..channels * Image::PLANE).map(|i| (i * 31 % 251) as u8).collect();
            let image = Image { pixels };
            assert_eq!(Image::from_png(&image.to_png().unwrap()).unwrap(), image);
        }
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
        let good = Image::from_spectra(1, [].into_iter()).to_png().unwrap();
        assert!(matches!(
            Image::from_png(&good[..good.len() / 2]),
            Err(ImageError::Png(PngError::Unreadable(_)))
        ));
    }
}
