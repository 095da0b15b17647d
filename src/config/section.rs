//! Reading one table of the configuration: each key is asked for once, with its type, default and
//! range, and the best of flag, environment and file answers. What nobody asked for is unknown.
//!
//! The questions themselves are therefore the only list of keys; [`Found::keys`] is its record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::found::{Found, Key, Unknown};
use super::names::is_plain_text;
use super::problem::{Place, Problem, printable};
use super::raw::{self, Entry, Table, Value};
use super::redact::hide_path;

/// A value from the environment or a flag: text, and the key relative to its section.
#[derive(Clone)]
pub(super) struct Given {
    pub key: String,
    pub text: String,
    pub place: Place,
}

/// One table with what the other layers say about its keys.
pub(super) struct Section {
    path: String,
    pattern: String,
    place: Place,
    table: Table,
    given: Vec<Given>,
    seen: BTreeMap<&'static str, Seen>,
    /// Keys with a value that is wrong.
    refused: BTreeSet<&'static str>,
    found: Found,
}

/// Where the value in use came from, and how to show it in a message.
struct Seen {
    place: Place,
    shown: String,
}

struct Question<'a> {
    key: &'static str,
    kind: &'static str,
    default: String,
    allowed: &'a str,
}

impl Section {
    /// The whole configuration.
    pub fn root(table: Table, given: Vec<Given>) -> Self {
        Self::new(String::new(), String::new(), Place::Default, table, given)
    }

    fn new(path: String, pattern: String, place: Place, table: Table, given: Vec<Given>) -> Self {
        let found = Found { sections: vec![pattern.clone()], ..Found::default() };
        let (seen, refused) = (BTreeMap::new(), BTreeSet::new());
        Self { path, pattern, place, table, given, seen, refused, found }
    }

    /// An empty section, read only to learn its keys.
    pub fn example(pattern: &str) -> Self {
        Self::new(String::new(), pattern.to_owned(), Place::Default, Table::new(), Vec::new())
    }

