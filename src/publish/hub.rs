//! The memory of the embedded broker: who listens to what, what is retained, what waits for whom.
//! No I/O. Everything in it is bounded; the constants say by how much.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

/// Connections at the same time.
pub const CLIENTS_MAX: usize = 64;
/// Subscriptions of one client.
const FILTERS_MAX: usize = 128;
/// Topics with a retained message, and their bytes together. Enough for 40 sources of 50 classes.
const RETAINED_MAX: usize = 4096;
const RETAINED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What may wait for a client that reads slowly. More than all retained messages together, which
/// a subscription to everything asks for at once.
const QUEUE_MAX: usize = 2 * RETAINED_MAX;
const QUEUE_BYTES_MAX: usize = 2 * RETAINED_BYTES_MAX;
/// Bytes of a topic or filter.
const TOPIC_BYTES_MAX: usize = 1024;

/// A connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// A message as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    /// QoS 1; else 0.
    pub reliable: bool,
    pub retain: bool,
}

impl Message {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// What a client's connection should do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Deliver(Message),
    Wait,
    /// Hang up: another connection took over this client's name, or it does not keep up.
    Leave(&'static str),
}

#[derive(Debug)]
struct Client {
    name: String,
    filters: BTreeMap<String, bool>,
    queue: VecDeque<Message>,
    queued_bytes: usize,
    leave: Option<&'static str>,
    wake: Arc<Notify>,
}

impl Client {
    fn push(&mut self, message: Message) {
        self.queued_bytes += message.bytes();
        if self.queue.len() >= QUEUE_MAX || self.queued_bytes > QUEUE_BYTES_MAX {
            self.queue.clear();
            self.dismiss("it reads too slowly");
        } else if self.leave.is_none() {
            self.queue.push_back(message);
            self.wake.notify_one();
        }
    }

    fn dismiss(&mut self, reason: &'static str) {
        self.leave = Some(reason);
        self.wake.notify_one();
    }

    /// Whether the client wants this topic, and if so, whether reliably.
    fn wants(&self, topic: &str) -> Option<bool> {
        let matching = self.filters.iter().filter(|(filter, _)| matches(filter, topic));
        matching.map(|(_, reliable)| *reliable).max()
    }
}

/// The memory of the broker.
#[derive(Debug, Default)]
pub struct Hub {
    clients: BTreeMap<ClientId, Client>,
    retained: BTreeMap<Arc<str>, Message>,
    retained_bytes: usize,
    joined: u64,
}

impl Hub {
    /// Lets a client in; an older connection of the same name has to leave. The notification
    /// comes when [`Self::next`] has something new.
    pub fn join(&mut self, name: &str) -> (ClientId, Arc<Notify>) {
        self.joined += 1;
        let id = ClientId(self.joined);
        let name = if name.is_empty() { format!("anonymous-{}", id.0) } else { name.to_owned() };
        for older in self.clients.values_mut().filter(|older| older.name == name) {
            older.dismiss("another connection uses its client id");
        }
        let wake = Arc::new(Notify::new());
        let client = Client {
            name,
            filters: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            leave: None,
            wake: Arc::clone(&wake),
        };
        self.clients.insert(id, client);
        (id, wake)
    }

    /// Forgets a client.
    pub fn leave(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    /// Everybody has to leave, after what is queued for them.
    pub fn dismiss_all(&mut self) {
        for client in self.clients.values_mut() {
            client.dismiss("the broker ends");
        }
    }

    /// Adds or replaces a subscription and queues the retained messages that match. False: not
    /// granted, because the filter is malformed or there are too many.
    pub fn subscribe(&mut self, id: ClientId, filter: &str, reliable: bool) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let full = client.filters.len() >= FILTERS_MAX && !client.filters.contains_key(filter);
        if full || !is_filter(filter) {
            return false;
        }
        client.filters.insert(filter.to_owned(), reliable);
        for message in self.retained.values().filter(|kept| matches(filter, &kept.topic)) {
            let reliable = reliable && message.reliable;
            client.push(Message { reliable, ..message.clone() });
        }
        true
    }

    /// Removes a subscription, if there is one.
    pub fn unsubscribe(&mut self, id: ClientId, filter: &str) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.filters.remove(filter);
        }
    }

    /// Passes a message on to whoever wants it, and keeps it if it is to be retained. An invalid
    /// topic is ignored, and so is one that begins with `$`, which is for brokers to write.
    pub fn publish(&mut self, message: Message) {
        if !is_topic(&message.topic) || message.topic.starts_with('$') {
            return;
        }
        for client in self.clients.values_mut() {
            if let Some(reliable) = client.wants(&message.topic) {
                let reliable = reliable && message.reliable;
                client.push(Message { reliable, retain: false, ..message.clone() });
            }
        }
        if message.retain {
            self.keep(message);
        }
    }

    /// What a client's connection should do next; a reliable message only if it may have one.
    pub fn next(&mut self, id: ClientId, reliable_allowed: bool) -> Next {
        let Some(client) = self.clients.get_mut(&id) else { return Next::Leave("it is unknown") };
        if client.queue.front().is_some_and(|front| front.reliable && !reliable_allowed) {
            // One that has to leave will not wait for acknowledgements.
            return client.leave.map_or(Next::Wait, Next::Leave);
        }
        match (client.queue.pop_front(), client.leave) {
            (Some(message), _) => {
                client.queued_bytes = client.queued_bytes.saturating_sub(message.bytes());
                Next::Deliver(message)
            }
            (None, Some(reason)) => Next::Leave(reason),
            (None, None) => Next::Wait,
        }
    }

    fn keep(&mut self, message: Message) {
        if let Some(old) = self.retained.remove(&message.topic) {
            self.retained_bytes -= old.bytes();
        }
        let bytes = self.retained_bytes + message.bytes();
        if message.payload.is_empty() {
            return;
        }
        if self.retained.len() >= RETAINED_MAX || bytes > RETAINED_BYTES_MAX {
            tracing::warn!(topic = %message.topic, "the embedded broker is full: not retained");
            return;
        }
        self.retained_bytes = bytes;
        self.retained.insert(Arc::clone(&message.topic), message);
    }
}

