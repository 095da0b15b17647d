//! The state of a training after an epoch, as a file to go on from.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FitError;
use super::graph::Graph;
use super::optimiser::Optimiser;
use super::settings::{Epoch, FitSettings};
use crate::train::examples::{Batch, Examples};

/// All that decides how a training goes on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// The weights, by the number of the parameter.
    pub weights: Vec<Vec<f32>>,
    pub optimiser: Optimiser,
    /// The weights to be kept.
    pub best: Vec<Vec<f32>>,
    pub history: Vec<Epoch>,
}

/// What a training begins with, learns from and is validated by, as a digest: the weights, how many
/// examples there are, and some of them as the first epoch shows them.
///
/// # Errors
/// When an example can't be made.
pub(super) fn course(graph: &Graph, sets: [Option<&dyn Examples>; 2]) -> Result<String, FitError> {
    let mut digest = Sha256::new();
    let mut add = |values: &[f32]| values.iter().for_each(|v| digest.update(v.to_le_bytes()));
    graph.parameters.iter().for_each(|parameter| add(&parameter.values));
    for examples in sets.into_iter().flatten() {
        let count = examples.len();
        let indices: Vec<usize> = (0..count).step_by(count.div_ceil(SAMPLES).max(1)).collect();
        let Batch { images, targets } = examples.batch(0, &indices)?;
        add(&[count as f32]);
        add(&targets);
        // To tenths: another processor rounds otherwise, and is to go on all the same.
        let mean = |image: &[f32]| (10.0 * image.iter().sum::<f32>() / image.len() as f32).round();
        let image = images.len().checked_div(indices.len()).unwrap_or(0).max(1);
        add(&images.chunks(image).map(mean).collect::<Vec<_>>());
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The part of a state that is not numbers in bulk.
#[derive(Serialize, Deserialize)]
struct Header {
    settings: FitSettings,
    #[serde(default)]
    course: String,
    steps: u64,
    history: Vec<Epoch>,
}

/// The key of the header in the file's metadata.
const HEADER: &str = "hearken.training";

/// Examples of a set that its digest is made of.
const SAMPLES: usize = 32;

/// The groups of tensors in the file.
const GROUPS: [&str; 5] = ["weights", "average", "first", "second", "best"];

impl State {
    fn groups(&self) -> [&[Vec<f32>]; 5] {
        let Optimiser { average, first, second, .. } = &self.optimiser;
        [&self.weights, average, first, second, &self.best]
    }

    /// Writes the state beside `path` and then puts it in its place: there is always a whole file.
    pub fn write(
        &self,
        path: &Path,
        graph: &Graph,
        settings: &FitSettings,
        course: &str,
    ) -> Result<(), FitError> {
        let failed = |why: String| FitError::Checkpoint { path: path.to_owned(), why };
        let bytes: Vec<(String, Vec<u8>)> = GROUPS
            .iter()
            .zip(self.groups())
            .flat_map(|(group, values)| {
                graph.parameters.iter().zip(values).map(move |(parameter, values)| {
                    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    (format!("{group}/{}", parameter.name), bytes)
                })
            })
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, bytes) in &bytes {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
            views.push((name, view.map_err(|error| failed(error.to_string()))?));
        }
        let (settings, history) = (settings.clone(), self.history.clone());
        let (steps, course) = (self.optimiser.steps, course.to_owned());
        let header = Header { settings, course, steps, history };
        let header = serde_json::to_string(&header).map_err(|error| failed(error.to_string()))?;
        let metadata = Some([(HEADER.to_owned(), header)].into());
        let temporary = path.with_extension("part");
        safetensors::serialize_to_file(views, metadata, &temporary)
            .map_err(|error| failed(error.to_string()))?;
        std::fs::rename(&temporary, path).map_err(|error| failed(error.to_string()))
    }

    /// Reads a state that was written for the same network and [`course`], under settings that
    /// these go on as.
    pub fn read(
        path: &Path,
        graph: &Graph,
        settings: &FitSettings,
        course: &str,
    ) -> Result<Self, FitError> {
        let failed = |why: String| FitError::Checkpoint { path: path.to_owned(), why };
        let damaged = |error: safetensors::SafeTensorError| failed(error.to_string());
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let header = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
        let header = header.ok_or_else(|| failed("it is no checkpoint".to_owned()))?;
        let header: Header =
            serde_json::from_str(header).map_err(|error| failed(error.to_string()))?;
        if !header.settings.goes_on_as(settings) {
            let found = header.settings;
            return Err(failed(format!(
                "it was made with other settings: {found:?}, now {settings:?}"
            )));
        }
        if header.course != course {
            let why = "it is of a training from other weights, or on other examples, or of an \
                       earlier program: give another folder, or begin anew";
            return Err(failed(why.to_owned()));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let tensors: BTreeMap<String, TensorView> = tensors.tensors().into_iter().collect();
        let trained = Optimiser::new(graph).first;
        let mut groups = GROUPS.iter().map(|group| {
            let is_memory = matches!(*group, "first" | "second");
            let numbers = graph.parameters.iter().zip(&trained).map(|(parameter, trained)| {
                let length = if is_memory { trained.len() } else { parameter.values.len() };
                let name = format!("{group}/{}", parameter.name);
                let values = tensors.get(&name).map(|tensor| floats(tensor.data()));
                let fits = |values: &Vec<f32>| values.len() == length;
                let misfit = || failed(format!("`{name}` does not fit the network"));
                values.filter(fits).ok_or_else(misfit)
            });
            numbers.collect::<Result<Vec<_>, _>>()
        });
        let mut next = || groups.next().unwrap_or(Ok(Vec::new()));
        let (weights, average, first, second, best) = (next()?, next()?, next()?, next()?, next()?);
        let optimiser = Optimiser { steps: header.steps, first, second, average };
        Ok(Self { weights, optimiser, best, history: header.history })
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
