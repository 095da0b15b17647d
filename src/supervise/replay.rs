//! "Would have fired": the scores of the last hour under other rules.

use std::sync::Arc;

use serde::Serialize;

use super::scores::{ScoreLog, Scored};
use crate::decide::{Change, Heard, Rules, Sound, Tracker};
use crate::signal::{SourceName, Timestamp};

/// Points of a curve; of more windows the highest of each stretch is shown.
const POINTS_MAX: usize = 1_000;

/// An event that the rules would have made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fired {
    pub source: SourceName,
    pub start: Timestamp,
    /// Absent when it would still be on.
    pub end: Option<Timestamp>,
    pub score_peak: f32,
}

/// The scores of one source over time: seconds since 1970, and 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    pub source: SourceName,
    pub points: Vec<(f64, f32)>,
}

/// The latest windows of some sources.
pub struct Replay(Vec<(SourceName, Vec<Scored>)>);

impl ScoreLog {
    /// What is remembered of all sources or one.
    pub fn replay(&self, source: Option<&str>) -> Replay {
        Replay(self.windows(source))
    }
}

impl Replay {
    /// How many windows there are, and the end of the earliest.
    pub fn extent(&self) -> (usize, Option<Timestamp>) {
        let first = |(_, windows): &(SourceName, Vec<Scored>)| Some(windows.first()?.end_at);
        (
            self.0.iter().map(|(_, windows)| windows.len()).sum(),
            self.0.iter().filter_map(first).min(),
        )
    }

    /// The events of a class that these rules would have made, oldest first.
    pub fn fired(&self, rules: &Rules, class: usize) -> Vec<Fired> {
        let mut fired: Vec<Fired> = self
            .0
            .iter()
            .flat_map(|(source, windows)| of_source(source, windows, rules, class))
            .collect();
        fired.sort_by_key(|one| one.start);
        fired
    }

    /// The scores of a class.
    pub fn curves(&self, class: usize) -> Vec<Curve> {
        let curve = |(source, windows): &(SourceName, Vec<Scored>)| {
            let stretch = windows.len().div_ceil(POINTS_MAX).max(1);
            let score = |scored: &Scored| scored.scores.get(class).copied().unwrap_or(0.0);
            let highest = |part: &[Scored]| {
                let best = part.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
                Some((best.end_at.as_nanos() as f64 / 1e9, score(best)))
            };
            let points = windows.chunks(stretch).filter_map(highest).collect();
            Curve { source: Arc::clone(source), points }
        };
        self.0.iter().map(curve).collect()
    }
}

fn of_source(source: &SourceName, windows: &[Scored], rules: &Rules, class: usize) -> Vec<Fired> {
    let mut tracker = Tracker::new(rules.clone());
    let mut fired: Vec<Fired> = Vec::new();
    let mut last: Option<&Scored> = None;
    for scored in windows {
        let mut changes = Vec::new();
        if let Some(before) = last
            && let Some(later_s) = before.next_stream_s(scored)
        {
            let closed = tracker.close(before.end_s);
            note(&mut fired, source, closed, class, before);
            tracker.begin_stream(later_s);
        }
        changes.extend(tracker.step(Heard {
            start_s: scored.start_s,
            end_s: scored.end_s,
            scores: &scored.scores,
            level_dbfs: scored.level_dbfs,
            first: scored.first,
        }));
        note(&mut fired, source, changes, class, scored);
        last = Some(scored);
    }
    for (sound, _) in tracker.open().filter(|(sound, _)| sound.class == class) {
        if let Some(open) = fired.last_mut() {
            open.score_peak = sound.score_peak;
        }
    }
    fired
}

/// Takes over what begins and ends; `at` turns positions into times.
fn note(
    fired: &mut Vec<Fired>,
    source: &SourceName,
    changes: Vec<Change>,
    class: usize,
    at: &Scored,
) {
    let time = |position_s: f64| at.end_at.plus_seconds(position_s - at.end_s);
    for change in changes {
        match change {
            Change::Start(Sound { class: found, start_s, score_peak, .. }) if found == class => {
                let (source, start) = (Arc::clone(source), time(start_s));
                fired.push(Fired { source, start, end: None, score_peak });
            }
            Change::End { sound, end_s } if sound.class == class => {
                if let Some(open) = fired.last_mut() {
                    (open.end, open.score_peak) = (Some(time(end_s)), sound.score_peak);
                }
            }
            _ => {}
        }
    }
}
