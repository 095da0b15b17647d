//! Decision rules chosen by what they would have reported: every rule of a grid is tried on the
//! scores of trials. Pure.

use std::cmp::Ordering;

use super::events::{Tally, quantile};
use super::stream::Trial;
use crate::decide::{Rule, Rules};

const ON: [f32; 18] = [
    0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
    0.95,
];
/// The off-threshold, as a part of the on-threshold.
const OFF: [f32; 2] = [0.4, 0.7];
/// One window alone is not enough, unless it is very sure: what it is taken for by mistake, the next
/// one often corrects.
const HITS_OF: [(u32, u32); 6] = [(2, 2), (2, 3), (3, 3), (3, 4), (4, 5), (5, 6)];
const AT_ONCE: [f32; 4] = [0.9, 0.95, 0.98, 1.0];
const MIN_DURATION_S: [f32; 2] = [0.0, 1.0];

/// What a rule must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// On backgrounds without the sound.
    pub false_alarms_per_hour: f64,
    /// The median, from onset to report.
    pub latency_s: f64,
}

/// The rule that was chosen for a class, and what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub rule: Rule,
    /// In the soundscapes, and on the backgrounds alone.
    pub scenes: Tally,
    pub backgrounds: Tally,
}

impl Choice {
    /// Whether both limits are kept.
    pub fn keeps(&self, limits: &Limits) -> bool {
        self.within(limits) == 1.0
    }

    /// 1 within the limits; half of it at twice a limit, and so on. A single false alarm is forgiven:
    /// in the hour or two that backgrounds often last, it may as well be chance.
    fn within(&self, limits: &Limits) -> f64 {
        let part = |value: Option<f64>, limit: f64| match value {
            Some(value) if value > limit => limit / value,
            _ => 1.0,
        };
        let forgiven = self.backgrounds.false_alarms <= 1;
        let per_hour = self.backgrounds.false_alarms_per_hour().filter(|_| !forgiven);
        part(per_hour, limits.false_alarms_per_hour)
            * part(self.scenes.latency_s(0.5), limits.latency_s)
    }

    /// Events found against missed ones and false alarms between other sounds, as an F1; less of
    /// it beyond the limits, where a rule that finds nothing stays worse than any that does.
    fn worth(&self, limits: &Limits) -> f64 {
        let Tally { events, found, false_alarms, .. } = self.scenes;
        let f1 = 2.0 * found as f64 / (events + found + false_alarms).max(1) as f64;
        f1 * self.within(limits)
    }
}

/// Chooses the rule of `class`: the one that, within the limits, finds most for its false alarms
/// among other sounds. Of equals one with the middle threshold, which is farthest from where it
/// would become worse; then the one with most onsets in their place, the quickest, one without a
/// minimum duration, and the one with the highest `at_once`. What is not searched for (hold, cooldown, what suppresses it) is as in
/// `rules`. `None` for a class that these do not report.
pub fn choose(
    class: usize,
    rules: &Rules,
    scenes: &[Trial],
    backgrounds: &[Trial],
    limits: &Limits,
) -> Option<Choice> {
    let bench = Bench { class, rules, scenes, backgrounds };
    let start = &rules.by_class.get(class)?.as_ref()?.rule;
    let mut best: Vec<Choice> = Vec::new();
    for choice in grid(start).iter().flat_map(|rule| bench.tried(rule)) {
        let so_far = best.first().map_or(f64::NEG_INFINITY, |first| first.worth(limits));
        match choice.worth(limits).total_cmp(&so_far) {
            Ordering::Less => {}
            Ordering::Equal => best.push(choice),
            Ordering::Greater => best = vec![choice],
        }
    }
    let mut thresholds: Vec<f32> = best.iter().map(|choice| choice.rule.on).collect();
    thresholds.sort_by(f32::total_cmp);
    let middle = *thresholds.get(thresholds.len() / 2)?;
    let late_s = |choice: &Choice| choice.scenes.latency_s(0.5).unwrap_or(0.0);
    best.into_iter().filter(|choice| choice.rule.on == middle).max_by(|a, b| {
        let by_onsets = a.scenes.matched.cmp(&b.scenes.matched);
        let by_latency = late_s(b).total_cmp(&late_s(a));
        let by_duration = b.rule.min_duration_s.total_cmp(&a.rule.min_duration_s);
        let by_care = a.rule.at_once.total_cmp(&b.rule.at_once);
        by_onsets.then(by_latency).then(by_duration).then(by_care)
    })
}