/// Whether a message may be published on this topic.
fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= TOPIC_BYTES_MAX && !topic.contains(['+', '#', '\0'])
}

/// Whether this can be subscribed to: `+` stands for one whole level, `#` for all the rest.
fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    let last_is_fine = levels.next().is_some_and(|last| last == "#" || is_filter_level(last));
    let fits = !filter.is_empty() && filter.len() <= TOPIC_BYTES_MAX && !filter.contains('\0');
    fits && last_is_fine && levels.all(is_filter_level)
}

fn is_filter_level(level: &str) -> bool {
    level == "+" || !level.contains(['+', '#'])
}

/// Whether a valid filter matches a valid topic. Wildcards at the beginning do not match topics
/// that begin with `$` (MQTT 3.1.1, 4.7.2).
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(topic: &str, payload: &str, retain: bool) -> Message {
        Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            reliable: true,
            retain,
        }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("+/+", "/x", true),
            ("/+", "/x", true),
            ("+", "/x", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("é/#", "é/b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
        for bad in ["", "a#", "#/a", "a/b+", "a/#/b", "a/\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn subscribers_get_what_is_retained_and_what_comes() {
        let mut hub = Hub::default();
        hub.publish(message("h/a", "old", true));
        hub.publish(message("h/a", "new", true));
        hub.publish(message("h/gone", "x", true));
        hub.publish(message("h/gone", "", true));
        let (id, _) = hub.join("watcher");
        assert!(hub.subscribe(id, "h/#", true));
        assert_eq!(hub.next(id, true), Next::Deliver(message("h/a", "new", true)));
        assert_eq!(hub.next(id, true), Next::Wait);
        hub.publish(message("h/b", "live", true));
        hub.publish(message("other", "x", false));
        assert_eq!(hub.next(id, false), Next::Wait, "no reliable one allowed now");
        assert_eq!(hub.next(id, true), Next::Deliver(message("h/b", "live", false)));
        hub.unsubscribe(id, "h/#");
        hub.publish(message("h/b", "live", true));
        assert_eq!(hub.next(id, true), Next::Wait);
    }

    #[test]
    fn a_second_connection_of_a_name_ends_the_first() {
        let mut hub = Hub::default();
        let (first, _) = hub.join("same");
        let (second, _) = hub.join("same");
        assert!(matches!(hub.next(first, true), Next::Leave(_)));
        assert_eq!(hub.next(second, true), Next::Wait);
        let (third, _) = hub.join("");
        let (fourth, _) = hub.join("");
        assert_eq!(hub.next(third, true), Next::Wait);
        assert_eq!(hub.next(fourth, true), Next::Wait);
    }

    #[test]
    fn one_who_does_not_read_is_dismissed_and_others_are_not() {
        let mut hub = Hub::default();
        let (slow, _) = hub.join("slow");
        let (quick, _) = hub.join("quick");
        assert!(hub.subscribe(slow, "#", true) && hub.subscribe(quick, "#", true));
        for _ in 0..=QUEUE_MAX {
            hub.publish(message("h", "x", false));
            assert!(matches!(hub.next(quick, true), Next::Deliver(_)));
        }
        assert!(matches!(hub.next(slow, true), Next::Leave(_)));
    }

    #[test]
    fn retained_messages_are_bounded() {
        let mut hub = Hub::default();
        for number in 0..2 * RETAINED_MAX {
            hub.publish(message(&format!("t/{number}"), "x", true));
        }
        assert_eq!(hub.retained.len(), RETAINED_MAX);
        for number in 0..RETAINED_MAX {
            hub.publish(message(&format!("t/{number}"), "", true));
        }
        assert_eq!((hub.retained.len(), hub.retained_bytes), (0, 0));
        let large = "x".repeat(RETAINED_BYTES_MAX / 4);
        for number in 0..8 {
            hub.publish(message(&format!("t/{number}"), &large, true));
        }
        assert!(hub.retained_bytes <= RETAINED_BYTES_MAX);
    }

    proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn any_text_is_safe_as_topic_and_as_filter(
            filters in proptest::collection::vec("[ab$é+#/\0]{0,8}", 0..8),
            topics in proptest::collection::vec("[ab$é+#/\0]{0,8}", 0..8),
        ) {
            let mut hub = Hub::default();
            let (id, _) = hub.join("x");
            for filter in &filters {
                let granted = hub.subscribe(id, filter, false);
                prop_assert_eq!(granted, is_filter(filter));
            }
            for topic in &topics {
                hub.publish(message(topic, "x", true));
                while let Next::Deliver(message) = hub.next(id, true) {
                    prop_assert!(!message.topic.contains(['+', '#', '\0']));
                }
            }
        }
    }
}
