//! The rules in simulated time.

use jiff::tz::TimeZone;

use super::super::settings::Escalation;
use super::*;

/// A Friday, 20:00 in Berlin.
const START: &str = "2026-05-01T18:00:00Z";

fn at(seconds: f64) -> Now {
    let start: Timestamp = START.parse().unwrap();
    // The steady clock has another beginning.
    Now { clock: start.plus_seconds(seconds), steady_s: 1_000.0 + seconds }
}

fn alert(name: &str) -> Alert {
    Alert::example(name)
}

fn settings(alerts: Vec<Alert>) -> AlertSettings {
    let zone = TimeZone::get("Europe/Berlin").expect("the package tzdata is needed");
    AlertSettings { node: "attic".into(), zone, alerts, ..AlertSettings::default() }
}

fn engine(alerts: Vec<Alert>) -> Engine {
    Engine::new(Arc::new(settings(alerts)))
}

/// A sound of the test.
#[derive(Clone)]
struct Heard(Event);

impl Heard {
    fn new(class: &str, start_s: f64) -> Self {
        Self(Event {
            id: EventId::new(),
            phase: Phase::Start,
            node: "attic".into(),
            source: "hall".into(),
            class: class.into(),
            start: at(start_s).clock,
            end: None,
            score_peak: 0.8,
            score_mean: 0.7,
            level_dbfs: -20.0,
            model: "m".into(),
        })
    }

    fn from(mut self, source: &str) -> Self {
        self.0.source = source.into();
        self
    }

    fn scoring(mut self, score: f32) -> Self {
        self.0.score_peak = score;
        self
    }

    fn start(&self) -> Event {
        self.0.clone()
    }

    fn update(&self, until_s: f64) -> Event {
        Event { phase: Phase::Update, end: Some(at(until_s).clock), ..self.0.clone() }
    }

    fn end(&self, end_s: f64) -> Event {
        Event { phase: Phase::End, ..self.update(end_s) }
    }
}

/// Ticks every tenth of a second; the times and the notices that come.
fn ticks(engine: &mut Engine, from_s: f64, to_s: f64) -> Vec<(f64, Notice)> {
    let first = (from_s * 10.0).round() as i64;
    let last = (to_s * 10.0).round() as i64;
    let mut found = Vec::new();
    for tenth in first..=last {
        let seconds = tenth as f64 / 10.0;
        let notices = engine.tick(at(seconds));
        found.extend(notices.into_iter().map(|addressed| (seconds, addressed.notice)));
    }
    found
}

#[test]
fn classes_sources_and_scores_decide() {
    let mut engine = engine(vec![Alert {
        trigger: Trigger::Sound { classes: vec!["siren".into()], min_score: 0.7 },
        sources: vec!["hall".into()],
        ..alert("a")
    }]);
    assert_eq!(engine.event(&Heard::new("dog", 0.0).start(), at(1.0)), []);
    assert_eq!(engine.event(&Heard::new("siren", 0.0).from("door").start(), at(1.0)), []);
    let faint = Heard::new("siren", 0.0).scoring(0.69);
    assert_eq!(engine.event(&faint.start(), at(1.0)), []);
    // It grows, and is told once.
    let louder = Heard(Event { id: faint.0.id, ..faint.clone().scoring(0.7).0 });
    let told = engine.event(&louder.update(5.0), at(5.5));
    assert_eq!(told.len(), 1);
    let notice = &told[0].notice;
    assert_eq!((&*notice.alert, notice.stage, &*notice.class), ("a", 1, "siren"));
    assert_eq!((&*notice.source, notice.score, notice.id), ("hall", Some(0.7), Some(faint.0.id)));
    assert_eq!((notice.end, notice.duration_s, notice.count), (None, 5.5, 1));
    assert_eq!(engine.event(&louder.end(6.0), at(7.0)), []);
    assert_eq!(ticks(&mut engine, 7.0, 9.0), []);
}

#[test]
fn a_thousand_events_in_a_minute_are_as_many_notices_as_are_wanted() {
    for (cooldown_s, count, expected) in
        [(300.0, 1, 1), (10.0, 1, 6), (0.0, 1, 1_000), (0.0, 100, 10), (30.0, 100, 2)]
    {
        let mut engine = engine(vec![Alert { cooldown_s, count, ..alert("a") }]);
        let mut notices = Vec::new();
        for number in 0..1_000 {
            let seconds = f64::from(number) * 0.06;
            let sound = Heard::new("dog", seconds);
            notices.extend(engine.event(&sound.start(), at(seconds)));
            notices.extend(engine.event(&sound.end(seconds + 0.01), at(seconds + 0.01)));
            notices.extend(engine.tick(at(seconds + 0.02)));
        }
        assert_eq!(notices.len(), expected, "cooldown {cooldown_s}, count {count}");
        let told: u64 = notices.iter().map(|told| told.notice.held_back).sum();
        let tally = engine.tallies().remove(0);
        assert_eq!(tally.notices, expected as u64);
        assert_eq!(tally.notices + tally.held_back, 1_000 / count as u64);
        // The next one tells the number that was held back since.
        let later = Heard::new("dog", 1_000.0);
        let mut next = Vec::new();
        for _ in 0..count {
            next = engine.event(
                &Heard(Event { id: EventId::new(), ..later.0.clone() }).start(),
                at(1_000.0),
            );
        }
        assert_eq!(told + next[0].notice.held_back, tally.held_back);
    }
}