/// The rules that are tried: without a minimum duration, which needs `evidence_s` first.
fn grid(start: &Rule) -> Vec<Rule> {
    let mut rules = Vec::new();
    for on in ON {
        for off in OFF {
            for (hits, of) in HITS_OF {
                let off = on * off;
                let sure = AT_ONCE.into_iter().filter(|at_once| *at_once > on);
                rules.extend(sure.map(|at_once| Rule {
                    on,
                    off,
                    hits,
                    of,
                    at_once,
                    ..start.clone()
                }));
            }
        }
    }
    rules
}

/// Where rules of one class are tried.
struct Bench<'a> {
    class: usize,
    rules: &'a Rules,
    scenes: &'a [Trial],
    backgrounds: &'a [Trial],
}

impl Bench<'_> {
    /// What a rule does, with each minimum duration. Its `evidence_s` is measured: the median
    /// time from an onset to the end of the first window that counted.
    fn tried(&self, rule: &Rule) -> Vec<Choice> {
        let window_s = self.scenes.first().map_or(0.0, |trial| trial.listened.window_s);
        let unplaced = Rule { evidence_s: 0.0, min_duration_s: 0.0, ..rule.clone() };
        let late_s = self.first_hits(&unplaced);
        let evidence_s = quantile(&late_s, 0.5).unwrap_or(0.0).clamp(0.0, window_s);
        // To a hundredth: more digits would promise more.
        let evidence_s = (evidence_s * 100.0).round() as f32 / 100.0;
        let choice = |min_duration_s| {
            let rule = Rule { evidence_s, min_duration_s, ..rule.clone() };
            let scenes = self.count(&rule, self.scenes);
            let backgrounds = self.count(&rule, self.backgrounds);
            Choice { rule, scenes, backgrounds }
        };
        MIN_DURATION_S.into_iter().map(choice).collect()
    }

    /// How long after each onset the first window came that counted; `rule` must place starts at
    /// its end.
    fn first_hits(&self, rule: &Rule) -> Vec<f64> {
        let mut late_s = Vec::new();
        for Trial { listened, truth, .. } in self.scenes {
            let reports = listened.reports(self.only(rule));
            for event in truth.iter().filter(|event| event.class == self.class) {
                let heard_s = event.onset_s..=event.offset_s + listened.window_s;
                let own = reports.iter().find(|report| heard_s.contains(&report.start_s));
                late_s.extend(own.map(|report| report.start_s - event.onset_s));
            }
        }
        late_s
    }

    fn count(&self, rule: &Rule, trials: &[Trial]) -> Tally {
        let mut tally = Tally::default();
        for trial in trials {
            let reports = trial.listened.reports(self.only(rule));
            trial.count(self.class, &reports, &mut tally);
        }
        tally
    }

    /// The rules, with `rule` for this class, and reporting no other.
    fn only(&self, rule: &Rule) -> Rules {
        let mut by_class = vec![None; self.rules.by_class.len()];
        let own = self.rules.by_class.get(self.class).cloned().flatten();
        if let (Some(slot), Some(mut own)) = (by_class.get_mut(self.class), own) {
            own.rule = rule.clone();
            *slot = Some(own);
        }
        Rules { min_level_dbfs: self.rules.min_level_dbfs, by_class }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::decide::{Defaults, DetectionSettings};
    use crate::evaluate::{Listened, TrueEvent, Window};

    const LIMITS: Limits = Limits { false_alarms_per_hour: 0.5, latency_s: 1.5 };
    const HOP_S: f64 = 0.5;

    fn rules() -> Rules {
        let rule = Rule {
            on: 0.5,
            off: 0.5,
            hits: 1,
            of: 1,
            at_once: 1.0,
            min_duration_s: 0.0,
            hold_s: 2.0,
            cooldown_s: 0.0,
            evidence_s: 0.0,
            suppressed_by: Vec::new(),
        };
        let recommended = vec!["siren".to_owned()];
        let defaults = Defaults { recommended, default: rule, classes: BTreeMap::new() };
        let classes = ["siren", "rain"].map(str::to_owned);
        Rules::resolve(&classes, &defaults, &DetectionSettings::default()).unwrap()
    }

    /// Ten minutes. `score` gives the siren's score by the window's end.
    fn trial(truth: Vec<TrueEvent>, score: impl Fn(f64) -> f32) -> Trial {
        let window = |n: u32| {
            let end_s = 5.0 + HOP_S * f64::from(n);
            let scores = vec![score(end_s), 0.2];
            Window { end_s, ready_s: end_s + 0.05, level_dbfs: -20.0, first: n == 0, scores }
        };
        let windows = (0..1_190).map(window).collect();
        let listened = Listened { windows, window_s: 5.0, duration_s: 600.0 };
        Trial { name: String::new(), listened, truth, unknown: vec![] }
    }

    /// A siren of 4 s every 30 s, whose score is `heard` from 0.7 s after its onset until the
    /// window has left it.
    fn scene(heard: f32) -> Trial {
        let onsets = (0..19).map(|n| 20.0 + 30.0 * f64::from(n));
        let event = |onset_s| TrueEvent { class: 0, onset_s, offset_s: onset_s + 4.0 };
        let truth: Vec<TrueEvent> = onsets.map(event).collect();
        let events = truth.clone();
        trial(truth, move |end_s| {
            let inside =
                |event: &TrueEvent| (event.onset_s + 0.7..=event.offset_s + 4.0).contains(&end_s);
            if events.iter().any(inside) { heard } else { 0.01 }
        })
    }

    #[test]
    fn the_threshold_stands_between_the_sound_and_what_is_like_it() {
        // Something like a siren now and then, for three windows.
        let alike = trial(vec![], |end_s| if end_s % 60.0 < 1.5 { 0.42 } else { 0.02 });
        let limits = Limits { latency_s: 1.6, ..LIMITS };
        let choice = choose(0, &rules(), &[scene(0.83)], &[alike], &limits).unwrap();
        assert!(choice.keeps(&limits), "{choice:?}");
        assert_eq!((choice.scenes.found, choice.scenes.false_alarms), (19, 0));
        // In the middle between what is alike and what is a siren.
        assert!((0.55..=0.7).contains(&choice.rule.on), "{choice:?}");
        assert!(choice.rule.off < choice.rule.on);
        // The first window that hears it ends 1 s after the onset.
        assert!((choice.rule.evidence_s - 1.0).abs() < 0.011, "{choice:?}");
        assert_eq!(choice.scenes.matched, 19, "starts are placed at the onsets");
    }

    #[test]
    fn more_hits_are_asked_for_where_no_threshold_helps_and_time_allows_it() {
        // As sure as a siren, but for one window only.
        let alike = trial(vec![], |end_s| if end_s % 60.0 < HOP_S { 0.9 } else { 0.02 });
        let (scenes, backgrounds) = ([scene(0.8)], [alike]);
        let patient = Limits { latency_s: 1.6, ..LIMITS };
        let choice = choose(0, &rules(), &scenes, &backgrounds, &patient).unwrap();
        assert!(choice.rule.hits > 1 && choice.keeps(&patient), "{choice:?}");
        let hurried = Limits { latency_s: 1.1, ..LIMITS };
        let choice = choose(0, &rules(), &scenes, &backgrounds, &hurried).unwrap();
        assert!(!choice.keeps(&hurried), "{choice:?}");
        // Neither a rule that hears nothing, nor one that always cries wolf.
        assert_eq!((choice.scenes.found, choice.backgrounds.false_alarms), (19, 0), "{choice:?}");
    }

    #[test]
    fn a_window_that_is_very_sure_is_enough_where_nothing_like_it_is() {
        // Something like a siren is nearly as sure, for three windows: more hits come too late.
        let alike = || trial(vec![], |end_s| if end_s % 60.0 < 1.5 { 0.8 } else { 0.02 });
        let limits = Limits { latency_s: 1.1, ..LIMITS };
        let chosen = |score| choose(0, &rules(), &[scene(score)], &[alike()], &limits).unwrap();
        let sure = chosen(0.985);
        assert!(sure.keeps(&limits), "{sure:?}");
        assert!(sure.rule.at_once < 1.0, "{sure:?}");
        assert_eq!((sure.scenes.found, sure.backgrounds.false_alarms), (19, 0), "{sure:?}");
        assert!(!chosen(0.85).keeps(&limits));
        // Where it changes nothing, none is enough.
        let clear = choose(0, &rules(), &[scene(0.7)], &[], &Limits { latency_s: 2.0, ..LIMITS });
        assert_eq!(clear.unwrap().rule.at_once, 1.0);
        assert_eq!(2 * grid(&rules().by_class[0].as_ref().unwrap().rule).len(), 1_656);
    }

    #[test]
    fn a_single_false_alarm_is_forgiven_and_more_count_in_full() {
        let kept = |false_alarms, hours: f64| {
            let rule = rules().by_class[0].clone().unwrap().rule;
            let backgrounds = Tally { false_alarms, quiet_s: 3_600.0 * hours, ..Tally::default() };
            Choice { rule, scenes: Tally::default(), backgrounds }.within(&LIMITS)
        };
        assert_eq!([kept(1, 0.2), kept(1, 7.0), kept(3, 7.0)], [1.0; 3]);
        assert_eq!([kept(2, 1.0), kept(4, 7.0)], [0.25, 0.875]);
    }

    #[test]
    fn a_class_that_is_not_reported_has_no_rule() {
        assert_eq!(choose(1, &rules(), &[scene(0.8)], &[], &LIMITS), None);
    }
}
