//! Alerts: rules turn events and levels into notices, and notices into actions - a command, a
//! webhook, an MQTT message, a push message, a mail. The rest of the program hands over events and
//! never waits; one thread goes by the rules, and each action has one of its own.
//!
//! `template`, `schedule`, `notice` and `rules` are pure; `worker` tries again, and `actions` do it.

mod actions;
mod notice;
mod rules;
mod schedule;
pub mod settings;
mod stop;
mod template;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use serde::{Deserialize, Serialize};

use crate::revive::{Restarts, revived};
use crate::signal::{Event, EventId, SourceName, Timestamp};

pub use self::actions::MqttNotice;
use self::actions::{PublishNotice, Surroundings, Tried};
use self::notice::{LOUD, Notice};
use self::rules::{Addressed, Engine, Now, Tally};
use self::settings::{Action, Alert, AlertSettings, Trigger};
use self::stop::Stop;
pub use self::worker::ActionStatus;
use self::worker::{Account, Worker};

/// Events on their way to the rules; there are a few a second at most.
const EVENTS_MAX: usize = 1_024;
/// How often it is looked at what is on.
const TICK: Duration = Duration::from_millis(100);
/// New settings are taken between two ticks; longer than this, the thread is stuck.
const RELOAD_WITHIN: Duration = Duration::from_secs(1);
/// Of the time for a shutdown, so much is kept for what has to be killed.
const GRACE: Duration = Duration::from_millis(300);

/// How one alert is doing. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertStatus {
    pub name: String,
    /// Notices of its rule, those of the second stage among them.
    pub notices: u64,
    /// Notices that were held back while it rested.
    pub held_back: u64,
    /// Sounds that it would have told at another hour.
    pub out_of_hours: u64,
    pub last_notice: Option<Timestamp>,
    pub actions: Vec<ActionStatus>,
}

/// How an action went that was tried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// `command`, `webhook`, `mqtt`, `ntfy` or `email`.
    pub action: String,
    pub ok: bool,
    /// In words for a person.
    pub detail: String,
}

/// Why nothing was tried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum TestError {
    #[error("there is no alert {name:?}; {}", known_names(known))]
    Unknown { name: String, known: Vec<String> },
    #[error("another alert is being tried out; try again when that is over")]
    Busy,
}

fn known_names(known: &[String]) -> String {
    match known {
        [] => "the configuration has no [[alert]]".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    }
}

/// What the thread is told.
enum Message {
    Event(Event),
    Settings(Arc<AlertSettings>),
    /// Nothing more will come.
    End,
}

/// The running alerts.
pub struct Alerts {
    messages: Sender<Message>,
    shared: Arc<Shared>,
    /// Disconnected when the rules' thread has ended.
    ruled: Receiver<()>,
    /// Disconnected when that and all actions have ended.
    ended: Receiver<()>,
}

/// What the callers, the rules' thread and those who ask share.
struct Shared {
    /// The latest level of each source that was not looked at yet.
    levels: Mutex<BTreeMap<SourceName, f32>>,
    minds_levels: AtomicBool,
    lost_events: AtomicU64,
    board: Mutex<Board>,
    stop: Arc<Stop>,
    publish: Arc<PublishNotice>,
    is_testing: AtomicBool,
}

/// What can be seen.
struct Board {
    settings: Arc<AlertSettings>,
    tallies: Vec<Tally>,
    accounts: Vec<Vec<Arc<Account>>>,
}

