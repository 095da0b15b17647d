//! Publishing against a real mosquitto, against a broker that misbehaves, and through the
//! embedded broker as mosquitto's own clients see it.

#[path = "common/broker.rs"]
mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Door, Message, Mosquitto, PASSWORD, PATIENCE, Subscriber, USER};
use common::{free_port, make_authority, publish, wait_until};
use crossbeam_channel::{Receiver, unbounded};
use hearken::publish::backoff::Pace;
use hearken::publish::settings::{
    Broker, ProtocolVersion, PublishSettings, RemoteBroker, Secret, TlsSettings,
};
use hearken::publish::{PublishError, Publisher, Roster, Settled, start_paced};
use hearken::signal::{
    Command, Event, EventId, Phase, Report, SourceState, SourceStatus, Timestamp,
};

const EVENT: &str = "hearken/attic/door/event";
const DOG: &str = "hearken/attic/door/sound/dog_bark";
const AVAILABLE: &str = "hearken/attic/available";
const STATUS: &str = "hearken/attic/door/status";
const SET: &str = "hearken/attic/door/set";
const DISCOVERY: &str = "homeassistant/device/hearken_attic/config";

fn settings(broker: Broker) -> PublishSettings {
    PublishSettings {
        node: "attic".into(),
        topic_prefix: "hearken".to_owned(),
        broker,
        discovery_prefix: Some("homeassistant".to_owned()),
        keep_alive: Duration::from_secs(10),
        level_interval: Duration::ZERO,
        level_deadband_db: 0.5,
        scores: true,
        queue_events_max: 10_000,
    }
}

fn plain(port: u16) -> RemoteBroker {
    RemoteBroker {
        host: "127.0.0.1".to_owned(),
        port,
        version: ProtocolVersion::V311,
        client_id: "hearken-attic".to_owned(),
        user: None,
        password: None,
        tls: None,
    }
}

fn secured(broker: &Mosquitto) -> RemoteBroker {
    RemoteBroker {
        host: "localhost".to_owned(),
        user: Some(USER.to_owned()),
        password: Some(Secret::new(PASSWORD.to_owned())),
        tls: Some(TlsSettings { ca_file: Some(broker.ca_file.clone()), ..Default::default() }),
        ..plain(broker.tls_port)
    }
}

fn roster(classes: &[&str]) -> Roster {
    Roster {
        sources: vec!["door".into()],
        classes: classes.iter().map(|&class| class.into()).collect(),
        model: "first_sound".into(),
        version: "0.1.0",
    }
}

fn launch(broker: Broker) -> (Publisher, Receiver<Command>) {
    let (sender, commands) = unbounded();
    let pace = Pace {
        first: Duration::from_millis(20),
        max: Duration::from_millis(200),
        held: Duration::from_secs(10),
        announce_within: Duration::from_millis(100),
    };
    let roster = roster(&["Dog bark", "Siren"]);
    let publisher = start_paced(settings(broker), roster, sender, pace).expect("it starts");
    (publisher, commands)
}

fn event(id: EventId, phase: Phase) -> Report {
    Report::Event(Event {
        id,
        phase,
        node: "attic".into(),
        source: "door".into(),
        class: "Dog bark".into(),
        start: Timestamp::now(),
        end: (phase == Phase::End).then(Timestamp::now),
        score_peak: 0.9,
        score_mean: 0.8,
        level_dbfs: -20.0,
        model: "abc".into(),
    })
}

fn status(state: SourceState) -> Report {
    Report::Status(SourceStatus {
        source: "door".into(),
        state,
        since: Timestamp::now(),
        detail: None,
        level_dbfs: Some(-40.0),
        lost_samples: 0,
        gaps: 0,
        dropped_windows: 0,
        classified_windows: 7,
    })
}

fn wait_connected(publisher: &Publisher) {
    wait_until("the publisher is connected", || publisher.health().connected);
}

fn wait_error(publisher: &Publisher, part: &str) -> String {
    let text = || publisher.health().last_error.unwrap_or_default();
    wait_until(&format!("the error speaks of {part:?}, not {:?}", text()), || {
        text().contains(part)
    });
    text()
}

