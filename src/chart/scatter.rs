//! True against predicted values, one panel for each of three channels.

use super::axis::LinearAxis;
use super::canvas::{Anchor, Area, Canvas, Picture, Rgb};
use super::look::{BACKGROUND, FRAME, GRID, PANEL, faint, heading, plain};

const WIDTH: f64 = 1_200.0;
const HEIGHT: f64 = 500.0;
/// Side of a panel, and where they begin.
const SIDE: f64 = 320.0;
const LEFTS: [f64; 3] = [80.0, 460.0, 840.0];
const TOP: f64 = 90.0;
/// Between two labels of an axis, at least.
const LABEL_GAP: f64 = 50.0;
/// Side of a point.
const POINT: f64 = 3.0;
const COLORS: [Rgb; 3] = [[0xb4, 0x1e, 0x1e], [0x1b, 0x7a, 0x4a], [0x1f, 0x5f, 0xa8]];

/// One panel: pairs of a true and a predicted value.
pub struct Scatter<'a> {
    pub name: &'a str,
    pub points: &'a [(f64, f64)],
}

/// What to draw.
pub struct ScatterChart<'a> {
    pub title: &'a str,
    /// What the values are, for the axes.
    pub unit: &'a str,
    pub panels: [Scatter<'a>; 3],
}

impl ScatterChart<'_> {
    /// Draws a picture of 1200x500 pixels; all panels have the same axes.
    ///
    /// # Errors
    /// When there is no finite point, or the built-in font fails.
    pub fn draw(&self) -> Result<Picture, String> {
        let all = self.panels.iter().flat_map(|panel| panel.points);
        let values = all.flat_map(|&(x, y)| [x, y]).filter(|value| value.is_finite());
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
        if low > high {
            return Err("there is no point to draw".to_owned());
        }
        let room = (0.04 * (high - low)).max(1e-3 * high.abs().max(1e-3));
        let axis = LinearAxis { low: low - room, high: high + room };
        let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, BACKGROUND);
        let title = Canvas::fit(self.title, heading(Anchor::Left).size, WIDTH - 160.0)?;
        canvas.text(80.0, 30.0, &title, heading(Anchor::Left))?;
        for ((panel, left), color) in self.panels.iter().zip(LEFTS).zip(COLORS) {
            self.panel(&mut canvas, panel, left, axis, color)?;
        }
        let middle = TOP + SIDE / 2.0;
        canvas.text(22.0, middle, &format!("predicted, {}", self.unit), faint(Anchor::Upwards))?;
        Ok(canvas.finish())
    }

    fn panel(
        &self,
        canvas: &mut Canvas,
        panel: &Scatter<'_>,
        left: f64,
        axis: LinearAxis,
        color: Rgb,
    ) -> Result<(), String> {
        let area = Area { left, top: TOP, width: SIDE, height: SIDE };
        let (x_of, y_of) = (|at: f64| left + at * SIDE, |at: f64| area.bottom() - at * SIDE);
        canvas.fill(area, PANEL);
        for tick in axis.ticks(LABEL_GAP / SIDE) {
            let (x, y) = (x_of(tick.at), y_of(tick.at));
            canvas.line(&[(left, y), (area.right(), y)], GRID)?;
            canvas.line(&[(x, TOP), (x, area.bottom())], GRID)?;
            canvas.text(left - 8.0, y, &tick.label, plain(Anchor::Right))?;
            canvas.text(x, area.bottom() + 18.0, &tick.label, plain(Anchor::Centre))?;
        }
        // Where predictions are right.
        canvas.line(&[(left, area.bottom()), (area.right(), TOP)], FRAME)?;
        let finite = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
        for &(truth, found) in panel.points.iter().filter(finite) {
            let (x, y) = (x_of(axis.at(truth)), y_of(axis.at(found)));
            let half = POINT / 2.0;
            let mark = Area { left: x - half, top: y - half, width: POINT, height: POINT };
            canvas.fill(mark, color);
        }
        canvas.frame(area, FRAME)?;
        canvas.text(left, TOP - 18.0, panel.name, plain(Anchor::Left))?;
        let name = format!("true, {}", self.unit);
        canvas.text(left + SIDE / 2.0, area.bottom() + 46.0, &name, faint(Anchor::Centre))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(points: &[(f64, f64)]) -> Result<Picture, String> {
        let panel = || Scatter { name: "red", points };
        ScatterChart { title: "t", unit: "u", panels: [panel(), panel(), panel()] }.draw()
    }

    #[test]
    fn points_stand_where_their_values_are() {
        let picture = draw(&[(0.0, 0.0), (100.0, 0.0), (100.0, 100.0)]).unwrap();
        let columns: Vec<usize> = (LEFTS[0] as usize..(LEFTS[0] + SIDE) as usize)
            .filter(|x| (0..500).any(|y| picture.rgb[(y * 1_200 + x) * 3..][..3] == COLORS[0]))
            .collect();
        let (first, last) = (columns[0] as f64, columns[columns.len() - 1] as f64);
        assert!((first - (LEFTS[0] + SIDE * 4.0 / 108.0)).abs() < 3.0, "{first}");
        assert!((last - (LEFTS[0] + SIDE * 104.0 / 108.0)).abs() < 3.0, "{last}");
    }

    #[test]
    fn odd_points_are_left_out() {
        assert!(draw(&[(f64::NAN, 1.0), (1.0, 2.0)]).is_ok());
        assert!(draw(&[(5.0, 5.0)]).is_ok());
        assert!(draw(&[]).is_err());
    }
}
