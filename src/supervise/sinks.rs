//! Where reports go. Events are kept in the store and then told, on the terminal, over MQTT and to the
//! alerts; everything else goes to MQTT at once, and levels to the alerts too. None of it makes the classification wait for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::clip::ClipNote;
use super::keep::{Keeper, Kept, SharedHealth, StoreHealth};
use super::shutdown::{FAREWELL_MIN, Remaining};
use super::tally::Tally;
use super::terminal::{EventWriter, Terminal};
use crate::alert::{Alerts, MqttNotice};
use crate::config::Settings;
use crate::dashboard::live::Live;
use crate::publish::settings::Broker;
use crate::publish::{self, Health, Publisher, Roster, Settled};
use crate::revive::{Restarts, revived};
use crate::signal::{Command, Event, Phase, Report, SourceStatus, Timestamp};

/// Events on their way to the store; there are a few a second at most.
const EVENTS_MAX: usize = 1_024;
/// For so long the classification waits for a store that is behind by that many. After that events
/// are told without being kept.
const STORE_WITHIN: Duration = Duration::from_secs(1);
/// Events that are committed at once.
const BATCH_MAX: usize = 256;
/// How often acknowledgements are taken over while no event comes.
const SETTLE_EVERY: Duration = Duration::from_millis(200);

/// When a signal comes while the broker is waited for, it is waited for so long still.
const HURRIED_FAREWELL: Duration = Duration::from_secs(1);
/// And actions of alerts that run are given so long still.
const HURRIED_ALERTS: Duration = Duration::from_millis(500);

/// What the store's thread is told.
enum Message {
    Event(Event),
    Clip(ClipNote),
    /// Nothing more will come: tell what is left until then.
    Last(Instant),
}

/// Those who only watch: they are told of events when the broker is, and nobody waits for them.
#[derive(Clone, Default)]
pub struct Watching {
    pub live: Arc<Live>,
    pub tally: Arc<Tally>,
}

/// The running sinks.
pub struct Sinks {
    publisher: Arc<Publisher>,
    watching: Watching,
    alerts: Arc<Alerts>,
    messages: Sender<Message>,
    /// Says how many events the broker did not get, when all is over.
    ended: Receiver<usize>,
    store: SharedHealth,
    passed_by: AtomicU64,
}

impl Sinks {
    /// Starts them. Fails on what can never work: a broker setting, a thread that can't be made.
    pub fn start(
        settings: &Settings,
        roster: Roster,
        commands: Sender<Command>,
        events: EventWriter,
        watching: Watching,
        restarts: Arc<Restarts>,
    ) -> anyhow::Result<Self> {
        let publish = settings.publish.clone();
        let outbox_max = (publish.broker != Broker::Off).then_some(publish.queue_events_max);
        let publisher = Arc::new(publish::start(publish, roster, commands)?);
        let alerts = Arc::new(start_alerts(settings, &publisher, &restarts)?);
        let terminal = Terminal::start(events)?;
        let clips = settings.clips.as_ref().map(|clips| clips.folder.clone());
        let health = SharedHealth::default();
        let keeper = Keeper::new(settings.store.clone(), clips, outbox_max, health.clone());
        let (messages, waiting) = bounded(EVENTS_MAX);
        let (ending, ended) = bounded(1);
        let (told, alerted) = (Arc::clone(&publisher), Arc::clone(&alerts));
        let watched = watching.clone();
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            let mut recorder = Recorder {
                keeper,
                publisher: told,
                alerts: alerted,
                terminal,
                watching,
                unsettled: Settled::default(),
                batch: Vec::new(),
            };
            let until = revived("the store", &restarts, || recorder.run(&waiting));
            if let Ok(until) = until {
                // Only fails when nobody is left to hear it.
                let _ = ending.send(recorder.end(until));
            }
        })?;
        let passed_by = AtomicU64::new(0);
        Ok(Self { publisher, watching: watched, alerts, messages, ended, store: health, passed_by })
    }

    /// Passes a report on.
    pub fn send(&self, report: Report) {
        match &report {
            Report::Status(status) => self.watching.live.status(status),
            Report::Health(health) => self.watching.live.health(health),
            _ => {}
        }
        let Report::Event(event) = report else { return self.publisher.send(report) };
        if let Err(refused) = self.messages.send_timeout(Message::Event(event), STORE_WITHIN)
            && let Message::Event(event) = refused.into_inner()
        {
            self.passed_by.fetch_add(u64::from(event.phase != Phase::Update), Ordering::Relaxed);
            self.publisher.tell(&event, None);
            self.alerts.event(&event);
            self.watching.tally.told(&event, Timestamp::now());
            self.watching.live.sound(&event);
        }
    }

    /// Shows how a source is to those who look, if anybody does.
    pub fn show(&self, status: impl FnOnce() -> SourceStatus) {
        if self.watching.live.is_watched() {
            self.watching.live.status(&status());
        }
    }

    /// The alerts, for those who ask about them.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    /// What the thread of clips tells about them.
    pub fn clip_notes(&self) -> impl Fn(ClipNote) + Send + 'static {
        let messages = self.messages.clone();
        move |note| {
            // A store that hangs does not get to know.
            let _ = messages.send_timeout(Message::Clip(note), STORE_WITHIN);
        }
    }

    /// How publishing is doing.
    pub fn publishing(&self) -> Health {
        self.publisher.health()
    }

    /// How the store is doing.
    pub fn store(&self) -> StoreHealth {
        let mut health = self.store.get();
        let passed_by = self.passed_by.load(Ordering::Relaxed);
        health.unkept += passed_by;
        if passed_by > 0 && self.messages.is_full() {
            health.problem.get_or_insert_with(|| "the store does not keep up".to_owned());
        }
        health
    }

    /// The thread that has ended, which none should by itself.
    pub fn dead(&self) -> Option<&'static str> {
        let store = matches!(self.ended.try_recv(), Err(TryRecvError::Disconnected));
        let publishing = self.publisher.has_ended().then_some("publishing");
        let alerts = self.alerts.has_ended().then_some("the alerts' thread");
        store.then_some("the store's thread").or(publishing).or(alerts)
    }

    /// Tells the broker what exists now.
    pub fn announce(&self, roster: Roster) {
        self.publisher.announce(roster);
    }

    /// Keeps, writes and publishes what is waiting and says farewell, in the time that is left.
    /// Returns how many events the broker did not get.
    pub fn shutdown(&self, time: &mut Remaining<'_>) -> usize {
        let until = time.farewell();
        let within = until.saturating_duration_since(Instant::now());
        // Full only if the store hangs; then the deadline ends the wait.
        let _ = self.messages.send_timeout(Message::Last(until), within);
        let hurried = || {
            self.alerts.hurry(HURRIED_ALERTS);
            self.publisher.hurry(HURRIED_FAREWELL);
        };
        match time.wait(&self.ended, Duration::ZERO, hurried) {
            Ok(undelivered) => undelivered,
            Err(_) => {
                tracing::error!("the store did not end in time");
                self.publisher.health().queued_events
            }
        }
    }
}

