//! Small pictures side by side, each with a line of words.

use super::canvas::{Anchor, Area, Canvas, Picture, Rgb};
use super::look::{BACKGROUND, heading, plain};

const COLUMNS: usize = 6;
const GAP: f64 = 16.0;
const TOP: f64 = 60.0;
const WORDS: f64 = 30.0;

/// A square picture and what stands under it.
pub struct Tile<'a> {
    /// Width and height in pixels.
    pub side: usize,
    /// `side * side` pixels, row by row from the top.
    pub rgb: &'a [Rgb],
    pub words: String,
}

/// Draws the tiles row by row.
///
/// # Errors
/// When there is none, or the built-in font fails.
pub fn montage(title: &str, tiles: &[Tile<'_>]) -> Result<Picture, String> {
    let side = tiles.iter().map(|tile| tile.side).max().ok_or("there is no picture")? as f64;
    let columns = tiles.len().min(COLUMNS);
    let rows = tiles.len().div_ceil(COLUMNS);
    let width = GAP + columns as f64 * (side + GAP);
    let height = TOP + rows as f64 * (side + WORDS + GAP);
    let mut canvas = Canvas::new(width as usize, height as usize, BACKGROUND);
    let title = Canvas::fit(title, heading(Anchor::Left).size, width - 2.0 * GAP)?;
    canvas.text(GAP, 30.0, &title, heading(Anchor::Left))?;
    for (n, tile) in tiles.iter().enumerate() {
        let left = GAP + (n % COLUMNS) as f64 * (side + GAP);
        let top = TOP + (n / COLUMNS) as f64 * (side + WORDS + GAP);
        let area = Area { left, top, width: tile.side as f64, height: tile.side as f64 };
        let pixel = |x: usize, y: usize| tile.rgb.get(y * tile.side + x).copied();
        canvas.fill_with(area, |x, y| pixel(x, y).unwrap_or(BACKGROUND));
        let words = Canvas::fit(&tile.words, plain(Anchor::Centre).size, side)?;
        let middle = left + tile.side as f64 / 2.0;
        canvas.text(middle, area.bottom() + 16.0, &words, plain(Anchor::Centre))?;
    }
    Ok(canvas.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stand_in_rows() {
        let rgb = [[10, 200, 30]; 400];
        let tile = || Tile { side: 20, rgb: &rgb, words: "+1 −2 +3".to_owned() };
        let tiles: Vec<Tile> = (0..8).map(|_| tile()).collect();
        let picture = montage("t", &tiles).unwrap();
        let shown = picture.rgb.chunks_exact(3).filter(|pixel| *pixel == [10, 200, 30]).count();
        assert_eq!(shown, 8 * 400);
        assert_eq!(picture.width, 16 + 6 * 36);
        assert!(montage("t", &[]).is_err());
    }
}
