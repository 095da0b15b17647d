//! What was heard is not forgotten: kills, full and failing disks, damaged databases, and the
//! commands that look at what is kept.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/daemon.rs"]
mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use broker::{Door, Mosquitto, Subscriber, free_port};
use daemon::{Daemon, hearken, outcome, repository};
use hearken::capture::decode::AudioFile;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Of `make test`; `HEARKEN_TEST_KILLS` asks for others.
const KILLS: usize = 200;

fn soundscape() -> String {
    repository("assets/soundscape.ogg").display().to_string()
}

/// A daemon on a recording, with its state in `state` and its events to a broker on `port`.
fn run(state: &Path, port: u16, more: &[&str]) -> Command {
    let port = port.to_string();
    let mut arguments = vec!["run", "--node", "attic", "--mqtt-host", "127.0.0.1"];
    arguments.extend(["--mqtt-port", &port, "--file"]);
    let soundscape = soundscape();
    arguments.extend([soundscape.as_str(), "--fast"]);
    arguments.extend(more);
    with_state(hearken(arguments), state)
}

/// Without MQTT.
fn alone(state: &Path, more: &[&str]) -> Command {
    let soundscape = soundscape();
    let mut arguments = vec!["run", "--set", "mqtt.enabled=false", "--file", &soundscape, "--fast"];
    arguments.extend(more);
    with_state(hearken(arguments), state)
}

fn with_state(mut command: Command, state: &Path) -> Command {
    command.env("HEARKEN_STORE__FOLDER", state);
    command
}

/// Events that have ended, on the terminal.
fn ends(daemon: &Daemon) -> usize {
    daemon.out().iter().filter(|line| line.contains("END")).count()
}

/// Runs to the end.
fn finish(command: Command) -> (i32, Vec<String>, Vec<String>) {
    let mut daemon = Daemon::start(command);
    let code = daemon.end().code().expect("it ended by itself");
    (code, daemon.out(), daemon.log())
}

fn events(state: &Path, more: &[&str]) -> Vec<Value> {
    let folder = state.display().to_string();
    let mut arguments = vec!["events", "--json", "--state", &folder];
    if !more.contains(&"--limit") {
        arguments.extend(["--limit", "1000000"]);
    }
    arguments.extend(more);
    let (code, out, err) = outcome(arguments);
    assert_eq!(code, 0, "{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn integrity(state: &Path) -> String {
    let database = rusqlite::Connection::open(state.join("hearken.db")).expect("a database");
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer")
}

/// The messages that the log says were committed.
fn committed(log: &[String]) -> Vec<(String, String)> {
    let word = |line: &str, key: &str| {
        let (_, tail) = line.split_once(key)?;
        Some(tail.split_whitespace().next()?.to_lowercase())
    };
    let kept = log.iter().filter(|line| line.contains(" kept "));
    kept.map(|line| (word(line, "id=").expect("id"), word(line, "phase=").expect("phase")))
        .collect()
}

/// Messages of events, in the order they came.
fn told(subscriber: &Subscriber) -> Vec<(String, String)> {
    let seen = subscriber.seen();
    let events = seen.iter().filter(|message| message.topic.ends_with("/event"));
    let parsed =
        events.map(|message| serde_json::from_str::<Value>(&message.payload).expect("JSON"));
    parsed.map(|json| (text(&json, "id").to_owned(), text(&json, "phase").to_owned())).collect()
}

/// Each event has its start before its end, however often either came.
fn assert_paired(told: &[(String, String)]) {
    let mut phases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, phase) in told {
        let seen = phases.entry(id).or_default();
        if !seen.contains(&phase.as_str()) {
            seen.push(phase);
        }
    }
    for (id, phases) in phases {
        assert_eq!(phases, ["start", "end"], "{id}");
    }
}