impl Alerts {
    /// Starts them. `publish` takes a message for the broker, without waiting, and says whether
    /// there is a connection at present.
    ///
    /// # Errors
    /// When the thread can't be made.
    pub fn start(
        settings: AlertSettings,
        publish: impl Fn(MqttNotice) -> bool + Send + Sync + 'static,
        restarts: Arc<Restarts>,
    ) -> io::Result<Self> {
        let settings = Arc::new(settings);
        let (messages, waiting) = bounded(EVENTS_MAX);
        let (alive, ended) = bounded(0);
        let (ruling, ruled) = bounded::<()>(0);
        let board =
            Board { settings: Arc::clone(&settings), tallies: Vec::new(), accounts: Vec::new() };
        let shared = Arc::new(Shared {
            levels: Mutex::default(),
            minds_levels: AtomicBool::new(false),
            lost_events: AtomicU64::new(0),
            board: Mutex::new(board),
            stop: Arc::default(),
            publish: Arc::new(publish),
            is_testing: AtomicBool::new(false),
        });
        let mut desk = Desk {
            engine: Engine::new(Arc::clone(&settings)),
            workers: Vec::new(),
            shared: Arc::clone(&shared),
            restarts: Arc::clone(&restarts),
            alive,
            began: Instant::now(),
            ticked: Instant::now(),
            lost_told: 0,
        };
        desk.take_settings(settings);
        thread::Builder::new().name("alert".to_owned()).spawn(move || {
            // Failing too often, it ends, which the supervisor sees.
            let _ = revived("the alerts", &restarts, || desk.run(&waiting));
            drop(ruling);
            // Without it, the workers end when their queues are empty.
            drop(desk);
        })?;
        Ok(Self { messages, shared, ruled, ended })
    }

