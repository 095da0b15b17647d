//! The analysis thread of one source: ring to windows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::board::Board;
use super::clock::StreamClock;
use super::history::History;
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
    /// No audio for this long ends a stream.
    pub pause: Duration,
    pub feeds: Receiver<Feed>,
    pub lane: Lane,
    pub board: Arc<Board>,
    /// Remembers the sound, when clips are kept.
    pub history: Option<Arc<History>>,
}

impl AnalyseJob {
    /// Analyses one stream after the other.
    pub fn run(self) {
        while let Ok(mut feed) = self.feeds.recv() {
            let mut opened_at = feed.opened_at;
            loop {
                // What lies between two streams was not heard.
                self.board.gaps.add(u64::from(self.board.streams.get() > 0));
                self.board.streams.add(1);
                let streams = self.board.streams.get();
                let format = InputFormat {
                    sample_rate_hz: feed.sample_rate_hz,
                    channels: feed.channels,
                    choice: self.choice,
                };
                let analyser = match Analyser::new(&self.recipe, format, self.hop_columns) {
                    Ok(analyser) => analyser,
                    Err(error) => {
                        tracing::error!(source = %self.source, "{error}");
                        break;
                    }
                };
                let clock = StreamClock::new(opened_at, feed.pace == Pace::RealTime);
                if let Some(history) = &self.history {
                    history.begin(streams, feed.sample_rate_hz);
                }
                let stream = Stream { number: streams, analyser, clock, frames: 0 };
                if !self.follow(&mut feed, stream) || !self.wait_for_audio(&feed) {
                    break;
                }
                opened_at = Timestamp::now();
            }
        }
    }

    /// Analyses a stream to its end, or to a pause. True if the feed may go on later.
    fn follow(&self, feed: &mut Feed, mut stream: Stream) -> bool {
        let rate_hz = f64::from(feed.sample_rate_hz.max(1));
        let meter = Arc::clone(feed.audio.meter());
        let mut seen = Seen { lost_frames: meter.lost_frames(), gaps: meter.gaps() };
        let mut samples = Vec::new();
        let mut last_audio = Instant::now();
        let mut paused = false;
        // A newer feed means that this one was given up, even if nobody could say so.
        while self.feeds.is_empty() && !paused {
            samples.clear();
            let popped = feed.audio.pop(&mut samples);
            seen.note(&meter, &self.board);
            if popped.frames == 0 {
                if feed.audio.is_drained() {
                    break;
                }
                paused = stream.frames > 0 && last_audio.elapsed() >= self.pause;
                std::thread::sleep(POLL);
                continue;
            }
            last_audio = Instant::now();
            if let Some(history) = &self.history {
                let channels = usize::from(feed.channels);
                history.push(popped.gap_frames, &samples, channels, self.choice);
            }
            let Stream { number, analyser, clock, frames } = &mut stream;
            if popped.gap_frames > 0 {
                *frames += popped.gap_frames;
                analyser.gap(popped.gap_frames, &mut |slice| self.deliver(slice, *number, clock));
            }
            *frames += popped.frames as u64;
            clock.observe(*frames as f64 / rate_hz, Timestamp::now());
            analyser.push(&samples, &mut |slice| self.deliver(slice, *number, clock));
        }
        let Stream { number, analyser, clock, frames } = stream;
        analyser.finish(&mut |slice| self.deliver(slice, number, &clock));
        let end_s = frames as f64 / rate_hz;
        let ended = Some(StreamEnd { stream: number, end_s, end_at: clock.at(end_s) });
        self.lane.send(Delivery { ended, slice: None });
        self.board.set_level(None);
        paused
    }

    /// After a pause: true when there is audio again, false when there never will be.
    fn wait_for_audio(&self, feed: &Feed) -> bool {
        loop {
            if !self.feeds.is_empty() || feed.audio.is_drained() {
                return false;
            }
            if feed.audio.is_ready() {
                return true;
            }
            std::thread::sleep(POLL);
        }
    }

    fn deliver(&self, slice: Slice, stream: u64, clock: &StreamClock) {
        self.board.set_level(Some(slice.level_dbfs));
        self.board.slices.add(1);
        if slice.image.is_some() {
            let end_at = clock.at(slice.end_s);
            let timed = TimedSlice { stream, slice, end_at };
            self.board.produced_windows.add(1);
            let dropped = self.lane.send(Delivery { ended: None, slice: Some(timed) });
            self.board.dropped_windows.add(dropped);
        }
    }
}

/// One stream on its way through the analysis.
struct Stream {
    /// Counts up with each reopening and each pause.
    number: u64,
    analyser: Analyser,
    clock: StreamClock,
    /// Heard or lost so far.
    frames: u64,
}

/// What of one ring's losses is already on the board.
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
