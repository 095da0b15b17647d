//! What the process was started with, as a value, so that reading a configuration is a function.
//!
//! The rule of names: `HEARKEN_`, then the dotted key in upper case with `__` for each dot. No key
//! holds two underscores in a row, so the way back is unique.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::problem::{Place, Problem, Problems, printable};
use super::section::Given;

const PREFIX: &str = "HEARKEN_";

/// The variable that names the configuration file; it is no key.
pub const CONFIG_FILE_VARIABLE: &str = "HEARKEN_CONFIG";

/// The part of the surroundings that settings depend on.
#[derive(Clone, Default)]
pub struct Environment {
    /// All variables whose names begin with `HEARKEN_`.
    pub variables: BTreeMap<String, String>,
    /// Names of such variables whose values are not Unicode text.
    pub not_unicode: Vec<String>,
    /// `$CREDENTIALS_DIRECTORY`: where systemd puts this service's credentials.
    pub credentials_directory: Option<PathBuf>,
    /// The name of this host.
    pub host_name: Option<String>,
    /// Where state is kept unless the configuration says otherwise: what systemd gives this
    /// service, or else the user's folder for state (XDG base directories).
    pub state_folder: PathBuf,
}

impl Environment {
    /// The surroundings of this process.
    pub fn capture() -> Self {
        let mut environment = Self {
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            host_name: host_name(),
            state_folder: state_folder(),
            ..Self::default()
        };
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with(PREFIX) {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                Err(_) => environment.not_unicode.push(name),
            }
        }
        environment
    }

    /// The values it gives, by dotted key. An empty variable is as good as none.
    pub(super) fn given(&self, problems: &mut Problems) -> Vec<Given> {
        for name in &self.not_unicode {
            let place = Place::Environment(printable(name));
            let message = "the value must be UTF-8 text".to_owned();
            problems.push(Problem { place, key: String::new(), value: None, message });
        }
        let is_key = |name: &&String| name.as_str() != CONFIG_FILE_VARIABLE;
        let set = self.variables.iter().filter(|(name, text)| is_key(name) && !text.is_empty());
        set.map(|(name, text)| Given {
            key: key(name),
            text: text.clone(),
            place: Place::Environment(printable(name)),
        })
        .collect()
    }
}

/// The variable of a dotted key.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The dotted key of a variable. A name with lower-case letters or dots is not the variable of any
/// key, and stays one that is unknown.
fn key(variable: &str) -> String {
    let name = variable.strip_prefix(PREFIX).unwrap_or(variable);
    if name.contains(|c: char| c.is_ascii_lowercase() || c == '.') {
        return variable.to_owned();
    }
    name.to_ascii_lowercase().replace("__", ".")
}

fn state_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    // systemd names several folders with colons between them; the unit has one.
    let services = variable("STATE_DIRECTORY").map(PathBuf::from);
    let users = || {
        let base = variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        base.or_else(home).map(|base| base.join("hearken"))
    };
    services.or_else(users).unwrap_or_else(|| PathBuf::from("/var/lib/hearken"))
}

/// The kernel's name for this host; elsewhere than on Linux, the shell's.
fn host_name() -> Option<String> {
    let kernels = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernels
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map(|name| name.trim().to_owned())
}
