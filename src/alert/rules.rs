//! From events and levels to notices. Pure: both clocks come with every call, and nothing is sent here.
//!
//! A sound is on from its start until its end is told. While it is on, each alert that it concerns asks
//! again and again: is it good and long enough, is this an hour for it, were there enough of them, may I
//! speak again? What is withheld for the hour or for the rest after a notice is told later, if it is
//! still on then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::notice::{LOUD, Notice};
use super::settings::{Alert, AlertSettings, Trigger};
use crate::signal::{Event, EventId, Phase, SourceName, Timestamp};

/// Sounds that are on at the same time, for one alert. There can't be more than one of a class and a
/// source; beyond it the oldest are forgotten.
const SOUNDS_MAX: usize = 4_096;
/// A level that drops for no longer than this is still one sound, in seconds.
const DIP_S: f64 = 1.0;
/// A source whose level was not told for so long is not heard any more, in seconds.
const SILENT_S: f64 = 3.0;

/// The present time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// By the wall clock, for hours and days. It may be set.
    pub clock: Timestamp,
    /// In seconds from any beginning, for everything that takes time. It only goes on.
    pub steady_s: f64,
}

/// What one alert has done so far. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Notices, those of the second stage among them.
    pub notices: u64,
    /// Notices that were held back while it rested.
    pub held_back: u64,
    /// Sounds that it would have told at another hour.
    pub out_of_hours: u64,
    pub last_notice: Option<Timestamp>,
}

/// A notice, and the alert whose actions tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressed {
    /// Its place among the alerts.
    pub to: usize,
    pub notice: Notice,
}

/// All alerts at work.
#[derive(Debug)]
pub struct Engine {
    settings: Arc<AlertSettings>,
    /// One an alert, in the settings' order.
    watches: Vec<Watch>,
}

/// The memory of one alert.
#[derive(Debug, Default)]
struct Watch {
    tally: Tally,
    /// Held back since the last notice.
    held_back: u64,
    rests_until_s: Option<f64>,
    /// Starts of sounds that count towards the next notice, by the steady clock; fewer than it takes.
    starts_s: VecDeque<f64>,
    sounds: BTreeMap<Key, Sound>,
}

/// What a sound is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Event(EventId),
    Level(SourceName),
}

#[derive(Debug)]
struct Sound {
    source: SourceName,
    class: Arc<str>,
    id: Option<EventId>,
    score: Option<f32>,
    level_dbfs: f32,
    start: Timestamp,
    end: Option<Timestamp>,
    /// When it was first told of, and how old it was then, in seconds.
    told_s: f64,
    age_then_s: f64,
    /// How long it was certainly on, in seconds.
    heard_s: f64,
    /// When a level was last over the threshold.
    loud_s: f64,
    standing: Standing,
}

/// How far an alert has come with a sound.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    /// Not long or good enough yet, or not at this hour.
    Waiting {
        /// It would have been told at another hour.
        is_untimely: bool,
    },
    /// It counts, but it takes more of them.
    Counted,
    /// The alert rests.
    HeldBack,
    /// Told, in a notice with such a count, then.
    Told { at_s: f64, count: usize },
    /// There is nothing more to tell of it.
    Done,
}

impl Engine {
    /// Nothing heard yet.
    pub fn new(settings: Arc<AlertSettings>) -> Self {
        let watches = settings.alerts.iter().map(|_| Watch::default()).collect();
        Self { settings, watches }
    }

    /// Other rules. An alert keeps its counters and its rest by its name; one that has not changed
    /// at all goes on as if nothing had happened.
    pub fn reload(&mut self, settings: Arc<AlertSettings>) {
        let names = self.settings.alerts.iter().cloned();
        let mut old: BTreeMap<Arc<str>, (Alert, Watch)> = names
            .zip(std::mem::take(&mut self.watches))
            .map(|(alert, watch)| (Arc::clone(&alert.name), (alert, watch)))
            .collect();
        let kept = settings.alerts.iter().map(|alert| match old.remove(&alert.name) {
            Some((before, watch)) if before == *alert => watch,
            Some((_, Watch { tally, held_back, rests_until_s, .. })) => {
                Watch { tally, held_back, rests_until_s, ..Watch::default() }
            }
            None => Watch::default(),
        });
        self.watches = kept.collect();
        self.settings = settings;
    }

    /// What each alert has done so far, in the settings' order.
    pub fn tallies(&self) -> Vec<Tally> {
        self.watches.iter().map(|watch| watch.tally.clone()).collect()
    }

    /// Whether any alert goes by the level.
    pub fn minds_levels(&self) -> bool {
        self.settings.alerts.iter().any(|alert| matches!(alert.trigger, Trigger::Level { .. }))
    }

    /// Takes in a start, an update or an end.
    pub fn event(&mut self, event: &Event, now: Now) -> Vec<Addressed> {
        let mut notices = Vec::new();
        let settings = Arc::clone(&self.settings);
        for (alert, watch) in settings.alerts.iter().zip(&mut self.watches) {
            if alert.concerns(&event.class, &event.source) {
                watch.note(event, now);
                let key = Key::Event(event.id);
                notices.extend(watch.judge(alert, &settings, &key, now));
                if event.phase == Phase::End {
                    watch.forget(&key);
                }
            }
        }
        notices
    }

