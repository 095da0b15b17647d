//! What the broker should be showing: turns reports into messages of the [`Outbox`], keeps the
//! ON/OFF states, and thins out levels. Pure; times are passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::signal::{Event, EventId, Phase, Report, SourceName, Timestamp};

use super::Roster;
use super::discovery::{self, Components, Gone};
use super::payload::{self, OFF, OFFLINE, ON, ONLINE, Topics};
use super::queue::{Outbox, Rank};
use super::settings::PublishSettings;

/// The last level that was published of a source.
#[derive(Debug, Clone, Copy)]
struct Shown {
    at: Instant,
    dbfs: f32,
}

/// The state of everything published.
#[derive(Debug)]
pub struct Board {
    pub topics: Topics,
    pub outbox: Outbox,
    roster: Roster,
    components: Components,
    /// Components that Home Assistant has yet to be told are gone.
    gone: Gone,
    /// Sound topics and which events are open on them: several, if the names of classes are alike,
    /// or if one of an earlier run is told late.
    sounds: BTreeMap<Arc<str>, BTreeSet<EventId>>,
    levels: BTreeMap<SourceName, Shown>,
    level_interval: Duration,
    level_deadband_db: f32,
    scores: bool,
}

impl Board {
    /// A board that shows `roster`, with nothing open.
    pub fn new(settings: &PublishSettings, roster: Roster) -> Self {
        let topics = Topics::new(
            &settings.topic_prefix,
            Arc::clone(&settings.node),
            settings.discovery_prefix.clone(),
        );
        let mut board = Self {
            topics,
            outbox: Outbox::new(settings.queue_events_max),
            roster: Roster { sources: Vec::new(), classes: Vec::new(), ..roster.clone() },
            components: Components::new(),
            gone: Gone::new(),
            sounds: BTreeMap::new(),
            levels: BTreeMap::new(),
            level_interval: settings.level_interval,
            level_deadband_db: settings.level_deadband_db,
            scores: settings.scores,
        };
        board.announce(roster);
        let available = board.topics.available();
        board.outbox.set_retained(Rank::Availability, available, ONLINE.into());
        board
    }

    /// The sources that may be commanded.
    pub fn sources(&self) -> &[SourceName] {
        &self.roster.sources
    }

    /// Takes a report. Whatever is not an event counts only for sources of the roster, so that a
    /// late report can't bring back the topics of a source that was removed.
    pub fn report(&mut self, report: Report, now: Instant) {
        match report {
            Report::Event(event) => self.event(&event, None),
            Report::Notice { topic, payload, retain } => {
                self.outbox.push_notice(topic, payload, retain);
            }
            Report::Health(health) => {
                let topic = self.topics.health();
                self.outbox.set_retained(Rank::State, topic, payload::health(&health));
            }
            Report::Status(status) if self.knows(&status.source) => {
                let topic = self.topics.status(&status.source);
                self.outbox.set_retained(Rank::State, topic, payload::status(&status));
            }
            Report::Level { source, at, dbfs } if self.knows(&source) => {
                self.level(source, at, dbfs, now);
            }
            Report::Scores { source, at, top } if self.scores && self.knows(&source) => {
                self.outbox.set_momentary(self.topics.scores(&source), payload::scores(at, &top));
            }
            Report::Status(_) | Report::Level { .. } | Report::Scores { .. } => {}
        }
    }

    /// Shows another roster: new classes begin OFF; the topics of what is gone are cleared, and
    /// Home Assistant is told to remove it.
    pub fn announce(&mut self, roster: Roster) {
        let mut sounds = BTreeMap::new();
        for source in &roster.sources {
            for class in &roster.classes {
                let topic = self.topics.sound(source, class);
                let open = self.sounds.get(&topic).cloned().unwrap_or_default();
                sounds.insert(topic, open);
            }
        }
        for topic in self.sounds.keys().filter(|topic| !sounds.contains_key(*topic)) {
            self.outbox.set_retained(Rank::State, Arc::clone(topic), Vec::new());
        }
        for source in self.roster.sources.iter().filter(|old| !roster.sources.contains(old)) {
            self.outbox.set_retained(Rank::State, self.topics.status(source), Vec::new());
            self.levels.remove(source);
        }
        self.sounds = sounds;
        self.compare_components(&roster);
        self.roster = roster;
        self.show_discovery();
        self.show_sounds();
    }