#[test]
fn a_count_is_within_a_time() {
    let mut engine = engine(vec![Alert { count: 3, within_s: 10.0, ..alert("a") }]);
    let mut hear = |seconds: f64| {
        let sound = Heard::new("dog", seconds);
        let told = engine.event(&sound.start(), at(seconds));
        engine.event(&sound.end(seconds + 0.5), at(seconds + 0.5));
        told.len()
    };
    assert_eq!([0.0, 6.0, 11.0].map(&mut hear), [0, 0, 0], "the first is too long ago");
    assert_eq!(hear(16.0), 1, "6, 11 and 16");
    assert_eq!([17.0, 18.0].map(&mut hear), [0, 0], "counted anew");
    assert_eq!(hear(19.0), 1);
}

#[test]
fn min_duration_acts_while_the_sound_is_on() {
    let mut engine = engine(vec![Alert { min_duration_s: 10.0, ..alert("a") }]);
    let sound = Heard::new("siren", 0.0);
    assert_eq!(engine.event(&sound.start(), at(2.0)), []);
    let told = ticks(&mut engine, 2.0, 30.0);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0, told[0].1.end, told[0].1.duration_s), (10.0, None, 10.0));
    engine.event(&sound.end(30.0), at(31.0));
    // One that is too short is never told.
    let short = Heard::new("siren", 40.0);
    assert_eq!(engine.event(&short.start(), at(41.0)), []);
    assert_eq!(ticks(&mut engine, 41.0, 49.0), []);
    assert_eq!(engine.event(&short.end(49.9), at(49.95)), []);
    assert_eq!(ticks(&mut engine, 50.0, 60.0), []);
    // A recording that is heard fast comes without time in between.
    let fast = Heard::new("siren", 100.0);
    assert_eq!(engine.event(&fast.start(), at(61.0)), []);
    let told = engine.event(&fast.end(110.0), at(61.0));
    assert_eq!((told.len(), told[0].notice.duration_s), (1, 10.0));
}

#[test]
fn a_clock_that_is_set_does_not_change_how_long_things_take() {
    let mut engine = engine(vec![Alert { min_duration_s: 10.0, cooldown_s: 60.0, ..alert("a") }]);
    let sound = Heard::new("siren", 0.0);
    engine.event(&sound.start(), at(1.0));
    // The wall clock goes back by an hour.
    let set = |seconds: f64| Now { clock: at(seconds - 3_600.0).clock, ..at(seconds) };
    assert_eq!(engine.tick(set(9.9)), []);
    assert_eq!(engine.tick(set(10.0)).len(), 1);
    engine.event(&sound.end(11.0), set(11.0));
    let next = Heard(Event { start: set(20.0).clock, ..Heard::new("siren", 0.0).0 });
    engine.event(&next.start(), set(20.0));
    assert_eq!(engine.tick(set(69.9)), []);
    assert_eq!(engine.tick(set(70.0)).len(), 1);
}

#[test]
fn what_is_held_back_and_still_on_is_told_after_the_rest() {
    let mut engine = engine(vec![Alert { cooldown_s: 60.0, ..alert("a") }]);
    let first = Heard::new("dog", 0.0);
    assert_eq!(engine.event(&first.start(), at(0.0)).len(), 1);
    engine.event(&first.end(1.0), at(1.0));
    for seconds in [10.0, 20.0] {
        let short = Heard::new("dog", seconds);
        assert_eq!(engine.event(&short.start(), at(seconds)), []);
        assert_eq!(engine.event(&short.end(seconds + 1.0), at(seconds + 1.0)), []);
    }
    let long = Heard::new("siren", 30.0);
    assert_eq!(engine.event(&long.start(), at(30.0)), []);
    let told = ticks(&mut engine, 30.0, 200.0);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0, &*told[0].1.class, told[0].1.held_back), (60.0, "siren", 2));
}

