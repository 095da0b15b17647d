//! `hearken eval stream`: what the live path would report on soundscapes, on backgrounds and on
//! annotated recordings, against what is really there.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::cli::classify::hop;
use crate::cli::hear_file::Plan;
use crate::cli::parallel::in_parallel;
use crate::cli::soundscapes::{Heard, Save, SoundscapeArgs, hear_whole, reported};
use crate::cli::{Outcome, Usage, output};
use crate::decide::DetectionSettings;
use crate::evaluate::{Tally, Trial, annotations};
use crate::hear::SoundModel;
use crate::spectrogram::ChannelChoice;
use crate::supervise::RuleProblems;

/// Files that are named for a class's false alarms.
const FILES_SHOWN: usize = 5;

#[derive(Args)]
pub struct Stream {
    #[command(flatten)]
    soundscapes: SoundscapeArgs,
    /// Annotated recordings: a CSV (file,start,end,label); a file alone holds none of the classes
    #[arg(long, value_name = "CSV")]
    truth: Option<PathBuf>,
    /// Folder that the annotated recordings are in; default: the CSV's own
    #[arg(value_name = "RECORDINGS", requires = "truth")]
    recordings: Option<PathBuf>,
    /// A model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Classes to look for (comma-separated); default: those that the model recommends
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    classes: Vec<String>,
    /// Seconds from one window to the next, 0.1 to 5
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS", value_parser = hop)]
    hop: f32,
    /// Write the soundscapes, and what sounds in them, to this folder
    #[arg(long, value_name = "DIR", requires = "clips")]
    save_soundscapes: Option<PathBuf>,
    /// Overwrite soundscapes that exist
    #[arg(long, requires = "save_soundscapes")]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// All that was measured.
#[derive(Serialize)]
struct Measured {
    model: String,
    hop_s: f32,
    /// Soundscapes, recordings and backgrounds, as far as there were any.
    parts: Vec<Part>,
}

/// One table.
#[derive(Serialize)]
struct Part {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snr_db: Option<f32>,
    hours: f64,
    classes: Vec<Row>,
}

/// What was measured of one class.
#[derive(Serialize)]
struct Row {
    class: String,
    events: usize,
    found: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
    f1: Option<f64>,
    false_alarms: usize,
    hours_without: f64,
    false_alarms_per_hour: Option<f64>,
    latency_median_s: Option<f64>,
    latency_p95_s: Option<f64>,
    /// Where the false alarms were, most first.
    false_alarms_in: Vec<(String, usize)>,
}

impl Stream {
    pub fn run(self) -> anyhow::Result<Outcome> {
        if !self.soundscapes.given() && self.truth.is_none() {
            let what = "nothing to hear: give --clips and --background, --background, or --truth";
            return Err(Usage(what.to_owned()).into());
        }
        let model = SoundModel::load(self.model.as_deref())?;
        let settings =
            DetectionSettings { classes: self.classes.clone(), ..DetectionSettings::default() };
        let rules = model.rules(&settings).map_err(RuleProblems)?;
        let targets = reported(&rules);
        let plan = Plan { model, rules, hop_s: self.hop, channel: ChannelChoice::Mix };
        let save = self.save_soundscapes.as_deref();
        if let Some(folder) = save {
            let folder_name = folder.display();
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{folder_name} can't be made"))?;
        }
        let save = save.map(|folder| Save { folder, force: self.force });
        let mut heard = self.soundscapes.hear(&plan, &targets, save.as_ref())?;
        if let Some(table) = &self.truth {
            heard.recordings = self.recordings(table, &plan)?;
        }
        let measured = Measured::new(&plan, &targets, &heard);
        let text = match self.json {
            true => serde_json::to_string_pretty(&measured)?,
            false => measured.table(),
        };
        output::write_line(&text)?;
        Ok(Outcome::Done)
    }

    fn recordings(&self, table: &Path, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
        let classes = &plan.model.metadata.outputs;
        let annotated = annotations::read(table, self.recordings.as_deref(), classes)?;
        let annotated: Vec<_> = annotated.into_iter().collect();
        in_parallel(
            self.soundscapes.jobs,
            annotated.len(),
            || Ok(plan.model.judge()?),
            |index, judge| {
                let Some((path, recording)) = annotated.get(index).cloned() else {
                    anyhow::bail!("no recording")
                };
                let (trial, incomplete) = hear_whole(plan, &path, judge)?;
                if let Some(error) = incomplete {
                    output::complain(&format!("{error} (what came before was heard)"));
                }
                Ok(Trial { truth: recording.events, unknown: recording.unknown, ..trial })
            },
        )
    }
}

impl Measured {
    fn new(plan: &Plan, targets: &[usize], heard: &Heard) -> Self {
        let part = |name: &str, snr_db, trials: &[Trial]| {
            (!trials.is_empty()).then(|| Part::new(name, snr_db, plan, targets, trials))
        };
        let scenes = heard.scenes.iter();
        let mut parts: Vec<Part> = scenes
            .filter_map(|(snr_db, trials)| part("soundscapes", Some(*snr_db), trials))
            .collect();
        parts.extend(part("recordings", None, &heard.recordings));
        parts.extend(part("backgrounds", None, &heard.backgrounds));
        Self { model: plan.model.digest.to_string(), hop_s: plan.hop_s, parts }
    }

