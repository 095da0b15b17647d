//! Keeps a connection to the broker: connect, say everything retained, deliver what is queued,
//! take commands, and begin again when the connection is lost.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::allowance::Allowance;
use crate::signal::Command;

use super::Health;
use super::backoff::{Backoff, Pace};
use super::board::Board;
use super::link::{Endpoint, Link, LinkEvent};
use super::payload::{ONLINE, Topics, parse_command};
use super::queue::{Outgoing, Token};
use super::quiet::Quiet;

/// A broker that has not acknowledged a message by then has lost it, or is half dead: the
/// connection is made anew.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(20);
/// QoS 0 messages handed to the library that it has not yet written.
const MOMENTARY_MAX: usize = 16;
/// How long the broker may take to hang up after our goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_millis(300);
/// For so long after the first connect, what an earlier run left behind is looked for.
const LOOK_AROUND: Duration = Duration::from_secs(3);
/// How often stuck acknowledgements are looked for.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often events that the broker refused are tried again.
const RETRY_REFUSED_EVERY: Duration = Duration::from_secs(60);

/// What the publisher's callers and its thread share. The lock is held for moments only, never
/// across anything that waits.
pub struct Shared {
    state: Mutex<State>,
    /// Something in `state` wants attention.
    pub wake: Notify,
}

/// Under the lock.
pub struct State {
    pub board: Board,
    pub health: Health,
    /// Whether the next connection is a reconnection.
    was_connected: bool,
    /// Set at shutdown: when to give up.
    pub give_up_at: Option<Instant>,
    /// Whatever shutdown says, not later than this.
    pub give_up_latest: Option<Instant>,
}

impl Shared {
    /// Nothing connected, nothing closing.
    pub fn new(board: Board) -> Self {
        let state = State {
            board,
            health: Health::default(),
            was_connected: false,
            give_up_at: None,
            give_up_latest: None,
        };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    /// The state. A panic elsewhere can't have left it half changed in a way that matters more
    /// than going on publishing.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up_at(&self) -> Option<Instant> {
        self.lock().give_up_at
    }
}

/// The session's own things.
pub struct Session<'a> {
    pub shared: &'a Shared,
    pub endpoint: Endpoint,
    pub topics: Topics,
    pub pace: Pace,
    pub commands: crossbeam_channel::Sender<Command>,
    pub complaints: Quiet,
    pub allowance: Allowance,
}

/// How a connection ended.
enum Ended {
    /// All was said, and the broker was told goodbye; or time is up.
    Finished,
    /// To be tried again.
    Lost { reason: String, lasted: Duration },
}

