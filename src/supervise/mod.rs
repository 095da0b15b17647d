//! The daemon: wires the stages, watches them, answers signals and commands, and ends cleanly.

mod analyse;
pub mod answer;
mod board;
mod classify;
mod clock;
mod keep;
mod lane;
pub mod notify;
mod reload;
mod scores;
mod sinks;
mod source;
mod terminal;
mod watchdog;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::capture::StateChange;
use crate::config::{ConfigError, Settings};
use crate::decide::{RuleProblem, Rules};
use crate::hear::SoundModel;
use crate::publish::Roster;
use crate::publish::settings::Broker;
use crate::revive::{Restarts, revived};
use crate::signal::{Command, NodeHealth, Report, SourceState, Timestamp};
use crate::store::{FolderLock, LockError};
use answer::{Answering, BrokerStatus, Known, NodeStatus};
use classify::{ClassifyJob, Listened};
use scores::ScoreLog;
use sinks::Sinks;
use source::LiveSource;
pub use terminal::{EventFormat, EventWriter};
use watchdog::Stuck;

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
    restarts: Arc<Restarts>,
    known: Arc<Known>,
    told: Told,
    started: Timestamp,
    // Let go of at the end, in this order.
    _answering: Option<Answering>,
    _lock: Option<FolderLock>,
}

/// What has been said, so that it is said once.
#[derive(Default)]
struct Told {
    dropped_messages: u64,
    health: Option<NodeHealth>,
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
        let lock = settings.store.enabled.then(|| FolderLock::take(&settings.store.folder));
        let lock = lock_or_complain(lock)?;
        let (publish, store) = (settings.publish.clone(), settings.store.clone());
        let sinks = Sinks::start(publish, store, roster, commands_in, events)?;
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
        let known = Arc::new(Known {
            status: Mutex::new(None),
            rules: Mutex::new(rules.clone()),
            scores: ScoreLog::new(sources.iter().map(|source| Arc::clone(&source.name))),
            classes: model.classes.clone(),
        });
        let answering = lock.as_ref().and_then(|_| answering(&settings, &known));
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
            known: Arc::clone(&known),
            sink: move |report| sink.send(report),
        };
        let restarts = Arc::new(Restarts::default());
        let classified = spawn_classification(job, Arc::clone(&restarts))?;
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
            restarts,
            known,
            told: Told::default(),
            started: Timestamp::now(),
            _lock: lock,
            _answering: answering,
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

    /// A source that has failed is started again; the other stages see to that themselves, and
    /// have given up when they end.
    fn check_stages(&mut self, now: Instant) -> anyhow::Result<()> {
        if let Ok(result) = self.classified.try_recv() {
            result?;
            anyhow::bail!("the classification ended by itself");
        }
        if self.sinks.has_died() {
            anyhow::bail!("the store's thread ended by itself");
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
            let level = source.board.level().filter(|_| levels && source.state().is_hearing());
            if let Some(dbfs) = level {
                let (source, at) = (Arc::clone(&source.name), Timestamp::now());
                self.sinks.send(Report::Level { source, at, dbfs });
            }
        }
    }

    /// Says how the listener is, when that has changed.
    fn tell_health(&mut self) {
        let health = self.health();
        if health.dropped_messages > self.told.dropped_messages {
            let more = health.dropped_messages - self.told.dropped_messages;
            let all = health.dropped_messages;
            tracing::error!(
                "{more} event messages were given up: more than mqtt.queue_events_max waited; {all} in all"
            );
            self.told.dropped_messages = all;
        }
        let news = |told: &NodeHealth| {
            // What waits changes all the time; its end is of interest, not its course.
            let calm = |health: &NodeHealth| NodeHealth {
                queued_messages: health.queued_messages.min(1),
                ..health.clone()
            };
            calm(told) != calm(&health)
        };
        if self.told.health.as_ref().is_none_or(news) {
            self.sinks.send(Report::Health(health.clone()));
            self.told.health = Some(health.clone());
        }
        let status = self.status(health);
        *self.known.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn status(&self, health: NodeHealth) -> NodeStatus {
        let publishing = self.sinks.publishing();
        let address = match &self.settings.publish.broker {
            Broker::Off => None,
            Broker::Embedded { port } => Some(format!("127.0.0.1:{port} (embedded)")),
            Broker::Remote(remote) => Some(format!("{}:{}", remote.host, remote.port)),
        };
        let store = &self.settings.store;
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: Arc::clone(&self.settings.node),
            process: std::process::id(),
            started: self.started,
            model: Arc::clone(&self.model.digest),
            health,
            broker: address.map(|address| BrokerStatus {
                address,
                connected: publishing.connected,
                delivered_messages: publishing.delivered_events,
                reconnects: publishing.reconnects,
                last_error: publishing.last_error,
            }),
            store: store.enabled.then(|| store.database()),
            sources: self.sources.iter().map(LiveSource::status).collect(),
        }
    }

    fn health(&self) -> NodeHealth {
        let (publishing, store) = (self.sinks.publishing(), self.sinks.store());
        let mut problems: Vec<String> = store.problem.into_iter().chain(store.mishap).collect();
        if publishing.refused_events > 0 {
            problems
                .push(format!("the broker refuses {} event messages", publishing.refused_events));
        }
        NodeHealth {
            degraded: !problems.is_empty(),
            problems,
            queued_messages: publishing.queued_events as u64,
            refused_messages: publishing.refused_events as u64,
            dropped_messages: publishing.dropped_events,
            unkept_events: store.unkept,
            restarts: self.restarts.total(),
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
    restarts: Arc<Restarts>,
) -> anyhow::Result<Receiver<anyhow::Result<()>>> {
    let (ended, classified) = bounded(1);
    std::thread::Builder::new()
        .name("classify".to_owned())
        .spawn(move || {
            let mut ears = job.ears();
            let result = match revived("the classification", &restarts, || job.run(&mut ears)) {
                Ok(result) => result.context("the network failed"),
                Err(error) => Err(error.into()),
            };
            // Only fails when nobody is left to hear it.
            let _ = ended.send(result);
        })
        .context("the classification can't be started")?;
    Ok(classified)
}

/// Without a socket, nobody can ask; that is no reason not to listen.
fn answering(settings: &Settings, known: &Arc<Known>) -> Option<Answering> {
    let path = settings.store.socket();
    let started = Answering::start(&path, Arc::clone(known));
    if let Err(error) = &started {
        tracing::warn!("`hearken status` can't be answered: {}: {error}", path.display());
    }
    started.ok()
}

/// A state folder that can't be written to does not keep anybody from listening; one that another
/// process uses does.
fn lock_or_complain(
    lock: Option<Result<FolderLock, LockError>>,
) -> Result<Option<FolderLock>, LockError> {
    match lock {
        Some(Err(error @ LockError::Unusable { .. })) => {
            tracing::error!("{error}");
            Ok(None)
        }
        Some(lock) => lock.map(Some),
        None => Ok(None),
    }
}

fn roster(settings: &Settings, model: &SoundModel, rules: &Rules) -> Roster {
    Roster {
        sources: settings.sources.iter().map(|s| Arc::clone(&s.capture.name)).collect(),
        classes: model.reported(rules),
        model: Arc::clone(&model.digest),
        version: env!("CARGO_PKG_VERSION"),
    }
}
