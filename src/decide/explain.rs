//! Why each class did, or did not, become an event: the windows of a stretch of time go through the
//! tracker once more, and what happened to each class on the way is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::{ClassRule, Rules};
use super::settings::never;
use super::tracker::{Change, Heard, Tracker, Wait};

/// What became of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub class: Arc<str>,
    /// False: the rules do not report this class at all, and only its best score is known.
    pub reported: bool,
    /// Events that began in the stretch.
    pub events: u32,
    /// The best score, 0 to 1, and the number of its window, from 0.
    pub best: f32,
    pub best_window: usize,
    /// The threshold for an event to begin.
    pub on: f32,
    /// The most hits there were within `of` windows, and how many it takes.
    pub hits_best: u32,
    pub hits: u32,
    pub of: u32,
    /// The score at which one window is enough; 1: none is.
    #[serde(default = "never")]
    pub at_once: f32,
    /// Windows that reached the threshold ...
    pub over: u32,
    /// ... of which so many were too quiet to count,
    pub quiet: u32,
    /// so many did not count because another class scored higher,
    pub suppressed: BTreeMap<Arc<str>, u32>,
    /// so many waited for the sound to be long enough,
    pub too_short: u32,
    /// and so many came too soon after the last event.
    pub resting: u32,
    /// All this in words.
    pub why: String,
}

/// Takes windows and gives verdicts.
pub struct Explainer {
    rules: Rules,
    tracker: Tracker,
    counted: usize,
    classes: Vec<Account>,
}

#[derive(Debug, Clone, Default)]
struct Account {
    best: f32,
    best_window: usize,
    over: u32,
    quiet: u32,
    suppressed: BTreeMap<usize, u32>,
    too_short: u32,
    resting: u32,
    events: u32,
    hits_best: u32,
}

impl Explainer {
    /// Nothing heard yet, under these rules, of so many classes.
    pub fn new(rules: Rules, classes: usize) -> Self {
        let tracker = Tracker::new(rules.clone());
        let classes = vec![Account::default(); classes];
        Self { rules, tracker, counted: 0, classes }
    }

    /// The stream has ended at `end_s`; the next one begins `later_s` seconds after this one began.
    pub fn begin_stream(&mut self, end_s: f64, later_s: f64) {
        self.tracker.close(end_s);
        self.tracker.begin_stream(later_s);
    }

    /// Takes the next window of a source; what came before the stretch in question is not
    /// `counted`, but it matters for rests and rows of hits.
    pub fn step(&mut self, heard: Heard<'_>, counted: bool) {
        let changes = self.tracker.step(heard);
        if !counted {
            return;
        }
        let loud = heard.level_dbfs >= self.rules.min_level_dbfs;
        let score_of = |class: usize| heard.scores.get(class).copied().unwrap_or(0.0);
        for (class, account) in self.classes.iter_mut().enumerate() {
            let score = score_of(class);
            if score > account.best {
                (account.best, account.best_window) = (score, self.counted);
            }
            if let Some(Some(rule)) = self.rules.by_class.get(class) {
                account.watch(rule, score, loud, &score_of);
            }
            let waits = self.tracker.waits(class);
            account.resting += u32::from(waits == Some(Wait::Resting));
            account.too_short += u32::from(waits == Some(Wait::TooShort));
            account.hits_best = account.hits_best.max(self.tracker.hits(class));
        }
        self.note(&changes);
        self.counted += 1;
    }

    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Start(sound) = change else { continue };
            if let Some(account) = self.classes.get_mut(sound.class) {
                account.events += 1;
            }
        }
    }

    /// The windows that were counted.
    pub fn windows(&self) -> usize {
        self.counted
    }

    /// What became of each class, the most likely first.
    pub fn verdicts(&self, names: &[Arc<str>]) -> Vec<Verdict> {
        let pairs = names.iter().zip(&self.classes).enumerate();
        let mut verdicts: Vec<Verdict> = pairs
            .map(|(class, (name, account))| {
                let rule = self.rules.by_class.get(class).and_then(Option::as_ref);
                account.verdict(name, rule, names, self.rules.min_level_dbfs)
            })
            .collect();
        verdicts.sort_by(|a, b| {
            (b.events, b.best).partial_cmp(&(a.events, a.best)).unwrap_or(std::cmp::Ordering::Equal)
        });
        verdicts
    }
}

impl Account {
    fn watch(
        &mut self,
        rule: &ClassRule,
        score: f32,
        loud: bool,
        score_of: &impl Fn(usize) -> f32,
    ) {
        let ClassRule { rule, suppressed_by } = rule;
        let over = score > 0.0 && score >= rule.on;
        let suppressor = suppressed_by.iter().copied().find(|&other| score_of(other) > score);
        let once = |is: bool| u32::from(is);
        self.over += once(over);
        self.quiet += once(over && !loud);
        if let Some(other) = suppressor.filter(|_| over && loud) {
            *self.suppressed.entry(other).or_default() += 1;
        }
    }

