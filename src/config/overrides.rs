//! What the command line gives: single keys, and sources in place of those in the file.

use std::path::PathBuf;

use super::names::{NAME_CHARS_MAX, source_from_text};
use super::problem::{Place, Problem, Problems, printable};
use super::raw::{Entry, Table, Value};
use super::section::Given;

/// What flags give, still unchecked. It beats the environment and the file.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `KEY=VALUE`, any number of times: `--set detection.sensitivity=0.7`.
    pub set: Vec<String>,
    /// `--node`
    pub node: Option<String>,
    /// `--model`
    pub model: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--mqtt-host`
    pub mqtt_host: Option<String>,
    /// `--mqtt-port`
    pub mqtt_port: Option<String>,
    /// Sources that replace all of the file's.
    pub sources: SourceFlags,
}

/// Sources on the command line. With no device, no file and no `stdin`, the file's sources are used.
#[derive(Clone, Default)]
pub struct SourceFlags {
    /// `--device`, any number of times: `default`, `id:...` or `name:...`.
    pub devices: Vec<String>,
    /// `--file`, any number of times; relative to the current folder.
    pub files: Vec<PathBuf>,
    /// `--fast`: files as fast as they can be analysed.
    pub fast: bool,
    /// `--repeat`: files over and over again.
    pub repeat: bool,
    /// `--stdin`
    pub stdin: bool,
    /// `--sample-rate-hz`, for standard input.
    pub sample_rate_hz: Option<u32>,
    /// `--channels`, for standard input.
    pub channels: Option<u16>,
    /// `--sample-format`, for standard input.
    pub sample_format: Option<String>,
    /// `--channel`: `mix` or `first`, for each source given by flags.
    pub channel: Option<String>,
}

impl Overrides {
    /// The values for single keys; the last one of a key counts.
    pub(super) fn given(&self, problems: &mut Problems) -> Vec<Given> {
        let named = [
            ("node", "--node", &self.node),
            ("model.path", "--model", &self.model),
            ("log.level", "--log-level", &self.log_level),
            ("mqtt.host", "--mqtt-host", &self.mqtt_host),
            ("mqtt.port", "--mqtt-port", &self.mqtt_port),
        ];
        let mut given = Vec::new();
        for text in &self.set {
            let place = Place::Flag("--set".to_owned());
            match text.split_once('=') {
                Some((key, text)) => {
                    given.push(Given { key: key.trim().to_owned(), text: text.to_owned(), place });
                }
                None => {
                    let message = format!(
                        "must be KEY=VALUE, but there is no `=` after `{}`",
                        printable(text)
                    );
                    problems.push(Problem { place, key: String::new(), value: None, message });
                }
            }
        }
        for (key, flag, value) in named {
            if let Some(text) = value {
                let place = Place::Flag(flag.to_owned());
                given.push(Given { key: key.to_owned(), text: text.clone(), place });
            }
        }
        given
    }
}

impl SourceFlags {
    /// The tables that stand in for the file's `[[source]]`; `None` when no flag names a source.
    pub(super) fn tables(&self, problems: &mut Problems) -> Option<Entry> {
        self.check_company(problems);
        let mut tables = Vec::new();
        for device in &self.devices {
            tables.push(self.table(
                "microphone",
                "device",
                "--device",
                Value::Text(device.clone()),
            ));
        }
        for path in &self.files {
            tables.push(self.file_table(path, problems));
        }
        if self.stdin {
            tables.push(self.stdin_table());
        }
        if tables.is_empty() {
            return None;
        }
        make_names_unique(&mut tables);
        let place = Place::Flag("flags".to_owned());
        let entries = tables.into_iter().map(|table| {
            let place = table.get("name").map_or(Place::Default, |entry| entry.place.clone());
            Entry { value: Value::Table(table), place }
        });
        Some(Entry { value: Value::List(entries.collect()), place })
    }

    /// Flags that mean nothing without another one.
    fn check_company(&self, problems: &mut Problems) {
        let has_source = !self.devices.is_empty() || !self.files.is_empty() || self.stdin;
        let is_format = self.sample_rate_hz.is_some()
            || self.channels.is_some()
            || self.sample_format.is_some();
        let lonely = [
            ("--fast", self.fast && self.files.is_empty(), "--file"),
            ("--repeat", self.repeat && self.files.is_empty(), "--file"),
            ("--sample-rate-hz, --channels, --sample-format", is_format && !self.stdin, "--stdin"),
            ("--channel", self.channel.is_some() && !has_source, "--device, --file or --stdin"),
        ];
        for (flag, is_lonely, company) in lonely {
            if is_lonely {
                let message = format!("only together with {company}");
                let place = Place::Flag(flag.to_owned());
                problems.push(Problem { place, key: String::new(), value: None, message });
            }
        }
    }

    fn table(&self, name: &str, key: &str, flag: &str, value: Value) -> Table {
        let entry = |value, flag: &str| Entry { value, place: Place::Flag(flag.to_owned()) };
        let mut table = Table::new();
        table.insert("name".to_owned(), entry(Value::Text(name.to_owned()), flag));
        table.insert(key.to_owned(), entry(value, flag));
        if let Some(channel) = &self.channel {
            table.insert("channel".to_owned(), entry(Value::Text(channel.clone()), "--channel"));
        }
        table
    }

    fn file_table(&self, path: &std::path::Path, problems: &mut Problems) -> Table {
        let place = |flag: &str| Place::Flag(flag.to_owned());
        if path.to_str().is_none() {
            let message = format!(
                "`{}` must be UTF-8 text; rename the file",
                printable(&path.to_string_lossy())
            );
            problems.push(Problem {
                place: place("--file"),
                key: String::new(),
                value: None,
                message,
            });
        }
        let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        let value = Value::Text(path.to_string_lossy().into_owned());
        let mut table = self.table(&source_from_text(&stem), "file", "--file", value);
        if self.fast {
            let value = Value::Text("fast".to_owned());
            table.insert("pace".to_owned(), Entry { value, place: place("--fast") });
        }
        if self.repeat {
            table.insert(
                "repeat".to_owned(),
                Entry { value: Value::Bool(true), place: place("--repeat") },
            );
        }
        table
    }

    fn stdin_table(&self) -> Table {
        let mut table = self.table("stdin", "stdin", "--stdin", Value::Bool(true));
        let format = [
            (
                "sample_rate_hz",
                "--sample-rate-hz",
                self.sample_rate_hz.map(|rate| Value::Integer(rate.into())),
            ),
            ("channels", "--channels", self.channels.map(|count| Value::Integer(count.into()))),
            ("sample_format", "--sample-format", self.sample_format.clone().map(Value::Text)),
        ];
        for (key, flag, value) in format {
            if let Some(value) = value {
                table.insert(key.to_owned(), Entry { value, place: Place::Flag(flag.to_owned()) });
            }
        }
        table
    }
}

/// Adds `-2`, `-3`, ... to names that came before.
fn make_names_unique(tables: &mut [Table]) {
    let mut taken: Vec<String> = Vec::new();
    for table in tables {
        let Some(Entry { value: Value::Text(name), .. }) = table.get_mut("name") else { continue };
        let candidates = (2..).map(|number| {
            let tail = format!("-{number}");
            let head: String = name.chars().take(NAME_CHARS_MAX - tail.len()).collect();
            head + &tail
        });
        let unique =
            std::iter::once(name.clone()).chain(candidates).find(|name| !taken.contains(name));
        if let Some(unique) = unique {
            *name = unique;
            taken.push(name.clone());
        }
    }
}
