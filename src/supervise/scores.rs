//! The scores of the last hour, so that it can be asked why something was, or was not, an event.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::decide::{Explainer, Heard, Rules};
use crate::signal::{SourceName, Timestamp};

/// Windows kept of one source: an hour at the default hop.
const OF_A_SOURCE_MAX: usize = 7_200;
/// Windows kept of all sources together; of 55 classes some 10 MB.
const OF_ALL_MAX: usize = 36_000;

/// A judged window.
#[derive(Debug, Clone)]
pub struct Scored {
    /// Which of the source's streams it belongs to.
    pub stream: u64,
    pub start_s: f64,
    pub end_s: f64,
    pub end_at: Timestamp,
    pub level_dbfs: f32,
    pub first: bool,
    pub scores: Vec<f32>,
}

impl Scored {
    /// Where a window of another stream comes after this one: how many seconds later than this
    /// stream that one began.
    pub fn next_stream_s(&self, next: &Self) -> Option<f64> {
        let apart = || streams_apart_s((self.end_s, self.end_at), (next.end_s, next.end_at));
        (self.stream != next.stream).then(apart)
    }
}

/// How many seconds later than one stream the next began, by a position in each and its time. A
/// clock that was set back meanwhile counts as one that stood still.
pub fn streams_apart_s(before: (f64, Timestamp), next: (f64, Timestamp)) -> f64 {
    next.1.seconds_since(before.1).max(0.0) + before.0 - next.0
}

/// The latest windows of all sources; the oldest give way.
pub struct ScoreLog {
    sources: Vec<(SourceName, Mutex<VecDeque<Scored>>)>,
    of_each_max: usize,
}

/// A stretch of time of one source, gone through again.
pub struct Explained {
    pub source: SourceName,
    pub explainer: Explainer,
    /// The ends of the windows that were counted.
    pub ends: Vec<Timestamp>,
    /// The earliest window that is still known.
    pub known_since: Option<Timestamp>,
}

impl ScoreLog {
    /// Room for these sources.
    pub fn new(names: impl Iterator<Item = SourceName>) -> Self {
        let sources: Vec<_> = names.map(|name| (name, Mutex::new(VecDeque::new()))).collect();
        let of_each_max = (OF_ALL_MAX / sources.len().max(1)).min(OF_A_SOURCE_MAX);
        Self { sources, of_each_max }
    }

    /// Remembers a window.
    pub fn push(&self, source: &SourceName, scored: Scored) {
        let Some((_, windows)) = self.sources.iter().find(|(name, _)| name == source) else {
            return;
        };
        let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        while windows.len() >= self.of_each_max {
            windows.pop_front();
        }
        windows.push_back(scored);
    }

    /// What is remembered of all sources, or of one. A copy, so that nobody waits for what is done
    /// with it.
    pub fn windows(&self, source: Option<&str>) -> Vec<(SourceName, Vec<Scored>)> {
        let wanted =
            self.sources.iter().filter(|(name, _)| source.is_none_or(|one| one == &**name));
        let copied = |(name, windows): &(SourceName, Mutex<VecDeque<Scored>>)| {
            let windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
            (name.clone(), windows.iter().cloned().collect())
        };
        wanted.map(copied).collect()
    }

    /// Goes through the windows that ended from `since` up to `until`, of all sources or one.
    pub fn explain(
        &self,
        rules: &Rules,
        source: Option<&str>,
        since: Timestamp,
        until: Timestamp,
    ) -> Vec<Explained> {
        let of_one = |(source, windows): (SourceName, Vec<Scored>)| {
            let classes = windows.first().map_or(0, |scored| scored.scores.len());
            let mut explainer = Explainer::new(rules.clone(), classes);
            let mut ends = Vec::new();
            let mut last: Option<&Scored> = None;
            for scored in &windows {
                if let Some(before) = last.replace(scored)
                    && let Some(later_s) = before.next_stream_s(scored)
                {
                    explainer.begin_stream(before.end_s, later_s);
                }
                let Scored { start_s, end_s, level_dbfs, first, scores, end_at, .. } = scored;
                let heard = Heard {
                    start_s: *start_s,
                    end_s: *end_s,
                    scores,
                    level_dbfs: *level_dbfs,
                    first: *first,
                };
                let counted = (since..=until).contains(end_at);
                explainer.step(heard, counted);
                ends.extend(counted.then_some(*end_at));
            }
            let known_since = windows.first().map(|scored| scored.end_at);
            Explained { source, explainer, ends, known_since }
        };
        self.windows(source).into_iter().map(of_one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_as_far_apart_as_their_clocks_say_and_never_less_than_they_were_long() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        // A minute into one stream it is 12:01:40; ten seconds later, five into the next.
        assert_eq!(streams_apart_s((60.0, at(100)), (5.0, at(110))), 65.0);
        assert_eq!(streams_apart_s((60.0, at(100)), (5.0, at(40))), 55.0);
    }

    #[test]
    fn the_oldest_windows_give_way_and_a_stretch_is_counted() {
        let log = ScoreLog::new((0..10).map(|n| format!("s{n}").into()));
        assert_eq!(log.of_each_max, 3_600);
        let at = |n: i64| Timestamp::from_nanos(n * 500_000_000);
        for n in 0..5_000 {
            let end_s = n as f64 / 2.0;
            let scored = Scored {
                stream: 1,
                start_s: end_s - 5.0,
                end_s,
                end_at: at(n),
                level_dbfs: -20.0,
                first: n == 0,
                scores: vec![0.1, if n == 4_000 { 0.8 } else { 0.2 }],
            };
            log.push(&"s3".into(), scored);
        }
        let rules = Rules { min_level_dbfs: -70.0, by_class: vec![None, None] };
        let explained = log.explain(&rules, Some("s3"), at(3_990), at(4_009)).remove(0);
        assert_eq!((explained.ends.len(), explained.known_since), (20, Some(at(1_400))));
        let verdict = &explained.explainer.verdicts(&["a".into(), "b".into()])[0];
        assert_eq!((&*verdict.class, verdict.best, verdict.best_window), ("b", 0.8, 10));
        assert_eq!(explained.ends[10], at(4_000));
        assert_eq!(log.explain(&rules, None, at(0), at(9)).len(), 10);
    }
}
