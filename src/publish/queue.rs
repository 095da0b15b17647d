//! What is still to be said to the broker. This queue, not the MQTT library's, is the truth: an
//! event leaves it when the broker has acknowledged it, and everything retained is kept as the
//! latest value per topic, so that it can be said again after any lost connection. Pure.
//!
//! Three kinds of message, three ways of being bounded:
//! - events: in order, at least once; beyond the bound the oldest go and are counted;
//! - retained states: latest wins per topic, at least once;
//! - momentary values (levels, scores): latest wins per topic, at most once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// QoS 1 messages on their way at most. Small, so that little is repeated after a lost connection,
/// and under the receive maximum of every broker we know (mosquitto: 20).
pub const IN_FLIGHT_MAX: usize = 16;

/// In which order retained states are said after a connect: what exists, how it stands, and only
/// then that it can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Discovery,
    State,
    Availability,
}

/// What an acknowledgement is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Event { sequence: u64 },
    Retained { topic: Arc<str>, revision: u64, step: Step },
}

/// Which of a retained topic's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A message that must be seen once before the value.
    Preface,
    Value,
}

/// A message to publish. With a token it is QoS 1, and the token must come back through
/// [`Outbox::acknowledge`] or [`Outbox::refuse`]; without one it is QoS 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: Arc<str>,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub token: Option<Token>,
}

/// Where a queued event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Waiting,
    InFlight,
    /// The broker did not want it; it is asked again later.
    Refused,
}

#[derive(Debug)]
struct QueuedEvent {
    sequence: u64,
    topic: Arc<str>,
    payload: Vec<u8>,
    retain: bool,
    stand: Stand,
    /// The number under which the store keeps it.
    kept: Option<i64>,
}

/// What became of events that the store keeps: the numbers of those that the broker has, and of
/// those that were given up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    pub arrived: Vec<i64>,
    pub dropped: Vec<i64>,
}

#[derive(Debug)]
struct Slot {
    rank: Rank,
    preface: Option<Vec<u8>>,
    /// Empty: the topic is to be cleared and then forgotten.
    value: Vec<u8>,
    revision: u64,
    in_flight: bool,
}

/// The queue. Counters only grow.
#[derive(Debug)]
pub struct Outbox {
    events: VecDeque<QueuedEvent>,
    events_max: usize,
    retained: BTreeMap<Arc<str>, Slot>,
    /// Retained topics with something to say that is not on its way.
    due: BTreeSet<(Rank, Arc<str>)>,
    momentary: BTreeMap<Arc<str>, Vec<u8>>,
    in_flight: usize,
    next_number: u64,
    dropped_events: u64,
    delivered_events: u64,
    /// Not yet told to the store.
    settled: Settled,
}

