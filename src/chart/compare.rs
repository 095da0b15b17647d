//! Two pictures side by side, with the histograms of their channels.

use super::canvas::{Anchor, Area, Canvas, Picture, Rgb};
use super::look::{BACKGROUND, FRAME, PANEL, faint, heading, plain};

const GAP: f64 = 24.0;
const TOP: f64 = 96.0;
const HISTOGRAM: f64 = 150.0;
const COLORS: [Rgb; 3] = [[0xb4, 0x1e, 0x1e], [0x1b, 0x7a, 0x4a], [0x1f, 0x5f, 0xa8]];
/// Part of the pixels at which a histogram's curve reaches the top, at least.
const PART_MIN: f64 = 0.005;

/// One of the two.
pub struct Side<'a> {
    pub name: &'a str,
    pub width: usize,
    pub height: usize,
    /// Row by row from the top.
    pub rgb: &'a [Rgb],
}

/// Draws them under a title and a line that explains it.
///
/// # Errors
/// When a side has no pixels, or the built-in font fails.
pub fn compare(title: &str, words: &str, sides: [Side<'_>; 2]) -> Result<Picture, String> {
    let widest = sides.iter().map(|side| side.width).max().unwrap_or(0).max(300) as f64;
    let highest = sides.iter().map(|side| side.height).max().unwrap_or(0) as f64;
    let (width, height) = (3.0 * GAP + 2.0 * widest, TOP + highest + 2.0 * GAP + HISTOGRAM);
    let mut canvas = Canvas::new(width as usize, height as usize, BACKGROUND);
    let room = width - 2.0 * GAP;
    let title = Canvas::fit(title, heading(Anchor::Left).size, room)?;
    canvas.text(GAP, 28.0, &title, heading(Anchor::Left))?;
    let words = Canvas::fit(words, faint(Anchor::Left).size, room)?;
    canvas.text(GAP, 56.0, &words, faint(Anchor::Left))?;
    // One scale for both, so that they can be compared.
    let parts = sides.each_ref().map(|side| histograms(side.rgb));
    let inner = |part: &[f64; 256]| part.get(1..255).unwrap_or_default().to_vec();
    let most = parts.iter().flatten().flat_map(inner).fold(PART_MIN, f64::max);
    for (n, (side, parts)) in sides.iter().zip(&parts).enumerate() {
        if side.rgb.len() != side.width * side.height || side.rgb.is_empty() {
            return Err(format!("{} has no pixels", side.name));
        }
        let left = GAP + n as f64 * (widest + GAP);
        canvas.text(left, TOP - 14.0, side.name, plain(Anchor::Left))?;
        let (shown_width, shown_height) = (side.width as f64, side.height as f64);
        let area = Area { left, top: TOP, width: shown_width, height: shown_height };
        let pixel = |x: usize, y: usize| side.rgb.get(y * side.width + x).copied();
        canvas.fill_with(area, |x, y| pixel(x, y).unwrap_or(BACKGROUND));
        let below = TOP + highest + GAP;
        let area = Area { left, top: below, width: widest, height: HISTOGRAM };
        canvas.fill(area, PANEL);
        for (part, color) in parts.iter().zip(COLORS) {
            let points: Vec<(f64, f64)> = part
                .iter()
                .enumerate()
                .map(|(level, part)| {
                    let x = left + level as f64 / 255.0 * widest;
                    (x, area.bottom() - (part / most).min(1.0) * (HISTOGRAM - 4.0))
                })
                .collect();
            canvas.stroke(&points, 1.5, color)?;
        }
        canvas.frame(area, FRAME)?;
    }
    Ok(canvas.finish())
}

/// For each channel, the parts of the pixels that have each level.
fn histograms(rgb: &[Rgb]) -> [[f64; 256]; 3] {
    let mut parts = [[0.0; 256]; 3];
    for pixel in rgb {
        for (part, &level) in parts.iter_mut().zip(pixel) {
            part.iter_mut().skip(level.into()).take(1).for_each(|count| *count += 1.0);
        }
    }
    let count = rgb.len().max(1) as f64;
    parts.map(|part| part.map(|value| value / count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_seen_with_their_levels() {
        let (one, other) = ([[200, 20, 20]; 600], [[20, 20, 200]; 600]);
        let side = |name, rgb| Side { name, width: 30, height: 20, rgb };
        let picture = compare("t", "w", [side("before", &one), side("after", &other)]).unwrap();
        let count = |color: Rgb| picture.rgb.chunks_exact(3).filter(|p| *p == color).count();
        assert_eq!((count([200, 20, 20]), count([20, 20, 200])), (600, 600));
        assert!(COLORS.iter().all(|&color| count(color) > 100));
        assert!(compare("t", "w", [side("a", &one[..5]), side("b", &other)]).is_err());
    }
}
