//! Sounds in memory: decoded once, 16 bits a sample.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::data::columns::Problems;
use crate::data::load;
use crate::spectrogram::ChannelChoice;

/// Memory for all sounds of a library.
const BYTES_MAX: usize = 3 << 30;

/// A clip on disk: a file, and from where to where in seconds.
pub type Source<'a> = (&'a Path, Option<(f64, f64)>);

/// Why sounds can't be held in memory.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Some files have to be repaired or left out.
    #[error("clips that can't be used: {0}")]
    Unusable(Problems),
    /// Some have to be left out.
    #[error(
        "the clips take more than {} GiB of memory; use fewer, or parts of them, named by `start` and `end`",
        BYTES_MAX >> 30
    )]
    TooMuch,
}

/// Sounds at one rate, by index.
#[derive(Default)]
pub struct Library {
    sounds: Vec<Sound>,
}

/// A sound of 16 bits a sample.
struct Sound {
    /// What a sample is multiplied with.
    scale: f32,
    samples: Vec<i16>,
}

impl Library {
    /// From samples that are at hand.
    pub fn of(sounds: impl IntoIterator<Item = Vec<f32>>) -> Self {
        Self { sounds: sounds.into_iter().map(|samples| Sound::new(&samples)).collect() }
    }

    /// Decodes `clips` to mono samples at `rate_hz`, on all processors; `loaded` is called after
    /// each.
    ///
    /// # Errors
    /// With all clips that can't be decoded whole or are silent; or when there is too much.
    pub fn load(
        clips: &[Source<'_>],
        rate_hz: u32,
        loaded: &(dyn Fn() + Sync),
    ) -> Result<Self, LibraryError> {
        let (next, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = Mutex::new(Vec::with_capacity(clips.len()));
        let work = || {
            while bytes.load(Ordering::Relaxed) <= BYTES_MAX {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&(path, span_s)) = clips.get(index) else { return };
                let sound = decode(path, span_s, rate_hz);
                let len = sound.as_ref().map_or(0, |sound| sound.samples.len());
                bytes.fetch_add(2 * len, Ordering::Relaxed);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((index, sound));
                loaded();
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        if bytes.into_inner() > BYTES_MAX {
            return Err(LibraryError::TooMuch);
        }
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|&(index, _)| index);
        let (mut sounds, mut problems, wanted) = (Vec::new(), Problems::default(), results.len());
        for (_, result) in results {
            match result {
                Ok(sound) => sounds.push(sound),
                Err(problem) => problems.add(problem),
            }
        }
        match sounds.len() == wanted {
            true => Ok(Self { sounds }),
            false => Err(LibraryError::Unusable(problems)),
        }
    }

    /// Adds all sounds of `other`, behind those that are there.
    pub fn append(&mut self, mut other: Self) {
        self.sounds.append(&mut other.sounds);
    }

    /// How many sounds there are.
    pub fn len(&self) -> usize {
        self.sounds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sounds.is_empty()
    }

    /// Samples of a sound; 0 if there is no such one.
    pub fn samples_in(&self, index: usize) -> usize {
        self.sounds.get(index).map_or(0, |sound| sound.samples.len())
    }

    /// A whole sound; empty if there is no such one.
    pub fn samples(&self, index: usize) -> Vec<f32> {
        self.part(index, 0, usize::MAX)
    }

    /// At most `len` samples of a sound, from `start` on.
    pub fn part(&self, index: usize, start: usize, len: usize) -> Vec<f32> {
        let Some(Sound { scale, samples }) = self.sounds.get(index) else { return Vec::new() };
        samples.iter().skip(start).take(len).map(|&sample| f32::from(sample) * scale).collect()
    }
}

impl Sound {
    fn new(samples: &[f32]) -> Self {
        // The loudest sample uses all 16 bits, however quiet the clip is, or louder than 1.
        let peak = samples.iter().fold(1e-9_f32, |peak, sample| peak.max(sample.abs()));
        let to_integer = f32::from(i16::MAX) / peak;
        let samples = samples.iter().map(|sample| (sample * to_integer).round() as i16).collect();
        Self { scale: to_integer.recip(), samples }
    }
}

fn decode(path: &Path, span_s: Option<(f64, f64)>, rate_hz: u32) -> Result<Sound, String> {
    let samples =
        load(path, span_s, rate_hz, ChannelChoice::Mix).map_err(|error| error.to_string())?;
    if samples.iter().all(|&sample| sample == 0.0) {
        return Err(format!("{}: is silent", path.display()));
    }
    Ok(Sound::new(&samples))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn test_data(name: &str) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).join(name)
    }

    #[test]
    fn clips_are_loaded_in_their_order_and_exact_to_16_bits() {
        let (siren, dog) = (test_data("golden/siren.ogg"), test_data("golden/dog.ogg"));
        let clips: [Source<'_>; 3] = [(&siren, None), (&dog, None), (&siren, Some((1.0, 2.0)))];
        let count = AtomicUsize::new(0);
        let loaded = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let library = Library::load(&clips, 32_000, &loaded).unwrap();
        assert_eq!((library.len(), count.into_inner()), (3, 3));
        for (index, (path, span_s)) in clips.into_iter().enumerate() {
            let expected = load(path, span_s, 32_000, ChannelChoice::Mix).unwrap();
            let found = library.samples(index);
            assert_eq!(found.len(), expected.len());
            let peak = expected.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= peak / 60_000.0, "off by {worst}, peak {peak}");
        }
        assert!(library.samples(3).is_empty());
    }

    #[test]
    fn all_clips_that_can_not_be_used_are_named() {
        let names: Vec<PathBuf> =
            (0..12).map(|n| PathBuf::from(format!("none{n:02}.wav"))).collect();
        let clips: Vec<Source<'_>> = names.iter().map(|name| (name.as_path(), None)).collect();
        let error = Library::load(&clips, 32_000, &|| ()).err().unwrap().to_string();
        assert!(error.contains("12 problems"), "{error}");
        assert!(error.contains("none00.wav") && error.contains("none09.wav"), "{error}");
        assert!(!error.contains("none10.wav"), "{error}");
    }
}
