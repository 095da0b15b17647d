//! `hearken record`: takes out of a recording, from a microphone that is played into, and what a
//! person is told when something is wrong.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/microphone.rs"]
mod rig;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use daemon::{Daemon, hearken, outcome};
use nix::sys::signal::Signal;
use rig::{Room, SAMPLE_RATE_HZ};
use tempfile::TempDir;

/// Half of full scale, over noise at -59 dBFS.
const LOUD: f32 = 0.5;

/// What writing and reading 16 bits, twice, may change.
const ROUNDING: f32 = 3.0 / 32_768.0;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Noise with tones of 0.4 s that begin at these seconds.
fn bursts(seconds: f32, onsets_s: &[f32]) -> Vec<f32> {
    let mut samples: Vec<f32> = rig::noise(seconds).map(|sample| sample * 0.02).collect();
    let rate = SAMPLE_RATE_HZ as f32;
    for onset in onsets_s {
        let start = (onset * rate) as usize;
        for (n, sample) in samples.iter_mut().skip(start).take((0.4 * rate) as usize).enumerate() {
            *sample += LOUD * (std::f32::consts::TAU * 1_000.0 * n as f32 / rate).sin();
        }
    }
    samples
}

fn write(folder: &Path, samples: &[f32]) -> String {
    let path = folder.join("recording.wav");
    rig::write_wav(&path, samples.iter().copied());
    path.display().to_string()
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Sample rate and samples of a mono WAV file of 16 bits, read by its bytes.
fn read_wav(path: &Path) -> (u32, Vec<f32>) {
    let bytes = std::fs::read(path).expect("a file");
    // PCM, one channel, 16 bits.
    assert_eq!((&bytes[20..24], &bytes[34..36]), (&[1, 0, 1, 0][..], &[16, 0][..]));
    let rate = u32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes"));
    let samples = bytes[44..].chunks_exact(2);
    let samples = samples.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0);
    (rate, samples.collect())
}

/// Seconds to the first sample that is loud.
fn onset_s(samples: &[f32]) -> f32 {
    let first = samples.iter().position(|sample| sample.abs() > 0.1 * LOUD).expect("a sound");
    first as f32 / SAMPLE_RATE_HZ as f32
}

// ---- out of a recording ----

#[test]
fn three_sounds_in_a_recording_are_three_takes() {
    let folder = folder();
    let samples = bursts(14.0, &[2.0, 6.5, 10.25]);
    let (file, out) = (write(folder.path(), &samples), folder.path().join("sounds"));
    let out_text = out.display().to_string();
    let (code, told, errors) = outcome([
        "record",
        "--label",
        "doorbell",
        "--from",
        &file,
        "--seconds",
        "3",
        "--out",
        &out_text,
    ]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, number) in lines.iter().zip(1..4) {
        let expected = format!("take {number}: 0.4 s, peak -6 dBFS, doorbell-00{number}.wav");
        assert_eq!(*line, expected);
    }
    assert_eq!(lines[3], format!("3 takes in {}", out.join("doorbell").display()));
    let takes = ["doorbell-001.wav", "doorbell-002.wav", "doorbell-003.wav"];
    assert_eq!(names(&out.join("doorbell")), takes);
    for (name, onset) in takes.iter().zip([2.0, 6.5, 10.25]) {
        let (rate, take) = read_wav(&out.join("doorbell").join(name));
        assert_eq!((rate, take.len()), (SAMPLE_RATE_HZ, 3 * SAMPLE_RATE_HZ as usize));
        assert!((0.48..0.52).contains(&onset_s(&take)), "{name}: {}", onset_s(&take));
        // Nothing but the recording itself, from where the take begins.
        let start = ((onset - onset_s(&take)) * SAMPLE_RATE_HZ as f32).round() as usize;
        let is_same = |start: usize| {
            take.iter().zip(&samples[start..]).all(|(a, b)| (a - b).abs() < ROUNDING)
        };
        assert!((start - 20..start + 20).any(is_same), "{name} is not from {onset}");
    }
}

#[test]
fn numbers_go_on_and_the_count_is_kept() {
    let folder = folder();
    let file = write(folder.path(), &bursts(14.0, &[2.0, 6.5, 10.25]));
    let out = folder.path().display().to_string();
    let record = ["record", "--label", "bell", "--from", &file, "--seconds", "2", "--out", &out];
    let first = outcome(record.iter().chain(&["--count", "2"]));
    assert!(first.0 == 0 && first.1.starts_with("take 1 of 2: "), "{first:?}");
    let bell = folder.path().join("bell");
    let before = std::fs::read(bell.join("bell-001.wav")).expect("a take");
    let second = outcome(record.iter().chain(&["--count", "1"]));
    assert!(second.0 == 0 && second.1.contains("bell-003.wav"), "{second:?}");
    assert_eq!(names(&bell), ["bell-001.wav", "bell-002.wav", "bell-003.wav"]);
    assert_eq!(std::fs::read(bell.join("bell-001.wav")).expect("a take"), before);
}

