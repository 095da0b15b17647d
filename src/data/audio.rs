//! A clip as mono samples at a given rate.

use std::path::{Path, PathBuf};

use crate::capture::decode::{AudioFile, DecodeError};
use crate::spectrogram::{ChannelChoice, Resampler, mix_into};

/// Samples of a clip at most: an hour at 32 kHz, 440 MiB.
const SAMPLES_MAX: usize = 3_600 * 32_000;

/// A file may lack so much of the length it claims: some encoders round it up.
const LACKING_S_MAX: f64 = 0.1;

/// Why a clip has no samples.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file is missing, no audio, or damaged.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The part that was asked for lies behind the end.
    #[error("{}: ends after {length_s:.2} s, before the clip's start at {start_s} s", path.display())]
    Outside { path: PathBuf, start_s: f64, length_s: f64 },
    /// It would take too much memory.
    #[error("{}: longer than {seconds_max} s; name a part of it by `start` and `end`", path.display())]
    TooLong { path: PathBuf, seconds_max: usize },
    /// Either rate is beyond what can be resampled.
    #[error("{}: can't be resampled from {from_hz} to {to_hz} Hz: {why}", path.display())]
    Rate { path: PathBuf, from_hz: u32, to_hz: u32, why: String },
}

/// Decodes a file to mono samples at `rate_hz`, -1 to 1 (lossy codecs may go somewhat beyond):
/// the same samples as the analysis makes of it. `span_s` cuts a part out, in seconds; one that
/// ends behind the file's end is shortened, and a file may lack its last 0.1 s.
///
/// # Errors
/// When the file, or the part of it that is asked for, can't be decoded whole.
pub fn load(
    path: &Path,
    span_s: Option<(f64, f64)>,
    rate_hz: u32,
    choice: ChannelChoice,
) -> Result<Vec<f32>, AudioError> {
    let mut file = AudioFile::open(path)?;
    let (from_hz, channels) = (file.sample_rate_hz(), usize::from(file.channels()));
    let frame = |seconds: f64| (seconds * f64::from(from_hz)).round() as usize;
    let (start_s, end_s) = span_s.unwrap_or((0.0, f64::INFINITY));
    let (start, end) = (frame(start_s), frame(end_s));
    let mut resampler = Resampler::new(from_hz, rate_hz).map_err(|why| AudioError::Rate {
        path: path.to_owned(),
        from_hz,
        to_hz: rate_hz,
        why,
    })?;
    let (mut block, mut mono, mut samples, mut at) = (Vec::new(), Vec::new(), Vec::new(), 0);
    while at < end {
        block.clear();
        let frames = match file.next_block(&mut block) {
            Ok(0) => break,
            Ok(frames) => frames,
            Err(DecodeError::Truncated { frames, expected: Some(expected), .. })
                if (expected - frames.min(expected)) as f64
                    <= LACKING_S_MAX * f64::from(from_hz) =>
            {
                break;
            }
            Err(error) => return Err(error.into()),
        };
        mono.clear();
        mix_into(&mut mono, &block, channels, choice);
        let wanted = start.saturating_sub(at).min(frames)..(end - at).min(frames);
        resampler.push(mono.get(wanted).unwrap_or_default(), &mut samples);
        at += frames;
        if samples.len() > SAMPLES_MAX {
            let seconds_max = SAMPLES_MAX / rate_hz.max(1) as usize;
            return Err(AudioError::TooLong { path: path.to_owned(), seconds_max });
        }
    }
    if at <= start {
        let length_s = at as f64 / f64::from(from_hz);
        return Err(AudioError::Outside { path: path.to_owned(), start_s, length_s });
    }
    resampler.finish(&mut samples);
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 16-bit WAV file at 44.1 kHz whose left channel is `left` and whose right one is silent.
    fn wav(left: &[i16]) -> tempfile::NamedTempFile {
        let length = left.len() as u32 * 4;
        let mut bytes = b"RIFF".to_vec();
        bytes.extend((36 + length).to_le_bytes());
        bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
        bytes.extend(44_100_u32.to_le_bytes());
        bytes.extend((44_100_u32 * 4).to_le_bytes());
        bytes.extend(b"\x04\0\x10\0data");
        bytes.extend(length.to_le_bytes());
        bytes.extend(left.iter().flat_map(|sample| [sample.to_le_bytes(), [0; 2]].concat()));
        let file = tempfile::Builder::new().suffix(".wav").tempfile().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    /// The frame's number as its sample.
    fn ramp(frames: i16) -> tempfile::NamedTempFile {
        wav(&(0..frames).collect::<Vec<i16>>())
    }

    #[test]
    fn channels_are_mixed_or_chosen() {
        let file = ramp(1_000);
        let first = load(file.path(), None, 44_100, ChannelChoice::First).unwrap();
        let mix = load(file.path(), None, 44_100, ChannelChoice::Mix).unwrap();
        assert_eq!((first.len(), mix.len()), (1_000, 1_000));
        assert_eq!((first[500], mix[500]), (500.0 / 32_768.0, 250.0 / 32_768.0));
    }

    #[test]
    fn a_span_is_cut_to_the_frame_and_shortened_at_the_end() {
        let file = ramp(30_000);
        let rate = 44_100.0;
        let cut = |from: f64, to: f64| {
            let span_s = Some((from / rate, to / rate));
            load(file.path(), span_s, 44_100, ChannelChoice::First).unwrap()
        };
        for (from, to, length) in [
            (0.0, 10.0, 10),
            (9_000.0, 21_111.0, 12_111),
            (29_990.0, 99_000.0, 10),
            (123.0, f64::INFINITY, 29_877),
        ] {
            let samples = cut(from, to);
            assert_eq!(samples.len(), length, "{from} to {to}");
            assert_eq!(samples[0] * 32_768.0, from as f32);
            assert_eq!(samples[length - 1] * 32_768.0, from as f32 + length as f32 - 1.0);
        }
        let beyond = load(file.path(), Some((1.0, 2.0)), 44_100, ChannelChoice::First);
        let error = beyond.unwrap_err().to_string();
        assert!(error.contains("0.68 s"), "{error}");
    }

    #[test]
    fn the_length_follows_the_rate_and_a_tone_stays_where_it_is() {
        let tone = |rate: f64, count: usize| -> Vec<f64> {
            (0..count).map(|n| (std::f64::consts::TAU * 440.0 * n as f64 / rate).sin()).collect()
        };
        let samples: Vec<i16> =
            tone(44_100.0, 44_100).iter().map(|s| (s * 16_384.0).round() as i16).collect();
        let heard = load(wav(&samples).path(), None, 32_000, ChannelChoice::First).unwrap();
        assert_eq!(heard.len(), 32_000);
        for (n, (&heard, expected)) in heard.iter().zip(tone(32_000.0, 32_000)).enumerate() {
            if (2_000..30_000).contains(&n) {
                assert!((f64::from(heard) - 0.5 * expected).abs() < 1e-3, "sample {n}");
            }
        }
    }

    #[test]
    fn a_file_may_lack_a_little_of_its_length_and_no_more() {
        let whole = std::fs::read(ramp(30_000).path()).unwrap();
        let file = tempfile::Builder::new().suffix(".wav").tempfile().unwrap();
        for (lacking, good) in [(4_000, true), (5_000, false), (29_000, false)] {
            std::fs::write(file.path(), &whole[..whole.len() - lacking * 4]).unwrap();
            let loaded = load(file.path(), None, 44_100, ChannelChoice::First);
            assert_eq!(loaded.is_ok_and(|samples| samples.len() == 30_000 - lacking), good);
        }
    }

    #[test]
    fn a_bad_file_is_named() {
        let file = wav(&[]);
        let error = load(file.path(), None, 32_000, ChannelChoice::Mix).unwrap_err();
        assert!(matches!(error, AudioError::Decode(_)), "{error}");
        assert!(error.to_string().contains(".wav"), "{error}");
    }
}
