//! What the MQTT side needs to know, as the configuration has checked it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::secret::Secret;

/// Everything about publishing.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishSettings {
    /// The second level of every topic; also the client id's tail. `[A-Za-z0-9_-]`, 1 to 64.
    pub node: Arc<str>,
    /// The first level of every topic, usually `hearken`. May hold `/`, never `+` or `#`.
    pub topic_prefix: String,
    pub broker: Broker,
    /// Home Assistant's discovery prefix, usually `homeassistant`; `None`: no discovery.
    pub discovery_prefix: Option<String>,
    pub keep_alive: Duration,
    /// A level is published at most this often ...
    pub level_interval: Duration,
    /// ... and only when it has moved by this many dB.
    pub level_deadband_db: f32,
    /// Publish the five best scores of every window.
    pub scores: bool,
    /// Events kept in memory while the broker is away; beyond it the oldest go and are counted.
    pub queue_events_max: usize,
}

/// Which broker.
#[derive(Debug, Clone, PartialEq)]
pub enum Broker {
    /// Our own, in this process, on 127.0.0.1 only. Port 0 is not allowed.
    Embedded {
        port: u16,
    },
    Remote(RemoteBroker),
    /// No MQTT at all.
    Off,
}

/// A broker elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteBroker {
    pub host: String,
    pub port: u16,
    pub version: ProtocolVersion,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub tls: Option<TlsSettings>,
}

/// The MQTT version to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolVersion {
    V311,
    V5,
}

/// Files are PEM. Without `ca_file` the system's certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
}
