//! The settings in effect as a TOML file again, without secrets.

use std::fmt::Write;
use std::path::Path;

use super::raw::quoted;
use super::redact::{hide_in_argv, hide_in_text};
use super::sources::{CHANNELS, PACES, SAMPLE_FORMATS};
use super::{Settings, Source, alert, mqtt};
use crate::alert::settings::{Action, Alert, AlertSettings, SmtpSettings, Trigger};
use crate::capture::settings::{DeviceSelect, Origin, PcmFormat};
use crate::dashboard::settings::DashboardSettings;
use crate::decide::settings::{DetectionSettings, RuleOverride};
use crate::publish::settings::{Broker, PublishSettings, RemoteBroker};
use crate::store::settings::{ClipSettings, StoreSettings};

/// All settings as a configuration file that would give them again. Where a secret belongs stands a
/// comment, or `<hidden>` within a command's arguments.
pub fn effective_text(settings: &Settings) -> String {
    let mut out = Lines::default();
    out.text("node", &settings.node);
    if let Some(path) = &settings.model {
        out.table("[model]");
        out.path("path", path);
    }
    for source in &settings.sources {
        write_source(&mut out, source);
    }
    out.table("[analysis]");
    out.value("hop_s", settings.hop_s);
    write_detection(&mut out, &settings.detection);
    write_mqtt(&mut out, &settings.publish);
    write_store(&mut out, &settings.store);
    write_clips(&mut out, settings.clips.as_ref());
    write_dashboard(&mut out, settings.dashboard.as_ref());
    write_alerts(&mut out, &settings.alerts);
    out.table("[log]");
    out.text("level", settings.log.level.as_str());
    out.0
}

/// Lines of TOML.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn table(&mut self, header: &str) {
        self.line(format_args!("\n{header}"));
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.value(key, quoted(value));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, &hide_in_text(&path.to_string_lossy()));
    }

    fn list(&mut self, key: &str, values: &[String]) {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.value(key, format_args!("[{}]", values.join(", ")));
    }

    /// Says whether there is one, and no more.
    fn secret(&mut self, name: &str, is_set: bool) {
        if is_set {
            self.line(format_args!("# {name}: set (hidden)"));
        }
    }

    fn optional(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.value(key, value);
        }
    }
}

fn write_source(out: &mut Lines, source: &Source) {
    out.table("[[source]]");
    out.text("name", &source.capture.name);
    match &source.capture.origin {
        Origin::Device(DeviceSelect::Default) => out.text("device", "default"),
        Origin::Device(DeviceSelect::Id(id)) => out.text("device", &format!("id:{id}")),
        Origin::Device(DeviceSelect::Name(name)) => out.text("device", &format!("name:{name}")),
        Origin::File { path, pace, repeat } => {
            out.path("file", path);
            out.text("pace", word(&PACES, *pace));
            out.value("repeat", repeat);
        }
        // Only ever chosen by a flag of `run`, never written in a configuration.
        Origin::Recording => {}
        Origin::Stdin(format) => {
            out.value("stdin", true);
            write_format(out, *format);
        }
        Origin::Command { argv, format } => {
            out.list("command", &hide_in_argv(argv));
            write_format(out, *format);
        }
    }
    out.text("channel", word(&CHANNELS, source.channel));
}

fn write_format(out: &mut Lines, format: PcmFormat) {
    out.value("sample_rate_hz", format.sample_rate_hz);
    out.value("channels", format.channels);
    out.text("sample_format", word(&SAMPLE_FORMATS, format.sample));
}

fn write_detection(out: &mut Lines, detection: &DetectionSettings) {
    out.table("[detection]");
    out.value("sensitivity", detection.sensitivity);
    out.value("min_level_dbfs", detection.min_level_dbfs);
    out.list("classes", &detection.classes);
    for (class, rule) in &detection.overrides {
        out.table(&format!("[detection.class.{}]", quoted(class)));
        write_rule(out, rule);
    }
}

fn write_rule(out: &mut Lines, rule: &RuleOverride) {
    out.optional("on", rule.on);
    out.optional("off", rule.off);
    out.optional("hits", rule.hits);
    out.optional("of", rule.of);
    out.optional("at_once", rule.at_once);
    out.optional("min_duration_s", rule.min_duration_s);
    out.optional("hold_s", rule.hold_s);
    out.optional("cooldown_s", rule.cooldown_s);
    if let Some(classes) = &rule.suppressed_by {
        out.list("suppressed_by", classes);
    }
}

fn write_mqtt(out: &mut Lines, publish: &PublishSettings) {
    out.table("[mqtt]");
    out.value("enabled", publish.broker != Broker::Off);
    match &publish.broker {
        Broker::Off => {}
        Broker::Embedded { port } => out.value("embedded_port", port),
        Broker::Remote(remote) => write_remote(out, remote),
    }
    out.text("topic_prefix", &publish.topic_prefix);
    out.value("keep_alive_s", publish.keep_alive.as_secs());
    out.value("level_interval_s", publish.level_interval.as_secs_f64());
    out.value("level_deadband_db", publish.level_deadband_db);
    out.value("scores", publish.scores);
    out.value("queue_events_max", publish.queue_events_max);
    if let Broker::Remote(RemoteBroker { tls: Some(tls), .. }) = &publish.broker {
        out.table("[mqtt.tls]");
        out.value("enabled", true);
        let files = [
            ("ca_file", &tls.ca_file),
            ("client_cert_file", &tls.client_cert_file),
            ("client_key_file", &tls.client_key_file),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                out.path(key, path);
            }
        }
    }
    out.table("[mqtt.home_assistant]");
    out.value("enabled", publish.discovery_prefix.is_some());
    if let Some(prefix) = &publish.discovery_prefix {
        out.text("prefix", prefix);
    }
}

