//! `hearken run` from audio to the broker, with real files, commands, signals and brokers.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/daemon.rs"]
mod daemon;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use broker::{Door, Message, Mosquitto, Subscriber, free_port, publish};
use daemon::{Daemon, hearken, repository};
use nix::sys::signal::Signal;
use serde_json::Value;

fn soundscape() -> String {
    repository("assets/soundscape.ogg").display().to_string()
}

fn siren() -> String {
    repository("tests/golden/siren.ogg").display().to_string()
}

/// `run` with a node's name and a broker.
fn run(port: u16, arguments: &[&str]) -> Command {
    let mut command = hearken(["run", "--node", "rig", "--mqtt-host", "127.0.0.1", "--mqtt-port"]);
    command.arg(port.to_string()).args(arguments);
    command
}

fn subscribe(port: u16) -> Subscriber {
    Subscriber::start(port, None, "watcher", "hearken/#")
}

fn events(seen: &[Message]) -> Vec<Value> {
    seen.iter()
        .filter(|message| message.topic.ends_with("/event"))
        .map(|message| serde_json::from_str(&message.payload).expect("an event is JSON"))
        .collect()
}

fn has_event(seen: &[Message], class: &str, phase: &str) -> bool {
    events(seen).iter().any(|event| event["class"] == class && event["phase"] == phase)
}

/// Every start is followed by the end of the same sound, and by no other.
fn assert_paired(events: &[Value]) {
    for event in events {
        let same: Vec<&Value> = events.iter().filter(|other| other["id"] == event["id"]).collect();
        let phases: Vec<&str> =
            same.iter().map(|event| event["phase"].as_str().expect("a phase")).collect();
        assert_eq!(phases, ["start", "end"], "{event}");
        assert_eq!(same[0]["start"], same[1]["start"]);
        assert!(same[1]["end"].as_str() >= same[1]["start"].as_str(), "{event}");
    }
}

