//! The analysis thread of one source: ring to windows.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::board::Board;
use super::clock::StreamClock;
use super::lane::{Delivery, Lane, StreamEnd, TimedSlice};
use crate::capture::Feed;
use crate::capture::settings::Pace;
use crate::ring::Meter;
use crate::signal::{SourceName, Timestamp};
use crate::spectrogram::{Analyser, ChannelChoice, InputFormat, Recipe, Slice};

/// How often the ring is looked at while it is empty. The callback may not wake anybody (that
/// would be a system call), so this side has to look.
const POLL: Duration = Duration::from_millis(30);

/// Everything the thread needs; it ends when the capture side of `feeds` is gone.
pub struct AnalyseJob {
    pub source: SourceName,
    pub recipe: Recipe,
    pub hop_columns: usize,
    pub choice: ChannelChoice,
    pub feeds: Receiver<Feed>,
    pub lane: Lane,
    pub board: Arc<Board>,
}

impl AnalyseJob {
    /// Analyses one stream after the other.
    pub fn run(self) {
        let mut streams = 0_u64;
        while let Ok(feed) = self.feeds.recv() {
            // What lies between two streams was not heard.
            self.board.gaps.add(u64::from(streams > 0));
            streams += 1;
            let format = InputFormat {
                sample_rate_hz: feed.sample_rate_hz,
                channels: feed.channels,
                choice: self.choice,
            };
            match Analyser::new(&self.recipe, format, self.hop_columns) {
                Ok(analyser) => self.stream(feed, analyser),
                Err(error) => tracing::error!(source = %self.source, "{error}"),
            }
        }
    }

    fn stream(&self, mut feed: Feed, mut analyser: Analyser) {
        let live = feed.pace == Pace::RealTime;
        let mut clock = StreamClock::new(feed.opened_at, live);
        let rate_hz = f64::from(feed.sample_rate_hz.max(1));
        let meter = Arc::clone(feed.audio.meter());
        let mut seen = Seen::default();
        let mut frames = 0;
        let mut samples = Vec::new();
        // A newer feed means that this one was given up, even if nobody could say so.
        while self.feeds.is_empty() {
            samples.clear();
            let popped = feed.audio.pop(&mut samples);
            seen.note(&meter, &self.board);
            if popped.frames == 0 {
                if feed.audio.is_drained() {
                    break;
                }
                std::thread::sleep(POLL);
                continue;
            }
            if popped.gap_frames > 0 {
                frames += popped.gap_frames;
                let (gap_frames, clock) = (popped.gap_frames, &clock);
                analyser.gap(gap_frames, &mut |slice| self.deliver(slice, clock));
            }
            frames += popped.frames as u64;
            clock.observe(frames as f64 / rate_hz, Timestamp::now());
            let clock = &clock;
            analyser.push(&samples, &mut |slice| self.deliver(slice, clock));
        }
        let clock = &clock;
        analyser.finish(&mut |slice| self.deliver(slice, clock));
        let end_s = frames as f64 / rate_hz;
        let ended = Some(StreamEnd { end_s, end_at: clock.at(end_s) });
        self.lane.send(Delivery { ended, slice: None });
        self.board.set_level(None);
    }

    fn deliver(&self, slice: Slice, clock: &StreamClock) {
        self.board.set_level(Some(slice.level_dbfs));
        if slice.image.is_some() {
            let end_at = clock.at(slice.end_s);
            let delivery = Delivery { ended: None, slice: Some(TimedSlice { slice, end_at }) };
            let dropped = self.lane.send(delivery).unwrap_or(0);
            self.board.dropped_windows.add(dropped);
        }
    }
}

/// What of one ring's losses is already on the board.
#[derive(Default)]
struct Seen {
    lost_frames: u64,
    gaps: u64,
}

impl Seen {
    fn note(&mut self, meter: &Meter, board: &Board) {
        let (lost_frames, gaps) = (meter.lost_frames(), meter.gaps());
        board.lost_frames.add(lost_frames - self.lost_frames);
        board.gaps.add(gaps - self.gaps);
        *self = Self { lost_frames, gaps };
    }
}
