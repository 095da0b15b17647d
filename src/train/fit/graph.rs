//! A network made ready for training: names become numbers, what can be done together is put
//! together, and the weights are in the hands of the trainer.

use std::collections::BTreeMap;

use super::activation::Activation;
use super::conv::Conv;
use super::norm::Norm;
use super::pool::{Kind, Pool};
use super::tape::Tape;
use crate::network::{Depthwise, Layers, LayersError, Node, Op, Shape};

/// A network whose values and weights have numbers.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    pub steps: Vec<Step>,
    pub parameters: Vec<Parameter>,
    /// The shape of each value. The image is value 0.
    pub shapes: Vec<Shape>,
    /// Whether a value's gradient is needed to train what comes before it.
    pub wanted: Vec<bool>,
    /// The number of the network's output.
    pub output: usize,
}

/// A weight, trained or not.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub name: String,
    pub values: Vec<f32>,
    pub trained: bool,
    /// Whether weight decay applies: not to biases, and not to what scales and shifts.
    pub decays: bool,
}

/// One thing to compute.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub work: Work,
    /// Numbers of the values that go in.
    pub inputs: Vec<usize>,
    /// Numbers of the parameters.
    pub parameters: Vec<usize>,
    /// Number of the value that comes out.
    pub output: usize,
}

/// How it is computed.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Conv(Conv),
    Depthwise(Depthwise),
    /// `momentum`: see [`Op::BatchNorm`].
    Norm {
        norm: Norm,
        momentum: f32,
    },
    Activation(Activation),
    Add,
    Mul,
    GlobalMean,
    Pool(Pool),
    Linear,
    Concat,
    Copy,
    MatMulLeft,
    MatMulRight,
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    Dropout {
        ratio: f32,
    },
}

impl Graph {
    /// Reads the network.
    pub fn new(layers: &Layers) -> Result<Self, LayersError> {
        let mut shapes = vec![layers.input];
        shapes.extend(layers.shapes()?);
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut numbers = BTreeMap::new();
        for node in &layers.nodes {
            let trained = node.op.trained_weights(node.weights.len());
            for (index, name) in node.weights.iter().enumerate() {
                let weight = layers.weight(node, name)?;
                let trained = index < trained;
                let number = *numbers.entry(name.as_str()).or_insert(parameters.len());
                if number == parameters.len() {
                    let (name, values) = (name.clone(), weight.values.clone());
                    let decays = trained && weight.shape.len() > 1;
                    parameters.push(Parameter { name, values, trained, decays });
                }
            }
        }
        let steps = steps(layers, &shapes, &numbers);
        let mut wanted = vec![false; shapes.len()];
        for step in &steps {
            let is_wanted = |value: &usize| wanted.get(*value).copied().unwrap_or(false);
            let trains = |number: &usize| parameters.get(*number).is_some_and(|p| p.trained);
            let found = step.inputs.iter().any(is_wanted) || step.parameters.iter().any(trains);
            wanted.iter_mut().skip(step.output).take(1).for_each(|wanted| *wanted = found);
        }
        let output = layers.nodes.len();
        Ok(Self { steps, parameters, shapes, wanted, output })
    }

    /// The same network, with the weights it has now, for images of so many columns. `layers` is
    /// what the graph was read from.
    ///
    /// # Errors
    /// When its weights do not fit such images.
    pub fn set_columns(&mut self, layers: &Layers, columns: usize) -> Result<(), LayersError> {
        let [channels, rows, current] = self.shape(0);
        if columns == current {
            return Ok(());
        }
        let resized = Self::new(&Layers { input: [channels, rows, columns], ..layers.clone() })?;
        let parameters = std::mem::take(&mut self.parameters);
        *self = Self { parameters, ..resized };
        Ok(())
    }

    /// Writes the weights back into the network that was read.
    pub fn store(&self, layers: &mut Layers) {
        for parameter in &self.parameters {
            if let Some(weight) = layers.weights.get_mut(&parameter.name) {
                weight.values.clone_from(&parameter.values);
            }
        }
    }

    /// How many values there are in one image's value of that number.
    pub fn length(&self, value: usize) -> usize {
        self.shapes.get(value).map_or(0, |shape| shape.iter().product())
    }

    /// The shape of a value.
    pub fn shape(&self, value: usize) -> Shape {
        self.shapes.get(value).copied().unwrap_or_default()
    }

    /// The shape of the first value that goes into a step.
    pub fn input_shape(&self, step: &Step) -> Shape {
        let shape = step.inputs.first().and_then(|&value| self.shapes.get(value));
        shape.copied().unwrap_or_default()
    }

    /// Whether the gradient of a value is needed.
    pub fn is_wanted(&self, value: usize) -> bool {
        self.wanted.get(value).copied().unwrap_or(false)
    }