#[test]
fn a_recording_becomes_events_on_the_terminal_and_at_the_broker() {
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let mut daemon =
        Daemon::start(run(mosquitto.port, &["--file", &soundscape(), "--fast", "--json"]));
    assert!(daemon.end().success(), "{:?}", daemon.log());
    watcher.wait_for("the farewell", |seen| {
        seen.iter().any(|m| m.topic == "hearken/rig/available" && m.payload == "offline")
    });
    let seen = watcher.seen();
    let published = events(&seen);
    assert_paired(&published);
    let mut classes: Vec<&str> = published
        .iter()
        .filter(|event| event["phase"] == "start")
        .map(|event| event["class"].as_str().expect("a class"))
        .collect();
    assert_eq!(classes, ["siren", "thunderstorm", "glass_breaking", "dog"]);
    classes.sort_unstable();
    for class in classes {
        let topic = format!("hearken/rig/soundscape/sound/{class}");
        let states: Vec<&str> =
            seen.iter().filter(|m| m.topic == topic).map(|m| &*m.payload).collect();
        assert!(states.ends_with(&["ON", "OFF"]), "{topic}: {states:?}");
    }
    let status = watcher.latest("hearken/rig/soundscape/status").expect("a status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["state"], "ended");
    assert_eq!((&status["lost_samples"], &status["dropped_windows"]), (&0.into(), &0.into()));
    let printed: Vec<Value> =
        daemon.out().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(printed, published);
}

#[test]
fn events_lie_where_the_sounds_are() {
    let mut daemon = Daemon::start({
        let mut command = hearken(["run", "--fast", "--json", "--file", &soundscape()]);
        command.args(["--set", "mqtt.enabled=false"]);
        command
    });
    assert!(daemon.end().success(), "{:?}", daemon.log());
    let events: Vec<Value> =
        daemon.out().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seconds = |event: &Value, key: &str| {
        let text = event[key].as_str().expect("a time");
        let (_, clock) = text.split_once('T').expect("RFC 3339");
        let parts: Vec<f64> = clock
            .trim_end_matches('Z')
            .split(':')
            .map(|part| part.parse().expect("a number"))
            .collect();
        parts[0] * 3_600.0 + parts[1] * 60.0 + parts[2]
    };
    // Onsets and ends of assets/README.md. What lies in the first window may have begun with it, so
    // the siren's start is the recording's; the last window still hears the dog, which therefore
    // ends with the recording.
    let truth = [
        ("siren", 0.0, 6.4),
        ("thunderstorm", 10.0, 14.6),
        ("glass_breaking", 18.0, 22.5),
        ("dog", 26.0, 34.0),
    ];
    let ends: Vec<&Value> = events.iter().filter(|event| event["phase"] == "end").collect();
    let origin = seconds(ends[0], "start");
    assert_eq!(ends.len(), truth.len());
    for (event, (class, start, end)) in ends.iter().zip(truth) {
        assert_eq!(event["class"], class);
        for (key, truth, most) in [("start", start, 1.0), ("end", end, 1.5)] {
            let error = seconds(event, key) - origin - truth;
            // Midnight may lie between.
            let error = (error + 43_200.0).rem_euclid(86_400.0) - 43_200.0;
            assert!(error.abs() < most, "{class}: its {key} is {error} s off");
        }
    }
}

#[test]
fn without_a_broker_there_is_one_on_loopback() {
    let port = free_port();
    let mut daemon = Daemon::start({
        let mut command = hearken(["run", "--node", "rig", "--file", &siren(), "--repeat"]);
        command.args(["--set", &format!("mqtt.embedded_port={port}")]);
        command
    });
    daemon.wait_until("the broker answers", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let watcher = subscribe(port);
    watcher.wait_for("the siren", |seen| has_event(seen, "siren", "start"));
    watcher.wait_for_latest("hearken/rig/siren/sound/siren", "ON");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
}

#[test]
fn a_termination_ends_open_events_and_tells_the_broker() {
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let mut daemon = Daemon::start(run(mosquitto.port, &["--file", &siren(), "--repeat"]));
    watcher.wait_for("the siren", |seen| has_event(seen, "siren", "start"));
    daemon.signal(Signal::SIGTERM);
    let asked = std::time::Instant::now();
    assert!(daemon.end().success());
    let took = asked.elapsed();
    watcher.wait_for_latest("hearken/rig/available", "offline");
    watcher.wait_for_latest("hearken/rig/siren/sound/siren", "OFF");
    assert_paired(&events(&watcher.seen()));
    // Bounded by the program itself at 2 s; the rest is for a busy machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_kill_lets_the_last_will_speak() {
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let mut daemon = Daemon::start(run(mosquitto.port, &["--file", &siren(), "--repeat"]));
    watcher.wait_for_latest("hearken/rig/available", "online");
    daemon.signal(Signal::SIGKILL);
    daemon.end();
    watcher.wait_for_latest("hearken/rig/available", "offline");
}

#[test]
fn a_command_is_a_source_and_is_started_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let text = format!(
        "[[source]]\nname = \"camera\"\nsample_rate_hz = 32000\n\
         command = [\"ffmpeg\", \"-loglevel\", \"error\", \"-stream_loop\", \"2\", \"-i\", \"{}\", \"-f\", \"s16le\", \"-ac\", \"1\", \"-ar\", \"32000\", \"-\"]\n\
         [[source]]\nname = \"broken\"\ncommand = [\"sh\", \"-c\", \"echo no camera >&2; exit 3\"]\n",
        siren()
    );
    std::fs::write(&config, text).expect("written");
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let config = config.display().to_string();
    let _daemon = Daemon::start(run(mosquitto.port, &["--config", &config]));
    watcher.wait_for("two sirens from a command that ends each time", |seen| {
        events(seen).iter().filter(|event| event["phase"] == "end").count() >= 2
    });
    assert_paired(&events(&watcher.seen()).into_iter().take(4).collect::<Vec<_>>());
    // It is tried again and again: between two trials the status is that of an opening.
    watcher.wait_for("the command's exit code and last words in a status", |seen| {
        let of_broken = seen.iter().filter(|m| m.topic == "hearken/rig/broken/status");
        let words = ["exit", "3", "no camera"];
        of_broken.into_iter().any(|m| words.iter().all(|word| m.payload.contains(word)))
    });
}

#[test]
fn standard_input_is_a_source() {
    let pcm = Command::new("sox")
        .args([&siren(), "-t", "raw", "-r", "16000", "-c", "1", "-e", "signed", "-b", "16", "-"])
        .output()
        .expect("sox is installed");
    assert!(pcm.status.success());
    let mut command = hearken(["run", "--stdin", "--sample-rate-hz", "16000", "--json"]);
    command.args(["--set", "mqtt.enabled=false"]).stdin(Stdio::piped());
    let mut daemon = Daemon::start(command);
    let mut input = daemon.child.stdin.take().expect("piped");
    for _ in 0..3 {
        std::io::Write::write_all(&mut input, &pcm.stdout).expect("it reads");
    }
    drop(input);
    assert!(daemon.end().success(), "{:?}", daemon.log());
    assert!(daemon.out()[0].contains("\"siren\""), "{:?}", daemon.out());
    assert_eq!(daemon.out().len() % 2, 0, "{:?}", daemon.out());
}

#[test]
fn listening_is_switched_by_command_and_nonsense_changes_nothing() {
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let daemon = Daemon::start(run(mosquitto.port, &["--file", &siren(), "--repeat"]));
    let state = |wanted: &str| {
        watcher.wait_for(wanted, |seen| {
            let last = seen.iter().rev().find(|m| m.topic == "hearken/rig/siren/status");
            last.is_some_and(|m| m.payload.contains(&format!("\"state\":\"{wanted}\"")))
        });
    };
    state("running");
    for nonsense in ["", "on please", "{\"on\":true}", "\u{1F514}"] {
        publish(mosquitto.port, None, "hearken/rig/siren/set", nonsense.as_bytes(), false);
    }
    publish(mosquitto.port, None, "hearken/rig/nobody/set", b"OFF", false);
    watcher.wait_for("the siren", |seen| has_event(seen, "siren", "start"));
    publish(mosquitto.port, None, "hearken/rig/siren/set", b"OFF", false);
    state("off");
    watcher.wait_for("the siren ends with the listening", |seen| has_event(seen, "siren", "end"));
    publish(mosquitto.port, None, "hearken/rig/siren/set", b"ON", false);
    state("running");
    assert!(!daemon.log().iter().any(|line| line.contains("panicked")), "{:?}", daemon.log());
}

fn write_classes(config: &Path, classes: &str) {
    let text = format!(
        "[[source]]\nname = \"file\"\nfile = \"{}\"\nrepeat = true\n\
         [detection]\nclasses = {classes}\n",
        siren()
    );
    std::fs::write(config, text).expect("written");
}

#[test]
fn a_hangup_reloads_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    write_classes(&config, "[\"dog\"]");
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let path = config.display().to_string();
    let mut daemon = Daemon::start(run(mosquitto.port, &["--config", &path]));
    daemon.wait_for_log(&["running"]);
    std::fs::write(&config, "[detection]\nsensitivity = 7\nsensitivty = 1\n").expect("written");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(&["old settings", "detection.sensitivity"]);
    write_classes(&config, "[\"sirene\"]");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(&["old settings", "sirene", "siren"]);
    assert!(!has_event(&watcher.seen(), "siren", "start"));
    write_classes(&config, "[\"siren\"]");
    daemon.signal(Signal::SIGHUP);
    watcher
        .wait_for("the siren, now that it is asked for", |seen| has_event(seen, "siren", "start"));
    watcher.wait_for_latest("hearken/rig/file/sound/siren", "ON");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
}

