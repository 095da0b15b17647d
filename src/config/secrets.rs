//! Passwords and keys: each in a file of its own, or handed over by systemd.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::section::Section;
use crate::secret::Secret;

/// Bytes of such a file; MQTT itself allows no longer password.
const BYTES_MAX: u64 = 65_535;

/// The password that goes with `user`: from the named file, or else from systemd's credential if
/// there is one. `table` is the section's name.
pub(super) fn password(
    section: &mut Section,
    table: &str,
    has_user: bool,
    file: Option<PathBuf>,
    credential: &str,
    environment: &Environment,
) -> Option<Secret> {
    if !has_user {
        if file.is_some() {
            section.wrong("password_file", format!("needs {table}.user beside it"));
        }
        return None;
    }
    let credential =
        environment.credentials_directory.as_ref().map(|folder| folder.join(credential));
    let (key, path) = match (file, credential) {
        (Some(path), _) => ("password_file", path),
        (None, Some(path)) if path.exists() => ("user", path),
        _ => return None,
    };
    match read(&path) {
        // The unit's default for a credential that nobody has set.
        Ok(password) if password.is_empty() && key == "user" => None,
        Ok(password) if !password.is_empty() => Some(Secret::new(password)),
        unusable => {
            let reason = reason(unusable);
            let path = path.display();
            section.wrong(key, format!("cannot use the password file {path}: {reason}"));
            None
        }
    }
}

/// A secret in the file that `key` names.
pub(super) fn from_file(
    section: &mut Section,
    key: &'static str,
    folder: Option<&Path>,
) -> Option<Secret> {
    let path = section.path(key, folder)?;
    match read(&path) {
        Ok(secret) if !secret.is_empty() && !secret.contains(char::is_control) => {
            Some(Secret::new(secret))
        }
        Ok(secret) if !secret.is_empty() => {
            section.wrong(key, format!("{} must hold one line of text", path.display()));
            None
        }
        unusable => {
            let reason = reason(unusable);
            section.wrong(key, format!("cannot use the file {}: {reason}", path.display()));
            None
        }
    }
}

fn reason(unusable: io::Result<String>) -> String {
    match unusable {
        Ok(_) => "it is empty".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The file's text without the end of its line.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    let length = u64::try_from(secret.len()).unwrap_or(u64::MAX);
    match length {
        0..=BYTES_MAX => Ok(secret.to_owned()),
        _ => Err(io::Error::other(format!("it is longer than {BYTES_MAX} bytes"))),
    }
}
