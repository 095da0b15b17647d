//! `hearken status`: how the running daemon is.

use clap::Args;

use super::state::StateArgs;
use super::{Outcome, output};
use crate::signal::Timestamp;
use crate::supervise::answer::{NodeStatus, Question, ask};

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    state: StateArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    /// [`Outcome::SomeFailed`] when something does not work as it should.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let socket = self.state.socket()?;
        let status: Option<NodeStatus> = ask(&socket, &Question::Status)?;
        let Some(status) = status else {
            output::write_line(if self.json { "null" } else { "hearken has just started" })?;
            return Ok(Outcome::Done);
        };
        let text = if self.json {
            serde_json::to_string(&status)?
        } else {
            words(&status, Timestamp::now())
        };
        output::write_line(text.trim_end())?;
        let bad =
            status.health.degraded || status.sources.iter().any(|source| source.state.is_trouble());
        Ok(if bad { Outcome::SomeFailed } else { Outcome::Done })
    }
}

fn words(status: &NodeStatus, now: Timestamp) -> String {
    let NodeStatus { version, node, process, started, model, health, broker, store, sources } =
        status;
    let mut lines = vec![format!(
        "hearken {version}, node {node}, process {process}, up {}, model {model}",
        duration(now.seconds_since(*started))
    )];
    for source in sources {
        let why = source.detail.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let level = source.level_dbfs.map(|dbfs| format!(", {dbfs:.0} dBFS")).unwrap_or_default();
        let since = duration(now.seconds_since(source.since));
        lines.push(format!(
            "source {}: {}{why} for {since}{level}; {} windows judged, {} dropped, {} samples lost in {} gaps",
            source.source,
            source.state.as_str().replace('_', " "),
            source.classified_windows,
            source.dropped_windows,
            source.lost_samples,
            source.gaps
        ));
    }
    lines.push(match broker {
        None => "broker: none (mqtt.enabled = false)".to_owned(),
        Some(broker) => {
            let state = if broker.connected { "connected" } else { "NOT CONNECTED" };
            let why = broker.last_error.as_ref().filter(|_| !broker.connected);
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            format!(
                "broker {}: {state}{why}; {} messages delivered, {} waiting, {} refused, {} given up; {} reconnects",
                broker.address,
                broker.delivered_messages,
                health.queued_messages,
                health.refused_messages,
                health.dropped_messages,
                broker.reconnects
            )
        }
    });
    lines.extend(
        store.as_ref().map(|path| {
            format!("store {}: {} events not kept", path.display(), health.unkept_events)
        }),
    );
    lines.push(format!("restarts of stages: {}", health.restarts));
    lines.extend(health.problems.iter().map(|problem| format!("PROBLEM: {problem}")));
    lines.join("\n")
}

/// The two largest units.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let found = [-3.0, 5.9, 75.0, 3_700.0, 200_000.0].map(duration);
        assert_eq!(found, ["0 s", "5 s", "1 min 15 s", "1 h 1 min", "2 d 7 h"]);
    }
}
