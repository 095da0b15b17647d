//! The confusion matrix as a picture: a row for each true class, a column for each class that was
//! named, counts in the cells.

use super::canvas::{Anchor, Area, Canvas, Lettering, Picture, Rgb};
use super::look::{BACKGROUND, FAINT, FRAME, GRID, INK, blend, faint, heading};

/// Classes that are drawn; of more, those with the most mistakes.
const CLASSES_MAX: usize = 100;
/// Side of the matrix that cells are made to fill, as far as they stay readable.
const MATRIX: f64 = 960.0;
const CELL_MIN: f64 = 17.0;
const CELL_MAX: f64 = 44.0;
/// For the heading and the foot, where there are few classes.
const WIDTH_MIN: f64 = 560.0;
/// A class name that is longer than this is cut.
const NAME_WIDTH_MAX: f64 = 190.0;
const MARGIN: f64 = 24.0;
/// Heading, and what it says below.
const HEAD: f64 = 84.0;
/// Between names and matrix.
const GAP: f64 = 6.0;
/// For the recall behind each row.
const RECALL: f64 = 62.0;
const FOOT: f64 = 44.0;

const RIGHT: Rgb = [0x1b, 0x6e, 0x5a];
const WRONG: Rgb = [0xb4, 0x2a, 0x1e];
/// The faintest tint of a cell that holds something.
const TINT: f64 = 0.12;

/// What to draw.
pub struct ConfusionChart<'a, F> {
    /// Cut where it is wider than the picture, like the subtitle.
    pub title: &'a str,
    pub subtitle: &'a str,
    pub classes: &'a [String],
    /// How often a class (first) was taken for another (second).
    pub count: F,
}

/// Where everything stands.
struct Layout {
    /// Indices of the drawn classes.
    shown: Vec<usize>,
    names: Vec<String>,
    /// Height of the letters of names.
    letters: f64,
    cell: f64,
    matrix: Area,
}

impl<F: Fn(usize, usize) -> u32> ConfusionChart<'_, F> {
    /// Draws the classes that occur, true or named. Counts are tinted by their part of the row.
    ///
    /// # Errors
    /// When there is nothing to draw, or the built-in font fails.
    pub fn draw(&self) -> Result<Picture, String> {
        let (shown, left_out) = self.shown();
        if shown.is_empty() {
            return Err("no clip was counted".to_owned());
        }
        let layout = self.layout(shown)?;
        let width = (layout.matrix.right() + RECALL + MARGIN).max(WIDTH_MIN);
        let height = layout.matrix.bottom() + FOOT;
        let mut canvas = Canvas::new(width.ceil() as usize, height.ceil() as usize, BACKGROUND);
        let room = width - 2.0 * MARGIN;
        let title = Canvas::fit(self.title, heading(Anchor::Left).size, room)?;
        canvas.text(MARGIN, 30.0, &title, heading(Anchor::Left))?;
        let subtitle = Canvas::fit(self.subtitle, faint(Anchor::Left).size, room)?;
        canvas.text(MARGIN, 58.0, &subtitle, faint(Anchor::Left))?;
        self.cells(&mut canvas, &layout)?;
        layout.names(&mut canvas)?;
        self.recalls(&mut canvas, &layout)?;
        let mut foot = "rows: true class; columns: what was heard; right: recall".to_owned();
        if left_out > 0 {
            foot = format!("{foot}; {left_out} classes with fewer mistakes are left out");
        }
        let foot = Canvas::fit(&foot, 15.0, room)?;
        let look = Lettering { size: 15.0, color: FAINT, anchor: Anchor::Left };
        canvas.text(MARGIN, height - 20.0, &foot, look)?;
        Ok(canvas.finish())
    }

    /// The classes to draw, and how many had to be left out.
    fn shown(&self) -> (Vec<usize>, usize) {
        let all = 0..self.classes.len();
        let both =
            |a: usize, b: usize| u64::from((self.count)(a, b)) + u64::from((self.count)(b, a));
        let mut involved: Vec<(usize, u64)> = all
            .clone()
            .map(|class| {
                let mistakes = all.clone().filter(|&other| other != class);
                (class, mistakes.map(|other| both(class, other)).sum())
            })
            .filter(|&(class, mistakes)| mistakes > 0 || (self.count)(class, class) > 0)
            .collect();
        involved.sort_by_key(|&(_, mistakes)| std::cmp::Reverse(mistakes));
        let left_out = involved.len().saturating_sub(CLASSES_MAX);
        involved.truncate(CLASSES_MAX);
        let mut shown: Vec<usize> = involved.into_iter().map(|(class, _)| class).collect();
        shown.sort_unstable();
        (shown, left_out)
    }

    fn layout(&self, shown: Vec<usize>) -> Result<Layout, String> {
        let count = shown.len() as f64;
        let cell = (MATRIX / count).clamp(CELL_MIN, CELL_MAX).floor();
        let letters = (cell * 0.86).min(18.0);
        let name = |&class: &usize| {
            let name = self.classes.get(class).map_or("", String::as_str);
            Canvas::fit(name, letters, NAME_WIDTH_MAX)
        };
        let names = shown.iter().map(name).collect::<Result<Vec<String>, String>>()?;
        let mut longest = 0.0_f64;
        for name in &names {
            longest = longest.max(Canvas::width(name, letters)?);
        }
        let side = cell * count;
        let (left, top) = (MARGIN + longest + GAP, HEAD + longest + GAP);
        let matrix = Area { left, top, width: side, height: side };
        Ok(Layout { shown, names, letters, cell, matrix })
    }

    fn cells(&self, canvas: &mut Canvas, layout: &Layout) -> Result<(), String> {
        let (cell, matrix) = (layout.cell, layout.matrix);
        for n in 1..layout.shown.len() {
            let at = n as f64 * cell;
            let (x, y) = (matrix.left + at, matrix.top + at);
            canvas.line(&[(x, matrix.top), (x, matrix.bottom())], GRID)?;
            canvas.line(&[(matrix.left, y), (matrix.right(), y)], GRID)?;
        }
        for (row, &truth) in layout.shown.iter().enumerate() {
            let support = self.support(truth).max(1);
            for (column, &named) in layout.shown.iter().enumerate() {
                let count = (self.count)(truth, named);
                if count == 0 {
                    continue;
                }
                let part = f64::from(count) / support as f64;
                // A single mistake among many has to be seen, too.
                let strength = TINT + (1.0 - TINT) * part.sqrt();
                let full = if truth == named { RIGHT } else { WRONG };
                let (left, top) = (column as f64 * cell, row as f64 * cell);
                let area = Area {
                    left: matrix.left + left + 0.5,
                    top: matrix.top + top + 0.5,
                    width: cell - 1.0,
                    height: cell - 1.0,
                };
                canvas.fill(area, blend(BACKGROUND, full, strength));
                let digits = count.to_string();
                let size = (cell * 0.72).min(17.0).min(cell * 1.7 / digits.len() as f64);
                let color = if strength > 0.55 { BACKGROUND } else { INK };
                let look = Lettering { size, color, anchor: Anchor::Centre };
                canvas.text(area.left + cell / 2.0 - 0.5, area.top + cell / 2.0, &digits, look)?;
            }
        }
        canvas.frame(matrix, FRAME)
    }

    /// Of each class with clips, the part that was heard as such.
    fn recalls(&self, canvas: &mut Canvas, layout: &Layout) -> Result<(), String> {
        let look = Lettering { size: layout.letters, color: FAINT, anchor: Anchor::Right };
        for (row, &truth) in layout.shown.iter().enumerate() {
            let support = self.support(truth);
            if support > 0 {
                let recall = f64::from((self.count)(truth, truth)) / support as f64;
                let words = format!("{:.0} %", 100.0 * recall);
                let x = layout.matrix.right() + RECALL - GAP;
                canvas.text(x, layout.middle(row), &words, look)?;
            }
        }
        Ok(())
    }

    fn support(&self, truth: usize) -> u64 {
        (0..self.classes.len()).map(|named| u64::from((self.count)(truth, named))).sum()
    }
}