/// The ids and phases of events, in order.
fn events(seen: &[Message]) -> Vec<(String, String)> {
    let fields = |message: &Message| {
        let json: serde_json::Value = serde_json::from_str(&message.payload).expect("JSON");
        let text = |key: &str| json[key].as_str().expect("text").to_owned();
        (text("id"), text("phase"))
    };
    seen.iter().filter(|message| message.topic == EVENT).map(fields).collect()
}

/// Every one of `ids` started and ended, at least once, and started first.
fn assert_complete(seen: &[(String, String)], ids: &[EventId]) {
    for id in ids {
        let id = id.to_string();
        let first = |phase: &str| seen.iter().position(|(i, p)| *i == id && p == phase);
        let (start, end) = (first("start"), first("end"));
        assert!(start.is_some() && end.is_some(), "{id}: {start:?} {end:?}");
        assert!(start < end, "{id} ended before it started");
    }
}

fn tells_everything_over_tls(version: ProtocolVersion) {
    let broker = Mosquitto::start(Door::Locked);
    let watcher = broker.subscribe("watcher", "#");
    let remote = RemoteBroker { version, ..secured(&broker) };
    let (publisher, commands) = launch(Broker::Remote(remote));
    watcher.wait_for_latest(AVAILABLE, "online");
    watcher.wait_for_latest(DOG, "OFF");
    let id = EventId::new();
    publisher.send(status(SourceState::Running));
    publisher.send(event(id, Phase::Start));
    let level = |dbfs| Report::Level { source: "door".into(), at: Timestamp::now(), dbfs };
    publisher.send(level(-31.0));
    watcher.wait_for_latest(DOG, "ON");
    watcher.wait_for("level", |_| {
        watcher
            .latest("hearken/attic/door/level")
            .is_some_and(|level| level.contains("\"level_dbfs\":-31.0"))
    });
    watcher.wait_for("status", |_| {
        watcher.latest(STATUS).is_some_and(|status| status.contains("\"state\":\"running\""))
    });
    broker.publish(SET, b" off \n", false);
    let command = commands.recv_timeout(PATIENCE).expect("a command");
    assert_eq!(command, Command::Listen { source: "door".into(), on: false });

    let late = broker.subscribe("late", "#");
    for (topic, payload) in [(DOG, "ON"), (AVAILABLE, "online")] {
        late.wait_for_latest(topic, payload);
    }
    assert!(late.seen().iter().all(|message| message.retained && message.topic != EVENT));

    publisher.send(event(id, Phase::End));
    publisher.send(status(SourceState::Ended));
    let health = publisher.shutdown(PATIENCE);
    assert_eq!((health.delivered_events, health.queued_events), (2, 0));
    assert!(!health.connected);
    watcher.wait_for_latest(AVAILABLE, "offline");
    assert_eq!(watcher.latest(DOG).as_deref(), Some("OFF"));
    assert!(watcher.latest(STATUS).expect("a status").contains("ended"));
    assert_complete(&events(&watcher.seen()), &[id]);
    let goodbyes =
        watcher.seen().iter().filter(|m| m.topic == AVAILABLE && m.payload == "offline").count();
    assert_eq!(goodbyes, 1, "said once, and no last will after it");
}

#[test]
fn everything_is_told_over_tls_with_a_password() {
    tells_everything_over_tls(ProtocolVersion::V311);
}

#[test]
fn mqtt_5_tells_the_same() {
    tells_everything_over_tls(ProtocolVersion::V5);
}

#[test]
fn a_wrong_password_is_named_and_tried_again() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let broker = Mosquitto::start(Door::Locked);
        let password = Some(Secret::new("sesame-7731".to_owned()));
        let remote = RemoteBroker { version, password, ..secured(&broker) };
        let (publisher, _commands) = launch(Broker::Remote(remote));
        publisher.send(event(EventId::new(), Phase::Start));
        let error = wait_error(&publisher, "password");
        assert!(error.contains(&format!("localhost:{}", broker.tls_port)), "{error}");
        assert!(!error.contains("sesame"), "{error}");
        let health = publisher.shutdown(Duration::from_millis(100));
        assert_eq!((health.connected, health.queued_events), (false, 1));
    }
}