fn write_store(out: &mut Lines, store: &StoreSettings) {
    out.table("[store]");
    out.value("enabled", store.enabled);
    out.path("folder", &store.folder);
    out.value("keep_days", store.keep_days);
    out.value("size_max_mb", store.size_max_bytes >> 20);
}

fn write_clips(out: &mut Lines, clips: Option<&ClipSettings>) {
    out.table("[clips]");
    out.value("enabled", clips.is_some());
    let Some(clips) = clips else { return };
    out.path("folder", &clips.folder);
    out.value("before_s", clips.before_s);
    out.value("after_s", clips.after_s);
    out.value("length_max_s", clips.length_max_s);
    out.value("size_max_mb", clips.size_max_bytes >> 20);
    out.list("classes", &clips.classes);
    out.list("never_record", &clips.never_record);
}

fn write_dashboard(out: &mut Lines, dashboard: Option<&DashboardSettings>) {
    out.table("[dashboard]");
    out.value("enabled", dashboard.is_some());
    let Some(dashboard) = dashboard else { return };
    out.text("listen", &dashboard.listen.to_string());
    out.secret("password", dashboard.password.is_some());
    if let Some(tls) = &dashboard.tls {
        out.table("[dashboard.tls]");
        out.path("cert_file", &tls.cert_file);
        out.path("key_file", &tls.key_file);
    }
}

fn write_alerts(out: &mut Lines, alerts: &AlertSettings) {
    out.table("[alerts]");
    if let Some(name) = &alerts.zone_name {
        out.text("time_zone", name);
    }
    if let Some(hours) = &alerts.quiet_hours {
        out.text("quiet_hours", &hours.to_string());
    }
    if let Some(smtp) = &alerts.smtp {
        write_smtp(out, smtp);
    }
    for alert in &alerts.alerts {
        out.table("[[alert]]");
        out.text("name", &alert.name);
        write_rule_of_alert(out, alert);
        for action in &alert.actions {
            write_action(out, action);
        }
        if alert.actions.iter().any(|action| matches!(action, Action::Ntfy(_) | Action::Email(_))) {
            out.text("title", &alert.title.to_string());
            out.text("message", &alert.message.to_string());
        }
    }
}

fn write_smtp(out: &mut Lines, smtp: &SmtpSettings) {
    out.table("[alerts.smtp]");
    out.text("host", &smtp.host);
    out.value("port", smtp.port);
    out.text("tls", word(&alert::SMTP_TLS, smtp.tls));
    if let Some(user) = &smtp.user {
        out.text("user", user);
    }
    out.secret("password", smtp.password.is_some());
    out.text("from", &smtp.from);
}

fn write_rule_of_alert(out: &mut Lines, alert: &Alert) {
    match &alert.trigger {
        Trigger::Escalation => return out.value("only_escalated", true),
        Trigger::Level { over_dbfs } => out.value("level_over_dbfs", over_dbfs),
        Trigger::Sound { classes, min_score } => {
            out.list("classes", classes);
            out.value("min_score", min_score);
        }
    }
    out.list("sources", &alert.sources);
    out.value("min_duration_s", alert.min_duration_s);
    out.value("count", alert.count);
    if alert.count > 1 {
        out.value("within_s", alert.within_s);
    }
    let schedule: Vec<String> = alert.schedule.iter().map(ToString::to_string).collect();
    out.list("schedule", &schedule);
    out.value("in_quiet_hours", alert.in_quiet_hours);
    out.value("cooldown_s", alert.cooldown_s);
    if let Some(escalation) = &alert.escalation {
        out.value("escalate_after_s", escalation.after_s);
        if let Some(to) = &escalation.to {
            out.text("escalate_to", to);
        }
    }
}

fn write_action(out: &mut Lines, action: &Action) {
    match action {
        Action::Command(command) => {
            let arguments = command.arguments.iter().map(ToString::to_string);
            let argv: Vec<String> =
                std::iter::once(command.program.clone()).chain(arguments).collect();
            out.list("command", &hide_in_argv(&argv));
            out.value("command_timeout_s", command.timeout_s);
        }
        Action::Webhook(webhook) => {
            out.text("webhook", &webhook.url.to_string());
            out.secret("webhook_body", webhook.body.is_some());
            out.secret("webhook_secret", webhook.secret.is_some());
        }
        Action::Mqtt(mqtt) => {
            out.text("mqtt_topic", &mqtt.topic);
            out.secret("mqtt_payload", mqtt.payload.is_some());
            out.value("mqtt_retain", mqtt.retain);
        }
        Action::Ntfy(ntfy) => {
            out.text("ntfy", &ntfy.url.to_string());
            out.value("ntfy_priority", ntfy.priority);
            out.secret("ntfy_token", ntfy.token.is_some());
        }
        Action::Email(email) => out.list("email_to", &email.to),
    }
}

fn write_remote(out: &mut Lines, remote: &RemoteBroker) {
    out.text("host", &remote.host);
    out.value("port", remote.port);
    out.text("version", word(&mqtt::VERSIONS, remote.version));
    out.text("client_id", &remote.client_id);
    if let Some(user) = &remote.user {
        out.text("user", user);
        let state = if remote.password.is_some() { "set (hidden)" } else { "none" };
        out.line(format_args!("# password: {state}"));
    }
}

/// How `value` is written. Every value is in its table; a test reads each one back.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, candidate)| *candidate == value).map_or("", |(word, _)| word)
}
