//! One thread for each action of each alert: it does one notice after the other, and tries again what
//! may work later. So an action that hangs delays no other one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};

use super::actions::{Surroundings, Tried};
use super::notice::Notice;
use super::settings::Alert;
use crate::revive::{Restarts, revived};
use crate::signal::Timestamp;

/// Notices that wait for one action.
const QUEUE_MAX: usize = 16;
/// After these pauses it is tried again.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// How one action is doing. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ActionStatus {
    /// `command`, `webhook`, `mqtt`, `ntfy` or `email`.
    pub kind: String,
    /// Notices that were told.
    pub done: u64,
    /// Notices given up after all tries.
    pub failed: u64,
    /// Notices that were not even tried, since too many waited or the program ended.
    pub dropped: u64,
    /// Notices that wait, without the one in hand.
    pub waiting: usize,
    /// What went wrong last; it says nothing of what came after it.
    pub last_error: Option<String>,
    pub last_error_at: Option<Timestamp>,
    /// Whether the latest notice could not be told.
    pub is_failing: bool,
}

/// What a worker and those who ask about it share.
#[derive(Debug)]
pub struct Account {
    status: Mutex<ActionStatus>,
    queue: Receiver<Notice>,
}

impl Account {
    /// A copy.
    pub fn status(&self) -> ActionStatus {
        ActionStatus { waiting: self.queue.len(), ..self.lock().clone() }
    }

    fn lock(&self) -> MutexGuard<'_, ActionStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_error(&self, error: &str) {
        let mut status = self.lock();
        status.last_error = Some(error.to_owned());
        status.last_error_at = Some(Timestamp::now());
    }

    fn note_dropped(&self) {
        self.lock().dropped += 1;
    }
}

/// The near end of a worker. When it is dropped, the worker does what is in its queue and ends.
pub struct Worker {
    queue: Sender<Notice>,
    pub account: Arc<Account>,
    /// What it is called in the log: its key.
    name: String,
    was_full: bool,
}

impl Worker {
    /// A worker for one action of an alert, with the counters of its predecessor. `alive` is dropped
    /// at its end.
    pub fn start(
        alert: &Arc<Alert>,
        place: usize,
        before: Option<ActionStatus>,
        surroundings: Surroundings,
        restarts: &Arc<Restarts>,
        alive: Sender<()>,
    ) -> Self {
        let kind = alert.actions.get(place).map_or("", |action| action.kind());
        let name = format!("alert.{}.{kind}", alert.name);
        let (queue, waiting) = bounded(QUEUE_MAX);
        // Whether it works now is not known.
        let before = before.unwrap_or_default();
        let status = ActionStatus { kind: kind.to_owned(), is_failing: false, ..before };
        let account = Arc::new(Account { status: Mutex::new(status), queue: waiting.clone() });
        let thread = Thread {
            alert: Arc::clone(alert),
            place,
            surroundings,
            name: name.clone(),
            account: Arc::clone(&account),
        };
        let restarts = Arc::clone(restarts);
        let spawned =
            std::thread::Builder::new().name("alert-action".to_owned()).spawn(move || {
                // Failing too often, it ends; then its notices count as dropped.
                let _ = revived(&thread.name, &restarts, || thread.run(&waiting));
                drop(alive);
            });
        if let Err(error) = spawned {
            let reason = format!("no thread for it: {error}");
            tracing::error!("{name} can't work: {reason}");
            account.note_error(&reason);
        }
        Self { queue, account, name, was_full: false }
    }

    /// Takes a notice over. Never waits: with too many in the queue, this one is dropped and counted.
    pub fn take(&mut self, notice: Notice) {
        let refused = self.queue.try_send(notice).err();
        if refused.is_some() {
            self.account.note_dropped();
        }
        match refused {
            Some(TrySendError::Full(_)) if !self.was_full => {
                tracing::error!(
                    "{}: {QUEUE_MAX} notices wait already; further ones are dropped",
                    self.name
                );
            }
            Some(TrySendError::Disconnected(_)) => {
                tracing::error!("{}: a notice was dropped, since nobody takes it", self.name);
            }
            _ => {}
        }
        self.was_full = matches!(refused, Some(TrySendError::Full(_)));
    }
}

/// The far end.
struct Thread {
    alert: Arc<Alert>,
    place: usize,
    surroundings: Surroundings,
    name: String,
    account: Arc<Account>,
}

impl Thread {
    fn run(&self, queue: &Receiver<Notice>) {
        for notice in queue {
            let is_over = self.surroundings.stop.left().is_some_and(|left| left.is_zero());
            if is_over {
                tracing::error!("{}: a notice was not told, since hearken ends", self.name);
                self.account.note_dropped();
                continue;
            }
            match self.tell(&notice) {
                Ok(how) => {
                    tracing::debug!("{}: {how}", self.name);
                    let mut status = self.account.lock();
                    status.done += 1;
                    status.is_failing = false;
                }
                Err(why) => {
                    tracing::error!("{} failed: {why}", self.name);
                    self.account.note_error(&why);
                    let mut status = self.account.lock();
                    status.failed += 1;
                    status.is_failing = true;
                }
            }
        }
    }

    fn tell(&self, notice: &Notice) -> Result<String, String> {
        let Some(action) = self.alert.actions.get(self.place) else { return Ok(String::new()) };
        let mut pauses = PAUSES.iter();
        loop {
            match self.surroundings.try_action(action, &self.alert, notice) {
                Tried::Done(how) => return Ok(how),
                Tried::Failed(why) => return Err(why),
                Tried::Later(why) => {
                    let Some(pause) = pauses.next() else { return Err(why) };
                    tracing::warn!("{}: {why}; tried again in {} s", self.name, pause.as_secs());
                    self.account.note_error(&why);
                    if !self.surroundings.stop.pause(*pause) {
                        return Err(format!("{why}; hearken ends before another try"));
                    }
                }
            }
        }
    }
}
