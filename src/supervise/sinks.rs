//! Where reports go: the terminal and MQTT. Neither ever makes the classification wait.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::publish::settings::PublishSettings;
use crate::publish::{self, Publisher, Roster};
use crate::signal::{Command, Event, Phase, Report};

/// Lines waiting for a slow terminal; beyond it lines are left out and counted. MQTT gets its
/// events by another way.
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

/// The running sinks.
pub struct Sinks {
    publisher: Publisher,
    lines: Sender<Line>,
    terminal: JoinHandle<()>,
    omitted: AtomicU64,
}

impl Sinks {
    /// Starts them. Fails on what can never work: a broker setting, a thread that can't be made.
    pub fn start(
        settings: PublishSettings,
        roster: Roster,
        commands: Sender<Command>,
        events: EventWriter,
    ) -> anyhow::Result<Self> {
        let publisher = publish::start(settings, roster, commands)?;
        let (lines, waiting) = bounded(LINES_MAX);
        let EventWriter { format, mut out } = events;
        let terminal =
            std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
                while let Ok(Line::Event(event)) = waiting.recv() {
                    // A closed terminal is no reason to stop listening.
                    let _ = writeln!(out, "{}", line(&event, format)).and_then(|()| out.flush());
                }
            })?;
        Ok(Self { publisher, lines, terminal, omitted: AtomicU64::new(0) })
    }

    /// Passes a report on to all of them; never waits.
    pub fn send(&self, report: Report) {
        if let Report::Event(event) = &report
            && self.lines.try_send(Line::Event(event.clone())).is_err()
        {
            self.omitted.fetch_add(1, Ordering::Relaxed);
        }
        self.publisher.send(report);
    }

    /// Events that were lost on the way to the broker so far: the queue was full, or it refused
    /// them.
    pub fn dropped_events(&self) -> u64 {
        self.publisher.health().dropped_events
    }

    /// Tells the broker what exists now.
    pub fn announce(&self, roster: Roster) {
        self.publisher.announce(roster);
    }

    /// Writes and publishes what is waiting and says farewell, within a deadline. Returns how many
    /// events the broker did not get.
    pub fn shutdown(&self, within: Duration) -> usize {
        let until = Instant::now() + within;
        // Full only if the terminal does not take lines at all; then the deadline ends the wait.
        let _ = self.lines.send_timeout(Line::Last, within);
        let undelivered = self.publisher.shutdown(within).queued_events;
        while !self.terminal.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if undelivered > 0 {
            tracing::error!("{undelivered} events were not delivered");
        }
        let omitted = self.omitted.load(Ordering::Relaxed);
        if omitted > 0 {
            tracing::warn!("{omitted} lines were left out: the terminal did not take them in time");
        }
        undelivered
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
