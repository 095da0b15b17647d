//! The live path in simulated time: samples to windows to scores, and those to reports. The scores
//! are kept, so that other rules can be tried on them without running the network again.

use crate::decide::{Change, Heard, Rules, Tracker};
use crate::hear::{Judge, SoundModel};
use crate::network::ModelError;
use crate::spectrogram::{Analyser, Image, InputFormat, Slice, SpectrogramError};

use super::events::{ReportedEvent, Tally, TrueEvent};

/// How often the samples that have come are looked at: as often as the live ring.
const LOOK_S: f64 = 0.03;

/// A window that the network has judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// End of the window in seconds since the stream began.
    pub end_s: f64,
    /// How much of the stream had come when the window was ready to be judged: up to 0.1 s more
    /// than `end_s`, since the analysis looks ahead and new samples are not looked at at once. The
    /// network's own time is not in it.
    pub ready_s: f64,
    /// Highest level in the window, in dBFS.
    pub level_dbfs: f32,
    /// No window came before this one.
    pub first: bool,
    /// One score a class, 0 to 1.
    pub scores: Vec<f32>,
}

/// A whole stream, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Listened {
    pub windows: Vec<Window>,
    /// Length of one window.
    pub window_s: f64,
    /// Length of the stream.
    pub duration_s: f64,
}

/// One stream on its way through the analysis and the network, as a live source goes.
pub struct Listener<'a> {
    judge: &'a mut Judge,
    analyser: Analyser,
    window_s: f64,
    /// Samples in a second, all channels.
    samples_per_s: f64,
    /// Samples that are analysed at once.
    block: usize,
    samples: usize,
    windows: Vec<Window>,
    watcher: Option<Watcher<'a>>,
    failed: Option<ModelError>,
}

/// Is shown each image and its scores.
type Watcher<'a> = Box<dyn FnMut(&Image, &[f32]) + 'a>;

impl<'a> Listener<'a> {
    /// A new stream of `format`, with a window every `hop_s` seconds.
    ///
    /// # Errors
    /// When the sample rate is beyond what can be resampled.
    pub fn new(
        model: &SoundModel,
        judge: &'a mut Judge,
        format: InputFormat,
        hop_s: f32,
    ) -> Result<Self, SpectrogramError> {
        let recipe = &model.recipe;
        let channels = usize::from(format.channels).max(1);
        let block_frames = (LOOK_S * f64::from(format.sample_rate_hz)) as usize;
        Ok(Self {
            judge,
            analyser: Analyser::new(recipe, format, recipe.hop_columns(hop_s))?,
            window_s: recipe.window_s(),
            samples_per_s: f64::from(format.sample_rate_hz) * channels as f64,
            block: block_frames.max(1) * channels,
            samples: 0,
            windows: Vec::new(),
            watcher: None,
            failed: None,
        })
    }

    /// Shows each image and its scores to `watcher`, too.
    pub fn watched(mut self, watcher: impl FnMut(&Image, &[f32]) + 'a) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// Takes interleaved samples.
    pub fn push(&mut self, interleaved: &[f32]) {
        for block in interleaved.chunks(self.block) {
            self.samples += block.len();
            let ready_s = self.duration_s();
            let Self { judge, analyser, windows, watcher, failed, .. } = self;
            let mut judging = Judging { judge, windows, watcher, failed };
            analyser.push(block, &mut |slice| judging.take(slice, ready_s));
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When the network failed on any of the windows.
    pub fn finish(self) -> Result<Listened, ModelError> {
        let duration_s = self.duration_s();
        let Self { judge, analyser, window_s, mut windows, mut watcher, mut failed, .. } = self;
        let (windows_out, watcher) = (&mut windows, &mut watcher);
        let mut judging = Judging { judge, windows: windows_out, watcher, failed: &mut failed };
        analyser.finish(&mut |slice| judging.take(slice, duration_s));
        match failed {
            Some(error) => Err(error),
            None => Ok(Listened { windows, window_s, duration_s }),
        }
    }

    fn duration_s(&self) -> f64 {
        self.samples as f64 / self.samples_per_s
    }
}

/// Where windows go as they come.
struct Judging<'l, 'w> {
    judge: &'l mut Judge,
    windows: &'l mut Vec<Window>,
    watcher: &'l mut Option<Watcher<'w>>,
    failed: &'l mut Option<ModelError>,
}

impl Judging<'_, '_> {
    fn take(&mut self, slice: Slice, ready_s: f64) {
        let Slice { image: Some(image), end_s, window_level_dbfs: level_dbfs, first, .. } = slice
        else {
            return;
        };
        if self.failed.is_some() {
            return;
        }
        match self.judge.scores(&image) {
            Ok(scores) => {
                if let Some(watcher) = self.watcher {
                    watcher(&image, &scores);
                }
                self.windows.push(Window { end_s, ready_s, level_dbfs, first, scores });
            }
            Err(error) => *self.failed = Some(error),
        }
    }
}

impl Listened {
    /// One of its windows, as the decision takes it.
    pub fn heard<'a>(&self, window: &'a Window) -> Heard<'a> {
        Heard {
            start_s: window.end_s - self.window_s,
            end_s: window.end_s,
            scores: &window.scores,
            level_dbfs: window.level_dbfs,
            first: window.first,
        }
    }

    /// What a listener with these rules reports, in the order of the reports.
    pub fn reports(&self, rules: Rules) -> Vec<ReportedEvent> {
        let mut tracker = Tracker::new(rules);
        let mut reports: Vec<ReportedEvent> = Vec::new();
        for window in &self.windows {
            for change in tracker.step(self.heard(window)) {
                note(change, window.ready_s, &mut reports);
            }
        }
        for change in tracker.close(self.windows.last().map_or(0.0, |last| last.end_s)) {
            note(change, self.duration_s, &mut reports);
        }
        reports
    }
}

/// Adds a start to the reports, or an end to the latest of its class.
fn note(change: Change, reported_s: f64, reports: &mut Vec<ReportedEvent>) {
    match change {
        Change::Start(sound) => reports.push(ReportedEvent {
            class: sound.class,
            start_s: sound.start_s,
            end_s: sound.start_s,
            reported_s,
            score_peak: sound.score_peak,
        }),
        Change::End { sound, end_s } => {
            let report = reports.iter_mut().rev().find(|report| report.class == sound.class);
            if let Some(report) = report {
                (report.end_s, report.score_peak) = (end_s, sound.score_peak);
            }
        }
    }
}

/// A stream of which it is known what sounds in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// For people: where it comes from.
    pub name: String,
    pub listened: Listened,
    /// Classes by their index in the model.
    pub truth: Vec<TrueEvent>,
    /// Classes that may sound in it at any time: nothing can be said of them.
    pub unknown: Vec<usize>,
}

