//! Examples through a network without its last layer, on all processors.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::examples::{ExampleError, Examples as _};
use super::sounds::SoundExamples;
use crate::network::{HeadError, ModelError, Network, Session};

/// Why there is no embedding.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error(transparent)]
    Example(#[from] ExampleError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// What became of one example.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Index of the example.
    pub index: usize,
    pub values: Vec<f32>,
    pub targets: Vec<f32>,
}

/// Runs every example once for each of `epochs`; `done` is called after each run. The order is
/// that of epochs, then of examples.
pub fn embed(
    embedder: &Network,
    examples: &SoundExamples,
    epochs: Range<u32>,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Embedding>, EmbedError> {
    let work: Vec<(u32, usize)> =
        epochs.flat_map(|epoch| (0..examples.len()).map(move |index| (epoch, index))).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(work.len()));
    let worker = || -> Result<(), EmbedError> {
        let mut session = embedder.session()?;
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(epoch, index)) = work.get(place) else { return Ok(()) };
            let embedding = run(&mut session, examples, epoch, index)?;
            results.lock().unwrap_or_else(PoisonError::into_inner).push((place, embedding));
            done();
        }
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from).min(work.len());
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        // A worker that panicked (in the engine) leaves places empty, which is found below.
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect::<Result<(), _>>()
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if results.len() < work.len() {
        return Err(ModelError::Unrunnable("a thread of it ended early".to_owned()).into());
    }
    results.sort_by_key(|&(place, _)| place);
    Ok(results.into_iter().map(|(_, embedding)| embedding).collect())
}

fn run(
    session: &mut Session,
    examples: &SoundExamples,
    epoch: u32,
    index: usize,
) -> Result<Embedding, EmbedError> {
    let example = examples.example(epoch, index)?;
    let values = session.run_rows(example.pixels.chunks_exact(Network::SIDE))?;
    Ok(Embedding { index, values, targets: example.targets })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hear::{SoundModel, embedded_model};
    use crate::network::Headless;
    use crate::spectrogram::{Image, WindowMaker};
    use crate::train::augment::Augmentation;
    use crate::train::library::Library;
    use crate::train::sounds::{Labelled, SoundSet};

    #[test]
    fn embeddings_come_in_order_and_the_old_head_makes_the_old_scores_of_them() {
        let model = SoundModel::load(None).unwrap();
        let headless = Headless::from_onnx(embedded_model()).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let sounds: Vec<Vec<f32>> = (1..4)
            .map(|n| (0..40_000 * n).map(|_| (random.f32() - 0.5) * 0.1 * n as f32).collect())
            .collect();
        let set = SoundSet {
            recipe: model.recipe.clone(),
            sounds: Arc::new(Library::of(sounds)),
            backgrounds: Arc::new([]),
            outputs: 1,
        };
        let labelled: Vec<Labelled> =
            (0..3).map(|sound| Labelled { sound, classes: vec![0], maybe: Vec::new() }).collect();
        let examples = SoundExamples::validation(set.clone(), labelled.clone());
        let count = AtomicUsize::new(0);
        let done = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let embeddings = embed(&headless.embedder().unwrap(), &examples, 0..1, &done).unwrap();
        assert_eq!((embeddings.len(), count.into_inner()), (3, 3));
        let mut judge = model.judge().unwrap();
        for (index, embedding) in embeddings.iter().enumerate() {
            let image: Image = WindowMaker::new(&model.recipe).image(&set.sounds.samples(index));
            let expected = judge.scores(&image).unwrap();
            let outputs = headless.head().apply(&embedding.values);
            let found = crate::train::head::scores(model.metadata.activation, &outputs, &[]);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{index}: {found} for {expected}");
            }
        }
        let examples = SoundExamples::training(set, labelled, Augmentation::gentle(), 1);
        let twice = embed(&headless.embedder().unwrap(), &examples, 0..2, &|| ()).unwrap();
        let order: Vec<usize> = twice.iter().map(|embedding| embedding.index).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert_ne!(twice[0].values, twice[3].values);
    }
}
