//! A real broker and real subscribers for tests: mosquitto on free loopback ports, with TLS and
//! passwords on request, and certificates made by openssl. Everything is stopped when dropped.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The longest that any condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The folder of the broker's memory, in its own folder.
const MEMORY: &str = "memory";

pub const USER: &str = "daemon";
pub const PASSWORD: &str = "correct horse";

/// Waits until `done` says so; panics with `what` if it takes too long.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback port that nobody listens on, below those that the system hands out by itself, so
/// that a broker can come back to it after a restart.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (std::process::id().wrapping_mul(61) + step) % 11_000;
        let port = 20_000 + u16::try_from(offset).expect("small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

fn run(program: &str, arguments: &[&str], dir: &Path) {
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Makes `<name>.crt`, an authority, and `<name>-server.crt` and `.key` for localhost.
pub fn make_authority(dir: &Path, name: &str) -> PathBuf {
    let subject = format!("/CN={name}");
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let (server_key, request) = (format!("{name}-server.key"), format!("{name}-server.csr"));
    let extensions = dir.join(format!("{name}.ext"));
    let text = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n\
                basicConstraints=CA:FALSE\n";
    std::fs::write(&extensions, text).expect("written");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut authority = vec!["req", "-x509", "-days", "2", "-subj", &subject];
    authority.extend(["-keyout", &key, "-out", &certificate]);
    authority.extend(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    authority.extend(curve);
    run("openssl", &authority, dir);
    let mut server = vec!["req", "-subj", "/CN=localhost", "-keyout", &server_key];
    server.extend(["-out", &request]);
    server.extend(curve);
    run("openssl", &server, dir);
    let extensions = extensions.display().to_string();
    let server_certificate = format!("{name}-server.crt");
    let mut sign = vec!["x509", "-req", "-in", &request, "-CA", &certificate, "-CAkey", &key];
    sign.extend(["-CAcreateserial", "-days", "2", "-extfile", &extensions]);
    sign.extend(["-out", &server_certificate]);
    run("openssl", &sign, dir);
    dir.join(certificate)
}

/// What the broker asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Anybody may come in.
    Open,
    /// User and password; TLS on a second port.
    Locked,
    /// TLS on a second port, only with a certificate of the broker's own authority.
    Certified,
    /// Anybody may come in, and nobody may publish events.
    Guarded,
    /// Anybody may come in, and messages have QoS 0.
    Unreliable,
}

/// A mosquitto that can be stopped and started again on the same ports.
pub struct Mosquitto {
    pub port: u16,
    pub tls_port: u16,
    /// The authority that signed the broker's certificate (locked door only).
    pub ca_file: PathBuf,
    door: Door,
    dir: TempDir,
    child: Option<Child>,
}

impl Mosquitto {
    /// A running broker.
    pub fn start(door: Door) -> Self {
        let mut broker = Self::prepare(door);
        broker.resume();
        broker
    }

    /// A broker that is not running yet.
    pub fn prepare(door: Door) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (port, tls_port) = (free_port(), free_port());
        let memory = dir.path().join(MEMORY);
        std::fs::create_dir(&memory).expect("a folder");
        let memory = memory.display();
        let mut config = format!(
            "per_listener_settings false\npersistence true\npersistence_location {memory}/\n\
             autosave_on_changes true\nautosave_interval 20\n\
             log_dest file {}/log\nlistener {port} 127.0.0.1\n",
            dir.path().display()
        );
        if std::fs::metadata(dir.path()).expect("made above").uid() == 0 {
            // By default it would change to a user who can't read the folder.
            config.push_str("user root\n");
        }
        if door != Door::Guarded {
            // With this, mosquitto 2.0.11 cuts the connection instead of refusing a message.
            config.push_str("max_queued_messages 0\n");
        }
        let folder = dir.path().display().to_string();
        let mut ca_file = PathBuf::new();
        if door == Door::Guarded {
            let rules = "topic read #\ntopic readwrite hearken/+/available\n\
                topic readwrite hearken/+/health\ntopic readwrite hearken/+/+/status\n\
                topic readwrite hearken/+/+/sound/#\ntopic readwrite hearken/+/+/level\n\
                topic readwrite homeassistant/#\ntopic readwrite probe/#\n";
            std::fs::write(dir.path().join("rules"), rules).expect("written");
            config.push_str(&format!("acl_file {folder}/rules\n"));
        }
        if door == Door::Unreliable {
            config.push_str("max_qos 0\n");
        }
        if matches!(door, Door::Locked | Door::Certified) {
            ca_file = make_authority(dir.path(), "authority");
            config.push_str(&format!(
                "listener {tls_port} 127.0.0.1\ncafile {folder}/authority.crt\n\
                 certfile {folder}/authority-server.crt\nkeyfile {folder}/authority-server.key\n"
            ));
        }
        if door == Door::Certified {
            config.push_str("require_certificate true\n");
        }
        if door == Door::Locked {
            run("mosquitto_passwd", &["-b", "-c", "passwords", USER, PASSWORD], dir.path());
            config.push_str(&format!("password_file {folder}/passwords\n"));
        }
        config.push_str(&format!("allow_anonymous {}\n", door != Door::Locked));
        std::fs::write(dir.path().join("mosquitto.conf"), config).expect("written");
        Self { port, tls_port, ca_file, door, dir, child: None }
    }

    /// Starts the broker and waits until it answers. One that ends at once, because something else
    /// had the port for a moment, is started again.
    pub fn resume(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let port = self.port;
        let mut child = self.spawn();
        wait_until("mosquitto answers", || {
            if child.try_wait().expect("our child").is_some() {
                child = self.spawn();
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                && child.try_wait().expect("our child").is_none()
        });
        self.child = Some(child);
    }

    fn spawn(&self) -> Child {
        Command::new("mosquitto")
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is needed: apt-get install mosquitto mosquitto-clients")
    }

    /// Ends the broker in good order: it writes its memory down.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("it runs");
        child.wait().expect("it ends");
    }

    /// Lets everybody do everything, from the next start on.
    pub fn unguard(&mut self) {
        let path = self.dir.path().join("mosquitto.conf");
        let config = std::fs::read_to_string(&path).expect("written before");
        let free = |line: &&str| !line.starts_with("acl_file") && !line.starts_with("max_qos");
        let lines: Vec<&str> = config.lines().filter(free).collect();
        std::fs::write(&path, lines.join("\n") + "\n").expect("written");
    }

    /// Stops the broker from doing anything, with its connections open.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, signal).expect("it runs");
    }

    /// Kills the broker and wipes its memory.
    pub fn kill_and_forget(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let _ = std::fs::remove_file(self.memory().join("mosquitto.db"));
    }

    /// The folder where it writes down what it has to remember, and nothing else.
    pub fn memory(&self) -> PathBuf {
        self.dir.path().join(MEMORY)
    }

    /// What it says of itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A certificate and its key, signed by the broker's authority.
    pub fn identity(&self) -> (PathBuf, PathBuf) {
        let file = |end: &str| self.dir.path().join(format!("authority-server.{end}"));
        (file("crt"), file("key"))
    }

    /// A subscriber to `filter` that remembers, as `name`, what it missed.
    pub fn subscribe(&self, name: &str, filter: &str) -> Subscriber {
        Subscriber::start(self.port, self.login(), name, filter)
    }

    /// Publishes a message and waits until the broker has it.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        publish(self.port, self.login(), topic, payload, retain);
    }

    fn login(&self) -> Option<(&'static str, &'static str)> {
        (self.door == Door::Locked).then_some((USER, PASSWORD))
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let (true, Ok(Some(status))) = (std::thread::panicking(), child.try_wait()) {
                eprintln!("mosquitto had ended by itself, {status}: {}", self.log());
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Publishes a message on any broker of this machine. On a busy machine a connection may fail; then
/// nothing was said, and it is tried again.
pub fn publish(port: u16, login: Option<(&str, &str)>, topic: &str, payload: &[u8], retain: bool) {
    let said = (0..3).any(|_| try_publish(port, login, topic, payload, retain));
    assert!(said, "mosquitto_pub {topic}");
}

fn try_publish(
    port: u16,
    login: Option<(&str, &str)>,
    topic: &str,
    payload: &[u8],
    retain: bool,
) -> bool {
    use std::io::Write;
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic]);
    // It has a word of its own for nothing, and takes no empty input.
    command.arg(if payload.is_empty() { "-n" } else { "-s" });
    if retain {
        command.arg("-r");
    }
    if let Some((user, password)) = login {
        command.args(["-u", user, "-P", password]);
    }
    let mut child = command.stdin(Stdio::piped()).spawn().expect("mosquitto_pub is needed");
    // One that has given up already reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(payload);
    child.wait().expect("it ends").success()
}