/// Alerts that publish what they have for the broker.
fn start_alerts(
    settings: &Settings,
    publisher: &Arc<Publisher>,
    restarts: &Arc<Restarts>,
) -> anyhow::Result<Alerts> {
    let publisher = Arc::clone(publisher);
    let publish = move |MqttNotice { topic, payload, retain }: MqttNotice| {
        publisher.send(Report::Notice { topic, payload, retain });
        publisher.health().connected
    };
    Alerts::start(settings.alerts.clone(), publish, Arc::clone(restarts))
        .context("the alerts can't be started")
}

/// The store's thread.
struct Recorder {
    keeper: Keeper,
    publisher: Arc<Publisher>,
    alerts: Arc<Alerts>,
    terminal: Terminal,
    watching: Watching,
    /// What has arrived at the broker, and the store has not taken over yet.
    unsettled: Settled,
    /// Events that have yet to be kept and told.
    batch: Vec<Event>,
}

impl Recorder {
    /// Keeps and tells until the end; returns by when all must be told. May be called again after a
    /// panic: what was in hand then is taken up once more.
    fn run(&mut self, messages: &Receiver<Message>) -> Instant {
        self.keeper.look_after(Instant::now());
        loop {
            for (event, kept) in self.keeper.take_left_behind() {
                self.publisher.tell(&event, kept);
            }
            let mut last = None;
            match messages.recv_timeout(SETTLE_EVERY) {
                Ok(Message::Event(event)) => self.batch.push(event),
                Ok(Message::Clip(note)) => self.keeper.note_clip(&note),
                Ok(Message::Last(until)) => last = Some(until),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => last = Some(Instant::now()),
            }
            let mut clips = Vec::new();
            while last.is_none() && self.batch.len() < BATCH_MAX {
                match messages.try_recv() {
                    Ok(Message::Event(event)) => self.batch.push(event),
                    Ok(Message::Clip(note)) => clips.push(note),
                    Ok(Message::Last(until)) => last = Some(until),
                    Err(_) => break,
                }
            }
            let kept = self.keeper.keep(self.batch.clone());
            self.tell(kept);
            self.batch.clear();
            clips.iter().for_each(|note| self.keeper.note_clip(note));
            self.settle();
            self.keeper.look_after(Instant::now());
            if let Some(until) = last {
                return until;
            }
        }
    }

    fn tell(&self, events: Vec<Kept>) {
        for (event, kept) in events {
            self.publisher.tell(&event, kept);
            self.watching.tally.told(&event, Timestamp::now());
            self.watching.live.sound(&event);
            self.alerts.event(&event);
            self.terminal.write(event);
        }
    }

    fn settle(&mut self) {
        let Settled { arrived, dropped } = self.publisher.take_settled();
        self.unsettled.arrived.extend(arrived);
        self.unsettled.dropped.extend(dropped);
        if self.keeper.settle(&self.unsettled) {
            self.unsettled = Settled::default();
        }
    }

    fn end(mut self, until: Instant) -> usize {
        let left = || until.saturating_duration_since(Instant::now());
        // Before the broker is told goodbye, for they may have something for it.
        self.alerts.shutdown(left().saturating_sub(FAREWELL_MIN));
        let undelivered = self.publisher.shutdown(left()).queued_events;
        self.settle();
        self.keeper.end();
        self.terminal.end(left());
        if undelivered > 0 {
            tracing::error!("{undelivered} event messages were not delivered");
        }
        undelivered
    }
}
