//! The daemon's start: every stage, and what goes between them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::answer::{Answering, Known};
use super::classify::{ClassifyJob, Listened};
use super::clip::{self, history_s};
use super::desk::Desk;
use super::history::History;
use super::scores::ScoreLog;
use super::sinks::{Sinks, Watching};
use super::source::LiveSource;
use super::{Daemon, EventWriter, MESSAGES_MAX, Reread, Told, check, notify};
use crate::capture::StateChange;
use crate::config::Settings;
use crate::dashboard::Dashboard;
use crate::decide::Rules;
use crate::hear::SoundModel;
use crate::publish::Roster;
use crate::revive::{Restarts, revived};
use crate::signal::{Command, Report, SourceName, Timestamp};
use crate::store::{FolderLock, LockError};

impl Daemon {
    /// Starts every stage and wires them.
    pub(super) fn start(
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
        let (watching, from_publish) = (Watching::default(), commands_in.clone());
        let (told, counted) = (watching.clone(), Arc::clone(&restarts));
        let sinks = Arc::new(Sinks::start(&settings, roster, from_publish, events, told, counted)?);
        let (states_in, states) = bounded(MESSAGES_MAX);
        let Heard { sources, listened, histories } = start_sources(&settings, &model, &states_in)?;
        let known = known(&model, &rules, &sources, &sinks);
        let answering = lock.as_ref().and_then(|_| answering(&settings, &known, &restarts));
        let keep = |clips| clip::start(clips, histories, sinks.clip_notes(), Arc::clone(&restarts));
        let (clips, clipped) = settings.clips.clone().map(keep).transpose()?.unzip();
        let dashboard = dashboard(&settings, &model, &known, &watching, commands_in)?;
        let (new_rules, rules_in) = bounded(1);
        let hurry = Arc::<AtomicBool>::default();
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
            tally: watching.tally,
            live: watching.live,
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
            dashboard,
            answering,
            lock,
            folder_at: Instant::now(),
        })
    }
}

/// What can be asked of the daemon.
fn known(model: &SoundModel, rules: &Rules, sources: &[LiveSource], sinks: &Sinks) -> Arc<Known> {
    Arc::new(Known {
        status: Mutex::new(None),
        rules: Mutex::new(rules.clone()),
        scores: ScoreLog::new(sources.iter().map(|source| Arc::clone(&source.name))),
        classes: model.classes.clone(),
        alerts: Arc::clone(sinks.alerts()),
    })
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

/// Without a socket, nobody can ask; that is no reason not to listen.
pub(super) fn answering(
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

/// The dashboard, if there is to be one.
fn dashboard(
    settings: &Settings,
    model: &SoundModel,
    known: &Arc<Known>,
    watching: &Watching,
    commands: Sender<Command>,
) -> anyhow::Result<Option<Dashboard>> {
    let Some(dashboard) = &settings.dashboard else { return Ok(None) };
    let desk = Desk {
        known: Arc::clone(known),
        tally: Arc::clone(&watching.tally),
        model: model.clone(),
        hop_s: settings.hop_s,
        database: settings.store.enabled.then(|| settings.store.database()),
        clips: settings.clips.as_ref().map(|clips| clips.folder.clone()),
        sources: settings.sources.iter().map(|s| Arc::clone(&s.capture.name)).collect(),
        commands,
        colour: OnceLock::new(),
    };
    Ok(Some(Dashboard::start(dashboard, Arc::new(desk), Arc::clone(&watching.live))?))
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

/// What exists to be announced.
pub(super) fn roster(settings: &Settings, model: &SoundModel, rules: &Rules) -> Roster {
    Roster {
        sources: settings.sources.iter().map(|s| Arc::clone(&s.capture.name)).collect(),
        classes: model.reported(rules),
        model: Arc::clone(&model.digest),
        version: env!("CARGO_PKG_VERSION"),
    }
}
