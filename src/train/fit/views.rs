//! How an image lies in memory so that what one tap of a sliding window meets, from place to
//! place, is one unbroken row. A convolution then is a matrix product on rows that overlap, and
//! nothing is copied for each tap.
//!
//! The image is split into phases, as many as the stride has steps: of every second row and
//! column, say (a polyphase decomposition). Within a phase the window steps from cell to cell, so
//! taps differ only by where their row begins. A row of places is as long as a row of a phase, and
//! so goes on behind the last place of the output: what lies there is computed, too, and left out.

use super::gemm::LANES_MAX;
use crate::network::{Window, meeting};

/// Places of a window on images of one size. Pairs are rows, columns.
#[derive(Debug, Clone)]
pub(super) struct Views {
    window: Window,
    input: [usize; 2],
    output: [usize; 2],
    /// Cells of a phase that the window reaches beyond the one it begins at.
    reach: [usize; 2],
    /// From one row of a phase to the next, and from one row of places to the next.
    pitch: usize,
}

/// A cell of the window, within its phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// Its number in the window.
    pub index: usize,
    /// Where its row begins in a plane of the phase.
    pub shift: usize,
}

impl Views {
    pub fn new(window: Window, input: [usize; 2], output: [usize; 2]) -> Self {
        let reach = each(window.kernel, window.stride, |kernel, stride| (kernel - 1) / stride);
        Self { window, input, output, reach, pitch: output[1] + reach[1] }
    }

    /// Places, with those between the rows.
    pub fn places(&self) -> usize {
        self.output[0] * self.pitch
    }

    /// Values of a plane of a phase.
    pub fn plane(&self) -> usize {
        (self.output[0] + self.reach[0]) * self.pitch
    }

    /// Values of a plane that [`Self::surround`] makes.
    fn surrounded_plane(&self) -> usize {
        (self.output[0] + 2 * self.reach[0]) * self.pitch
    }

