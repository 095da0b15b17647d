//! What a listener reported against what really sounded: event-based precision, recall and F1 as
//! sed_eval counts them (Mesaros, Heittola, Virtanen, "Metrics for Polyphonic Sound Event
//! Detection", Applied Sciences 2016), and what matters beside them to a person who lives with
//! the reports: events found, false alarms an hour, latency.

/// How far a reported onset may be from the true one, in seconds.
pub const COLLAR_S: f64 = 1.0;

/// A sound that really was there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrueEvent {
    /// Index of the class.
    pub class: usize,
    pub onset_s: f64,
    pub offset_s: f64,
}

/// A sound that was reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReportedEvent {
    /// Index of the class.
    pub class: usize,
    /// When it is said to have begun and ended.
    pub start_s: f64,
    pub end_s: f64,
    /// The position in the stream at which its start was reported.
    pub reported_s: f64,
    pub score_peak: f32,
}

/// The counts of one class over any number of recordings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// True events.
    pub events: usize,
    /// Those with a report of their own while they sounded, or up to the collar later.
    pub found: usize,
    /// Reports, and those whose onset is a true one's within the collar, one to one.
    pub reports: usize,
    pub matched: usize,
    /// Reports with no true event.
    pub false_alarms: usize,
    /// How long it did not sound.
    pub quiet_s: f64,
    /// From each found event's onset to its report.
    pub latencies_s: Vec<f64>,
}

impl Tally {
    /// Counts one recording of `duration_s` seconds.
    pub fn add(
        &mut self,
        class: usize,
        truth: &[TrueEvent],
        reports: &[ReportedEvent],
        duration_s: f64,
    ) {
        let mut truth: Vec<&TrueEvent> = truth.iter().filter(|e| e.class == class).collect();
        let mut reports: Vec<&ReportedEvent> =
            reports.iter().filter(|report| report.class == class).collect();
        truth.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
        reports.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        self.events += truth.len();
        self.reports += reports.len();
        self.matched += matched_onsets(&truth, &reports);
        self.quiet_s += (duration_s - sounding_s(&truth, duration_s)).max(0.0);
        let is_false = |report: &&&ReportedEvent| !truth.iter().any(|event| meets(event, report));
        self.false_alarms += reports.iter().filter(is_false).count();
        for event in truth {
            if let Some(own) = reports.iter().position(|report| meets(event, report)) {
                let report = reports.remove(own);
                self.found += 1;
                self.latencies_s.push(report.reported_s - event.onset_s);
            }
        }
    }

    /// Adds another tally of the same class.
    pub fn join(&mut self, other: &Self) {
        self.events += other.events;
        self.found += other.found;
        self.reports += other.reports;
        self.matched += other.matched;
        self.false_alarms += other.false_alarms;
        self.quiet_s += other.quiet_s;
        self.latencies_s.extend_from_slice(&other.latencies_s);
    }

    /// Share of the events that were found, 0 to 1; `None` without events.
    pub fn found_share(&self) -> Option<f64> {
        share(self.found, self.events)
    }

    /// Share of the reports with a right onset; `None` without reports.
    pub fn precision(&self) -> Option<f64> {
        share(self.matched, self.reports)
    }

    /// Share of the events with a report at their onset; `None` without events.
    pub fn recall(&self) -> Option<f64> {
        share(self.matched, self.events)
    }

    /// Harmonic mean of precision and recall; `None` without events and reports.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.matched, self.events + self.reports)
    }

    /// False alarms in an hour in which the class does not sound; `None` for no time at all.
    pub fn false_alarms_per_hour(&self) -> Option<f64> {
        (self.quiet_s > 0.0).then(|| self.false_alarms as f64 * 3600.0 / self.quiet_s)
    }

    /// The latency that `share` (0 to 1) of the found events stay within, in seconds.
    pub fn latency_s(&self, share: f64) -> Option<f64> {
        quantile(&self.latencies_s, share)
    }
}

/// Whether `report` speaks of `event`: it came after the onset, and its start lies no more than
/// the collar behind the end.
fn meets(event: &TrueEvent, report: &ReportedEvent) -> bool {
    report.reported_s >= event.onset_s && report.start_s <= event.offset_s + COLLAR_S
}

