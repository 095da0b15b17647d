//! What the daemon says of itself: its health over MQTT, its status to who asks, one line to systemd.

use std::sync::{Arc, PoisonError};

use super::Daemon;
use super::answer::{BrokerStatus, NodeStatus};
use super::source::LiveSource;
use crate::publish::settings::Broker;
use crate::signal::{NodeHealth, Report};

impl Daemon {
    /// Says how the listener is, when that has changed.
    pub(super) fn tell_health(&mut self) {
        let health = self.health();
        if health.dropped_messages > self.told.dropped_messages {
            let more = health.dropped_messages - self.told.dropped_messages;
            let all = health.dropped_messages;
            tracing::error!(
                "{more} event messages were given up: more than mqtt.queue_events_max waited; {all} in all"
            );
            self.told.dropped_messages = all;
        }
        let news = |told: &NodeHealth| {
            // What waits changes all the time; its end is of interest, not its course.
            let calm = |health: &NodeHealth| NodeHealth {
                queued_messages: health.queued_messages.min(1),
                ..health.clone()
            };
            calm(told) != calm(&health)
        };
        if self.told.health.as_ref().is_none_or(news) {
            self.sinks.send(Report::Health(health.clone()));
            self.told.health = Some(health.clone());
        }
        let status = self.status(health);
        *self.known.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn status(&self, health: NodeHealth) -> NodeStatus {
        let publishing = self.sinks.publishing();
        let address = match &self.settings.publish.broker {
            Broker::Off => None,
            Broker::Embedded { port } => Some(format!("127.0.0.1:{port} (embedded)")),
            Broker::Remote(remote) => Some(format!("{}:{}", remote.host, remote.port)),
        };
        let store = &self.settings.store;
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: Arc::clone(&self.settings.node),
            process: std::process::id(),
            started: self.started,
            model: Arc::clone(&self.model.digest),
            health,
            broker: address.map(|address| BrokerStatus {
                address,
                connected: publishing.connected,
                delivered_messages: publishing.delivered_events,
                reconnects: publishing.reconnects,
                last_error: publishing.last_error,
            }),
            store: store.enabled.then(|| store.database()),
            sources: self.sources.iter().map(LiveSource::status).collect(),
        }
    }

    fn health(&self) -> NodeHealth {
        let (publishing, store) = (self.sinks.publishing(), self.sinks.store());
        let mut problems: Vec<String> = store.problem.into_iter().chain(store.mishap).collect();
        if publishing.refused_events > 0 {
            problems
                .push(format!("the broker refuses {} event messages", publishing.refused_events));
        }
        problems.extend(self.sinks.alerts().problems());
        NodeHealth {
            degraded: !problems.is_empty(),
            problems,
            queued_messages: publishing.queued_events as u64,
            refused_messages: publishing.refused_events as u64,
            dropped_messages: publishing.dropped_events,
            unkept_events: store.unkept,
            restarts: self.restarts.total(),
        }
    }

    /// One line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let source = |source: &LiveSource| {
            let why = source.detail().map(|why| format!(" ({why})")).unwrap_or_default();
            let windows = source.board.classified_windows.get();
            format!("{}: {}{why}, {windows} windows", source.name, source.state().as_str())
        };
        self.sources.iter().map(source).collect::<Vec<_>>().join("; ")
    }
}
