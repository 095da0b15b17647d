//! A network as an ONNX file, operator set 17.

use std::collections::BTreeSet;

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimensionValue};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::{Layers, LayersError, Node, Op, Window};

const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 17;
/// What the network's output is called.
const OUTPUT: &str = "logits";

impl Layers {
    /// The network for running, as an ONNX file: one input `[1, channels, rows, columns]`, one
    /// output `[1, outputs]`.
    pub fn to_onnx(&self) -> Result<Vec<u8>, LayersError> {
        let mut folded = self.folded()?;
        let outputs = folded.outputs()?;
        // A network that was read may have the name of the file's output for its last value.
        let last = folded.nodes.iter_mut().last().filter(|node| node.output == OUTPUT);
        last.into_iter().for_each(|node| node.output.push_str(".raw"));
        let mut writer = Writer { graph: GraphProto::default(), flat: BTreeSet::new() };
        writer.graph.name = "network".to_owned();
        for node in &folded.nodes {
            writer.node(node);
        }
        let last = folded.nodes.last().map_or(Self::INPUT, |node| &node.output);
        let op = if writer.flat.contains(last) { "Identity" } else { "Flatten" };
        writer.push(op, &[last], OUTPUT, Vec::new());
        for (name, weight) in &folded.weights {
            writer.tensor(name, &weight.shape, &weight.values);
        }
        let mut input = vec![1];
        input.extend(folded.input);
        writer.graph.input = vec![value_info(Self::INPUT, &input)];
        writer.graph.output = vec![value_info(OUTPUT, &[1, outputs])];
        let opset = OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "hearken".to_owned(),
            opset_import: vec![opset],
            graph: Some(writer.graph),
            ..ModelProto::default()
        };
        Ok(model.encode_to_vec())
    }
}

/// A graph in the making.
struct Writer {
    graph: GraphProto,
    /// Values written as `[1, n]`; all others are `[1, channels, rows, columns]`.
    flat: BTreeSet<String>,
}

impl Writer {
    fn node(&mut self, node: &Node) {
        let (inputs, attributes) = (self.inputs(node), attributes(&node.op));
        let mut all: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let is_flat = inputs.first().is_some_and(|input| self.flat.contains(input));
        let output = node.output.as_str();
        match &node.op {
            Op::Affine { scale, shift } => {
                let [by, plus] = ["scale", "shift"].map(|what| format!("{output}.{what}"));
                let scaled = format!("{output}.scaled");
                let rank = if is_flat { 1 } else { 3 };
                // One operator where one does: what was read from a file is written as it was,
                // names and all.
                let [scales, shifts] =
                    [(scale, 1.0), (shift, 0.0)].map(|(all, idle)| all.iter().any(|&x| x != idle));
                if scales {
                    self.per_channel(&by, scale, rank);
                    all.push(&by);
                    let product = if shifts { scaled.as_str() } else { output };
                    self.push("Mul", &all, product, Vec::new());
                    all = vec![&scaled];
                }
                if shifts || !scales {
                    self.per_channel(&plus, shift, rank);
                    all.push(&plus);
                    self.push("Add", &all, output, Vec::new());
                }
            }
            Op::Flatten if is_flat => self.push("Identity", &all, output, Vec::new()),
            op => {
                match op {
                    // Matrices are multiplied from the side where they stand.
                    Op::MatMulLeft => all.splice(..0, node.weights.iter().map(String::as_str)),
                    _ => all.splice(all.len().., node.weights.iter().map(String::as_str)),
                };
                self.push(name(op), &all, output, attributes);
            }
        }
        if is_flat || matches!(node.op, Op::Gemm | Op::Flatten) {
            self.flat.insert(node.output.clone());
        }
    }

