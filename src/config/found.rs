//! What reading a configuration has found: the keys that were asked for, what is wrong with their
//! values, and what nobody asked for.

use super::environment::variable;
use super::names::nearest;
use super::problem::{Place, Problem, Problems};

/// A key the configuration knows, as documented.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The dotted path; sources are `source[].KEY`, rules `detection.class.NAME.KEY`.
    pub path: String,
    /// `text`, `path`, `number`, `integer`, `boolean` or `list`.
    pub kind: &'static str,
    /// As it would be written, or `-` for none.
    pub default: String,
    /// What may be written.
    pub allowed: String,
}

/// What reading has found so far.
#[derive(Default)]
pub(super) struct Found {
    pub problems: Problems,
    pub keys: Vec<Key>,
    pub sections: Vec<String>,
    pub unknown: Vec<Unknown>,
}

/// Something written that no question took.
pub(super) struct Unknown {
    /// The key as messages name it.
    pub path: String,
    /// The key as the documentation would.
    pub pattern: String,
    pub place: Place,
}

impl Found {
    /// With problems from outside any section.
    pub fn new(problems: Problems) -> Self {
        Self { problems, ..Self::default() }
    }

    /// Adds what another section found.
    pub fn append(&mut self, other: Self) {
        self.problems.append(other.problems);
        for key in other.keys {
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
        self.sections.extend(other.sections);
        self.unknown.extend(other.unknown);
    }

    /// Hands on the keys that an example taught, and nothing else.
    pub fn finish_example(self, found: &mut Self) {
        found.append(Self { keys: self.keys, sections: self.sections, ..Self::default() });
    }

    /// All problems, now that every known key has been asked for and unknown ones can be explained.
    pub fn into_problems(mut self) -> Problems {
        let mut known: Vec<&str> = self.keys.iter().map(|key| key.path.as_str()).collect();
        known.extend(self.sections.iter().map(String::as_str).filter(|path| !path.is_empty()));
        for unknown in std::mem::take(&mut self.unknown) {
            // The search takes time; what will only be counted needs no explanation.
            let message =
                if self.problems.is_full() { String::new() } else { explain(&unknown, &known) };
            self.problems.push(Problem {
                place: unknown.place,
                key: unknown.path,
                value: None,
                message,
            });
        }
        self.problems
    }
}

fn explain(unknown: &Unknown, known: &[&str]) -> String {
    let (parent, last) = unknown.pattern.rsplit_once('.').unwrap_or(("", &unknown.pattern));
    if unknown.pattern == "alerts.smtp.password" {
        return "passwords do not belong here; name a file with alerts.smtp.password_file, or hand over \
                the systemd credential smtp_password"
            .to_owned();
    }
    if last == "password" {
        return "passwords do not belong here; name a file with mqtt.password_file, or hand over the systemd \
                credential mqtt_password"
            .to_owned();
    }
    let is_for_file = ["source", "detection.class", "alert.", "alert["]
        .iter()
        .any(|start| unknown.pattern.starts_with(start));
    if is_for_file && !matches!(unknown.place, Place::Line(_)) && !parent.is_empty() {
        return "can not be set here; write it in the configuration file".to_owned();
    }
    match nearest(&unknown.pattern, known) {
        None => "unknown key; `hearken config default` prints all of them".to_owned(),
        Some(key) => match (&unknown.place, key.rsplit_once('.')) {
            (Place::Environment(_), _) => {
                format!("unknown variable; did you mean {}?", variable(key))
            }
            (_, Some((other, short))) if other == parent => {
                format!("unknown key; did you mean `{short}`?")
            }
            _ => format!("unknown key; did you mean `{key}`?"),
        },
    }
}