#[test]
fn two_hundred_kills_lose_no_event() {
    let kills = std::env::var("HEARKEN_TEST_KILLS").ok();
    let kills = kills.map_or(KILLS, |count| count.parse().expect("a number"));
    let broker = Mosquitto::start(Door::Open);
    let subscriber = broker.subscribe("watcher", "hearken/attic/+/event");
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let mut random = fastrand::Rng::with_seed(8);
    let mut kept = Vec::new();
    for kill in 0..kills {
        let more = ["--repeat", "--log-level", "debug"];
        let mut daemon = Daemon::start(run(&state, broker.port, &more));
        // Half of them while events flow, however slow the machine is; the others at any moment.
        if kill % 2 == 0 {
            daemon.wait_for_log(&[" kept "]);
        }
        std::thread::sleep(Duration::from_millis(random.u64(0..850)));
        daemon.signal(Signal::SIGKILL);
        daemon.end();
        kept.extend(committed(&daemon.log()));
        // A kill may come before there is one.
        if state.join("hearken.db").exists() {
            assert_eq!(integrity(&state), "ok");
        }
    }
    let (code, _, log) = finish(run(&state, broker.port, &["--log-level", "debug"]));
    assert_eq!(code, 0, "{log:#?}");
    kept.extend(committed(&log));
    broker::wait_until("the last message has come", || {
        let told: BTreeSet<_> = told(&subscriber).into_iter().collect();
        kept.iter().all(|message| told.contains(message))
    });
    let told = told(&subscriber);
    assert_paired(&told);
    let ids: BTreeSet<&str> = told.iter().map(|(id, _)| id.as_str()).collect();
    assert!(ids.len() >= kills / 2, "{} events in {kills} runs", ids.len());
    let rows = events(&state, &[]);
    let stored: BTreeSet<&str> = rows.iter().map(|row| text(row, "id")).collect();
    assert_eq!(stored, ids);
    assert!(rows.iter().all(|row| row["end"].is_string() && row["delivered"] == true));
    let cut_off = rows.iter().filter(|row| row["ending"] == "restart").count();
    println!(
        "{kills} kills: {} events, {} messages told {} times, {cut_off} events cut off",
        ids.len(),
        kept.len(),
        told.len()
    );
    assert!(cut_off > 0 && cut_off <= 4 * kills);
}

/// The four events of the recording, heard while their broker was not there: the broker, and the state
/// with the folder that it lies in.
fn unheard() -> (Mosquitto, TempDir, PathBuf) {
    let broker = Mosquitto::prepare(Door::Open);
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let mut daemon = Daemon::start(run(&state, broker.port, &["--log-level", "debug"]));
    daemon.wait_until("all four events are kept", || committed(&daemon.log()).len() >= 8);
    daemon.signal(Signal::SIGTERM);
    daemon.end();
    (broker, base, state)
}

#[test]
fn what_a_broker_missed_is_told_by_the_next_run() {
    let (mut broker, base, state) = unheard();
    assert!(events(&state, &[]).iter().all(|row| row["delivered"] == false));
    let (code, out, _) = outcome(["events", "--state", &state.display().to_string()]);
    assert_eq!((code, out.matches("not delivered").count()), (0, 4), "{out}");
    broker.resume();
    let subscriber = broker.subscribe("watcher", "hearken/attic/+/event");
    let silence = base.path().join("silence.wav");
    write_silence(&silence, 1);
    let arguments = ["run", "--node", "attic", "--mqtt-host", "127.0.0.1", "--mqtt-port"];
    let port = broker.port.to_string();
    let silence = silence.display().to_string();
    let rest = [port.as_str(), "--file", &silence, "--fast"];
    let (code, _, log) = finish(with_state(hearken(arguments.iter().chain(&rest)), &state));
    assert_eq!(code, 0, "{log:#?}");
    broker::wait_until("all is told", || told(&subscriber).len() == 8);
    assert_paired(&told(&subscriber));
    assert!(events(&state, &[]).iter().all(|row| row["delivered"] == true));
}

