//! `hearken classify`: what is heard in files.

mod collect;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::bail;
use clap::Args;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use self::report::{Format, Reporter};
use super::hear_file::{HearError, Plan, Verdict};
use super::{Outcome, Usage, output};
use crate::decide::DetectionSettings;
use crate::hear::SoundModel;
use crate::spectrogram::ChannelChoice;
use crate::supervise::RuleProblems;

#[derive(Args)]
pub struct Classify {
    /// Audio files (WAV, FLAC, MP3, Ogg Vorbis, AIFF), folders of them, or 227x227 PNGs
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// One line of JSON a file; the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// A model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Seconds from one window to the next, 0.1 to 5
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = hop)]
    hop: f32,
    /// Report events of these classes only (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    classes: Vec<String>,
    /// One knob for all thresholds, 0 (few events) to 1 (many)
    #[arg(long, default_value_t = 0.5, value_parser = sensitivity)]
    sensitivity: f32,
    /// Hear the first channel instead of the mean of all
    #[arg(long)]
    first_channel: bool,
    /// Files heard at the same time; default: one a processor
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Folder for Audacity label files, one a recording
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Overwrite label files that exist
    #[arg(long)]
    force: bool,
}

/// A file and what came of it, with its place in the list.
type Heard = (usize, Result<Verdict, HearError>);

impl Classify {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let format = if self.json { Format::Json } else { self.format };
        let (files, mut outcome) = collect::files(&self.paths);
        self.check_labels(format, &files)?;
        let plan = self.plan()?;
        let mut reporter =
            Reporter::new(format, plan.model.clone(), self.out_dir.clone(), self.force)?;
        let progress = output::progress(files.len());
        let files: Arc<[PathBuf]> = files.into();
        let jobs = self
            .jobs
            .map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
        let results = start(&plan, &files, jobs)?;
        // Files end in any order and are reported in theirs.
        let mut waiting = std::collections::BTreeMap::new();
        let mut next = 0;
        for (index, result) in results {
            progress.inc(1);
            waiting.insert(index, result);
            while let Some(result) = waiting.remove(&next) {
                let Some(path) = files.get(next) else { break };
                next += 1;
                let reported = progress.suspend(|| match result {
                    Ok(verdict) => reporter.report(path, &verdict),
                    Err(error) => {
                        output::complain(&error.to_string());
                        Ok(Outcome::SomeFailed)
                    }
                })?;
                if reported == Outcome::SomeFailed {
                    outcome = Outcome::SomeFailed;
                }
            }
        }
        progress.finish_and_clear();
        if next < files.len() {
            bail!(
                "{} of {} files were not heard: a worker ended early",
                files.len() - next,
                files.len()
            );
        }
        Ok(outcome)
    }

    /// Label files have one folder for all, and names of their own in it.
    fn check_labels(&self, format: Format, files: &[PathBuf]) -> Result<(), Usage> {
        let wrong = |what: String| Err(Usage(what));
        if format != Format::Audacity {
            return match self.out_dir.is_some() || self.force {
                true => wrong("--out-dir and --force are for --format audacity".to_owned()),
                false => Ok(()),
            };
        }
        if self.out_dir.is_none() && files.len() > 1 {
            return wrong(format!("label files for {} recordings need --out-dir", files.len()));
        }
        let mut names = std::collections::BTreeMap::new();
        for file in files {
            if let Some(other) = names.insert(file.file_name(), file) {
                let (file, other) = (file.display(), other.display());
                return wrong(format!("{other} and {file} would share one label file"));
            }
        }
        Ok(())
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let model = SoundModel::load(self.model.as_deref())?;
        let classes = if self.classes.is_empty() {
            model.metadata.outputs.clone()
        } else {
            self.classes.clone()
        };
        let settings = DetectionSettings {
            sensitivity: self.sensitivity,
            classes,
            ..DetectionSettings::default()
        };
        let rules = model.rules(&settings).map_err(RuleProblems)?;
        let channel = if self.first_channel { ChannelChoice::First } else { ChannelChoice::Mix };
        Ok(Plan { model, rules, hop_s: self.hop, channel })
    }
}

/// Starts the workers; the results come as they are ready.
fn start(plan: &Plan, files: &Arc<[PathBuf]>, jobs: usize) -> anyhow::Result<Receiver<Heard>> {
    let (work_in, work) = unbounded();
    (0..files.len()).try_for_each(|index| work_in.send(index))?;
    drop(work_in);
    let (results_in, results) = bounded(jobs * 4);
    for _ in 0..jobs.min(files.len()) {
        let (plan, files) = (plan.clone(), Arc::clone(files));
        let (work, results_in): (Receiver<usize>, Sender<Heard>) =
            (work.clone(), results_in.clone());
        let mut judge = plan.model.judge()?;
        thread::Builder::new().name("hear".to_owned()).spawn(move || {
            for index in work {
                let Some(path) = files.get(index) else { return };
                if results_in.send((index, plan.hear(path, &mut judge))).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(results)
}

pub(super) fn hop(text: &str) -> Result<f32, String> {
    in_range(text, 0.1, 5.0)
}

fn sensitivity(text: &str) -> Result<f32, String> {
    in_range(text, 0.0, 1.0)
}

pub(super) fn decibels(text: &str) -> Result<f32, String> {
    in_range(text, -120.0, 120.0)
}

pub(super) fn in_range(text: &str, least: f32, most: f32) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("allowed is a number from {least} to {most}")),
    }
}
