//! Files that somebody drops on the dashboard: heard and corrected by the same steps as by the command
//! line, in memory and within bounds.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::capture::decode::AudioFile;
use crate::correct::{ColourModel, Decision, Settings};
use crate::dashboard::house::{CorrectedPhoto, Refused};
use crate::decide::Rules;
use crate::evaluate::{Listened, Listener};
use crate::hear::SoundModel;
use crate::picture::{Photo, PhotoError};
use crate::spectrogram::{ChannelChoice, InputFormat};

/// The longest recording that is heard.
const SECONDS_MAX: u64 = 600;
/// The largest photo: with 16 bits and alpha 200 MB in memory, within what the service may have.
const PIXELS_MAX: u64 = 25_000_000;
/// Classes in an answer.
const TOP: usize = 5;
/// Of JPEGs that are written.
const QUALITY: u8 = 92;

/// A recording, judged.
pub struct HeardFile {
    listened: Listened,
    /// The window with the best score of a wanted class, as PNG.
    pub image: Option<Vec<u8>>,
}

/// Judges a recording of any known format; `wanted` are the classes that an image is looked for by.
pub fn hear(
    model: &SoundModel,
    hop_s: f32,
    file: Vec<u8>,
    wanted: impl Fn(usize) -> bool,
) -> Result<HeardFile, Refused> {
    let unsupported = |error: &dyn std::fmt::Display| Refused::Unsupported(error.to_string());
    let unavailable = |error: &dyn std::fmt::Display| Refused::Unavailable(error.to_string());
    let mut audio = AudioFile::from_bytes(file).map_err(|error| unsupported(&error))?;
    let format = InputFormat {
        sample_rate_hz: audio.sample_rate_hz(),
        channels: audio.channels(),
        choice: ChannelChoice::Mix,
    };
    let mut judge = model.judge().map_err(|error| unavailable(&error))?;
    let mut best: Option<(f32, crate::spectrogram::Image)> = None;
    let mut listener = Listener::new(model, &mut judge, format, hop_s)
        .map_err(|error| unsupported(&error))?
        .watched(|image, scores| {
            let classes = scores.iter().enumerate().filter(|(class, _)| wanted(*class));
            let score = classes.map(|(_, score)| *score).fold(0.0, f32::max);
            if best.as_ref().is_none_or(|(before, _)| score > *before) {
                best = Some((score, image.clone()));
            }
        });
    let frames_max = SECONDS_MAX * u64::from(format.sample_rate_hz);
    let mut block = Vec::new();
    loop {
        block.clear();
        // What could be decoded of a damaged file is heard, if there is any.
        match audio.next_block(&mut block) {
            Ok(0) => break,
            Err(error) if audio.decoded_frames() == 0 => return Err(unsupported(&error)),
            Err(_) => break,
            Ok(_) => listener.push(&block),
        }
        if audio.decoded_frames() > frames_max {
            let minutes = SECONDS_MAX / 60;
            return Err(Refused::Bad(format!(
                "the recording is longer than {minutes} minutes; `hearken classify` takes any"
            )));
        }
    }
    let listened = listener.finish().map_err(|error| unavailable(&error))?;
    if listened.windows.is_empty() {
        return Err(Refused::Unsupported("there is no sound in it".to_owned()));
    }
    let image = best.map(|(_, image)| image.to_png());
    let image = image.transpose().map_err(|error| unavailable(&error))?;
    Ok(HeardFile { listened, image })
}

/// What is in a recording.
pub fn verdict(model: &SoundModel, rules: Rules, heard: &HeardFile) -> Value {
    let HeardFile { listened, image } = heard;
    let windows = u32::try_from(listened.windows.len()).unwrap_or(u32::MAX);
    let mut events = listened.reports(rules.for_short_recording(windows));
    events.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    let events = events.iter().map(|event| {
        let class = model.classes.get(event.class);
        let (start_s, end_s, score_peak) = (event.start_s, event.end_s, event.score_peak);
        json!({ "class": class, "start_s": start_s, "end_s": end_s, "score_peak": score_peak })
    });
    let events: Vec<Value> = events.collect();
    let mut best = vec![0.0_f32; model.classes.len()];
    for window in &listened.windows {
        best.iter_mut().zip(&window.scores).for_each(|(best, score)| *best = best.max(*score));
    }
    let png = image.as_ref().map(|png| base64::engine::general_purpose::STANDARD.encode(png));
    json!({
        "duration_s": listened.duration_s,
        "windows": windows,
        "events": events,
        "top": model.top(&best, TOP),
        "image": png,
    })
}

/// Takes the shift of colours off a photo.
pub fn correct(model: &ColourModel, file: Vec<u8>) -> Result<CorrectedPhoto, Refused> {
    let unsupported = |error: &dyn std::fmt::Display| Refused::Unsupported(error.to_string());
    let unavailable = |error: &dyn std::fmt::Display| Refused::Unavailable(error.to_string());
    let read = Photo::read_within(&file, None, PIXELS_MAX);
    let mut photo = read.map_err(|error| match error {
        PhotoError::TooLarge { .. } => {
            Refused::TooLarge(format!("{error}; `hearken correct` takes larger ones"))
        }
        error => unsupported(&error),
    })?;
    let mime = photo.format.mime();
    let mut corrector = model.corrector().map_err(|error| unavailable(&error))?;
    let correction = corrector.correct(&mut photo, &Settings::default());
    let correction = correction.map_err(|error| unsupported(&error))?;
    let is_changed = correction.decision == Decision::Corrected;
    let bytes = match is_changed {
        true => photo.write(QUALITY).map_err(|error| unavailable(&error))?,
        false => file,
    };
    let shift = correction.shift.map(|shift| shift.shown());
    Ok(CorrectedPhoto { bytes, shift, is_changed, mime })
}