    /// Whether any layer gives `key`, which must not have been asked for yet.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key) || self.given.iter().any(|given| given.key == key)
    }

    /// Says that keys are from now on named after `path` in messages.
    pub fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// Whether any layer gave a good value for `key`, which must have been asked for.
    pub fn is_set(&self, key: &str) -> bool {
        self.seen.contains_key(key)
    }

    /// Whether any layer gave a value for `key`, good or not, which must have been asked for.
    pub fn is_written(&self, key: &str) -> bool {
        self.is_set(key) || self.refused.contains(key)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let question = Question {
            key,
            kind: "boolean",
            default: default.to_string(),
            allowed: "true or false",
        };
        let accept = |value: &Value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        };
        self.ask(&question, accept).unwrap_or(default)
    }

    /// A finite number within `range`; integers are numbers too.
    pub fn number(&mut self, key: &'static str, default: f32, range: RangeInclusive<f32>) -> f32 {
        self.ask_number(key, default.to_string(), range).unwrap_or(default)
    }

    /// As [`Section::number`], but absent by default.
    pub fn number_or_none(&mut self, key: &'static str, range: RangeInclusive<f32>) -> Option<f32> {
        self.ask_number(key, "-".to_owned(), range)
    }

    fn ask_number(
        &mut self,
        key: &'static str,
        default: String,
        range: RangeInclusive<f32>,
    ) -> Option<f32> {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        let accept = |value: &Value| {
            let number = match value {
                Value::Float(number) => *number as f32,
                Value::Integer(number) => *number as f32,
                _ => return None,
            };
            // NaN is in no range.
            range.contains(&number).then_some(number)
        };
        self.ask(&Question { key, kind: "number", default, allowed: &allowed }, accept)
    }

    /// A whole number within `range`; `default` as documented.
    pub fn integer<T>(
        &mut self,
        key: &'static str,
        default: impl Display,
        range: RangeInclusive<T>,
    ) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let accept = |value: &Value| match value {
            Value::Integer(number) => {
                T::try_from(*number).ok().filter(|number| range.contains(number))
            }
            _ => None,
        };
        self.ask(
            &Question { key, kind: "integer", default: default.to_string(), allowed: &allowed },
            accept,
        )
    }

    /// One of `options`; `None` when absent.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        options: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<String> = options.iter().map(|(name, _)| raw::quoted(name)).collect();
        let accept = |value: &Value| match value {
            Value::Text(text) => {
                options.iter().find(|(name, _)| name == text).map(|(_, value)| *value)
            }
            _ => None,
        };
        let question = Question {
            key,
            kind: "text",
            default: raw::quoted(default),
            allowed: &names.join(" or "),
        };
        self.ask(&question, accept)
    }

    /// Text that `is_allowed`, which `allowed` puts into words; `default` as documented.
    pub fn text(
        &mut self,
        key: &'static str,
        default: &str,
        allowed: &str,
        is_allowed: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let accept = |value: &Value| match value {
            Value::Text(text) if is_allowed(text) => Some(text.clone()),
            _ => None,
        };
        self.ask(&Question { key, kind: "text", default: default.to_owned(), allowed }, accept)
    }

    /// A path; one written in the file is relative to `folder`, one from elsewhere to the current
    /// folder.
    pub fn path(&mut self, key: &'static str, folder: Option<&Path>) -> Option<PathBuf> {
        const PATH_CHARS_MAX: usize = 4096;
        let allowed = format!("a path of 1 to {PATH_CHARS_MAX} characters");
        let question = Question { key, kind: "path", default: "-".to_owned(), allowed: &allowed };
        let accept = |value: &Value| match value {
            Value::Text(text) if is_plain_text(text, PATH_CHARS_MAX) => Some(PathBuf::from(text)),
            _ => None,
        };
        let path = self.ask(&question, accept)?;
        match (self.seen.get(key).map(|seen| &seen.place), folder) {
            (Some(Place::Line(_)), Some(folder)) => Some(folder.join(path)),
            _ => Some(path),
        }
    }

    /// A list of text that `is_allowed`, which `allowed` puts into words; `default` as documented.
    pub fn list(
        &mut self,
        key: &'static str,
        default: &str,
        allowed: &str,
        is_allowed: impl Fn(&[String]) -> bool,
    ) -> Option<Vec<String>> {
        let accept = |value: &Value| {
            let Value::List(items) = value else { return None };
            let texts = items.iter().map(|item| match &item.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
            texts.collect::<Option<Vec<_>>>().filter(|texts| is_allowed(texts))
        };
        self.ask(&Question { key, kind: "list", default: default.to_owned(), allowed }, accept)
    }

    /// Takes the value of one key out of every layer, checks them all, and returns the best good one.
    fn ask<T>(
        &mut self,
        question: &Question<'_>,
        accept: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let key = question.key;
        self.found.keys.push(Key {
            path: join(&self.pattern, key),
            kind: question.kind,
            default: question.default.clone(),
            allowed: question.allowed.to_owned(),
        });
        let written = self.table.remove(key);
        let given = self.given.extract_if(.., |given| given.key == key);
        let given = given.map(|given| Entry {
            value: from_text(&given.text, question.kind),
            place: given.place,
        });
        let layers: Vec<Entry> = written.into_iter().chain(given).collect();
        let mut best = None;
        for Entry { value, place } in layers {
            let seen = Seen { place, shown: shown(key, &value) };
            match accept(&value) {
                Some(good) => {
                    best = Some(good);
                    self.seen.insert(key, seen);
                }
                None => {
                    self.refused.insert(key);
                    let message = format!("must be {}", question.allowed);
                    self.found.problems.push(Problem {
                        place: seen.place,
                        key: join(&self.path, key),
                        value: Some(seen.shown),
                        message,
                    });
                }
            }
        }
        best
    }

    /// Reports the value in use for `key` (or its absence) as wrong.
    pub fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let (place, value) = match self.seen.get(key) {
            Some(seen) => (seen.place.clone(), Some(seen.shown.clone())),
            None => (self.place.clone(), None),
        };
        let key = join(&self.path, key);
        self.found.problems.push(Problem { place, key, value, message: message.into() });
    }

    /// Reports the section as a whole as wrong.
    pub fn wrong_as_a_whole(&mut self, message: impl Into<String>) {
        let (place, key) = (self.place.clone(), self.path.clone());
        self.found.problems.push(Problem { place, key, value: None, message: message.into() });
    }

    /// The table `name` of this section; empty when it is not written.
    pub fn subsection(&mut self, name: &'static str) -> Section {
        let (place, table) = self.take_table(name);
        let prefix = format!("{name}.");
        let moved = self.given.extract_if(.., |given| given.key.starts_with(&prefix));
        let given = moved.filter_map(|given| {
            let key = given.key.strip_prefix(&prefix)?.to_owned();
            Some(Given { key, ..given })
        });
        let given = given.collect();
        Section::new(join(&self.path, name), join(&self.pattern, name), place, table, given)
    }

    /// The tables within the table `name`, by names that the writer chose (`placeholder` in the
    /// documentation), at most `count_max`. Flags may add to them; the environment, which has no
    /// lower case, can not.
    pub fn named_tables(
        &mut self,
        name: &'static str,
        placeholder: &str,
        count_max: usize,
    ) -> Vec<(String, Section)> {
        let (place, table) = self.take_table(name);
        let (path, pattern) =
            (join(&self.path, name), format!("{}.{placeholder}", join(&self.pattern, name)));
        let mut sections: BTreeMap<String, Section> = BTreeMap::new();
        for (child, entry) in table {
            if sections.len() == count_max {
                let message = format!("more than {count_max} tables");
                self.found.problems.push(Problem {
                    place,
                    key: path.clone(),
                    value: None,
                    message,
                });
                break;
            }
            let path = join(&path, &printable(&child));
            let (place, table) = self.table_of(&path, entry);
            let section = Section::new(path, pattern.clone(), place, table, Vec::new());
            sections.insert(child, section);
        }
        let prefix = format!("{name}.");
        let is_for_child = |given: &mut Given| match given.key.strip_prefix(&prefix) {
            Some(rest) => matches!(given.place, Place::Flag(_)) && rest.contains('.'),
            None => false,
        };
        for given in self.given.extract_if(.., is_for_child) {
            let rest = given.key.strip_prefix(&prefix).unwrap_or_default();
            let Some((child, key)) = rest.rsplit_once('.') else { continue };
            let section = sections.entry(child.to_owned()).or_insert_with(|| {
                let path = join(&path, &printable(child));
                Section::new(path, pattern.clone(), given.place.clone(), Table::new(), Vec::new())
            });
            section.given.push(Given { key: key.to_owned(), ..given });
        }
        sections.into_iter().collect()
    }

    /// The tables `[[name]]`, at most `count_max`; `None` when none is written.
    pub fn tables(&mut self, name: &'static str, count_max: usize) -> Option<Vec<Section>> {
        let entry = self.table.remove(name)?;
        let path = join(&self.path, name);
        let pattern = format!("{}[]", join(&self.pattern, name));
        let Value::List(items) = entry.value else {
            let (value, message) = (
                Some(entry.value.shown()),
                format!("must be a list of tables, written [[{path}]]"),
            );
            self.found.problems.push(Problem { place: entry.place, key: path, value, message });
            return Some(Vec::new());
        };
        if items.len() > count_max {
            let message = format!("{} tables; at most {count_max} are allowed", items.len());
            self.found.problems.push(Problem {
                place: entry.place,
                key: path.clone(),
                value: None,
                message,
            });
        }
        let mut sections = Vec::new();
        for (at, item) in items.into_iter().take(count_max).enumerate() {
            let path = format!("{path}[{}]", at + 1);
            let (place, table) = self.table_of(&path, item);
            sections.push(Section::new(path, pattern.clone(), place, table, Vec::new()));
        }
        Some(sections)
    }

    fn take_table(&mut self, name: &str) -> (Place, Table) {
        match self.table.remove(name) {
            Some(entry) => self.table_of(&join(&self.path, name), entry),
            None => (self.place.clone(), Table::new()),
        }
    }

    fn table_of(&mut self, path: &str, entry: Entry) -> (Place, Table) {
        match entry.value {
            Value::Table(table) => (entry.place, table),
            _ => {
                // The value is not shown: it may be anything, a secret too.
                let message = "must be a table of keys".to_owned();
                let place = entry.place.clone();
                self.found.problems.push(Problem {
                    place,
                    key: path.to_owned(),
                    value: None,
                    message,
                });
                (entry.place, Table::new())
            }
        }
    }

    /// Ends the reading: what was not asked for is unknown.
    pub fn finish(mut self, found: &mut Found) {
        let written = self.table.into_iter().map(|(key, entry)| (key, entry.place));
        let given = self.given.into_iter().map(|given| (given.key, given.place));
        for (key, place) in written.chain(given) {
            let (path, pattern) = (join(&self.path, &printable(&key)), join(&self.pattern, &key));
            self.found.unknown.push(Unknown { path, pattern, place });
        }
        found.append(self.found);
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A command may hold the password of a camera; a web address, and what is sent there, a key.
fn shown(key: &str, value: &Value) -> String {
    match (key, value) {
        ("command" | "webhook_body" | "mqtt_payload", _) => "[...]".to_owned(),
        ("webhook" | "ntfy", Value::Text(text)) => raw::quoted(&printable(&hide_path(text))),
        _ => value.shown(),
    }
}

/// Reads the text of a variable or flag as the kind of value that its key takes.
fn from_text(text: &str, kind: &str) -> Value {
    let trimmed = text.trim();
    let value = match kind {
        "boolean" => trimmed.parse().ok().map(Value::Bool),
        "integer" => trimmed.parse().ok().map(Value::Integer),
        "number" => trimmed.parse().ok().map(Value::Float),
        "list" => Some(list_from_text(trimmed)),
        _ => None,
    };
    value.unwrap_or_else(|| Value::Text(text.to_owned()))
}

/// A TOML list, or items with commas between them.
fn list_from_text(text: &str) -> Value {
    let place = Place::Default;
    if text.starts_with('[') {
        return match raw::parse(&format!("list = {text}")) {
            Ok(mut table) if table.len() == 1 => {
                table.remove("list").map_or(Value::Text(text.to_owned()), |entry| entry.value)
            }
            _ => Value::Text(text.to_owned()),
        };
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::List(
        items
            .map(|item| Entry { value: Value::Text(item.to_owned()), place: place.clone() })
            .collect(),
    )
}