/// A WAV of 16 bits at 8 kHz.
fn write_silence(path: &Path, seconds: usize) {
    let data = vec![0_u8; seconds * 16_000];
    let length = u32::try_from(data.len()).expect("small");
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((length + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(8_000_u32.to_le_bytes());
    bytes.extend(16_000_u32.to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(data);
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn events_are_listed_filtered_and_exported() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let (code, out, log) = finish(alone(&state, &["--json"]));
    assert_eq!(code, 0, "{log:#?}");
    let rows = events(&state, &[]);
    let starts: Vec<Value> = out
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|event| event["phase"] == "start")
        .collect();
    let of = |rows: &[Value], key: &str| -> Vec<String> {
        rows.iter().map(|row| text(row, key).to_owned()).collect()
    };
    assert_eq!(of(&rows, "id"), of(&starts, "id"));
    assert_eq!(of(&rows, "class"), ["siren", "thunderstorm", "glass_breaking", "dog"]);
    assert_eq!(of(&events(&state, &["--class", "dog,siren"]), "class"), ["siren", "dog"]);
    assert_eq!(events(&state, &["--since", "2000d"]).len(), 4);
    assert_eq!(events(&state, &["--until", "2001-01-01"]).len(), 0);
    assert_eq!(events(&state, &["--since", text(&rows[3], "start")]).len(), 1);
    assert_eq!(events(&state, &["--min-score", "1.1"]).len(), 0);
    assert_eq!(of(&events(&state, &["--limit", "1"]), "class"), ["dog"]);
    assert_eq!(events(&state, &["--source", "nobody"]).len(), 0);
    let folder = state.display().to_string();
    let (code, csv, _) = outcome(["events", "--state", &folder, "--format", "csv"]);
    assert_eq!((code, csv.lines().count()), (0, 5));
    assert!(csv.starts_with("id,node,source,class,start,end,seconds,"), "{csv}");
    let (_, daily, _) = outcome(["events", "--state", &folder, "--daily"]);
    assert_eq!(daily.lines().count(), 4, "{daily}");
    let (_, daily, _) =
        outcome(["events", "--state", &folder, "--daily", "--class", "dog", "--source", "nobody"]);
    assert_eq!(daily, "");
    let (_, daily, _) = outcome(["events", "--state", &folder, "--daily", "--class", "dog"]);
    assert!(daily.lines().count() > 0, "{daily}");
    assert!(daily.lines().all(|line| line.contains("  dog  ")), "{daily}");
    let (code, _, err) = outcome(["events", "--daily", "--limit", "1"]);
    assert!(code == 2 && err.contains("--limit"), "{err}");
    let (code, _, err) = outcome(["events", "--state", "/nowhere"]);
    assert_eq!(code, 69);
    assert!(err.contains("there is no /nowhere/hearken.db"), "{err}");
    let (code, _, err) = outcome(["events", "--since", "teatime"]);
    assert_eq!(code, 2);
    assert!(err.contains("teatime") && err.contains("30m"), "{err}");
}

#[test]
fn the_daemon_says_how_it_is_and_why_sounds_were_no_events() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let folder = state.display().to_string();
    let broker = Mosquitto::start(Door::Open);
    let more = ["--repeat", "--set", "detection.classes=siren,dog,rooster"];
    let more: Vec<&str> = more.into_iter().chain(["--set", "detection.class.dog.on=1.0"]).collect();
    let daemon = Daemon::start(run(&state, broker.port, &more));
    let status = || outcome(["status", "--json", "--state", &folder]);
    daemon.wait_until("it is connected", || status().1.contains("\"connected\":true"));
    let follower = Daemon::start(hearken(["events", "--follow", "--json", "--state", &folder]));
    follower.wait_until("a siren is followed", || {
        follower.out().iter().any(|line| line.contains("siren"))
    });
    daemon.wait_until("something was judged", || {
        daemon.out().iter().any(|line| line.contains("END"))
    });
    let (code, out, _) = status();
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, text(&json, "node")), (0, "attic"));
    assert_eq!(json["sources"][0]["state"], "running");
    assert_eq!(json["health"]["degraded"], false);
    let (code, words, _) = outcome(["status", "--state", &folder]);
    assert_eq!(code, 0);
    assert!(words.contains("node attic") && words.contains("running"), "{words}");
    let (code, out, err) = outcome(["explain", "--state", &folder, "--last", "1h", "--json"]);
    assert_eq!(code, 0, "{err}");
    let explained: Value = serde_json::from_str(&out).expect("JSON");
    let why = |class: &str| {
        let classes = explained[0]["classes"].as_array().expect("classes");
        let found = classes.iter().find(|found| found["class"] == class).expect("the class");
        text(found, "why").to_owned()
    };
    assert!(why("siren").contains("event"), "{}", why("siren"));
    assert!(why("dog").contains("never reached its threshold of 1.00"), "{}", why("dog"));
    assert!(why("thunderstorm").contains("is not reported"), "{}", why("thunderstorm"));
    let (code, out, _) = outcome(["explain", "--state", &folder, "--class", "rooster"]);
    assert!(code == 0 && out.contains("rooster: best score"), "{out}");
    let (code, _, err) = outcome(["explain", "--state", &folder, "--source", "roof"]);
    assert!(code == 1 && err.contains("no source \"roof\""), "{err}");
    // The same folder can't be had twice.
    let (code, _, log) = finish(run(&state, broker.port, &[]));
    assert_eq!(code, 69);
    assert!(log.iter().any(|line| line.contains("used by another hearken")), "{log:#?}");
    drop(daemon);
    let (code, _, err) = outcome(["status", "--state", &folder]);
    assert!(code == 69 && err.contains("no hearken answers"), "{err}");
}

