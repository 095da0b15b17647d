//! The program under test, started as a user would start it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Folders for state made by this process.
static STATES: AtomicUsize = AtomicUsize::new(0);

/// A folder for state that nothing else uses.
pub fn state_base() -> PathBuf {
    let number = STATES.fetch_add(1, Ordering::Relaxed);
    let name = format!("state/{}-{number}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The program with these arguments, hearing no sound system but what the caller adds, with a state
/// of its own, and nothing of the caller's settings.
pub fn hearken<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARKEN_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).env("ALSA_CONFIG_PATH", "/dev/null");
    command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", state_base());
    // Tests run side by side; one that wants the dashboard gives it a port of its own.
    command.env("HEARKEN_DASHBOARD__ENABLED", "false");
    command
}

/// Runs to the end and returns exit code, standard output, standard error.
pub fn outcome<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        hearken(arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().expect("it ended by itself"), text(stdout), text(stderr))
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A daemon, killed when this is dropped.
pub struct Daemon {
    pub child: Child,
    out: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts a command made by [`hearken`] and collects what it writes.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (out, out_reader) = collect(child.stdout.take().expect("piped"));
        let (log, log_reader) = collect(child.stderr.take().expect("piped"));
        Self { child, out, log, readers: vec![out_reader, log_reader] }
    }

    /// Standard output so far, line by line.
    pub fn out(&self) -> Vec<String> {
        self.out.lock().expect("not poisoned").clone()
    }

    /// Standard error so far, line by line.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits until a line of the log holds all these words.
    pub fn wait_for_log(&self, words: &[&str]) {
        self.wait_until(&format!("{words:?} in the log"), || {
            self.log().iter().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// Waits until something is true.
    pub fn wait_until(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(
                Instant::now() < deadline,
                "waited for {what}\nout: {:#?}\nlog: {:#?}",
                self.out(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is still there");
    }

    /// Waits for the end and returns how it ended.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                // What it wrote last may still be on the way.
                for reader in self.readers.drain(..) {
                    reader.join().expect("a reader");
                }
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; log: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn collect(stream: impl std::io::Read + Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let filled = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            filled.lock().expect("not poisoned").push(line);
        }
    });
    (lines, reader)
}
