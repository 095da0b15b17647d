//! The lock-free hand-over from a capture callback to the analysis, with an account of what was
//! lost on the way.
//!
//! Real-time contract of [`Producer::push`]: no allocation, no lock, no system call, no log, and
//! a bounded number of steps. When the ring is full the newest frames are dropped and counted, and
//! the place where they are missing travels to the consumer as a gap mark, so that nothing later
//! is joined across it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

/// Gap marks in flight at most. While they are all taken, frames go on being dropped and counted
/// into the gap that is waiting for a free mark.
const MARKS_MAX: usize = 64;

/// Frames missing from the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// How many frames had entered the ring before the gap.
    position: u64,
    lost_frames: u64,
}

/// Counters that both ends and any onlooker may read. All of them only grow, `silent_frames`
/// excepted.
#[derive(Debug, Default)]
pub struct Meter {
    arrived_frames: AtomicU64,
    lost_frames: AtomicU64,
    gaps: AtomicU64,
    silent_frames: AtomicU64,
    finished: AtomicBool,
}

impl Meter {
    /// Frames offered by the source so far, the lost ones included.
    pub fn arrived_frames(&self) -> u64 {
        self.arrived_frames.load(Ordering::Relaxed)
    }

    /// Frames dropped because the ring was full.
    pub fn lost_frames(&self) -> u64 {
        self.lost_frames.load(Ordering::Relaxed)
    }

    /// Interruptions caused by those drops.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Frames since the last sample that was not exactly zero.
    pub fn silent_frames(&self) -> u64 {
        self.silent_frames.load(Ordering::Relaxed)
    }

    /// Whether the producer has said that nothing more will come.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Says so in place of a producer that can't be dropped: a stream whose closing hangs.
    pub fn abandon(&self) {
        self.finished.store(true, Ordering::Release);
    }
}

/// The writing end; lives in the audio callback or in a reader thread.
pub struct Producer {
    audio: HeapProd<f32>,
    marks: HeapProd<Mark>,
    meter: Arc<Meter>,
    channels: usize,
    pushed_frames: u64,
    /// Lost, but not yet marked.
    pending_frames: u64,
}

/// The reading end; lives in the analysis thread.
pub struct Consumer {
    audio: HeapCons<f32>,
    marks: HeapCons<Mark>,
    meter: Arc<Meter>,
    channels: usize,
    popped_frames: u64,
    next_mark: Option<Mark>,
}

/// What one [`Consumer::pop`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Popped {
    /// Frames missing right before the first frame of this piece.
    pub gap_frames: u64,
    /// Frames appended.
    pub frames: usize,
}

/// Makes a ring for `capacity_frames` frames of `channels` interleaved samples (both at least 1).
/// All memory is allocated here.
pub fn ring(channels: u16, capacity_frames: usize) -> (Producer, Consumer) {
    let channels = usize::from(channels.max(1));
    let (audio_in, audio_out) = HeapRb::new(capacity_frames.max(1) * channels).split();
    let (marks_in, marks_out) = HeapRb::new(MARKS_MAX).split();
    let meter = Arc::new(Meter::default());
    let producer = Producer {
        audio: audio_in,
        marks: marks_in,
        meter: Arc::clone(&meter),
        channels,
        pushed_frames: 0,
        pending_frames: 0,
    };
    let consumer = Consumer {
        audio: audio_out,
        marks: marks_out,
        meter,
        channels,
        popped_frames: 0,
        next_mark: None,
    };
    (producer, consumer)
}

