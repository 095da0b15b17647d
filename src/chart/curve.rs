//! How something goes over the epochs: losses on the left axis, a measure such as accuracy on the
//! right one.

use super::axis::LinearAxis;
use super::canvas::{Anchor, Area, Canvas, Lettering, Picture, Rgb};
use super::look::{BACKGROUND, FAINT, FRAME, GRID, PANEL, faint, heading, plain};

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 600.0;
const PLOT: Area = Area { left: 92.0, top: 116.0, width: 816.0, height: 408.0 };
/// Between two labels of an axis, at least.
const LABEL_GAP: f64 = 44.0;
/// Points are marked when there are no more than this.
const MARKED_POINTS_MAX: usize = 40;
/// Room over and below the curves, as a part of their range.
const ROOM: f64 = 0.05;

const LEFT_COLORS: [Rgb; 3] = [[0x1f, 0x5f, 0xa8], [0xd0, 0x6a, 0x12], [0x5a, 0x56, 0x66]];
const RIGHT_COLORS: [Rgb; 3] = [[0x1b, 0x7a, 0x4a], [0x7a, 0x23, 0x80], [0x1c, 0x19, 0x26]];

/// One curve: a value for each epoch, from the first on. Values that are not finite are left out.
pub struct Series<'a> {
    pub name: &'a str,
    pub values: &'a [f64],
}