    /// The names of what a node takes in, brought into the shape that its operator wants.
    fn inputs(&mut self, node: &Node) -> Vec<String> {
        let mut inputs = node.inputs.clone();
        let image_first = inputs.first().is_some_and(|first| !self.flat.contains(first));
        for input in &mut inputs {
            let is_flat = self.flat.contains(input);
            if node.op == Op::Gemm && !is_flat {
                *input = self.shaped(input, "Flatten", Vec::new());
            } else if is_flat && image_first {
                // One factor a channel.
                let axes = format!("{input}.axes");
                *input = self.shaped(input, "Unsqueeze", vec![axes]);
            }
        }
        inputs
    }

    /// The value in another shape.
    fn shaped(&mut self, value: &str, op: &str, more: Vec<String>) -> String {
        let output = format!("{value}.{}", op.to_lowercase());
        if self.graph.node.iter().any(|node| node.output.contains(&output)) {
            return output;
        }
        for axes in &more {
            self.graph.initializer.push(TensorProto {
                name: axes.clone(),
                dims: vec![2],
                data_type: DataType::Int64 as i32,
                raw_data: [2_i64, 3].iter().flat_map(|axis| axis.to_le_bytes()).collect(),
                ..TensorProto::default()
            });
        }
        let inputs: Vec<&str> = std::iter::once(value).chain(more.iter().map(|m| &**m)).collect();
        self.push(op, &inputs, &output, Vec::new());
        output
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            name: output.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    }

    /// A constant with one value for all channels, or one for each.
    fn per_channel(&mut self, name: &str, values: &[f32], rank: usize) {
        let mut shape = vec![values.len()];
        shape.resize(rank, 1);
        self.tensor(name, &shape, values);
    }

    fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
    }
}

/// The ONNX operator.
fn name(op: &Op) -> &'static str {
    match op {
        Op::Conv { .. } => "Conv",
        Op::BatchNorm { .. } => "BatchNormalization",
        Op::Relu => "Relu",
        Op::HardSwish => "HardSwish",
        Op::Sigmoid => "Sigmoid",
        Op::HardSigmoid { .. } => "HardSigmoid",
        Op::Add | Op::Affine { .. } => "Add",
        Op::Mul => "Mul",
        Op::GlobalAveragePool => "GlobalAveragePool",
        Op::AveragePool(_) => "AveragePool",
        Op::MaxPool(_) => "MaxPool",
        Op::Gemm => "Gemm",
        Op::Concat => "Concat",
        Op::Flatten => "Flatten",
        Op::MatMulLeft | Op::MatMulRight => "MatMul",
        Op::Dropout { .. } => "Identity",
    }
}

fn attributes(op: &Op) -> Vec<AttributeProto> {
    let float = |name: &str, f| AttributeProto { f, r#type: 1, ..named(name) };
    match op {
        Op::Conv { window, groups } => {
            let mut attributes = sliding(window);
            attributes.push(ints("kernel_shape", &window.kernel));
            attributes.push(int("group", *groups as i64));
            attributes
        }
        Op::AveragePool(window) | Op::MaxPool(window) => {
            let mut attributes = sliding(window);
            attributes.push(ints("kernel_shape", &window.kernel));
            attributes.push(int("ceil_mode", window.ceil.into()));
            attributes
        }
        Op::HardSigmoid { alpha, beta } => vec![float("alpha", *alpha), float("beta", *beta)],
        Op::Gemm => vec![int("transB", 1)],
        Op::Concat => vec![int("axis", 1)],
        _ => Vec::new(),
    }
}

fn sliding(window: &Window) -> Vec<AttributeProto> {
    let pads: Vec<usize> = window.before.into_iter().chain(window.after).collect();
    vec![ints("strides", &window.stride), ints("pads", &pads)]
}

fn named(name: &str) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, r#type: 2, ..named(name) }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&value| value as i64).collect();
    AttributeProto { ints, r#type: 7, ..named(name) }
}

/// A named value of floats.
fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dimension = |&size: &usize| Dimension {
        value: Some(DimensionValue::DimValue(size as i64)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
