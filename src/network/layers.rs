//! A network as plain data: what it computes, and with which weights. Training works on this;
//! ONNX is how it is written and read.

mod fold;
mod head;
mod read;
mod shape;
mod write;

use std::collections::BTreeMap;

pub use shape::Shape;
pub(crate) use shape::meeting;

/// A network from one image to one vector of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers {
    /// Channels, rows and columns of the image.
    pub input: Shape,
    /// In an order in which every value is made before it is used. The last one's output is the
    /// network's.
    pub nodes: Vec<Node>,
    pub weights: BTreeMap<String, Weight>,
}

/// One step of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub op: Op,
    /// Names of the values that go in.
    pub inputs: Vec<String>,
    /// Names of the weights, in the order that [`Op`] gives.
    pub weights: Vec<String>,
    /// Name of the value that comes out: names the node, too.
    pub output: String,
}

/// A named tensor, the last dimension running fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Windows that slide over an image. Pairs are rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Rows and columns added before the first.
    pub before: [usize; 2],
    /// Rows and columns added behind the last.
    pub after: [usize; 2],
    /// A last window that begins inside the image, but ends outside of it, counts.
    pub ceil: bool,
}

/// What a node computes. Values are `channels x rows x columns`; a vector is `n x 1 x 1`.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Weights: `outputs x inputs / groups x rows x columns`, and perhaps one bias an output.
    Conv {
        window: Window,
        groups: usize,
    },
    /// Weights: scale, shift, mean and variance, one value a channel. Ioffe and Szegedy 2015. In
    /// training `momentum` is how much of the running mean and variance stays at each step.
    BatchNorm {
        epsilon: f32,
        momentum: f32,
    },
    Relu,
    /// `x * clamp(x / 6 + 1 / 2, 0, 1)`
    HardSwish,
    Sigmoid,
    /// `clamp(alpha * x + beta, 0, 1)`
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// Of two values of one shape.
    Add,
    /// Of a value with another of its shape, or with a vector: one factor a channel.
    Mul,
    GlobalAveragePool,
    /// Without what was added around the image.
    AveragePool(Window),
    MaxPool(Window),
    /// Weights: `outputs x inputs`, and perhaps one bias an output. The input counts as one
    /// vector, whatever its shape.
    Gemm,
    /// Of the channels of several values.
    Concat,
    /// All values as one vector.
    Flatten,
    /// A constant matrix times the image of each channel. Not trained.
    MatMulLeft,
    /// The image of each channel times a constant matrix. Not trained.
    MatMulRight,
    /// `scale * x + shift`, with one value for all channels or one for each. Not trained.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// Leaves values out while training, this share of them. Nothing otherwise.
    Dropout {
        ratio: f32,
    },
}

/// Why a network can't be worked with.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    #[error("node `{node}` ({op}) is not supported in training: {why}")]
    Unsupported { node: String, op: String, why: String },
    #[error("the network does not fit together at `{node}`: {why}")]
    Shape { node: String, why: String },
}

impl Weight {
    /// A tensor of zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] }
    }
}

impl Window {
    /// One cell.
    pub const POINT: Self = Self::square(1, 1, 0);

    /// A square kernel with the same stride and the same rows and columns added on all sides.
    pub const fn square(kernel: usize, stride: usize, around: usize) -> Self {
        let (before, after) = ([around; 2], [around; 2]);
        Self { kernel: [kernel; 2], stride: [stride; 2], before, after, ceil: false }
    }
}

impl Op {
    /// How many of its weights, from the first on, are trained.
    pub fn trained_weights(&self, weights: usize) -> usize {
        match self {
            Self::BatchNorm { .. } => 2,
            Self::MatMulLeft | Self::MatMulRight => 0,
            _ => weights,
        }
    }
}

impl Layers {
    /// What the input image is called as a value.
    pub const INPUT: &'static str = "image";

    /// A network that does nothing yet.
    pub fn new(input: Shape) -> Self {
        Self { input, nodes: Vec::new(), weights: BTreeMap::new() }
    }

    /// Adds a node and its weights. Returns the name of its output, which is `output`.
    pub fn push(
        &mut self,
        op: Op,
        inputs: &[&str],
        weights: Vec<(String, Weight)>,
        output: &str,
    ) -> String {
        let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
        let names = weights.iter().map(|(name, _)| name.clone()).collect();
        self.weights.extend(weights);
        self.nodes.push(Node { op, inputs, weights: names, output: output.to_owned() });
        output.to_owned()
    }

    /// The weight of that name.
    pub fn weight(&self, node: &Node, name: &str) -> Result<&Weight, LayersError> {
        self.weights.get(name).ok_or_else(|| LayersError::Shape {
            node: node.output.clone(),
            why: format!("there is no weight `{name}`"),
        })
    }

    /// How many values the network gives.
    pub fn outputs(&self) -> Result<usize, LayersError> {
        let shapes = self.shapes()?;
        Ok(shapes.last().map_or(0, |shape| shape.iter().product()))
    }

    /// The part of the network behind a value, which becomes the part's image.
    pub fn behind(&self, value: &str) -> Result<Self, LayersError> {
        let place = self.nodes.iter().position(|node| node.output == value);
        let shape = place.and_then(|place| self.shapes().ok()?.get(place).copied());
        let (Some(place), Some(input)) = (place, shape) else {
            let why = "the network makes no such value".to_owned();
            return Err(LayersError::Shape { node: value.to_owned(), why });
        };
        let mut part = Self::new(input);
        for node in self.nodes.iter().skip(place + 1) {
            let renamed = |name: &String| if name == value { Self::INPUT } else { name }.to_owned();
            part.nodes
                .push(Node { inputs: node.inputs.iter().map(renamed).collect(), ..node.clone() });
            for name in &node.weights {
                part.weights.insert(name.clone(), self.weight(node, name)?.clone());
            }
        }
        part.shapes()?;
        Ok(part)
    }

    /// Takes over the weights of a part of the network that was trained by itself.
    pub fn take_weights(&mut self, part: Self) {
        self.weights.extend(part.weights);
    }
}
