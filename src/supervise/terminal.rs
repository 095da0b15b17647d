//! Events as lines on the terminal, which may be slow or closed.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::signal::{Event, Phase};

/// Lines waiting for a slow terminal; beyond it lines are left out and counted. The store and MQTT
/// get their events by another way.
const LINES_MAX: usize = 1_024;

/// How events are written to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// A line for a person.
    Text,
    /// A line of JSON, as on the `event` topic.
    Json,
}

/// Where and how events are written, one line each.
pub struct EventWriter {
    pub format: EventFormat,
    pub out: Box<dyn Write + Send>,
}

/// What the terminal's thread is told.
enum Line {
    Event(Event),
    /// Nothing more will come.
    Last,
}

/// The thread that writes.
pub struct Terminal {
    lines: Sender<Line>,
    thread: JoinHandle<()>,
    omitted: AtomicU64,
}

impl Terminal {
    /// Starts it.
    pub fn start(events: EventWriter) -> io::Result<Self> {
        let (lines, waiting) = bounded(LINES_MAX);
        let EventWriter { format, mut out } = events;
        let thread = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            while let Ok(Line::Event(event)) = waiting.recv() {
                // A closed terminal is no reason to stop listening.
                let _ = writeln!(out, "{}", line(&event, format)).and_then(|()| out.flush());
            }
        })?;
        Ok(Self { lines, thread, omitted: AtomicU64::new(0) })
    }

    /// Writes a start or an end, when the terminal takes it; never waits.
    pub fn write(&self, event: Event) {
        let news = event.phase != Phase::Update;
        if news && self.lines.try_send(Line::Event(event)).is_err() {
            self.omitted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets it write what is waiting, for so long at most.
    pub fn end(&self, within: Duration) {
        let until = Instant::now() + within;
        // Full only if the terminal does not take lines at all; then the deadline ends the wait.
        let _ = self.lines.send_timeout(Line::Last, within);
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let omitted = self.omitted.load(Ordering::Relaxed);
        if omitted > 0 {
            tracing::warn!("{omitted} lines were left out: the terminal did not take them in time");
        }
    }
}

fn line(event: &Event, format: EventFormat) -> String {
    match format {
        // Plain structs of text and finite numbers always serialise.
        EventFormat::Json => serde_json::to_string(event).unwrap_or_default(),
        EventFormat::Text => text(event),
    }
}

fn text(event: &Event) -> String {
    let Event { source, class, score_peak, level_dbfs, start, end, .. } = event;
    let (at, word, tail) = match (event.phase, end) {
        (Phase::End, Some(end)) => (end, "END  ", format!("  {:.1} s", end.seconds_since(*start))),
        _ => (start, "START", String::new()),
    };
    format!("{at}  {word}  {source}  {class}  {score_peak:.2}  {level_dbfs:.0} dBFS{tail}")
}
