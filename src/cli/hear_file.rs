//! One file to scores and events, by the same steps that a live source takes.

use std::path::Path;

use crate::capture::decode::{AudioFile, DecodeError};
use crate::decide::{Change, Heard, Rules, Tracker};
use crate::hear::{Judge, SoundModel};
use crate::network::ModelError;
use crate::spectrogram::{
    Analyser, ChannelChoice, Image, ImageError, InputFormat, Slice, SpectrogramError,
};

/// A larger picture is not read; a network image takes some 60 kB.
const PNG_BYTES_MAX: u64 = 4 << 20;

/// What is done with every file.
#[derive(Clone)]
pub struct Plan {
    pub model: SoundModel,
    pub rules: Rules,
    pub hop_s: f32,
    pub channel: ChannelChoice,
}

/// What a file sounds like.
pub struct Verdict {
    /// One score a class, averaged over the windows.
    pub scores: Vec<f32>,
    pub events: Vec<FileEvent>,
    /// What could not be read, when only a part could.
    pub incomplete: Option<DecodeError>,
}

/// A sound in a file.
pub struct FileEvent {
    /// Index of the class.
    pub class: usize,
    pub start_s: f64,
    pub end_s: f64,
    pub score_peak: f32,
}

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum HearError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{path}: {error}")]
    Image { path: String, error: ImageError },
    #[error("{path}: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path}: {error}")]
    Spectrogram { path: String, error: SpectrogramError },
    #[error("{path}: {error}")]
    Network { path: String, error: ModelError },
    #[error("{path}: there is no sound in it")]
    Empty { path: String },
}

/// One judged window of a file.
struct Judged {
    slice: Slice,
    scores: Vec<f32>,
}

impl Plan {
    /// Hears one file: a PNG is taken for a network image, anything else for audio.
    pub fn hear(&self, path: &Path, judge: &mut Judge) -> Result<Verdict, HearError> {
        let is_png = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
        if is_png { self.hear_image(path, judge) } else { self.hear_audio(path, judge) }
    }

    fn hear_image(&self, path: &Path, judge: &mut Judge) -> Result<Verdict, HearError> {
        let name = || path.display().to_string();
        let bytes = read_image(path)?;
        let image =
            Image::from_png(&bytes).map_err(|error| HearError::Image { path: name(), error })?;
        let scores =
            judge.scores(&image).map_err(|error| HearError::Network { path: name(), error })?;
        Ok(Verdict { scores, events: Vec::new(), incomplete: None })
    }

    fn hear_audio(&self, path: &Path, judge: &mut Judge) -> Result<Verdict, HearError> {
        let name = || path.display().to_string();
        let mut judged = Vec::new();
        let mut failed = None;
        let incomplete = analyse(path, self, &mut |slice| {
            let Some(image) = &slice.image else { return };
            match judge.scores(image) {
                Ok(scores) => judged.push(Judged { slice: Slice { image: None, ..slice }, scores }),
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(HearError::Network { path: name(), error });
        }
        if judged.is_empty() {
            // Only the cause, when nothing could be read at all.
            return Err(incomplete.map_or(HearError::Empty { path: name() }, HearError::Decode));
        }
        Ok(Verdict { scores: mean(&judged), events: self.events(&judged), incomplete })
    }

    fn events(&self, judged: &[Judged]) -> Vec<FileEvent> {
        let windows = u32::try_from(judged.len()).unwrap_or(u32::MAX);
        let mut tracker = Tracker::new(self.rules.clone().for_short_recording(windows));
        let window_s = self.model.recipe.window_s();
        let mut changes = Vec::new();
        for Judged { slice, scores } in judged {
            changes.extend(tracker.step(Heard {
                start_s: slice.end_s - window_s,
                end_s: slice.end_s,
                scores,
                level_dbfs: slice.window_level_dbfs,
                first: slice.first,
            }));
        }
        changes.extend(tracker.close(judged.last().map_or(0.0, |last| last.slice.end_s)));
        let mut events: Vec<FileEvent> = changes.into_iter().filter_map(ended).collect();
        events.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        events
    }
}

fn ended(change: Change) -> Option<FileEvent> {
    match change {
        Change::Start(_) => None,
        Change::End { sound, end_s } => Some(FileEvent {
            class: sound.class,
            start_s: sound.start_s,
            end_s,
            score_peak: sound.score_peak,
        }),
    }
}

/// Decodes and analyses a whole file. A damaged end is returned, not lost and not fatal.
fn analyse(
    path: &Path,
    plan: &Plan,
    sink: &mut impl FnMut(Slice),
) -> Result<Option<DecodeError>, HearError> {
    let mut file = AudioFile::open(path)?;
    let recipe = &plan.model.recipe;
    let format = InputFormat {
        sample_rate_hz: file.sample_rate_hz(),
        channels: file.channels(),
        choice: plan.channel,
    };
    let mut analyser = Analyser::new(recipe, format, recipe.hop_columns(plan.hop_s))
        .map_err(|error| HearError::Spectrogram { path: path.display().to_string(), error })?;
    let mut block = Vec::new();
    let incomplete = loop {
        block.clear();
        match file.next_block(&mut block) {
            Ok(0) => break None,
            Ok(_) => analyser.push(&block, sink),
            Err(error) => break Some(error),
        }
    };
    analyser.finish(sink);
    Ok(incomplete)
}

fn read_image(path: &Path) -> Result<Vec<u8>, HearError> {
    let unreadable = |error| HearError::Unreadable { path: path.display().to_string(), error };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > PNG_BYTES_MAX {
        let error = ImageError::Unreadable(format!("{bytes} bytes are too many"));
        return Err(HearError::Image { path: path.display().to_string(), error });
    }
    std::fs::read(path).map_err(unreadable)
}

fn mean(judged: &[Judged]) -> Vec<f32> {
    let mut sums = vec![0.0_f64; judged.first().map_or(0, |first| first.scores.len())];
    for window in judged {
        for (sum, &score) in sums.iter_mut().zip(&window.scores) {
            *sum += f64::from(score);
        }
    }
    sums.iter().map(|sum| (sum / judged.len() as f64) as f32).collect()
}
