//! The loop of epochs and steps.

use std::thread::scope;
use std::time::Instant;

use super::checkpoint::{State, course};
use super::crop::crop;
use super::gradients::backward;
use super::graph::Graph;
use super::loss::{Score, Tally};
use super::optimiser::Optimiser;
use super::prefetch::{batches, in_order, shuffled};
use super::settings::{Epoch, FitSettings, Keeping, Progress};
use super::tape::{Mode, Tape};
use super::{FitError, Fitted};
use crate::network::Layers;
use crate::train::examples::{Batch, Examples};

/// A training in progress.
pub(super) struct Trainer<'a> {
    layers: Layers,
    training: &'a dyn Examples,
    validation: Option<&'a dyn Examples>,
    settings: &'a FitSettings,
    keeping: Option<&'a Keeping>,
    /// See [`course`].
    course: String,
    graph: Graph,
    outputs: usize,
    optimiser: Optimiser,
    best: Vec<Vec<f32>>,
    history: Vec<Epoch>,
    tape: Tape,
    started: Instant,
    /// Epochs that were there when this run began.
    resumed: usize,
}

impl<'a> Trainer<'a> {
    pub fn new(
        layers: Layers,
        training: &'a dyn Examples,
        validation: Option<&'a dyn Examples>,
        settings: &'a FitSettings,
        keeping: Option<&'a Keeping>,
    ) -> Result<Self, FitError> {
        if let Some(problem) = settings.problem() {
            return Err(FitError::Settings(problem));
        }
        let mut graph = Graph::new(&layers)?;
        begin_with_crops(&mut graph, &layers, settings)?;
        let outputs = layers.outputs()?;
        let validation = validation.filter(|examples| !examples.is_empty());
        for examples in [Some(training), validation].into_iter().flatten() {
            if examples.outputs() != outputs {
                let found = examples.outputs();
                let why = format!("the network has {outputs} outputs, the examples have {found}");
                return Err(FitError::Settings(why));
            }
        }
        if training.is_empty() {
            return Err(FitError::Settings("there is nothing to train on".to_owned()));
        }
        let course = match keeping {
            Some(_) => course(&graph, [Some(training), validation])?,
            None => String::new(),
        };
        let optimiser = Optimiser::new(&graph);
        let mut trainer = Self {
            best: optimiser.average.clone(),
            optimiser,
            layers,
            training,
            validation,
            settings,
            keeping,
            course,
            graph,
            outputs,
            history: Vec::new(),
            tape: Tape::new(),
            started: Instant::now(),
            resumed: 0,
        };
        if let Some(keeping) =
            keeping.filter(|keeping| keeping.resume && keeping.checkpoint.exists())
        {
            let path = &keeping.checkpoint;
            trainer.resume(State::read(path, &trainer.graph, settings, &trainer.course)?);
        }
        Ok(trainer)
    }

    fn resume(&mut self, state: State) {
        set_weights(&mut self.graph, &state.weights);
        self.optimiser = state.optimiser;
        self.best = state.best;
        self.resumed = state.history.len();
        self.history = state.history;
    }

    pub fn run(mut self, watch: &mut dyn FnMut(Progress)) -> Result<Fitted, FitError> {
        let epochs = self.settings.epochs;
        while (self.history.len() as u32) < epochs && !self.has_given_up() {
            let number = self.history.len() as u32 + 1;
            let (training, rate) = self.train(number, watch)?;
            let validation = self.validate()?;
            let epoch = Epoch { number, training, validation, rate };
            let is_best = self.is_best(&epoch);
            self.history.push(epoch);
            if is_best {
                self.best.clone_from(&self.optimiser.average);
            }
            if let Some(keeping) = self.keeping {
                let path = &keeping.checkpoint;
                self.state().write(path, &self.graph, self.settings, &self.course)?;
            }
            let seconds_left = self.seconds_left(0.0);
            watch(Progress::Epoch { epoch, epochs, is_best, seconds_left });
        }
        set_weights(&mut self.graph, &self.best);
        self.graph.store(&mut self.layers);
        Ok(Fitted { layers: self.layers, history: self.history })
    }