    fn table(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(Part::table).collect();
        parts.join("\n\n")
    }
}

impl Part {
    fn new(
        name: &str,
        snr_db: Option<f32>,
        plan: &Plan,
        targets: &[usize],
        trials: &[Trial],
    ) -> Self {
        let reports: Vec<_> =
            trials.iter().map(|trial| trial.listened.reports(plan.rules.clone())).collect();
        let row = |&class: &usize| {
            let (mut all, mut places) = (Tally::default(), Vec::new());
            for (trial, reports) in trials.iter().zip(&reports) {
                let mut own = Tally::default();
                trial.count(class, reports, &mut own);
                if own.false_alarms > 0 {
                    places.push((trial.name.clone(), own.false_alarms));
                }
                all.join(&own);
            }
            places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let name = plan.model.classes.get(class).map_or("", |class| class);
            Row::new(name.to_owned(), &all, places)
        };
        let seconds: f64 = trials.iter().map(|trial| trial.listened.duration_s).sum();
        Self {
            name: name.to_owned(),
            snr_db,
            hours: seconds / 3_600.0,
            classes: targets.iter().map(row).collect(),
        }
    }

    fn table(&self) -> String {
        let at = self.snr_db.map_or(String::new(), |snr_db| format!(" at {snr_db} dB"));
        let mut lines = vec![format!("{}{at}, {:.2} h", self.name, self.hours)];
        let has_events = self.classes.iter().any(|row| row.events > 0);
        let width = self.classes.iter().map(|row| row.class.len()).max().unwrap_or(0).max(5);
        let head = if has_events {
            "events  found  precision  recall    F1  false/h  median s  p95 s"
        } else {
            "hours  false  false/h"
        };
        lines.push(format!("  {:width$}  {head}", "class"));
        for row in &self.classes {
            lines.push(format!("  {:width$}  {}", row.class, row.columns(has_events)));
        }
        if !has_events {
            lines.extend(self.classes.iter().filter_map(Row::places));
        }
        lines.join("\n")
    }
}

impl Row {
    fn new(class: String, tally: &Tally, false_alarms_in: Vec<(String, usize)>) -> Self {
        Self {
            class,
            events: tally.events,
            found: tally.found_share(),
            precision: tally.precision(),
            recall: tally.recall(),
            f1: tally.f1(),
            false_alarms: tally.false_alarms,
            hours_without: tally.quiet_s / 3_600.0,
            false_alarms_per_hour: tally.false_alarms_per_hour(),
            latency_median_s: tally.latency_s(0.5),
            latency_p95_s: tally.latency_s(0.95),
            false_alarms_in,
        }
    }

    fn columns(&self, has_events: bool) -> String {
        let number = |value: Option<f64>, width: usize, digits: usize| match value {
            Some(value) => format!("{value:width$.digits$}"),
            None => format!("{:>width$}", "-"),
        };
        let per_hour = number(self.false_alarms_per_hour, 7, 2);
        if !has_events {
            return format!("{:5.2}  {:5}  {per_hour}", self.hours_without, self.false_alarms);
        }
        let found = self.found.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        format!(
            "{:6}  {found:>5}  {}  {}  {}  {per_hour}  {}  {}",
            self.events,
            number(self.precision, 9, 2),
            number(self.recall, 6, 2),
            number(self.f1, 4, 2),
            number(self.latency_median_s, 8, 2),
            number(self.latency_p95_s, 5, 2),
        )
    }

    /// A line that says where the false alarms were.
    fn places(&self) -> Option<String> {
        let shown: Vec<String> = self
            .false_alarms_in
            .iter()
            .take(FILES_SHOWN)
            .map(|(name, count)| format!("{name} ({count})"))
            .collect();
        let more = self.false_alarms_in.len().saturating_sub(FILES_SHOWN);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        (!shown.is_empty()).then(|| format!("  {} in {}{more}", self.class, shown.join(", ")))
    }
}