    /// The values of a parameter; nothing, if there is no such one.
    pub fn parameter(&self, number: Option<&usize>) -> &[f32] {
        let parameter = number.and_then(|&number| self.parameters.get(number));
        parameter.map_or(&[], |parameter| parameter.values.as_slice())
    }

    /// The values of all parameters.
    pub fn weights_of_all(&self) -> Vec<Vec<f32>> {
        self.parameters.iter().map(|parameter| parameter.values.clone()).collect()
    }

    /// The first two parameters of a step: weights and bias, scale and shift.
    pub fn weights(&self, step: &Step) -> [&[f32]; 2] {
        [0, 1].map(|index| self.parameter(step.parameters.get(index)))
    }

    /// Moves the running moments towards those of the batch on the tape. As the variance of all
    /// there is, the batch's is corrected for its size (Bessel).
    pub fn absorb(&mut self, tape: &Tape) {
        let Self { steps, parameters, .. } = self;
        for step in steps.iter() {
            let Work::Norm { norm, momentum } = &step.work else { continue };
            let Some(moments) = tape.moments(step) else { continue };
            let count = (tape.images * norm.plane) as f32;
            let bessel = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
            let news = [(&moments.mean, 1.0), (&moments.variance, bessel)];
            for (&number, (new, factor)) in step.parameters.iter().skip(2).zip(news) {
                let Some(running) = parameters.get_mut(number) else { continue };
                for (running, new) in running.values.iter_mut().zip(new) {
                    *running = momentum * *running + (1.0 - momentum) * factor * new;
                }
            }
        }
    }
}

fn steps(layers: &Layers, shapes: &[Shape], numbers: &BTreeMap<&str, usize>) -> Vec<Step> {
    let mut values = BTreeMap::from([(Layers::INPUT, 0)]);
    let mut steps: Vec<Step> = Vec::new();
    for (index, node) in layers.nodes.iter().enumerate() {
        let output = index + 1;
        values.insert(&node.output, output);
        let number = |name: &String| values.get(name.as_str()).copied();
        let inputs: Vec<usize> = node.inputs.iter().filter_map(number).collect();
        if let Some(activation) = Activation::of(&node.op)
            && let Some(step) = steps.last_mut()
            && inputs == [step.output]
            && users(layers, node.inputs.first()) == 1
            && let Work::Norm { norm, .. } = &mut step.work
            && norm.activation == Activation::Identity
        {
            norm.activation = activation;
            step.output = output;
            continue;
        }
        let parameters = node.weights.iter().filter_map(|name| numbers.get(name.as_str()).copied());
        let input = inputs.first().and_then(|&value| shapes.get(value)).copied();
        let output_shape = shapes.get(output).copied().unwrap_or_default();
        let work = work(node, input.unwrap_or_default(), output_shape);
        steps.push(Step { work, parameters: parameters.collect(), inputs, output });
    }
    steps
}

/// How many nodes use a value.
fn users(layers: &Layers, value: Option<&String>) -> usize {
    let uses = layers.nodes.iter().flat_map(|node| &node.inputs);
    uses.filter(|&input| Some(input) == value).count()
}

fn work(node: &Node, input: Shape, output: Shape) -> Work {
    let pool = |&window, kind| Work::Pool(Pool { window, input, output, kind });
    match &node.op {
        &Op::Conv { window, groups } => {
            if groups > 1 && groups == input[0] && groups == output[0] {
                Work::Depthwise(Depthwise::new(window, input, output))
            } else {
                Work::Conv(Conv { window, groups, input, output })
            }
        }
        &Op::BatchNorm { epsilon, momentum } => {
            let [channels, rows, columns] = input;
            let (plane, activation) = (rows * columns, Activation::Identity);
            Work::Norm { norm: Norm { channels, plane, epsilon, activation }, momentum }
        }
        Op::Add => Work::Add,
        Op::Mul => Work::Mul,
        Op::GlobalAveragePool => Work::GlobalMean,
        Op::AveragePool(window) => pool(window, Kind::Mean),
        Op::MaxPool(window) => pool(window, Kind::Max),
        Op::Gemm => Work::Linear,
        Op::Concat => Work::Concat,
        Op::Flatten => Work::Copy,
        Op::MatMulLeft => Work::MatMulLeft,
        Op::MatMulRight => Work::MatMulRight,
        Op::Affine { scale, shift } => Work::Affine { scale: scale.clone(), shift: shift.clone() },
        &Op::Dropout { ratio } => Work::Dropout { ratio },
        op @ (Op::Relu | Op::HardSwish | Op::Sigmoid | Op::HardSigmoid { .. }) => {
            Work::Activation(Activation::of(op).unwrap_or(Activation::Identity))
        }
    }
}