impl Session<'_> {
    /// Runs until shutdown.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.pace);
        loop {
            match self.connection().await {
                Ended::Finished => break,
                Ended::Lost { reason, lasted } => {
                    self.note_loss(&reason, lasted);
                    backoff.connection_lasted(lasted);
                }
            }
            if self.has_nothing_left() || !self.wait(backoff.next_delay(fastrand::f64())).await {
                break;
            }
        }
        self.shared.lock().health.connected = false;
    }

    /// One connection from its beginning to its end.
    async fn connection(&mut self) -> Ended {
        let mut talk = Talk::new(Link::open(&self.endpoint));
        let ended = self.talk(&mut talk).await;
        let mut state = self.shared.lock();
        state.board.connection_lost();
        state.health.connected = false;
        ended
    }

    async fn talk(&mut self, talk: &mut Talk) -> Ended {
        let mut checks = interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let give_up_at = self.shared.give_up_at();
            if talk.connected_at.is_some() && self.say(talk, give_up_at.is_some()) {
                return self.goodbye(talk).await;
            }
            let late = give_up_at.is_some_and(|at| Instant::now() >= at);
            if late || (talk.connected_at.is_none() && self.has_nothing_left()) {
                return Ended::Finished;
            }
            let (announce_at, looked_around_at) = (talk.announce_at, talk.looked_around_at);
            tokio::select! {
                event = talk.link.next() => {
                    if let Some(reason) = self.hear(talk, event) {
                        return Ended::Lost { reason, lasted: talk.lasted() };
                    }
                }
                () = self.shared.wake.notified() => {}
                _ = checks.tick() => {
                    if talk.is_stuck(Instant::now()) {
                        let reason = "the broker stopped acknowledging messages".to_owned();
                        return Ended::Lost { reason, lasted: talk.lasted() };
                    }
                    if talk.retried_at.elapsed() >= RETRY_REFUSED_EVERY {
                        talk.retried_at = Instant::now();
                        self.shared.lock().board.outbox.retry_refused();
                    }
                }
                () = at(give_up_at) => {}
                () = at(announce_at) => {
                    talk.announce_at = None;
                    self.shared.lock().board.repeat_discovery();
                }
                () = at(looked_around_at) => {
                    talk.looked_around_at = None;
                    for filter in self.look_around_filters() {
                        // At worst we go on hearing ourselves.
                        let _ = talk.link.unsubscribe(&filter);
                    }
                }
            }
        }
    }

    /// Hands everything that may go now to the link. True when the goodbye is all that is left.
    fn say(&self, talk: &mut Talk, closing: bool) -> bool {
        let mut state = self.shared.lock();
        if closing && !talk.closing && state.board.outbox.is_idle() {
            talk.closing = true;
            state.board.set_offline();
        }
        while let Some(outgoing) = state.board.outbox.next_reliable() {
            if let Some(token) = talk.publish(outgoing) {
                tracing::error!(?token, "not a topic: this message is left out");
                state.board.outbox.give_up(&token);
            }
        }
        while talk.unsent_momentary < MOMENTARY_MAX {
            let Some(outgoing) = state.board.outbox.next_momentary() else { break };
            talk.publish(outgoing);
        }
        talk.closing && state.board.outbox.is_idle()
    }

    /// Takes in what happened on the link; a reason when the link is at its end.
    fn hear(&mut self, talk: &mut Talk, event: LinkEvent) -> Option<String> {
        match event {
            LinkEvent::Connected => self.begin(talk),
            LinkEvent::Sent { packet_id } => return talk.sent(packet_id),
            LinkEvent::Acknowledged { packet_id, refusal } => {
                let token = talk.acknowledged(packet_id)?;
                self.settle(&token, refusal);
            }
            LinkEvent::NotSubscribed => self.complain(
                "the broker refused a subscription: commands, Home Assistant's birth message or \
                 what an earlier run left behind are not heard; check this user's permissions",
            ),
            LinkEvent::Message { topic, payload, retained } => {
                self.message(talk, &topic, &payload, retained);
            }
            LinkEvent::DisconnectSent => {}
            LinkEvent::Closed { reason } => return Some(reason),
        }
        None
    }

    fn begin(&mut self, talk: &mut Talk) {
        talk.connected_at = Some(Instant::now());
        let mut filters = vec![self.topics.set_filter()];
        filters.extend(self.topics.birth());
        {
            let mut state = self.shared.lock();
            if state.was_connected {
                state.health.reconnects += 1;
            } else {
                // Asked for before anything is published, so what is there is still the old.
                filters.extend(self.look_around_filters());
                talk.looked_around_at = Some(Instant::now() + LOOK_AROUND);
            }
            state.was_connected = true;
            state.health.connected = true;
        }
        for filter in filters {
            if talk.link.subscribe(&filter).is_err() {
                tracing::warn!(filter, "can't subscribe");
            }
        }
        tracing::info!(broker = %self.broker(), "connected");
    }

    fn settle(&mut self, token: &Token, refusal: Option<String>) {
        let mut state = self.shared.lock();
        match refusal {
            None => state.board.outbox.acknowledge(token),
            Some(reason) => {
                state.board.outbox.refuse(token);
                drop(state);
                self.complain(&format!("the broker refused a message: {reason}"));
            }
        }
    }

    fn message(&mut self, talk: &mut Talk, topic: &str, payload: &[u8], retained: bool) {
        if self.topics.birth().as_deref() == Some(topic) {
            // A retained one is as old as our own announcement or older.
            if payload == ONLINE.as_bytes() && !retained {
                let delay = self.pace.announce_within.mul_f64(fastrand::f64());
                talk.announce_at = Some(Instant::now() + delay);
            }
            return;
        }
        if !self.topics.is_set(topic) {
            if retained {
                self.shared.lock().board.found(topic, payload);
            }
            return;
        }
        let parsed = {
            let state = self.shared.lock();
            parse_command(&self.topics, state.board.sources(), topic, payload, retained)
        };
        let refused = match parsed {
            Ok(_) if !self.allowance.take(Instant::now()) => super::payload::Nonsense::TooMany,
            Ok(command) => match self.commands.try_send(command) {
                Ok(()) => return,
                Err(_) => super::payload::Nonsense::TooMany,
            },
            Err(nonsense) => nonsense,
        };
        self.shared.lock().health.ignored_commands += 1;
        self.complain(&format!("a command was ignored: {refused}"));
    }

    fn look_around_filters(&self) -> Vec<String> {
        let discovery = self.topics.discovery().map(|topic| topic.to_string());
        self.topics.retained_filters().into_iter().chain(discovery).collect()
    }

    /// Disconnects in good order.
    async fn goodbye(&self, talk: &mut Talk) -> Ended {
        if talk.link.disconnect().is_ok() {
            // The broker hangs up when it has read everything.
            let hung_up =
                async { while !matches!(talk.link.next().await, LinkEvent::Closed { .. }) {} };
            let _ = tokio::time::timeout(GOODBYE_WITHIN, hung_up).await;
        }
        Ended::Finished
    }

    /// Waits before the next attempt. False when shutdown came to its end meanwhile.
    async fn wait(&self, delay: Duration) -> bool {
        let attempt_at = Instant::now() + delay;
        loop {
            let give_up_at = self.shared.give_up_at();
            if give_up_at.is_some_and(|at| Instant::now() >= at) || self.has_nothing_left() {
                return false;
            }
            tokio::select! {
                () = at(Some(attempt_at)) => return true,
                () = at(give_up_at) => {}
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// Shutting down without a connection and without an event to deliver: the last will has
    /// already said what is left to say.
    fn has_nothing_left(&self) -> bool {
        let state = self.shared.lock();
        state.give_up_at.is_some() && state.board.outbox.queued_events() == 0
    }

    fn note_loss(&mut self, reason: &str, lasted: Duration) {
        if lasted >= self.pace.held {
            // All was well in between, so this is news even if it was said before.
            self.complaints.forget();
        }
        let complaint = if lasted.is_zero() {
            format!("can't connect: {reason}")
        } else {
            format!("connection lost: {reason}")
        };
        self.shared.lock().health.last_error = Some(format!("{}: {complaint}", self.broker()));
        self.complain(&complaint);
    }

    fn complain(&mut self, complaint: &str) {
        if let Some(repeats) = self.complaints.speak(complaint, Instant::now()) {
            tracing::warn!(broker = %self.broker(), repeats, "{complaint}");
        }
    }

    fn broker(&self) -> String {
        format!("{}:{}", self.endpoint.host, self.endpoint.port)
    }
}

/// One connection's bookkeeping.
struct Talk {
    link: Link,
    connected_at: Option<Instant>,
    announce_at: Option<Instant>,
    looked_around_at: Option<Instant>,
    /// When refused events were last tried again.
    retried_at: Instant,
    /// QoS 1 messages that the link has, in order, not yet sent.
    handed_over: VecDeque<(Token, Instant)>,
    unsent_momentary: usize,
    /// Sent, not acknowledged, by packet id.
    unacknowledged: HashMap<u16, (Token, Instant)>,
    /// `offline` was asked for.
    closing: bool,
}

impl Talk {
    fn new(link: Link) -> Self {
        Self {
            link,
            connected_at: None,
            announce_at: None,
            looked_around_at: None,
            retried_at: Instant::now(),
            handed_over: VecDeque::new(),
            unsent_momentary: 0,
            unacknowledged: HashMap::new(),
            closing: false,
        }
    }

    /// Hands a message to the link. A token comes back for a topic that is none, which no broker
    /// will ever take.
    fn publish(&mut self, outgoing: Outgoing) -> Option<Token> {
        let Outgoing { topic, payload, retain, token } = outgoing;
        if topic.contains(['+', '#', '\0']) {
            return token;
        }
        // A link takes nothing when it is closing. Its last event is about to say so, and then the
        // message counts as not delivered.
        let taken = self.link.publish(&topic, payload, retain, token.is_some());
        match token {
            Some(token) => self.handed_over.push_back((token, Instant::now())),
            None if taken.is_ok() => self.unsent_momentary += 1,
            None => {}
        }
        None
    }

    /// The link sends in the order it was asked to, so the oldest message has this id. A reason to
    /// part when an id is in use already: then nothing it says of acknowledgements can be trusted.
    fn sent(&mut self, packet_id: u16) -> Option<String> {
        if packet_id == 0 {
            self.unsent_momentary = self.unsent_momentary.saturating_sub(1);
            return None;
        }
        let (token, _) = self.handed_over.pop_front()?;
        let earlier = self.unacknowledged.insert(packet_id, (token, Instant::now()));
        earlier.map(|_| format!("packet id {packet_id} was used twice"))
    }

    fn acknowledged(&mut self, packet_id: u16) -> Option<Token> {
        self.unacknowledged.remove(&packet_id).map(|(token, _)| token)
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let late = |since: Instant| now.saturating_duration_since(since) > ACKNOWLEDGE_WITHIN;
        self.unacknowledged.values().any(|(_, since)| late(*since))
            || self.handed_over.front().is_some_and(|(_, since)| late(*since))
    }

    fn lasted(&self) -> Duration {
        self.connected_at.map_or(Duration::ZERO, |at| at.elapsed().max(Duration::from_nanos(1)))
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