/// The largest number of pairs of a true and a reported onset within the collar. Both in order:
/// since the collar is the same for all, the earliest two that can be paired may be paired, and
/// one that is too early for the other's earliest is too early for all.
fn matched_onsets(truth: &[&TrueEvent], reports: &[&ReportedEvent]) -> usize {
    let (mut truth, mut reports) = (truth.iter().peekable(), reports.iter().peekable());
    let mut matched = 0;
    while let (Some(event), Some(report)) = (truth.peek(), reports.peek()) {
        let late_s = report.start_s - event.onset_s;
        let paired = late_s.abs() <= COLLAR_S;
        matched += usize::from(paired);
        if paired || late_s > 0.0 {
            truth.next();
        }
        if paired || late_s <= 0.0 {
            reports.next();
        }
    }
    matched
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The `share` quantile (0 to 1) with linear interpolation, as numpy's default; `None` of nothing.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// How long events sound in a recording, by the order of their onsets: where they overlap, once.
fn sounding_s(events: &[&TrueEvent], duration_s: f64) -> f64 {
    let (mut total_s, mut until_s) = (0.0, 0.0_f64);
    for event in events {
        let offset_s = event.offset_s.min(duration_s);
        total_s += (offset_s - event.onset_s.max(until_s)).max(0.0);
        until_s = until_s.max(offset_s);
    }
    total_s
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Figures of sed_eval 0.2.1 and numpy, by `tests/data/events_reference.py`.
    const REFERENCE: &str = include_str!("../../tests/data/events_reference.json");

    #[derive(Deserialize)]
    struct Reference {
        /// Class, onset, offset.
        recordings: Vec<Recording>,
        classes: Vec<Figures>,
        quantiles: Quantiles,
    }

    #[derive(Deserialize)]
    struct Recording {
        reference: Vec<(usize, f64, f64)>,
        estimated: Vec<(usize, f64, f64)>,
    }

    #[derive(Deserialize)]
    struct Figures {
        events: usize,
        reports: usize,
        precision: f64,
        recall: f64,
        f1: f64,
    }

    #[derive(Deserialize)]
    struct Quantiles {
        values: Vec<f64>,
        median: f64,
        p95: f64,
    }

    fn truth(&(class, onset_s, offset_s): &(usize, f64, f64)) -> TrueEvent {
        TrueEvent { class, onset_s, offset_s }
    }

    fn report(&(class, start_s, end_s): &(usize, f64, f64)) -> ReportedEvent {
        ReportedEvent { class, start_s, end_s, reported_s: start_s + 0.5, score_peak: 0.9 }
    }

    #[test]
    fn precision_recall_and_f1_are_those_of_sed_eval() {
        let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
        assert!(reference.classes.len() >= 3 && reference.recordings.len() >= 5);
        for (class, figures) in reference.classes.iter().enumerate() {
            let mut tally = Tally::default();
            for recording in &reference.recordings {
                let events: Vec<TrueEvent> = recording.reference.iter().map(truth).collect();
                let reports: Vec<ReportedEvent> = recording.estimated.iter().map(report).collect();
                tally.add(class, &events, &reports, 60.0);
            }
            assert_eq!((tally.events, tally.reports), (figures.events, figures.reports));
            for (found, expected) in [
                (tally.precision(), figures.precision),
                (tally.recall(), figures.recall),
                (tally.f1(), figures.f1),
            ] {
                assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}, not {expected}");
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let quantiles = serde_json::from_str::<Reference>(REFERENCE).unwrap().quantiles;
        assert!((quantile(&quantiles.values, 0.5).unwrap() - quantiles.median).abs() < 1e-12);
        assert!((quantile(&quantiles.values, 0.95).unwrap() - quantiles.p95).abs() < 1e-12);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[2.0], 0.95), Some(2.0));
    }

    #[test]
    fn sounds_that_overlap_or_outlast_the_recording_count_once_as_time() {
        let event = |onset_s, offset_s| TrueEvent { class: 0, onset_s, offset_s };
        let mut tally = Tally::default();
        tally.add(0, &[event(1.0, 8.0), event(2.0, 7.0), event(9.0, f64::INFINITY)], &[], 10.0);
        assert!((tally.quiet_s - 2.0).abs() < 1e-9, "{}", tally.quiet_s);
    }

    fn reported(start_s: f64, reported_s: f64) -> ReportedEvent {
        ReportedEvent { class: 0, start_s, end_s: start_s + 3.0, reported_s, score_peak: 0.9 }
    }

    #[test]
    fn an_event_needs_a_report_of_its_own_and_a_false_alarm_has_no_event() {
        let truth = [
            TrueEvent { class: 0, onset_s: 10.0, offset_s: 14.0 },
            TrueEvent { class: 0, onset_s: 30.0, offset_s: 31.0 },
            TrueEvent { class: 1, onset_s: 50.0, offset_s: 51.0 },
        ];
        let reports = [
            // Before anything was there; while it sounded; the same once more; long after.
            reported(8.0, 9.5),
            reported(12.5, 13.0),
            reported(13.5, 14.5),
            reported(32.5, 33.0),
            reported(50.0, 51.0),
        ];
        let mut tally = Tally::default();
        tally.add(0, &truth, &reports, 3_605.0);
        assert_eq!((tally.events, tally.found, tally.reports), (2, 1, 5));
        assert_eq!(tally.latencies_s, [3.0]);
        assert_eq!(tally.false_alarms, 3);
        assert_eq!(tally.false_alarms_per_hour(), Some(3.0));
        // No onset within a second: found late is not matched.
        assert_eq!(tally.matched, 0);
    }

    #[test]
    fn one_report_that_never_ends_does_not_find_everything() {
        let event = |onset_s: f64| TrueEvent { class: 0, onset_s, offset_s: onset_s + 1.0 };
        let truth: Vec<TrueEvent> = (1..20).map(|n| event(f64::from(n) * 10.0)).collect();
        let always = ReportedEvent { end_s: 200.0, ..reported(10.0, 10.5) };
        let mut tally = Tally::default();
        tally.add(0, &truth, &[always], 200.0);
        assert_eq!((tally.found, tally.false_alarms), (1, 0));
    }
}
