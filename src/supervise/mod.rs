//! The daemon: wires the stages, watches them, answers signals and commands, and ends cleanly.

mod analyse;
pub mod answer;
mod board;
mod classify;
mod clip;
mod clock;
mod desk;
mod files;
mod history;
mod keep;
mod lane;
pub mod notify;
mod reload;
mod replay;
mod report;
mod scores;
mod shutdown;
mod sinks;
mod source;
mod start;
mod tally;
mod terminal;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use signal_hook::consts::SIGHUP;

use crate::alert::settings::Trigger;
use crate::capture::StateChange;
use crate::config::{ConfigError, Settings};
use crate::dashboard::Dashboard;
use crate::decide::{RuleProblem, Rules};
use crate::hear::SoundModel;
use crate::revive::Restarts;
use crate::signal::{Command, NodeHealth, Report, SourceState, Timestamp};
use crate::store::FolderLock;
use answer::{Answering, Known};
use sinks::Sinks;
use source::LiveSource;
use start::answering;
pub use terminal::{EventFormat, EventWriter};
use watchdog::Stuck;

/// How often the supervisor looks at everything.
const TICK: Duration = Duration::from_millis(100);
/// How often levels are offered to the sinks, which thin them out further.
const LEVEL_EVERY: Duration = Duration::from_secs(1);
/// How often a state folder that could not be used is tried again.
const FOLDER_EVERY: Duration = Duration::from_secs(5);
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

/// The rules in force, if all classes that the settings name are ones that the model can report, and
/// those of alerts are reported.
///
/// # Errors
/// With all problems at once.
pub fn check(model: &SoundModel, settings: &Settings) -> Result<Rules, RuleProblems> {
    let rules = model.rules(&settings.detection).map_err(RuleProblems)?;
    let problems = settings.alerts.alerts.iter().flat_map(|alert| match &alert.trigger {
        Trigger::Sound { classes, .. } => {
            model.not_reported(&rules, &format!("alert.{}.classes", alert.name), classes)
        }
        Trigger::Level { .. } | Trigger::Escalation => Vec::new(),
    });
    let problems: Vec<RuleProblem> = problems.collect();
    if problems.is_empty() { Ok(rules) } else { Err(RuleProblems(problems)) }
}

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
    /// Disconnected when all clips have been cut.
    clipped: Option<Receiver<()>>,
    signals: signal_hook::iterator::Signals,
    notifier: notify::Notifier,
    reread: Reread,
    restarts: Arc<Restarts>,
    known: Arc<Known>,
    told: Told,
    started: Timestamp,
    dashboard: Option<Dashboard>,
    // Let go of at the end, in this order. Without them, because the state folder could not be
    // written to, they are tried again.
    answering: Option<Answering>,
    lock: Option<FolderLock>,
    folder_at: Instant,
}

/// What has been said, so that it is said once.
#[derive(Default)]
struct Told {
    dropped_messages: u64,
    health: Option<NodeHealth>,
}

impl Daemon {
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
                self.take_up_folder(now);
                self.tell_health();
            }
            self.tell(now, elapsed, levels);
            if let Err(error) = self.check_stages(now) {
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

    /// Takes the state folder when it can be written to after all.
    fn take_up_folder(&mut self, now: Instant) {
        let wanted = self.settings.store.enabled && self.answering.is_none();
        if !wanted || now.duration_since(self.folder_at) < FOLDER_EVERY {
            return;
        }
        self.folder_at = now;
        if self.lock.is_none() {
            self.lock = FolderLock::take(&self.settings.store.folder).ok();
        }
        if self.lock.is_some() {
            self.answering = answering(&self.settings, &self.known, &self.restarts);
        }
    }

    /// A source that has failed is started again; the other stages see to that themselves, and
    /// have given up when they end.
    fn check_stages(&mut self, now: Instant) -> anyhow::Result<()> {
        if let Ok(result) = self.classified.try_recv() {
            result?;
            anyhow::bail!("the classification ended by itself");
        }
        let clips = self.clipped.as_ref().map(Receiver::try_recv);
        let clips = (clips == Some(Err(TryRecvError::Disconnected))).then_some("the clips' thread");
        let answering = self.answering.as_ref().filter(|answering| answering.has_ended());
        let answering = answering.map(|_| "the thread that answers");
        let dashboard = self.dashboard.as_ref().filter(|dashboard| dashboard.has_ended());
        let dashboard = dashboard.map(|_| "the dashboard's thread");
        if let Some(dead) = self.sinks.dead().or(clips).or(answering).or(dashboard) {
            anyhow::bail!("{dead} ended by itself");
        }
        let window = Duration::from_secs_f64(self.model.recipe.window_s());
        for source in &mut self.sources {
            if source.pulse.stuck(window) == Some(Stuck::Classification) {
                anyhow::bail!("the classification stands still: windows of {} wait", source.name);
            }
            if let Some(why) = source.failure(window) {
                let pause = self.restarts.note(&source.name, now)?;
                tracing::error!(source = %source.name, "{why}; it is started again in {pause:?}");
                source.fail(now + pause);
            }
            source.renew(now);
        }
        Ok(())
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
            if levels {
                self.sinks.show(|| source.status());
            }
            let level = source.board.level().filter(|_| source.state().is_hearing());
            if let Some(dbfs) = level {
                self.sinks.alerts().level(&source.name, dbfs);
                let (source, at) = (Arc::clone(&source.name), Timestamp::now());
                if levels {
                    self.sinks.send(Report::Level { source, at, dbfs });
                }
            }
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

    fn all_ended(&self) -> Option<Outcome> {
        let over = |state| matches!(state, SourceState::Ended | SourceState::Failed);
        if !self.sources.iter().all(|source| over(source.state())) {
            return None;
        }
        let failed = self.sources.iter().any(|source| source.state() == SourceState::Failed);
        Some(if failed { Outcome::SomeFailed } else { Outcome::AllEnded })
    }
}
