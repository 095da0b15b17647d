//! Runs a program: without a shell, in a process group of its own, for so long and no longer.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use jiff::tz::TimeZone;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Tried;
use crate::alert::notice::Notice;
use crate::alert::settings::CommandAction;
use crate::alert::stop::Stop;
use crate::last_line::{LastLine, keep_last_line};

/// What a command finds of the daemon's own environment: where programs, the home and the desktop
/// are, and how to write times and text. What systemd tells the daemon, and its own settings, are
/// nothing to it.
const ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
];

/// Set while an alert is only tried out.
const TEST_VARIABLE: &str = "HEARKEN_TEST";

/// What it has written is read for so long after its end.
const OUTPUT_WITHIN: Duration = Duration::from_millis(200);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Threads that still read what the descendants of ended commands might write. With so many of them,
/// the output of further commands is not read.
const READERS_MAX: usize = 16;

static READERS: AtomicUsize = AtomicUsize::new(0);

/// Runs it to its end.
pub fn run(action: &CommandAction, notice: &Notice, zone: &TimeZone, stop: &Stop) -> Tried {
    let program = &action.program;
    let mut command = Command::new(program);
    command.args(action.arguments.iter().map(|argument| no_nul(notice.fill(argument, zone))));
    command.env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if notice.test {
        command.env(TEST_VARIABLE, "1");
    }
    let output = output_of(&mut command);
    let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
    // Its own copy of the pipe's end, without which the reader would never see the end.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Tried::Failed(format!("{program} can't be started: {error}")),
    };
    let ended = wait(&mut child, Duration::from_secs(action.timeout_s.into()), stop);
    let last_line = output.map(Output::last_line).unwrap_or_default();
    let said = if last_line.is_empty() { String::new() } else { format!(": {last_line}") };
    match ended {
        Ended::ByItself(status) if status.success() => {
            Tried::Done(format!("{program} ended{said}"))
        }
        Ended::ByItself(status) => Tried::Failed(format!("{program} {}{said}", describe(status))),
        Ended::Late => {
            let limit = action.timeout_s;
            Tried::Failed(format!("{program} took longer than {limit} s and was killed{said}"))
        }
        Ended::Stopped => Tried::Failed(format!("{program} was killed: hearken ends{said}")),
        Ended::Lost(error) => Tried::Failed(format!("{program} can't be waited for: {error}")),
    }
}

/// No argument can hold a NUL.
fn no_nul(text: String) -> String {
    text.replace('\0', " ")
}

enum Ended {
    ByItself(ExitStatus),
    Late,
    Stopped,
    Lost(std::io::Error),
}

/// Waits for the child, or kills it with its group.
fn wait(child: &mut Child, within: Duration, stop: &Stop) -> Ended {
    let latest = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ended::ByItself(status),
            Ok(None) => {}
            Err(error) => return Ended::Lost(error),
        }
        let is_stopped = stop.left().is_some_and(|left| left.is_zero());
        if is_stopped || Instant::now() >= latest {
            kill(child);
            return if is_stopped { Ended::Stopped } else { Ended::Late };
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Kills a child that has not been waited for, so that its group is still its own.
fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    if let Ok(group) = group
        && let Err(error) = killpg(group, Signal::SIGKILL)
    {
        tracing::debug!("process group {group} can't be killed: {error}");
    }
    // The child itself is killed by now; it is only taken off the list.
    if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
        tracing::warn!("a command can't be ended: {error}");
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with exit status {code}"),
        None => format!("was ended by a signal ({status})"),
    }
}

/// What a command writes, both ways together.
struct Output {
    last: Arc<Mutex<LastLine>>,
    /// Disconnected when all is read.
    read: Receiver<()>,
}

/// Connects a command's output with a thread that reads it. `None`: nobody does.
fn output_of(command: &mut Command) -> Option<Output> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if READERS.fetch_add(1, Ordering::Relaxed) >= READERS_MAX {
        READERS.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let started = (|| {
        let (mut reader, writer) = std::io::pipe()?;
        let other = writer.try_clone()?;
        let last = Arc::new(Mutex::new(LastLine::default()));
        let (reading, read) = bounded(0);
        let kept = Arc::clone(&last);
        std::thread::Builder::new().name("alert-output".to_owned()).spawn(move || {
            keep_last_line(&mut reader, &kept);
            READERS.fetch_sub(1, Ordering::Relaxed);
            drop::<crossbeam_channel::Sender<()>>(reading);
        })?;
        command.stdout(writer).stderr(other);
        Ok::<_, std::io::Error>(Output { last, read })
    })();
    if started.is_err() {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
    started.ok()
}

impl Output {
    /// The last line. A descendant may hold the pipe open; it is not waited for.
    fn last_line(self) -> String {
        // Disconnected at the end, which is what is waited for.
        let _ = self.read.recv_timeout(OUTPUT_WITHIN);
        self.last.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}
