//! The drawing surface: rectangles, lines, words. Everything is drawn larger and averaged down, so
//! that edges are smooth and letters keep their distances.

use std::sync::LazyLock;

use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::backend::{BitMapBackend, RGBPixel};
use plotters::prelude::{DrawingBackend, IntoFont};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle, register_font};

/// Drawn pixels for one of the picture, each way.
const OVERSAMPLE: usize = 3;

const FONT: &str = "plot";

/// A colour in sRGB.
pub type Rgb = [u8; 3];

/// A finished picture: three bytes a pixel, row by row from the top.
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

/// A rectangle in pixels of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

/// Which point of a line of words is given; vertically it is always the middle of the capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Left,
    Centre,
    Right,
    /// Centred, and read from below.
    Upwards,
    /// Beginning here, and read from below.
    Rising,
}

/// How words look.
#[derive(Debug, Clone, Copy)]
pub struct Lettering {
    /// Height of a line in pixels.
    pub size: f64,
    pub color: Rgb,
    pub anchor: Anchor,
}

/// A picture in the making. Coordinates are pixels of the finished picture from its top left.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// An empty one.
    pub fn new(width: usize, height: usize, background: Rgb) -> Self {
        let pixels = background.repeat(width * height * OVERSAMPLE * OVERSAMPLE);
        Self { width, height, pixels }
    }

    /// Fills `area` pixel by pixel, with the colour for each column and row counted from its top
    /// left.
    pub fn fill_with(&mut self, area: Area, mut color: impl FnMut(usize, usize) -> Rgb) {
        for y in 0..area.height as usize {
            for x in 0..area.width as usize {
                let pixel = Area {
                    left: area.left + x as f64,
                    top: area.top + y as f64,
                    width: 1.0,
                    height: 1.0,
                };
                self.fill(pixel, color(x, y));
            }
        }
    }

    /// Fills a rectangle; what lies outside the picture is left out.
    pub fn fill(&mut self, area: Area, color: Rgb) {
        let stride = self.width * OVERSAMPLE;
        let cut = |value: f64, end: usize| ((value * OVERSAMPLE as f64).round() as usize).min(end);
        let (left, right) = (cut(area.left, stride), cut(area.right(), stride));
        let rows = self.height * OVERSAMPLE;
        for y in cut(area.top, rows)..cut(area.bottom(), rows) {
            let row = self.pixels.get_mut((y * stride + left) * 3..(y * stride + right) * 3);
            row.unwrap_or_default().as_chunks_mut().0.fill(color);
        }
    }

    /// A line one pixel wide through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], color: Rgb) -> Result<(), String> {
        self.stroke(points, 1.0, color)
    }

    /// A line of some width through `points`.
    pub fn stroke(&mut self, points: &[(f64, f64)], width: f64, color: Rgb) -> Result<(), String> {
        let style = ShapeStyle::from(rgb(color)).stroke_width(scale(width).unsigned_abs());
        let points: Vec<(i32, i32)> = points.iter().map(|&(x, y)| (scale(x), scale(y))).collect();
        self.backend()?.draw_path(points, &style).map_err(|error| error.to_string())
    }

    /// One line of words at (`x`, `y`).
    pub fn text(&mut self, x: f64, y: f64, words: &str, look: Lettering) -> Result<(), String> {
        let (horizontal, transform) = match look.anchor {
            Anchor::Left => (HPos::Left, FontTransform::None),
            Anchor::Centre => (HPos::Center, FontTransform::None),
            Anchor::Right => (HPos::Right, FontTransform::None),
            Anchor::Upwards => (HPos::Center, FontTransform::Rotate270),
            Anchor::Rising => (HPos::Left, FontTransform::Rotate270),
        };
        let color = rgb(look.color);
        let style = style(look.size)?
            .transform(transform)
            .color(&color)
            .pos(Pos::new(horizontal, VPos::Center));
        // The library's middle of a line lies this far above that of its capitals.
        let drop = look.size * CAPITALS_DROP;
        let is_upright = matches!(look.anchor, Anchor::Upwards | Anchor::Rising);
        let (x, y) = if is_upright { (x + drop, y) } else { (x, y + drop) };
        let place = (scale(x), scale(y));
        self.backend()?.draw_text(words, &style, place).map_err(|error| error.to_string())
    }

    /// Width of a line of words in pixels.
    pub fn width(words: &str, size: f64) -> Result<f64, String> {
        let (width, _) = style(size)?.font.box_size(words).map_err(|error| error.to_string())?;
        Ok(f64::from(width) / OVERSAMPLE as f64)
    }

    /// The corners of `area`, joined by a line.
    pub fn frame(&mut self, area: Area, color: Rgb) -> Result<(), String> {
        let (left, top) = (area.left, area.top);
        let (right, bottom) = (area.right(), area.bottom());
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        self.line(&corners, color)
    }

    /// `words` cut to `width` pixels, and without control characters.
    pub fn fit(words: &str, size: f64, width: f64) -> Result<String, String> {
        let mut words: String =
            words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
        let room = scale(width);
        let mut shown = words.clone();
        let font = style(size)?.font;
        while font.box_size(&shown).map_err(|error| error.to_string())?.0 as i32 > room {
            words.pop();
            shown = format!("{}…", words.trim_end());
        }
        Ok(shown)
    }

    /// Averages the drawn pixels down to the picture.
    pub fn finish(self) -> Picture {
        let (mut rgb, row_bytes) = (Vec::new(), self.width * OVERSAMPLE * 3);
        rgb.reserve_exact(self.width * self.height * 3);
        let mut sums = vec![0_u32; self.width * 3];
        for rows in self.pixels.chunks_exact(row_bytes * OVERSAMPLE) {
            sums.fill(0);
            for row in rows.chunks_exact(row_bytes) {
                let blocks = row.chunks_exact(OVERSAMPLE * 3);
                for (sums, block) in sums.chunks_exact_mut(3).zip(blocks) {
                    for pixel in block.chunks_exact(3) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += u32::from(v));
                    }
                }
            }
            let count = (OVERSAMPLE * OVERSAMPLE) as u32;
            rgb.extend(sums.iter().map(|sum| ((sum + count / 2) / count) as u8));
        }
        Picture { width: self.width as u32, height: self.height as u32, rgb }
    }

    fn backend(&mut self) -> Result<BitMapBackend<'_, RGBPixel>, String> {
        let size = ((self.width * OVERSAMPLE) as u32, (self.height * OVERSAMPLE) as u32);
        BitMapBackend::with_buffer_and_format(&mut self.pixels, size)
            .map_err(|error| error.to_string())
    }
}

/// Part of a line's height by which words are moved down, so that capitals and digits stand
/// centred.
const CAPITALS_DROP: f64 = 0.2;

fn style(size: f64) -> Result<TextStyle<'static>, String> {
    static REGISTERED: LazyLock<bool> =
        LazyLock::new(|| register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT).is_ok());
    if !*REGISTERED {
        return Err("the built-in font is not readable".to_owned());
    }
    Ok(TextStyle::from((FONT, size * OVERSAMPLE as f64).into_font()))
}

fn rgb([red, green, blue]: Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

fn scale(value: f64) -> i32 {
    (value * OVERSAMPLE as f64).round() as i32
}
