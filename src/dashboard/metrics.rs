//! `/metrics` in the OpenMetrics text format. The only home of `prometheus_client`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::house::{AlertFigures, Distribution, Figures};
use crate::signal::SourceStatus;

/// The type of what [`text`] gives.
pub const MIME: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A counter or a gauge, one value for each set of labels.
type Series<'a> = Vec<(Vec<(&'static str, &'a str)>, f64)>;

/// All figures as text.
pub fn text(figures: &Figures) -> Option<String> {
    let mut registry = Registry::with_prefix("hearken");
    registry.register_collector(Box::new(Snapshot(figures.clone())));
    let mut text = String::new();
    encode(&mut text, &registry).ok()?;
    Some(text)
}

#[derive(Debug)]
struct Snapshot(Figures);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let figures = &self.0;
        write_listener(&mut encoder, figures)?;
        write_sources(&mut encoder, figures)?;
        write_events(&mut encoder, figures)?;
        let took = "How long the network took for a window, in seconds";
        histogram(&mut encoder, "inference_seconds", took, &figures.inference)?;
        let late = "From the estimated start of a sound to its being told, in seconds";
        histogram(&mut encoder, "event_latency_seconds", late, &figures.latency)
    }
}

fn write_listener(out: &mut DescriptorEncoder<'_>, figures: &Figures) -> std::fmt::Result {
    let version = vec![("version", figures.version.as_str())];
    gauge(out, "build", "The version that runs", vec![(version, 1.0)])?;
    let one = |value: f64| vec![(Vec::new(), value)];
    let started = "When the process started, seconds since 1970";
    gauge(out, "start_time_seconds", started, one(figures.started_unix_s))?;
    let degraded = "1 when something does not work as it should";
    gauge(out, "degraded", degraded, one(f64::from(u8::from(figures.degraded))))?;
    if let Some(connected) = figures.broker_connected {
        let help = "1 while the MQTT broker is there";
        gauge(out, "broker_connected", help, one(f64::from(u8::from(connected))))?;
    }
    let waiting = "Event messages that the broker has not acknowledged";
    gauge(out, "queued_messages", waiting, one(figures.queued_messages as f64))?;
    let refused = "Event messages that the broker refused and that are tried again";
    gauge(out, "refused_messages", refused, one(figures.refused_messages as f64))?;
    let counters = [
        ("delivered_messages", "Event messages that the broker has", figures.delivered_messages),
        ("dropped_messages", "Event messages given up", figures.dropped_messages),
        ("broker_reconnects", "Connections after the first", figures.broker_reconnects),
        ("ignored_commands", "MQTT commands that made no sense", figures.ignored_commands),
        ("unkept_events", "Events that could not be kept", figures.unkept_events),
        ("stage_restarts", "Stages begun anew after a fault", figures.restarts),
        ("alert_lost_events", "Events that no alert looked at", figures.alert_lost_events),
    ];
    counters
        .into_iter()
        .try_for_each(|(name, help, value)| counter(out, name, help, one(value as f64)))
}

fn write_sources(out: &mut DescriptorEncoder<'_>, figures: &Figures) -> std::fmt::Result {
    let of_all = |value: fn(&SourceStatus) -> f64| -> Series<'_> {
        figures
            .sources
            .iter()
            .map(|status| (vec![("source", &*status.source)], value(status)))
            .collect()
    };
    let hearing = |status: &SourceStatus| f64::from(u8::from(status.state.is_hearing()));
    gauge(out, "source_hearing", "1 while audio arrives", of_all(hearing))?;
    let levels = figures.sources.iter().filter_map(|status| {
        let level = f64::from(status.level_dbfs?);
        Some((vec![("source", &*status.source)], level))
    });
    gauge(out, "source_level_dbfs", "Level of the newest half second", levels.collect())?;
    let lost = "Frames that were lost";
    counter(out, "source_lost_samples", lost, of_all(|status| status.lost_samples as f64))?;
    let gaps = "Interruptions of the audio";
    counter(out, "source_gaps", gaps, of_all(|status| status.gaps as f64))?;
    let dropped = "Windows replaced before the network had time for them";
    counter(out, "source_dropped_windows", dropped, of_all(|s| s.dropped_windows as f64))?;
    let judged = "Windows that the network has judged";
    counter(out, "source_classified_windows", judged, of_all(|s| s.classified_windows as f64))
}

fn write_events(out: &mut DescriptorEncoder<'_>, figures: &Figures) -> std::fmt::Result {
    let events = figures.events.iter().map(|((source, class), &count)| {
        (vec![("source", source.as_str()), ("class", class.as_str())], count as f64)
    });
    counter(out, "events", "Sounds that began, since the start", events.collect())?;
    let of_all = |value: fn(&AlertFigures) -> u64| -> Series<'_> {
        let alerts = figures.alerts.iter();
        alerts.map(|alert| (vec![("alert", alert.name.as_str())], value(alert) as f64)).collect()
    };
    let notices = "Notices of an alert";
    counter(out, "alert_notices", notices, of_all(|alert| alert.notices))?;
    let held_back = "Notices held back while an alert rested";
    counter(out, "alert_held_back", held_back, of_all(|alert| alert.held_back))?;
    let failures = "Actions of an alert that failed";
    counter(out, "alert_failures", failures, of_all(|alert| alert.failures))
}

fn counter(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: Series<'_>,
) -> std::fmt::Result {
    family(out, (name, help, MetricType::Counter), series, ConstCounter::new)
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: Series<'_>,
) -> std::fmt::Result {
    family(out, (name, help, MetricType::Gauge), series, ConstGauge::new)
}

fn family<M: EncodeMetric>(
    out: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    series: Series<'_>,
    metric: fn(f64) -> M,
) -> std::fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, kind)?;
    series
        .into_iter()
        .try_for_each(|(labels, value)| metric(value).encode(family.encode_family(&labels)?))
}

fn histogram(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    distribution: &Distribution,
) -> std::fmt::Result {
    let Distribution { buckets, over, sum_s } = distribution;
    let mut all = buckets.clone();
    all.push((f64::INFINITY, *over));
    let count = all.iter().map(|(_, count)| count).sum();
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<prometheus_client::encoding::NoLabelSet>(*sum_s, count, &all, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let figures = Figures {
            version: "1.2".to_owned(),
            restarts: 3,
            events: [(("door".to_owned(), "a\"b".to_owned()), 2)].into(),
            inference: Distribution { buckets: vec![(0.01, 4), (0.1, 1)], over: 1, sum_s: 0.5 },
            ..Figures::default()
        };
        let text = text(&figures).unwrap();
        for line in [
            "# TYPE hearken_stage_restarts counter",
            "hearken_stage_restarts_total 3.0",
            "hearken_build{version=\"1.2\"} 1.0",
            "hearken_events_total{source=\"door\",class=\"a\\\"b\"} 2.0",
            "hearken_inference_seconds_bucket{le=\"0.01\"} 4",
            "hearken_inference_seconds_bucket{le=\"0.1\"} 5",
            "hearken_inference_seconds_bucket{le=\"+Inf\"} 6",
            "hearken_inference_seconds_count 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