impl Producer {
    /// Offers interleaved samples; a trailing partial frame is ignored. Whole frames that do not
    /// fit are dropped, newest first, and counted. Returns how many frames were taken.
    pub fn push(&mut self, interleaved: &[f32]) -> usize {
        let offered = interleaved.len() / self.channels;
        if offered == 0 {
            return 0;
        }
        let channels = self.channels;
        let frames_of = |count: usize| interleaved.get(..count * channels).unwrap_or_default();
        self.note_silence(frames_of(offered));
        let taken = if self.mark_pending_gap() {
            let taken = offered.min(self.vacant_frames());
            self.audio.push_slice(frames_of(taken));
            taken
        } else {
            0
        };
        self.pushed_frames += taken as u64;
        self.lose((offered - taken) as u64);
        self.meter.arrived_frames.fetch_add(taken as u64, Ordering::Relaxed);
        taken
    }

    /// Notes frames that are missing at this place in the stream, dropped here or lost by the
    /// device before they came: they count as arrived and lost, and a gap is marked before the
    /// next frame.
    pub fn lose(&mut self, frames: u64) {
        if frames == 0 {
            return;
        }
        if self.pending_frames == 0 {
            self.meter.gaps.fetch_add(1, Ordering::Relaxed);
        }
        self.pending_frames = self.pending_frames.saturating_add(frames);
        self.meter.lost_frames.fetch_add(frames, Ordering::Relaxed);
        self.meter.arrived_frames.fetch_add(frames, Ordering::Relaxed);
    }

    /// Frames that fit right now; a source that can wait, waits for this.
    pub fn vacant_frames(&self) -> usize {
        self.audio.vacant_len() / self.channels
    }

    /// Samples in a frame.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The shared counters.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Publishes the gap before any frame that follows it. False while that is not possible yet.
    fn mark_pending_gap(&mut self) -> bool {
        if self.pending_frames == 0 {
            return true;
        }
        if self.vacant_frames() == 0 {
            return false;
        }
        let mark = Mark { position: self.pushed_frames, lost_frames: self.pending_frames };
        let marked = self.marks.try_push(mark).is_ok();
        if marked {
            self.pending_frames = 0;
        }
        marked
    }

    fn note_silence(&self, samples: &[f32]) {
        let trailing = samples.iter().rev().take_while(|&&s| s == 0.0).count();
        let silent_frames = (trailing / self.channels) as u64;
        if trailing == samples.len() {
            self.meter.silent_frames.fetch_add(silent_frames, Ordering::Relaxed);
        } else {
            self.meter.silent_frames.store(silent_frames, Ordering::Relaxed);
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.meter.finished.store(true, Ordering::Release);
    }
}

impl Consumer {
    /// Appends the frames that are ready to `out`, up to the next gap. A piece that begins behind
    /// a gap says how many frames are missing before it; `frames` of 0 means nothing was ready.
    pub fn pop(&mut self, out: &mut Vec<f32>) -> Popped {
        // The count is read before the marks: a mark enters its ring before the frames behind it,
        // so every frame in this count has its mark visible.
        let ready = (self.audio.occupied_len() / self.channels) as u64;
        let mut gap_frames = 0;
        let mut limit = ready;
        if self.next_mark.is_none() {
            self.next_mark = self.marks.try_pop();
        }
        if let Some(mark) = self.next_mark {
            let ahead = mark.position - self.popped_frames;
            if ahead > 0 {
                limit = limit.min(ahead);
            } else if ready > 0 {
                gap_frames = mark.lost_frames;
                self.next_mark = self.marks.try_pop();
                if let Some(next) = self.next_mark {
                    limit = limit.min(next.position - self.popped_frames);
                }
            }
        }
        let frames = limit as usize;
        let start = out.len();
        out.resize(start + frames * self.channels, 0.0);
        self.audio.pop_slice(out.get_mut(start..).unwrap_or_default());
        self.popped_frames += limit;
        Popped { gap_frames, frames }
    }

    /// Whether there is anything to pop.
    pub fn is_ready(&self) -> bool {
        !self.audio.is_empty()
    }

    /// Samples in a frame.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The shared counters.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether the producer is gone and every frame has been read.
    pub fn is_drained(&self) -> bool {
        // Finished is read first: frames pushed before it was set are then visible.
        self.meter.is_finished() && self.audio.is_empty()
    }
}