    /// Takes an event over. Never waits: beyond those that wait already, it is lost and counted.
    pub fn event(&self, event: &Event) {
        if self.messages.try_send(Message::Event(event.clone())).is_err() {
            self.shared.lost_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the level of a source over, in dBFS; the latest wins. Never waits.
    pub fn level(&self, source: &SourceName, dbfs: f32) {
        if self.shared.minds_levels.load(Ordering::Relaxed) {
            lock(&self.shared.levels).insert(Arc::clone(source), dbfs);
        }
    }

    /// How each alert is doing, in the configuration's order. Only copies; call it from any thread.
    pub fn status(&self) -> Vec<AlertStatus> {
        let board = lock(&self.shared.board);
        let tallies = board.tallies.iter().zip(&board.accounts);
        let statuses =
            board.settings.alerts.iter().zip(tallies).map(|(alert, (tally, accounts))| {
                AlertStatus {
                    name: alert.name.to_string(),
                    notices: tally.notices,
                    held_back: tally.held_back,
                    out_of_hours: tally.out_of_hours,
                    last_notice: tally.last_notice,
                    actions: accounts.iter().map(|account| account.status()).collect(),
                }
            });
        statuses.collect()
    }

    /// Events that the rules did not get to see, since too many waited.
    pub fn lost_events(&self) -> u64 {
        self.shared.lost_events.load(Ordering::Relaxed)
    }

    /// What does not work at present, in words for a person.
    pub fn problems(&self) -> Vec<String> {
        let failing = |alert: &AlertStatus| {
            let name = alert.name.clone();
            let actions = alert.actions.clone().into_iter().filter(|action| action.is_failing);
            actions.map(move |action| {
                let why = action.last_error.unwrap_or_default();
                format!("alert.{name}.{} does not work: {why}", action.kind)
            })
        };
        self.status().iter().flat_map(failing).collect()
    }

    /// Runs all actions of an alert, side by side and once each, with a made-up notice that is marked
    /// as a test. Waits for them in the caller's thread; one test at a time.
    ///
    /// # Errors
    /// Without such an alert, or during another test.
    pub fn test(&self, name: &str) -> Result<Vec<TestResult>, TestError> {
        let settings = Arc::clone(&lock(&self.shared.board).settings);
        let Some(alert) = settings.alerts.iter().find(|alert| &*alert.name == name) else {
            let known = settings.alerts.iter().map(|alert| alert.name.to_string()).collect();
            return Err(TestError::Unknown { name: name.to_owned(), known });
        };
        if self.shared.is_testing.swap(true, Ordering::Acquire) {
            return Err(TestError::Busy);
        }
        let notice = made_up(alert, &settings);
        let surroundings = self.shared.surroundings(&settings);
        let results = try_all(alert, &surroundings, &notice);
        self.shared.is_testing.store(false, Ordering::Release);
        Ok(results)
    }

    /// Puts other settings in force. False: the thread is stuck, and the old ones stay.
    pub fn reload(&self, settings: AlertSettings) -> bool {
        let message = Message::Settings(Arc::new(settings));
        self.messages.send_timeout(message, RELOAD_WITHIN).is_ok()
    }

    /// Whether the thread has ended; before [`Self::shutdown`], only a fault can do that.
    pub fn has_ended(&self) -> bool {
        self.ruled.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Goes by the rules with what is left, and gives the actions so long to tell it. What they have
    /// not told by then is not told.
    pub fn shutdown(&self, within: Duration) {
        let grace = GRACE.min(within / 4);
        self.shared.stop.end_by(Instant::now() + within - grace);
        // Full only if the thread is stuck; then the deadline ends the wait.
        let _ = self.messages.send_timeout(Message::End, within - grace);
        // Disconnected at the end of all, which is what is waited for.
        let is_over = || self.shared.stop.left().is_none_or(|left| left.is_zero());
        while !is_over() && self.ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {}
        let _ = self.ended.recv_timeout(grace);
    }

    /// Makes a [`Self::shutdown`] that goes on, or is yet to come, give up when `within` has passed,
    /// if that is sooner.
    pub fn hurry(&self, within: Duration) {
        self.shared.stop.end_by(Instant::now() + within);
    }
}

impl Shared {
    fn surroundings(&self, settings: &AlertSettings) -> Surroundings {
        Surroundings {
            zone: settings.zone.clone(),
            smtp: settings.smtp.clone(),
            publish: Arc::clone(&self.publish),
            stop: Arc::clone(&self.stop),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A notice of something that nobody has heard.
fn made_up(alert: &Alert, settings: &AlertSettings) -> Notice {
    let class: Arc<str> = match &alert.trigger {
        Trigger::Sound { classes, .. } => {
            classes.first().map_or("test", |class| class.as_str()).into()
        }
        Trigger::Level { .. } => LOUD.into(),
        Trigger::Escalation => "test".into(),
    };
    Notice {
        alert: Arc::clone(&alert.name),
        stage: 1,
        node: Arc::clone(&settings.node),
        source: alert.sources.first().map_or("test", |source| source.as_str()).into(),
        class,
        score: Some(1.0),
        level_dbfs: -20.0,
        start: Timestamp::now(),
        end: None,
        duration_s: 0.0,
        count: alert.count,
        held_back: 0,
        id: Some(EventId::new()),
        test: true,
    }
}

fn try_all(alert: &Alert, surroundings: &Surroundings, notice: &Notice) -> Vec<TestResult> {
    thread::scope(|scope| {
        let start = |action: &'_ Action| {
            let action = action.clone();
            let tried = move || surroundings.try_action(&action, alert, notice);
            thread::Builder::new().name("alert-test".to_owned()).spawn_scoped(scope, tried)
        };
        let running: Vec<_> =
            alert.actions.iter().map(|action| (action.kind(), start(action))).collect();
        let results = running.into_iter().map(|(kind, thread)| {
            let tried = match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(tried)) => tried,
                Ok(Err(_)) => Tried::Failed("it failed within the program".to_owned()),
                Err(error) => Tried::Failed(format!("no thread for it: {error}")),
            };
            let (ok, detail) = match tried {
                Tried::Done(how) => (true, how),
                Tried::Later(why) | Tried::Failed(why) => (false, why),
            };
            TestResult { action: kind.to_owned(), ok, detail }
        });
        results.collect()
    })
}

/// The rules' thread.
struct Desk {
    engine: Engine,
    /// By alerts and their actions.
    workers: Vec<Vec<Worker>>,
    shared: Arc<Shared>,
    restarts: Arc<Restarts>,
    alive: Sender<()>,
    began: Instant,
    ticked: Instant,
    /// Lost events that were spoken of.
    lost_told: u64,
}

impl Desk {
    /// Until the end. May be called again after a panic: what is on and what rests is still known.
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let notices = match messages.recv_timeout(TICK) {
                Ok(Message::Event(event)) => self.engine.event(&event, self.now()),
                Ok(Message::Settings(settings)) => {
                    self.take_settings(settings);
                    Vec::new()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            };
            self.tell(notices);
            self.take_levels();
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                let notices = self.engine.tick(self.now());
                self.tell(notices);
                self.complain();
            }
            lock(&self.shared.board).tallies = self.engine.tallies();
        }
        lock(&self.shared.board).tallies = self.engine.tallies();
    }

    fn now(&self) -> Now {
        Now { clock: Timestamp::now(), steady_s: self.began.elapsed().as_secs_f64() }
    }

    fn take_levels(&mut self) {
        let levels = std::mem::take(&mut *lock(&self.shared.levels));
        for (source, dbfs) in levels {
            let notices = self.engine.level(&source, dbfs, self.now());
            self.tell(notices);
        }
    }

    fn tell(&mut self, notices: Vec<Addressed>) {
        for Addressed { to, notice } in notices {
            tracing::info!(
                source = %notice.source, stage = notice.stage, held_back = notice.held_back,
                "alert {}: {}", notice.alert, notice.class
            );
            for worker in self.workers.get_mut(to).into_iter().flatten() {
                worker.take(notice.clone());
            }
        }
    }

    fn complain(&mut self) {
        let lost = self.shared.lost_events.load(Ordering::Relaxed);
        if lost > self.lost_told {
            let more = lost - self.lost_told;
            tracing::error!(
                "{more} events were not looked at by alerts: more than {EVENTS_MAX} waited"
            );
            self.lost_told = lost;
        }
    }

    /// Puts settings in force. Workers of alerts that have not changed go on; others do what is in
    /// their queues and end, and new ones carry on their counters.
    fn take_settings(&mut self, settings: Arc<AlertSettings>) {
        let before = Arc::clone(&lock(&self.shared.board).settings);
        let same_ways = before.zone == settings.zone && before.smtp == settings.smtp;
        let names = before.alerts.iter().map(|alert| Arc::clone(&alert.name));
        let mut old: BTreeMap<Arc<str>, Vec<Worker>> =
            names.zip(std::mem::take(&mut self.workers)).collect();
        for alert in &settings.alerts {
            let workers = old.remove(&alert.name).unwrap_or_default();
            let unchanged = same_ways && before.alerts.iter().any(|was| was == alert);
            let workers = match unchanged && !workers.is_empty() {
                true => workers,
                false => self.start_workers(alert, &settings, &workers),
            };
            self.workers.push(workers);
        }
        self.engine.reload(Arc::clone(&settings));
        self.shared.minds_levels.store(self.engine.minds_levels(), Ordering::Relaxed);
        let accounts = |workers: &Vec<Worker>| {
            workers.iter().map(|worker| Arc::clone(&worker.account)).collect()
        };
        let accounts = self.workers.iter().map(accounts).collect();
        *lock(&self.shared.board) = Board { settings, tallies: self.engine.tallies(), accounts };
    }

    fn start_workers(
        &self,
        alert: &Alert,
        settings: &AlertSettings,
        before: &[Worker],
    ) -> Vec<Worker> {
        let alert = Arc::new(alert.clone());
        let actions = alert.actions.iter().enumerate().map(|(place, action)| {
            let statuses = before.iter().map(|worker| worker.account.status());
            let counters = statuses.into_iter().find(|status| status.kind == action.kind());
            let surroundings = self.shared.surroundings(settings);
            Worker::start(&alert, place, counters, surroundings, &self.restarts, self.alive.clone())
        });
        actions.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::settings::{CommandAction, MqttAction};
    use super::*;
    use crate::signal::Phase;

    fn event(number: usize) -> Event {
        Event {
            id: EventId::new(),
            phase: Phase::Start,
            node: "n".into(),
            source: format!("s{number}").into(),
            class: "dog".into(),
            start: Timestamp::now(),
            end: None,
            score_peak: 0.8,
            score_mean: 0.7,
            level_dbfs: -20.0,
            model: "m".into(),
        }
    }

    fn mqtt(name: &str) -> Alert {
        let action = MqttAction { topic: name.into(), payload: None, retain: false };
        Alert { actions: vec![Action::Mqtt(action)], ..Alert::example(name) }
    }

    fn hanging() -> Alert {
        let arguments = vec!["1000".parse().unwrap()];
        let action = CommandAction { program: "sleep".into(), arguments, timeout_s: 300 };
        Alert { actions: vec![Action::Command(action)], ..Alert::example("hangs") }
    }

    fn settings(alerts: Vec<Alert>) -> AlertSettings {
        AlertSettings { alerts, ..AlertSettings::default() }
    }

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_hangs_has_a_full_queue_and_delays_nobody_and_the_end_comes() {
        const EVENTS: usize = 40;
        let both = settings(vec![hanging(), mqtt("quick")]);
        let alerts = Alerts::start(both, |_| true, Arc::default()).unwrap();
        for number in 0..EVENTS {
            alerts.event(&event(number));
            wait_until("the quick one has told it", || {
                alerts.status()[1].actions[0].done as usize > number
            });
        }
        let hung = alerts.status()[0].clone();
        let action = &hung.actions[0];
        // One is in hand.
        assert_eq!((action.waiting, action.dropped, action.done), (16, EVENTS as u64 - 17, 0));
        assert_eq!((hung.notices, alerts.lost_events()), (EVENTS as u64, 0));
        let began = Instant::now();
        alerts.shutdown(Duration::from_secs(2));
        assert!(began.elapsed() < Duration::from_secs(60) && alerts.has_ended());
        let action = alerts.status()[0].actions[0].clone();
        assert_eq!((action.failed, action.dropped), (1, EVENTS as u64 - 1));
        assert!(alerts.problems()[0].contains("hearken ends"), "{:?}", alerts.problems());
        alerts.event(&event(EVENTS));
        assert_eq!(alerts.lost_events(), 1);
    }

    #[test]
    fn a_hurried_end_does_not_wait_either() {
        let alerts = Alerts::start(settings(vec![hanging()]), |_| true, Arc::default()).unwrap();
        alerts.event(&event(0));
        wait_until("it hangs", || alerts.status()[0].notices == 1);
        let began = Instant::now();
        thread::scope(|scope| {
            let end = scope.spawn(|| alerts.shutdown(Duration::from_secs(600)));
            alerts.hurry(Duration::ZERO);
            end.join().unwrap();
        });
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_reload_keeps_the_workers_of_what_has_not_changed() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let publish = move |message: MqttNotice| {
            lock(&heard).push(message.topic.to_string());
            true
        };
        let first = settings(vec![hanging(), mqtt("a")]);
        let alerts = Alerts::start(first, publish, Arc::default()).unwrap();
        alerts.event(&event(0));
        wait_until("it is told", || alerts.status()[1].actions[0].done == 1);
        let changed = Alert { min_duration_s: 0.5, ..mqtt("a") };
        assert!(alerts.reload(settings(vec![mqtt("b"), changed, hanging()])));
        wait_until("they are in force", || alerts.status().len() == 3);
        let status = alerts.status();
        let names: Vec<&str> = status.iter().map(|alert| alert.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "hangs"]);
        assert_eq!((status[1].notices, status[1].actions[0].done), (1, 1), "counters go on");
        alerts.event(&event(1));
        wait_until("all are told", || lock(&told).len() == 3);
        assert_eq!(lock(&told)[..2], ["a", "b"]);
        // The command of before still runs: what came later waits for it.
        assert_eq!(alerts.status()[2].actions[0].waiting, 1);
        alerts.shutdown(Duration::from_secs(1));
    }
}
