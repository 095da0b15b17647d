//! The daemon: wires the stages, watches them, answers signals and commands, and ends cleanly.

mod analyse;
mod board;
mod classify;
mod clock;
mod lane;
pub mod notify;
mod reload;
mod sinks;
mod source;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::capture::StateChange;
use crate::config::{ConfigError, Settings};
use crate::decide::{RuleProblem, Rules};
use crate::hear::SoundModel;
use crate::publish::Roster;
use crate::signal::{Command, Report, SourceState};
use classify::{ClassifyJob, Listened};
use sinks::Sinks;
pub use sinks::{EventFormat, EventWriter};
use source::LiveSource;

/// How often the supervisor looks at everything.
const TICK: Duration = Duration::from_millis(100);
/// How often levels are offered to the sinks, which thin them out further.
const LEVEL_EVERY: Duration = Duration::from_secs(1);
/// From the signal to the end of the process, in all.
const SHUTDOWN_MAX: Duration = Duration::from_millis(1_900);
/// What of it is kept for telling the broker.
const FAREWELL_MIN: Duration = Duration::from_millis(600);
/// When all sources have ended by themselves: as long as this for judging and delivering the rest.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// State changes and commands in flight; there are a few a second at most.
const MESSAGES_MAX: usize = 1_024;

/// How the daemon ended, when nothing broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A signal asked for it.
    Asked,
    /// Every source was heard to its end.
    AllEnded,
    /// Every source has ended, and some because they never could be heard.
    SomeFailed,
}

/// Reads the configuration again, as it was read the first time.
pub type Reread = Box<dyn FnMut() -> Result<Settings, ConfigError>>;

/// The rules' problems as one error of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nconfiguration: "))]
pub struct RuleProblems(pub Vec<RuleProblem>);

/// Listens until a signal comes or every source has ended.
pub fn run(
    settings: Settings,
    model: SoundModel,
    events: EventWriter,
    reread: Reread,
) -> anyhow::Result<Outcome> {
    Daemon::start(settings, model, events, reread)?.watch()
}

struct Daemon {
    settings: Settings,
    model: SoundModel,
    sources: Vec<LiveSource>,
    sinks: Arc<Sinks>,
    states: Receiver<StateChange>,
    commands: Receiver<Command>,
    new_rules: Sender<Rules>,
    /// Set when the classification is to end without judging what is queued.
    hurry: Arc<AtomicBool>,
    /// Says how the classification ended.
    classified: Receiver<anyhow::Result<()>>,
    signals: signal_hook::iterator::Signals,
    notifier: notify::Notifier,
    reread: Reread,
    /// Those that have been said.
    dropped_events: u64,
}

impl Daemon {
    fn start(
        settings: Settings,
        model: SoundModel,
        events: EventWriter,
        reread: Reread,
    ) -> anyhow::Result<Self> {
        let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
            .context("signals can't be watched")?;
        let rules = model.rules(&settings.detection).map_err(RuleProblems)?;
        let (commands_in, commands) = bounded(MESSAGES_MAX);
        let roster = roster(&settings, &model, &rules);
        let sinks = Sinks::start(settings.publish.clone(), roster, commands_in, events)?;
        let sinks = Arc::new(sinks);
        let (states_in, states) = bounded(MESSAGES_MAX);
        let mut sources = Vec::new();
        let mut listened = Vec::new();
        for source in &settings.sources {
            let (live, deliveries) =
                LiveSource::start(source, &model.recipe, settings.hop_s, states_in.clone())?;
            listened.push(Listened {
                source: Arc::clone(&live.name),
                board: Arc::clone(&live.board),
                deliveries,
            });
            sources.push(live);
        }
        let (new_rules, rules_in) = bounded(1);
        let hurry = Arc::new(AtomicBool::new(false));
        let sink = Arc::clone(&sinks);
        let job = ClassifyJob {
            node: Arc::clone(&settings.node),
            model: model.clone(),
            rules,
            sources: listened,
            new_rules: rules_in,
            scores: settings.publish.scores,
            hurry: Arc::clone(&hurry),
            sink: move |report| sink.send(report),
        };
        let classified = spawn_classification(job)?;
        let notifier = notify::Notifier::from_environment();
        notifier.ready();
        Ok(Self {
            settings,
            model,
            sources,
            sinks,
            states,
            commands,
            new_rules,
            hurry,
            classified,
            signals,
            notifier,
            reread,
            dropped_events: 0,
        })
    }

    /// The supervisor's loop.
    fn watch(mut self) -> anyhow::Result<Outcome> {
        let mut last_tick = Instant::now();
        let mut last_level = last_tick;
        let mut last_ping: Option<Instant> = None;
        loop {
            if let Ok(change) = self.states.recv_timeout(TICK) {
                self.take_state(change);
            }
            let now = Instant::now();
            let elapsed = now.duration_since(last_tick);
            if elapsed < TICK {
                continue;
            }
            last_tick = now;
            let pending: Vec<i32> = self.signals.pending().collect();
            if pending.iter().any(|&signal| signal != SIGHUP) {
                return self.shut_down(Outcome::Asked);
            }
            if !pending.is_empty() {
                self.reload();
            }
            self.obey();
            let levels = now.duration_since(last_level) >= LEVEL_EVERY;
            if levels {
                last_level = now;
                self.note_dropped_events();
            }
            self.tell(now, elapsed, levels);
            if let Err(error) = self.check_stages() {
                self.shut_down(Outcome::Asked)?;
                return Err(error);
            }
            self.feed_watchdog(now, &mut last_ping);
            if let Some(outcome) = self.all_ended() {
                return self.shut_down(outcome);
            }
        }
    }

