//! TLS for all who speak it: one provider, the system's trust, certificates and keys from PEM files; and
//! signatures by the same cryptography. The only home of `rustls` and `ring`.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ring::hmac;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
pub use rustls::pki_types::{CertificateDer, PrivateKeyDer};
pub use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

/// A file that can never work: a person has to correct it.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} cannot be used: {reason}", path = path.display().to_string())]
pub struct BadFile {
    /// The key of the configuration that names it.
    pub key: &'static str,
    pub path: PathBuf,
    pub reason: String,
}

impl BadFile {
    /// What is wrong with the file that `key` names.
    pub fn new(key: &'static str, path: &Path, reason: impl Display) -> Self {
        Self { key, path: path.to_owned(), reason: reason.to_string() }
    }
}

/// The cryptography behind every connection.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// HMAC-SHA256 (RFC 2104, FIPS 180-4) of some texts, one behind the other.
pub fn hmac_sha256(key: &[u8], parts: &[&str]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part.as_bytes()));
    context.sign().as_ref().to_vec()
}

/// The certificates that this system trusts; there is at least one.
///
/// # Errors
/// When there is none, and why.
pub fn system_certificates() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    match found.certs.is_empty() {
        true => Err(found.errors.first().map_or("none".to_owned(), ToString::to_string)),
        false => Ok(found.certs),
    }
}

/// Those of them that can be used; there is at least one.
///
/// # Errors
/// When there is none, and why.
pub fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // A few unusable ones among the system's certificates are normal.
    let (added, _) = roots.add_parsable_certificates(system_certificates()?);
    if added == 0 { Err("none that can be used".to_owned()) } else { Ok(roots) }
}

/// The authorities in a PEM file.
///
/// # Errors
/// When there are none.
pub fn roots_from(key: &'static str, path: &Path) -> Result<RootCertStore, BadFile> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| BadFile::new(key, path, error))?;
    }
    Ok(roots)
}

/// The certificates in a PEM file; there is at least one.
///
/// # Errors
/// When there is none.
pub fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| BadFile::new(key, path, error))?;
    if certificates.is_empty() {
        return Err(BadFile::new(key, path, "there is no PEM certificate in it"));
    }
    Ok(certificates)
}

/// The private key in a PEM file.
///
/// # Errors
/// When there is none.
pub fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, BadFile> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| BadFile::new(key, path, error))
}

/// For one who connects, with a certificate of its own or without.
///
/// # Errors
/// When certificate and key don't belong together.
pub fn client_config(
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificates, key)) => builder.with_client_auth_cert(certificates, key),
    }
}

/// For one who is connected to, by HTTP/1.1.
///
/// # Errors
/// When certificate and key don't belong together.
pub fn web_server_config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
