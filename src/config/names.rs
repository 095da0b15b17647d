//! Rules for names and text, and the search for the key that was probably meant.

use super::problem::is_unprintable;

/// Characters of a node's or source's name.
pub const NAME_CHARS_MAX: usize = 64;

/// The name used when the host has none that is usable.
const NODE_FALLBACK: &str = "hearken";

/// A node's name: `[A-Za-z0-9_-]`, 1 to 64.
pub(super) fn is_node_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(is_allowed)
}

/// A source's name: as a node's, but without upper case.
pub(super) fn is_source_name(text: &str) -> bool {
    is_node_name(text) && !text.contains(|c: char| c.is_ascii_uppercase())
}

/// Text without control characters, of 1 to `chars_max` characters.
pub(super) fn is_plain_text(text: &str, chars_max: usize) -> bool {
    !text.is_empty() && is_plain_text_or_empty(text, chars_max)
}

/// As [`is_plain_text`], or nothing at all.
pub(super) fn is_plain_text_or_empty(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.contains(is_unprintable)
}

/// A prefix of MQTT topics: levels that are not empty, without wildcards or a leading `$`.
pub(super) fn is_topic_prefix(text: &str) -> bool {
    const TOPIC_CHARS_MAX: usize = 128;
    is_topic_of(text, TOPIC_CHARS_MAX)
}

/// A topic to publish to: as a prefix, but longer.
pub(super) fn is_topic(text: &str) -> bool {
    const TOPIC_CHARS_MAX: usize = 256;
    is_topic_of(text, TOPIC_CHARS_MAX)
}

fn is_topic_of(text: &str, chars_max: usize) -> bool {
    is_plain_text(text, chars_max)
        && !text.starts_with('$')
        && !text.contains(['+', '#'])
        && text.split('/').all(|level| !level.is_empty())
}

/// Text of several lines, of 1 to `chars_max` characters.
pub(super) fn is_text_block(text: &str, chars_max: usize) -> bool {
    let is_break = |c: char| matches!(c, '\n' | '\t');
    is_plain_text(&text.replace(is_break, " "), chars_max)
}

/// A host name, an IPv4 or an IPv6 address, and nothing around it.
pub(super) fn is_host(text: &str) -> bool {
    const HOST_CHARS_MAX: usize = 253;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = (1..=HOST_CHARS_MAX).contains(&text.len()) && text.chars().all(is_allowed);
    is_name || text.parse::<std::net::IpAddr>().is_ok()
}

/// A node's name from the name of the host: its first label, other characters turned into `-`.
pub(super) fn node_from_host(host: Option<&str>) -> String {
    let label = host.and_then(|host| host.split('.').next()).unwrap_or_default();
    let name = safe(label);
    if is_node_name(&name) { name } else { NODE_FALLBACK.to_owned() }
}

/// A source's name from any text, such as the name of a file.
pub(super) fn source_from_text(text: &str) -> String {
    let name = safe(&text.to_lowercase());
    if is_source_name(&name) { name } else { "source".to_owned() }
}

fn safe(text: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String =
        text.chars().take(NAME_CHARS_MAX).map(|c| if is_allowed(c) { c } else { '-' }).collect();
    name.trim_matches('-').to_owned()
}

/// The known key that is most like `unknown`: a slip of a few letters, or the same last word in
/// another table.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    const KEY_CHARS_MAX: usize = 128;
    if unknown.chars().count() > KEY_CHARS_MAX {
        return None;
    }
    let last = last_word(unknown);
    let slip_max = (last.chars().count() / 3).max(2);
    let close = known.iter().map(|key| (distance(unknown, key), *key)).min();
    match close {
        Some((slip, key)) if slip <= slip_max => Some(key),
        _ => known.iter().copied().find(|key| last_word(key) == last),
    }
}

fn last_word(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Levenshtein's distance in characters, by the two-row method.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut left = row + 1;
        let mut current = vec![left];
        for (to, (diagonal, up)) in b.iter().zip(above.iter().zip(above.iter().skip(1))) {
            let replaced = diagonal + usize::from(from != *to);
            left = replaced.min(up + 1).min(left + 1);
            current.push(left);
        }
        above = current;
    }
    above.last().copied().unwrap_or(0)
}

/// Characters of a class's name.
pub(super) const CLASS_CHARS_MAX: usize = 128;
/// Class names in one list, and tables under `detection.class`.
pub(super) const CLASSES_MAX: usize = 1024;

/// Whether these can be different classes, and are no more than that.
pub(super) fn are_class_names(names: &[String], count_max: usize) -> bool {
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    sorted.dedup();
    names.len() <= count_max
        && sorted.len() == names.len()
        && names.iter().all(|name| is_plain_text(name, CLASS_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_host_name_becomes_a_safe_node_name() {
        assert_eq!(node_from_host(Some("attic-pi.home.lan")), "attic-pi");
        assert_eq!(node_from_host(Some("Søren's PC")), "S-ren-s-PC");
        assert_eq!(node_from_host(Some("..")), "hearken");
        assert_eq!(node_from_host(Some("é")), "hearken");
        assert_eq!(node_from_host(None), "hearken");
        assert_eq!(node_from_host(Some(&"a".repeat(100))).len(), NAME_CHARS_MAX);
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["broker.local", "192.168.1.5", "::1", "fe80::1", "my_broker"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "mqtt://broker", "broker:1883", "bro ker", "user@broker", "[::1]"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn topic_prefixes_are_plain_levels() {
        for good in ["hearken", "home/sound", "ä"] {
            assert!(is_topic_prefix(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\u{0}b"] {
            assert!(!is_topic_prefix(bad), "{bad:?}");
        }
    }
}
