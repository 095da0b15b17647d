//! A whole network, all layers of it: from a model, from starting weights, or from nothing.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::fitting::{Kept, command_line, fit_shown};
use super::material::Material;
use super::report::png;
use super::sound::{ArchitectureName, MixedName, Purpose, Scores, Sound};
use crate::chart::{ConfusionChart, CurveChart, Series};
use crate::cli::{Outcome, Usage, output};
use crate::decide::Defaults;
use crate::hear::{SoundModel, read_model_file};
use crate::network::metrics::Confusion;
use crate::network::{Activation, Headless, Layers, Metadata, wrap};
use crate::spectrogram::Recipe;
use crate::train::architecture::Architecture;
use crate::train::augment::{Augmentation, Mixed};
use crate::train::examples::Examples;
use crate::train::fit::{Epoch, FitSettings, Fitted, Loss, Score, outputs};
use crate::train::remember::remember;
use crate::train::sounds::{Labelled, SoundExamples, SoundSet};
use crate::train::{head, split, starting};

/// Of the clips that say nothing about it, one in so many is held back.
const HELD_BACK_ONE_IN: usize = 5;
/// Images that the network is shown at a time once it has learnt.
const JUDGED_AT_ONCE: usize = 16;

/// The network before it learns.
struct Start {
    layers: Layers,
    /// What it came from, for the card.
    from: Value,
    /// Weights that begin anew.
    fresh: Vec<String>,
}

/// Learns and writes the model and the pictures.
pub fn run(order: &Sound) -> anyhow::Result<Outcome> {
    let plain = SoundModel::load(None)?;
    let (from, recipe) = origin(order, &plain)?;
    let scores = order.scores.unwrap_or(from.scores());
    let augmentation = augmentation(order, scores)?;
    let material = order.material.load(&recipe)?;
    let start = start(order, &recipe, from, &material.classes)?;
    let held = held_back(order, &material);
    let heard_in_training = without(&material.set, &held);
    let sides = |wanted: bool| labelled(&material, &held, wanted);
    let training =
        SoundExamples::training(heard_in_training, sides(false), augmentation, order.seed);
    let validation = SoundExamples::validation(material.set.clone(), sides(true));
    let settings = settings(order, scores, start.fresh);
    let keeping = Kept { folder: order.checkpoint.as_deref(), resume: order.resume };
    let told = |score: Score| format!("accuracy {:.2} %", 100.0 * score.quality);
    let examples = (&training as &dyn Examples, &validation as &dyn Examples);
    let fitted = fit_shown(start.layers, examples, &settings, keeping, order.force, told)?;
    let confusion = confusion(&fitted.layers, &validation, scores.activation())?;
    let card = card(order, &start.from, &material, &settings, &fitted, &confusion);
    let model = assemble(order, &recipe, &plain, &material, &fitted, scores, card)?;
    let model = remembering(order, &model, &material, &sides(false))?;
    output::write_file(&order.out, &model, order.force)?;
    let curve = curve(&order.card_name(), &fitted)?;
    output::write_file(&order.curve_path(), &curve, order.force)?;
    if let Some(accuracy) = confusion.accuracy() {
        let chart = ConfusionChart {
            title: &format!("{}: what was taken for what", order.card_name()),
            subtitle: "clips that were held back",
            classes: &material.classes,
            count: |truth, named| confusion.count(truth, named),
        };
        let picture = chart.draw().map_err(anyhow::Error::msg)?;
        output::write_file(&order.confusion_path(), &png(&picture)?, order.force)?;
        let accuracy = 100.0 * accuracy;
        output::write_line(&format!("accuracy {accuracy:.2} % of the clips that were held back"))?;
    }
    output::write_line(&format!("{} has {} classes", order.out.display(), material.classes.len()))?;
    Ok(Outcome::Done)
}

/// Outputs that share one whole want targets that do, too.
fn augmentation(order: &Sound, scores: Scores) -> anyhow::Result<Augmentation> {
    let mixed = match (order.mixed, scores) {
        (MixedName::Shares, _) => Mixed::Shares,
        (MixedName::Audible, Scores::Sigmoid) => Mixed::Audible,
        (MixedName::Audible, Scores::Softmax) => {
            let what = "--mixed audible: with --scores softmax classes share one whole; it goes \
                        with sigmoid";
            return Err(Usage(what.to_owned()).into());
        }
    };
    let changes =
        if order.from.is_some() { Augmentation::strong() } else { Augmentation::strongest() };
    let changes = match order.purpose {
        Purpose::Streams => changes,
        Purpose::Clips => changes.whole(),
    };
    Ok(Augmentation { mixed, ..changes })
}

