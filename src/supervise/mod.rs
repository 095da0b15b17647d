//! The daemon: wires the stages, watches them, answers signals and commands, and ends cleanly.

mod analyse;
pub mod answer;
mod board;
mod classify;
mod clip;
mod clock;
mod history;
mod keep;
mod lane;
pub mod notify;
mod reload;
mod report;
mod scores;
mod shutdown;
mod sinks;
mod source;
mod terminal;
mod watchdog;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::alert::settings::Trigger;
use crate::capture::StateChange;
use crate::config::{ConfigError, Settings};
use crate::decide::{RuleProblem, Rules};
use crate::hear::SoundModel;
use crate::publish::Roster;
use crate::revive::{Restarts, revived};
use crate::signal::{Command, NodeHealth, Report, SourceName, SourceState, Timestamp};
use crate::store::{FolderLock, LockError};
use answer::{Answering, Known};
use classify::{ClassifyJob, Listened};
use clip::history_s;
use history::History;
use scores::ScoreLog;
use sinks::Sinks;
use source::LiveSource;
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
    fn start(
        settings: Settings,
        model: SoundModel,
        events: EventWriter,
        reread: Reread,
    ) -> anyhow::Result<Self> {
        let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
            .context("signals can't be watched")?;
        let rules = check(&model, &settings)?;
        let lock = take_folder(&settings)?;
        let (commands_in, commands) = bounded(MESSAGES_MAX);
        let restarts = Arc::new(Restarts::default());
        let roster = roster(&settings, &model, &rules);
        let sinks = Sinks::start(&settings, roster, commands_in, events, Arc::clone(&restarts))?;
        let sinks = Arc::new(sinks);
        let (states_in, states) = bounded(MESSAGES_MAX);
        let Heard { sources, listened, histories } = start_sources(&settings, &model, &states_in)?;
        let known = Arc::new(known(&sources, &model, &rules, &sinks));
        let answering = lock.as_ref().and_then(|_| answering(&settings, &known, &restarts));
        let clips = settings
            .clips
            .clone()
            .map(|clips| clip::start(clips, histories, sinks.clip_notes(), Arc::clone(&restarts)));
        let (clips, clipped) = clips.transpose()?.unzip();
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
            clips,
            sink: move |report| sink.send(report),
        };
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
            clipped,
            signals,
            notifier,
            reread,
            restarts,
            known,
            told: Told::default(),
            started: Timestamp::now(),
            answering,
            lock,
            folder_at: Instant::now(),
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
        if let Some(dead) = self.sinks.dead().or(clips).or(answering) {
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

/// The sources that were started, and what others need of them.
struct Heard {
    sources: Vec<LiveSource>,
    listened: Vec<Listened>,
    histories: Vec<(SourceName, Arc<History>)>,
}

fn start_sources(
    settings: &Settings,
    model: &SoundModel,
    states: &Sender<StateChange>,
) -> anyhow::Result<Heard> {
    let mut heard = Heard { sources: Vec::new(), listened: Vec::new(), histories: Vec::new() };
    for source in &settings.sources {
        let history = settings.clips.as_ref().map(|clips| Arc::new(History::new(history_s(clips))));
        let (recipe, hop_s, states) = (&model.recipe, settings.hop_s, states.clone());
        let (live, deliveries) = LiveSource::start(source, recipe, hop_s, states, history.clone())?;
        let name = Arc::clone(&live.name);
        heard.histories.extend(history.map(|history| (Arc::clone(&name), history)));
        let board = Arc::clone(&live.board);
        heard.listened.push(Listened { source: name, board, deliveries });
        heard.sources.push(live);
    }
    Ok(heard)
}

/// What questions are answered by.
fn known(sources: &[LiveSource], model: &SoundModel, rules: &Rules, sinks: &Sinks) -> Known {
    Known {
        status: Mutex::new(None),
        rules: Mutex::new(rules.clone()),
        scores: ScoreLog::new(sources.iter().map(|source| Arc::clone(&source.name))),
        classes: model.classes.clone(),
        alerts: Arc::clone(sinks.alerts()),
    }
}

/// Without a socket, nobody can ask; that is no reason not to listen.
fn answering(
    settings: &Settings,
    known: &Arc<Known>,
    restarts: &Arc<Restarts>,
) -> Option<Answering> {
    let path = settings.store.socket();
    let started = Answering::start(&path, Arc::clone(known), Arc::clone(restarts));
    if let Err(error) = &started {
        tracing::warn!("`hearken status` can't be answered: {}: {error}", path.display());
    }
    started.ok()
}

/// A state folder that can't be written to does not keep anybody from listening; one that another
/// process uses does.
fn take_folder(settings: &Settings) -> Result<Option<FolderLock>, LockError> {
    if !settings.store.enabled {
        return Ok(None);
    }
    match FolderLock::take(&settings.store.folder) {
        Err(error @ LockError::Unusable { .. }) => {
            tracing::error!("{error}");
            Ok(None)
        }
        lock => lock.map(Some),
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