#[test]
fn a_wrong_authority_is_named() {
    let broker = Mosquitto::start(Door::Locked);
    let dir = tempfile::tempdir().expect("a folder");
    let ca_file = Some(make_authority(dir.path(), "stranger"));
    let tls = Some(TlsSettings { ca_file, ..Default::default() });
    let (publisher, _commands) = launch(Broker::Remote(RemoteBroker { tls, ..secured(&broker) }));
    let error = wait_error(&publisher, "certificate is not trusted");
    assert!(error.contains("mqtt.tls.ca_file"), "{error}");
    assert!(!publisher.health().connected);
}

#[test]
fn a_client_certificate_opens_the_door() {
    let broker = Mosquitto::start(Door::Certified);
    let watcher = broker.subscribe("watcher", "#");
    let without = RemoteBroker { user: None, password: None, ..secured(&broker) };
    let (publisher, _commands) = launch(Broker::Remote(without.clone()));
    wait_error(&publisher, "certificate");
    drop(publisher);
    assert_eq!(watcher.latest(AVAILABLE), None);

    let (certificate, key) = broker.identity();
    let tls = without.tls.clone().map(|tls| TlsSettings {
        client_cert_file: Some(certificate),
        client_key_file: Some(key),
        ..tls
    });
    let (_publisher, _commands) = launch(Broker::Remote(RemoteBroker { tls, ..without }));
    watcher.wait_for_latest(AVAILABLE, "online");
}

#[test]
fn what_can_never_work_is_an_error_at_once() {
    let (sender, _commands) = unbounded();
    let missing = Some(PathBuf::from("/nonexistent/ca.pem"));
    let tls = Some(TlsSettings { ca_file: missing, ..Default::default() });
    let remote = Broker::Remote(RemoteBroker { tls, ..plain(1883) });
    let started = hearken::publish::start(settings(remote), roster(&[]), sender.clone());
    let error = started.err().expect("no such file").to_string();
    assert!(error.contains("mqtt.tls.ca_file") && error.contains("/nonexistent/ca.pem"), "{error}");

    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let broker = Broker::Embedded { port };
    let error = hearken::publish::start(settings(broker), roster(&[]), sender).err();
    assert!(matches!(error, Some(PublishError::ChoosePort { port: p, .. }) if p == port));
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("mqtt.embedded_port"), "{error}");
}

#[test]
fn a_broker_may_come_later() {
    let mut broker = Mosquitto::prepare(Door::Open);
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    let ids: Vec<EventId> = (0..50).map(|_| EventId::new()).collect();
    for id in &ids {
        publisher.send(event(*id, Phase::Start));
        publisher.send(event(*id, Phase::End));
    }
    wait_error(&publisher, "no broker is listening");
    assert_eq!(publisher.health().queued_events, 100);
    broker.resume();
    let delivered = || publisher.health().delivered_events == 100;
    wait_until("all is delivered", delivered);
    let watcher = broker.subscribe("watcher", "#");
    watcher.wait_for_latest(AVAILABLE, "online");
    watcher.wait_for_latest(DOG, "OFF");
    assert_eq!(publisher.health().reconnects, 0);
}

/// How often a broker comes and goes.
const RESTARTS: u64 = 50;