    /// Takes in a retained message that was on the broker before us. What an earlier run with
    /// other sources or classes left behind is removed.
    pub fn found(&mut self, topic: &str, payload: &[u8]) {
        if self.topics.is_retained_of_a_source(topic) {
            self.outbox.clear_unless_known(Rank::State, topic.into());
        } else if self.topics.discovery().as_deref() == Some(topic) {
            let left_behind = discovery::components_of(payload);
            self.gone.extend(discovery::gone(&left_behind, &self.components));
            if !self.gone.is_empty() {
                self.show_discovery();
            }
        }
    }

    /// Says the discovery message again, for a Home Assistant that has just started.
    pub fn repeat_discovery(&mut self) {
        if let Some(topic) = self.topics.discovery() {
            self.outbox.repeat(&topic);
        }
        self.levels.clear();
    }

    /// The connection is gone; after the next one, everything is said again.
    pub fn connection_lost(&mut self) {
        self.outbox.connection_lost();
        self.levels.clear();
    }

    /// No sound is open any more.
    pub fn close_sounds(&mut self) {
        for open in self.sounds.values_mut() {
            open.clear();
        }
        self.show_sounds();
    }

    /// The last thing to say.
    pub fn set_offline(&mut self) {
        let available = self.topics.available();
        self.outbox.set_retained(Rank::Availability, available, OFFLINE.into());
    }

    fn knows(&self, source: &SourceName) -> bool {
        self.roster.sources.contains(source)
    }

    /// Takes an event; `kept` is its number in the store. That a sound goes on is not told.
    pub fn event(&mut self, event: &Event, kept: Option<i64>) {
        let begins = match event.phase {
            Phase::Start => true,
            Phase::End => false,
            Phase::Update => return,
        };
        self.outbox.push_event(self.topics.event(&event.source), payload::event(event), kept);
        let topic = self.topics.sound(&event.source, &event.class);
        if let Some(open) = self.sounds.get_mut(&topic) {
            if begins {
                open.insert(event.id);
            } else {
                open.remove(&event.id);
            }
            let word = if open.is_empty() { OFF } else { ON };
            self.outbox.set_retained(Rank::State, topic, word.into());
        }
    }

    fn level(&mut self, source: SourceName, at: Timestamp, dbfs: f32, now: Instant) {
        if let Some(shown) = self.levels.get(&source) {
            let early = now.saturating_duration_since(shown.at) < self.level_interval;
            // Two silences differ by NaN, which is no movement.
            let moved = (dbfs - shown.dbfs).abs() >= self.level_deadband_db;
            if early || !moved {
                return;
            }
        }
        if let Some(payload) = payload::level(at, dbfs) {
            self.outbox.set_momentary(self.topics.level(&source), payload);
            self.levels.insert(source, Shown { at: now, dbfs });
        }
    }

    fn show_sounds(&mut self) {
        for (topic, open) in &self.sounds {
            let word = if open.is_empty() { OFF } else { ON };
            self.outbox.set_retained(Rank::State, Arc::clone(topic), word.into());
        }
    }

    fn compare_components(&mut self, roster: &Roster) {
        let Some(topic) = self.topics.discovery() else { return };
        let components = discovery::components(&self.topics, roster);
        if !self.outbox.has_preface(&topic) {
            self.gone.clear();
        }
        self.gone.extend(discovery::gone(&self.components, &components));
        self.gone.retain(|key, _| !components.contains_key(key));
        self.components = components;
    }

