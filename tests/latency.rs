//! How long it takes from a siren at the microphone to the message at the broker and in a browser's
//! live view. `HEARKEN_ONSETS=100 cargo test --release --test latency -- --nocapture` prints the distribution
//! (`scripts/latency.sh`); by default three sirens show that every one arrives both ways.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/microphone.rs"]
mod microphone;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use broker::{Door, Mosquitto, free_port};
use daemon::{Daemon, hearken, repository};
use microphone::Room;

/// Longer than the window, so that each siren is heard as one of its own.
const PAUSE: Duration = Duration::from_secs(9);
/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The times at which a command wrote a line with these words.
fn times(command: &mut Command, words: &'static [&'static str]) -> Receiver<Instant> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (sender, times) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let told = words.iter().all(|word| line.contains(word));
            if told && sender.send(Instant::now()).is_err() {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    });
    times
}

fn print(name: &str, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let at = |part: f64| seconds[((seconds.len() - 1) as f64 * part).round() as usize];
    let (median, late) = (at(0.5), at(0.95));
    println!("{name}: median {median:.2} s, 95th percentile {late:.2} s of {}", seconds.len());
}

#[test]
fn every_siren_reaches_the_broker_and_the_live_view() {
    let onsets =
        std::env::var("HEARKEN_ONSETS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let (room, mosquitto, port) = (Room::new(), Mosquitto::start(Door::Open), free_port());
    // The sounding part alone: the onset is where it begins.
    let wav = room.folder().join("siren.wav");
    let made = Command::new("sox")
        .arg(repository("tests/golden/siren.ogg"))
        .args(["-r", "48000", "-c", "1", "-b", "16"])
        .arg(&wav)
        .args(["silence", "1", "0.01", "1%", "trim", "0", "4"])
        .status();
    assert!(made.expect("sox is installed").success());
    let mut command = hearken(["run", "--node", "rig", "--mqtt-host", "127.0.0.1"]);
    command.args(["--mqtt-port", &mosquitto.port.to_string()]);
    command.args(["--device", &format!("name:{}", microphone::DEVICE_NAME)]);
    command.args(["--set", &format!("dashboard.listen=127.0.0.1:{port}")]);
    command.env("HEARKEN_DASHBOARD__ENABLED", "true").envs(room.environment());
    let daemon = Daemon::start(command);
    daemon.wait_for_log(&["connected"]);
    daemon.wait_for_log(&["muted"]);
    let mut subscriber = Command::new("mosquitto_sub");
    subscriber.args([
        "-h",
        "127.0.0.1",
        "-p",
        &mosquitto.port.to_string(),
        "-t",
        "hearken/+/+/event",
    ]);
    let by_mqtt = times(&mut subscriber, &["\"phase\":\"start\"", "\"class\":\"siren\""]);
    let mut view = Command::new("curl");
    view.args(["-sN", "--noproxy", "*", &format!("http://127.0.0.1:{port}/api/live")]);
    let by_view = times(&mut view, &["\"phase\":\"start\"", "\"class\":\"siren\""]);
    // The first window is whole, and everybody listens.
    std::thread::sleep(PAUSE);
    let (mut mqtt_s, mut view_s) = (Vec::new(), Vec::new());
    for _ in 0..onsets {
        let onset = Instant::now();
        room.play(&wav);
        let taken =
            |times: &Receiver<Instant>| times.recv_timeout(PATIENCE).expect("a siren is told");
        mqtt_s.push(taken(&by_mqtt).duration_since(onset).as_secs_f64());
        view_s.push(taken(&by_view).duration_since(onset).as_secs_f64());
        std::thread::sleep(PAUSE);
    }
    print("from the microphone to the broker", mqtt_s);
    print("from the microphone to the live view", view_s);
}
