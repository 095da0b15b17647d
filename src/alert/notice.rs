//! What an alert tells: one notice, as JSON and as text. Pure.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::template::{Field, Template};
use crate::signal::{EventId, SourceName, Timestamp};

/// Something that somebody wants to know of. Its JSON is the payload of webhooks and MQTT messages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// The alert whose rule was met.
    pub alert: Arc<str>,
    /// 1; 2 when the sound went on after that.
    pub stage: u8,
    pub node: Arc<str>,
    pub source: SourceName,
    /// The class; [`LOUD`] of an alert that goes by the level.
    pub class: Arc<str>,
    /// Peak score so far, 0 to 1; absent of a mere level.
    pub score: Option<f32>,
    pub level_dbfs: f32,
    pub start: Timestamp,
    /// Absent while the sound is on.
    pub end: Option<Timestamp>,
    pub duration_s: f64,
    /// Sounds that it took.
    pub count: usize,
    /// Notices that were held back since the last one.
    pub held_back: u64,
    /// The event's; absent of a mere level.
    pub id: Option<EventId>,
    /// Nothing was heard; somebody tries out the actions.
    pub test: bool,
}

/// What an alert calls a sound that it knows only the level of.
pub const LOUD: &str = "loud sound";

/// What stands before the title of a test.
const TEST: &str = "Test: ";

impl Notice {
    /// As JSON.
    pub fn json(&self) -> String {
        // Plain text and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A title on one line, marked if it is a test.
    pub fn title(&self, template: &Template, zone: &TimeZone) -> String {
        let text = one_line(&self.fill(template, zone));
        if self.test { format!("{TEST}{text}") } else { text }
    }

    /// A template filled in.
    pub fn fill(&self, template: &Template, zone: &TimeZone) -> String {
        template.fill(|field| self.value(field, zone))
    }

    /// A template filled in, with values as they stand between quotes in JSON.
    pub fn fill_json(&self, template: &Template, zone: &TimeZone) -> String {
        template.fill(|field| {
            let quoted = serde_json::to_string(&self.value(field, zone)).unwrap_or_default();
            quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
        })
    }

    fn value(&self, field: Field, zone: &TimeZone) -> String {
        match field {
            Field::Alert => self.alert.to_string(),
            Field::Class => self.class.to_string(),
            Field::Source => self.source.to_string(),
            Field::Node => self.node.to_string(),
            Field::Score => self.score.map(|score| format!("{score:.2}")).unwrap_or_default(),
            Field::Level => format!("{:.1}", self.level_dbfs),
            Field::Start => self.start.to_string(),
            Field::StartLocal => local(self.start, zone),
            Field::End => self.end.map(|end| end.to_string()).unwrap_or_default(),
            Field::Duration => format!("{:.1}", self.duration_s),
            Field::Count => self.count.to_string(),
            Field::HeldBack => self.held_back.to_string(),
            Field::Stage => self.stage.to_string(),
            Field::Id => self.id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

/// A time as a clock on the wall shows it, with the zone's name.
fn local(at: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        Err(_) => at.to_string(),
    }
}

/// Text without what could begin another line, in a header for instance.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            alert: "a".into(),
            stage: 1,
            node: "attic".into(),
            source: "hall".into(),
            class: "glass \"é\"\n".into(),
            score: Some(0.937),
            level_dbfs: -20.04,
            start: "2026-05-01T18:00:00.25Z".parse().unwrap(),
            end: None,
            duration_s: 2.25,
            count: 3,
            held_back: 7,
            id: None,
            test: false,
        }
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").expect("the package tzdata is needed")
    }

    #[test]
    fn values_have_their_units_and_what_is_not_known_is_empty() {
        let filled = |text: &str| notice().fill(&text.parse().unwrap(), &berlin());
        assert_eq!(filled("{alert} {source} {node} {stage}"), "a hall attic 1");
        assert_eq!(filled("{score} {level} {duration} {count} {held_back}"), "0.94 -20.0 2.2 3 7");
        assert_eq!(filled("{start}"), "2026-05-01T18:00:00.250Z");
        assert_eq!(filled("{start_local}"), "2026-05-01 20:00:00 CEST");
        assert_eq!(filled("[{end}{id}]"), "[]");
    }

    #[test]
    fn json_is_json_whatever_is_filled_in() {
        let body = "{{\"text\": \"{class} at {source}\"}}".parse().unwrap();
        let filled = notice().fill_json(&body, &berlin());
        let parsed: serde_json::Value = serde_json::from_str(&filled).unwrap();
        assert_eq!(parsed["text"], "glass \"é\"\n at hall");
        let parsed: serde_json::Value = serde_json::from_str(&notice().json()).unwrap();
        assert_eq!(parsed["class"], "glass \"é\"\n");
        assert_eq!(parsed["end"], serde_json::Value::Null);
    }

    #[test]
    fn a_title_is_one_line_and_a_test_says_so() {
        let template = "{class}".parse().unwrap();
        assert_eq!(notice().title(&template, &berlin()), "glass \"é\" ");
        let test = Notice { test: true, ..notice() };
        assert_eq!(test.title(&template, &berlin()), "Test: glass \"é\" ");
    }
}
