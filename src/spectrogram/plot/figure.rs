//! The layout: where the panels stand and what is drawn in each.

use super::super::colormap;
use super::PlotInput;
use super::axis::{FrequencyAxis, frequency_label};
use super::content::Content;
use super::waveform::Waveform;
use crate::chart::axis::{LinearAxis, Tick, number, round_up_to};
use crate::chart::canvas::{Anchor, Area, Canvas, Lettering, Picture, Rgb};
use crate::chart::look::{BACKGROUND, FRAME, GRID, INK, PANEL, TITLE, WORDS, faint, plain};

/// Width of the spectrogram and the waveforms in pixels.
pub const MAIN_WIDTH: usize = 830;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 92.0;
const TOP: f64 = 84.0;
/// Two pixels a row; half a row is left at either end, where the outer bands fade out.
const SPECTROGRAM_HEIGHT: f64 = 456.0;
const SIDE_LEFT: f64 = 944.0;
const SIDE_WIDTH: f64 = 228.0;
/// Between the spectrogram and the first waveform: time labels, the colour bar and its labels.
const MIDDLE: f64 = 76.0;
const COLOR_BAR_GAP: f64 = 8.0;
const COLOR_BAR_HEIGHT: f64 = 12.0;
/// Between two labels of the frequency axis, at least.
const FREQUENCY_GAP: f64 = 22.0;
const WAVEFORM_GAP: f64 = 20.0;
/// Below the last waveform: time labels, the axis' name, the margin.
const FOOT: f64 = 62.0;
const NOTE_HEIGHT: f64 = 22.0;

const WAVE: Rgb = [0x7a, 0x23, 0x80];

/// Leading digits of the amplitude axis' limit.
const ROUND_PEAKS: [f64; 9] = [1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];

/// Draws the whole picture.
pub fn draw(
    input: &PlotInput<'_>,
    content: &Content,
    time: LinearAxis,
    frequency: &FrequencyAxis,
) -> Result<Picture, String> {
    let panels = Panels::new(content.waveforms.len());
    let hidden = input.channels.len().saturating_sub(content.waveforms.len());
    let note = if hidden > 0 { NOTE_HEIGHT } else { 0.0 };
    let height = panels.bottom() + FOOT + note;
    let mut canvas = Canvas::new(WIDTH as usize, height as usize, BACKGROUND);
    let mut figure = Figure { canvas: &mut canvas, input, content, time, frequency };
    figure.heading()?;
    figure.spectrogram(panels.spectrogram)?;
    figure.spectrum(panels.spectrum)?;
    figure.waveforms(&panels.waveforms)?;
    if hidden > 0 {
        let drawn = content.waveforms.len();
        let words = format!("The first {drawn} channels are drawn; there are {hidden} more.");
        figure.canvas.text(LEFT, height - NOTE_HEIGHT, &words, faint(Anchor::Left))?;
    }
    Ok(canvas.finish())
}

/// Where everything stands.
struct Panels {
    spectrogram: Area,
    spectrum: Area,
    waveforms: Vec<Area>,
}

impl Panels {
    fn new(waveforms: usize) -> Self {
        let main_width = MAIN_WIDTH as f64;
        let spectrogram =
            Area { left: LEFT, top: TOP, width: main_width, height: SPECTROGRAM_HEIGHT };
        let height = match waveforms {
            0 | 1 => 110.0,
            2 => 84.0,
            _ => 64.0,
        };
        let first = spectrogram.bottom() + MIDDLE;
        let top = |n: usize| first + n as f64 * (height + WAVEFORM_GAP);
        let waveform = |n| Area { left: LEFT, top: top(n), width: main_width, height };
        Self {
            spectrogram,
            spectrum: Area { left: SIDE_LEFT, width: SIDE_WIDTH, ..spectrogram },
            waveforms: (0..waveforms).map(waveform).collect(),
        }
    }

    fn bottom(&self) -> f64 {
        self.waveforms.last().unwrap_or(&self.spectrogram).bottom()
    }
}

