//! One source's classes through time: which sounds are on, when they began and when they ended.

use std::collections::VecDeque;

use super::rules::{ClassRule, Rules};

/// A window that the network has judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard<'a> {
    /// Beginning and end of the window in seconds since the stream began.
    pub start_s: f64,
    pub end_s: f64,
    /// One score a class, 0 to 1.
    pub scores: &'a [f32],
    /// Highest level in the window, in dBFS.
    pub level_dbfs: f32,
    /// No window came before this one: what it holds may have begun at its beginning.
    pub first: bool,
}

/// A sound that is on, or was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sound {
    /// Index of the class.
    pub class: usize,
    pub start_s: f64,
    /// Highest score so far.
    pub score_peak: f32,
    /// Mean score of the windows in which it was heard.
    pub score_mean: f32,
    /// Highest level of those windows in dBFS.
    pub level_dbfs: f32,
}

/// What a window changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    Start(Sound),
    End { sound: Sound, end_s: f64 },
}

/// Why a sound that has its hits is not said to be on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For its minimum duration.
    TooShort,
    /// For the cooldown of the one before.
    Resting,
}

/// The state of every class of one source. Every `Start` is followed by exactly one `End` of the
/// same class before the next `Start` of that class, if `close` is called at the end.
#[derive(Debug, Clone)]
pub struct Tracker {
    rules: Rules,
    classes: Vec<Option<Class>>,
}

#[derive(Debug, Clone)]
struct Class {
    rule: ClassRule,
    /// The latest windows, newest last; nothing for those that were no hits.
    history: VecDeque<Option<Hit>>,
    /// Totals over those hits, and over all since `confirmed_s`.
    candidate: Tally,
    /// Where a sound began that has its hits, if it waits.
    confirmed_s: Option<f64>,
    /// What for, if the latest window was a hit of it.
    waits: Option<Wait>,
    /// Hits among the latest windows when the last one came; none while the class was on by then.
    hits: u32,
    open: Option<Open>,
    /// When the last event of this class ended.
    closed_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Hit {
    /// Where the sound is supposed to have begun.
    onset_s: f64,
    score: f32,
    level_dbfs: f32,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    start_s: f64,
    tally: Tally,
    /// End of the last window in which it was heard, and when that sound probably ended.
    heard_s: f64,
    sound_end_s: f64,
    /// The last window heard it.
    still_on: bool,
}

#[derive(Debug, Clone, Copy)]
struct Tally {
    peak: f32,
    sum: f64,
    windows: u32,
    level_dbfs: f32,
}

impl Tally {
    const NONE: Self = Self { peak: 0.0, sum: 0.0, windows: 0, level_dbfs: f32::NEG_INFINITY };

    fn of<'a>(hits: impl Iterator<Item = &'a Hit>) -> Self {
        let mut tally = Self::NONE;
        hits.for_each(|hit| tally.add(hit.score, hit.level_dbfs));
        tally
    }

    fn add(&mut self, score: f32, level_dbfs: f32) {
        self.peak = self.peak.max(score);
        self.sum += f64::from(score);
        self.windows += 1;
        self.level_dbfs = self.level_dbfs.max(level_dbfs);
    }

    fn sound(&self, class: usize, start_s: f64) -> Sound {
        let score_mean = (self.sum / f64::from(self.windows.max(1))) as f32;
        let (score_peak, level_dbfs) = (self.peak, self.level_dbfs);
        Sound { class, start_s, score_peak, score_mean, level_dbfs }
    }
}

