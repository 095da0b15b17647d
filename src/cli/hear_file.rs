//! One file to scores and events, by the same steps that a live source takes.

use std::path::Path;

use crate::capture::decode::{AudioFile, DecodeError};
use crate::decide::Rules;
use crate::evaluate::{Listened, Listener, ReportedEvent, Window};
use crate::hear::{Judge, SoundModel};
use crate::network::ModelError;
use crate::picture::PngError;
use crate::spectrogram::{ChannelChoice, Image, ImageError, InputFormat, SpectrogramError};

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
    /// In the order of their starts.
    pub events: Vec<ReportedEvent>,
    /// What could not be read, when only a part could.
    pub incomplete: Option<DecodeError>,
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
        let (found, wanted) = (image.channels(), self.model.recipe.channels);
        if found != wanted {
            let error = ImageError::Channels { found, wanted };
            return Err(HearError::Image { path: name(), error });
        }
        let scores =
            judge.scores(&image).map_err(|error| HearError::Network { path: name(), error })?;
        Ok(Verdict { scores, events: Vec::new(), incomplete: None })
    }

    fn hear_audio(&self, path: &Path, judge: &mut Judge) -> Result<Verdict, HearError> {
        let (listened, incomplete) = self.listen(path, judge)?;
        let windows = &listened.windows;
        if windows.is_empty() {
            // Only the cause, when nothing could be read at all.
            let empty = || HearError::Empty { path: path.display().to_string() };
            return Err(incomplete.map_or_else(empty, HearError::Decode));
        }
        let count = u32::try_from(windows.len()).unwrap_or(u32::MAX);
        let mut events = listened.reports(self.rules.clone().for_short_recording(count));
        events.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        Ok(Verdict { scores: mean(windows), events, incomplete })
    }

    /// Decodes a whole file and judges its windows. A damaged end is returned, not lost and not
    /// fatal.
    pub fn listen(
        &self,
        path: &Path,
        judge: &mut Judge,
    ) -> Result<(Listened, Option<DecodeError>), HearError> {
        let name = || path.display().to_string();
        let mut file = AudioFile::open(path)?;
        let format = InputFormat {
            sample_rate_hz: file.sample_rate_hz(),
            channels: file.channels(),
            choice: self.channel,
        };
        let mut listener = Listener::new(&self.model, judge, format, self.hop_s)
            .map_err(|error| HearError::Spectrogram { path: name(), error })?;
        let mut block = Vec::new();
        let incomplete = loop {
            block.clear();
            match file.next_block(&mut block) {
                Ok(0) => break None,
                Ok(_) => listener.push(&block),
                Err(error) => break Some(error),
            }
        };
        let listened = listener.finish();
        let listened = listened.map_err(|error| HearError::Network { path: name(), error })?;
        Ok((listened, incomplete))
    }
}

fn read_image(path: &Path) -> Result<Vec<u8>, HearError> {
    let unreadable = |error| HearError::Unreadable { path: path.display().to_string(), error };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > PNG_BYTES_MAX {
        let error = ImageError::Png(PngError::Unreadable(format!("{bytes} bytes are too many")));
        return Err(HearError::Image { path: path.display().to_string(), error });
    }
    std::fs::read(path).map_err(unreadable)
}

/// One score a class: the mean over the windows, of which there must be one.
pub fn mean(windows: &[Window]) -> Vec<f32> {
    let mut sums = vec![0.0_f64; windows.first().map_or(0, |first| first.scores.len())];
    for window in windows {
        for (sum, &score) in sums.iter_mut().zip(&window.scores) {
            *sum += f64::from(score);
        }
    }
    sums.iter().map(|sum| (sum / windows.len() as f64) as f32).collect()
}