    /// Takes in the level of a source in dBFS.
    pub fn level(&mut self, source: &SourceName, dbfs: f32, now: Now) -> Vec<Addressed> {
        let mut notices = Vec::new();
        let settings = Arc::clone(&self.settings);
        for (alert, watch) in settings.alerts.iter().zip(&mut self.watches) {
            let Trigger::Level { over_dbfs } = alert.trigger else { continue };
            if alert.hears(source) {
                watch.note_level(source, dbfs, dbfs > over_dbfs, now);
                notices.extend(watch.judge(alert, &settings, &Key::Level(Arc::clone(source)), now));
            }
        }
        notices
    }

    /// Looks at what is on, as often as the caller likes.
    pub fn tick(&mut self, now: Now) -> Vec<Addressed> {
        let mut notices = Vec::new();
        let settings = Arc::clone(&self.settings);
        for (alert, watch) in settings.alerts.iter().zip(&mut self.watches) {
            watch.drop_silent(now);
            let keys: Vec<Key> = watch.sounds.keys().cloned().collect();
            for key in &keys {
                notices.extend(watch.judge(alert, &settings, key, now));
            }
        }
        notices
    }
}

impl Alert {
    fn hears(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }

    fn concerns(&self, class: &str, source: &str) -> bool {
        let Trigger::Sound { classes, .. } = &self.trigger else { return false };
        let is_meant = classes.is_empty() || classes.iter().any(|name| name == class);
        is_meant && self.hears(source)
    }

    fn min_score(&self) -> f32 {
        match self.trigger {
            Trigger::Sound { min_score, .. } => min_score,
            Trigger::Level { .. } | Trigger::Escalation => 0.0,
        }
    }

    /// Whether this is an hour for it.
    fn may_act(&self, settings: &AlertSettings, at: Timestamp) -> bool {
        let is_in = |hours: &super::settings::Hours| hours.contain(at, &settings.zone);
        let is_quiet = settings.quiet_hours.as_ref().is_some_and(is_in);
        let is_scheduled = self.schedule.is_empty() || self.schedule.iter().any(is_in);
        is_scheduled && (self.in_quiet_hours || !is_quiet)
    }
}

impl Watch {
    fn note(&mut self, event: &Event, now: Now) {
        let key = Key::Event(event.id);
        if event.phase == Phase::Start && !self.sounds.contains_key(&key) {
            // There is one of a class and a source at a time; the end of another one was lost.
            self.sounds.retain(|_, on| on.source != event.source || on.class != event.class);
            if self.sounds.len() >= SOUNDS_MAX {
                self.sounds.pop_first();
            }
            let age_then_s = now.clock.seconds_since(event.start).max(0.0);
            self.sounds.insert(key.clone(), Sound::new(event, now, age_then_s));
        }
        if let Some(sound) = self.sounds.get_mut(&key) {
            sound.score = Some(event.score_peak);
            sound.level_dbfs = event.level_dbfs;
            let until = event.end.unwrap_or(event.start);
            sound.heard_s = sound.heard_s.max(until.seconds_since(event.start));
            sound.end = event.end.filter(|_| event.phase == Phase::End);
        }
    }

    fn note_level(&mut self, source: &SourceName, dbfs: f32, is_loud: bool, now: Now) {
        let key = Key::Level(Arc::clone(source));
        if is_loud {
            let sound = self.sounds.entry(key).or_insert_with(|| Sound::loud(source, dbfs, now));
            sound.level_dbfs = sound.level_dbfs.max(dbfs);
            sound.loud_s = now.steady_s;
        } else if self.sounds.get(&key).is_some_and(|on| now.steady_s - on.loud_s > DIP_S) {
            self.forget(&key);
        }
    }

    /// Sounds that go by the level, of sources that are not heard any more.
    fn drop_silent(&mut self, now: Now) {
        let is_over = |sound: &Sound| sound.id.is_none() && now.steady_s - sound.loud_s > SILENT_S;
        let over = self.sounds.iter().filter(|(_, sound)| is_over(sound));
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Key) {
        let sound = self.sounds.remove(key);
        if sound.is_some_and(|gone| gone.standing == Standing::Waiting { is_untimely: true }) {
            self.tally.out_of_hours += 1;
        }
    }

