//! What alerts need to know, as the configuration has checked it.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

pub use super::actions::is_address;
pub use super::schedule::{Hours, NotHours};
pub use super::template::{Template, TemplateError};
pub use crate::secret::Secret;

/// Everything about alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertSettings {
    /// The name of this listener.
    pub node: Arc<str>,
    /// As it was written; `None`: the system's.
    pub zone_name: Option<String>,
    /// The clock that hours and `{start_local}` go by.
    pub zone: TimeZone,
    /// Hours in which only those alerts act that say so.
    pub quiet_hours: Option<Hours>,
    pub smtp: Option<SmtpSettings>,
    /// With different names; every name in `escalate_to` is one of them.
    pub alerts: Vec<Alert>,
}

/// No alerts.
impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            node: "".into(),
            zone_name: None,
            zone: TimeZone::UTC,
            quiet_hours: None,
            smtp: None,
            alerts: Vec::new(),
        }
    }
}

/// One `[[alert]]`: what it waits for, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub name: Arc<str>,
    pub trigger: Trigger,
    /// Empty: all.
    pub sources: Vec<String>,
    /// The sound must have been on so long, in seconds.
    pub min_duration_s: f32,
    /// So many of them ...
    pub count: usize,
    /// ... within so many seconds.
    pub within_s: f32,
    /// Empty: always.
    pub schedule: Vec<Hours>,
    pub in_quiet_hours: bool,
    /// Rest after a notice, in seconds.
    pub cooldown_s: f32,
    pub escalation: Option<Escalation>,
    pub title: Template,
    pub message: Template,
    /// At least one.
    pub actions: Vec<Action>,
}

/// What an alert waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// One of these classes (empty: any that is reported), with at least this peak score.
    Sound { classes: Vec<String>, min_score: f32 },
    /// Whatever it is, it is louder than this.
    Level { over_dbfs: f32 },
    /// Nothing of its own: another alert escalates to it.
    Escalation,
}

/// What follows when a sound goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Escalation {
    /// So long after the notice, in seconds.
    pub after_s: f32,
    /// The alert whose actions run; `None`: the same one.
    pub to: Option<Arc<str>>,
}

/// One way of telling.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Command(CommandAction),
    Webhook(WebhookAction),
    Mqtt(MqttAction),
    Ntfy(NtfyAction),
    Email(EmailAction),
}

impl Action {
    /// The key that stands for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Webhook(_) => "webhook",
            Self::Mqtt(_) => "mqtt",
            Self::Ntfy(_) => "ntfy",
            Self::Email(_) => "email",
        }
    }
}

/// A program is run, without a shell.
#[derive(Clone, PartialEq)]
pub struct CommandAction {
    pub program: String,
    pub arguments: Vec<Template>,
    /// Whole seconds; then it is killed with all that it has started.
    pub timeout_s: u32,
}

/// Arguments may hold secrets.
impl fmt::Debug for CommandAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = format_args!("<{} hidden>", self.arguments.len());
        f.debug_struct("CommandAction")
            .field("program", &self.program)
            .field("arguments", &arguments)
            .field("timeout_s", &self.timeout_s)
            .finish()
    }
}

/// A request is posted.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookAction {
    pub url: Url,
    /// `None`: the notice as JSON.
    pub body: Option<Template>,
    /// Signs the body.
    pub secret: Option<Secret>,
}

/// A message is published. `None`: the notice as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttAction {
    pub topic: Arc<str>,
    pub payload: Option<Template>,
    pub retain: bool,
}

/// A push message by an ntfy server.
#[derive(Debug, Clone, PartialEq)]
pub struct NtfyAction {
    pub url: Url,
    /// 1 to 5.
    pub priority: u8,
    pub token: Option<Secret>,
}

/// A mail to each of these addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct EmailAction {
    pub to: Vec<String>,
}

/// The server that takes mail.
#[derive(Debug, Clone, PartialEq)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The sender's address.
    pub from: String,
}

/// How a mail's way to the server is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// The connection begins in the open, and goes on only when it has become secret.
    Starttls,
    /// From the beginning.
    Wrapped,
    /// Not at all.
    None,
}

/// The address of a web server. What follows the host is often as good as a password, so it is
/// shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// `None` unless it is `http` or `https` with a host, without a user and blanks.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: ureq::http::Uri = text.parse().ok()?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority()?;
        let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
        (is_web && is_plain).then(|| Self(text.to_owned()))
    }

    /// The whole address, for the one place that calls it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether the way there is kept secret.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }
}

/// Without what may be a secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.find("://").map_or(0, |at| at + 3);
        let rest = self.0.get(start..).unwrap_or_default();
        match rest.find(['/', '?', '#']).map(|at| start + at) {
            Some(end) if end + 1 < self.0.len() => {
                write!(f, "{}/<hidden>", self.0.get(..end).unwrap_or_default())
            }
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Alert {
        /// Any class, no rest, and a command that does nothing, for tests.
        pub(in crate::alert) fn example(name: &str) -> Self {
            let action =
                CommandAction { program: "true".into(), arguments: Vec::new(), timeout_s: 1 };
            Self {
                name: name.into(),
                trigger: Trigger::Sound { classes: Vec::new(), min_score: 0.0 },
                sources: Vec::new(),
                min_duration_s: 0.0,
                count: 1,
                within_s: 60.0,
                schedule: Vec::new(),
                in_quiet_hours: false,
                cooldown_s: 0.0,
                escalation: None,
                title: "{class}".parse().unwrap(),
                message: "{source}".parse().unwrap(),
                actions: vec![Action::Command(action)],
            }
        }
    }

    #[test]
    fn an_address_shows_its_host_alone() {
        for (text, shown) in [
            ("https://hooks.example.org/services/T0/B0/x", "https://hooks.example.org/<hidden>"),
            ("http://localhost:8080/?key=x", "http://localhost:8080/<hidden>"),
            ("https://ntfy.sh/topic", "https://ntfy.sh/<hidden>"),
            ("https://h", "https://h"),
            ("https://h/", "https://h/"),
            ("http://[::1]:80/a", "http://[::1]:80/<hidden>"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(url.reveal(), text);
        }
        for bad in [
            "",
            "h",
            "/path",
            "ftp://h/",
            "https://",
            "https:///x",
            "https://me:pw@h/",
            "https://h/a b",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }
}