/// Draws the parts.
struct Figure<'a> {
    canvas: &'a mut Canvas,
    input: &'a PlotInput<'a>,
    content: &'a Content,
    time: LinearAxis,
    frequency: &'a FrequencyAxis,
}

impl Figure<'_> {
    fn heading(&mut self) -> Result<(), String> {
        let room = SIDE_LEFT + SIDE_WIDTH - LEFT;
        let title = Canvas::fit(self.input.title, TITLE, room)?;
        let look = Lettering { size: TITLE, color: INK, anchor: Anchor::Left };
        self.canvas.text(LEFT, 30.0, &title, look)?;
        let subtitle = Canvas::fit(&self.subtitle(), WORDS, room)?;
        self.canvas.text(LEFT, 58.0, &subtitle, faint(Anchor::Left))
    }

    fn subtitle(&self) -> String {
        let channels = self.input.channels.len();
        let heard = match self.input.channel {
            _ if channels == 1 => "mono".to_owned(),
            Some(index) => format!("channel {} of {channels}", index + 1),
            None => format!("mean of {channels} channels"),
        };
        let rate = frequency_label(f64::from(self.input.sample_rate_hz));
        let heard_at = frequency_label(f64::from(self.input.recipe.sample_rate_hz));
        let length_s = self.time.high - self.time.low;
        let decimals = if length_s < 0.1 { 5 } else { 2 };
        let shared = self.content.columns.columns_a_pixel();
        let pooled = if shared > 1.0 {
            format!(", the loudest of {:.0} columns in each pixel", shared.ceil())
        } else {
            String::new()
        };
        format!("{heard}, {rate}, {length_s:.decimals$} s, heard at {heard_at}{pooled}")
    }

    fn spectrogram(&mut self, area: Area) -> Result<(), String> {
        let (columns, frequency) = (&self.content.columns, self.frequency);
        let at = |y: usize| 1.0 - (y as f64 + 0.5) / area.height;
        let bands: Vec<usize> = (0..area.height as usize).map(|y| frequency.band(at(y))).collect();
        self.canvas.fill_with(area, |x, y| {
            let band = bands.get(y).copied().unwrap_or(0);
            colormap::color(columns.value(x, band))
        });
        self.canvas.frame(area, FRAME)?;
        for tick in frequency.ticks(FREQUENCY_GAP / area.height) {
            let y = area.bottom() - tick.at * area.height;
            self.canvas.line(&[(area.left - 5.0, y), (area.left, y)], FRAME)?;
            self.canvas.text(area.left - 9.0, y, &tick.label, plain(Anchor::Right))?;
        }
        self.time_labels(area)
    }

    fn time_ticks(&self) -> Vec<Tick> {
        self.time.ticks(80.0 / MAIN_WIDTH as f64)
    }

    fn time_labels(&mut self, area: Area) -> Result<(), String> {
        for tick in self.time_ticks() {
            let x = area.left + tick.at * area.width;
            self.canvas.line(&[(x, area.bottom()), (x, area.bottom() + 5.0)], FRAME)?;
            self.canvas.text(x, area.bottom() + 16.0, &tick.label, plain(Anchor::Centre))?;
        }
        let middle = area.left + area.width / 2.0;
        self.canvas.text(middle, area.bottom() + 38.0, "Time (s)", faint(Anchor::Centre))
    }

    /// The mean spectrum, lying on its side so that it shares the spectrogram's frequency axis. It
    /// is filled with the colours of its own decibel axis, whose colour bar stands below it.
    fn spectrum(&mut self, area: Area) -> Result<(), String> {
        let recipe = self.input.recipe;
        let db = LinearAxis { low: f64::from(recipe.min_db), high: f64::from(recipe.max_db) };
        let level = |band: usize| {
            let level = self.content.mean_db.get(band).copied().unwrap_or(recipe.min_db);
            db.at(f64::from(level)).clamp(0.0, 1.0)
        };
        let at = |y: usize| 1.0 - (y as f64 + 0.5) / area.height;
        let levels: Vec<f64> =
            (0..area.height as usize).map(|y| level(self.frequency.band(at(y)))).collect();
        self.canvas.fill(area, PANEL);
        let ticks = db.ticks(44.0 / area.width);
        for tick in &ticks {
            let x = area.left + tick.at * area.width;
            self.canvas.line(&[(x, area.top), (x, area.bottom())], GRID)?;
        }
        for tick in self.frequency.ticks(FREQUENCY_GAP / area.height) {
            let y = area.bottom() - tick.at * area.height;
            self.canvas.line(&[(area.left, y), (area.right(), y)], GRID)?;
        }
        let color = |x: usize| colormap::color(((x as f64 + 0.5) / area.width * 255.0) as u8);
        for (y, level) in levels.iter().enumerate() {
            let top = area.top + y as f64;
            let row = Area { top, width: (level * area.width).floor(), height: 1.0, ..area };
            self.canvas.fill_with(row, |x, _| color(x));
        }
        let mut previous = levels.first().copied().unwrap_or(0.0);
        for (y, &level) in levels.iter().enumerate() {
            let (low, high) = (level.min(previous) * area.width, level.max(previous) * area.width);
            let (left, top) = (area.left + low - 0.5, area.top + y as f64);
            self.canvas.fill(Area { left, top, width: high - low + 1.0, height: 1.0 }, INK);
            previous = level;
        }
        self.canvas.frame(area, FRAME)?;
        let heading = "Mean over time";
        self.canvas.text(area.left, area.top - 14.0, heading, faint(Anchor::Left))?;
        self.color_bar(area, &ticks, color)
    }

    fn color_bar(
        &mut self,
        above: Area,
        ticks: &[Tick],
        color: impl Fn(usize) -> Rgb,
    ) -> Result<(), String> {
        let bar = Area { top: above.bottom() + COLOR_BAR_GAP, height: COLOR_BAR_HEIGHT, ..above };
        self.canvas.fill_with(bar, |x, _| color(x));
        self.canvas.frame(bar, FRAME)?;
        for tick in ticks {
            let x = bar.left + tick.at * bar.width;
            self.canvas.line(&[(x, bar.bottom()), (x, bar.bottom() + 5.0)], FRAME)?;
            self.canvas.text(x, bar.bottom() + 16.0, &tick.label, plain(Anchor::Centre))?;
        }
        let middle = bar.left + bar.width / 2.0;
        self.canvas.text(middle, bar.bottom() + 38.0, "Power (dB)", faint(Anchor::Centre))
    }

    fn waveforms(&mut self, areas: &[Area]) -> Result<(), String> {
        let waveforms = &self.content.waveforms;
        let peak = waveforms.iter().fold(0.0_f32, |peak, wave| peak.max(wave.peak));
        // Silence has no scale of its own.
        let limit = if peak > 0.0 { round_up_to(f64::from(peak), &ROUND_PEAKS) } else { 1.0 };
        for (index, (area, wave)) in areas.iter().zip(waveforms).enumerate() {
            self.waveform(*area, wave, limit)?;
            self.levels(*area, wave, index)?;
        }
        let Some(&last) = areas.last() else { return Ok(()) };
        self.time_labels(last)
    }

    fn waveform(&mut self, area: Area, wave: &Waveform, limit: f64) -> Result<(), String> {
        self.canvas.fill(area, PANEL);
        for tick in self.time_ticks() {
            let x = area.left + tick.at * area.width;
            self.canvas.line(&[(x, area.top), (x, area.bottom())], GRID)?;
        }
        let axis = LinearAxis { low: -limit, high: limit };
        let y = |value: f64| area.bottom() - axis.at(value) * area.height;
        self.canvas.line(&[(area.left, y(0.0)), (area.right(), y(0.0))], GRID)?;
        for (x, &(low, high)) in wave.extents.iter().enumerate() {
            let (top, bottom) = (y(f64::from(high)), y(f64::from(low)));
            // A level line is still a pixel thick.
            let thicker = (1.0 - (bottom - top)).max(0.0);
            let column = Area {
                left: area.left + x as f64,
                top: top - thicker / 2.0,
                width: 1.0,
                height: bottom - top + thicker,
            };
            self.canvas.fill(column, WAVE);
        }
        self.canvas.frame(area, FRAME)?;
        // A round peak has at most two digits that count.
        let decimals = (1.0 - limit.log10().floor()).clamp(0.0, 9.0) as usize;
        for value in [-limit, 0.0, limit] {
            let digits = number(value, decimals);
            let label = match digits.contains('.') {
                true => digits.trim_end_matches('0').trim_end_matches('.'),
                false => digits.as_str(),
            };
            self.canvas.line(&[(area.left - 5.0, y(value)), (area.left, y(value))], FRAME)?;
            self.canvas.text(area.left - 9.0, y(value), label, plain(Anchor::Right))?;
        }
        Ok(())
    }

    /// The levels of a channel, to the right of its waveform.
    fn levels(&mut self, area: Area, wave: &Waveform, index: usize) -> Result<(), String> {
        let dbfs = |level: f32| {
            if level > 0.0 {
                format!("{} dBFS", number(20.0 * f64::from(level.log10()), 1))
            } else {
                "silence".into()
            }
        };
        let middle = area.top + area.height / 2.0;
        let (left, right) = (SIDE_LEFT, SIDE_LEFT + SIDE_WIDTH);
        let mut lines = vec![("peak", dbfs(wave.peak)), ("RMS", dbfs(wave.rms))];
        if self.input.channels.len() > 1 {
            lines.insert(0, ("channel", (index + 1).to_string()));
        }
        let first = middle - 20.0 * (lines.len() - 1) as f64 / 2.0;
        for (n, (name, value)) in lines.iter().enumerate() {
            let y = first + 20.0 * n as f64;
            self.canvas.text(left, y, name, faint(Anchor::Left))?;
            self.canvas.text(right, y, value, plain(Anchor::Right))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrogram::Recipe;

    #[test]
    fn a_tone_is_the_brightest_line_beside_its_own_label() {
        let recipe = Recipe::parse(include_str!("../../../models/sound.recipe.json")).unwrap();
        let frequency = FrequencyAxis::new(&recipe, 200.0, 9000.0);
        for hz in [300.0, 1000.0, 4000.0] {
            let sample = |n: u32| (n as f32 * std::f32::consts::TAU * hz / 48_000.0).sin() * 0.5;
            let channels = [(0..48_000).map(sample).collect::<Vec<f32>>()];
            let input = PlotInput {
                title: "tone",
                sample_rate_hz: 48_000,
                channels: &channels,
                channel: None,
                start_s: 0.0,
                recipe: &recipe,
                fmin_hz: None,
                fmax_hz: None,
            };
            let content = Content::new(&input, 48_000, MAIN_WIDTH).unwrap();
            let time = LinearAxis { low: 0.0, high: 1.0 };
            let picture = draw(&input, &content, time, &frequency).unwrap();
            let middle = LEFT as usize + MAIN_WIDTH / 2;
            let brightness = |y: usize| {
                let pixel = (y * WIDTH as usize + middle) * 3;
                picture.rgb[pixel..pixel + 3].iter().map(|&v| u32::from(v)).sum::<u32>()
            };
            let rows = TOP as usize + 1..(TOP + SPECTROGRAM_HEIGHT) as usize - 1;
            let brightest = rows.max_by_key(|&y| brightness(y)).unwrap() as f64;
            let label_y = TOP + (1.0 - frequency.at(f64::from(hz))) * SPECTROGRAM_HEIGHT;
            assert!((brightest - label_y).abs() < 5.0, "{hz} Hz at {brightest}, label {label_y}");
        }
    }
}