#[test]
fn a_broker_with_tls_and_password_is_used_and_the_password_stays_secret() {
    let mosquitto = Mosquitto::start(Door::Locked);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let (user, password) = (broker::USER, broker::PASSWORD);
    std::fs::write(folder.path().join("password"), format!("{password}\n")).expect("written");
    let text = format!(
        "node = \"rig\"\n[[source]]\nname = \"file\"\nfile = \"{}\"\nrepeat = true\n\
         [mqtt]\nhost = \"localhost\"\nport = {}\nuser = \"{user}\"\npassword_file = \"password\"\n\
         [mqtt.tls]\nenabled = true\nca_file = \"{}\"\n",
        siren(),
        mosquitto.tls_port,
        mosquitto.ca_file.display()
    );
    std::fs::write(&config, text).expect("written");
    let watcher = mosquitto.subscribe("watcher", "hearken/#");
    let path = config.display().to_string();
    let mut daemon = Daemon::start(hearken(["run", "--log-level", "trace", "--config", &path]));
    watcher.wait_for("the siren", |seen| has_event(seen, "siren", "start"));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    let told = [daemon.log(), daemon.out()].concat().join("\n");
    assert!(!told.contains(password), "the password is in the log");
    let (_, checked, _) = daemon::outcome(["config", "check", &path]);
    assert!(checked.contains("hidden") && !checked.contains(password), "{checked}");
}

