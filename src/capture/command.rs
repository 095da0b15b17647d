//! A command's standard output as a source of raw PCM.
//!
//! The command is run without a shell, in a process group of its own. It is not paced here: a
//! command that delivers faster than real time (ffmpeg on a file) is held back by its pipe while
//! the ring is full, and nothing is lost. When it ends, for whatever reason, the source is lost and
//! the command is started again with back-off. Closing the source asks the whole group to end
//! (TERM), and half a second later ends it (KILL).

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::feeder::{self, Feeder, FeederHandle};
use super::pcm::PcmDecoder;
use super::settings::{Pace, PcmFormat};
use super::source::{Habits, Health, OpenError, Opened, Stream, new_feed};
use crate::last_line::{LastLine, keep_last_line};

const READ_BYTES: usize = 16 * 1_024;

/// From TERM to KILL.
const GRACE: Duration = Duration::from_millis(500);

/// A command that has closed its output is given this long to end by itself and tell why.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// Longer waits than for a device: each attempt may cost a remote server a connection.
pub(super) const HABITS: Habits = Habits {
    first_retry: Duration::from_millis(250),
    longest_retry: Duration::from_secs(30),
    patience: Some(Duration::from_secs(30)),
    silence_is_mute: false,
};

/// Starts the command and the threads that read it.
pub(super) fn open(argv: &[String], format: PcmFormat) -> Result<Opened, OpenError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(OpenError::Hopeless("the command is empty; name a program".to_owned()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| OpenError::Retry(format!("`{program}` can not be started: {error}")))?;
    let (producer, feed) = new_feed(format.sample_rate_hz, format.channels, Pace::RealTime);
    let output = child.stdout.take();
    let errors = child.stderr.take();
    let last_words = Arc::new(Mutex::new(LastLine::default()));
    // From here on dropping `running` ends the child, whatever fails.
    let mut running = Running {
        program: program.clone(),
        child,
        reader: None,
        last_words: Arc::clone(&last_words),
        output_ended: None,
    };
    let no_thread =
        |error: std::io::Error| OpenError::Retry(format!("no thread to read a command: {error}"));
    if let Some(mut errors) = errors {
        thread::Builder::new()
            .name("capture-stderr".to_owned())
            .spawn(move || keep_last_line(&mut errors, &last_words))
            .map_err(no_thread)?;
    }
    if let Some(output) = output {
        let reader =
            feeder::spawn("capture-command", producer, move |feeder| read(output, format, feeder))
                .map_err(no_thread)?;
        running.reader = Some(reader);
    }
    Ok(Opened { feed, stream: Box::new(running) })
}

fn read(mut output: impl Read, format: PcmFormat, feeder: &mut Feeder) -> Health {
    let mut decoder = PcmDecoder::new(format);
    let mut bytes = vec![0; READ_BYTES];
    let mut samples = Vec::new();
    while !feeder.is_stopped() {
        match output.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                samples.clear();
                decoder.decode(bytes.get(..count).unwrap_or_default(), &mut samples);
                if !feeder.push(&samples) {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Health::Broken(format!("its output can not be read: {error}")),
        }
    }
    Health::Finished
}

struct Running {
    program: String,
    child: Child,
    reader: Option<FeederHandle>,
    last_words: Arc<Mutex<LastLine>>,
    /// When its output was seen to be over.
    output_ended: Option<Instant>,
}

impl Running {
    fn obituary(&self, how: &str) -> Health {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).text();
        let colon = if words.is_empty() { "" } else { ": " };
        Health::Broken(format!("`{}` {how}{colon}{words}", self.program))
    }

    /// Waits for the child until `deadline`. Whether it ended.
    fn wait_until(&mut self, deadline: Instant) -> bool {
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

impl Stream for Running {
    fn health(&mut self) -> Health {
        let reading = self.reader.as_mut().map_or(Health::Finished, Stream::health);
        match reading {
            Health::Finished => {}
            Health::Broken(reason) => return self.obituary(&reason),
            other => return other,
        }
        let ended = *self.output_ended.get_or_insert_with(Instant::now);
        match self.child.try_wait() {
            Ok(Some(status)) => self.obituary(&describe(status)),
            Ok(None) if ended.elapsed() < EXIT_WAIT => Health::Flowing,
            Ok(None) => self.obituary("closed its output and went on running"),
            Err(error) => self.obituary(&format!("can not be waited for: {error}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Told first, so that a reader waiting for room lets go of the pipe.
        self.reader = None;
        // A group whose leader was waited for may be another's by now: only a living one is told.
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = self.child.id();
            signal_group("TERM", group);
            self.wait_until(Instant::now() + GRACE);
            signal_group("KILL", group);
        }
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!("`{}` can not be ended: {error}", self.program);
        }
    }
}

/// Signals every process of a group. The standard library can only kill the child itself, so the
/// shell's own `kill` does it; without a shell the child alone is killed by the caller.
fn signal_group(signal: &str, group: u32) {
    let sent = Command::new("/bin/sh")
        .args(["-c", "kill -s \"$0\" -- \"-$1\"", signal, &group.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Err(error) = sent {
        tracing::debug!("process group {group} can not be signalled: {error}");
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with exit status {code}"),
        None => format!("was ended by a signal ({status})"),
    }
}