#[test]
fn no_event_is_lost_over_restarts_of_the_broker() {
    let mut broker = Mosquitto::start(Door::Open);
    let watcher = broker.subscribe("watcher", "hearken/#");
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    wait_connected(&publisher);
    let mut ids = Vec::new();
    for round in 0..RESTARTS {
        for step in 0..60 {
            let id = EventId::new();
            ids.push(id);
            publisher.send(event(id, Phase::Start));
            publisher.send(event(id, Phase::End));
            if step == 20 {
                broker.stop();
            }
            if step == 40 {
                broker.resume();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        wait_until(&format!("reconnected in round {round}"), || {
            publisher.health().reconnects > round
        });
    }
    let total = 2 * ids.len() as u64;
    wait_until("all is delivered", || publisher.health().delivered_events == total);
    let wanted: HashSet<String> = ids.iter().map(EventId::to_string).collect();
    watcher.wait_for("all events are seen", |seen| {
        let ended = events(seen).into_iter().filter(|(_, phase)| phase == "end");
        ended.map(|(id, _)| id).collect::<HashSet<_>>() == wanted
    });
    assert_complete(&events(&watcher.seen()), &ids);
    assert_eq!(publisher.health().dropped_events, 0);
}

#[test]
fn what_a_broker_refuses_is_said_with_mqtt_5_and_kept() {
    let mut broker = Mosquitto::start(Door::Guarded);
    let watcher = broker.subscribe("watcher", "hearken/#");
    let remote = RemoteBroker { version: ProtocolVersion::V5, ..plain(broker.port) };
    let (publisher, _commands) = launch(Broker::Remote(remote));
    wait_connected(&publisher);
    let ids: Vec<EventId> = (0..5).map(|_| EventId::new()).collect();
    let tell = |phase: Phase| {
        let events = ids.iter().map(|id| event(*id, phase));
        events.enumerate().for_each(|(n, report)| match report {
            Report::Event(event) => publisher.tell(&event, Some(n as i64)),
            _ => unreachable!("events alone"),
        });
    };
    tell(Phase::Start);
    wait_until("they are refused", || publisher.health().refused_events == 5);
    watcher.wait_for_latest(DOG, "ON");
    let health = publisher.health();
    assert_eq!((health.queued_events, health.dropped_events, health.delivered_events), (5, 0, 0));
    assert_eq!(publisher.take_settled(), Settled::default());
    // The permission is corrected.
    broker.stop();
    broker.unguard();
    broker.resume();
    tell(Phase::End);
    wait_until("all is delivered", || publisher.health().delivered_events == 10);
    watcher.wait_for("all are seen", |seen| events(seen).len() >= 10);
    assert_complete(&events(&watcher.seen()), &ids);
    let mut arrived = publisher.take_settled().arrived;
    arrived.sort();
    assert_eq!(arrived, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn with_mqtt_3_a_broker_does_not_say_what_it_refuses() {
    let broker = Mosquitto::start(Door::Guarded);
    let watcher = broker.subscribe("watcher", "hearken/#");
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    wait_connected(&publisher);
    publisher.send(event(EventId::new(), Phase::Start));
    watcher.wait_for_latest(DOG, "ON");
    // It acknowledges the event like any other, and drops it: docs/mqtt.md says so.
    wait_until("it is acknowledged", || publisher.health().delivered_events == 1);
    assert_eq!(events(&watcher.seen()), []);
}

#[test]
fn a_broker_without_qos_1_gets_the_events_when_it_has_it() {
    let mut broker = Mosquitto::start(Door::Unreliable);
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    let ids: Vec<EventId> = (0..5).map(|_| EventId::new()).collect();
    ids.iter().for_each(|id| publisher.send(event(*id, Phase::Start)));
    // It hangs up as soon as it hears of a last will with QoS 1.
    wait_error(&publisher, "closed by peer");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((publisher.health().delivered_events, publisher.health().queued_events), (0, 5));
    broker.stop();
    broker.unguard();
    broker.resume();
    let watcher = broker.subscribe("watcher", "hearken/#");
    ids.iter().for_each(|id| publisher.send(event(*id, Phase::End)));
    wait_until("all is delivered", || publisher.health().delivered_events == 10);
    watcher.wait_for("the ends are seen", |seen| {
        events(seen).iter().filter(|(_, phase)| phase == "end").count() >= 5
    });
    assert_eq!(publisher.health().dropped_events, 0);
}

#[test]
fn a_flood_of_commands_is_not_obeyed() {
    let broker = Mosquitto::start(Door::Open);
    let (publisher, commands) = launch(Broker::Remote(plain(broker.port)));
    wait_connected(&publisher);
    let _watcher = broker.subscribe("watcher", STATUS);
    let mut flood = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-q", "1", "-t", SET, "-l"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("mosquitto_pub is needed");
    let words = "ON\nOFF\n".repeat(200);
    flood.stdin.take().expect("piped").write_all(words.as_bytes()).expect("written");
    assert!(flood.wait().expect("it ends").success());
    wait_until("the others are counted", || {
        publisher.health().ignored_commands as usize + commands.len() == 400
    });
    assert!((20..60).contains(&commands.len()), "{}", commands.len());
}

#[test]
fn retained_state_is_there_again_after_the_broker_lost_its_memory() {
    let mut broker = Mosquitto::start(Door::Open);
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    publisher.send(status(SourceState::Running));
    publisher.send(event(EventId::new(), Phase::Start));
    wait_until("the event is delivered", || publisher.health().delivered_events == 1);
    broker.kill_and_forget();
    wait_until("the loss is noticed", || !publisher.health().connected);
    broker.resume();
    let watcher = broker.subscribe("watcher", "#");
    watcher.wait_for_latest(DOG, "ON");
    watcher.wait_for_latest("hearken/attic/door/sound/siren", "OFF");
    watcher.wait_for_latest(AVAILABLE, "online");
    watcher.wait_for("status", |_| watcher.latest(STATUS).is_some());
    watcher.wait_for("discovery", |_| watcher.latest(DISCOVERY).is_some());
}

#[test]
fn discovery_follows_births_and_reloads() {
    let broker = Mosquitto::start(Door::Open);
    let watcher = broker.subscribe("watcher", "#");
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    let configs = || -> Vec<serde_json::Value> {
        let seen = watcher.seen().into_iter().filter(|message| message.topic == DISCOVERY);
        seen.map(|message| serde_json::from_str(&message.payload).expect("JSON")).collect()
    };
    watcher.wait_for_latest(AVAILABLE, "online");
    assert_eq!(configs().len(), 1);
    broker.publish("homeassistant/status", b"offline", false);
    broker.publish("homeassistant/status", b"online", false);
    watcher.wait_for("a second announcement", |_| configs().len() == 2);
    assert_eq!(configs()[0], configs()[1]);

    publisher.announce(roster(&["Dog bark"]));
    watcher.wait_for("removal and shortened announcement", |_| configs().len() == 4);
    let siren = |config: &serde_json::Value| config["components"].get("door_sound_siren").cloned();
    let removed = serde_json::json!({ "platform": "binary_sensor" });
    assert_eq!(siren(&configs()[2]), Some(removed));
    assert_eq!(siren(&configs()[3]), None);
    watcher.wait_for_latest("hearken/attic/door/sound/siren", "");
    let late = broker.subscribe("late", "#");
    late.wait_for("retained state", |_| late.latest(DOG).is_some());
    assert_eq!(late.latest("hearken/attic/door/sound/siren"), None);
}

#[test]
fn what_an_earlier_run_left_behind_is_removed() {
    let broker = Mosquitto::start(Door::Open);
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    publisher.send(status(SourceState::Running));
    wait_connected(&publisher);
    publisher.shutdown(PATIENCE);
    let watcher = broker.subscribe("watcher", "#");
    watcher.wait_for("what was left", |seen| {
        [DOG, STATUS, DISCOVERY].iter().all(|topic| seen.iter().any(|m| m.topic == *topic))
    });
    let (sender, _commands) = unbounded();
    let other = Roster { sources: vec!["yard".into()], ..roster(&["Siren"]) };
    let remote = settings(Broker::Remote(plain(broker.port)));
    let _publisher = hearken::publish::start(remote, other, sender).expect("it starts");
    for topic in [DOG, STATUS, "hearken/attic/door/sound/siren"] {
        watcher.wait_for_latest(topic, "");
    }
    let removal = "\"door_sound_dog_bark\":{\"platform\":\"binary_sensor\"}";
    watcher.wait_for("a removal and then an announcement without it", |seen| {
        let configs: Vec<_> = seen.iter().filter(|m| m.topic == DISCOVERY).collect();
        let removed = configs.iter().any(|config| config.payload.contains(removal));
        removed && configs.last().is_some_and(|config| !config.payload.contains("door_"))
    });
    watcher.wait_for_latest("hearken/attic/yard/sound/siren", "OFF");
}

#[test]
fn nonsense_is_counted_and_not_acted_on() {
    let broker = Mosquitto::start(Door::Open);
    // Retained before we come: an old order must not act.
    broker.publish(SET, b"OFF", true);
    let (publisher, commands) = launch(Broker::Remote(plain(broker.port)));
    wait_until("the old order is refused", || publisher.health().ignored_commands == 1);
    let nonsense: [(&str, &[u8]); 7] = [
        (SET, b"maybe"),
        (SET, b""),
        (SET, b"1"),
        (SET, &[0xff, 0xfe, 0x00]),
        (SET, &[b'O'; 300]),
        (SET, b"{\"state\":\"ON\"}"),
        ("hearken/attic/cellar/set", b"ON"),
    ];
    for (topic, payload) in nonsense {
        broker.publish(topic, payload, false);
    }
    broker.publish(SET, b"On", false);
    let command = commands.recv_timeout(PATIENCE).expect("the good one");
    assert_eq!(command, Command::Listen { source: "door".into(), on: true });
    assert!(commands.is_empty());
    assert_eq!(publisher.health().ignored_commands, 8);
}

#[test]
fn a_frozen_broker_does_not_hold_up_the_end() {
    let broker = Mosquitto::start(Door::Open);
    let (publisher, _commands) = launch(Broker::Remote(plain(broker.port)));
    let watcher = broker.subscribe("watcher", "#");
    watcher.wait_for_latest(AVAILABLE, "online");
    broker.freeze();
    publisher.send(event(EventId::new(), Phase::Start));
    let begun = std::time::Instant::now();
    let health = publisher.shutdown(Duration::from_secs(1));
    assert!(begun.elapsed() < PATIENCE / 2, "it took {:?}", begun.elapsed());
    assert_eq!((health.queued_events, health.delivered_events), (1, 0));
}

/// A broker that reads packets as they come and answers as it is told to.
struct Rude {
    stream: TcpStream,
}

impl Rude {
    /// First byte and body of the next packet; `None` when the client is gone.
    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let kind = byte[0];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some((kind, body))
    }

    /// Serves one connection: acknowledges every `answers_every`th QoS 1 message (0: none), and
    /// hangs up after `messages_max` of them.
    fn serve(&mut self, answers_every: usize, messages_max: usize, seen: &Mutex<Vec<Message>>) {
        let mut messages = 0;
        while let Some((kind, body)) = self.packet() {
            let reply: Vec<u8> = match kind >> 4 {
                1 => vec![0x20, 2, 0, 0],
                3 if kind & 0b110 == 0b010 => {
                    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    seen.lock().expect("not poisoned").push(Message {
                        topic: text(&body[2..topic_end]),
                        payload: text(&body[topic_end + 2..]),
                        retained: false,
                    });
                    messages += 1;
                    if messages >= messages_max {
                        return;
                    }
                    let answers = answers_every > 0 && messages % answers_every == 0;
                    let ack = vec![0x40, 2, body[topic_end], body[topic_end + 1]];
                    if answers { ack } else { Vec::new() }
                }
                8 => vec![0x90, 3, body[0], body[1], 1],
                12 => vec![0xd0, 0],
                14 => return,
                _ => Vec::new(),
            };
            if self.stream.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_hundred_lost_sessions_do_not_wedge_publishing() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seen_by_broker = Arc::clone(&seen);
    let broker = std::thread::spawn(move || {
        for round in 0..=100 {
            let (stream, _) = listener.accept().expect("a client");
            let mut rude = Rude { stream };
            match round {
                100 => rude.serve(1, usize::MAX, &seen_by_broker),
                // Acknowledges none, all or some; hangs up before the window of 16 is full.
                _ => rude.serve(round % 4, 1 + round % 15, &seen_by_broker),
            }
        }
    });
    let (publisher, _commands) = launch(Broker::Remote(plain(port)));
    // More than the first hundred connections acknowledge, so that each has something to lose.
    let ids: Vec<EventId> = (0..400).map(|_| EventId::new()).collect();
    for id in &ids {
        publisher.send(event(*id, Phase::Start));
        publisher.send(event(*id, Phase::End));
    }
    let deadline = std::time::Instant::now() + 6 * PATIENCE;
    while publisher.health().reconnects < 100 {
        assert!(std::time::Instant::now() < deadline, "stuck: {:?}", publisher.health());
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_until("all is delivered at last", || publisher.health().delivered_events == 800);
    let health = publisher.shutdown(PATIENCE);
    assert_eq!((health.queued_events, health.dropped_events), (0, 0));
    broker.join().expect("the broker ends with our goodbye");
    assert_complete(&events(&seen.lock().expect("not poisoned")), &ids);
}

#[test]
fn the_embedded_broker_serves_mosquittos_clients() {
    let port = free_port();
    let (publisher, commands) = launch(Broker::Embedded { port });
    wait_connected(&publisher);
    let first = Subscriber::start(port, None, "first", "hearken/#");
    first.wait_for_latest(AVAILABLE, "online");
    first.wait_for_latest(DOG, "OFF");
    assert!(first.seen().iter().all(|message| message.retained), "{:?}", first.seen());
    let id = EventId::new();
    publisher.send(event(id, Phase::Start));
    first.wait_for_latest(DOG, "ON");
    let second = Subscriber::start(port, None, "second", "hearken/+/door/#");
    second.wait_for_latest(DOG, "ON");
    publish(port, None, SET, b"OFF", false);
    let command = commands.recv_timeout(PATIENCE).expect("a command");
    assert_eq!(command, Command::Listen { source: "door".into(), on: false });
    publisher.send(event(id, Phase::End));
    for (subscriber, expected) in [(&first, 2), (&second, 1)] {
        subscriber.wait_for_latest(DOG, "OFF");
        subscriber.wait_for("the events since it came", |seen| events(seen).len() == expected);
    }
    let health = publisher.shutdown(PATIENCE);
    assert_eq!((health.delivered_events, health.queued_events), (2, 0));
    first.wait_for_latest(AVAILABLE, "offline");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is free again");
}

#[test]
fn the_embedded_broker_keeps_a_last_will_and_stays_on_loopback() {
    let port = free_port();
    let (_publisher, _commands) = launch(Broker::Embedded { port });
    let watcher = Subscriber::start(port, None, "watcher", "wills/#");
    let mut doomed = std::process::Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "x", "-i", "doomed"])
        .args(["--will-topic", "wills/doomed", "--will-payload", "gone", "--will-retain"])
        .args(["--will-qos", "1", "-E"])
        .spawn()
        .expect("mosquitto_sub is needed");
    assert!(doomed.wait().expect("it ends").success());
    let mut doomed = std::process::Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "x", "-t", AVAILABLE])
        .args(["-i", "doomed", "--will-topic", "wills/doomed", "--will-payload", "gone"])
        .args(["--will-retain", "--will-qos", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("mosquitto_sub is needed");
    let mut line = [0; 6];
    doomed.stdout.take().expect("piped").read_exact(&mut line).expect("it is connected");
    assert_eq!(&line, b"online");
    assert_eq!(watcher.latest("wills/doomed"), None, "one that said goodbye leaves no will");
    doomed.kill().expect("it runs");
    doomed.wait().expect("it ends");
    watcher.wait_for_latest("wills/doomed", "gone");
    let late = Subscriber::start(port, None, "late", "wills/#");
    late.wait_for_latest("wills/doomed", "gone");

    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let listening = |line: &&str| line.contains(&format!(":{port:04X} 00000000:0000 0A"));
    let sockets: Vec<&str> = sockets.lines().filter(listening).collect();
    assert_eq!(sockets.len(), 1);
    assert!(sockets[0].contains(" 0100007F:"), "not 127.0.0.1: {sockets:?}");
}
