//! One's own sounds: a new last layer on a network that hears already.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::material::Material;
use super::report::{Figures, Pictures};
use super::sound::Sound;
use crate::cli::{Outcome, output};
use crate::decide::{Defaults, Rule};
use crate::hear::{SoundModel, embedded_model, read_model_file};
use crate::network::{Activation, Headless, Linear, Memory, Metadata, wrap};
use crate::train::adapt::{Adapted, Task};
use crate::train::head::{HeadSettings, scores};

/// How far under the threshold a sound that is on may fall.
const HYSTERESIS: f32 = 0.25;
/// Score from which on a remembered sound is taken for a class.
const TAKEN_FOR: f32 = 0.3;

/// The model that is started from.
struct Base {
    bytes: Vec<u8>,
    model: SoundModel,
    headless: Headless,
    memory: Memory,
}

impl Base {
    fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let (bytes, name) = match path {
            Some(path) => (read_model_file(path)?, path.display().to_string()),
            None => (embedded_model().to_vec(), "(embedded)".to_owned()),
        };
        let model = SoundModel::from_bytes(&bytes, &name)?;
        let headless = Headless::from_onnx(&bytes).with_context(|| format!("model {name}"))?;
        let memory = Memory::of(&bytes).with_context(|| format!("model {name}"))?;
        Ok(Self { bytes, model, headless, memory })
    }

    /// What it remembers, but for what it takes for a class of the same name as one of `classes`.
    fn other_sounds(&self, classes: &[String]) -> Vec<Vec<f32>> {
        let is_other = |embedding: &&Vec<f32>| {
            let outputs = self.headless.head().apply(embedding);
            let scores = scores(self.model.metadata.activation, &outputs, &[]);
            let mut named = self.model.metadata.outputs.iter().zip(scores);
            !named.any(|(name, score)| classes.contains(name) && score >= TAKEN_FOR)
        };
        self.memory.embeddings.iter().filter(is_other).cloned().collect()
    }
}

/// Learns the sounds and writes the model and the pictures.
pub fn run(order: &Sound) -> anyhow::Result<Outcome> {
    let base = Base::load(order.from.as_deref())?;
    let material = order.material.load(&base.model.recipe)?;
    let known: Vec<&String> =
        base.model.metadata.outputs.iter().filter(|name| material.classes.contains(name)).collect();
    if let (true, Some(name)) = (order.keep_classes, known.first()) {
        bail!(
            "the model knows {name:?} already: give your sound another name, or leave --keep-classes out"
        );
    }
    let memory = base.other_sounds(&material.classes);
    let defaults = HeadSettings::default();
    let task = Task {
        headless: &base.headless,
        set: material.set.clone(),
        clips: &material.clips,
        memory: &memory,
        keep_classes: order.keep_classes,
        settings: HeadSettings {
            activation: activation(order, &base.model),
            epochs: order.epochs.unwrap_or(defaults.epochs),
            learning_rate: order.learning_rate.unwrap_or(defaults.learning_rate),
            seed: order.seed,
            ..defaults
        },
    };
    let bar = output::steps(task.runs(), "hearing clips");
    let adapted = task.learn(&|| bar.inc(1))?;
    bar.finish_and_clear();
    let figures = Figures::new(&material, &adapted);
    let model = assemble(order, &base, &material, &adapted, &figures)?;
    let pictures = Pictures::draw(&order.card_name(), &adapted.history, adapted.epochs, &figures)?;
    output::write_file(&order.out, &model, order.force)?;
    output::write_file(&order.curve_path(), &pictures.curve, order.force)?;
    output::write_file(&order.confusion_path(), &pictures.confusion, order.force)?;
    output::write_line(&figures.table())?;
    output::write_line(&format!("{} knows them now", order.out.display()))?;
    Ok(Outcome::Done)
}

/// New classes beside old ones are scored as those are. Classes that stand alone are each heard or
/// not, since most of what a microphone hears is none of them.
fn activation(order: &Sound, base: &SoundModel) -> Activation {
    if order.keep_classes { base.metadata.activation } else { Activation::Sigmoid }
}

fn assemble(
    order: &Sound,
    base: &Base,
    material: &Material,
    adapted: &Adapted,
    figures: &Figures,
) -> anyhow::Result<Vec<u8>> {
    let old = &base.model.metadata;
    let (head, outputs): (Linear, Vec<String>) = if order.keep_classes {
        let outputs = old.outputs.iter().chain(&material.classes).cloned().collect();
        (base.headless.head().clone().followed_by(&adapted.head), outputs)
    } else {
        (adapted.head.clone(), material.classes.clone())
    };
    let metadata = Metadata {
        outputs,
        activation: activation(order, &base.model),
        decision: serde_json::to_value(decision(order, base, material, adapted)?)?,
        card: card(order, base, material, adapted, figures),
        ..Metadata::clone(old)
    };
    let onnx = base.headless.with_head(&head)?;
    let model = wrap(&onnx, &metadata)?;
    SoundModel::from_bytes(&model, &order.out.display().to_string())?;
    Ok(model)
}

/// The rules of the new classes: the model's usual one at the thresholds that were found.
fn decision(
    order: &Sound,
    base: &Base,
    material: &Material,
    adapted: &Adapted,
) -> anyhow::Result<Defaults> {
    let old: Defaults = serde_json::from_value(base.model.metadata.decision.clone())?;
    let usual = Rule { at_once: 1.0, suppressed_by: Vec::new(), ..old.default.clone() };
    let rule = |on: f32| Rule { on, off: (on - HYSTERESIS).max(on / 2.0), ..usual.clone() };
    let thresholds = adapted.thresholds.iter().map(|threshold| rule(threshold.on));
    let new: BTreeMap<String, Rule> = material.classes.iter().cloned().zip(thresholds).collect();
    if !order.keep_classes {
        let recommended = material.classes.clone();
        return Ok(Defaults { recommended, default: usual, classes: new });
    }
    let mut all = old;
    all.classes.extend(new);
    // None means all, the new ones included.
    if !all.recommended.is_empty() {
        all.recommended.extend(material.classes.iter().cloned());
    }
    Ok(all)
}

fn card(
    order: &Sound,
    base: &Base,
    material: &Material,
    adapted: &Adapted,
    figures: &Figures,
) -> Value {
    let old = &base.model.metadata.card;
    let command: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    json!({
        "name": order.card_name(),
        "licence": order.licence,
        "base": {
            "name": old.get("name"), "licence": old.get("licence"),
            "digest": base.model.digest.as_ref(), "bytes": base.bytes.len(),
        },
        "architecture": old.get("architecture"),
        "training": {
            "command": format!("hearken {}", command.join(" ")),
            "layers": if order.keep_classes { "rows added to the last layer" } else { "last layer" },
            "clips": material.labelled, "negatives": figures.negatives,
            "remembered": base.memory.embeddings.len(),
            "epochs": adapted.epochs, "seed": order.seed,
        },
        "metrics": figures.json(),
    })
}
