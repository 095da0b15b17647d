//! Topics, JSON payloads and commands: everything that goes over the wire as text. Pure.

use std::sync::Arc;

use serde::Serialize;

use crate::signal::{ClassScore, Command, Event, NodeHealth, SourceName, SourceStatus, Timestamp};

/// A command is `ON` or `OFF`; nobody needs more bytes than this to say so.
pub const COMMAND_BYTES_MAX: usize = 16;
/// A level of a topic made from a class name is cut at this length.
const LEVEL_CHARS_MAX: usize = 64;
/// Levels are published within these bounds, in dBFS: digital silence is minus infinity, which JSON
/// cannot say.
const LEVEL_DBFS_MIN: f32 = -120.0;
const LEVEL_DBFS_MAX: f32 = 20.0;

/// Payload of the availability topic while connected.
pub const ONLINE: &str = "online";
/// Payload of the availability topic otherwise, the last will included.
pub const OFFLINE: &str = "offline";
/// A class is heard, or a source is to be listened to.
pub const ON: &str = "ON";
/// A class is not heard, or a source is not to be listened to.
pub const OFF: &str = "OFF";

/// Every topic of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    base: String,
    node: Arc<str>,
    discovery_prefix: Option<String>,
}

impl Topics {
    /// Topics under `<prefix>/<node>`; discovery under `<discovery_prefix>`, if wanted.
    pub fn new(prefix: &str, node: Arc<str>, discovery_prefix: Option<String>) -> Self {
        Self { base: format!("{prefix}/{node}"), node, discovery_prefix }
    }

    /// The name of this node, the middle of every topic.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// `online` or `offline`, retained; also the last will.
    pub fn available(&self) -> Arc<str> {
        format!("{}/available", self.base).into()
    }

    /// JSON state of the whole listener, retained.
    pub fn health(&self) -> Arc<str> {
        format!("{}/health", self.base).into()
    }

    /// JSON status of a source, retained.
    pub fn status(&self, source: &str) -> Arc<str> {
        format!("{}/{source}/status", self.base).into()
    }

    /// `ON` or `OFF`, retained. Class names that differ only in what a topic cannot show share one.
    pub fn sound(&self, source: &str, class: &str) -> Arc<str> {
        format!("{}/{source}/sound/{}", self.base, topic_level(class)).into()
    }

    /// JSON starts and ends of sounds.
    pub fn event(&self, source: &str) -> Arc<str> {
        format!("{}/{source}/event", self.base).into()
    }

    /// JSON level in dBFS.
    pub fn level(&self, source: &str) -> Arc<str> {
        format!("{}/{source}/level", self.base).into()
    }

    /// JSON of the best scores of a window.
    pub fn scores(&self, source: &str) -> Arc<str> {
        format!("{}/{source}/scores", self.base).into()
    }

    /// Where commands to a source arrive.
    pub fn set(&self, source: &str) -> Arc<str> {
        format!("{}/{source}/set", self.base).into()
    }

    /// The subscription that matches `set` of every source.
    pub fn set_filter(&self) -> String {
        self.set("+").to_string()
    }

    /// Subscriptions that match every retained topic of every source.
    pub fn retained_filters(&self) -> [String; 2] {
        [self.status("+").to_string(), format!("{}/+/sound/+", self.base)]
    }

    /// Whether a topic is one of those.
    pub fn is_retained_of_a_source(&self, topic: &str) -> bool {
        let tail = topic.strip_prefix(&self.base).and_then(|tail| tail.strip_prefix('/'));
        let levels: Vec<&str> = tail.unwrap_or_default().split('/').collect();
        matches!(levels.as_slice(), [_, "status"] | [_, "sound", _])
    }

    /// Where Home Assistant reads what this device consists of, retained.
    pub fn discovery(&self) -> Option<Arc<str>> {
        let prefix = self.discovery_prefix.as_ref()?;
        Some(format!("{prefix}/device/hearken_{}/config", self.node).into())
    }

    /// Where Home Assistant says `online` after a start.
    pub fn birth(&self) -> Option<String> {
        self.discovery_prefix.as_ref().map(|prefix| format!("{prefix}/status"))
    }

    /// Whether a topic is `set` of some source.
    pub fn is_set(&self, topic: &str) -> bool {
        self.commanded(topic).is_some()
    }

    /// The source that a `set` topic of this node names.
    fn commanded<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let source = topic.strip_prefix(&self.base)?.strip_prefix('/')?.strip_suffix("/set")?;
        (!source.is_empty() && !source.contains('/')).then_some(source)
    }
}