/// What the network comes from: a model with its recipe, weights for a plan of layers, or nothing.
enum Origin<'a> {
    Model { path: &'a Path, bytes: Vec<u8>, outputs: Vec<String>, scores: Scores },
    Weights(&'a Path),
    Nothing,
}

impl Origin<'_> {
    /// What its outputs are, as far as it has some.
    fn scores(&self) -> Scores {
        match self {
            Self::Model { scores, .. } => *scores,
            Self::Weights(_) | Self::Nothing => Scores::Sigmoid,
        }
    }
}

fn origin<'a>(order: &'a Sound, plain: &SoundModel) -> anyhow::Result<(Origin<'a>, Recipe)> {
    let Some(path) = &order.from else {
        if order.architecture.is_none() {
            let what = "give --from (a model or starting weights), --architecture (to begin from \
                        nothing), or --head (for a last layer on the model in this program)";
            return Err(Usage(what.to_owned()).into());
        }
        return Ok((Origin::Nothing, recipe(order, plain)?));
    };
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    if ending == "npz" || ending == "safetensors" {
        return Ok((Origin::Weights(path), recipe(order, plain)?));
    }
    if order.architecture.is_some() || order.recipe.is_some() {
        let what = "--architecture and --recipe are for starting weights, or to begin from nothing";
        return Err(Usage(what.to_owned()).into());
    }
    let bytes = read_model_file(path)?;
    let model = SoundModel::from_bytes(&bytes, &path.display().to_string())?;
    let outputs = model.metadata.outputs.clone();
    let scores = Scores::of(model.metadata.activation);
    Ok((Origin::Model { path, bytes, outputs, scores }, model.recipe))
}

/// How sound becomes the image of a new network.
fn recipe(order: &Sound, plain: &SoundModel) -> anyhow::Result<Recipe> {
    let Some(path) = &order.recipe else { return Ok(plain.recipe.clone()) };
    let name = || format!("recipe {}", path.display());
    let text = std::fs::read_to_string(path).with_context(name)?;
    Recipe::parse(&text).with_context(name)
}

fn start(
    order: &Sound,
    recipe: &Recipe,
    origin: Origin<'_>,
    classes: &[String],
) -> anyhow::Result<Start> {
    let name = order.architecture.unwrap_or(ArchitectureName::Mn04);
    let architecture = match name {
        ArchitectureName::Mn04 if recipe.channels == 1 && is_fine(recipe) => Architecture::Mn04Fine,
        ArchitectureName::Mn04 => Architecture::Mn04,
        ArchitectureName::Mn04Strided if recipe.channels > 1 => {
            let what = "--architecture mn04-strided is for images of one channel; for three, mn04 \
                        has such strides";
            return Err(Usage(what.to_owned()).into());
        }
        ArchitectureName::Mn04Strided => Architecture::Mn04Fine,
        ArchitectureName::Dense => Architecture::Dense,
    };
    let mut layers = architecture.build(recipe.channels, classes.len(), order.seed);
    let (from, before) = match origin {
        Origin::Nothing => return Ok(Start { layers, from: json!(null), fresh: Vec::new() }),
        Origin::Weights(path) => {
            let filled = starting::fill(&mut layers, path, architecture)?;
            let from = json!({
                "weights": path.file_name().map(|name| name.to_string_lossy()),
                "layers_filled": filled.filled.len(), "layers_left": filled.left,
            });
            return Ok(Start { layers, from, fresh: filled.left });
        }
        Origin::Model { path, bytes, outputs: before, .. } => {
            layers =
                Layers::from_onnx(&bytes).with_context(|| format!("model {}", path.display()))?;
            let from = json!({ "model": path.file_name().map(|name| name.to_string_lossy()),
                    "outputs": before.len() });
            (from, before)
        }
    };
    // Classes that it knows go on from what it knows of them.
    let known = |class: &String| before.iter().position(|name| name == class);
    let fresh = match classes == before {
        true => Vec::new(),
        false => {
            let rows: Vec<Option<usize>> = classes.iter().map(known).collect();
            layers.replace_head(&rows, order.seed)?
        }
    };
    Ok(Start { layers, from, fresh })
}