    fn verdict(
        &self,
        name: &Arc<str>,
        rule: Option<&ClassRule>,
        names: &[Arc<str>],
        min_level_dbfs: f32,
    ) -> Verdict {
        let named = |(class, count): (&usize, &u32)| Some((Arc::clone(names.get(*class)?), *count));
        let (on, hits, of) =
            rule.map_or((0.0, 0, 0), |rule| (rule.rule.on, rule.rule.hits, rule.rule.of));
        let at_once = rule.map_or(never(), |rule| rule.rule.at_once);
        let mut verdict = Verdict {
            class: Arc::clone(name),
            reported: rule.is_some(),
            events: self.events,
            best: self.best,
            best_window: self.best_window,
            on,
            hits_best: self.hits_best,
            hits,
            of,
            at_once,
            over: self.over,
            quiet: self.quiet,
            suppressed: self.suppressed.iter().filter_map(named).collect(),
            too_short: self.too_short,
            resting: self.resting,
            why: String::new(),
        };
        verdict.why = verdict.words(rule, min_level_dbfs);
        verdict
    }
}

impl Verdict {
    fn words(&self, rule: Option<&ClassRule>, min_level_dbfs: f32) -> String {
        let Some(ClassRule { rule, .. }) = rule else {
            return "is not reported: name it in detection.classes".to_owned();
        };
        let mut parts = Vec::new();
        if self.over == 0 {
            parts.push(format!("never reached its threshold of {:.2}", self.on));
        } else if self.events + self.too_short + self.resting == 0 && self.hits_best < self.hits {
            let (best, hits, of) = (self.hits_best, self.hits, self.of);
            let or_one = match rule.at_once {
                at_once if at_once < 1.0 => format!(", or one at {at_once:.2}"),
                _ => String::new(),
            };
            parts.push(format!("{best} good windows of {of} at best, and it takes {hits}{or_one}"));
        }
        let windows = |count: u32| {
            if count == 1 { "1 window".to_owned() } else { format!("{count} windows") }
        };
        if self.quiet > 0 {
            let count = windows(self.quiet);
            parts.push(format!("{count} did not count: quieter than {min_level_dbfs} dBFS"));
        }
        for (class, &count) in &self.suppressed {
            parts.push(format!("{} did not count: {class} scored higher", windows(count)));
        }
        if self.too_short > 0 {
            let least = rule.min_duration_s;
            parts.push(format!("{} came before it was {least} s long", windows(self.too_short)));
        }
        if self.resting > 0 {
            let rest = rule.cooldown_s;
            parts.push(format!(
                "{} came within {rest} s after the last event",
                windows(self.resting)
            ));
        }
        if self.events > 0 {
            let events = self.events;
            parts.insert(
                0,
                if events == 1 { "1 event".to_owned() } else { format!("{events} events") },
            );
        } else if parts.is_empty() {
            parts.push("was on already".to_owned());
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Rule;
    use super::*;

    fn rules(change: impl Fn(&mut Rule), suppressed_by: Vec<usize>) -> Rules {
        let mut rule = Rule::example();
        change(&mut rule);
        let by_class = vec![Some(ClassRule { rule, suppressed_by }), None];
        Rules { min_level_dbfs: -60.0, by_class }
    }

    /// One window a second of a class at these scores, another class at 0.7, all this loud.
    fn verdict(rules: Rules, scores: &[f32], level_dbfs: f32) -> Verdict {
        let mut explainer = Explainer::new(rules, 2);
        for (n, &score) in scores.iter().enumerate() {
            let end_s = 5.0 + n as f64;
            let scores = &[score, 0.7];
            let heard = Heard { start_s: end_s - 5.0, end_s, scores, level_dbfs, first: n == 0 };
            explainer.step(heard, true);
        }
        let names = ["dog".into(), "rain".into()];
        let verdicts = explainer.verdicts(&names);
        verdicts.into_iter().find(|verdict| &*verdict.class == "dog").unwrap()
    }

    #[test]
    fn each_reason_is_named() {
        let plain = || rules(|_| {}, Vec::new());
        let found = verdict(plain(), &[0.1, 0.5, 0.2], -20.0);
        assert_eq!((found.best, found.best_window, found.over), (0.5, 1, 0));
        assert_eq!(found.why, "never reached its threshold of 0.60");
        let found = verdict(plain(), &[0.1, 0.9, 0.1, 0.1, 0.9, 0.1], -20.0);
        assert_eq!(found.why, "1 good windows of 3 at best, and it takes 2");
        let sure = || rules(|rule| rule.at_once = 0.95, Vec::new());
        let found = verdict(sure(), &[0.1, 0.9, 0.1], -20.0);
        assert_eq!(found.why, "1 good windows of 3 at best, and it takes 2, or one at 0.95");
        let found = verdict(sure(), &[0.1, 0.97, 0.1], -20.0);
        assert_eq!((found.events, found.why.as_str()), (1, "1 event"));
        let long = rules(|rule| (rule.at_once, rule.min_duration_s) = (0.95, 2.0), Vec::new());
        let found = verdict(long, &[0.1, 0.97, 0.1], -20.0);
        assert_eq!(found.why, "1 window came before it was 2 s long");
        let found = verdict(plain(), &[0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0], -20.0);
        assert_eq!((found.events, found.why.as_str()), (1, "1 event"));
        let found = verdict(plain(), &[0.9, 0.9], -70.0);
        assert_eq!((found.events, found.quiet), (0, 2));
        assert!(
            found.why.contains("2 windows did not count: quieter than -60 dBFS"),
            "{}",
            found.why
        );
        let found = verdict(rules(|_| {}, vec![1]), &[0.65, 0.65], -20.0);
        assert!(found.why.contains("2 windows did not count: rain scored higher"), "{}", found.why);
        let long = rules(|rule| rule.min_duration_s = 30.0, Vec::new());
        let found = verdict(long, &[0.9; 6], -20.0);
        assert!(found.why.contains("5 windows came before it was 30 s long"), "{}", found.why);
        let resting = rules(|rule| rule.cooldown_s = 60.0, Vec::new());
        let scores = [0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9];
        let found = verdict(resting, &scores, -20.0);
        assert_eq!(found.why, "1 event; 2 windows came within 60 s after the last event");
    }

    #[test]
    fn a_rest_goes_on_in_the_next_stream() {
        let rules = rules(|rule| rule.cooldown_s = 60.0, Vec::new());
        let verdict = |gap_s: f64| {
            let mut explainer = Explainer::new(rules.clone(), 2);
            for stream in 0..2 {
                for n in 0..3 {
                    let end_s = 5.0 + f64::from(n);
                    let (scores, level_dbfs) = (&[0.9, 0.1], -20.0);
                    let heard =
                        Heard { start_s: end_s - 5.0, end_s, scores, level_dbfs, first: n == 0 };
                    explainer.step(heard, true);
                }
                if stream == 0 {
                    explainer.begin_stream(7.0, 7.0 + gap_s);
                }
            }
            explainer.verdicts(&["dog".into(), "rain".into()]).remove(0)
        };
        let (soon, late) = (verdict(10.0), verdict(100.0));
        assert_eq!((soon.events, soon.resting), (1, 2), "{}", soon.why);
        assert_eq!((late.events, late.resting), (2, 0), "{}", late.why);
    }

    #[test]
    fn what_began_before_and_what_the_first_window_heard_count_as_in_the_tracker() {
        // An event that ends in the stretch leaves no hits behind.
        let resting = |rule: &mut Rule| (rule.hold_s, rule.cooldown_s) = (0.0, 60.0);
        let mut explainer = Explainer::new(rules(resting, Vec::new()), 2);
        for (n, score) in [0.9, 0.9, 0.0, 0.9].into_iter().enumerate() {
            let end_s = 5.0 + n as f64;
            let scores = &[score, 0.0];
            let (start_s, level_dbfs) = (end_s - 5.0, -20.0);
            explainer.step(Heard { start_s, end_s, scores, level_dbfs, first: n == 0 }, n > 1);
        }
        let found = explainer.verdicts(&["dog".into(), "rain".into()]).remove(0);
        assert_eq!((found.events, found.hits_best, found.resting), (0, 1, 0), "{}", found.why);
        // The first window may have heard it from its beginning: it is long enough at once.
        let long = rules(|rule| rule.min_duration_s = 3.0, Vec::new());
        let found = verdict(long, &[0.9; 3], -20.0);
        assert_eq!((found.events, found.too_short), (1, 0), "{}", found.why);
    }

    #[test]
    fn classes_that_are_not_reported_are_said_to_be_so() {
        let mut explainer = Explainer::new(rules(|_| {}, Vec::new()), 2);
        let heard =
            Heard { start_s: 0.0, end_s: 5.0, scores: &[0.1, 0.9], level_dbfs: -9.0, first: true };
        explainer.step(heard, false);
        assert_eq!(explainer.windows(), 0);
        explainer.step(Heard { end_s: 6.0, ..heard }, true);
        let verdicts = explainer.verdicts(&["dog".into(), "rain".into()]);
        assert_eq!(
            (&*verdicts[0].class, verdicts[0].reported, verdicts[0].best),
            ("rain", false, 0.9)
        );
        assert!(verdicts[0].why.starts_with("is not reported"));
    }
}
