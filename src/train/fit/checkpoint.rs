//! The state of a training after an epoch, as a file to go on from.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::FitError;
use super::graph::Graph;
use super::optimiser::Optimiser;
use super::settings::{Epoch, FitSettings};

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

/// The part of a state that is not numbers in bulk.
#[derive(Serialize, Deserialize)]
struct Header {
    settings: FitSettings,
    steps: u64,
    history: Vec<Epoch>,
}

/// The key of the header in the file's metadata.
const HEADER: &str = "hearken.training";

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
        let header = Header { settings, steps: self.optimiser.steps, history };
        let header = serde_json::to_string(&header).map_err(|error| failed(error.to_string()))?;
        let metadata = Some([(HEADER.to_owned(), header)].into());
        let temporary = path.with_extension("part");
        safetensors::serialize_to_file(views, metadata, &temporary)
            .map_err(|error| failed(error.to_string()))?;
        std::fs::rename(&temporary, path).map_err(|error| failed(error.to_string()))
    }

    /// Reads a state that was written for the same network and the same settings.
    pub fn read(path: &Path, graph: &Graph, settings: &FitSettings) -> Result<Self, FitError> {
        let failed = |why: String| FitError::Checkpoint { path: path.to_owned(), why };
        let damaged = |error: safetensors::SafeTensorError| failed(error.to_string());
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let header = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
        let header = header.ok_or_else(|| failed("it is no checkpoint".to_owned()))?;
        let header: Header =
            serde_json::from_str(header).map_err(|error| failed(error.to_string()))?;
        if header.settings != *settings {
            let found = header.settings;
            return Err(failed(format!(
                "it was made with other settings: {found:?}, now {settings:?}"
            )));
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
