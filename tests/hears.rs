//! The main job, for real: a siren played into a room, heard by a microphone through PulseAudio,
//! ALSA and cpal, told to mosquitto; and what becomes of it when the microphone fails.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/microphone.rs"]
mod microphone;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use broker::{Door, Message, Mosquitto, Subscriber};
use daemon::{Daemon, hearken, repository};
use microphone::Room;
use nix::sys::signal::Signal;
use serde_json::Value;

const STATUS: &str = "hearken/rig/microphone/status";
const SIREN: &str = "hearken/rig/microphone/sound/siren";
/// Longer than a window and all confirmations: whatever was heard has been told by then.
const LONG_ENOUGH: Duration = Duration::from_secs(9);
/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A room, a broker, and the daemon between them.
struct Rig {
    daemon: Daemon,
    watcher: Subscriber,
    mosquitto: Mosquitto,
    room: Room,
}

impl Rig {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let room = Room::new();
        let mosquitto = Mosquitto::start(Door::Open);
        let watcher = mosquitto.subscribe("watcher", "hearken/#");
        let mut command = hearken(["run", "--node", "rig", "--mqtt-host", "127.0.0.1"]);
        command.args(["--mqtt-port", &mosquitto.port.to_string()]);
        let config = room.folder().join("config.toml");
        let device = format!("name:{}", microphone::DEVICE_NAME);
        let text = format!("[[source]]\nname = \"microphone\"\ndevice = \"{device}\"\n");
        std::fs::write(&config, text).expect("written");
        command.arg("--config").arg(config).envs(room.environment());
        command.envs(settings.iter().copied());
        Self { daemon: Daemon::start(command), watcher, mosquitto, room }
    }

    fn status(&self) -> Option<Value> {
        let text = self.watcher.latest(STATUS)?;
        Some(serde_json::from_str(&text).expect("a status is JSON"))
    }

    fn wait_for_state(&self, states: &[&str]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().unwrap_or_default();
            if states.iter().any(|state| status["state"] == *state) {
                return status;
            }
            assert!(Instant::now() < deadline, "{states:?}, not {status}; {:?}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn events(&self) -> Vec<Value> {
        let is_event = |message: &Message| message.topic.ends_with("/event");
        let seen = self.watcher.seen().into_iter().filter(is_event);
        seen.map(|message| serde_json::from_str(&message.payload).expect("JSON")).collect()
    }

    fn wait_for_events(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.events().len() < count {
            let (events, log) = (self.events(), self.daemon.log());
            assert!(Instant::now() < deadline, "{count} events, not {events:#?}\n{log:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The golden siren at the room's sample rate.
fn siren(room: &Room) -> PathBuf {
    let wav = room.folder().join("siren.wav");
    let converted = Command::new("sox")
        .arg(repository("tests/golden/siren.ogg"))
        .args(["-r", "48000", "-c", "1", "-b", "16"])
        .arg(&wav)
        .status()
        .expect("sox is installed");
    assert!(converted.success());
    wav
}

fn noise(room: &Room) -> PathBuf {
    let wav = room.folder().join("noise.wav");
    microphone::write_wav(&wav, microphone::noise(120.0));
    wav
}

#[test]
fn a_siren_is_one_start_and_one_end_and_silence_is_nothing() {
    let mut rig = Rig::new();
    // Nothing is played: the null sink's monitor gives digital silence.
    rig.wait_for_state(&["muted"]);
    std::thread::sleep(LONG_ENOUGH);
    assert!(rig.events().is_empty(), "{:#?}", rig.events());
    rig.watcher.wait_for_latest(SIREN, "OFF");
    rig.room.play(&siren(&rig.room));
    rig.wait_for_events(1);
    rig.watcher.wait_for_latest(SIREN, "ON");
    let newcomer = rig.mosquitto.subscribe("newcomer", SIREN);
    let retained = |seen: &[Message]| seen.iter().any(|m| m.topic == SIREN && m.retained);
    newcomer.wait_for("the retained state", retained);
    rig.wait_for_events(2);
    rig.watcher.wait_for_latest(SIREN, "OFF");
    std::thread::sleep(LONG_ENOUGH);
    let events = rig.events();
    assert_eq!(events.len(), 2, "{events:#?}");
    for (event, phase) in events.iter().zip(["start", "end"]) {
        assert_eq!((&event["class"], &event["phase"]), (&"siren".into(), &phase.into()));
        assert_eq!((&event["source"], &event["id"]), (&"microphone".into(), &events[0]["id"]));
    }
    let status = rig.status().expect("a status");
    assert_eq!(status["lost_samples"], 0, "{status}");
    rig.daemon.signal(Signal::SIGTERM);
    assert!(rig.daemon.end().success());
    rig.watcher.wait_for_latest("hearken/rig/available", "offline");
}

#[test]
fn browsers_that_look_and_one_that_never_reads_cost_the_microphone_nothing() {
    use std::io::Write as _;
    let port = broker::free_port();
    let rig = Rig::with(&[
        ("HEARKEN_DASHBOARD__ENABLED", "true"),
        ("HEARKEN_DASHBOARD__LISTEN", &format!("127.0.0.1:{port}")),
    ]);
    rig.daemon.wait_for_log(&["dashboard at"]);
    let mut looking: Vec<std::net::TcpStream> = Vec::new();
    for _ in 0..8 {
        let mut one = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        write!(one, "GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("taken");
        looking.push(one);
    }
    // (What fits between the two ends of a connection is not read; what does not is dropped for that
    // reader alone, which the unit tests of the live view show.)
    let wav = noise(&rig.room);
    let _playing = rig.room.play_in_background(&wav);
    rig.wait_for_state(&["running"]);
    std::thread::sleep(Duration::from_secs(20));
    let status = rig.status().expect("a status");
    assert_eq!((&status["lost_samples"], &status["gaps"]), (&0.into(), &0.into()), "{status}");
    let said = std::process::Command::new("curl")
        .args(["-s", "--noproxy", "*", &format!("http://127.0.0.1:{port}/api/status")])
        .output()
        .expect("curl is needed");
    let source = &serde_json::from_slice::<Value>(&said.stdout).expect("JSON")["sources"][0];
    assert!(source["classified_windows"].as_u64().is_some_and(|windows| windows >= 20), "{source}");
    assert_eq!(
        (&source["lost_samples"], &source["dropped_windows"]),
        (&0.into(), &0.into()),
        "{source}"
    );
    drop(looking);
}

#[test]
fn a_microphone_pulled_out_in_a_siren_ends_it_and_hears_again_when_back() {
    let rig = Rig::new();
    rig.wait_for_state(&["muted", "running"]);
    let wav = siren(&rig.room);
    let playing = rig.room.play_in_background(&wav);
    rig.watcher.wait_for_latest(SIREN, "ON");
    rig.room.unplug();
    drop(playing);
    let status = rig.wait_for_state(&["lost", "backing_off"]);
    assert!(status["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{status}");
    rig.watcher.wait_for_latest(SIREN, "OFF");
    rig.wait_for_events(2);
    rig.room.plug_in();
    rig.wait_for_state(&["muted", "running"]);
    // Heard anew, as another event.
    rig.room.play(&wav);
    rig.wait_for_events(4);
    let ids: Vec<Value> = rig.events().iter().map(|event| event["id"].clone()).collect();
    assert_eq!((&ids[0], &ids[2]), (&ids[1], &ids[3]));
    assert_ne!(ids[0], ids[2]);
    let gaps = rig.wait_for_state(&["muted", "running"])["gaps"].clone();
    assert!(gaps.as_u64().is_some_and(|gaps| gaps >= 1), "{gaps}");
}

#[test]
fn frozen_and_muted_microphones_are_told_and_recover() {
    let rig = Rig::new();
    let wav = noise(&rig.room);
    let _playing = rig.room.play_in_background(&wav);
    rig.wait_for_state(&["running"]);
    rig.room.mute(true);
    rig.wait_for_state(&["muted"]);
    rig.room.mute(false);
    let status = rig.wait_for_state(&["running"]);
    assert!(status["level_dbfs"].as_f64().is_some(), "{status}");
    rig.room.freeze();
    rig.wait_for_state(&["stalled"]);
    rig.room.thaw();
    rig.wait_for_state(&["running"]);
    assert!(rig.events().is_empty(), "{:#?}", rig.events());
}