impl Tracker {
    /// Nothing heard yet.
    pub fn new(rules: Rules) -> Self {
        let class = |rule: &ClassRule| Class {
            rule: rule.clone(),
            history: VecDeque::with_capacity(rule.rule.of as usize),
            candidate: Tally::NONE,
            confirmed_s: None,
            waits: None,
            hits: 0,
            open: None,
            closed_s: f64::NEG_INFINITY,
        };
        let classes = rules.by_class.iter().map(|rule| rule.as_ref().map(class)).collect();
        Self { rules, classes }
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes the next window; windows come in the order of their ends.
    pub fn step(&mut self, heard: Heard<'_>) -> Vec<Change> {
        let loud = heard.level_dbfs >= self.rules.min_level_dbfs;
        let score_of = |class: usize| match heard.scores.get(class) {
            Some(&score) if loud && score.is_finite() => score,
            _ => 0.0,
        };
        let mut changes = Vec::new();
        for (index, class) in self.classes.iter_mut().enumerate() {
            let Some(class) = class else { continue };
            let score = score_of(index);
            let suppressed = class.rule.suppressed_by.iter().any(|&other| score_of(other) > score);
            let change = match class.open {
                Some(open) => class.go_on(index, open, score, &heard),
                None => {
                    let score = if suppressed { 0.0 } else { score };
                    class.watch(index, score, &heard)
                }
            };
            changes.extend(change);
        }
        changes
    }

    /// Every sound that is on, and how far it was heard to last.
    pub fn open(&self) -> impl Iterator<Item = (Sound, f64)> {
        self.classes.iter().enumerate().filter_map(|(index, class)| {
            let open = class.as_ref()?.open?;
            let heard_s = if open.still_on { open.heard_s } else { open.sound_end_s };
            Some((open.tally.sound(index, open.start_s), heard_s))
        })
    }

    /// What a sound waits for that the latest window heard.
    pub fn waits(&self, class: usize) -> Option<Wait> {
        self.classes.get(class)?.as_ref()?.waits
    }

    /// How many of the latest windows were hits, when the last one came; none while the sound was on
    /// before it.
    pub fn hits(&self, class: usize) -> u32 {
        self.classes.get(class).and_then(Option::as_ref).map_or(0, |class| class.hits)
    }

    /// Ends every sound that is on: the source was lost, switched off, or ended, at `end_s`.
    pub fn close(&mut self, end_s: f64) -> Vec<Change> {
        let mut changes = Vec::new();
        for (index, class) in self.classes.iter_mut().enumerate() {
            let Some(class) = class else { continue };
            class.history.clear();
            class.candidate = Tally::NONE;
            class.confirmed_s = None;
            (class.waits, class.hits) = (None, 0);
            if let Some(open) = class.open.take() {
                let end_s = if open.still_on { end_s } else { open.sound_end_s };
                changes.push(class.end(index, open, end_s));
            }
        }
        changes
    }

    /// What comes next is another stream, whose beginning lies `later_s` seconds after that of the
    /// one before (which was closed): only the cooldowns go on.
    pub fn begin_stream(&mut self, later_s: f64) {
        let mut fresh = Self::new(self.rules.clone());
        for (new, old) in fresh.classes.iter_mut().zip(&self.classes) {
            if let (Some(new), Some(old)) = (new, old) {
                new.closed_s = old.closed_s - later_s;
            }
        }
        *self = fresh;
    }

    /// Puts new rules in force. Sounds that are on stay on under the new rules; those of classes
    /// that are no longer reported end at `now_s`.
    pub fn set_rules(&mut self, rules: Rules, now_s: f64) -> Vec<Change> {
        let mut fresh = Self::new(rules);
        let mut changes = Vec::new();
        let pairs = fresh.classes.iter_mut().zip(self.classes.iter_mut());
        for (index, (new, old)) in pairs.enumerate() {
            let Some(old) = old else { continue };
            match new {
                Some(new) => {
                    new.open = old.open;
                    new.closed_s = old.closed_s;
                }
                None => {
                    let open = old.open.take();
                    changes.extend(open.map(|open| old.end(index, open, now_s)));
                }
            }
        }
        *self = fresh;
        changes
    }
}

impl Class {
    /// The class is off: count hits.
    fn watch(&mut self, index: usize, score: f32, heard: &Heard<'_>) -> Option<Change> {
        let rule = &self.rule.rule;
        let evidence_s = f64::from(rule.evidence_s);
        let onset_s = if heard.first { heard.start_s } else { heard.end_s - evidence_s };
        let hit = score > 0.0 && score >= rule.on;
        let level_dbfs = heard.level_dbfs;
        self.history.push_back(hit.then_some(Hit { onset_s, score, level_dbfs }));
        while self.history.len() > rule.of as usize {
            self.history.pop_front();
        }
        let hits = || self.history.iter().flatten();
        if self.confirmed_s.is_none() {
            self.candidate = Tally::of(hits());
        } else if hit {
            self.candidate.add(score, level_dbfs);
        }
        self.waits = None;
        self.hits = hits().count() as u32;
        let is_sure = hit && rule.is_sure(score);
        if self.hits < rule.hits && !is_sure {
            self.confirmed_s = None;
            return None;
        }
        let first_onset_s = hits().next()?.onset_s;
        let start_s = *self.confirmed_s.get_or_insert(first_onset_s.max(self.closed_s).max(0.0));
        let long_enough = heard.end_s - start_s >= f64::from(rule.min_duration_s);
        let rested = heard.end_s - self.closed_s >= f64::from(rule.cooldown_s);
        if !hit {
            return None;
        }
        if !long_enough || !rested {
            self.waits = Some(if rested { Wait::TooShort } else { Wait::Resting });
            return None;
        }
        self.confirmed_s = None;
        let tally = std::mem::replace(&mut self.candidate, Tally::NONE);
        self.history.clear();
        self.open = Some(Open {
            start_s,
            tally,
            heard_s: heard.end_s,
            sound_end_s: heard.end_s,
            still_on: true,
        });
        Some(Change::Start(tally.sound(index, start_s)))
    }

