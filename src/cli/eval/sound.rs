//! `hearken eval sound`: labelled clips through the path of `classify`, and what came of them
//! against their labels.

mod degraded;
mod figures;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;

use self::degraded::Degradation;
use self::figures::{Comparison, Figures, Folds, Scored};
use self::report::Report;
use crate::chart::ConfusionChart;
use crate::cli::classify::hop;
use crate::cli::folds::{FoldModels, check_alike};
use crate::cli::hear_file::{Plan, mean};
use crate::cli::parallel::in_parallel;
use crate::cli::{Outcome, Usage, output};
use crate::data::{Clip, Dataset, ScoreTable, load};
use crate::decide::DetectionSettings;
use crate::evaluate::Listener;
use crate::hear::{Judge, SoundModel};
use crate::picture::encode_rgb;
use crate::spectrogram::{ChannelChoice, InputFormat};
use crate::supervise::RuleProblems;

#[derive(Args)]
pub struct Sound {
    /// Labelled clips: a CSV (file,label[,fold][,start,end]) or a folder for each class
    data: PathBuf,
    /// Folder that the CSV's files are relative to; default: its own
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Score clips of these folds only (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "N")]
    folds: Vec<u32>,
    /// A model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Cross-validation: a model file for each fold, named with {fold}, such as cv/fold{fold}.onnx
    #[arg(long, value_name = "PATTERN", conflicts_with = "model")]
    models: Option<FoldModels>,
    /// Seconds from one window to the next, 0.1 to 5
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = hop)]
    hop: f32,
    /// Hear the first channel instead of the mean of all
    #[arg(long)]
    first_channel: bool,
    /// Let the model choose among the classes of these clips only
    #[arg(long)]
    only_data_classes: bool,
    #[command(flatten)]
    degradation: Degradation,
    /// Another system's scores, to compare with: a CSV (file, then a column for each class)
    #[arg(long, value_name = "CSV")]
    against: Option<PathBuf>,
    /// Draw the confusion matrix into this PNG
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,
    /// Write the scores to this CSV, in the form that --against reads
    #[arg(long, value_name = "FILE")]
    save_scores: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Clips heard at the same time; default: one a processor
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

/// A model and the clips that it scores.
struct Part {
    plan: Plan,
    clips: Vec<Numbered>,
}

/// A clip with its place in the data, by which its degradation is drawn.
type Numbered = (usize, Clip);

impl Sound {
    pub fn run(self) -> anyhow::Result<Outcome> {
        for path in [&self.confusion, &self.save_scores].into_iter().flatten() {
            output::check_free(path, self.force)?;
        }
        let mut dataset = Dataset::read(&self.data, self.root.as_deref())?;
        let against = self.against.as_deref().map(ScoreTable::read).transpose()?;
        let parts = self.parts(&mut dataset)?;
        let Some(first) = parts.first() else { return Ok(Outcome::Done) };
        let known = first.plan.model.metadata.outputs.clone();
        let choice = self.choice(&dataset, &known)?;
        let digests: Vec<String> =
            parts.iter().map(|part| part.plan.model.digest.to_string()).collect();
        let mut scored = Vec::new();
        let mut outcome = Outcome::Done;
        for part in &parts {
            for ((_, clip), scores) in part.clips.iter().zip(self.hear(part)?) {
                match scores {
                    Ok(scores) => scored.push(choice.scored(clip, &scores)),
                    Err(error) => {
                        output::complain(&format!("{error:#}"));
                        outcome = Outcome::SomeFailed;
                    }
                }
            }
        }
        ensure!(!scored.is_empty(), "none of the clips could be heard");
        if let Some(path) = &self.save_scores {
            let rows: Vec<(&Clip, &[f32])> =
                scored.iter().map(|one| (one.clip, one.scores.as_slice())).collect();
            output::write_file(path, &ScoreTable::to_csv(&choice.classes, &rows), self.force)?;
        }
        let against = against.zip(self.against.as_deref());
        let comparison = against
            .map(|(table, path)| Comparison::new(&choice.classes, &scored, &table, path))
            .transpose()?;
        let report = Report {
            models: digests,
            figures: Figures::new(&choice.classes, &scored),
            folds: Folds::new(&scored),
            against: comparison,
        };
        if let Some(path) = &self.confusion {
            output::write_file(path, &self.picture(&report, &choice.classes)?, self.force)?;
        }
        let text = if self.json { report.json()? } else { report.table() };
        output::write_line(&text)?;
        Ok(outcome)
    }

