//! The latest sound of a source, so that a clip can begin before its event did. One channel of 16
//! bits; only there when clips are kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spectrogram::ChannelChoice;

/// Samples of one stream, without holes: what was lost is silence.
#[derive(Debug)]
struct Segment {
    stream: u64,
    sample_rate_hz: u32,
    /// Frames of the stream that have been forgotten.
    forgotten: u64,
    samples: VecDeque<i16>,
    /// Up to where it was judged what is heard in it; infinite: nothing of it will be any more.
    judged_s: f64,
}

/// The history of one source; streams that ended are kept as long as there is room.
#[derive(Debug)]
pub struct History {
    /// Seconds of sound that are kept of a stream.
    length_s: f64,
    segments: Mutex<VecDeque<Segment>>,
}

/// Streams that are remembered.
const SEGMENTS_MAX: usize = 4;

impl History {
    /// Nothing heard yet.
    pub fn new(length_s: f64) -> Self {
        Self { length_s, segments: Mutex::new(VecDeque::new()) }
    }

    /// A new stream begins.
    pub fn begin(&self, stream: u64, sample_rate_hz: u32) {
        let mut segments = self.lock();
        while segments.len() >= SEGMENTS_MAX {
            segments.pop_front();
        }
        let (forgotten, samples, judged_s) = (0, VecDeque::new(), 0.0);
        segments.push_back(Segment { stream, sample_rate_hz, forgotten, samples, judged_s });
    }

    /// Interleaved samples of the stream, after so many frames that were lost.
    pub fn push(&self, lost: u64, interleaved: &[f32], channels: usize, choice: ChannelChoice) {
        let mut segments = self.lock();
        let Some(segment) = segments.back_mut() else { return };
        let keep = (self.length_s * f64::from(segment.sample_rate_hz)) as usize;
        // A gap longer than what is kept is forgotten in one go.
        let silent = usize::try_from(lost).unwrap_or(usize::MAX).min(keep);
        segment.forgotten += lost - silent as u64;
        if lost > silent as u64 {
            segment.forgotten += segment.samples.len() as u64;
            segment.samples.clear();
        }
        segment.samples.extend(std::iter::repeat_n(0, silent));
        let frames = interleaved.chunks_exact(channels.max(1));
        segment.samples.extend(frames.map(|frame| sample(frame, choice)));
        let over = segment.samples.len().saturating_sub(keep);
        segment.samples.drain(..over);
        segment.forgotten += over as u64;
    }

    /// All that is heard in a stream up to here is known, and in those before it.
    pub fn judged(&self, stream: u64, to_s: f64) {
        for segment in self.lock().iter_mut().filter(|segment| segment.stream <= stream) {
            let to_s = if segment.stream < stream { f64::INFINITY } else { to_s };
            segment.judged_s = segment.judged_s.max(to_s);
        }
    }

    /// Up to where a stream was judged, in seconds; `None`: it is forgotten.
    pub fn judged_s(&self, stream: u64) -> Option<f64> {
        let segments = self.lock();
        segments.iter().find(|segment| segment.stream == stream).map(|segment| segment.judged_s)
    }

    /// The samples of a stream between two positions, as far as they are there and were judged, and
    /// their rate.
    pub fn cut(&self, stream: u64, from_s: f64, to_s: f64) -> Option<(Vec<i16>, u32)> {
        let segments = self.lock();
        let segment = segments.iter().find(|segment| segment.stream == stream)?;
        let rate = f64::from(segment.sample_rate_hz);
        let place = |seconds: f64| {
            let frame = (seconds.max(0.0) * rate).round() as u64;
            let place = frame.saturating_sub(segment.forgotten);
            usize::try_from(place).unwrap_or(usize::MAX).min(segment.samples.len())
        };
        let (from, to) = (place(from_s), place(to_s.min(segment.judged_s)));
        (from < to)
            .then(|| (segment.samples.range(from..to).copied().collect(), segment.sample_rate_hz))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sample(frame: &[f32], choice: ChannelChoice) -> i16 {
    let value = match choice {
        ChannelChoice::Mix => frame.iter().sum::<f32>() / frame.len().max(1) as f32,
        ChannelChoice::First => frame.first().copied().unwrap_or(0.0),
    };
    // As the decoder reads 16 bits; NaN becomes silence.
    (value * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_what_was_heard_there() {
        let history = History::new(2.0);
        history.begin(1, 1_000);
        let value = |frame: usize| (frame % 5_000) as f32 / 32_768.0;
        for block in 0..50 {
            let stereo: Vec<f32> = (block * 100..block * 100 + 100)
                .flat_map(|frame| [2.0 * value(frame), 0.0])
                .collect();
            history.push(0, &stereo, 2, ChannelChoice::Mix);
        }
        assert_eq!(history.cut(1, 0.0, 9.0), None, "nobody knows what is in it");
        history.judged(1, 4.5);
        assert_eq!(history.cut(1, 0.0, 9.0).unwrap().0, (3_000..4_500).collect::<Vec<i16>>());
        history.judged(1, 200.0);
        assert_eq!(history.cut(1, 0.0, 9.0).unwrap().0, (3_000..5_000).collect::<Vec<i16>>());
        let (samples, rate) = history.cut(1, 3.5, 3.6).unwrap();
        assert_eq!((rate, samples), (1_000, (3_500..3_600).collect()));
        assert_eq!(history.cut(1, 2.0, 3.002).unwrap().0, [3_000, 3_001]);
        assert_eq!(history.cut(1, 0.0, 2.0), None);
        assert_eq!(history.cut(2, 3.0, 4.0), None);
        history.push(500, &[value(7); 3], 1, ChannelChoice::First);
        assert_eq!(history.cut(1, 4.999, 5.001).unwrap().0, [4_999, 0]);
        assert_eq!(history.cut(1, 5.499, 9.0).unwrap().0, [0, 7, 7, 7]);
        history.push(100_000, &[value(9)], 1, ChannelChoice::First);
        let (samples, _) = history.cut(1, 0.0, 200.0).unwrap();
        assert_eq!((samples.len(), samples.last()), (2_000, Some(&9)));
        assert_eq!(history.cut(1, 105.503, 200.0).unwrap().0, [9]);
        history.begin(2, 8_000);
        history.judged(1, 105.0);
        assert_eq!([1, 2, 3].map(|n| history.judged_s(n)), [Some(200.0), Some(0.0), None]);
        // The second stream is judged: nothing of the first will be any more.
        history.judged(2, 1.0);
        assert_eq!([1, 2].map(|n| history.judged_s(n)), [Some(f64::INFINITY), Some(1.0)]);
    }
}
