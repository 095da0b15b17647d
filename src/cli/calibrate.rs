//! `hearken calibrate`: a model's scores and rules fitted to soundscapes, into a new model file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::classify::hop;
use super::folds::check_alike;
use super::hear_file::Plan;
use super::parallel::in_parallel;
use super::soundscapes::{SoundscapeArgs, reported};
use super::{Outcome, Usage, output};
use crate::decide::{Defaults, DetectionSettings};
use crate::evaluate::Trial;
use crate::evaluate::calibrate::{Choice, Limits, choose};
use crate::evaluate::scores::{Scaling, fit, labelled, scaled};
use crate::hear::{SoundModel, read_model_file};
use crate::network::metrics::{Bin, reliability};
use crate::network::{Headless, Metadata, wrap};
use crate::spectrogram::ChannelChoice;
use crate::supervise::RuleProblems;

#[derive(Args)]
pub struct Calibrate {
    /// The model file to start from
    model: PathBuf,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite it if it exists
    #[arg(long)]
    force: bool,
    /// Take scores and rules as this model has them, which was calibrated and is of the same kind,
    /// instead of measuring
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["clips", "background", "classes"])]
    like: Option<PathBuf>,
    #[command(flatten)]
    soundscapes: SoundscapeArgs,
    /// Classes to calibrate, which become the reported ones; default: those that the model
    /// recommends (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    classes: Vec<String>,
    /// Seconds from one window to the next, 0.1 to 5: the rules are made for this
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS", value_parser = hop)]
    hop: f32,
    /// False alarms an hour that a class may give on backgrounds without it; a single one is forgiven
    #[arg(long, default_value_t = 0.5, value_name = "N")]
    false_alarms_max: f64,
    /// Median seconds from a sound's onset to its report at most
    #[arg(long, default_value_t = 1.5, value_name = "SECONDS")]
    latency_max: f64,
}

/// All trials, with the scores as they will be.
struct Bench {
    scaling: Scaling,
    scenes: Vec<Trial>,
    backgrounds: Vec<Trial>,
}

impl Calibrate {
    pub fn run(self) -> anyhow::Result<Outcome> {
        if self.like.is_none() && !self.soundscapes.has_clips() {
            let what = "give --clips and --background to calibrate by, or --like";
            return Err(Usage(what.to_owned()).into());
        }
        output::check_free(&self.out, self.force)?;
        let bytes = read_model_file(&self.model)?;
        let model = SoundModel::from_bytes(&bytes, &self.model.display().to_string())?;
        if let Some(like) = &self.like {
            return self.copy(&bytes, &model, like);
        }
        let settings =
            DetectionSettings { classes: self.classes.clone(), ..DetectionSettings::default() };
        let rules = model.rules(&settings).map_err(RuleProblems)?;
        let plan = Plan { model, rules, hop_s: self.hop, channel: ChannelChoice::Mix };
        let targets = reported(&plan.rules);
        let bench = self.bench(&plan, &targets)?;
        let limits =
            Limits { false_alarms_per_hour: self.false_alarms_max, latency_s: self.latency_max };
        let choices = in_parallel(
            self.soundscapes.jobs,
            targets.len(),
            || Ok(()),
            |index, ()| {
                let Some(&class) = targets.get(index) else { anyhow::bail!("no such class") };
                let choice = choose(class, &plan.rules, &bench.scenes, &bench.backgrounds, &limits);
                Ok((class, choice.filter(|choice| choice.scenes.events > 0)))
            },
        )?;
        let choices: Vec<(usize, Choice)> =
            choices.into_iter().filter_map(|(class, choice)| Some((class, choice?))).collect();
        let metadata = self.metadata(&plan, &bench, &choices)?;
        self.write(&bytes, &bench.scaling, &metadata)?;
        output::write_line(&table(&plan, &choices, &limits))?;
        for &class in targets.iter().filter(|&&class| choices.iter().all(|(c, _)| *c != class)) {
            let name = plan.model.classes.get(class).map_or("", |class| class);
            output::write_line(&format!(
                "{name}: no clip of it was laid, so its rule stays as it was"
            ))?;
        }
        Ok(Outcome::Done)
    }

    /// With the scaling and the rules of another model.
    fn copy(&self, bytes: &[u8], model: &SoundModel, like: &Path) -> anyhow::Result<Outcome> {
        let other = SoundModel::load(Some(like))?;
        check_alike(model, &other).with_context(|| format!("--like {}", like.display()))?;
        let card = other.metadata.card.get("calibration").cloned();
        let Some((card, scaling)) = card.zip(Scaling::of(&other.metadata)) else {
            let like = like.display();
            return Err(Usage(format!("--like {like}: its card holds no calibration")).into());
        };
        if Scaling::of(&model.metadata).is_some() {
            let model = self.model.display();
            return Err(Usage(format!(
                "{model} is calibrated already, and --like is for one that isn't"
            ))
            .into());
        }
        let mut metadata = Metadata::clone(&model.metadata);
        metadata.decision = other.metadata.decision.clone();
        put_into_card(&mut metadata, card);
        self.write(bytes, &scaling, &metadata)?;
        output::write_line(&format!(
            "{} is calibrated like {}",
            self.out.display(),
            like.display()
        ))?;
        Ok(Outcome::Done)
    }