    fn take_state(&mut self, change: StateChange) {
        let source = self.sources.iter_mut().find(|source| source.name == change.source);
        if let Some(source) = source {
            source.change(change);
            if let Some(status) = source.status_to_tell(Instant::now()) {
                self.sinks.send(Report::Status(status));
            }
            self.notifier.status(&self.summary());
        }
    }

    /// A stage that ends by itself has failed.
    fn check_stages(&self) -> anyhow::Result<()> {
        if let Ok(result) = self.classified.try_recv() {
            result?;
            anyhow::bail!("the classification ended by itself");
        }
        match self.sources.iter().find(|source| source.has_died()) {
            Some(source) => anyhow::bail!("{}: the analysis ended by itself", source.name),
            None => Ok(()),
        }
    }

    /// What MQTT asks for.
    fn obey(&mut self) {
        while let Ok(Command::Listen { source: name, on }) = self.commands.try_recv() {
            if let Some(source) = self.sources.iter().find(|source| source.name == name) {
                tracing::info!(source = %name, "listening switched {}", if on { "on" } else { "off" });
                source.listen(on);
            }
        }
    }

    /// Statuses and levels that are due.
    fn tell(&mut self, now: Instant, elapsed: Duration, levels: bool) {
        for source in &mut self.sources {
            source.pulse.note(source.state(), source.board.progress(), elapsed);
            if let Some(status) = source.status_to_tell(now) {
                self.sinks.send(Report::Status(status));
            }
            let level = source.board.level().filter(|_| levels && source.state().is_hearing());
            if let Some(dbfs) = level {
                let (source, at) = (Arc::clone(&source.name), crate::signal::Timestamp::now());
                self.sinks.send(Report::Level { source, at, dbfs });
            }
        }
    }

    /// Lost events are said, not only counted.
    fn note_dropped_events(&mut self) {
        let dropped = self.sinks.dropped_events();
        if dropped > self.dropped_events {
            let more = dropped - self.dropped_events;
            tracing::error!("{more} events were lost on the way to the broker, {dropped} in all");
            self.dropped_events = dropped;
        }
    }

    fn feed_watchdog(&self, now: Instant, last_ping: &mut Option<Instant>) {
        let window = Duration::from_secs_f64(self.model.recipe.window_s());
        let Some(every) = self.notifier.watchdog_interval() else { return };
        let due = last_ping.is_none_or(|last| now.duration_since(last) >= every);
        if due && self.sources.iter().all(|source| source.pulse.is_well(window)) {
            self.notifier.watchdog();
            self.notifier.status(&self.summary());
            *last_ping = Some(now);
        }
    }

    /// One line for `systemctl status`.
    fn summary(&self) -> String {
        let source = |source: &LiveSource| {
            let why = source.detail().map(|why| format!(" ({why})")).unwrap_or_default();
            let windows = source.board.classified_windows.get();
            format!("{}: {}{why}, {windows} windows", source.name, source.state().as_str())
        };
        self.sources.iter().map(source).collect::<Vec<_>>().join("; ")
    }

    fn all_ended(&self) -> Option<Outcome> {
        let over = |state| matches!(state, SourceState::Ended | SourceState::Failed);
        if !self.sources.iter().all(|source| over(source.state())) {
            return None;
        }
        let failed = self.sources.iter().any(|source| source.state() == SourceState::Failed);
        Some(if failed { Outcome::SomeFailed } else { Outcome::AllEnded })
    }

    /// Stops every stage in the order of the data, so that nothing heard is lost: capture,
    /// analysis, classification (which closes what is on), and the farewell to the broker.
    fn shut_down(self, outcome: Outcome) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let asked = outcome == Outcome::Asked;
        self.notifier.stopping();
        // When asked to end, windows in the queues are not judged any more; what is on is closed.
        self.hurry.store(asked, Ordering::Relaxed);
        let Self { sources, sinks, classified, .. } = self;
        for source in sources {
            // Each capture may take a while to let go of its device, so they stop side by side.
            // Without a thread for it, dropping the source tells it just as well.
            let name = "stop".to_owned();
            let _ = std::thread::Builder::new().name(name).spawn(move || source.stop());
        }
        let (classify_within, farewell) = if asked {
            (SHUTDOWN_MAX.saturating_sub(FAREWELL_MIN), SHUTDOWN_MAX)
        } else {
            // Files that were heard to their end have all their windows judged and delivered.
            (DRAIN_MAX, DRAIN_MAX)
        };
        let result = classified.recv_timeout(classify_within);
        if result.is_err() {
            tracing::warn!("the classification did not end in time; open events may lack an end");
        }
        let left = farewell.saturating_sub(began.elapsed()).max(FAREWELL_MIN);
        let undelivered = sinks.shutdown(left);
        match result {
            Ok(Err(error)) => Err(error),
            _ if !asked && undelivered > 0 => Ok(Outcome::SomeFailed),
            _ => Ok(outcome),
        }
    }
}

fn spawn_classification<S: Fn(Report) + Send + 'static>(
    job: ClassifyJob<S>,
) -> anyhow::Result<Receiver<anyhow::Result<()>>> {
    let (ended, classified) = bounded(1);
    std::thread::Builder::new()
        .name("classify".to_owned())
        .spawn(move || {
            // Only fails when nobody is left to hear it.
            let _ = ended.send(job.run().context("the network failed"));
        })
        .context("the classification can't be started")?;
    Ok(classified)
}

fn roster(settings: &Settings, model: &SoundModel, rules: &Rules) -> Roster {
    Roster {
        sources: settings.sources.iter().map(|s| Arc::clone(&s.capture.name)).collect(),
        classes: model.reported(rules),
        model: Arc::clone(&model.digest),
        version: env!("CARGO_PKG_VERSION"),
    }
}
