//! What is written: TOML text as a tree in which every value knows its line. Nothing is judged here
//! but the syntax.

use std::collections::BTreeMap;

use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::{PROBLEMS_MAX, Place, Problem, Problems, printable};
use super::redact::hide_in_text;

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Entry>),
    Table(Table),
    /// Something no key takes (a date, an integer beyond 64 bits), as it was written.
    Other(String),
}

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub value: Value,
    pub place: Place,
}

/// The keys of one table.
pub type Table = BTreeMap<String, Entry>;

/// Reads TOML. All syntax errors are returned, each with line and column. The parser bounds the
/// depth of nesting, so the tree may be walked by recursion.
pub(super) fn parse(text: &str) -> Result<Table, Problems> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(convert_table(table.into_inner(), &lines));
    }
    let mut problems = Problems::default();
    for (at, error) in errors.iter().enumerate() {
        // Finding a column costs time; problems past the limit are only counted.
        let place = match error.span() {
            Some(span) if at < PROBLEMS_MAX => lines.position(text, span.start),
            _ => Place::File,
        };
        let message = format!("not valid TOML: {}", printable(error.message()));
        problems.push(Problem { place, key: String::new(), value: None, message });
    }
    Err(problems)
}

impl Value {
    /// The value as TOML for a message: shortened, and without the password of a URL.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => quoted(&printable(&hide_in_text(text))),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Bool(value) => value.to_string(),
            Self::List(items) => shown_list(items),
            Self::Table(_) => "{ ... }".to_owned(),
            Self::Other(text) => printable(text),
        }
    }
}

/// `text` as a TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn shown_list(items: &[Entry]) -> String {
    const ITEMS_SHOWN_MAX: usize = 4;
    let mut shown: Vec<String> =
        items.iter().take(ITEMS_SHOWN_MAX).map(|item| item.value.shown()).collect();
    if items.len() > ITEMS_SHOWN_MAX {
        shown.push("…".to_owned());
    }
    format!("[{}]", shown.join(", "))
}

fn convert_table(table: DeTable<'_>, lines: &Lines) -> Table {
    let mut out = Table::new();
    for (key, value) in table {
        // The span of a header's table is its header; of a key's value, the value.
        let place = Place::Line(lines.line(value.span().start));
        let value = convert(value.into_inner(), lines);
        out.insert(key.into_inner().into_owned(), Entry { value, place });
    }
    out
}

fn convert(value: DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => integer(&number),
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(value) => Value::Float(value),
            Err(_) => Value::Other(number.to_string()),
        },
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| Entry {
                    place: Place::Line(lines.line(item.span().start)),
                    value: convert(item.into_inner(), lines),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, lines)),
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) => Value::Integer(value),
        Err(_) => Value::Other(number.to_string()),
    }
}

/// Where each line begins, in bytes.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { starts: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect() }
    }

    /// The line, from 1, of a byte offset.
    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// The line and column, from 1, of a byte offset.
    fn position(&self, text: &str, offset: usize) -> Place {
        let line = self.line(offset);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = text.get(start..offset.min(text.len())).unwrap_or("");
        Place::Position(line, before.chars().count() + 1)
    }
}
