//! TLS for browsers: a certificate and its key from files.

use std::sync::Arc;

use super::settings::TlsFiles;
use crate::tls::{BadFile, ServerConfig, certificates, private_key, web_server_config};

/// Something in `[dashboard.tls]` that can never work: a person has to correct it.
#[derive(Debug, thiserror::Error)]
#[error("dashboard.tls.{key} = {0}", key = .0.key)]
pub struct TlsError(#[from] BadFile);

/// Reads the files.
///
/// # Errors
/// When they are no certificate chain and its key.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = certificates("cert_file", &files.cert_file)?;
    let key = private_key("key_file", &files.key_file)?;
    let config = web_server_config(certificates, key);
    Ok(Arc::new(config.map_err(|error| BadFile::new("key_file", &files.key_file, error))?))
}