/// Whether columns are nearer to 10 ms apart than to 22.
fn is_fine(recipe: &Recipe) -> bool {
    recipe.hop as f32 <= 0.015 * recipe.sample_rate_hz as f32
}

/// For each clip whether it is held back.
fn held_back(order: &Sound, material: &Material) -> Vec<bool> {
    let told = material.clips.iter().any(|clip| clip.held_back.is_some());
    if told || order.material.all {
        return material.clips.iter().map(|clip| clip.held_back == Some(true)).collect();
    }
    let clips: Vec<(Option<usize>, String)> = material
        .clips
        .iter()
        .map(|clip| (clip.classes.first().copied(), clip.recording.clone()))
        .collect();
    let folds = split::deal(&clips, HELD_BACK_ONE_IN, order.seed);
    folds.into_iter().map(|fold| fold == 0).collect()
}

/// The set without the backgrounds that are held back.
fn without(set: &SoundSet, held: &[bool]) -> SoundSet {
    let is_held = |background: &Labelled| held.get(background.sound).is_some_and(|held| *held);
    let backgrounds = set.backgrounds.iter().filter(|one| !is_held(one)).cloned().collect();
    SoundSet { backgrounds, ..set.clone() }
}

fn labelled(material: &Material, held: &[bool], wanted: bool) -> Vec<Labelled> {
    let clips = material.clips.iter().zip(held).enumerate();
    let chosen = clips.filter(|(_, (_, held))| **held == wanted);
    let labelled = chosen.map(|(sound, (clip, _))| {
        let (classes, maybe) = (clip.classes.clone(), clip.maybe.clone());
        Labelled { sound, classes, maybe }
    });
    labelled.collect()
}

fn settings(order: &Sound, scores: Scores, fresh: Vec<String>) -> FitSettings {
    let defaults = FitSettings::default();
    FitSettings {
        loss: match scores {
            Scores::Sigmoid => Loss::Sigmoid,
            Scores::Softmax => Loss::Softmax,
        },
        epochs: order.epochs.unwrap_or(defaults.epochs),
        crop: order.crop,
        batch: order.batch,
        rate: order.learning_rate.unwrap_or(defaults.rate),
        started_share: order.started_share,
        patience: order.patience,
        seed: order.seed,
        fresh,
        ..defaults
    }
}

/// What the clips that were held back are taken for, by the mean of each clip's windows.
fn confusion(
    layers: &Layers,
    validation: &SoundExamples,
    activation: Activation,
) -> anyhow::Result<Confusion> {
    let classes = validation.outputs();
    let mut confusion = Confusion::new(classes);
    let indices: Vec<usize> = (0..validation.len()).collect();
    let mut clips: std::collections::BTreeMap<usize, (Vec<f32>, Vec<usize>)> = Default::default();
    for indices in indices.chunks(JUDGED_AT_ONCE) {
        let batch = validation.batch(0, indices)?;
        let given = outputs(layers, &batch.images)?;
        let rows = given.chunks(classes).zip(batch.targets.chunks(classes));
        for (&index, (given, targets)) in indices.iter().zip(rows) {
            let Some(sound) = validation.sound_of(index) else { continue };
            let labels = targets.iter().enumerate().filter(|(_, target)| **target == 1.0);
            let labels: Vec<usize> = labels.map(|(class, _)| class).collect();
            let (sums, _) = clips.entry(sound).or_insert((vec![0.0; classes], labels));
            let scores = head::scores(activation, given, &[]);
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
        }
    }
    for (scores, labels) in clips.values().filter(|(_, labels)| !labels.is_empty()) {
        confusion.add(scores, labels);
    }
    Ok(confusion)
}

fn assemble(
    order: &Sound,
    recipe: &Recipe,
    plain: &SoundModel,
    material: &Material,
    fitted: &Fitted,
    scores: Scores,
    card: Value,
) -> anyhow::Result<Vec<u8>> {
    let metadata = Metadata {
        task: "sound".to_owned(),
        recipe: recipe.text(),
        recipe_hash: recipe.hash(),
        outputs: material.classes.clone(),
        activation: scores.activation(),
        decision: serde_json::to_value(decision(plain, &material.classes)?)?,
        card,
    };
    let model = wrap(&fitted.layers.to_onnx()?, &metadata)?;
    SoundModel::from_bytes(&model, &order.out.display().to_string())?;
    Ok(model)
}

