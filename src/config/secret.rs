//! Secrets that have files of their own, or come as systemd credentials.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::section::Section;

/// Bytes of such a file; MQTT itself allows no longer password.
const BYTES_MAX: u64 = 65_535;

/// Where a secret may be.
pub(super) struct SecretFile {
    /// The file that the configuration names ...
    pub file: Option<PathBuf>,
    /// ... by this key;
    pub key: &'static str,
    /// without one, the systemd credential of this name, about which this key is told.
    pub credential: &'static str,
    pub fallback_key: &'static str,
}

/// The secret, if there is one. A file that can't be used is reported.
pub(super) fn read(
    section: &mut Section,
    wanted: SecretFile,
    environment: &Environment,
) -> Option<String> {
    let SecretFile { file, key, credential, fallback_key } = wanted;
    let credential =
        environment.credentials_directory.as_ref().map(|folder| folder.join(credential));
    let (key, path, is_named) = match (file, credential) {
        (Some(path), _) => (key, path, true),
        (None, Some(path)) if path.exists() => (fallback_key, path, false),
        _ => return None,
    };
    match read_line(&path) {
        // The unit's default for a credential that nobody has set.
        Ok(secret) if secret.is_empty() && !is_named => None,
        Ok(secret) if !secret.is_empty() => Some(secret),
        unusable => {
            let reason = match unusable {
                Ok(_) => "it is empty".to_owned(),
                Err(error) => error.to_string(),
            };
            let path = path.display();
            section.wrong(key, format!("cannot use the password file {path}: {reason}"));
            None
        }
    }
}

/// The file's text without the end of its line.
fn read_line(path: &Path) -> io::Result<String> {
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