    /// One epoch of steps. Returns the score and the last learning rate.
    fn train(
        &mut self,
        epoch: u32,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<(Score, f32), FitError> {
        let settings = self.settings;
        let [_, _, columns] = self.layers.input;
        self.graph.set_columns(&self.layers, settings.columns_at(epoch, columns))?;
        let order = shuffled(self.training.len(), settings.batch, mixed(settings.seed, epoch));
        let steps = order.len();
        let mut tally = Tally::default();
        let mut rate = 0.0;
        scope(|scope| {
            let batches = batches(scope, self.training, epoch - 1, order);
            for (step, batch) in batches.iter().enumerate() {
                rate = settings.rate_at(self.optimiser.steps, steps as u64);
                let loss = self.step(&batch?, rate)?;
                tally.add(loss);
                let loss = tally.score(settings.loss).loss;
                if !loss.is_finite() {
                    return Err(FitError::Astray { epoch });
                }
                let seconds_left = self.seconds_left((step + 1) as f64 / steps as f64);
                watch(Progress::Step { epoch, step: step + 1, steps, loss, seconds_left });
            }
            Ok((tally.score(settings.loss), rate))
        })
    }

    fn step(&mut self, batch: &Batch, rate: f32) -> Result<Tally, FitError> {
        let seed = mixed(self.settings.seed, 0).wrapping_add(self.optimiser.steps);
        let [_, _, columns] = self.graph.shape(0);
        let images = crop(&batch.images, self.layers.input, columns, seed);
        let given = self.tape.forward(&self.graph, &images, Mode::Training { seed });
        if given.len() != batch.targets.len() {
            let (images, targets) = (batch.images.len(), batch.targets.len());
            let why = format!("a batch of {images} pixels and {targets} targets does not fit");
            return Err(FitError::Settings(why));
        }
        let (tally, gradient) = self.settings.loss.compare(self.outputs, given, &batch.targets);
        let gradients = backward(&self.graph, &mut self.tape, gradient);
        self.graph.absorb(&self.tape);
        self.optimiser.step(&mut self.graph, &gradients, rate, self.settings);
        Ok(tally)
    }

    /// The score of the averaged weights on the validation examples.
    fn validate(&mut self) -> Result<Option<Score>, FitError> {
        let Some(examples) = self.validation else { return Ok(None) };
        let [_, _, columns] = self.layers.input;
        self.graph.set_columns(&self.layers, columns)?;
        let weights = self.graph.weights_of_all();
        set_weights(&mut self.graph, &self.optimiser.average);
        let (loss, batch) = (self.settings.loss, self.settings.batch);
        let tally = scope(|scope| {
            let mut tally = Tally::default();
            for batch in batches(scope, examples, 0, in_order(examples.len(), batch)) {
                let batch = batch?;
                let given = self.tape.forward(&self.graph, &batch.images, Mode::Inference);
                tally.add(loss.compare(self.outputs, given, &batch.targets).0);
            }
            Ok::<_, FitError>(tally)
        });
        set_weights(&mut self.graph, &weights);
        Ok(Some(tally?.score(loss)))
    }

    /// Without validation, the last epoch is the best.
    fn is_best(&self, epoch: &Epoch) -> bool {
        let Some(score) = epoch.validation else { return true };
        let mut before = self.history.iter().filter_map(|epoch| epoch.validation);
        before.all(|earlier| score.loss < earlier.loss)
    }

    fn has_given_up(&self) -> bool {
        let losses = self.history.iter().map(|epoch| epoch.validation.map(|score| score.loss));
        let losses: Option<Vec<f32>> = losses.collect();
        let Some(losses) = losses.filter(|_| self.settings.patience > 0) else { return false };
        let best = losses.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        best.is_some_and(|(at, _)| losses.len() - 1 - at >= self.settings.patience as usize)
    }

    fn state(&self) -> State {
        State {
            weights: self.graph.weights_of_all(),
            optimiser: self.optimiser.clone(),
            best: self.best.clone(),
            history: self.history.clone(),
        }
    }

    /// As long as what is left takes at the pace of this run; `part` of an epoch is done already.
    fn seconds_left(&self, part: f64) -> f64 {
        let done = (self.history.len() - self.resumed) as f64 + part;
        let left = f64::from(self.settings.epochs) - self.history.len() as f64 - part;
        self.started.elapsed().as_secs_f64() / done.max(1e-9) * left
    }
}

/// Makes the graph ready for the images of the first epoch: that a network can't be shown parts of
/// them is said before anything is learnt.
fn begin_with_crops(
    graph: &mut Graph,
    layers: &Layers,
    settings: &FitSettings,
) -> Result<(), FitError> {
    let [_, _, columns] = layers.input;
    let cut = settings.columns_at(1, columns);
    graph.set_columns(layers, cut).map_err(|error| {
        let share = settings.crop;
        let why =
            format!("crop {share}: the network can't take {cut} of {columns} columns: {error}");
        FitError::Settings(why)
    })
}

fn set_weights(graph: &mut Graph, weights: &[Vec<f32>]) {
    for (parameter, weights) in graph.parameters.iter_mut().zip(weights) {
        parameter.values.clone_from(weights);
    }
}

/// A seed for each epoch.
fn mixed(seed: u64, epoch: u32) -> u64 {
    (seed ^ u64::from(epoch).rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