    /// The phases that the window has cells in: the first of its cells in each.
    pub fn phases(&self) -> impl Iterator<Item = [usize; 2]> {
        let [rows, columns] = each(self.window.kernel, self.window.stride, usize::min);
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// The cells of the window in a phase.
    pub fn taps(&self, phase: [usize; 2]) -> impl Iterator<Item = Tap> {
        let ([rows, columns], stride) = (self.window.kernel, self.window.stride);
        let pitch = self.pitch;
        (phase[0]..rows).step_by(stride[0]).enumerate().flat_map(move |(down, row)| {
            (phase[1]..columns).step_by(stride[1]).enumerate().map(move |(right, column)| Tap {
                index: row * columns + column,
                shift: down * pitch + right,
            })
        })
    }

    /// Where the row of each tap of each channel begins in what [`Self::spread`] makes.
    pub fn starts(&self, channels: usize) -> Vec<usize> {
        let taps = self.window.kernel[0] * self.window.kernel[1];
        let mut starts = vec![0; channels * taps];
        for (number, phase) in self.phases().enumerate() {
            for tap in self.taps(phase) {
                for (channel, starts) in starts.chunks_mut(taps).enumerate() {
                    if let Some(start) = starts.get_mut(tap.index) {
                        *start = (number * channels + channel) * self.plane() + tap.shift;
                    }
                }
            }
        }
        starts
    }

    /// Where the row of each tap of a phase begins for each output in what [`Self::surround`]
    /// makes, seen from the cells of the phase.
    pub fn surrounded_starts(&self, phase: [usize; 2], outputs: usize) -> Vec<usize> {
        let (first, plane) = (self.first_surrounded(), self.surrounded_plane());
        (0..outputs)
            .flat_map(|output| self.taps(phase).map(move |tap| output * plane + first - tap.shift))
            .collect()
    }

    /// Where the places of each output begin there.
    pub fn places_starts(&self, outputs: usize) -> Vec<usize> {
        (0..outputs).map(|n| n * self.surrounded_plane() + self.first_surrounded()).collect()
    }

    fn first_surrounded(&self) -> usize {
        self.reach[0] * self.pitch + self.reach[1]
    }

    /// The image's phases, one after the other: the planes of all channels in each.
    pub fn spread(&self, x: &[f32], phases: &mut Vec<f32>) {
        let [rows, columns] = self.input;
        let channels = x.len().checked_div(rows * columns).unwrap_or(0);
        let count = self.phases().count() * channels * self.plane();
        phases.clear();
        phases.resize(count + self.reach[1], 0.0);
        let mut planes = phases.chunks_mut(self.plane());
        for phase in self.phases() {
            for (x, plane) in x.chunks(rows * columns).zip(planes.by_ref()) {
                self.each_row(phase, |cells, places| {
                    let met = plane.get_mut(places).unwrap_or_default();
                    let cells = x.get(cells..).unwrap_or_default();
                    match self.window.stride[1] {
                        1 => met.iter_mut().zip(cells).for_each(|(met, &cell)| *met = cell),
                        by => {
                            let cells = cells.iter().step_by(by);
                            met.iter_mut().zip(cells).for_each(|(met, &cell)| *met = cell);
                        }
                    }
                });
            }
        }
    }

    /// The way back: what the planes of a phase hold, to its cells.
    pub fn gather(&self, phase: [usize; 2], planes: &[f32], x: &mut [f32]) {
        let image = self.input[0] * self.input[1];
        for (x, plane) in x.chunks_mut(image).zip(planes.chunks(self.plane())) {
            self.each_row(phase, |cells, places| {
                let cells = x.get_mut(cells..).unwrap_or_default();
                let cells = cells.iter_mut().step_by(self.window.stride[1]);
                let met = plane.get(places).unwrap_or_default();
                cells.zip(met).for_each(|(cell, &met)| *cell = met);
            });
        }
    }

    /// For each row of a phase that lies in the image: its first cell there, and where it is in
    /// the phase's plane.
    fn each_row(&self, phase: [usize; 2], mut visit: impl FnMut(usize, std::ops::Range<usize>)) {
        let Window { stride, before, .. } = self.window;
        let [rows, columns] = self.input;
        let along = meeting(self.pitch, columns, stride[1], before[1], phase[1]);
        let down = meeting(self.output[0] + self.reach[0], rows, stride[0], before[0], phase[0]);
        if along.is_empty() {
            return;
        }
        let column = along.start * stride[1] + phase[1] - before[1];
        for row in down {
            let (start, cell) = (row * self.pitch, row * stride[0] + phase[0] - before[0]);
            visit(cell * columns + column, start + along.start..start + along.end);
        }
    }

    /// The places of all outputs with zeros around, as far as the window reaches.
    pub fn surround(&self, y: &[f32], surrounded: &mut Vec<f32>) {
        let [rows, columns] = self.output;
        let outputs = y.len().checked_div(rows * columns).unwrap_or(0);
        surrounded.clear();
        surrounded.resize(outputs * self.surrounded_plane() + self.reach[1], 0.0);
        let planes = surrounded.chunks_mut(self.surrounded_plane());
        for (plane, y) in planes.zip(y.chunks(rows * columns)) {
            let plane = plane.get_mut(self.first_surrounded()..).unwrap_or_default();
            for (place, y) in plane.chunks_mut(self.pitch).zip(y.chunks(columns)) {
                place.iter_mut().zip(y).for_each(|(place, &y)| *place = y);
            }
        }
    }

    /// The places without those between the rows.
    pub fn crop(&self, places: &[f32], y: &mut [f32]) {
        let [rows, columns] = self.output;
        for (y, places) in y.chunks_mut(rows * columns).zip(places.chunks(self.places())) {
            for (y, places) in y.chunks_mut(columns).zip(places.chunks(self.pitch)) {
                y.iter_mut().zip(places).for_each(|(y, &place)| *y = place);
            }
        }
    }

    /// One row of outputs for each place, filled up with zeros to whole vectors. Returns the length
    /// of a row.
    pub fn by_place(&self, y: &[f32], transposed: &mut Vec<f32>) -> usize {
        let [rows, columns] = self.output;
        let outputs = y.len().checked_div(rows * columns).unwrap_or(0);
        let length = outputs.next_multiple_of(LANES_MAX);
        transposed.clear();
        transposed.resize(self.places() * length, 0.0);
        for (row, places) in transposed.chunks_mut(self.pitch * length).enumerate() {
            for (column, place) in places.chunks_mut(length).take(columns).enumerate() {
                let at = row * columns + column;
                let planes = y.chunks(rows * columns);
                for (value, plane) in place.iter_mut().zip(planes) {
                    *value = plane.get(at).copied().unwrap_or(0.0);
                }
            }
        }
        length
    }
}

/// A function of rows, and of columns.
fn each(a: [usize; 2], b: [usize; 2], of: impl Fn(usize, usize) -> usize) -> [usize; 2] {
    [of(a[0], b[0]), of(a[1], b[1])]
}
