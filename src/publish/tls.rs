//! The TLS side of a connection, checked once at the start: files that cannot work are an error
//! before the first attempt, not a puzzle in the log after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::TlsSettings;

/// Something in `[mqtt.tls]` that can never work: a person has to correct it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("mqtt.tls.{key} = {path:?} cannot be used: {reason}", path = path.display().to_string())]
    BadFile { key: &'static str, path: PathBuf, reason: String },
    #[error(
        "mqtt.tls.{present} is set but mqtt.tls.{missing} is not: a client certificate needs both"
    )]
    HalfIdentity { present: &'static str, missing: &'static str },
    #[error(
        "no trusted certificates were found on this system ({reason}): set mqtt.tls.ca_file to the PEM \
         file of the authority that signed the broker's certificate"
    )]
    NoTrust { reason: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
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
        Some(path) => roots_from(path)?,
        None => system_roots()?,
    };
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
    let config = match (&settings.client_cert_file, &settings.client_key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert_path), Some(key_path)) => {
            let certs = certificates(CERT_FILE, cert_path)?;
            let key = PrivateKeyDer::from_pem_file(key_path)
                .map_err(|error| bad_file(KEY_FILE, key_path, &error))?;
            builder
                .with_client_auth_cert(certs, key)
                .map_err(|error| bad_file(KEY_FILE, key_path, &error))?
        }
        (Some(_), None) => {
            return Err(TlsError::HalfIdentity { present: CERT_FILE, missing: KEY_FILE });
        }
        (None, Some(_)) => {
            return Err(TlsError::HalfIdentity { present: KEY_FILE, missing: CERT_FILE });
        }
    };
    Ok(Arc::new(config))
}

fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA_FILE, path)? {
        roots.add(certificate).map_err(|error| bad_file(CA_FILE, path, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A few unusable ones among the system's certificates are normal.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or("none".to_owned(), ToString::to_string);
        return Err(TlsError::NoTrust { reason });
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad_file(key, path, &error))?;
    if certificates.is_empty() {
        return Err(bad_file(key, path, &"there is no PEM certificate in it"));
    }
    Ok(certificates)
}

fn bad_file(key: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::BadFile { key, path: path.to_owned(), reason: reason.to_string() }
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