#[test]
fn a_sound_that_goes_on_escalates_once() {
    let escalation = Some(Escalation { after_s: 60.0, to: Some("phone".into()) });
    let mut engine = engine(vec![
        Alert { trigger: Trigger::Escalation, ..alert("phone") },
        Alert { escalation, cooldown_s: 600.0, ..alert("a") },
    ]);
    let long = Heard::new("siren", 0.0);
    let told = engine.event(&long.start(), at(3.0));
    assert_eq!((told.len(), told[0].to, told[0].notice.stage), (1, 1, 1));
    for tenth in 0..1_000 {
        let seconds = 3.0 + f64::from(tenth) / 10.0;
        let told = engine.tick(at(seconds));
        assert_eq!(told.len(), usize::from(seconds == 63.0), "{seconds}");
        if let Some(second) = told.first() {
            assert_eq!((second.to, second.notice.stage, &*second.notice.alert), (0, 2, "a"));
        }
    }
    engine.event(&long.end(103.0), at(104.0));
    // One that ends before does not.
    let short = Heard::new("siren", 1_000.0);
    assert_eq!(engine.event(&short.start(), at(1_000.0)).len(), 1);
    assert_eq!(ticks(&mut engine, 1_000.0, 1_059.0), []);
    assert_eq!(engine.event(&short.end(1_059.0), at(1_060.0)), []);
    assert_eq!(ticks(&mut engine, 1_060.0, 1_200.0), []);
    assert_eq!(engine.tallies()[1].notices, 3);
    assert_eq!(engine.tallies()[0].notices, 0, "counted where the rule is");
}

#[test]
fn hours_are_kept_and_what_is_still_on_is_told_when_they_begin() {
    // It is Friday, 20:00.
    let mut engine =
        engine(vec![Alert { schedule: vec!["fri 20:01-20:02".parse().unwrap()], ..alert("a") }]);
    let short = Heard::new("dog", 0.0);
    assert_eq!(engine.event(&short.start(), at(0.0)), []);
    assert_eq!(engine.event(&short.end(1.0), at(1.0)), []);
    let long = Heard::new("siren", 10.0);
    assert_eq!(engine.event(&long.start(), at(10.0)), []);
    let told = ticks(&mut engine, 10.0, 100.0);
    assert_eq!((told.len(), told[0].0), (1, 60.0));
    let late = Heard::new("dog", 120.0);
    assert_eq!(engine.event(&late.start(), at(120.0)), []);
    engine.event(&late.end(121.0), at(121.0));
    assert_eq!(engine.tallies()[0].out_of_hours, 2);
}

#[test]
fn quiet_hours_go_over_midnight_and_some_act_all_the_same() {
    let escalation = Some(Escalation { after_s: 60.0, to: None });
    let alerts = vec![
        Alert { escalation, ..alert("calm") },
        Alert { in_quiet_hours: true, ..alert("urgent") },
    ];
    let quiet_hours = Some("22:00-07:00".parse().unwrap());
    let mut engine = Engine::new(Arc::new(AlertSettings { quiet_hours, ..settings(alerts) }));
    let mut names = |seconds: f64| -> Vec<String> {
        let sound = Heard::new("dog", seconds);
        let told = engine.event(&sound.start(), at(seconds));
        engine.event(&sound.end(seconds + 1.0), at(seconds + 1.0));
        told.iter().map(|told| told.notice.alert.to_string()).collect()
    };
    const HOUR_S: f64 = 3_600.0;
    assert_eq!(names(2.0 * HOUR_S - 1.0), ["calm", "urgent"], "21:59:59");
    assert_eq!(names(2.0 * HOUR_S), ["urgent"], "22:00");
    assert_eq!(names(4.0 * HOUR_S), ["urgent"], "midnight");
    assert_eq!(names(11.0 * HOUR_S - 1.0), ["urgent"], "06:59:59");
    assert_eq!(names(11.0 * HOUR_S), ["calm", "urgent"], "07:00");
    // The second stage keeps the quiet, too.
    let long = Heard::new("siren", 26.0 * HOUR_S - 30.0);
    assert_eq!(engine.event(&long.start(), at(26.0 * HOUR_S - 30.0)).len(), 2);
    assert_eq!(ticks(&mut engine, 26.0 * HOUR_S - 30.0, 26.0 * HOUR_S + 300.0), []);
}