#[test]
fn a_file_is_explained() {
    let (code, out, err) = outcome(["explain", &soundscape()]);
    assert_eq!(code, 0, "{err}");
    for class in ["siren", "thunderstorm", "glass_breaking", "dog"] {
        let line = out.lines().find(|line| line.contains(&format!("{class}:")));
        assert!(line.is_some_and(|line| line.ends_with("1 event")), "{out}");
    }
    let (code, _, err) = outcome(["explain", "/nowhere.wav"]);
    assert!(code == 1 && err.contains("/nowhere.wav"), "{err}");
}

#[test]
fn a_damaged_database_is_moved_aside_and_listening_goes_on() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    assert_eq!(finish(alone(&state, &[])).0, 0);
    let database = state.join("hearken.db");
    let whole = std::fs::read(&database).expect("a database");
    let mut random = fastrand::Rng::with_seed(3);
    let mut noise = whole.clone();
    noise[200..].iter_mut().for_each(|byte| *byte = random.u8(..));
    for damaged in [&whole[..whole.len() / 2], &noise, b"not a database, but long enough to read"] {
        std::fs::write(&database, damaged).expect("written");
        let (code, _, log) = finish(alone(&state, &[]));
        assert_eq!(code, 0, "{log:#?}");
        assert!(log.iter().any(|line| line.contains("the database was damaged")), "{log:#?}");
        assert_eq!(events(&state, &[]).len(), 4);
        assert_eq!(integrity(&state), "ok");
    }
    let aside = std::fs::read_dir(&state).expect("a folder").filter(|entry| {
        entry.as_ref().expect("an entry").file_name().to_string_lossy().contains(".db.damaged-")
    });
    assert!(aside.count() >= 3);
}