impl Outbox {
    /// Room for `events_max` events (at least one).
    pub fn new(events_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            events_max: events_max.max(1),
            retained: BTreeMap::new(),
            due: BTreeSet::new(),
            momentary: BTreeMap::new(),
            in_flight: 0,
            next_number: 1,
            dropped_events: 0,
            delivered_events: 0,
            settled: Settled::default(),
        }
    }

    /// Appends an event; `kept` is its number in the store. Of a full queue the oldest event that is
    /// not on its way goes, or the oldest of all.
    pub fn push_event(&mut self, topic: Arc<str>, payload: Vec<u8>, kept: Option<i64>) {
        self.push(topic, payload, false, kept);
    }

    /// Appends what an alert says: as an event, but nobody keeps it. A retained one stays with the
    /// broker; it is not said again after a lost connection.
    pub fn push_notice(&mut self, topic: Arc<str>, payload: Vec<u8>, retain: bool) {
        self.push(topic, payload, retain, None);
    }

    fn push(&mut self, topic: Arc<str>, payload: Vec<u8>, retain: bool, kept: Option<i64>) {
        if self.events.len() >= self.events_max {
            let waiting = self.events.iter().position(|event| event.stand != Stand::InFlight);
            self.drop_event(waiting.unwrap_or(0));
        }
        let sequence = self.number();
        let stand = Stand::Waiting;
        self.events.push_back(QueuedEvent { sequence, topic, payload, retain, stand, kept });
    }

    /// What became of the store's events since this was last asked.
    pub fn take_settled(&mut self) -> Settled {
        std::mem::take(&mut self.settled)
    }

    /// Lets refused events be tried again.
    pub fn retry_refused(&mut self) {
        for event in self.events.iter_mut().filter(|event| event.stand == Stand::Refused) {
            event.stand = Stand::Waiting;
        }
    }

    /// Events that the broker refused and that wait to be tried again.
    pub fn refused_events(&self) -> usize {
        self.events.iter().filter(|event| event.stand == Stand::Refused).count()
    }

    /// Sets the retained value of a topic; nothing happens if it has this value. An empty value
    /// clears the topic on the broker.
    pub fn set_retained(&mut self, rank: Rank, topic: Arc<str>, value: Vec<u8>) {
        let known = self.retained.get(&topic);
        if known.is_some_and(|slot| slot.value == value) || (known.is_none() && value.is_empty()) {
            return;
        }
        let revision = self.number();
        let slot = self.retained.entry(Arc::clone(&topic)).or_insert_with(|| Slot {
            rank,
            preface: None,
            value: Vec::new(),
            revision,
            in_flight: false,
        });
        slot.value = value;
        slot.revision = revision;
        if !slot.in_flight {
            self.due.insert((slot.rank, topic));
        }
    }

    /// Clears a topic on the broker that another run left there, unless it is one of ours.
    pub fn clear_unless_known(&mut self, rank: Rank, topic: Arc<str>) {
        if self.retained.contains_key(&topic) {
            return;
        }
        let revision = self.number();
        let slot = Slot { rank, preface: None, value: Vec::new(), revision, in_flight: false };
        self.retained.insert(Arc::clone(&topic), slot);
        self.due.insert((rank, topic));
    }

    /// Like [`Self::set_retained`], but `preface` is said (and acknowledged) on the topic first.
    pub fn set_retained_after(
        &mut self,
        rank: Rank,
        topic: Arc<str>,
        preface: Vec<u8>,
        value: Vec<u8>,
    ) {
        self.set_retained(rank, Arc::clone(&topic), value);
        let revision = self.number();
        if let Some(slot) = self.retained.get_mut(&topic) {
            slot.preface = Some(preface);
            slot.revision = revision;
            if !slot.in_flight {
                self.due.insert((slot.rank, topic));
            }
        }
    }

    /// Whether a topic's preface has yet to be acknowledged.
    pub fn has_preface(&self, topic: &str) -> bool {
        self.retained.get(topic).is_some_and(|slot| slot.preface.is_some())
    }

    /// Says a retained value once more, though it has not changed.
    pub fn repeat(&mut self, topic: &Arc<str>) {
        let revision = self.number();
        if let Some(slot) = self.retained.get_mut(topic) {
            slot.revision = revision;
            if !slot.in_flight {
                self.due.insert((slot.rank, Arc::clone(topic)));
            }
        }
    }

    /// Sets the momentary value of a topic; one that was not sent yet is replaced.
    pub fn set_momentary(&mut self, topic: Arc<str>, payload: Vec<u8>) {
        self.momentary.insert(topic, payload);
    }

    /// The next QoS 1 message, or `None` when all is said or enough is on its way. Retained states
    /// come first: there are few of them, and they are what a new subscriber sees.
    pub fn next_reliable(&mut self) -> Option<Outgoing> {
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let outgoing = self.next_retained().or_else(|| self.next_event())?;
        self.in_flight += 1;
        Some(outgoing)
    }

    /// The next QoS 0 message; it is forgotten at once.
    pub fn next_momentary(&mut self) -> Option<Outgoing> {
        let (topic, payload) = self.momentary.pop_first()?;
        Some(Outgoing { topic, payload, retain: false, token: None })
    }

    /// The broker has it.
    pub fn acknowledge(&mut self, token: &Token) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match token {
            Token::Event { sequence } => self.deliver_event(*sequence),
            Token::Retained { topic, revision, step } => self.confirm(topic, *revision, *step),
        }
    }

    /// The broker does not want it. An event is kept, for a broker whose permissions may be
    /// corrected; a retained value is left until it changes.
    pub fn refuse(&mut self, token: &Token) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match token {
            Token::Event { sequence } => {
                let refused = self.events.iter_mut().find(|event| event.sequence == *sequence);
                if let Some(event) = refused {
                    event.stand = Stand::Refused;
                }
            }
            Token::Retained { topic, revision, step } => self.confirm(topic, *revision, *step),
        }
    }

    /// It can't be said to any broker.
    pub fn give_up(&mut self, token: &Token) {
        self.refuse(token);
        if let Token::Event { sequence } = token
            && let Some(place) = self.events.iter().position(|event| event.sequence == *sequence)
        {
            self.drop_event(place);
        }
    }

    /// The connection is gone: whatever was on its way is to be said again, oldest first, and so
    /// is everything retained, since the broker may have lost its memory. Momentary values are
    /// history.
    pub fn connection_lost(&mut self) {
        self.in_flight = 0;
        self.momentary.clear();
        for event in &mut self.events {
            event.stand = Stand::Waiting;
        }
        for (topic, slot) in &mut self.retained {
            slot.in_flight = false;
            self.due.insert((slot.rank, Arc::clone(topic)));
        }
    }

    /// Whether everything reliable was said and acknowledged, or refused.
    pub fn is_idle(&self) -> bool {
        let all_refused = self.events.iter().all(|event| event.stand == Stand::Refused);
        all_refused && self.due.is_empty() && self.in_flight == 0
    }

    /// Events that the broker has not acknowledged.
    pub fn queued_events(&self) -> usize {
        self.events.len()
    }

    /// Events lost because the queue was full.
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }

    /// Events that the broker has acknowledged.
    pub fn delivered_events(&self) -> u64 {
        self.delivered_events
    }

    fn next_retained(&mut self) -> Option<Outgoing> {
        let (_, topic) = self.due.pop_first()?;
        let slot = self.retained.get_mut(&topic)?;
        slot.in_flight = true;
        let (step, payload) = match &slot.preface {
            Some(preface) => (Step::Preface, preface.clone()),
            None => (Step::Value, slot.value.clone()),
        };
        let token = Token::Retained { topic: Arc::clone(&topic), revision: slot.revision, step };
        Some(Outgoing { topic, payload, retain: true, token: Some(token) })
    }

    fn next_event(&mut self) -> Option<Outgoing> {
        let event = self.events.iter_mut().find(|event| event.stand == Stand::Waiting)?;
        event.stand = Stand::InFlight;
        Some(Outgoing {
            topic: Arc::clone(&event.topic),
            payload: event.payload.clone(),
            retain: event.retain,
            token: Some(Token::Event { sequence: event.sequence }),
        })
    }

    fn confirm(&mut self, topic: &Arc<str>, revision: u64, step: Step) {
        let Some(slot) = self.retained.get_mut(topic) else { return };
        slot.in_flight = false;
        match step {
            // A newer preface may have replaced the one acknowledged here; then the revision moved
            // on as well, and it is said again.
            Step::Preface if slot.revision == revision => slot.preface = None,
            Step::Preface => {}
            Step::Value if slot.revision == revision && slot.preface.is_none() => {
                if slot.value.is_empty() {
                    self.retained.remove(topic);
                }
                return;
            }
            Step::Value => {}
        }
        self.due.insert((slot.rank, Arc::clone(topic)));
    }

    fn deliver_event(&mut self, sequence: u64) {
        let found = self.events.iter().position(|event| event.sequence == sequence);
        if let Some(event) = found.and_then(|index| self.events.remove(index)) {
            self.delivered_events += 1;
            self.settled.arrived.extend(event.kept);
        }
    }

    fn drop_event(&mut self, index: usize) {
        if let Some(event) = self.events.remove(index) {
            self.dropped_events += 1;
            self.settled.dropped.extend(event.kept);
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(outbox: &mut Outbox) -> (String, String, Token) {
        let out = outbox.next_reliable().expect("something is due");
        let payload = String::from_utf8(out.payload).expect("text");
        (out.topic.to_string(), payload, out.token.expect("reliable"))
    }

    #[test]
    fn events_leave_on_acknowledgement_only_and_in_order() {
        let mut outbox = Outbox::new(10);
        for name in ["a", "b", "c"] {
            outbox.push_event("event".into(), name.into(), None);
        }
        let (_, first, token) = take(&mut outbox);
        let (_, second, _) = take(&mut outbox);
        assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
        outbox.acknowledge(&token);
        outbox.acknowledge(&token);
        assert_eq!((outbox.queued_events(), outbox.delivered_events()), (2, 1));
        outbox.connection_lost();
        assert_eq!(take(&mut outbox).1, "b");
        assert_eq!(take(&mut outbox).1, "c");
        assert_eq!(outbox.next_reliable(), None);
        assert!(!outbox.is_idle());
    }

    #[test]
    fn a_full_queue_drops_the_oldest_that_waits() {
        let mut outbox = Outbox::new(2);
        outbox.push_event("event".into(), "a".into(), None);
        let (_, _, token) = take(&mut outbox);
        outbox.push_event("event".into(), "b".into(), None);
        outbox.push_event("event".into(), "c".into(), None);
        assert_eq!((outbox.queued_events(), outbox.dropped_events()), (2, 1));
        outbox.acknowledge(&token);
        assert_eq!(take(&mut outbox).1, "c");
        assert_eq!((outbox.delivered_events(), outbox.dropped_events()), (1, 1));
    }

    #[test]
    fn a_notice_is_queued_like_an_event_and_may_be_retained() {
        let mut outbox = Outbox::new(10);
        outbox.push_event("event".into(), "a".into(), Some(1));
        outbox.push_notice("alarm".into(), "b".into(), true);
        outbox.push_notice("alarm".into(), "c".into(), false);
        let sent: Vec<Outgoing> = std::iter::from_fn(|| outbox.next_reliable()).collect();
        assert_eq!(sent.iter().map(|out| out.retain).collect::<Vec<_>>(), [false, true, false]);
        outbox.connection_lost();
        assert_eq!(take(&mut outbox).1, "a");
        let (topic, payload, token) = take(&mut outbox);
        assert_eq!((topic.as_str(), payload.as_str()), ("alarm", "b"));
        outbox.acknowledge(&token);
        assert_eq!(outbox.queued_events(), 2);
        assert_eq!(outbox.take_settled(), Settled::default(), "the store knows nothing of it");
    }

    #[test]
    fn the_store_is_told_what_became_of_its_events() {
        let mut outbox = Outbox::new(3);
        for kept in 1..=4 {
            outbox.push_event("event".into(), kept.to_string().into(), Some(kept));
        }
        let (_, _, token) = take(&mut outbox);
        outbox.acknowledge(&token);
        assert_eq!(outbox.take_settled(), Settled { arrived: vec![2], dropped: vec![1] });
        assert_eq!(outbox.take_settled(), Settled::default());
    }

    #[test]
    fn a_refused_event_is_kept_and_tried_again() {
        let mut outbox = Outbox::new(3);
        outbox.push_event("event".into(), "a".into(), Some(1));
        outbox.push_event("event".into(), "b".into(), Some(2));
        let (_, _, token) = take(&mut outbox);
        outbox.refuse(&token);
        assert_eq!((outbox.refused_events(), outbox.queued_events()), (1, 2));
        let (_, payload, token) = take(&mut outbox);
        assert_eq!(payload, "b", "the others go on");
        outbox.acknowledge(&token);
        assert!(outbox.is_idle() && outbox.next_reliable().is_none());
        outbox.retry_refused();
        assert_eq!(take(&mut outbox).1, "a");
        outbox.connection_lost();
        let (_, payload, token) = take(&mut outbox);
        assert_eq!(payload, "a");
        outbox.acknowledge(&token);
        assert_eq!(outbox.take_settled(), Settled { arrived: vec![2, 1], dropped: vec![] });
        assert_eq!(outbox.dropped_events(), 0);
    }

    #[test]
    fn the_latest_retained_value_wins_even_over_one_on_its_way() {
        let mut outbox = Outbox::new(10);
        outbox.set_retained(Rank::State, "dog".into(), "ON".into());
        let (_, _, token) = take(&mut outbox);
        outbox.set_retained(Rank::State, "dog".into(), "OFF".into());
        outbox.set_retained(Rank::State, "dog".into(), "ON".into());
        outbox.set_retained(Rank::State, "dog".into(), "OFF".into());
        assert_eq!(outbox.next_reliable(), None, "one message a topic on its way");
        outbox.acknowledge(&token);
        let (_, payload, token) = take(&mut outbox);
        assert_eq!(payload, "OFF");
        outbox.acknowledge(&token);
        assert!(outbox.is_idle());
        outbox.connection_lost();
        assert_eq!(take(&mut outbox).1, "OFF");
    }

    #[test]
    fn after_a_connect_availability_comes_last() {
        let mut outbox = Outbox::new(10);
        outbox.set_retained(Rank::Availability, "a".into(), "online".into());
        outbox.set_retained(Rank::State, "z".into(), "OFF".into());
        outbox.set_retained(Rank::Discovery, "zz".into(), "{}".into());
        outbox.connection_lost();
        let order: Vec<String> = (0..3).map(|_| take(&mut outbox).0).collect();
        assert_eq!(order, ["zz", "z", "a"]);
    }

    #[test]
    fn a_preface_is_acknowledged_before_its_value_is_said() {
        let mut outbox = Outbox::new(10);
        outbox.set_retained(Rank::Discovery, "config".into(), "long".into());
        let (_, _, token) = take(&mut outbox);
        outbox.acknowledge(&token);
        let topic: Arc<str> = "config".into();
        outbox.set_retained_after(Rank::Discovery, topic, "removal".into(), "short".into());
        assert_eq!(take(&mut outbox).1, "removal");
        outbox.connection_lost();
        let (_, payload, token) = take(&mut outbox);
        assert_eq!(payload, "removal");
        assert!(outbox.has_preface("config"));
        outbox.acknowledge(&token);
        assert!(!outbox.has_preface("config"));
        assert_eq!(take(&mut outbox).1, "short");
    }

    #[test]
    fn a_cleared_topic_is_forgotten_once_the_broker_knows() {
        let mut outbox = Outbox::new(10);
        outbox.set_retained(Rank::State, "dog".into(), "ON".into());
        let (_, _, token) = take(&mut outbox);
        outbox.acknowledge(&token);
        outbox.set_retained(Rank::State, "dog".into(), Vec::new());
        let (_, payload, token) = take(&mut outbox);
        assert_eq!(payload, "");
        outbox.acknowledge(&token);
        outbox.connection_lost();
        assert!(outbox.is_idle());
        outbox.clear_unless_known(Rank::State, "left behind".into());
        let (topic, payload, _) = take(&mut outbox);
        assert_eq!((topic.as_str(), payload.as_str()), ("left behind", ""));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Push,
        State(u8, u8),
        Send,
        AckOldest,
        AckNewest,
        Lose,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Push),
            2 => (0_u8..4, 1_u8..4).prop_map(|(topic, value)| Act::State(topic, value)),
            4 => Just(Act::Send),
            2 => Just(Act::AckOldest),
            1 => Just(Act::AckNewest),
            1 => Just(Act::Lose),
        ]
    }

    proptest! {
        /// Against a plain list of everything pushed: bounded, nothing lost uncounted, first
        /// sendings in order within a connection, and the broker ends with the latest states.
        #[test]
        fn nothing_is_lost_uncounted(
            acts in proptest::collection::vec(act(), 1..300),
            max in 1_usize..30,
        ) {
            let mut outbox = Outbox::new(max);
            let mut pushed = 0_u64;
            let mut flying: Vec<Token> = Vec::new();
            let mut last_sent = None;
            let mut wanted = BTreeMap::new();
            let mut broker = BTreeMap::new();
            let mut all = acts;
            all.push(Act::Lose);
            all.extend(std::iter::repeat_n([Act::Send, Act::AckOldest], 600).flatten());
            for act in all {
                match act {
                    Act::Push => {
                        pushed += 1;
                        outbox.push_event("event".into(), pushed.to_string().into_bytes(), None);
                    }
                    Act::State(topic, value) => {
                        wanted.insert(topic.to_string(), vec![value]);
                        outbox.set_retained(Rank::State, topic.to_string().into(), vec![value]);
                    }
                    Act::Send => if let Some(out) = outbox.next_reliable() {
                        let token = out.token.expect("reliable");
                        if let Token::Event { sequence } = token {
                            prop_assert!(last_sent < Some(sequence));
                            last_sent = Some(sequence);
                        } else {
                            broker.insert(out.topic.to_string(), out.payload);
                        }
                        flying.push(token);
                    },
                    Act::AckOldest if !flying.is_empty() => outbox.acknowledge(&flying.remove(0)),
                    Act::AckNewest => if let Some(token) = flying.pop() {
                        outbox.acknowledge(&token);
                    },
                    Act::AckOldest => {}
                    Act::Lose => {
                        flying.clear();
                        last_sent = None;
                        outbox.connection_lost();
                    }
                }
                prop_assert!(outbox.queued_events() <= max);
                prop_assert!(flying.len() <= IN_FLIGHT_MAX);
                let known = outbox.queued_events() as u64
                    + outbox.delivered_events() + outbox.dropped_events();
                prop_assert_eq!(known, pushed);
            }
            prop_assert!(outbox.is_idle());
            prop_assert_eq!(broker, wanted);
        }
    }
}
