//! The clock of one stream: its sample counter, anchored to the wall clock. Pure.

use crate::signal::Timestamp;

/// Sooner than this, a difference is taken for the jitter of buffers and threads.
const JUMP_S: f64 = 1.0;
/// Part of a small difference that is taken over with each observation: follows a sound card's
/// drift (parts per million) and irons out jitter.
const FOLLOW: f64 = 0.01;

/// Turns seconds of a stream into times. A sound card's clock and the system's drift apart and
/// the system's may be set; the anchor follows the first slowly and the second at once.
#[derive(Debug, Clone)]
pub struct StreamClock {
    origin: Timestamp,
    follows: bool,
}

impl StreamClock {
    /// A stream whose first frame was captured at `origin`. One that does not follow the wall
    /// clock (a file read as fast as possible) keeps that origin for good.
    pub fn new(origin: Timestamp, follows: bool) -> Self {
        Self { origin, follows }
    }

    /// Says that `stream_s` seconds of the stream had been captured by `now`.
    pub fn observe(&mut self, stream_s: f64, now: Timestamp) {
        if !self.follows {
            return;
        }
        let difference_s = now.seconds_since(self.at(stream_s));
        let step_s = if difference_s.abs() > JUMP_S { difference_s } else { difference_s * FOLLOW };
        self.origin = self.origin.plus_seconds(step_s);
    }

    /// The time at `stream_s` seconds of the stream.
    pub fn at(&self, stream_s: f64) -> Timestamp {
        self.origin.plus_seconds(stream_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: f64) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000).plus_seconds(seconds)
    }

    #[test]
    fn a_drifting_sound_card_stays_within_a_tenth_of_a_second_for_a_day() {
        let mut clock = StreamClock::new(time(0.0), true);
        for second in 0..86_400 {
            let wall = f64::from(second);
            let stream = wall * (1.0 + 100e-6);
            clock.observe(stream, time(wall));
            assert!(clock.at(stream).seconds_since(time(wall)).abs() < 0.1);
        }
    }

    #[test]
    fn jitter_moves_it_little_and_a_set_clock_at_once() {
        let mut clock = StreamClock::new(time(0.0), true);
        clock.observe(10.0, time(10.2));
        assert!(clock.at(10.0).seconds_since(time(10.0)).abs() < 0.01);
        clock.observe(11.0, time(3_611.0));
        assert!(clock.at(11.0).seconds_since(time(3_611.0)).abs() < 0.01);
        clock.observe(12.0, time(12.0));
        assert!(clock.at(12.0).seconds_since(time(12.0)).abs() < 0.01);
    }

    #[test]
    fn a_file_read_fast_keeps_its_own_time() {
        let mut clock = StreamClock::new(time(0.0), false);
        clock.observe(3_600.0, time(1.0));
        assert_eq!(clock.at(3_600.0), time(3_600.0));
    }
}
