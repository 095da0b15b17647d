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
    const SIZE: [u32; 2] = [Self::SIDE as u32; 2];

    /// Brings a photo to this size by a triangle filter that takes in every pixel, and turns it
    /// upright. Alpha does not count.
    ///
    /// # Errors
    /// When the photo is grey.
    pub fn of(photo: &Photo) -> Result<Self, PhotoError> {
        let rgb = small(photo, Self::SIZE)?;
        Ok(Self { rgb: upright(rgb, Self::SIZE, photo.orientation)?.1 })
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
        Ok(Self { rgb: resized(rgb, [width, height], PixelType::U8x3, crop, Self::SIZE)? })
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

impl Photo {
    /// A small picture for people, upright, no side longer than `side_max` pixels: its width, height
    /// and pixels.
    ///
    /// # Errors
    /// When the photo is grey.
    pub fn thumbnail(&self, side_max: u32) -> Result<(u32, u32, Vec<u8>), PhotoError> {
        let longest = self.width.max(self.height).max(side_max);
        let scaled = |side: u32| {
            let side = u64::from(side) * u64::from(side_max) / u64::from(longest);
            u32::try_from(side).unwrap_or(side_max).max(1)
        };
        let size = [scaled(self.width), scaled(self.height)];
        let ([width, height], rgb) = upright(small(self, size)?, size, self.orientation)?;
        Ok((width, height, rgb))
    }
}

/// Red, green and blue of 8 bits at another size, not turned.
fn small(photo: &Photo, size: [u32; 2]) -> Result<Vec<u8>, PhotoError> {
    let whole = [photo.width, photo.height];
    Ok(match (&photo.samples, photo.channels) {
        (Samples::Eight(samples), 3) => resized(samples, whole, PixelType::U8x3, None, size)?,
        (Samples::Eight(samples), 4) => {
            without_fourth(&resized(samples, whole, PixelType::U8x4, None, size)?)
        }
        (Samples::Sixteen(samples), 3) => {
            let bytes = bytemuck::cast_slice(samples);
            eight_bits(&resized(bytes, whole, PixelType::U16x3, None, size)?)
        }
        (Samples::Sixteen(samples), 4) => {
            let bytes = bytemuck::cast_slice(samples);
            without_fourth(&eight_bits(&resized(bytes, whole, PixelType::U16x4, None, size)?))
        }
        _ => return Err(PhotoError::Unsupported("it is grey".to_owned())),
    })
}

fn resized(
    samples: &[u8],
    [width, height]: [u32; 2],
    kind: PixelType,
    crop: Option<Crop>,
    [to_width, to_height]: [u32; 2],
) -> Result<Vec<u8>, PhotoError> {
    let failed = |why: String| PhotoError::Unsupported(format!("it can't be resized: {why}"));
    let source =
        ImageRef::new(width, height, samples, kind).map_err(|error| failed(error.to_string()))?;
    let mut view = Image::new(to_width, to_height, kind);
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

fn upright(
    rgb: Vec<u8>,
    [width, height]: [u32; 2],
    orientation: Orientation,
) -> Result<([u32; 2], Vec<u8>), PhotoError> {
    let image = image::RgbImage::from_raw(width, height, rgb);
    let image =
        image.ok_or_else(|| PhotoError::Unsupported("its view is incomplete".to_owned()))?;
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    Ok(([image.width(), image.height()], image.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Format;

    #[test]
    fn every_pixel_counts_and_aspect_does_not() {
        // Half black, half white, wide and low.
        let row: Vec<u8> = (0..2_000).flat_map(|x| [if x < 1_000 { 0 } else { 255 }; 3]).collect();
        let photo = Photo::from_rgb8(Format::Png, 2_000, 50, row.repeat(50));
        let view = View::of(&photo).unwrap();
        assert_eq!(view.pixels().len(), 227 * 227);
        let plane: Vec<u8> = view.plane(1).collect();
        assert_eq!((plane[0], plane[112], plane[114], plane[226]), (0, 0, 255, 255));
        let mean = plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64;
        assert!((mean - 127.5).abs() < 0.5, "{mean}");
        let (width, height, rgb) = photo.thumbnail(100).unwrap();
        assert_eq!((width, height, rgb.len()), (100, 2, 600));
        assert_eq!(photo.thumbnail(9_000).map(|small| (small.0, small.1)), Ok((2_000, 50)));
    }

    #[test]
    fn parts_and_depths_give_the_same_colours() {
        let rgb: Vec<u8> = (0..300 * 300 * 3).map(|n| (n * 7 % 256) as u8).collect();
        let crop = Crop { left: 50.0, top: 60.0, width: 100.0, height: 100.0 };
        let part = View::of_rgb(&rgb, 300, 300, Some(crop)).unwrap();
        assert_ne!(part, View::of_rgb(&rgb, 300, 300, None).unwrap());
        let outside = Crop { left: 250.0, ..crop };
        assert!(View::of_rgb(&rgb, 300, 300, Some(outside)).is_err());
        assert!(View::of_rgb(&rgb, 301, 300, None).is_err());
        let mut deep = Photo::from_rgb8(Format::Png, 300, 300, rgb.clone());
        let plain = View::of(&deep).unwrap();
        deep.samples = Samples::Sixteen(rgb.iter().map(|&v| u16::from(v) * 257).collect());
        let found = View::of(&deep).unwrap();
        let pairs = plain.pixels().iter().flatten().zip(found.pixels().iter().flatten());
        assert!(pairs.clone().all(|(a, b)| a.abs_diff(*b) <= 1));
        deep.channels = 1;
        assert!(View::of(&deep).is_err());
    }
}