#[test]
fn what_a_damaged_database_had_yet_to_tell_is_told() {
    let (mut broker, _base, state) = unheard();
    let path = state.join("hearken.db");
    let database = rusqlite::Connection::open(&path).expect("a database");
    let query = "SELECT rootpage FROM sqlite_master WHERE name = 'event'";
    let page: u32 = database.query_row(query, [], |row| row.get(0)).expect("an answer");
    drop(database);
    let mut bytes = std::fs::read(&path).expect("a database");
    bytes[(page as usize - 1) * 4_096..][..4_096].fill(0xFF);
    std::fs::write(&path, bytes).expect("written");
    broker.resume();
    let subscriber = broker.subscribe("watcher", "hearken/attic/+/event");
    let (code, _, log) = finish(run(&state, broker.port, &[]));
    assert_eq!(code, 0, "{log:#?}");
    assert!(
        log.iter().any(|line| line.contains("8 messages in it could still be read")),
        "{log:#?}"
    );
    // Four of each run.
    broker::wait_until("all is told", || told(&subscriber).len() == 16);
    assert_paired(&told(&subscriber));
    assert_eq!(events(&state, &[]).len(), 8);
}

#[test]
fn a_database_that_is_damaged_while_it_is_used_does_not_stop_anything() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let mut daemon = Daemon::start(alone(&state, &["--repeat"]));
    daemon.wait_until("events are heard", || ends(&daemon) > 2);
    // Noise over all pages, and nothing of the log that would mend them.
    let length = std::fs::metadata(state.join("hearken.db")).expect("a database").len();
    let noise = vec![0xA5; usize::try_from(length).expect("small")];
    std::fs::write(state.join("hearken.db"), noise).expect("written");
    std::fs::write(state.join("hearken.db-wal"), b"").expect("written");
    let before = ends(&daemon);
    daemon.wait_until("events go on", || ends(&daemon) > before + 8);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    // What the process still had in memory may have hidden it until now.
    let (code, _, log) = finish(alone(&state, &[]));
    assert_eq!(code, 0, "{log:#?}");
    let all: Vec<String> = daemon.log().into_iter().chain(log).collect();
    assert!(all.iter().any(|line| line.contains("the database was damaged")), "{all:#?}");
    assert!(events(&state, &[]).len() >= 4);
    assert_eq!(integrity(&state), "ok");
}

#[test]
fn a_folder_that_is_taken_away_is_made_again() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let mut daemon = Daemon::start(alone(&state, &["--repeat"]));
    daemon.wait_until("events are heard", || ends(&daemon) > 2);
    std::fs::rename(&state, base.path().join("away")).expect("renamed");
    daemon.wait_for_log(&["the database was taken away"]);
    let before = ends(&daemon);
    daemon.wait_until("events go on", || ends(&daemon) > before + 8);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    assert!(events(&state, &[]).len() >= 4);
    assert!(!events(&base.path().join("away"), &[]).is_empty());
}

#[test]
fn a_place_that_can_not_be_written_to_is_said_and_events_are_told_all_the_same() {
    let base = tempfile::tempdir().expect("a folder");
    let blocked = base.path().join("file");
    std::fs::write(&blocked, "").expect("written");
    let (code, out, log) = finish(alone(&blocked, &[]));
    assert_eq!((code, out.len()), (0, 8), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("events are told, but not kept")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("could not be kept")), "{log:#?}");
    // Switched off, nothing is said and nothing is made.
    let off = base.path().join("off");
    let (code, out, log) = finish(alone(&off, &["--set", "store.enabled=false"]));
    assert_eq!((code, out.len(), off.exists()), (0, 8, false));
    let config = base.path().join("off.toml");
    std::fs::write(&config, "store.enabled = false\n").expect("written");
    let (code, _, err) = outcome(["status", "--config", &config.display().to_string()]);
    assert!(code == 69 && err.contains("store.enabled = false"), "{err}");
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
}

/// A small file system in memory, mounted until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u32) -> Self {
        std::fs::create_dir_all(at).expect("a folder");
        let options = format!("size={bytes},mode=700");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs", &at.display().to_string()]);
        Self(at.to_owned())
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}"), &self.0.display().to_string()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) {
    let done = Command::new("mount").args(arguments).output().expect("mount");
    assert!(done.status.success(), "mount {arguments:?}: {done:?}");
}