/// A message as a subscriber saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    /// It was there already when the subscriber came.
    pub retained: bool,
}

/// A `mosquitto_sub` that collects what it sees.
pub struct Subscriber {
    child: Child,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Subscriber {
    /// Subscribes with QoS 1 and a lasting session called `name`; returns once the broker has
    /// granted it.
    pub fn start(port: u16, login: Option<(&str, &str)>, name: &str, filter: &str) -> Self {
        // A retained message on a topic of its own shows that the subscription is in force.
        let probe = format!("probe/{name}");
        publish(port, login, &probe, b"ready", true);
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-c", "-i", name]);
        command.args(["-F", "%r\t%t\t%p", "-t", filter, "-t", &probe]);
        if let Some((user, password)) = login {
            command.args(["-u", user, "-P", password]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub is needed");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let seen_by_reader = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, '\t');
                if let (Some(retained), Some(topic), Some(payload)) =
                    (parts.next(), parts.next(), parts.next())
                {
                    seen_by_reader.lock().expect("not poisoned").push(Message {
                        topic: topic.to_owned(),
                        payload: payload.to_owned(),
                        retained: retained == "1",
                    });
                }
            }
        });
        let subscriber = Self { child, seen };
        subscriber.wait_for("the subscription is in force", |seen| {
            seen.iter().any(|message| message.topic == probe)
        });
        subscriber
    }

    /// Everything seen so far.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// The latest payload seen on a topic.
    pub fn latest(&self, topic: &str) -> Option<String> {
        self.seen().into_iter().rev().find(|m| m.topic == topic).map(|m| m.payload)
    }

    /// Waits until what was seen fulfils a condition.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&[Message]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.seen()) {
            assert!(Instant::now() < deadline, "waited for: {what}; seen: {:#?}", self.seen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the latest payload on a topic is this one.
    pub fn wait_for_latest(&self, topic: &str, payload: &str) {
        self.wait_for(&format!("{topic} = {payload}"), |_| {
            self.latest(topic).as_deref() == Some(payload)
        });
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