    /// The class is on: go on or end.
    fn go_on(
        &mut self,
        index: usize,
        mut open: Open,
        score: f32,
        heard: &Heard<'_>,
    ) -> Option<Change> {
        self.hits = 0;
        let rule = &self.rule.rule;
        let evidence_s = f64::from(rule.evidence_s);
        if score > 0.0 && score >= rule.off {
            open.tally.add(score, heard.level_dbfs);
            open.heard_s = heard.end_s;
            // If this is the last window that hears it, this is how much of it was left.
            open.sound_end_s = heard.start_s + evidence_s;
            open.still_on = true;
            self.open = Some(open);
            return None;
        }
        open.still_on = false;
        if heard.end_s - open.heard_s <= f64::from(rule.hold_s) {
            self.open = Some(open);
            return None;
        }
        self.open = None;
        Some(self.end(index, open, open.sound_end_s))
    }

    fn end(&mut self, index: usize, open: Open, end_s: f64) -> Change {
        // The estimate must not put an end before its own start.
        let end_s = end_s.max(open.start_s);
        self.closed_s = end_s;
        Change::End { sound: open.tally.sound(index, open.start_s), end_s }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decide::{Defaults, DetectionSettings, Rule};

    const HOP_S: f64 = 0.5;
    const WINDOW_S: f64 = 5.0;

    fn tracker(rule: Rule) -> Tracker {
        let classes = ["siren".to_owned(), "rain".to_owned()];
        let defaults = Defaults {
            recommended: vec!["siren".to_owned()],
            default: rule,
            classes: Default::default(),
        };
        let settings = DetectionSettings::default();
        Tracker::new(Rules::resolve(&classes, &defaults, &settings).unwrap())
    }

    fn end_s(window: usize) -> f64 {
        WINDOW_S + HOP_S * window as f64
    }

    fn run_at(tracker: &mut Tracker, scores: &[f32], level_dbfs: f32) -> Vec<(usize, Change)> {
        let mut changes = Vec::new();
        for (window, &score) in scores.iter().enumerate() {
            let end_s = end_s(window);
            let heard = Heard {
                start_s: end_s - WINDOW_S,
                end_s,
                scores: &[score, 0.5],
                level_dbfs,
                first: window == 0,
            };
            changes.extend(tracker.step(heard).into_iter().map(|change| (window, change)));
        }
        changes
    }

    fn run(rule: Rule, scores: &[f32]) -> Vec<(usize, Change)> {
        run_at(&mut tracker(rule), scores, -20.0)
    }

    #[test]
    fn two_of_three_start_it_and_hysteresis_keeps_it() {
        let mut scores = vec![0.0, 0.7, 0.1, 0.9];
        scores.extend([0.4; 9]);
        scores.extend([0.35, 0.2, 0.1, 0.1, 0.1]);
        let changes = run(Rule::example(), &scores);
        assert_eq!(changes.len(), 2, "{changes:?}");
        let (window, Change::Start(sound)) = changes[0] else { panic!("{changes:?}") };
        assert_eq!((window, sound.class), (3, 0));
        assert_eq!(sound.start_s, end_s(1) - 1.0);
        let (window, Change::End { sound, end_s: end }) = changes[1] else { panic!("{changes:?}") };
        assert_eq!(window, 16);
        assert_eq!(end, end_s(13) - WINDOW_S + 1.0);
        assert!((sound.score_peak - 0.9).abs() < 1e-6);
        assert!((sound.score_mean - (0.7 + 0.9 + 9.0 * 0.4 + 0.35) / 12.0).abs() < 1e-6);
    }

    #[test]
    fn one_hit_is_not_enough_and_a_dip_within_the_hold_does_not_end_it() {
        assert!(run(Rule::example(), &[0.9, 0.0, 0.0, 0.9, 0.0, 0.0]).is_empty());
        let scores = [0.9, 0.9, 0.0, 0.0, 0.9, 0.0, 0.0, 0.9];
        assert_eq!(run(Rule::example(), &scores).len(), 1);
    }

    #[test]
    fn a_window_that_is_sure_is_enough() {
        let sure = Rule { at_once: 0.95, ..Rule::example() };
        let changes = run(sure.clone(), &[0.1, 0.9, 0.1, 0.1, 0.95, 0.0]);
        let (window, Change::Start(sound)) = changes[0] else { panic!("{changes:?}") };
        assert_eq!((window, sound.start_s), (4, end_s(4) - 1.0));
        assert!(run_at(&mut tracker(sure.clone()), &[0.1, 0.99], -80.0).is_empty());
        // It has to go on being sure until it is long enough.
        let long = Rule { min_duration_s: 1.2, ..sure.clone() };
        assert!(run(long.clone(), &[0.1, 0.97, 0.1, 0.1]).is_empty());
        assert_eq!(run(long, &[0.1, 0.97, 0.97])[0].0, 2);
        let resting = Rule { cooldown_s: 60.0, ..sure };
        let mut scores = vec![0.99; 2];
        scores.extend([0.0; 20]);
        scores.extend([0.99; 2]);
        assert_eq!(run(resting, &scores).len(), 2, "one event");
        // 1 is never: a score can be rounded to it.
        assert!(run(Rule::example(), &[0.1, 1.0, 0.1]).is_empty());
    }

    #[test]
    fn the_first_window_may_have_heard_it_from_its_beginning() {
        let changes = run(Rule::example(), &[0.9, 0.9]);
        let (_, Change::Start(sound)) = changes[0] else { panic!("{changes:?}") };
        assert_eq!(sound.start_s, 0.0);
    }

    #[test]
    fn quiet_windows_and_suppressed_hits_do_not_count() {
        assert!(run_at(&mut tracker(Rule::example()), &[0.9; 10], -80.0).is_empty());
        let suppressed =
            Rule { suppressed_by: vec!["rain".to_owned()], on: 0.4, ..Rule::example() };
        assert!(run(suppressed.clone(), &[0.45; 10]).is_empty());
        assert_eq!(run(suppressed, &[0.6; 10]).len(), 1);
    }

    #[test]
    fn short_sounds_wait_for_their_minimum_and_the_next_for_the_cooldown() {
        let long = Rule { min_duration_s: 3.0, ..Rule::example() };
        let changes = run(long, &[0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]);
        assert_eq!(changes[0].0, 5, "{changes:?}");
        let rested = Rule { cooldown_s: 20.0, ..Rule::example() };
        let mut scores = vec![0.9; 4];
        scores.extend([0.0; 6]);
        scores.extend([0.9; 30]);
        let changes = run(rested, &scores);
        let (_, Change::End { end_s: ended, .. }) = changes[1] else { panic!("{changes:?}") };
        let (window, Change::Start(_)) = changes[2] else { panic!("{changes:?}") };
        assert!(end_s(window) - ended >= 20.0 && end_s(window) - ended < 21.0, "{changes:?}");
    }

    #[test]
    fn an_event_is_made_of_the_windows_that_started_it_and_no_earlier_ones() {
        let scores = [0.99, 0.0, 0.0, 0.76, 0.0, 0.0, 0.76, 0.0, 0.7, 0.8];
        let changes = run(Rule { on: 0.7, ..Rule::example() }, &scores);
        let (6.., Change::Start(sound)) = changes[0] else { panic!("{changes:?}") };
        assert!(sound.score_peak < 0.9 && sound.score_mean < 0.8, "{sound:?}");
        // What waits for its minimum duration is made of all that was heard meanwhile.
        let waiting = Rule { min_duration_s: 3.0, ..Rule::example() };
        let changes = run(waiting, &[0.0, 0.7, 0.99, 0.7, 0.7, 0.7, 0.7]);
        let (5, Change::Start(sound)) = changes[0] else { panic!("{changes:?}") };
        assert_eq!(sound.score_peak, 0.99);
    }

    #[test]
    fn a_cooldown_goes_on_in_the_next_stream() {
        let rested = Rule { cooldown_s: 20.0, ..Rule::example() };
        let mut tracker = tracker(rested);
        run_at(&mut tracker, &[0.9; 4], -20.0);
        tracker.close(end_s(3));
        // The next stream begins 10 s after this one ended.
        tracker.begin_stream(end_s(3) + 10.0);
        let changes = run_at(&mut tracker, &[0.9; 30], -20.0);
        let (window, Change::Start(_)) = changes[0] else { panic!("{changes:?}") };
        assert_eq!(end_s(window), 10.0);
    }

    #[test]
    fn closing_ends_what_is_on_where_the_stream_ended() {
        let mut tracker = tracker(Rule::example());
        run_at(&mut tracker, &[0.0, 0.9, 0.9, 0.9], -20.0);
        let changes = tracker.close(end_s(3));
        let [Change::End { end_s: end, .. }] = changes[..] else { panic!("{changes:?}") };
        assert_eq!(end, end_s(3));
        assert!(tracker.close(100.0).is_empty());
    }

    #[test]
    fn new_rules_keep_what_is_on_and_end_what_is_no_longer_reported() {
        let mut tracker = tracker(Rule::example());
        run_at(&mut tracker, &[0.9; 4], -20.0);
        let rules = tracker.rules.clone();
        assert!(tracker.set_rules(rules.clone(), 8.0).is_empty());
        let mut none = rules;
        none.by_class = vec![None, None];
        let changes = tracker.set_rules(none, 8.0);
        assert!(matches!(changes[..], [Change::End { end_s: 8.0, .. }]), "{changes:?}");
    }

    proptest! {
        #[test]
        fn starts_and_ends_take_turns_and_times_never_run_backwards(
            scores in prop::collection::vec(prop_oneof![0.0_f32..1.0, Just(f32::NAN)], 0..120),
            hits in 1_u32..5,
            extra in 0_u32..4,
            hold_s in 0.0_f32..4.0,
            cooldown_s in 0.0_f32..4.0,
            min_duration_s in 0.0_f32..4.0,
            at_once in 0.6_f32..=1.0,
        ) {
            let rule = Rule { hits, of: hits + extra, at_once, hold_s, cooldown_s, min_duration_s, ..Rule::example() };
            let mut tracker = tracker(rule);
            let mut changes = run_at(&mut tracker, &scores, -20.0);
            let last = scores.len();
            changes.extend(tracker.close(end_s(last)).into_iter().map(|change| (last, change)));
            let mut on: Option<f64> = None;
            let mut ended = f64::NEG_INFINITY;
            for (_, change) in changes {
                match change {
                    Change::Start(sound) => {
                        prop_assert!(on.is_none());
                        prop_assert!(sound.start_s >= ended);
                        on = Some(sound.start_s);
                    }
                    Change::End { sound, end_s } => {
                        prop_assert_eq!(on.take(), Some(sound.start_s));
                        prop_assert!(end_s >= sound.start_s);
                        prop_assert!(sound.score_mean <= sound.score_peak + 1e-6);
                        ended = end_s;
                    }
                }
            }
            prop_assert!(on.is_none());
        }
    }
}