/// Runs a test of this file again in namespaces where we are root, when we are not.
fn in_own_mounts(test: &str, body: impl FnOnce()) {
    if nix::unistd::geteuid().is_root() {
        return body();
    }
    let this = std::env::current_exe().expect("this program");
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .output()
        .expect("unshare");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_full_disk_and_a_read_only_one_pass() {
    in_own_mounts("a_full_disk_and_a_read_only_one_pass", || {
        let base = TempDir::new().expect("a folder");
        let state = base.path().join("state");
        let disk = SmallDisk::mount(&state, 512 << 10);
        disk.remount("ro");
        let mut daemon = Daemon::start(alone(&state, &["--repeat"]));
        daemon.wait_for_log(&["events are told, but not kept"]);
        daemon.wait_until("events are heard", || ends(&daemon) > 2);
        disk.remount("rw");
        daemon.wait_for_log(&["events that had to wait are kept now"]);
        // What is left is filled by somebody else.
        let _ = std::fs::write(state.join("ballast"), vec![1; 1 << 20]);
        let said = |daemon: &Daemon, what: &str| {
            daemon.log().iter().filter(|line| line.contains(what)).count()
        };
        daemon.wait_until("a full disk is said", || said(&daemon, "told, but not kept") > 1);
        let before = ends(&daemon);
        daemon.wait_until("events go on", || ends(&daemon) > before + 8);
        daemon.wait_until("it can be asked", || {
            let (code, words, _) = outcome(["status", "--state", &state.display().to_string()]);
            code == 1 && words.contains("PROBLEM")
        });
        std::fs::remove_file(state.join("ballast")).expect("removed");
        daemon.wait_until("what waited is kept", || said(&daemon, "are kept now") > 1);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
        let kept = events(&state, &[]);
        let heard = daemon.out().iter().filter(|line| line.contains("START")).count();
        assert_eq!(kept.len(), heard);
        assert_eq!(integrity(&state), "ok");
    });
}

#[test]
fn a_machine_that_slept_goes_on() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let soundscape = soundscape();
    let command = ["run", "--set", "mqtt.enabled=false", "--file", &soundscape, "--repeat"];
    let mut daemon = Daemon::start(with_state(hearken(command), &state));
    daemon.wait_until("a siren is on", || daemon.out().iter().any(|line| line.contains("START")));
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(30));
    daemon.signal(Signal::SIGCONT);
    daemon.wait_until("it ended", || daemon.out().iter().any(|line| line.contains("END")));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    let log = daemon.log();
    assert!(
        !log.iter().any(|line| line.contains("begun anew") || line.contains("ERROR")),
        "{log:#?}"
    );
    assert!(events(&state, &[]).iter().all(|row| row["end"].is_string()));
}

#[test]
fn a_broker_with_a_full_disk_loses_nothing() {
    in_own_mounts("a_broker_with_a_full_disk_loses_nothing", || {
        let mut broker = Mosquitto::prepare(Door::Open);
        let disk = SmallDisk::mount(&broker.memory(), 64 << 10);
        broker.resume();
        let subscriber = broker.subscribe("watcher", "hearken/attic/+/event");
        // Fills it to the last byte.
        let _ = std::fs::write(disk.0.join("ballast"), vec![1; 1 << 20]);
        let base = tempfile::tempdir().expect("a folder");
        let state = base.path().join("state");
        let more = ["--repeat", "--log-level", "debug"];
        let mut daemon = Daemon::start(run(&state, broker.port, &more));
        broker::wait_until("the broker can't write its memory", || {
            broker.log().contains("No space")
        });
        let before = committed(&daemon.log()).len();
        daemon.wait_until("events go on", || committed(&daemon.log()).len() > before + 16);
        std::fs::remove_file(disk.0.join("ballast")).expect("removed");
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
        let mut kept = committed(&daemon.log());
        // What was on the way at the end is told by the next run.
        let (code, _, log) = finish(run(&state, broker.port, &["--log-level", "debug"]));
        assert_eq!(code, 0, "{log:#?}");
        kept.extend(committed(&log));
        broker::wait_until("the last message has come", || {
            let told: BTreeSet<_> = told(&subscriber).into_iter().collect();
            kept.iter().all(|message| told.contains(message))
        });
        assert_paired(&told(&subscriber));
        assert!(events(&state, &[]).iter().all(|row| row["delivered"] == true));
        // Ended while its disk is still there.
        drop((subscriber, broker));
    });
}