impl Trial {
    /// Counts one class; nothing when it may sound at any time.
    pub fn count(&self, class: usize, reports: &[ReportedEvent], tally: &mut Tally) {
        if !self.unknown.contains(&class) {
            tally.add(class, &self.truth, reports, self.listened.duration_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Rule;
    use crate::spectrogram::ChannelChoice;

    const FORMAT: InputFormat =
        InputFormat { sample_rate_hz: 48_000, channels: 2, choice: ChannelChoice::Mix };

    /// Stereo noise.
    fn noise(seconds: f64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(9);
        (0..(seconds * 96_000.0) as usize).map(|_| (random.f32() - 0.5) * 0.1).collect()
    }

    #[test]
    fn windows_are_ready_soon_after_their_end_however_the_samples_come() {
        let model = SoundModel::load(None).unwrap();
        let mut judge = model.judge().unwrap();
        let samples = noise(6.5);
        let mut listen = |chunk: usize| {
            let mut listener = Listener::new(&model, &mut judge, FORMAT, 0.5).unwrap();
            samples.chunks(chunk).for_each(|block| listener.push(block));
            listener.finish().unwrap()
        };
        let listened = listen(samples.len());
        assert_eq!(listened.duration_s, 6.5);
        assert_eq!(listened.windows.len(), 4);
        assert!(listened.windows[0].first && !listened.windows[1].first);
        for window in &listened.windows[..3] {
            let late_s = window.ready_s - window.end_s;
            assert!(late_s > 0.0 && late_s < 0.15, "{late_s} s");
            assert_eq!(window.scores.len(), model.classes.len());
        }
        let scores = |listened: &Listened| {
            listened.windows.iter().map(|window| window.scores.clone()).collect::<Vec<_>>()
        };
        assert_eq!(scores(&listen(2_000)), scores(&listened));
    }

    #[test]
    fn a_report_has_the_time_of_the_window_that_made_it() {
        let model = SoundModel::load(None).unwrap();
        let mut rules = model.rules(&Default::default()).unwrap();
        let class = model.classes.iter().position(|class| &**class == "dog").unwrap();
        let rule = &mut rules.by_class[class].as_mut().unwrap().rule;
        *rule = Rule { hits: 3, of: 4, at_once: 1.0, ..rule.clone() };
        let rule = rule.clone();
        let window = |n: usize| {
            let mut scores = vec![0.0; model.classes.len()];
            scores[class] = if (10..20).contains(&n) { 0.99 } else { 0.0 };
            let end_s = 5.0 + 0.5 * n as f64;
            Window { end_s, ready_s: end_s + 0.04, level_dbfs: -20.0, first: n == 0, scores }
        };
        let windows: Vec<Window> = (0..40).map(window).collect();
        let listened = Listened { windows, window_s: 5.0, duration_s: 25.0 };
        let reports = listened.reports(rules);
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        let confirmed = 9 + rule.hits as usize;
        assert_eq!(report.class, class);
        assert_eq!(report.reported_s, 5.0 + 0.5 * confirmed as f64 + 0.04);
        assert!((report.start_s - (10.0 - f64::from(rule.evidence_s))).abs() < 1e-6);
        assert!((report.end_s - (9.5 + f64::from(rule.evidence_s))).abs() < 1e-6, "{report:?}");
    }
}
