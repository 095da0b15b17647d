//! One notice, one action, one try.

mod command;
mod email;
mod http;

pub use email::is_address;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::notice::Notice;
use super::settings::{Action, Alert, SmtpSettings};
use super::stop::Stop;

/// How long one try of anything but a command may take.
const TRY_WITHIN: Duration = Duration::from_secs(10);

/// What an MQTT action hands over; says whether the broker is connected at present.
pub type PublishNotice = dyn Fn(MqttNotice) -> bool + Send + Sync;

/// A message for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttNotice {
    pub topic: Arc<str>,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// How a try ended, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    Done(String),
    /// It may work later.
    Later(String),
    /// Only a person can help.
    Failed(String),
}

/// What actions need beside their own settings.
#[derive(Clone)]
pub struct Surroundings {
    pub zone: TimeZone,
    pub smtp: Option<SmtpSettings>,
    pub publish: Arc<PublishNotice>,
    pub stop: Arc<Stop>,
}

impl Surroundings {
    /// Tries once. A command or a post not for longer than the action's own limit; mail may take it for each of its steps.
    pub fn try_action(&self, action: &Action, alert: &Alert, notice: &Notice) -> Tried {
        match action {
            Action::Command(command) => command::run(command, notice, &self.zone, &self.stop),
            Action::Webhook(webhook) => {
                http::call_webhook(webhook, notice, &self.zone, self.within())
            }
            Action::Ntfy(ntfy) => {
                let title = notice.title(&alert.title, &self.zone);
                let message = notice.fill(&alert.message, &self.zone);
                http::push_ntfy(ntfy, &title, &message, self.within())
            }
            Action::Email(email) => {
                let Some(smtp) = &self.smtp else {
                    return Tried::Failed("there is no [alerts.smtp]".to_owned());
                };
                let title = notice.title(&alert.title, &self.zone);
                let message = notice.fill(&alert.message, &self.zone);
                email::send(smtp, &email.to, &title, &message, self.within())
            }
            Action::Mqtt(mqtt) => {
                let filled = |template| notice.fill(template, &self.zone);
                let payload = mqtt.payload.as_ref().map_or_else(|| notice.json(), filled);
                let (topic, retain) = (Arc::clone(&mqtt.topic), mqtt.retain);
                let message = MqttNotice { topic, payload: payload.into_bytes(), retain };
                let queued = "queued for the broker";
                Tried::Done(match (self.publish)(message) {
                    true => queued.to_owned(),
                    false => format!("{queued}, which is not connected at present"),
                })
            }
        }
    }

    fn within(&self) -> Duration {
        let least = Duration::from_millis(100);
        self.stop.left().map_or(TRY_WITHIN, |left| left.min(TRY_WITHIN)).max(least)
    }
}
