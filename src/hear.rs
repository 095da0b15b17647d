//! A sound model in use: the model file's network, recipe, classes and rules put together, and
//! the judge that turns an image into scores. The one place where `network`, `spectrogram` and
//! `decide` meet; live sources and files go through it alike.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decide::{Defaults, DetectionSettings, RuleProblem, Rules};
use crate::network::{Activation, Artifact, Metadata, ModelError, Network, Session};
use crate::signal::ClassScore;
use crate::spectrogram::{Image, Recipe, RecipeError, RowOrder};

/// The model that this program was built with.
const EMBEDDED: &[u8] = include_bytes!("../models/sound.onnx");
/// A larger model file is not read.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// A loaded sound model; cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct SoundModel {
    network: Network,
    activation: Activation,
    defaults: Defaults,
    pub recipe: Recipe,
    pub classes: Vec<Arc<str>>,
    /// First 16 hexadecimal digits of the file's SHA-256.
    pub digest: Arc<str>,
    pub metadata: Arc<Metadata>,
}

/// Why a model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("model {path}: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("model {name}: {error}")]
    Invalid { name: String, error: ModelError },
    #[error("model {name}: {error}")]
    Recipe { name: String, error: RecipeError },
    #[error("model {name}: its network takes {network} channels, its recipe makes {recipe}")]
    Channels { name: String, network: usize, recipe: usize },
    #[error("model {name} is for the task {task:?}, needed is \"sound\"")]
    Task { name: String, task: String },
    #[error("model {name}: the metadata `hearken.decision` is wrong: {why}")]
    Decision { name: String, why: String },
}

/// Reads a model file whole, with a limit.
pub fn read_model_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// The embedded model's file.
pub fn embedded_model() -> &'static [u8] {
    EMBEDDED
}

impl SoundModel {
    /// From a file, or the embedded one.
    pub fn load(path: Option<&Path>) -> Result<Self, LoadError> {
        match path {
            Some(path) => Self::from_bytes(&read_model_file(path)?, &path.display().to_string()),
            None => Self::from_bytes(EMBEDDED, "(embedded)"),
        }
    }

    /// From a model file's content; `name` is for error messages.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, LoadError> {
        let name = || name.to_owned();
        let invalid = |error| LoadError::Invalid { name: name(), error };
        let artifact = Artifact::read(bytes).map_err(invalid)?;
        let metadata = artifact.metadata.clone();
        if metadata.task != "sound" {
            return Err(LoadError::Task { name: name(), task: metadata.task });
        }
        let recipe = Recipe::parse(&metadata.recipe)
            .map_err(|error| LoadError::Recipe { name: name(), error })?;
        let decision = |why: String| LoadError::Decision { name: name(), why };
        let defaults: Defaults = serde_json::from_value(metadata.decision.clone())
            .map_err(|error| decision(error.to_string()))?;
        // The model's own rules must make sense before anybody overrides them.
        let neutral = DetectionSettings::default();
        Rules::resolve(&metadata.outputs, &defaults, &neutral)
            .map_err(|problems| decision(join(&problems)))?;
        let digest = artifact.digest.as_str().into();
        let network = artifact.into_network().map_err(invalid)?;
        if network.channels() != recipe.channels {
            let (network, recipe) = (network.channels(), recipe.channels);
            return Err(LoadError::Channels { name: name(), network, recipe });
        }
        Ok(Self {
            network,
            activation: metadata.activation,
            defaults,
            recipe,
            classes: metadata.outputs.iter().map(|class| class.as_str().into()).collect(),
            digest,
            metadata: Arc::new(metadata),
        })
    }

    /// The rules in force for this model under the given settings.
    pub fn rules(&self, settings: &DetectionSettings) -> Result<Rules, Vec<RuleProblem>> {
        Rules::resolve(&self.metadata.outputs, &self.defaults, settings)
    }

    /// A problem for each of `classes`, named by `key`, that this model does not know or `rules` do not
    /// report.
    pub fn not_reported(&self, rules: &Rules, key: &str, classes: &[String]) -> Vec<RuleProblem> {
        rules.not_reported(&self.metadata.outputs, key, classes)
    }

    /// The classes that `rules` report, in the model's order.
    pub fn reported(&self, rules: &Rules) -> Vec<Arc<str>> {
        let pairs = self.classes.iter().zip(&rules.by_class);
        pairs.filter(|(_, rule)| rule.is_some()).map(|(class, _)| Arc::clone(class)).collect()
    }

    /// A judge for one thread.
    pub fn judge(&self) -> Result<Judge, ModelError> {
        Ok(Judge {
            session: self.network.session()?,
            activation: self.activation,
            rows: self.recipe.rows,
        })
    }

    /// The `count` best classes, best first.
    pub fn top(&self, scores: &[f32], count: usize) -> Vec<ClassScore> {
        let mut ranked: Vec<(&Arc<str>, f32)> =
            self.classes.iter().zip(scores.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let named =
            |(class, score): (&Arc<str>, f32)| ClassScore { class: Arc::clone(class), score };
        ranked.into_iter().take(count).map(named).collect()
    }
}

fn join(problems: &[RuleProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Image to scores, for one thread.
pub struct Judge {
    session: Session,
    activation: Activation,
    rows: RowOrder,
}

impl Judge {
    /// One score a class, 0 to 1.
    pub fn scores(&mut self, image: &Image) -> Result<Vec<f32>, ModelError> {
        let mut values = self.session.run_rows(image.rows_in(self.rows))?;
        match self.activation {
            Activation::Softmax => softmax(&mut values),
            Activation::Sigmoid => {
                values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
            }
            Activation::Linear => {}
        }
        Ok(values)
    }
}

fn softmax(values: &mut [f32]) {
    let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - highest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}
