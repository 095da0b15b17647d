//! PNG files without anything beside their pixels.

use std::io::Cursor;

use image::codecs::png::{PngDecoder, PngEncoder};
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageEncoder};

/// A PNG that is not what is needed, or can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PngError {
    #[error("not a readable PNG: {0}")]
    Unreadable(String),
    #[error("the image is {width}x{height} {color}")]
    Shape { width: u32, height: u32, color: String },
    #[error("the PNG could not be written: {0}")]
    Unwritable(String),
}

/// Pixels of one byte, row by row from the top.
pub fn encode_grey(width: u32, height: u32, pixels: &[u8]) -> Result<Vec<u8>, PngError> {
    encode(width, height, pixels, ExtendedColorType::L8, 1)
}

/// Pixels of three bytes, row by row from the top.
pub fn encode_rgb(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, PngError> {
    encode(width, height, rgb, ExtendedColorType::Rgb8, 3)
}

fn encode(
    width: u32,
    height: u32,
    pixels: &[u8],
    color: ExtendedColorType,
    bytes_a_pixel: u64,
) -> Result<Vec<u8>, PngError> {
    let expected = u64::from(width) * u64::from(height) * bytes_a_pixel;
    if pixels.len() as u64 != expected {
        let got = pixels.len();
        let why = format!("{got} bytes are not {width}x{height} pixels of {bytes_a_pixel}");
        return Err(PngError::Unwritable(why));
    }
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, color)
        .map_err(|error| PngError::Unwritable(error.to_string()))?;
    Ok(bytes)
}

/// The pixels of a PNG of 8 bits and this size, row by row from the top, with how many values each
/// has: 1 (grey) or 3 (red, green and blue). The size is checked before anything is decoded.
pub fn decode(bytes: &[u8], width: u32, height: u32) -> Result<(usize, Vec<u8>), PngError> {
    let unreadable = |error: image::ImageError| PngError::Unreadable(error.to_string());
    let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
    let (found_width, found_height) = decoder.dimensions();
    let color = decoder.color_type();
    let channels = match color {
        ColorType::L8 => Some(1),
        ColorType::Rgb8 => Some(3),
        _ => None,
    };
    let channels = channels.filter(|_| (found_width, found_height) == (width, height));
    let Some(channels) = channels else {
        let (width, height, color) = (found_width, found_height, format!("{color:?}"));
        return Err(PngError::Shape { width, height, color });
    };
    let mut pixels = vec![0; channels * width as usize * height as usize];
    decoder.read_image(&mut pixels).map_err(unreadable)?;
    Ok((channels, pixels))
}
