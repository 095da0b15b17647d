//! The TLS side of a connection, checked once at the start: files that cannot work are an error
//! before the first attempt, not a puzzle in the log after it.

use std::sync::Arc;

use super::settings::TlsSettings;
use crate::tls::{self, BadFile, ClientConfig};

/// Something in `[mqtt.tls]` that can never work: a person has to correct it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("mqtt.tls.{key} = {0}", key = .0.key)]
    BadFile(#[from] BadFile),
    #[error(
        "mqtt.tls.{present} is set but mqtt.tls.{missing} is not: a client certificate needs both"
    )]
    HalfIdentity { present: &'static str, missing: &'static str },
    #[error(
        "no trusted certificates were found on this system ({reason}): set mqtt.tls.ca_file to the PEM \
         file of the authority that signed the broker's certificate"
    )]
    NoTrust { reason: String },
}

const CA_FILE: &str = "ca_file";
const CERT_FILE: &str = "client_cert_file";
const KEY_FILE: &str = "client_key_file";

/// Reads the files that the settings name.
///
/// # Errors
/// See [`TlsError`]; each names the key to change.
pub fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &settings.ca_file {
        Some(path) => tls::roots_from(CA_FILE, path)?,
        None => tls::system_roots().map_err(|reason| TlsError::NoTrust { reason })?,
    };
    let half = |present, missing| Err(TlsError::HalfIdentity { present, missing });
    let identity = match (&settings.client_cert_file, &settings.client_key_file) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            Some((tls::certificates(CERT_FILE, cert)?, tls::private_key(KEY_FILE, key)?))
        }
        (Some(_), None) => return half(CERT_FILE, KEY_FILE),
        (None, Some(_)) => return half(KEY_FILE, CERT_FILE),
    };
    let config = tls::client_config(roots, identity).map_err(|error| {
        let (key, file) = match &settings.client_key_file {
            Some(file) => (KEY_FILE, file.clone()),
            None => (CA_FILE, settings.ca_file.clone().unwrap_or_default()),
        };
        BadFile::new(key, &file, error)
    })?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(settings: &TlsSettings) -> String {
        client_config(settings).expect_err("cannot work").to_string()
    }

    #[test]
    fn bad_files_are_named_with_their_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "not a certificate").expect("written");
        let missing = dir.path().join("missing.pem");

        let text = message(&TlsSettings { ca_file: Some(missing), ..Default::default() });
        assert!(text.contains("mqtt.tls.ca_file") && text.contains("missing.pem"), "{text}");
        let text = message(&TlsSettings { ca_file: Some(empty), ..Default::default() });
        assert!(text.contains("no PEM certificate"), "{text}");
    }
}
