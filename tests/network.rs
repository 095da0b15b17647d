//! Bad networks: a broker in a network namespace of its own, over a cable that is pulled, cut and slow.

#[path = "common/daemon.rs"]
mod daemon;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daemon::{Daemon, hearken, outcome, repository};
use nix::sys::signal::Signal;
use serde_json::Value;

const TEST: &str = "a_bad_network_loses_nothing";
/// Set where we are root in namespaces of our own.
const INSIDE: &str = "HEARKEN_TEST_INSIDE";
/// How long the cable is pulled.
const PULLED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command that must succeed; returns what it wrote.
fn sh(command: &str) -> String {
    let done = Command::new("sh").args(["-c", command]).output().expect("a shell");
    assert!(done.status.success(), "{command}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The broker's end of the cable: namespaces held by a process.
struct Far {
    holder: Child,
    others: Vec<Child>,
}

impl Far {
    /// A network of its own, reached over `near` (10.9.0.1), where it is 10.9.0.2.
    fn make() -> Self {
        sh("ip link set lo up");
        let holder =
            Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().expect("unshare");
        let far = Self { holder, others: Vec::new() };
        // It has its own namespace as soon as it has become `sleep`.
        let name = format!("/proc/{}/comm", far.holder.id());
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_to_string(&name).expect("it runs").trim() != "sleep" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        let holder = far.holder.id();
        sh(&format!("ip link add near type veth peer name far netns {holder}"));
        sh("ip address add 10.9.0.1/24 dev near && ip link set near up");
        far.sh("ip link set lo up && ip address add 10.9.0.2/24 dev far && ip link set far up");
        far
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.id().to_string(), "--", program]);
        command
    }

    fn sh(&self, command: &str) {
        let done = self.command("sh").args(["-c", command]).output().expect("nsenter");
        assert!(done.status.success(), "{command}: {done:?}");
    }

    /// mosquitto, and what a subscriber to all events there sees.
    fn serve(&mut self, folder: &Path) -> Arc<Mutex<Vec<String>>> {
        let config = folder.join("mosquitto.conf");
        let user = if sh("id -u").trim() == "0" { "user root\n" } else { "" };
        let text =
            format!("listener 1883 0.0.0.0\nallow_anonymous true\n{user}max_queued_messages 0\n");
        std::fs::write(&config, text).expect("written");
        let mut broker = self.command("mosquitto");
        let broker =
            broker.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.others.push(broker.expect("mosquitto is needed"));
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect("10.9.0.2:1883").is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut subscriber = self.command("mosquitto_sub");
        subscriber.args(["-h", "127.0.0.1", "-q", "1", "-t", "hearken/+/+/event"]);
        let mut subscriber = subscriber.stdout(Stdio::piped()).spawn().expect("mosquitto_sub");
        let lines = BufReader::new(subscriber.stdout.take().expect("piped")).lines();
        self.others.push(subscriber);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let filled = Arc::clone(&seen);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| filled.lock().expect("fine").push(line));
        });
        seen
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        for child in self.others.iter_mut().chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn status(state: &str) -> Value {
    let (_, out, _) = outcome(["status", "--json", "--state", state]);
    serde_json::from_str(&out).unwrap_or_default()
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number")
}

#[test]
fn a_bad_network_loses_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let this = std::env::current_exe().expect("this program");
    let done = command.args(["--net", "--mount"]).arg(this).args(["--exact", TEST, "--nocapture"]);
    let done = done.env(INSIDE, "1").output().expect("unshare");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print!("{}", text(&done.stdout));
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
}

fn inside() {
    let base = tempfile::tempdir().expect("a folder");
    let state = base.path().join("state").display().to_string();
    let mut far = Far::make();
    let seen = far.serve(base.path());
    let config = base.path().join("config.toml");
    let soundscape = repository("assets/soundscape.ogg").display().to_string();
    let sources: String = (0..6)
        .map(|n| format!("[[source]]\nname = \"s{n}\"\nfile = \"{soundscape}\"\nrepeat = true\n"))
        .collect();
    let mqtt = "[mqtt]\nhost = \"10.9.0.2\"\nkeep_alive_s = 5\n";
    std::fs::write(&config, format!("node = \"attic\"\n{sources}{mqtt}")).expect("written");
    let mut command = hearken(["run", "--config"]);
    command.arg(&config).env("HEARKEN_STORE__FOLDER", &state);
    let mut daemon = Daemon::start(command);
    let connected = || status(&state)["broker"]["connected"] == true;
    let delivered = || status(&state)["broker"]["delivered_messages"].as_u64().unwrap_or(0);
    let reconnects = || status(&state)["broker"]["reconnects"].as_u64().unwrap_or(0);
    daemon.wait_until("something is delivered", || delivered() > 10);
    // Silence: both ends believe in the connection, and nothing comes through.
    far.sh("ip link set far down");
    let pulled = Instant::now();
    daemon.wait_until("the silence is noticed", || !connected());
    println!("silence noticed after {:.0} s", pulled.elapsed().as_secs_f64());
    std::thread::sleep(PULLED.saturating_sub(pulled.elapsed()));
    far.sh("ip link set far up");
    daemon.wait_until("it is connected again", connected);

    let memory = resident_kb(daemon.child.id());

    // Cut by the kernel, again and again.
    for _ in 0..5 {
        let before = reconnects();
        sh("ss --kill dst 10.9.0.2 dport = 1883");
        daemon.wait_until("it has reconnected", || reconnects() > before);
    }

    // A line that takes seconds for what is said at a connect.
    sh("tc qdisc add dev near root tbf rate 64kbit burst 4kb latency 2s");
    let before = reconnects();
    sh("ss --kill dst 10.9.0.2 dport = 1883");
    daemon.wait_until("it has reconnected slowly", || reconnects() > before);
    let before = delivered();
    daemon.wait_until("events come through", || delivered() > before + 10);
    sh("tc qdisc del dev near root");

    let grown = resident_kb(daemon.child.id()).saturating_sub(memory);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success(), "{:#?}", daemon.log());
    let (_, out, _) = outcome(["events", "--json", "--state", &state, "--limit", "100000"]);
    let rows: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(rows.len() > 40 && rows.iter().all(|row| row["delivered"] == true), "{}", rows.len());
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let lines = seen.lock().expect("fine").clone();
    for line in &lines {
        let json: Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| json[key].as_str().expect("text").to_owned();
        let phases = told.entry(text("id")).or_default();
        if !phases.contains(&text("phase")) {
            phases.push(text("phase"));
        }
    }
    for row in &rows {
        let id = row["id"].as_str().expect("text");
        assert_eq!(
            told.get(id).map(Vec::as_slice),
            Some(&["start".to_owned(), "end".to_owned()][..])
        );
    }
    println!("{} events, {} messages, {grown} kB more memory", rows.len(), lines.len());
    assert!(grown < 20_000, "{grown} kB");
}
