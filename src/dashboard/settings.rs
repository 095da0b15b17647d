//! What can be set about the dashboard.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The dashboard, if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct DashboardSettings {
    /// Where it listens. Addresses beyond loopback come only with a password (`config` checks it).
    pub listen: SocketAddr,
    /// Without one, whoever reaches it may look, but not change anything.
    pub password: Option<PasswordHash>,
    pub tls: Option<TlsFiles>,
}

impl DashboardSettings {
    /// The port it listens on by default.
    pub const PORT: u16 = 8787;

    /// The address for a browser on this machine or, as far as it is known, on another.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.listen)
    }
}

/// The files of a certificate chain and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// A password's Argon2id hash as a PHC string. Not shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes the text as it is; [`super::password::is_hash`] says whether it is one.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The PHC string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}