impl Layout {
    /// Vertical middle of a row.
    fn middle(&self, row: usize) -> f64 {
        self.matrix.top + (row as f64 + 0.5) * self.cell
    }

    fn names(&self, canvas: &mut Canvas) -> Result<(), String> {
        let look = |anchor| Lettering { size: self.letters, color: INK, anchor };
        for (n, name) in self.names.iter().enumerate() {
            canvas.text(self.matrix.left - GAP, self.middle(n), name, look(Anchor::Right))?;
            let x = self.matrix.left + (n as f64 + 0.5) * self.cell;
            canvas.text(x, self.matrix.top - GAP, name, look(Anchor::Rising))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(classes: usize, count: impl Fn(usize, usize) -> u32) -> Result<Picture, String> {
        let classes: Vec<String> = (0..classes).map(|class| format!("class_{class}")).collect();
        ConfusionChart { title: "t", subtitle: "s", classes: &classes, count }.draw()
    }

    fn pixels(picture: &Picture, color: Rgb) -> usize {
        picture.rgb.chunks_exact(3).filter(|pixel| *pixel == color).count()
    }

    #[test]
    fn right_ones_and_mistakes_have_their_colours() {
        let all_right = draw(3, |truth, named| u32::from(truth == named) * 4).unwrap();
        assert!(pixels(&all_right, RIGHT) > 3 * 800 && pixels(&all_right, WRONG) == 0);
        let all_wrong = draw(3, |truth, named| u32::from((truth + 1) % 3 == named)).unwrap();
        assert!(pixels(&all_wrong, WRONG) > 3 * 800 && pixels(&all_wrong, RIGHT) == 0);
    }

    #[test]
    fn classes_that_do_not_occur_take_no_room_and_many_stay_within_bounds() {
        let few = draw(500, |truth, named| u32::from(truth == named && truth < 3)).unwrap();
        assert!(few.width < 700, "{}", few.width);
        let many = draw(500, |truth, named| u32::from(truth == named)).unwrap();
        assert!(many.width < 2_200, "{}", many.width);
        assert_eq!(many.rgb.len(), (many.width * many.height * 3) as usize);
        assert!(draw(5, |_, _| 0).is_err());
    }
}
