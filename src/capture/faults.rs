//! The one place where a source changes its state. Pure: what was seen goes in, the next state
//! comes out; clocks, streams and threads are the owner thread's business.
//!
//! ```text
//!            +-----------------------------------------+
//!            v                                         | retry due
//! Off --> Opening --> Running <--> Muted               |
//!            |           ^ \        |                  |
//!            |           |  v       v                  |
//!            |           Stalled <--+--> Lost --> BackingOff
//!            +--> Failed, Ended (also from any open state); every state --> Off
//! ```

use std::time::Duration;

use crate::signal::SourceState;

/// No sample for this long: stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(1);

/// Nothing but exact zeros for this long: muted.
pub const MUTED_AFTER: Duration = Duration::from_secs(1);

/// What the owner thread sees in one look at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A person wants silence.
    SwitchedOff,
    /// A person wants to listen.
    SwitchedOn,
    /// The attempt to open failed, and a later one may not.
    OpenFailed,
    /// The attempt to open has not come back in time.
    OpenOverdue,
    /// Opening, or what was opened, can never work as it is configured.
    Hopeless,
    /// The stream is open, and this is how its samples flow.
    Flow(Flow),
    /// The stream reported an error, or its source ended although it should not.
    Broken,
    /// The last sample of a finite source was handed over.
    Finished,
    /// The stream was put away and the wait before the next attempt has begun.
    WaitBegun,
    /// That wait is over.
    RetryDue,
}

/// How the samples of an open stream flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whether any sample has come since the stream was opened.
    pub heard: bool,
    /// Time since the last sample, or since the opening.
    pub idle: Duration,
    /// How much digital silence has come last; zero for sources that may be silent by nature.
    pub silent: Duration,
    /// How long a stall is borne before the stream is given up; for ever if `None`.
    pub patience: Option<Duration>,
}

/// The state that follows, or `None` when nothing changes. Pairs that can not happen change
/// nothing.
pub fn next(state: SourceState, seen: &Observation) -> Option<SourceState> {
    use SourceState as S;
    match (state, seen) {
        (S::Off, Observation::SwitchedOn) => Some(S::Opening),
        (S::Off, _) => None,
        (_, Observation::SwitchedOff) => Some(S::Off),
        (S::Failed | S::Ended, _) => None,
        (S::Opening | S::BackingOff, Observation::Hopeless) => Some(S::Failed),
        (S::Opening, Observation::OpenFailed | Observation::OpenOverdue) => Some(S::BackingOff),
        (S::Lost, Observation::WaitBegun) => Some(S::BackingOff),
        (S::BackingOff, Observation::RetryDue) => Some(S::Opening),
        (S::Lost | S::BackingOff, _) => None,
        (_, Observation::Hopeless) => Some(S::Failed),
        (_, Observation::Broken) => Some(S::Lost),
        (_, Observation::Finished) => Some(S::Ended),
        (_, Observation::Flow(flow)) => flowing(state, flow),
        _ => None,
    }
}

/// The state of an open stream by its flow. A stall hides everything else.
fn flowing(state: SourceState, flow: &Flow) -> Option<SourceState> {
    use SourceState as S;
    let now = if flow.idle >= STALLED_AFTER {
        let given_up = flow.patience.is_some_and(|patience| flow.idle >= patience);
        if given_up && state == S::Stalled { S::Lost } else { S::Stalled }
    } else if !flow.heard {
        S::Opening
    } else if flow.silent >= MUTED_AFTER {
        S::Muted
    } else {
        S::Running
    };
    // A stream is never un-heard again, so `Opening` here is only ever where it already was.
    (now != state && now != S::Opening).then_some(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SourceState as S;

    const STATES: [S; 9] = [
        S::Opening,
        S::Running,
        S::Muted,
        S::Stalled,
        S::Lost,
        S::BackingOff,
        S::Failed,
        S::Ended,
        S::Off,
    ];

    fn flow(heard: bool, idle_ms: u64, silent_ms: u64) -> Observation {
        Observation::Flow(Flow {
            heard,
            idle: Duration::from_millis(idle_ms),
            silent: Duration::from_millis(silent_ms),
            patience: Some(Duration::from_secs(10)),
        })
    }

    /// One row per observation: what follows from each of `STATES`, in their order. `.` is
    /// nothing.
    #[test]
    fn every_pair_of_state_and_observation() {
        let table: &[(Observation, &str)] = &[
            // O opening  R running  M muted  S stalled  L lost  B backing off  F failed  E ended
            //                               ORMSLBFEO <- from (last: off)
            (Observation::SwitchedOff, "oooooooo."),
            (Observation::SwitchedOn, "........O"),
            (Observation::OpenFailed, "B........"),
            (Observation::OpenOverdue, "B........"),
            (Observation::Hopeless, "FFFF.F..."),
            (Observation::Broken, "LLLL....."),
            (Observation::Finished, "EEEE....."),
            (Observation::WaitBegun, "....B...."),
            (Observation::RetryDue, ".....O..."),
            (flow(true, 0, 0), "R.RR....."),
            (flow(true, 999, 999), "R.RR....."),
            (flow(true, 0, 1_000), "MM.M....."),
            (flow(true, 1_000, 0), "SSS......"),
            (flow(true, 1_000, 5_000), "SSS......"),
            (flow(true, 10_000, 0), "SSSL....."),
            (flow(false, 500, 0), "........."),
            (flow(false, 1_000, 0), "SSS......"),
            (flow(false, 10_000, 0), "SSSL....."),
        ];
        for (seen, row) in table {
            for (state, follows) in STATES.iter().zip(row.chars()) {
                let expected = match follows {
                    'O' => Some(S::Opening),
                    'R' => Some(S::Running),
                    'M' => Some(S::Muted),
                    'S' => Some(S::Stalled),
                    'L' => Some(S::Lost),
                    'B' => Some(S::BackingOff),
                    'F' => Some(S::Failed),
                    'E' => Some(S::Ended),
                    'o' => Some(S::Off),
                    _ => None,
                };
                assert_eq!(next(*state, seen), expected, "{state:?} seeing {seen:?}");
            }
        }
    }

    #[test]
    fn without_patience_limit_a_stall_lasts_until_samples_come() {
        let mut seen = Flow {
            heard: true,
            idle: Duration::from_secs(86_400),
            silent: Duration::ZERO,
            patience: None,
        };
        assert_eq!(next(S::Stalled, &Observation::Flow(seen)), None);
        seen.idle = Duration::ZERO;
        assert_eq!(next(S::Stalled, &Observation::Flow(seen)), Some(S::Running));
    }

    #[test]
    fn no_transition_leads_to_itself() {
        let every = [
            Observation::SwitchedOff,
            Observation::SwitchedOn,
            Observation::OpenFailed,
            Observation::OpenOverdue,
            Observation::Hopeless,
            Observation::Broken,
            Observation::Finished,
            Observation::WaitBegun,
            Observation::RetryDue,
            flow(true, 0, 0),
            flow(true, 0, 2_000),
            flow(true, 2_000, 0),
            flow(true, 20_000, 0),
            flow(false, 0, 0),
        ];
        for state in STATES {
            for seen in &every {
                assert_ne!(next(state, seen), Some(state), "{state:?} seeing {seen:?}");
            }
        }
    }
}