    fn show_discovery(&mut self) {
        let Some(topic) = self.topics.discovery() else { return };
        let message =
            |gone: &Gone| discovery::config(&self.topics, &self.roster, &self.components, gone);
        let config = message(&Gone::new());
        if self.gone.is_empty() {
            self.outbox.set_retained(Rank::Discovery, topic, config);
        } else {
            let removal = message(&self.gone);
            self.outbox.set_retained_after(Rank::Discovery, topic, removal, config);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::settings::Broker;
    use crate::signal::{SourceState, SourceStatus};

    fn settings() -> PublishSettings {
        PublishSettings {
            node: "attic".into(),
            topic_prefix: "hearken".to_owned(),
            broker: Broker::Off,
            discovery_prefix: Some("homeassistant".to_owned()),
            keep_alive: Duration::from_secs(30),
            level_interval: Duration::from_secs(1),
            level_deadband_db: 1.0,
            scores: false,
            queue_events_max: 100,
        }
    }

    fn roster(sources: &[&str], classes: &[&str]) -> Roster {
        Roster {
            sources: sources.iter().map(|&name| name.into()).collect(),
            classes: classes.iter().map(|&name| name.into()).collect(),
            model: "m".into(),
            version: "1",
        }
    }

    /// Of the one event of this class.
    fn event(class: &str, phase: Phase) -> Report {
        let number: u32 = class.bytes().map(u32::from).sum();
        Report::Event(Event {
            id: format!("01890000-0000-7000-8000-{number:012}").parse().unwrap(),
            phase,
            node: "attic".into(),
            source: "door".into(),
            class: class.into(),
            start: Timestamp::from_nanos(0),
            end: None,
            score_peak: 0.9,
            score_mean: 0.8,
            level_dbfs: -20.0,
            model: "m".into(),
        })
    }

    /// What a broker would have retained, and the events it would have seen, by draining all.
    fn drain(board: &mut Board) -> (BTreeMap<String, String>, Vec<String>) {
        let (mut retained, mut events) = (BTreeMap::new(), Vec::new());
        while let Some(out) = board.outbox.next_reliable() {
            let text = String::from_utf8(out.payload).expect("text");
            if out.retain {
                retained.insert(out.topic.to_string(), text);
            } else {
                events.push(text);
            }
            board.outbox.acknowledge(&out.token.expect("reliable"));
        }
        (retained, events)
    }

    #[test]
    fn a_sound_is_on_between_its_start_and_its_end() {
        let mut board = Board::new(&settings(), roster(&["door"], &["dog", "siren"]));
        let (retained, _) = drain(&mut board);
        assert_eq!(retained["hearken/attic/door/sound/dog"], "OFF");
        assert_eq!(retained["hearken/attic/available"], "online");
        let now = Instant::now();
        board.report(event("dog", Phase::Start), now);
        let (retained, events) = drain(&mut board);
        assert_eq!(retained["hearken/attic/door/sound/dog"], "ON");
        assert_eq!((retained.len(), events.len()), (1, 1));
        board.report(event("dog", Phase::End), now);
        assert_eq!(drain(&mut board).0["hearken/attic/door/sound/dog"], "OFF");
    }

    #[test]
    fn classes_that_share_a_topic_share_its_state() {
        let mut board = Board::new(&settings(), roster(&["door"], &["dog bark", "Dog-bark"]));
        drain(&mut board);
        let now = Instant::now();
        board.report(event("dog bark", Phase::Start), now);
        board.report(event("Dog-bark", Phase::Start), now);
        board.report(event("dog bark", Phase::End), now);
        assert_eq!(drain(&mut board).0["hearken/attic/door/sound/dog_bark"], "ON");
        board.close_sounds();
        assert_eq!(drain(&mut board).0["hearken/attic/door/sound/dog_bark"], "OFF");
    }

    #[test]
    fn an_earlier_event_that_is_told_late_does_not_end_the_one_that_is_on() {
        let mut board = Board::new(&settings(), roster(&["door"], &["dog"]));
        let now = Instant::now();
        board.report(event("dog", Phase::Start), now);
        for phase in [Phase::Start, Phase::End] {
            let Report::Event(mut left_behind) = event("dog", phase) else { unreachable!() };
            left_behind.id = "01880000-0000-7000-8000-000000000000".parse().unwrap();
            board.report(Report::Event(left_behind), now);
        }
        assert_eq!(drain(&mut board).0["hearken/attic/door/sound/dog"], "ON");
        board.report(event("dog", Phase::End), now);
        assert_eq!(drain(&mut board).0["hearken/attic/door/sound/dog"], "OFF");
    }

    #[test]
    fn a_removed_class_is_cleared_and_stays_away() {
        let mut board = Board::new(&settings(), roster(&["door", "yard"], &["dog", "siren"]));
        drain(&mut board);
        board.announce(roster(&["door"], &["dog"]));
        let (retained, _) = drain(&mut board);
        for topic in ["door/sound/siren", "yard/sound/dog", "yard/sound/siren"] {
            assert_eq!(retained[&format!("hearken/attic/{topic}")], "");
        }
        let config = &retained["homeassistant/device/hearken_attic/config"];
        assert!(!config.contains("siren") && !config.contains("yard"), "{config}");
        board.report(event("siren", Phase::Start), Instant::now());
        let (retained, events) = drain(&mut board);
        assert_eq!((retained.len(), events.len()), (0, 1), "the event itself is still told");
        board.connection_lost();
        assert!(!drain(&mut board).0.contains_key("hearken/attic/door/sound/siren"));
    }

    #[test]
    fn home_assistant_is_told_of_two_removals_in_a_row() {
        let mut board = Board::new(&settings(), roster(&["door"], &["dog", "siren", "glass"]));
        drain(&mut board);
        board.announce(roster(&["door"], &["dog", "siren"]));
        board.announce(roster(&["door"], &["dog"]));
        let out = board.outbox.next_reliable().expect("discovery first");
        let text = String::from_utf8(out.payload).expect("text");
        for class in ["siren", "glass"] {
            let removal = format!("\"door_sound_{class}\":{{\"platform\":\"binary_sensor\"}}");
            assert!(text.contains(&removal), "{text}");
        }
    }

    #[test]
    fn what_an_earlier_run_left_behind_is_removed() {
        let mut earlier = Board::new(&settings(), roster(&["door", "yard"], &["dog"]));
        let (left_behind, _) = drain(&mut earlier);
        let mut board = Board::new(&settings(), roster(&["door"], &["dog"]));
        drain(&mut board);
        for (topic, payload) in &left_behind {
            board.found(topic, payload.as_bytes());
        }
        board.found("hearken/attic/yard/status", b"{}");
        board.found("hearken/attic/yard/event", b"{}");
        let (retained, _) = drain(&mut board);
        let topics: Vec<&str> = retained.keys().map(String::as_str).collect();
        let discovery = "homeassistant/device/hearken_attic/config";
        let expected = ["hearken/attic/yard/sound/dog", "hearken/attic/yard/status", discovery];
        assert_eq!(topics, expected);
        assert!(!retained[discovery].contains("yard"));
        board.found(discovery, retained[discovery].as_bytes());
        assert!(drain(&mut board).0.len() <= 1, "nothing more to remove");
    }

    #[test]
    fn levels_obey_interval_and_deadband() {
        let mut board = Board::new(&settings(), roster(&["door"], &["dog"]));
        let start = Instant::now();
        let mut say = |dbfs: f32, after_ms: u64| {
            let report =
                Report::Level { source: "door".into(), at: Timestamp::from_nanos(0), dbfs };
            board.report(report, start + Duration::from_millis(after_ms));
            board.outbox.next_momentary().is_some()
        };
        assert!(say(-50.0, 0), "the first is news");
        assert!(!say(-30.0, 500), "too early");
        assert!(!say(-50.5, 1500), "hardly moved");
        assert!(say(-48.9, 1600));
        assert!(!say(f32::NAN, 9000));
        assert!(say(f32::NEG_INFINITY, 10_000));
        assert!(!say(f32::NEG_INFINITY, 20_000), "still silent");
    }

    #[test]
    fn late_reports_of_an_unknown_source_are_ignored() {
        let mut board = Board::new(&settings(), roster(&["door"], &["dog"]));
        drain(&mut board);
        let status = SourceStatus {
            source: "yard".into(),
            state: SourceState::Running,
            since: Timestamp::from_nanos(0),
            detail: None,
            level_dbfs: None,
            lost_samples: 0,
            gaps: 0,
            dropped_windows: 0,
            classified_windows: 0,
        };
        board.report(Report::Status(status.clone()), Instant::now());
        assert!(drain(&mut board).0.is_empty());
        let known = SourceStatus { source: "door".into(), ..status };
        board.report(Report::Status(known), Instant::now());
        let status = &drain(&mut board).0["hearken/attic/door/status"];
        assert!(status.contains("\"state\":\"running\""), "{status}");
    }
}