#[test]
fn a_level_acts_whatever_the_class() {
    let loud = |over_dbfs, min_duration_s| Alert {
        trigger: Trigger::Level { over_dbfs },
        min_duration_s,
        sources: vec!["hall".into()],
        cooldown_s: 60.0,
        ..alert("a")
    };
    let hall: SourceName = "hall".into();
    let mut quick = engine(vec![loud(-20.0, 0.0)]);
    assert!(quick.minds_levels() && !engine(vec![alert("b")]).minds_levels());
    assert_eq!(quick.level(&hall, -20.0, at(0.0)), [], "over, not at it");
    assert_eq!(quick.level(&"door".into(), 0.0, at(0.0)), []);
    let told = quick.level(&hall, -19.9, at(1.0));
    let notice = &told[0].notice;
    assert_eq!((&*notice.class, notice.score, notice.id), (LOUD, None, None));
    assert_eq!((notice.level_dbfs, notice.start), (-19.9, at(1.0).clock));
    assert_eq!(quick.level(&hall, -10.0, at(1.5)), [], "still the same sound");
    // A dip does not end it; a pause does, and the next one is another.
    for (seconds, dbfs) in [(2.0, -50.0), (2.4, -10.0), (3.0, -50.0), (3.5, -50.0), (4.0, -10.0)] {
        assert_eq!(quick.level(&hall, dbfs, at(seconds)), []);
    }
    assert_eq!(quick.tallies()[0].held_back, 1);
    // The event of a class is nothing to it.
    assert_eq!(quick.event(&Heard::new("dog", 70.0).start(), at(70.0)), []);

    let mut slow = engine(vec![loud(-20.0, 5.0)]);
    let mut told_at = Vec::new();
    for tenth in 0..200 {
        let seconds = f64::from(tenth) / 10.0;
        let dbfs = if (3.0..9.0).contains(&seconds) || seconds < 1.5 { -10.0 } else { -60.0 };
        let told = slow.level(&hall, dbfs, at(seconds));
        told_at.extend(told.iter().map(|_| seconds));
    }
    // At first it was too short, and the pause ended it.
    assert_eq!(told_at, [8.0]);
    // A source that is gone is not loud for ever.
    let mut gone = engine(vec![loud(-20.0, 5.0)]);
    gone.level(&hall, 0.0, at(0.0));
    gone.level(&hall, 0.0, at(1.0));
    assert_eq!(ticks(&mut gone, 1.0, 20.0), []);
    assert_eq!(gone.level(&hall, 0.0, at(20.0)), [], "another sound, and new");
}

#[test]
fn a_start_that_is_told_again_and_an_end_that_is_lost_do_no_harm() {
    let escalation = Some(Escalation { after_s: 10.0, to: None });
    let mut engine = engine(vec![Alert { escalation, ..alert("a") }]);
    let first = Heard::new("dog", 0.0);
    assert_eq!(engine.event(&first.start(), at(0.0)).len(), 1);
    assert_eq!(engine.event(&first.start(), at(0.1)), [], "known already");
    let second = Heard::new("dog", 5.0);
    assert_eq!(engine.event(&second.start(), at(5.0)).len(), 1);
    let told = ticks(&mut engine, 5.0, 60.0);
    assert_eq!(told.len(), 1, "the first must have ended");
    assert_eq!(told[0].1.id, Some(second.0.id));
    // An end or an update without a start is of a sound that was on before the start of the process.
    assert_eq!(engine.event(&Heard::new("cat", 0.0).update(60.0), at(60.0)), []);
    assert_eq!(engine.event(&Heard::new("cat", 0.0).end(61.0), at(61.0)), []);
}

#[test]
fn a_reload_keeps_counters_and_rest_by_name() {
    let resting = Alert { cooldown_s: 100.0, min_duration_s: 1.0, ..alert("a") };
    let mut engine = engine(vec![resting.clone(), alert("gone")]);
    let first = Heard::new("dog", 0.0);
    engine.event(&first.start(), at(1.0));
    engine.event(&first.end(2.0), at(2.0));
    let on = Heard::new("siren", 9.5);
    assert_eq!(engine.event(&on.start(), at(10.0)).len(), 1, "by the other alert alone");
    // Nothing about `a` changes: what is on stays on, and is held back for being told too soon.
    engine.reload(Arc::new(settings(vec![alert("new"), resting.clone()])));
    assert_eq!(engine.tallies()[0], Tally::default());
    assert_eq!(ticks(&mut engine, 10.0, 12.0), []);
    assert_eq!((engine.tallies()[1].notices, engine.tallies()[1].held_back), (1, 1));
    // It changes: its rest goes on all the same.
    engine.reload(Arc::new(settings(vec![Alert { min_duration_s: 0.0, ..resting }])));
    assert_eq!(engine.event(&Heard::new("cat", 20.0).start(), at(20.0)), []);
    assert_eq!((engine.tallies()[0].notices, engine.tallies()[0].held_back), (1, 2));
    let told = ticks(&mut engine, 20.0, 200.0);
    assert_eq!((told.len(), told[0].0, told[0].1.held_back), (1, 101.0, 1));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut engine = engine(vec![Alert { min_duration_s: 1e6, count: 50, ..alert("a") }]);
    for number in 0..2 * SOUNDS_MAX {
        let source = format!("s{number}");
        engine.event(&Heard::new("dog", 0.0).from(&source).start(), at(0.0));
    }
    assert_eq!(engine.watches[0].sounds.len(), SOUNDS_MAX);
}
