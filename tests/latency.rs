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
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use broker::{Door, Mosquitto, free_port};
use daemon::{Daemon, hearken, repository};
use microphone::Room;

/// Longer than the window, so that each siren is heard as one of its own.
const PAUSE: Duration = Duration::from_secs(9);
/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The times at which a command wrote a line with these words; it ends when this is dropped.
struct Times {
    child: Child,
    times: Receiver<Instant>,
}

impl Times {
    fn of(command: &mut Command, words: &'static [&'static str]) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, times) = channel();
        std::thread::spawn(move || {
            let told = lines
                .map_while(Result::ok)
                .filter(|line| words.iter().all(|word| line.contains(word)));
            for _ in told {
                let _ = sender.send(Instant::now());
            }
        });
        Self { child, times }
    }

    /// Forgets what came before, such as a sound that was told twice.
    fn forget(&self) {
        self.times.try_iter().for_each(drop);
    }

    fn since(&self, onset: Instant) -> f64 {
        let told = self.times.recv_timeout(PATIENCE).expect("a siren is told");
        let seconds = told.duration_since(onset).as_secs_f64();
        assert!(seconds > 0.0);
        seconds
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let by_mqtt = Times::of(&mut subscriber, &["\"phase\":\"start\"", "\"class\":\"siren\""]);
    let mut view = Command::new("curl");
    view.args(["-sN", "--noproxy", "*", &format!("http://127.0.0.1:{port}/api/live")]);
    let by_view = Times::of(&mut view, &["\"phase\":\"start\"", "\"class\":\"siren\""]);
    // The first window is whole, and everybody listens.
    std::thread::sleep(PAUSE);
    let (mut mqtt_s, mut view_s) = (Vec::new(), Vec::new());
    for _ in 0..onsets {
        by_mqtt.forget();
        by_view.forget();
        let onset = Instant::now();
        room.play(&wav);
        mqtt_s.push(by_mqtt.since(onset));
        view_s.push(by_view.since(onset));
        std::thread::sleep(PAUSE);
    }
    print("from the microphone to the broker", mqtt_s);
    print("from the microphone to the live view", view_s);
}