    /// Which model scores which clips. Takes the clips out of the data.
    fn parts(&self, dataset: &mut Dataset) -> anyhow::Result<Vec<Part>> {
        let usage = |what: String| Err(Usage(what).into());
        let shown = self.data.display();
        let wanted = |clip: &Clip| {
            self.folds.is_empty() || clip.fold.is_some_and(|fold| self.folds.contains(&fold))
        };
        let clips: Vec<Numbered> = std::mem::take(&mut dataset.clips)
            .into_iter()
            .enumerate()
            .filter(|(_, clip)| wanted(clip))
            .collect();
        if clips.is_empty() {
            return usage(format!("{shown} has no clip of these folds"));
        }
        let Some(models) = &self.models else {
            let plan = self.plan(self.model.as_deref())?;
            return Ok(vec![Part { plan, clips }]);
        };
        let mut by_fold: BTreeMap<u32, Vec<Numbered>> = BTreeMap::new();
        for (number, clip) in clips {
            let Some(fold) = clip.fold else {
                let clip = clip.path.display();
                return usage(format!("{shown}: {clip} has no fold, which --models asks for"));
            };
            by_fold.entry(fold).or_default().push((number, clip));
        }
        let mut parts: Vec<Part> = Vec::new();
        for (fold, clips) in by_fold {
            let plan = self.plan(Some(&models.path(fold)))?;
            if let Some(first) = parts.first() {
                check_alike(&first.plan.model, &plan.model)
                    .with_context(|| format!("--models, fold {fold}"))?;
            }
            parts.push(Part { plan, clips });
        }
        Ok(parts)
    }

    fn plan(&self, model: Option<&Path>) -> anyhow::Result<Plan> {
        let model = SoundModel::load(model)?;
        let rules = model.rules(&DetectionSettings::default()).map_err(RuleProblems)?;
        let channel = if self.first_channel { ChannelChoice::First } else { ChannelChoice::Mix };
        Ok(Plan { model, rules, hop_s: self.hop, channel })
    }

    /// The model's classes that are looked at.
    fn choice(&self, dataset: &Dataset, known: &[String]) -> Result<Choice, Usage> {
        let place = |name: &String| known.iter().position(|class| class == name);
        let unknown: Vec<&str> = dataset
            .classes
            .iter()
            .filter(|name| place(name).is_none())
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            let (data, unknown) = (self.data.display(), unknown.join(", "));
            return Err(Usage(format!(
                "the model does not know these classes of {data}: {unknown} (see `hearken model show`)"
            )));
        }
        let of_data: Vec<usize> = dataset.classes.iter().filter_map(place).collect();
        let mut columns: Vec<usize> = (0..known.len()).collect();
        if self.only_data_classes {
            columns.retain(|column| of_data.contains(column));
        }
        let classes = columns.iter().filter_map(|&column| known.get(column).cloned()).collect();
        let column_of = |index: &usize| columns.iter().position(|column| column == index);
        let labels = of_data.iter().filter_map(column_of).collect();
        Ok(Choice { classes, columns, labels })
    }

    /// The scores of a part's clips, in their order.
    fn hear(&self, part: &Part) -> anyhow::Result<Vec<anyhow::Result<Vec<f32>>>> {
        let degrader = self.degradation.prepare()?;
        in_parallel(
            self.jobs,
            part.clips.len(),
            || Ok(part.plan.model.judge()?),
            |index, judge| {
                let (number, clip) = part.clips.get(index).context("no such clip")?;
                let mut change = |samples: &mut Vec<f32>, rate_hz| {
                    degrader.apply(*number, samples, rate_hz, part.plan.channel)
                };
                Ok(hear_clip(&part.plan, clip, judge, &mut change))
            },
        )
    }

    fn picture(&self, report: &Report, classes: &[String]) -> anyhow::Result<Vec<u8>> {
        let confusion = &report.figures.confusion;
        let chart = ConfusionChart {
            title: &self.data.display().to_string(),
            subtitle: &report.summary(),
            classes,
            count: |truth, named| confusion.count(truth, named),
        };
        let picture = chart.draw().map_err(anyhow::Error::msg).context("the confusion matrix")?;
        Ok(encode_rgb(picture.width, picture.height, &picture.rgb)?)
    }
}

/// The same steps as `classify` takes, with the samples changed on the way.
fn hear_clip(
    plan: &Plan,
    clip: &Clip,
    judge: &mut Judge,
    change: &mut dyn FnMut(&mut Vec<f32>, u32) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<f32>> {
    let sample_rate_hz = plan.model.recipe.sample_rate_hz;
    let mut samples = load(&clip.path, clip.span_s, sample_rate_hz, plan.channel)?;
    change(&mut samples, sample_rate_hz)?;
    let format = InputFormat { sample_rate_hz, channels: 1, choice: ChannelChoice::Mix };
    let mut listener = Listener::new(&plan.model, judge, format, plan.hop_s)?;
    listener.push(&samples);
    let listened = listener.finish().with_context(|| clip.path.display().to_string())?;
    ensure!(!listened.windows.is_empty(), "{}: there is no sound in it", clip.path.display());
    Ok(mean(&listened.windows))
}

/// Classes among which the model chooses.
struct Choice {
    classes: Vec<String>,
    /// The model's output of each.
    columns: Vec<usize>,
    /// For each class of the data its place in `classes`.
    labels: Vec<usize>,
}

impl Choice {
    fn scored<'a>(&self, clip: &'a Clip, scores: &[f32]) -> Scored<'a> {
        let label = |label: &usize| self.labels.get(*label).copied();
        Scored {
            clip,
            labels: clip.labels.iter().filter_map(label).collect(),
            maybe: clip.maybe.iter().filter_map(label).collect(),
            scores: self.columns.iter().filter_map(|&c| scores.get(c).copied()).collect(),
        }
    }
}