/// A class name as a topic level: `[a-z0-9_]`, 1 to 64 characters. Letters become lower case,
/// characters beyond ASCII become `u` and their code point in hexadecimal, so that names in other
/// scripts stay apart; everything else becomes `_`.
pub fn topic_level(class: &str) -> String {
    let mut level = String::new();
    let mut gap = false;
    for c in class.chars() {
        let piece = if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase().to_string()
        } else if c.is_ascii() {
            gap = true;
            continue;
        } else {
            gap = true;
            format!("u{:x}", u32::from(c))
        };
        if gap && !level.is_empty() {
            level.push('_');
        }
        gap = !c.is_ascii();
        if level.len() + piece.len() > LEVEL_CHARS_MAX {
            break;
        }
        level.push_str(&piece);
    }
    level.truncate(LEVEL_CHARS_MAX);
    let level = level.trim_end_matches('_');
    if level.is_empty() { "class".to_owned() } else { level.to_owned() }
}

/// Why a message on a `set` topic was not acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Nonsense {
    #[error("its payload is longer than {COMMAND_BYTES_MAX} bytes")]
    TooLong,
    #[error("its payload is not UTF-8 text")]
    NotText,
    #[error("its payload is neither ON nor OFF")]
    NotACommand,
    #[error("no source has this name")]
    UnknownSource,
    #[error("it was retained, and an old command must not act again")]
    Retained,
    #[error("too many commands are waiting already")]
    TooMany,
}

/// Reads a message on a `set` topic. Anything but `ON` or `OFF` (any case, spaces around it are
/// fine) for a source in `sources` is [`Nonsense`].
pub fn parse_command(
    topics: &Topics,
    sources: &[SourceName],
    topic: &str,
    payload: &[u8],
    retained: bool,
) -> Result<Command, Nonsense> {
    if retained {
        return Err(Nonsense::Retained);
    }
    let name = topics.commanded(topic).ok_or(Nonsense::UnknownSource)?;
    let source = sources.iter().find(|source| &***source == name);
    let source = Arc::clone(source.ok_or(Nonsense::UnknownSource)?);
    if payload.len() > COMMAND_BYTES_MAX {
        return Err(Nonsense::TooLong);
    }
    let word = std::str::from_utf8(payload).map_err(|_| Nonsense::NotText)?.trim();
    let on = if word.eq_ignore_ascii_case(ON) {
        true
    } else if word.eq_ignore_ascii_case(OFF) {
        false
    } else {
        return Err(Nonsense::NotACommand);
    };
    Ok(Command::Listen { source, on })
}

#[derive(Serialize)]
struct Level {
    at: Timestamp,
    level_dbfs: f32,
}

#[derive(Serialize)]
struct Scores<'a> {
    at: Timestamp,
    top: &'a [ClassScore],
}

/// Level of a source in dBFS; `None` for a value that is not a number.
pub fn level(at: Timestamp, dbfs: f32) -> Option<Vec<u8>> {
    if dbfs.is_nan() {
        return None;
    }
    let rounded = (dbfs.clamp(LEVEL_DBFS_MIN, LEVEL_DBFS_MAX) * 10.0).round() / 10.0;
    Some(json(&Level { at, level_dbfs: rounded }))
}

/// The best scores of a window.
pub fn scores(at: Timestamp, top: &[ClassScore]) -> Vec<u8> {
    json(&Scores { at, top })
}

/// A start or an end of a sound.
pub fn event(event: &Event) -> Vec<u8> {
    json(event)
}

/// Where a source stands.
pub fn status(status: &SourceStatus) -> Vec<u8> {
    json(status)
}

/// Payload of the listener's health.
pub fn health(health: &NodeHealth) -> Vec<u8> {
    json(health)
}