#[test]
fn a_background_is_cut_into_pieces_one_after_the_other() {
    let folder = folder();
    let samples = bursts(7.5, &[3.0]);
    let file = write(folder.path(), &samples);
    let out = folder.path().display().to_string();
    let (code, told, _) = outcome([
        "record",
        "--label",
        "_background",
        "--from",
        &file,
        "--seconds",
        "2",
        "--out",
        &out,
    ]);
    assert_eq!((code, told.lines().count()), (0, 4), "{told}");
    let pieces = folder.path().join("_background");
    let joined: Vec<f32> =
        names(&pieces).iter().flat_map(|n| read_wav(&pieces.join(n)).1).collect();
    assert_eq!(joined.len(), 6 * SAMPLE_RATE_HZ as usize);
    assert!(joined.iter().zip(&samples).all(|(a, b)| (a - b).abs() < ROUNDING));
}

#[test]
fn too_loud_and_too_quiet_takes_are_told() {
    let folder = folder();
    let clipped: Vec<f32> =
        bursts(5.0, &[2.0]).iter().map(|sample| (sample * 4.0).clamp(-1.0, 1.0)).collect();
    let quiet: Vec<f32> = bursts(5.0, &[2.0]).iter().map(|sample| sample * 0.015).collect();
    for (samples, word) in [(clipped, "clipped"), (quiet, "quiet")] {
        let file = write(folder.path(), &samples);
        let out = folder.path().display().to_string();
        let (code, told, _) = outcome(["record", "--label", word, "--from", &file, "--out", &out]);
        assert_eq!(code, 0);
        assert!(told.contains(&format!("; {word}: ")), "{told}");
    }
}

#[test]
fn a_recording_without_a_sound_is_an_error() {
    let folder = folder();
    let file = write(folder.path(), &bursts(5.0, &[]));
    let out = folder.path().join("sounds").display().to_string();
    let (code, told, errors) = outcome(["record", "--label", "a", "--from", &file, "--out", &out]);
    assert_eq!((code, told.as_str()), (1, ""));
    assert!(errors.contains("no sound in it stands out"), "{errors}");
    let (code, _, errors) =
        outcome(["record", "--label", "a", "--from", "nowhere.wav", "--out", &out]);
    assert!(code == 1 && errors.contains("nowhere.wav"), "{errors}");
    assert!(!Path::new(&out).exists(), "no folder without a take");
}

// ---- what is asked for ----

#[test]
fn wrong_arguments_are_named() {
    let long = "a".repeat(65);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--label", "../a"], 2, "1 to 64 of A-Z, a-z, 0-9, `_` and `-`"),
        (&["--label", ""], 2, "1 to 64"),
        (&["--label", &long], 2, "1 to 64"),
        (&["--label", "a", "--seconds", "0.5"], 2, "1 to 30"),
        (&["--label", "a", "--threshold", "3"], 2, "-90 to 0"),
        (&["--label", "a", "--threshold", "-30", "--mode", "fixed"], 2, "--threshold"),
        (&["--label", "a", "--device", "default", "--from", "x"], 2, "--from"),
        (&["--label", "a", "--device", "USB"], 64, "`hearken devices`"),
    ];
    for (arguments, expected, words) in cases {
        let (code, _, errors) = outcome(["record"].iter().chain(arguments));
        assert!(code == expected && errors.contains(words), "{arguments:?}: {code} {errors}");
    }
}