    fn write(&self, bytes: &[u8], scaling: &Scaling, metadata: &Metadata) -> anyhow::Result<()> {
        let name = self.model.display();
        let onnx = Headless::from_onnx(bytes)
            .and_then(|network| network.scale_outputs(&scaling.scale, &scaling.shift))
            .with_context(|| format!("the scores of {name} can't be scaled"))?;
        let calibrated = wrap(&onnx, metadata).with_context(|| name.to_string())?;
        SoundModel::from_bytes(&calibrated, &self.out.display().to_string())?;
        output::write_file(&self.out, &calibrated, self.force)
    }

    fn bench(&self, plan: &Plan, targets: &[usize]) -> anyhow::Result<Bench> {
        let heard = self.soundscapes.hear(plan, targets, None)?;
        let scenes: Vec<Trial> = heard.scenes.into_iter().flat_map(|(_, trials)| trials).collect();
        let activation = plan.model.metadata.activation;
        let all: Vec<Trial> = scenes.iter().chain(&heard.backgrounds).cloned().collect();
        let scaling = fit(activation, &all, targets, plan.model.classes.len());
        Ok(Bench {
            scenes: scaled(&scenes, &scaling, activation),
            backgrounds: scaled(&heard.backgrounds, &scaling, activation),
            scaling,
        })
    }

    /// The model's metadata with the new rules, and in the card what they were chosen by.
    fn metadata(
        &self,
        plan: &Plan,
        bench: &Bench,
        choices: &[(usize, Choice)],
    ) -> anyhow::Result<Metadata> {
        let mut metadata = Metadata::clone(&plan.model.metadata);
        let mut defaults: Defaults = serde_json::from_value(metadata.decision)?;
        if !self.classes.is_empty() {
            defaults.recommended.clone_from(&self.classes);
        }
        let name = |class: usize| plan.model.classes.get(class).map_or("", |class| class);
        let chosen = choices.iter();
        let chosen = chosen.map(|(class, choice)| (name(*class).to_owned(), choice.rule.clone()));
        defaults.classes.extend(chosen);
        metadata.decision = serde_json::to_value(&defaults)?;
        let classes: Vec<usize> = choices.iter().map(|(class, _)| *class).collect();
        let all: Vec<Trial> = bench.scenes.iter().chain(&bench.backgrounds).cloned().collect();
        let samples = classes.iter().flat_map(|&class| labelled(&all, class));
        let reliability = reliability(samples, 10);
        let row = |bin: &Bin| {
            let (score, share) = (rounded(bin.score), rounded(bin.frequency));
            json!({ "windows": bin.count, "score": score, "share": share })
        };
        let hours = |trials: &[Trial]| {
            let seconds: f64 = trials.iter().map(|trial| trial.listened.duration_s).sum();
            rounded(seconds / 3_600.0)
        };
        let by_class: BTreeMap<&str, Value> =
            choices.iter().map(|(class, choice)| (name(*class), figures(choice))).collect();
        let card = json!({
            "hop_s": self.hop,
            "scaling": Scaling::of(&metadata).map_or(bench.scaling.clone(), |before| before.then(&bench.scaling)),
            "soundscape_hours": hours(&bench.scenes),
            "background_hours": hours(&bench.backgrounds),
            "calibration_error": rounded(reliability.error),
            "reliability": reliability.bins.iter().map(row).collect::<Vec<_>>(),
            "classes": by_class,
        });
        put_into_card(&mut metadata, card);
        Ok(metadata)
    }
}

fn put_into_card(metadata: &mut Metadata, calibration: Value) {
    if let Value::Object(fields) = &mut metadata.card {
        fields.insert("calibration".to_owned(), calibration);
    }
}

fn figures(choice: &Choice) -> Value {
    let Choice { scenes, backgrounds, .. } = choice;
    json!({
        "events": scenes.events,
        "found": scenes.found_share().map(rounded),
        "f1": scenes.f1().map(rounded),
        "latency_median_s": scenes.latency_s(0.5).map(rounded),
        "false_alarms_between_sounds": scenes.false_alarms,
        "false_alarms_on_backgrounds": backgrounds.false_alarms,
    })
}

/// To thousandths: more digits would promise more.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn table(plan: &Plan, choices: &[(usize, Choice)], limits: &Limits) -> String {
    let name = |class: usize| plan.model.classes.get(class).map_or("", |class| class);
    let width = choices.iter().map(|(class, _)| name(*class).len()).max().unwrap_or(0).max(5);
    let head = "on    off   hits  at once  min s  evidence s  found  false/h  median s";
    let mut lines = vec![format!("{:width$}  {head}", "class")];
    for (class, choice) in choices {
        let rule = &choice.rule;
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let found = choice.scenes.found_share().unwrap_or_default() * 100.0;
        lines.push(format!(
            "{:width$}  {:.2}  {:.2}  {}/{}   {:>7}  {:5.1}  {:10.2}  {found:3.0} %  {:>7}  {:>8}{}",
            name(*class),
            rule.on,
            rule.off,
            rule.hits,
            rule.of,
            number((rule.at_once < 1.0).then(|| rule.at_once.into())),
            rule.min_duration_s,
            rule.evidence_s,
            number(choice.backgrounds.false_alarms_per_hour()),
            number(choice.scenes.latency_s(0.5)),
            if choice.keeps(limits) { "" } else { "  (over a limit)" },
        ));
    }
    lines.join("\n")
}
