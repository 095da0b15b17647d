//! What is wrong with a configuration: each problem with its place, key, value and way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Problems kept for the report; beyond it they are only counted.
pub const PROBLEMS_MAX: usize = 100;
/// Characters of a value or key that a message shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Why there are no settings. Nothing was opened and nothing was changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read: name another one, or repair its permissions.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: io::Error },
    /// What is written is wrong: mend every problem listed, one a line.
    #[error("{}", report(file, problems, *more))]
    Invalid {
        /// The file, when there was one.
        file: Option<PathBuf>,
        /// In the order of the file; then those of the environment and the flags.
        problems: Vec<Problem>,
        /// Further problems that are not listed.
        more: usize,
    },
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// The full dotted key; empty when the text could not be parsed that far.
    pub key: String,
    /// The offending value as TOML, shortened; `None` where there is none or it may be a secret.
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// A line and a column (in characters) of the file, both from 1.
    Position(usize, usize),
    /// The file as a whole.
    File,
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(String),
    /// Nowhere: a built-in default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}: "),
            Self::Position(line, column) => write!(f, "line {line}, column {column}: "),
            Self::Environment(name) | Self::Flag(name) => write!(f, "{name}: "),
            Self::File | Self::Default => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        match (&self.value, self.key.is_empty()) {
            (Some(value), false) => write!(f, "{} = {value}: ", self.key)?,
            (None, false) => write!(f, "{}: ", self.key)?,
            (_, true) => {}
        }
        f.write_str(&self.message)
    }
}

/// Problems as they are found, bounded.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Keeps `problem`, or only counts it when there are already too many.
    pub fn push(&mut self, problem: Problem) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.list.push(problem);
        }
    }

    /// Whether further problems are only counted.
    pub fn is_full(&self) -> bool {
        self.list.len() >= PROBLEMS_MAX
    }

    /// Adds what another part found.
    pub fn append(&mut self, other: Self) {
        self.more += other.more;
        for problem in other.list {
            self.push(problem);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All problems in the order of their places. `file` is the one they are in, if any.
    pub fn into_error(mut self, file: Option<PathBuf>) -> ConfigError {
        self.list.sort_by(|a, b| a.place.cmp(&b.place));
        ConfigError::Invalid { file, problems: self.list, more: self.more }
    }
}

/// Text fit for one line of a message: control characters escaped, long text shortened.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        match c {
            c if is_unprintable(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Whether `c` could move the cursor, hide text or turn its direction on a terminal.
pub(super) fn is_unprintable(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

fn report(file: &Option<PathBuf>, problems: &[Problem], more: usize) -> String {
    let count = problems.len() + more;
    let noun = if count == 1 { "problem" } else { "problems" };
    let mut text = match file {
        Some(path) => format!("{count} {noun} in the configuration {}", path.display()),
        None => format!("{count} {noun} in the configuration"),
    };
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}