#[test]
fn a_signal_ends_the_wait_for_a_broker() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let mut daemon = Daemon::start(run(&state, free_port(), &[]));
    daemon.wait_for_log(&["all sources have ended"]);
    // What was not judged when the signal came would be no event.
    daemon.wait_until("all was judged", || ends(&daemon) == 4);
    daemon.signal(Signal::SIGTERM);
    // Waited out, events that were not delivered would make it 1; and a broker that is waited for
    // although there is no time would keep the store from ending.
    assert_eq!(daemon.end().code(), Some(0), "{:#?}", daemon.log());
    let said = |what: &str| daemon.log().iter().any(|line| line.contains(what));
    assert!(said("8 event messages were not delivered"), "{:#?}", daemon.log());
    assert!(!said("did not end in time"), "{:#?}", daemon.log());
    let rows = events(&state, &[]);
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["delivered"] == false));
}

/// A clock that a test sets: the program's, without its monotonic one.
struct SetClock(PathBuf);

impl SetClock {
    /// Preloaded, as Debian's package `libfaketime` has it.
    const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

    fn of(command: &mut Command, folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.set("+0");
        command.env("LD_PRELOAD", Self::LIBRARY).env("FAKETIME_TIMESTAMP_FILE", &clock.0);
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
        clock
    }

    /// Hours by which it goes wrong from now on.
    fn set(&self, offset: &str) {
        // In one step, since it is read all the time.
        let new = self.0.with_extension("new");
        std::fs::write(&new, offset).expect("written");
        std::fs::rename(&new, &self.0).expect("renamed");
    }
}

#[test]
fn a_clock_that_is_set_moves_starts_and_no_durations() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let soundscape = soundscape();
    let arguments = ["run", "--set", "mqtt.enabled=false", "--file", &soundscape, "--json"];
    let mut command = with_state(hearken(arguments), &state);
    let clock = SetClock::of(&mut command, base.path());
    let mut daemon = Daemon::start(command);
    let heard = |class: &str| daemon.out().iter().any(|line| line.contains(class));
    daemon.wait_until("the siren is on", || heard("siren"));
    clock.set("+1h");
    daemon.wait_until("glass breaks", || heard("glass_breaking"));
    clock.set("+0");
    assert_eq!(daemon.end().code(), Some(0), "{:#?}", daemon.log());
    let rows = events(&state, &[]);
    let time = |row: &Value, key: &str| {
        text(row, key).parse::<hearken::signal::Timestamp>().expect("a time")
    };
    let of = |class: &str| rows.iter().find(|row| row["class"] == class).expect("it was heard");
    let after_siren = |class| time(of(class), "start").seconds_since(time(of("siren"), "start"));
    // The recording has them after 10, 18 and 27 s; in the middle the clock was an hour ahead.
    assert_eq!(rows.len(), 4);
    for (class, expected_s) in
        [("thunderstorm", 3_610.0), ("glass_breaking", 3_618.0), ("dog", 27.0)]
    {
        let found_s = after_siren(class);
        assert!((found_s - expected_s).abs() < 3.0, "{class} came after {found_s} s");
    }
    for row in &rows {
        let seconds = time(row, "end").seconds_since(time(row, "start"));
        assert!((0.5..12.0).contains(&seconds), "{row}");
    }
    let log = daemon.log();
    assert!(!log.iter().any(|line| line.contains("ERROR") || line.contains("again")), "{log:#?}");
}