#[test]
fn without_a_microphone_there_is_one_clear_error() {
    let folder = folder();
    let out = folder.path().display().to_string();
    for device in ["default", "name:nothing like this", "id:alsa:nothing"] {
        let (code, told, errors) =
            outcome(["record", "--label", "a", "--device", device, "--out", &out]);
        assert_eq!((code, told.as_str()), (69, ""), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains("no sound from the microphone: "), "{errors}");
        assert!(!errors.contains("next attempt"), "{errors}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

// ---- from a microphone ----

/// A room in which it rings every three seconds.
fn ringing_room() -> (Room, rig::Running) {
    let room = Room::new();
    let onsets: Vec<f32> = (1..40).map(|n| 3.0 * n as f32).collect();
    let wav = room.folder().join("ringing.wav");
    rig::write_wav(&wav, bursts(120.0, &onsets));
    let player = room.play_in_background(&wav);
    (room, player)
}

/// `record` with the rig's microphone, into `sounds` in the room's folder.
fn record(room: &Room, label: &str, arguments: &[&str]) -> (Command, PathBuf) {
    let out = room.folder().join("sounds");
    let mut command = hearken(["record", "--label", label, "--device", "name:rig", "--out"]);
    command.arg(&out).args(arguments).envs(room.environment());
    (command, out.join(label))
}

fn takes_told(daemon: &Daemon) -> usize {
    daemon.out().iter().filter(|line| line.starts_with("take ")).count()
}

#[test]
fn what_rings_in_the_room_becomes_takes() {
    let (room, _player) = ringing_room();
    let (command, bell) = record(&room, "bell", &["--seconds", "1", "--count", "2"]);
    let mut daemon = Daemon::start(command);
    assert!(daemon.end().success(), "{:?}", daemon.log());
    assert_eq!(names(&bell), ["bell-001.wav", "bell-002.wav"]);
    // Its length is told in steps of the level meter: the same sound may be one longer.
    let first = &daemon.out()[0];
    let lengths = ["take 1 of 2: 0.4 s, peak -6 dBFS", "take 1 of 2: 0.5 s, peak -6 dBFS"];
    assert!(lengths.iter().any(|told| first.starts_with(told)), "{first}");
    assert!(daemon.log().iter().any(|line| line.contains("ready: ")), "{:?}", daemon.log());
    for name in names(&bell) {
        let (rate, take) = read_wav(&bell.join(&name));
        assert_eq!((rate, take.len()), (SAMPLE_RATE_HZ, SAMPLE_RATE_HZ as usize));
        assert!((0.48..0.52).contains(&onset_s(&take)), "{name}: {}", onset_s(&take));
    }
}

#[test]
fn each_enter_is_a_take_in_fixed_mode() {
    let (room, _player) = ringing_room();
    let arguments = ["--seconds", "1", "--count", "5", "--mode", "fixed"];
    let (mut command, bell) = record(&room, "bell", &arguments);
    command.stdin(Stdio::piped());
    let mut daemon = Daemon::start(command);
    let mut keyboard = daemon.child.stdin.take().expect("piped");
    for number in 1..=2 {
        keyboard.write_all(b"\n").expect("it reads");
        daemon.wait_until("the take", || takes_told(&daemon) == number);
    }
    drop(keyboard);
    assert!(daemon.end().success(), "{:?}", daemon.log());
    assert_eq!(names(&bell), ["bell-001.wav", "bell-002.wav"]);
}

#[test]
fn fixed_mode_without_a_keyboard_is_a_wrong_use() {
    let (room, _player) = ringing_room();
    let mut daemon = Daemon::start(record(&room, "bell", &["--mode", "fixed"]).0);
    assert_eq!(daemon.end().code(), Some(2), "{:?}", daemon.log());
    assert!(daemon.log()[0].contains("standard input has ended"), "{:?}", daemon.log());
}

#[test]
fn what_was_taken_before_the_interrupt_is_kept() {
    let (room, _player) = ringing_room();
    // One piece after the other: the next one is always in progress.
    let (command, pieces) = record(&room, "_background", &["--seconds", "1.5"]);
    let mut daemon = Daemon::start(command);
    daemon.wait_until("a take", || takes_told(&daemon) > 0);
    daemon.signal(Signal::SIGINT);
    assert!(daemon.end().success(), "{:?}", daemon.log());
    assert_eq!(daemon.log(), ["hearken: the take in progress is thrown away"]);
    assert_eq!(names(&pieces).len(), takes_told(&daemon));
    let last = daemon.out().pop().expect("a line");
    assert!(last.ends_with(&format!("in {}", pieces.display())), "{last}");
}

#[test]
fn a_microphone_that_is_pulled_out_ends_it_and_the_takes_stay() {
    let (room, _player) = ringing_room();
    let (command, bell) = record(&room, "bell", &["--seconds", "1"]);
    let mut daemon = Daemon::start(command);
    daemon.wait_until("a take", || takes_told(&daemon) > 0);
    room.unplug();
    assert_eq!(daemon.end().code(), Some(69), "{:?}", daemon.log());
    let last = daemon.log().pop().expect("a line");
    assert!(last.contains("no sound from the microphone: the device"), "{last}");
    assert_eq!(names(&bell).len(), takes_told(&daemon));
    assert!(daemon.out().pop().expect("a line").contains(" in "), "{:?}", daemon.out());
}

#[test]
fn a_muted_microphone_is_told_and_silence_is_no_take() {
    let room = Room::new();
    room.mute(true);
    let (command, pieces) = record(&room, "_background", &["--seconds", "1"]);
    let daemon = Daemon::start(command);
    daemon.wait_for_log(&["muted"]);
    daemon.wait_for_log(&["digital silence is no take"]);
    assert!(!pieces.exists());
}