    /// Takes one sound as far as it goes now.
    fn judge(
        &mut self,
        alert: &Alert,
        settings: &AlertSettings,
        key: &Key,
        now: Now,
    ) -> Option<Addressed> {
        let rests = self.rests_until_s.is_some_and(|until| now.steady_s < until);
        let sound = self.sounds.get_mut(key)?;
        match sound.standing {
            Standing::Waiting { .. } => {
                let is_good = sound.score.is_none_or(|score| score >= alert.min_score());
                if !is_good || sound.duration_s(now) < f64::from(alert.min_duration_s) {
                    return None;
                }
                if !alert.may_act(settings, now.clock) {
                    sound.standing = Standing::Waiting { is_untimely: true };
                    return None;
                }
                sound.standing = Standing::Counted;
                self.starts_s.push_back(now.steady_s - sound.duration_s(now));
                let newest_s = self.starts_s.iter().copied().fold(f64::MIN, f64::max);
                self.starts_s.retain(|at_s| newest_s - at_s <= f64::from(alert.within_s));
                if self.starts_s.len() < alert.count {
                    return None;
                }
                self.starts_s.clear();
                if rests {
                    sound.standing = Standing::HeldBack;
                    self.held_back += 1;
                    self.tally.held_back += 1;
                    return None;
                }
                self.tell(alert, settings, key, now)
            }
            Standing::HeldBack if sound.end.is_none() && !rests => {
                if !alert.may_act(settings, now.clock) {
                    return None;
                }
                // It is told after all.
                self.held_back = self.held_back.saturating_sub(1);
                self.tell(alert, settings, key, now)
            }
            Standing::Told { at_s, count } if sound.end.is_none() => {
                self.escalate(alert, settings, key, now, at_s, count)
            }
            Standing::HeldBack | Standing::Told { .. } | Standing::Counted | Standing::Done => None,
        }
    }

    fn tell(
        &mut self,
        alert: &Alert,
        settings: &AlertSettings,
        key: &Key,
        now: Now,
    ) -> Option<Addressed> {
        let sound = self.sounds.get_mut(key)?;
        sound.standing = match &alert.escalation {
            Some(_) => Standing::Told { at_s: now.steady_s, count: alert.count },
            None => Standing::Done,
        };
        let held_back = std::mem::take(&mut self.held_back);
        self.rests_until_s = Some(now.steady_s + f64::from(alert.cooldown_s));
        self.tally.notices += 1;
        self.tally.last_notice = Some(now.clock);
        let notice = sound.notice(alert, settings, 1, alert.count, held_back, now);
        Some(Addressed { to: settings.place(&alert.name)?, notice })
    }

    fn escalate(
        &mut self,
        alert: &Alert,
        settings: &AlertSettings,
        key: &Key,
        now: Now,
        told_s: f64,
        count: usize,
    ) -> Option<Addressed> {
        let escalation = alert.escalation.as_ref()?;
        let is_due = now.steady_s - told_s >= f64::from(escalation.after_s);
        if !is_due || !alert.may_act(settings, now.clock) {
            return None;
        }
        let sound = self.sounds.get_mut(key)?;
        sound.standing = Standing::Done;
        self.tally.notices += 1;
        self.tally.last_notice = Some(now.clock);
        let notice = sound.notice(alert, settings, 2, count, self.held_back, now);
        let to = escalation.to.as_ref().unwrap_or(&alert.name);
        Some(Addressed { to: settings.place(to)?, notice })
    }
}

impl AlertSettings {
    /// The place of an alert.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.alerts.iter().position(|alert| &*alert.name == name)
    }
}

impl Sound {
    fn new(event: &Event, now: Now, age_then_s: f64) -> Self {
        Self {
            source: Arc::clone(&event.source),
            class: Arc::clone(&event.class),
            id: Some(event.id),
            score: Some(event.score_peak),
            level_dbfs: event.level_dbfs,
            start: event.start,
            end: None,
            told_s: now.steady_s,
            age_then_s,
            heard_s: 0.0,
            loud_s: now.steady_s,
            standing: Standing::Waiting { is_untimely: false },
        }
    }

    fn loud(source: &SourceName, dbfs: f32, now: Now) -> Self {
        Self {
            source: Arc::clone(source),
            class: LOUD.into(),
            id: None,
            score: None,
            level_dbfs: dbfs,
            start: now.clock,
            end: None,
            told_s: now.steady_s,
            age_then_s: 0.0,
            heard_s: 0.0,
            loud_s: now.steady_s,
            standing: Standing::Waiting { is_untimely: false },
        }
    }

    /// How long it has been on. A level is on as long as it was last seen over the threshold.
    fn duration_s(&self, now: Now) -> f64 {
        match (self.end, self.id) {
            (Some(end), _) => end.seconds_since(self.start),
            (None, None) => self.loud_s - self.told_s,
            (None, Some(_)) => (self.age_then_s + now.steady_s - self.told_s).max(self.heard_s),
        }
    }

    fn notice(
        &self,
        alert: &Alert,
        settings: &AlertSettings,
        stage: u8,
        count: usize,
        held_back: u64,
        now: Now,
    ) -> Notice {
        Notice {
            alert: Arc::clone(&alert.name),
            stage,
            node: Arc::clone(&settings.node),
            source: Arc::clone(&self.source),
            class: Arc::clone(&self.class),
            score: self.score,
            level_dbfs: self.level_dbfs,
            start: self.start,
            end: self.end,
            duration_s: self.duration_s(now),
            count,
            held_back,
            id: self.id,
            test: false,
        }
    }
}

#[cfg(test)]
mod tests;
