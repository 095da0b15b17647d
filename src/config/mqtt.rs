//! Publishing: `[mqtt]` and its tables, and the password that comes from a file or from systemd.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::environment::Environment;
use super::found::Found;
use super::names::{is_host, is_plain_text, is_topic_prefix};
use super::secrets;
use super::section::Section;
use crate::publish::settings::{
    Broker, ProtocolVersion, PublishSettings, RemoteBroker, TlsSettings,
};

/// The systemd credential that holds the password.
const CREDENTIAL: &str = "mqtt_password";
/// MQTT's port without TLS, and with it.
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// What `version` may say.
pub(super) const VERSIONS: [(&str, ProtocolVersion); 2] =
    [("3.1.1", ProtocolVersion::V311), ("5", ProtocolVersion::V5)];

/// Reads `[mqtt]`.
pub(super) fn check(
    root: &mut Section,
    node: &Arc<str>,
    folder: Option<&Path>,
    environment: &Environment,
    found: &mut Found,
) -> PublishSettings {
    let mut mqtt = root.subsection("mqtt");
    let is_enabled = mqtt.boolean("enabled", true);
    let broker = broker(&mut mqtt, node, folder, environment, found, is_enabled);
    let topic_rule =
        "1 to 128 characters: levels with `/` between them, without `+`, `#` or a leading `$`";
    let topic_prefix = mqtt.text("topic_prefix", "\"hearken\"", topic_rule, is_topic_prefix);
    let keep_alive_s = mqtt.integer("keep_alive_s", 30, 5..=3600).unwrap_or(30);
    let level_interval_s = mqtt.number("level_interval_s", 10.0, 0.1..=3600.0);
    let level_deadband_db = mqtt.number("level_deadband_db", 3.0, 0.0..=60.0);
    let scores = mqtt.boolean("scores", false);
    let queue_events_max =
        mqtt.integer("queue_events_max", 10_000, 1..=1_000_000).unwrap_or(10_000);

    let mut home_assistant = mqtt.subsection("home_assistant");
    let is_announced = home_assistant.boolean("enabled", true);
    let prefix = home_assistant.text("prefix", "\"homeassistant\"", topic_rule, is_topic_prefix);
    home_assistant.finish(found);
    mqtt.finish(found);
    PublishSettings {
        node: Arc::clone(node),
        topic_prefix: topic_prefix.unwrap_or_else(|| "hearken".to_owned()),
        broker,
        discovery_prefix: is_announced
            .then(|| prefix.unwrap_or_else(|| "homeassistant".to_owned())),
        keep_alive: Duration::from_secs(keep_alive_s),
        // Whole milliseconds, so that the number written can be printed again.
        level_interval: Duration::from_millis((f64::from(level_interval_s) * 1000.0).round() as u64),
        level_deadband_db,
        scores,
        queue_events_max,
    }
}

fn broker(
    mqtt: &mut Section,
    node: &str,
    folder: Option<&Path>,
    environment: &Environment,
    found: &mut Found,
    is_enabled: bool,
) -> Broker {
    const TEXT_CHARS_MAX: usize = 256;
    let text_rule = format!("1 to {TEXT_CHARS_MAX} printable characters");
    let is_text = |text: &str| is_plain_text(text, TEXT_CHARS_MAX);
    let is_host_written = mqtt.has("host");
    let host =
        mqtt.text("host", "-", "a host name or address alone, without `mqtt://` and port", is_host);
    let embedded_port = mqtt.integer("embedded_port", PORT, 1..=u16::MAX).unwrap_or(PORT);
    let port = mqtt.integer("port", "1883, with TLS 8883", 1..=u16::MAX);
    let version = mqtt.choice("version", "3.1.1", &VERSIONS).unwrap_or(ProtocolVersion::V311);
    let client_id = mqtt.text("client_id", "\"hearken-\" and the node", &text_rule, is_text);
    let user = mqtt.text("user", "-", &text_rule, is_text);
    let password_file = mqtt.path("password_file", folder);
    let tls = tls(mqtt, folder, found, is_host_written || !is_enabled);
    if !is_enabled {
        return Broker::Off;
    }
    let Some(host) = host else {
        if !is_host_written {
            check_without_host(mqtt);
        }
        return Broker::Embedded { port: embedded_port };
    };
    let has_user = user.is_some();
    let password =
        secrets::password(mqtt, "mqtt", has_user, password_file, CREDENTIAL, environment);
    Broker::Remote(RemoteBroker {
        host,
        port: port.unwrap_or(if tls.is_some() { PORT_TLS } else { PORT }),
        version,
        client_id: client_id.unwrap_or_else(|| format!("hearken-{node}")),
        password,
        user,
        tls,
    })
}

/// A forgotten `host` would quietly send everything to the embedded broker.
fn check_without_host(mqtt: &mut Section) {
    if mqtt.is_set("port") {
        mqtt.wrong(
            "port",
            "only with mqtt.host; the port of the embedded broker is mqtt.embedded_port",
        );
    }
    for key in ["version", "client_id", "user", "password_file"] {
        if mqtt.is_set(key) {
            mqtt.wrong(key, "only with mqtt.host");
        }
    }
}

/// `None` without TLS.
fn tls(
    mqtt: &mut Section,
    folder: Option<&Path>,
    found: &mut Found,
    has_host: bool,
) -> Option<TlsSettings> {
    const FILES: [&str; 3] = ["ca_file", "client_cert_file", "client_key_file"];
    let mut section = mqtt.subsection("tls");
    let is_enabled = section.boolean("enabled", false);
    let [ca_file, client_cert_file, client_key_file] = FILES.map(|key| section.path(key, folder));
    let settings = TlsSettings { ca_file, client_cert_file, client_key_file };
    if is_enabled && !has_host {
        section
            .wrong("enabled", "only with mqtt.host; the embedded broker is on this machine alone");
    }
    for key in FILES {
        // Certificates that are named but not used would mean plain text where nobody expects it.
        if section.is_set(key) && !section.is_set("enabled") {
            section.wrong(
                key,
                "set mqtt.tls.enabled to true to use it, or to false to keep it unused",
            );
        }
    }
    if is_enabled {
        check_tls_files(&mut section, &settings);
    }
    section.finish(found);
    is_enabled.then_some(settings)
}

fn check_tls_files(section: &mut Section, settings: &TlsSettings) {
    let files = [
        ("ca_file", &settings.ca_file),
        ("client_cert_file", &settings.client_cert_file),
        ("client_key_file", &settings.client_key_file),
    ];
    for (key, path) in files {
        if let Some(path) = path
            && let Err(reason) = File::open(path)
        {
            section.wrong(key, format!("cannot read {}: {reason}", path.display()));
        }
    }
    match (&settings.client_cert_file, &settings.client_key_file) {
        (Some(_), None) => {
            section.wrong("client_cert_file", "needs mqtt.tls.client_key_file beside it")
        }
        (None, Some(_)) => {
            section.wrong("client_key_file", "needs mqtt.tls.client_cert_file beside it")
        }
        _ => {}
    }
}