#[test]
fn fifty_sources_at_once_are_all_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let sources: String = (0..50)
        .map(|n| {
            format!(
                "[[source]]\nname = \"file{n}\"\nfile = \"{}\"\npace = \"fast\"\n",
                soundscape()
            )
        })
        .collect();
    std::fs::write(&config, sources).expect("written");
    let mut daemon = Daemon::start({
        let path = config.display().to_string();
        hearken(["run", "--json", "--set", "mqtt.enabled=false", "--config", &path])
    });
    assert!(daemon.end().success(), "{:?}", daemon.log());
    let events: Vec<Value> =
        daemon.out().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for n in 0..50 {
        let of_source: Vec<&str> = events
            .iter()
            .filter(|event| event["source"] == format!("file{n}") && event["phase"] == "start")
            .map(|event| event["class"].as_str().expect("a class"))
            .collect();
        assert_eq!(of_source, ["siren", "thunderstorm", "glass_breaking", "dog"], "file{n}");
    }
}

#[test]
fn a_machine_without_a_microphone_is_told_so_and_retried() {
    let mosquitto = Mosquitto::start(Door::Open);
    let watcher = subscribe(mosquitto.port);
    let mut daemon = Daemon::start(run(mosquitto.port, &[]));
    watcher.wait_for("the lost source on its status", |seen| {
        seen.iter().any(|m| {
            m.topic == "hearken/rig/microphone/status" && m.payload.contains("backing_off")
        })
    });
    assert!(daemon.child.try_wait().expect("a child").is_none(), "it goes on");
    daemon.signal(Signal::SIGINT);
    assert!(daemon.end().success());
    assert!(daemon.out().is_empty(), "{:?}", daemon.out());
}

#[test]
fn make_run_hears_the_bundled_recording_where_there_is_no_microphone() {
    let port = free_port();
    let config = repository("config.toml").display().to_string();
    let mut daemon = Daemon::start({
        let mut command = hearken(["run", "--demo-if-no-microphone", "--config", &config]);
        command.args(["--set", &format!("mqtt.embedded_port={port}")]);
        command
    });
    daemon.wait_for_log(&["no microphone", "recording"]);
    daemon.wait_until("the siren on the terminal", || {
        daemon.out().iter().any(|line| line.contains("START") && line.contains("siren"))
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    assert!(daemon.out().iter().any(|line| line.contains("END")), "{:?}", daemon.out());
}
