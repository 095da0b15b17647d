//! What can be set about the dashboard.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::secret::Secret;

/// The dashboard, if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct DashboardSettings {
    /// Where it listens. Addresses beyond loopback come only with a password (`config` checks it).
    pub listen: SocketAddr,
    /// The Argon2id hash of the password, as a PHC string. Without one, whoever reaches it may look, but not change anything.
    pub password: Option<Secret>,
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
