//! Colours and letters that all pictures share.

use super::canvas::{Anchor, Lettering, Rgb};

pub const BACKGROUND: Rgb = [0xff, 0xff, 0xff];
pub const PANEL: Rgb = [0xf6, 0xf5, 0xf8];
pub const GRID: Rgb = [0xe2, 0xe0, 0xe8];
pub const FRAME: Rgb = [0x8a, 0x86, 0x96];
pub const INK: Rgb = [0x1c, 0x19, 0x26];
pub const FAINT: Rgb = [0x5a, 0x56, 0x66];

/// Height of a heading's line in pixels.
pub const TITLE: f64 = 27.0;
/// Height of any other line.
pub const WORDS: f64 = 18.0;

/// A heading.
pub fn heading(anchor: Anchor) -> Lettering {
    Lettering { size: TITLE, color: INK, anchor }
}

/// What is to be read.
pub fn plain(anchor: Anchor) -> Lettering {
    Lettering { size: WORDS, color: INK, anchor }
}

/// What explains it.
pub fn faint(anchor: Anchor) -> Lettering {
    Lettering { size: WORDS, color: FAINT, anchor }
}

/// The colour between two, from `low` at 0 to `high` at 1.
pub fn blend(low: Rgb, high: Rgb, at: f64) -> Rgb {
    let at = at.clamp(0.0, 1.0);
    let [a, b, c] = low;
    let [x, y, z] = high;
    let mix =
        |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * at).round() as u8;
    [mix(a, x), mix(b, y), mix(c, z)]
}