/// None of our payloads can fail to serialise (text keys, no maps); should one ever, an empty
/// object is sent rather than nothing noticed.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topics() -> Topics {
        Topics::new("hearken", "attic".into(), Some("homeassistant".to_owned()))
    }

    fn sources() -> Vec<SourceName> {
        vec!["door".into(), "yard".into()]
    }

    fn parse(topic: &str, payload: &[u8]) -> Result<Command, Nonsense> {
        parse_command(&topics(), &sources(), topic, payload, false)
    }

    #[test]
    fn topics_follow_the_table() {
        let topics = topics();
        assert_eq!(&*topics.available(), "hearken/attic/available");
        assert_eq!(&*topics.health(), "hearken/attic/health");
        assert_eq!(&*topics.status("door"), "hearken/attic/door/status");
        assert_eq!(&*topics.sound("door", "Dog bark"), "hearken/attic/door/sound/dog_bark");
        assert_eq!(&*topics.event("door"), "hearken/attic/door/event");
        assert_eq!(&*topics.level("door"), "hearken/attic/door/level");
        assert_eq!(&*topics.scores("door"), "hearken/attic/door/scores");
        assert_eq!(topics.set_filter(), "hearken/attic/+/set");
        let discovery = topics.discovery().expect("a prefix is set");
        assert_eq!(&*discovery, "homeassistant/device/hearken_attic/config");
        assert_eq!(topics.birth().as_deref(), Some("homeassistant/status"));
        assert_eq!(Topics::new("a/b", "n".into(), None).discovery(), None);
        for (topic, expected) in [
            ("hearken/attic/door/status", true),
            ("hearken/attic/door/sound/dog", true),
            ("hearken/attic/available", false),
            ("hearken/attic/door/sound/dog/x", false),
            ("hearken/attic2/door/status", false),
            ("status", false),
        ] {
            assert_eq!(topics.is_retained_of_a_source(topic), expected, "{topic}");
        }
    }

    #[test]
    fn levels_are_readable_and_distinct() {
        assert_eq!(topic_level("Glass breaking"), "glass_breaking");
        assert_eq!(topic_level("  Fire-alarm (smoke) "), "fire_alarm_smoke");
        assert_eq!(topic_level("Tür"), "t_ufc_r");
        assert_ne!(topic_level("犬"), topic_level("猫"));
        assert_eq!(topic_level("犬"), "u72ac");
        assert_eq!(topic_level(""), "class");
        assert_eq!(topic_level("+/#"), "class");
    }

    #[test]
    fn commands_are_on_and_off_only() {
        let on = Command::Listen { source: "door".into(), on: true };
        let off = Command::Listen { source: "yard".into(), on: false };
        assert_eq!(parse("hearken/attic/door/set", b"ON"), Ok(on.clone()));
        assert_eq!(parse("hearken/attic/door/set", b" on\n"), Ok(on));
        assert_eq!(parse("hearken/attic/yard/set", b"Off"), Ok(off));
        let set = "hearken/attic/door/set";
        assert_eq!(parse(set, b"1"), Err(Nonsense::NotACommand));
        assert_eq!(parse(set, b""), Err(Nonsense::NotACommand));
        assert_eq!(parse(set, b"ON              \n"), Err(Nonsense::TooLong));
        assert_eq!(parse(set, &[0xff, 0xfe]), Err(Nonsense::NotText));
        assert_eq!(parse("hearken/attic/cellar/set", b"ON"), Err(Nonsense::UnknownSource));
        assert_eq!(parse("hearken/other/door/set", b"ON"), Err(Nonsense::UnknownSource));
        let kept = parse_command(&topics(), &sources(), set, b"ON", true);
        assert_eq!(kept, Err(Nonsense::Retained));
    }

    #[test]
    fn levels_stay_numbers() {
        let at = Timestamp::from_nanos(0);
        let text = |dbfs| level(at, dbfs).map(|json| String::from_utf8(json).expect("text"));
        let silence = text(f32::NEG_INFINITY).expect("a number");
        assert!(silence.ends_with("\"level_dbfs\":-120.0}"), "{silence}");
        let quiet = text(-43.2719).expect("a number");
        assert!(quiet.ends_with("\"level_dbfs\":-43.3}"), "{quiet}");
        assert_eq!(text(f32::NAN), None);
    }

    proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn any_class_makes_a_safe_level(class in any::<String>()) {
            let level = topic_level(&class);
            prop_assert!(!level.is_empty() && level.len() <= LEVEL_CHARS_MAX);
            let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            prop_assert!(level.chars().all(safe), "{level}");
        }

        #[test]
        fn arbitrary_commands_never_panic_and_only_two_words_act(
            topic in "(hearken/attic/)?[a-z/+#é]{0,12}(/set)?",
            payload in proptest::collection::vec(any::<u8>(), 0..40),
            retained in any::<bool>(),
        ) {
            let parsed = parse_command(&topics(), &sources(), &topic, &payload, retained);
            if let Ok(Command::Listen { on, .. }) = parsed {
                let text = String::from_utf8(payload).expect("was accepted").to_lowercase();
                prop_assert_eq!(text.trim(), if on { "on" } else { "off" });
                prop_assert!(!retained);
            }
        }

        #[test]
        fn words_near_the_commands_are_told_apart(word in "[oOnNfF \t]{0,6}") {
            let parsed = parse("hearken/attic/door/set", word.as_bytes());
            let known = ["on", "off"].contains(&word.trim().to_lowercase().as_str());
            prop_assert_eq!(parsed.is_ok(), known);
        }
    }
}
