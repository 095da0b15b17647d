//! Configuration: a TOML file under environment variables under flags becomes [`Settings`], or the
//! list of everything that is wrong with it.
//!
//! `raw` is what is written, `section` asks for keys, `found` collects what is wrong with the
//! answers, and `checked`, `sources`, `mqtt`, `store` and `alert` know which keys there are. Nothing is
//! opened here but the configuration itself, the files it vouches for (passwords, keys and
//! certificates) and the system's time zones.

mod alert;
mod checked;
mod effective;
mod environment;
mod found;
mod mqtt;
mod names;
mod overrides;
mod problem;
mod raw;
mod redact;
mod secrets;
mod section;
mod sources;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::alert::settings::AlertSettings;
use crate::capture::settings::{Origin, SourceSettings};
use crate::decide::settings::DetectionSettings;
use crate::publish::settings::PublishSettings;
use crate::spectrogram::settings::ChannelChoice;
use crate::store::settings::{ClipSettings, StoreSettings};
use problem::Problems;

pub use alert::ALERTS_MAX;
pub use effective::effective_text;
pub use environment::{CONFIG_FILE_VARIABLE, Environment, variable};
pub use found::Key;
pub use overrides::{Overrides, SourceFlags};
pub use problem::{ConfigError, PROBLEMS_MAX, Place, Problem};
pub use sources::SOURCES_MAX;

/// Bytes of a configuration file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The name of this listener: `[A-Za-z0-9_-]`, 1 to 64.
    pub node: Arc<str>,
    /// A model file; `None`: the one in the program.
    pub model: Option<PathBuf>,
    /// 1 to [`SOURCES_MAX`], with different names, at most one on standard input.
    pub sources: Vec<Source>,
    /// Seconds from one window to the next, 0.1 to 5.
    pub hop_s: f32,
    pub detection: DetectionSettings,
    pub publish: PublishSettings,
    pub store: StoreSettings,
    /// `None`: no sound is kept.
    pub clips: Option<ClipSettings>,
    pub alerts: AlertSettings,
    pub log: LogSettings,
}

/// A source, and which of its channels is heard.
#[derive(Clone, PartialEq)]
pub struct Source {
    pub capture: SourceSettings,
    pub channel: ChannelChoice,
}

/// As derived, but for the secrets that a command's arguments may hold.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut capture = self.capture.clone();
        if let Origin::Command { argv, .. } = &mut capture.origin {
            *argv = redact::hide_in_argv(argv);
        }
        f.debug_struct("Source").field("capture", &capture).field("channel", &self.channel).finish()
    }
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    pub level: LogLevel,
}

/// The least important messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Nothing at all.
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// All levels, from silent to loud.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The level as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Reads the settings: built-in defaults, the file at `path` if there is one, then `environment`,
/// then `flags`, each over the one before.
///
/// # Errors
/// [`ConfigError::Unreadable`] when the file can't be read; [`ConfigError::Invalid`] with all
/// problems at once, in every layer.
pub fn load(
    path: Option<&Path>,
    environment: &Environment,
    flags: &Overrides,
) -> Result<Settings, ConfigError> {
    let bytes = match path {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    from_bytes(&bytes, path, environment, flags)
}

/// The commented sample: what every key means, with its default.
pub fn default_text() -> &'static str {
    include_str!("../../config.toml")
}

/// Every key there is, in the order of the alphabet.
pub fn keys() -> Vec<Key> {
    let (_, found) =
        checked::check(raw::Table::new(), None, &Environment::default(), &Overrides::default());
    let mut keys = found.keys;
    keys.sort();
    keys
}

/// As [`load`], with the file's content at hand; `path` only names it.
fn from_bytes(
    bytes: &[u8],
    path: Option<&Path>,
    environment: &Environment,
    flags: &Overrides,
) -> Result<Settings, ConfigError> {
    let invalid = |problems: Problems| problems.into_error(path.map(Path::to_path_buf));
    let text = text(bytes).map_err(invalid)?;
    let table = raw::parse(text).map_err(invalid)?;
    let (settings, found) = checked::check(table, path.and_then(Path::parent), environment, flags);
    let problems = found.into_problems();
    if problems.is_empty() { Ok(settings) } else { Err(invalid(problems)) }
}

/// The file's text, if it is one and not too long.
fn text(bytes: &[u8]) -> Result<&str, Problems> {
    let (place, message) = match std::str::from_utf8(bytes) {
        _ if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX => {
            (Place::File, format!("the file is longer than {FILE_BYTES_MAX} bytes"))
        }
        Ok(text) => return Ok(text),
        Err(error) => {
            let before = bytes.iter().take(error.valid_up_to());
            let line = before.filter(|byte| **byte == b'\n').count() + 1;
            (Place::Line(line), "not UTF-8 text".to_owned())
        }
    };
    let mut problems = Problems::default();
    problems.push(Problem { place, key: String::new(), value: None, message });
    Err(problems)
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |reason| ConfigError::Unreadable { path: path.to_path_buf(), reason };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