/// One channel of 16 bits, as the program decodes it.
fn decoded(path: &Path) -> (Vec<i16>, u32) {
    let mut file = AudioFile::open(path).expect("audio");
    let channels = usize::from(file.channels());
    let mut samples = Vec::new();
    while file.next_block(&mut samples).expect("it is whole") > 0 {}
    let mix = |frame: &[f32]| frame.iter().sum::<f32>() / frame.len() as f32;
    let sixteen = |value: f32| (value * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
    (samples.chunks(channels).map(|frame| sixteen(mix(frame))).collect(), file.sample_rate_hz())
}

#[test]
fn clips_are_sample_accurate_and_only_of_what_is_wanted() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let clips = ["--set", "clips.enabled=true", "--set", "clips.classes=siren,dog,glass_breaking"];
    let never = ["--set", "clips.never_record=dog", "--set", "clips.after_s=1"];
    let more: Vec<&str> = clips.into_iter().chain(never).collect();
    let (code, _, log) = finish(alone(&state, &more));
    assert_eq!(code, 0, "{log:#?}");
    let rows = events(&state, &[]);
    let (whole, rate) = decoded(&repository("assets/soundscape.ogg"));
    let (mut clipped, mut beyond_the_beginning) = (Vec::new(), 0);
    for row in rows.iter().filter(|row| row["clip"].is_string()) {
        clipped.push(text(row, "class"));
        let (clip, clip_rate) = decoded(&state.join("clips").join(text(row, "clip")));
        assert_eq!(clip_rate, rate);
        let (head, length) = (&clip[..2_000], clip.len());
        let at = whole.windows(head.len()).position(|window| window == head).expect("it is there");
        assert_eq!(clip, whole[at..at + length], "the clip is a piece of the recording");
        let time =
            |key: &str| text(row, key).parse::<hearken::signal::Timestamp>().expect("a time");
        let seconds = time("end").seconds_since(time("start")) + 3.0;
        let expected = seconds * f64::from(rate);
        // Times are kept in whole milliseconds here. The siren begins before there are two seconds.
        let missing = expected - length as f64;
        let precise = missing.abs() <= 0.002 * f64::from(rate);
        assert!(precise || (at == 0 && missing > 0.0), "{length} {expected}");
        beyond_the_beginning += usize::from(at > 0);
    }
    assert_eq!((clipped, beyond_the_beginning), (vec!["siren", "glass_breaking"], 1));
    let none = alone(&base.path().join("none"), &[]);
    finish(none);
    assert!(!base.path().join("none/clips").exists(), "off unless asked for");
}

#[test]
fn an_unused_port_is_no_reason_to_forget() {
    // No broker at all: events are kept, and the queue's bound holds from run to run.
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state");
    let port = free_port();
    let mut kept = 0;
    for _ in 0..2 {
        let more = ["--repeat", "--set", "mqtt.queue_events_max=6", "--log-level", "debug"];
        let mut daemon = Daemon::start(run(&state, port, &more));
        daemon.wait_for_log(&["given up"]);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
        kept += committed(&daemon.log()).len();
    }
    let database = rusqlite::Connection::open(state.join("hearken.db")).expect("a database");
    let count = |query: &str| -> i64 {
        database.query_row(query, [], |row| row.get(0)).expect("an answer")
    };
    assert_eq!(2 * count("SELECT count(*) FROM event"), kept as i64);
    assert_eq!(count("SELECT count(*) FROM outbox"), 6);
    let dropped = count("SELECT value FROM counter WHERE name = 'dropped_messages'");
    assert_eq!(dropped, kept as i64 - 6);
}