/// What to draw.
pub struct CurveChart<'a> {
    /// Cut where it is wider than the picture, like the subtitle.
    pub title: &'a str,
    pub subtitle: &'a str,
    /// What the left axis measures, and up to three curves on it.
    pub left: (&'a str, &'a [Series<'a>]),
    /// The same on the right; may be empty.
    pub right: (&'a str, &'a [Series<'a>]),
    /// The epoch that was kept, from 1.
    pub kept: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl CurveChart<'_> {
    /// Draws a picture of 1000x600 pixels.
    ///
    /// # Errors
    /// When there is nothing to draw, or the built-in font fails.
    pub fn draw(&self) -> Result<Picture, String> {
        let series = self.left.1.iter().chain(self.right.1);
        let epochs = series.map(|series| series.values.len()).max().unwrap_or(0);
        if epochs == 0 {
            return Err("no epoch has ended".to_owned());
        }
        // A single epoch stands in the middle.
        let alone = if epochs == 1 { 0.5 } else { 0.0 };
        let time = LinearAxis { low: 1.0 - alone, high: epochs as f64 + alone };
        let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, BACKGROUND);
        let room = WIDTH - PLOT.left - 24.0;
        let title = Canvas::fit(self.title, heading(Anchor::Left).size, room)?;
        canvas.text(PLOT.left, 30.0, &title, heading(Anchor::Left))?;
        let subtitle = Canvas::fit(self.subtitle, faint(Anchor::Left).size, room)?;
        canvas.text(PLOT.left, 58.0, &subtitle, faint(Anchor::Left))?;
        canvas.fill(PLOT, PANEL);
        epochs_axis(&mut canvas, time)?;
        if let Some(kept) = self.kept {
            let x = x_of(time, kept as f64);
            canvas.stroke(&[(x, PLOT.top), (x, PLOT.bottom())], 2.0, FRAME)?;
        }
        self.side(&mut canvas, Side::Left, time)?;
        self.side(&mut canvas, Side::Right, time)?;
        canvas.frame(PLOT, FRAME)?;
        self.legend(&mut canvas)?;
        Ok(canvas.finish())
    }

    fn side(&self, canvas: &mut Canvas, side: Side, time: LinearAxis) -> Result<(), String> {
        let ((name, series), colors) = match side {
            Side::Left => (self.left, LEFT_COLORS),
            Side::Right => (self.right, RIGHT_COLORS),
        };
        let values = series.iter().flat_map(|series| series.values).copied();
        let Some(axis) = range(values) else { return Ok(()) };
        let y_of = |value: f64| PLOT.bottom() - axis.at(value) * PLOT.height;
        for tick in axis.ticks(LABEL_GAP / PLOT.height) {
            let y = PLOT.bottom() - tick.at * PLOT.height;
            let (edge, outside, anchor) = match side {
                Side::Left => (PLOT.left, -1.0, Anchor::Right),
                Side::Right => (PLOT.right(), 1.0, Anchor::Left),
            };
            if side == Side::Left {
                canvas.line(&[(PLOT.left, y), (PLOT.right(), y)], GRID)?;
            }
            canvas.line(&[(edge, y), (edge + 5.0 * outside, y)], FRAME)?;
            canvas.text(edge + 9.0 * outside, y, &tick.label, plain(anchor))?;
        }
        let x = if side == Side::Left { 26.0 } else { WIDTH - 26.0 };
        canvas.text(x, PLOT.top + PLOT.height / 2.0, name, faint(Anchor::Upwards))?;
        for (series, color) in series.iter().zip(colors) {
            let points: Vec<(f64, f64)> = series
                .values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.is_finite())
                .map(|(n, &value)| (x_of(time, n as f64 + 1.0), y_of(value)))
                .collect();
            canvas.stroke(&points, 2.0, color)?;
            if points.len() <= MARKED_POINTS_MAX {
                for (x, y) in points {
                    let mark = Area { left: x - 3.0, top: y - 3.0, width: 6.0, height: 6.0 };
                    canvas.fill(mark, color);
                }
            }
        }
        Ok(())
    }

    /// Names of the curves, side by side over the plot.
    fn legend(&self, canvas: &mut Canvas) -> Result<(), String> {
        let y = PLOT.top - 22.0;
        let mut x = PLOT.left;
        let left = self.left.1.iter().zip(LEFT_COLORS);
        for (series, color) in left.chain(self.right.1.iter().zip(RIGHT_COLORS)) {
            canvas.stroke(&[(x, y), (x + 26.0, y)], 3.0, color)?;
            canvas.text(x + 34.0, y, series.name, plain(Anchor::Left))?;
            x += 34.0 + Canvas::width(series.name, plain(Anchor::Left).size)? + 30.0;
        }
        if let Some(kept) = self.kept {
            let words = format!("kept: epoch {kept}");
            let look = Lettering { color: FAINT, ..plain(Anchor::Right) };
            canvas.text(PLOT.right(), y, &words, look)?;
        }
        Ok(())
    }
}

fn epochs_axis(canvas: &mut Canvas, time: LinearAxis) -> Result<(), String> {
    let whole = time.ticks(LABEL_GAP / PLOT.width).into_iter();
    // Epochs are whole: in a short training, halves would find room.
    for tick in whole.filter(|tick| !tick.label.contains('.')) {
        let x = PLOT.left + tick.at * PLOT.width;
        canvas.line(&[(x, PLOT.bottom()), (x, PLOT.bottom() + 5.0)], FRAME)?;
        canvas.text(x, PLOT.bottom() + 18.0, &tick.label, plain(Anchor::Centre))?;
    }
    let middle = PLOT.left + PLOT.width / 2.0;
    canvas.text(middle, PLOT.bottom() + 46.0, "Epoch", faint(Anchor::Centre))
}

fn x_of(time: LinearAxis, epoch: f64) -> f64 {
    PLOT.left + time.at(epoch).clamp(0.0, 1.0) * PLOT.width
}

/// An axis that holds all finite values with a little room; `None` where there is none.
fn range(values: impl Iterator<Item = f64>) -> Option<LinearAxis> {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    if low > high {
        return None;
    }
    // All the same: some room, so that there is an axis at all.
    let room = ((high - low) * ROOM).max(high.abs().max(1e-6) * 1e-3);
    Some(LinearAxis { low: low - room, high: high + room })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(loss: &[f64], accuracy: &[f64]) -> Result<Picture, String> {
        let chart = CurveChart {
            title: "t",
            subtitle: "s",
            left: ("Loss", &[Series { name: "training", values: loss }]),
            right: ("Accuracy", &[Series { name: "accuracy", values: accuracy }]),
            kept: Some(loss.len()),
        };
        chart.draw()
    }

    /// Rows of the plot in which a colour stands in this column.
    fn rows(picture: &Picture, x: f64, color: Rgb) -> Vec<usize> {
        let pixel = |y: usize| &picture.rgb[(y * 1_000 + x as usize) * 3..][..3];
        (PLOT.top as usize..PLOT.bottom() as usize).filter(|&y| pixel(y) == color).collect()
    }

    #[test]
    fn a_falling_loss_falls_and_a_rising_accuracy_rises() {
        let loss: Vec<f64> = (0..100).map(|n| 3.0 - f64::from(n) * 0.02).collect();
        let accuracy: Vec<f64> = (0..100).map(|n| f64::from(n) * 0.01).collect();
        let picture = draw(&loss, &accuracy).unwrap();
        let (early, late) = (PLOT.left + 120.0, PLOT.right() - 120.0);
        let [blue, green] = [LEFT_COLORS[0], RIGHT_COLORS[0]];
        assert!(rows(&picture, early, blue)[0] < rows(&picture, late, blue)[0]);
        assert!(rows(&picture, early, green)[0] > rows(&picture, late, green)[0]);
    }

    #[test]
    fn odd_values_are_drawn_or_said_to_be_nothing() {
        for loss in [&[1.0][..], &[0.0, 0.0], &[f64::NAN, 2.0, f64::INFINITY], &[1e300, -1e300]] {
            assert!(draw(loss, &[]).is_ok(), "{loss:?}");
        }
        assert!(draw(&[f64::NAN], &[f64::NAN]).is_ok());
        assert!(draw(&[], &[]).is_err());
    }
}