/// The usual rule of the model in this program for every class until they are calibrated: those by class
/// were chosen for its own scores. Where there are other classes than its own, all are reported.
fn decision(plain: &SoundModel, classes: &[String]) -> anyhow::Result<Defaults> {
    let mut rules: Defaults = serde_json::from_value(plain.metadata.decision.clone())?;
    if classes.iter().all(|class| plain.metadata.outputs.contains(class)) {
        rules.recommended.retain(|class| classes.contains(class));
    } else {
        rules.recommended = classes.to_vec();
    }
    rules.classes.clear();
    Ok(rules)
}

/// Puts embeddings of what it learnt from into the model, for those who add classes to it.
fn remembering(
    order: &Sound,
    model: &[u8],
    material: &Material,
    clips: &[Labelled],
) -> anyhow::Result<Vec<u8>> {
    let Ok(headless) = Headless::from_onnx(model) else { return Ok(model.to_vec()) };
    let memory = remember(&headless, material.set.clone(), clips, order.seed, &|| ())?;
    Ok(memory.put_into(model)?)
}

fn card(
    order: &Sound,
    from: &Value,
    material: &Material,
    settings: &FitSettings,
    fitted: &Fitted,
    confusion: &Confusion,
) -> Value {
    let negatives = material.clips.iter().filter(|clip| clip.classes.is_empty()).count();
    let architecture = match from.get("model") {
        Some(_) => "that of its origin",
        None => order.architecture.unwrap_or(ArchitectureName::Mn04).text(),
    };
    json!({
        "name": order.card_name(),
        "licence": order.licence,
        "from": from,
        "architecture": architecture,
        "training": {
            "command": command_line(),
            "layers": "all",
            "clips": material.labelled, "negatives": negatives,
            "settings": settings,
            "last_epoch": fitted.history.last(),
        },
        "metrics": { "held_back_accuracy": confusion.accuracy() },
    })
}

fn curve(name: &str, fitted: &Fitted) -> anyhow::Result<Vec<u8>> {
    let of = |value: &dyn Fn(&Epoch) -> f64| fitted.history.iter().map(value).collect::<Vec<_>>();
    let loss = of(&|epoch| epoch.training.loss.into());
    let validation = of(&|epoch| epoch.validation.map_or(f64::NAN, |score| score.loss.into()));
    let accuracy = of(&|epoch| epoch.validation.map_or(f64::NAN, |s| 100.0 * f64::from(s.quality)));
    let best =
        fitted.history.iter().filter_map(|epoch| Some((epoch.validation?.loss, epoch.number)));
    let best = best.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, number)| number as usize);
    let right = [Series { name: "validation accuracy", values: &accuracy }];
    let chart = CurveChart {
        title: &format!("Training of {name}"),
        subtitle: "all layers; loss on changed clips, validation on clips as they are",
        left: (
            "loss",
            &[
                Series { name: "loss", values: &loss },
                Series { name: "validation loss", values: &validation },
            ],
        ),
        right: if best.is_some() { ("accuracy in %", &right) } else { ("", &[]) },
        kept: best,
    };
    if loss.is_empty() {
        bail!("no epoch was trained");
    }
    png(&chart.draw().map_err(anyhow::Error::msg)?)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    /// How clips are changed, as a command line asks for it.
    fn changes(line: &str) -> Augmentation {
        let line = format!("sound data --out m.onnx {line}");
        let command = Sound::augment_args(Command::new("sound"));
        let found = command.try_get_matches_from(line.split_whitespace()).unwrap();
        let order = Sound::from_arg_matches(&found).unwrap();
        augmentation(&order, Scores::Softmax).unwrap()
    }

    #[test]
    fn what_a_network_is_for_and_what_it_knows_decide_how_clips_are_changed() {
        assert_eq!(changes("--architecture dense"), Augmentation::strongest());
        assert_eq!(changes("--architecture dense --for clips"), Augmentation::strongest().whole());
        assert_eq!(changes("--from mn04.npz"), Augmentation::strong());
        assert_eq!(changes("--from mn04.npz --for clips"), Augmentation::strong().whole());
    }
}
