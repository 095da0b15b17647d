//! What is announced to Home Assistant and said to its entities, against golden files that were
//! checked with its own schemas (`tests/data/discovery/README.md`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hearken::publish::Roster;
use hearken::publish::discovery::{self, Gone};
use hearken::publish::payload::{self, OFF, OFFLINE, ON, ONLINE, Topics};
use hearken::signal::{Command as Order, SourceName, SourceState, SourceStatus, Timestamp};
use serde_json::Value;

const ALL: ([&str; 2], [&str; 3]) = (["microphone", "garden"], ["siren", "dog", "glass_breaking"]);
const FEWER: ([&str; 1], [&str; 2]) = (["microphone"], ["siren", "dog"]);

fn golden_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/discovery").join(name)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(golden_file(name)).expect("a golden file");
    serde_json::from_str(&text).expect("it is JSON")
}

fn topics() -> Topics {
    Topics::new("hearken", "attic".into(), Some("homeassistant".to_owned()))
}

fn roster(sources: &[&str], classes: &[&str]) -> Roster {
    Roster {
        sources: sources.iter().map(|&name| name.into()).collect(),
        classes: classes.iter().map(|&name| name.into()).collect(),
        model: "first_sound".into(),
        version: "0.1.0",
    }
}

/// A payload as the golden files write it: JSON as such, anything else as text.
fn written(payload: &[u8]) -> Value {
    let text = || Value::String(String::from_utf8(payload.to_vec()).expect("text"));
    serde_json::from_slice(payload).unwrap_or_else(|_| text())
}

fn status(state: SourceState) -> SourceStatus {
    SourceStatus {
        source: "microphone".into(),
        state,
        since: "2026-11-22T11:55:23.204Z".parse().expect("a time"),
        detail: None,
        level_dbfs: None,
        lost_samples: 0,
        gaps: 0,
        dropped_windows: 0,
        classified_windows: 50,
    }
}

/// What the entities are told, in the order of the golden file.
fn said() -> Vec<(String, Vec<u8>)> {
    let topics = topics();
    let at: Timestamp = "2026-11-22T11:55:24.214Z".parse().expect("a time");
    let level = |dbfs| payload::level(at, dbfs).expect("a number");
    let running = SourceStatus { level_dbfs: Some(-24.5), ..status(SourceState::Running) };
    let waiting = SourceStatus {
        detail: Some("the device is gone; next attempt in 5 s".to_owned()),
        gaps: 1,
        ..status(SourceState::BackingOff)
    };
    [
        (topics.available(), ONLINE.into()),
        (topics.available(), OFFLINE.into()),
        (topics.sound("microphone", "siren"), ON.into()),
        (topics.sound("microphone", "siren"), OFF.into()),
        (topics.sound("garden", "Glass breaking"), ON.into()),
        (topics.level("microphone"), level(-55.234)),
        (topics.level("microphone"), level(f32::NEG_INFINITY)),
        (topics.status("microphone"), payload::status(&running)),
        (topics.status("microphone"), payload::status(&status(SourceState::Off))),
        (topics.status("microphone"), payload::status(&waiting)),
        // The source is gone.
        (topics.status("microphone"), Vec::new()),
    ]
    .map(|(topic, payload)| (topic.to_string(), payload))
    .into()
}

fn check(environment: &OsStr, files: &[PathBuf]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-discovery.py");
    let mut python = Command::new(Path::new(environment).join("bin/python"));
    python.arg(script).args(files).output().expect("HEARKEN_HOMEASSISTANT is an environment")
}

#[test]
fn two_sources_and_three_sounds_are_announced_as_ever() {
    let roster = roster(&ALL.0, &ALL.1);
    let components = discovery::components(&topics(), &roster);
    let config = discovery::config(&topics(), &roster, &components, &Gone::new());
    let golden = golden("config.json");
    assert_eq!(topics().discovery().as_deref(), golden["topic"].as_str());
    assert_eq!(written(&config), golden["payload"]);
}

#[test]
fn a_source_and_a_sound_are_removed_as_ever() {
    let old = discovery::components(&topics(), &roster(&ALL.0, &ALL.1));
    let roster = roster(&FEWER.0, &FEWER.1);
    let components = discovery::components(&topics(), &roster);
    let gone = discovery::gone(&old, &components);
    let golden = golden("removal.json");
    assert_eq!(
        written(&discovery::config(&topics(), &roster, &components, &gone)),
        golden["payload"]
    );
}

#[test]
fn entities_are_told_and_commanded_as_ever() {
    let golden = golden("states.json");
    let messages = golden.as_array().expect("a list");
    let (commands, told): (Vec<_>, Vec<_>) =
        messages.iter().partition(|message| message.get("commands").is_some());
    let said = said();
    assert_eq!(told.len(), said.len());
    for (message, (topic, payload)) in told.into_iter().zip(said) {
        assert_eq!(message["topic"], topic);
        assert_eq!(message["payload"], written(&payload), "{topic}");
    }
    let sources: Vec<SourceName> = ALL.0.map(Into::into).into();
    let orders: Vec<_> = commands
        .into_iter()
        .map(|message| {
            let text = |key: &str| message[key].as_str().expect("text");
            let payload = text("payload").as_bytes();
            payload::parse_command(&topics(), &sources, text("topic"), payload, false)
        })
        .collect();
    let order = |on| Ok(Order::Listen { source: "microphone".into(), on });
    assert_eq!(orders, [order(true), order(false)]);
}

#[test]
fn home_assistants_schemas_take_the_golden_files() {
    let files = ["config.json", "removal.json", "states.json"].map(golden_file);
    // What its schemas require of every device, without asking them.
    let config = golden("config.json");
    let components = config["payload"]["components"].as_object().expect("a map");
    assert_eq!(components.len(), 1 + 2 * (3 + 2));
    for part in ["device", "origin"] {
        assert!(config["payload"][part]["name"].is_string(), "{part}");
    }
    let Some(environment) = std::env::var_os("HEARKEN_HOMEASSISTANT") else { return };
    let taken = check(&environment, &files);
    assert!(taken.status.success(), "{taken:?}");

    // A key that it does not know: dropped without a word by Home Assistant, but not by the check.
    let folder = tempfile::tempdir().expect("a folder");
    let typo = folder.path().join("typo.json");
    let text = config.to_string().replace("suggested_display_precision", "display_precision");
    std::fs::write(&typo, text).expect("written");
    let refused = check(&environment, &[typo]);
    let told = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(told.contains("would be dropped: display_precision"), "{told}");
}
