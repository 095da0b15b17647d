//! The hand-over from a source's analysis to the classification: bounded, and the latest wins. A
//! window that is not judged in time is replaced and counted; the end of a stream is never lost.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::signal::Timestamp;
use crate::spectrogram::Slice;

/// Windows that may wait: two seconds of them at the default hop.
const WAITING_MAX: usize = 4;

/// A slice with a window, and the time at its end.
#[derive(Debug, Clone)]
pub struct TimedSlice {
    /// Which of the source's streams it belongs to; counts up with each reopening.
    pub stream: u64,
    pub slice: Slice,
    pub end_at: Timestamp,
}

/// The end of a stream: everything that is on ends here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamEnd {
    /// Which of the source's streams ended.
    pub stream: u64,
    pub end_s: f64,
    pub end_at: Timestamp,
}

/// One message: the stream before may have ended, and a window may have come.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    pub ended: Option<StreamEnd>,
    pub slice: Option<TimedSlice>,
}

/// The sending end of one source.
#[derive(Clone)]
pub struct Lane {
    sender: Sender<Delivery>,
    /// The same queue's other end, to take out what is too old; `None`: wait for room instead.
    displaced: Option<Receiver<Delivery>>,
}

impl Lane {
    /// A lane and the end that the classification reads.
    pub fn new(lossless: bool) -> (Self, Receiver<Delivery>) {
        let (sender, receiver) = bounded(WAITING_MAX);
        let displaced = (!lossless).then(|| receiver.clone());
        (Self { sender, displaced }, receiver)
    }

    /// Hands a message over. Returns how many windows were replaced for it. What is sent when the
    /// classification has ended is lost with everything else.
    pub fn send(&self, mut delivery: Delivery) -> u64 {
        let Some(displaced) = &self.displaced else {
            let _ = self.sender.send(delivery);
            return 0;
        };
        let mut dropped = 0;
        loop {
            match self.sender.try_send(delivery) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return dropped,
                Err(TrySendError::Full(refused)) => {
                    delivery = refused;
                    if let Ok(old) = displaced.try_recv() {
                        dropped += u64::from(old.slice.is_some());
                        delivery.ended = delivery.ended.or(old.ended);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(end_s: f64) -> Delivery {
        let slice =
            Slice { end_s, level_dbfs: -20.0, window_level_dbfs: -20.0, image: None, first: false };
        let end_at = Timestamp::from_nanos(0).plus_seconds(end_s);
        Delivery { ended: None, slice: Some(TimedSlice { stream: 0, slice, end_at }) }
    }

    #[test]
    fn the_newest_windows_win_and_the_end_of_a_stream_is_kept() {
        let (lane, receiver) = Lane::new(false);
        let end = StreamEnd { stream: 0, end_s: 7.0, end_at: Timestamp::from_nanos(7) };
        assert_eq!(lane.send(Delivery { ended: Some(end), slice: None }), 0);
        let dropped: u64 = (0..10).map(|n| lane.send(window(f64::from(n)))).sum();
        assert_eq!(dropped, 6);
        let received: Vec<Delivery> = receiver.try_iter().collect();
        let ends: Vec<f64> =
            received.iter().map(|d| d.slice.as_ref().unwrap().slice.end_s).collect();
        assert_eq!(ends, [6.0, 7.0, 8.0, 9.0]);
        assert_eq!(received.iter().filter(|d| d.ended == Some(end)).count(), 1);
    }

    #[test]
    fn a_lossless_lane_waits() {
        let (lane, receiver) = Lane::new(true);
        let reader = std::thread::spawn(move || receiver.iter().count());
        for n in 0..100 {
            assert_eq!(lane.send(window(f64::from(n))), 0);
        }
        drop(lane);
        assert_eq!(reader.join().unwrap(), 100);
    }
}
