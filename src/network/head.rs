//! The last layer of a network: found in the ONNX graph, taken off to get embeddings, and put
//! back with other weights, for other classes or for calibrated scores.

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimensionValue};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

use super::artifact::{ModelError, PREFIX};
use super::runner::Network;

/// A linear layer: `output = weights * input + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Length of the input.
    pub features: usize,
    /// `outputs x features`, output by output.
    pub weights: Vec<f32>,
    /// One value an output.
    pub bias: Vec<f32>,
}

/// Why the last layer can't be had.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "the network does not end in a linear layer (Gemm, or MatMul and Add, with its weights in the file): {0}"
    )]
    NotLinear(String),
    #[error("a last layer of {found} does not fit where {expected} are needed")]
    Size { found: String, expected: String },
}

/// A network taken apart before its last linear layer.
pub struct Headless {
    /// The graph up to the embedding, which is its output.
    proto: ModelProto,
    /// Name of the original output.
    output: String,
    head: Linear,
}

impl Linear {
    /// One value an output.
    pub fn apply(&self, input: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.features.max(1));
        rows.zip(&self.bias).map(|(row, bias)| dot(row, input) + bias).collect()
    }

    /// The rows of `self`, then those of `other`.
    pub fn followed_by(mut self, other: &Self) -> Self {
        self.weights.extend_from_slice(&other.weights);
        self.bias.extend_from_slice(&other.bias);
        self
    }

    fn check(&self) -> Result<(), HeadError> {
        let (outputs, weights) = (self.bias.len(), self.weights.len());
        if outputs == 0 || self.features == 0 || weights != outputs * self.features {
            let found = format!("{weights} weights and {outputs} biases");
            let expected = format!("{} weights an output", self.features);
            return Err(HeadError::Size { found, expected });
        }
        Ok(())
    }
}

impl Headless {
    /// Takes the last layer off an ONNX file, with or without metadata. Nodes behind it that
    /// change no value, only shapes, go with it.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut proto =
            ModelProto::decode(bytes).map_err(|error| ModelError::NotOnnx(error.to_string()))?;
        let graph = proto.graph.as_mut().ok_or_else(|| not_linear("it holds no graph"))?;
        let (output, embedding, head) = behead(graph)?;
        graph.output = vec![value_info(&embedding, head.features)];
        graph.value_info.clear();
        prune(graph, &embedding);
        Ok(Self { proto, output, head })
    }

    /// The layer that was taken off.
    pub fn head(&self) -> &Linear {
        &self.head
    }

    /// The network that gives the embedding: `features` values an image.
    pub fn embedder(&self) -> Result<Network, HeadError> {
        Ok(Network::new(&self.proto, self.head.features)?)
    }

    /// The ONNX file with `head` as its last layer. The metadata of a model no longer fits and is
    /// not kept; a [`super::Memory`] still does and is.
    pub fn with_head(&self, head: &Linear) -> Result<Vec<u8>, HeadError> {
        head.check()?;
        if head.features != self.head.features {
            let found = format!("{} features", head.features);
            let expected = format!("{} features", self.head.features);
            return Err(HeadError::Size { found, expected });
        }
        let mut proto = self.proto.clone();
        proto.metadata_props.retain(|entry| !entry.key.starts_with(PREFIX));
        let Some(graph) = &mut proto.graph else { return Err(not_linear("it holds no graph")) };
        let embedding = std::mem::take(&mut graph.output).into_iter().next().unwrap_or_default();
        let outputs = head.bias.len();
        let [weights, bias] = ["weight", "bias"].map(|what| format!("{}.head.{what}", self.output));
        graph.node.push(gemm([&embedding.name, &weights, &bias], &self.output));
        graph.initializer.push(tensor(&weights, &[outputs, head.features], &head.weights));
        graph.initializer.push(tensor(&bias, &[outputs], &head.bias));
        graph.output = vec![value_info(&self.output, outputs)];
        Ok(proto.encode_to_vec())
    }

    /// The ONNX file with output `i` changed to `scale[i] * output + shift[i]`: the last layer
    /// takes both in, so that it costs nothing.
    pub fn scale_outputs(&self, scale: &[f32], shift: &[f32]) -> Result<Vec<u8>, HeadError> {
        let outputs = self.head.bias.len();
        if scale.len() != outputs || shift.len() != outputs {
            let found = format!("{} scales and {} shifts", scale.len(), shift.len());
            return Err(HeadError::Size { found, expected: format!("{outputs} of each") });
        }
        let mut head = self.head.clone();
        let rows = head.weights.chunks_exact_mut(head.features.max(1));
        for ((row, bias), (scale, shift)) in rows.zip(&mut head.bias).zip(scale.iter().zip(shift)) {
            row.iter_mut().for_each(|weight| *weight *= scale);
            *bias = *bias * scale + shift;
        }
        self.with_head(&head)
    }
}

/// The sum of products, in several sums side by side, so that the compiler makes vectors of it.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((left, left_rest), (right, right_rest)) =
        (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for (sum, (a, b)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += a * b;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn not_linear(why: impl Into<String>) -> HeadError {
    HeadError::NotLinear(why.into())
}

/// Nodes that hand one value on, maybe in another shape.
fn is_shape_only(node: &NodeProto) -> bool {
    matches!(
        node.op_type.as_str(),
        "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" | "Dropout"
    )
}

/// Finds the last layer. Returns the names of the graph's output and of the embedding, and the
/// layer.
fn behead(graph: &GraphProto) -> Result<(String, String, Linear), HeadError> {
    let [output] = graph.output.as_slice() else {
        return Err(not_linear(format!("it has {} outputs", graph.output.len())));
    };
    let mut node = producer(graph, &output.name)?;
    // A graph may be a circle in a damaged file.
    for _ in 0..graph.node.len() {
        if !is_shape_only(node) {
            break;
        }
        node = producer(graph, input(node, 0)?)?;
    }
    let (embedding, head) = match node.op_type.as_str() {
        "Gemm" => (input(node, 0)?, read_gemm(graph, node)?),
        "Add" => read_matmul_and_add(graph, node)?,
        "MatMul" => (input(node, 0)?, matmul(graph, node)?),
        other => return Err(not_linear(format!("the last node is a {other}"))),
    };
    head.check()?;
    Ok((output.name.clone(), embedding.to_owned(), head))
}

fn producer<'a>(graph: &'a GraphProto, value: &str) -> Result<&'a NodeProto, HeadError> {
    let made_by = |node: &&NodeProto| node.output.iter().any(|output| output == value);
    graph
        .node
        .iter()
        .find(made_by)
        .ok_or_else(|| not_linear(format!("nothing makes the value {value:?}")))
}

fn input(node: &NodeProto, index: usize) -> Result<&str, HeadError> {
    let input = node.input.get(index).map(String::as_str);
    input.ok_or_else(|| not_linear(format!("the node {:?} lacks an input", node.name)))
}

fn read_gemm(graph: &GraphProto, node: &NodeProto) -> Result<Linear, HeadError> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let flag = |name| attribute(name).is_some_and(|attribute| attribute.i != 0);
    let factor = |name| attribute(name).map_or(1.0, |attribute| attribute.f);
    if flag("transA") {
        return Err(not_linear("the Gemm has transA"));
    }
    let (shape, weights) = constant(graph, input(node, 1)?)?;
    let mut head = linear(&shape, weights, flag("transB"))?;
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    head.weights.iter_mut().for_each(|weight| *weight *= alpha);
    if node.input.get(2).is_some_and(|name| !name.is_empty()) {
        let (_, bias) = constant(graph, input(node, 2)?)?;
        set_bias(&mut head, &bias, beta)?;
    }
    Ok(head)
}

fn read_matmul_and_add<'a>(
    graph: &'a GraphProto,
    add: &'a NodeProto,
) -> Result<(&'a str, Linear), HeadError> {
    let (left, right) = (input(add, 0)?, input(add, 1)?);
    let (product, bias) = match constant(graph, right) {
        Ok(bias) => (left, bias),
        Err(_) => (right, constant(graph, left)?),
    };
    let node = producer(graph, product)?;
    if node.op_type != "MatMul" {
        return Err(not_linear(format!("a {} comes before the last Add", node.op_type)));
    }
    let mut head = matmul(graph, node)?;
    set_bias(&mut head, &bias.1, 1.0)?;
    Ok((input(node, 0)?, head))
}

fn matmul(graph: &GraphProto, node: &NodeProto) -> Result<Linear, HeadError> {
    let (shape, weights) = constant(graph, input(node, 1)?)?;
    linear(&shape, weights, false)
}

/// A layer without bias, of weights `outputs x features` or the other way round.
fn linear(shape: &[usize], weights: Vec<f32>, by_output: bool) -> Result<Linear, HeadError> {
    let &[rows, columns] = shape else {
        return Err(not_linear(format!("its weights have {} dimensions", shape.len())));
    };
    if by_output {
        return Ok(Linear { features: columns, weights, bias: vec![0.0; rows] });
    }
    let column = |at: usize| weights.iter().skip(at).step_by(columns.max(1)).copied();
    let turned = (0..columns).flat_map(column).collect();
    Ok(Linear { features: rows, weights: turned, bias: vec![0.0; columns] })
}

/// One value for each output, or one for all.
fn set_bias(head: &mut Linear, bias: &[f32], factor: f32) -> Result<(), HeadError> {
    if bias.len() != 1 && bias.len() != head.bias.len() {
        let found = format!("{} biases", bias.len());
        return Err(HeadError::Size { found, expected: format!("{} outputs", head.bias.len()) });
    }
    for (slot, value) in head.bias.iter_mut().zip(bias.iter().cycle()) {
        *slot = factor * value;
    }
    Ok(())
}

/// Shape and values of an initializer.
fn constant(graph: &GraphProto, name: &str) -> Result<(Vec<usize>, Vec<f32>), HeadError> {
    let tensor = graph.initializer.iter().find(|tensor| tensor.name == name);
    let tensor = tensor.ok_or_else(|| not_linear(format!("{name:?} is no stored weight")))?;
    if tensor.data_type != DataType::Float as i32 {
        return Err(not_linear(format!("{name:?} does not hold 32-bit floats")));
    }
    let shape: Vec<usize> =
        tensor.dims.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    let values: Vec<f32> = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        tensor.raw_data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    if shape.iter().try_fold(1_usize, |all, &size| all.checked_mul(size)) != Some(values.len()) {
        return Err(not_linear(format!("{name:?} holds {} values, not {shape:?}", values.len())));
    }
    Ok((shape, values))
}

/// Keeps what the value `wanted` needs: nodes and weights.
fn prune(graph: &mut GraphProto, wanted: &str) {
    let mut needed = std::collections::BTreeSet::from([wanted.to_owned()]);
    // ONNX has its nodes in the order in which they run.
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
        }
    }
    graph.node.retain(|node| node.output.iter().any(|output| needed.contains(output)));
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
    // Old files list their weights among the inputs, too.
    graph.input.retain(|input| needed.contains(&input.name));
}

fn gemm(inputs: [&str; 3], output: &str) -> NodeProto {
    let by_output =
        AttributeProto { name: "transB".to_owned(), r#type: 2, i: 1, ..AttributeProto::default() };
    NodeProto {
        op_type: "Gemm".to_owned(),
        name: format!("{output}.head"),
        input: inputs.map(str::to_owned).to_vec(),
        output: vec![output.to_owned()],
        attribute: vec![by_output],
        ..NodeProto::default()
    }
}

fn tensor(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&size| size as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A named value of `[1, size]` floats.
fn value_info(name: &str, size: usize) -> ValueInfoProto {
    let dimension = |size: usize| Dimension {
        value: Some(DimensionValue::DimValue(size as i64)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: vec![dimension(1), dimension(size)] };
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(shape) };
    let value = Some(TypeValue::TensorType(tensor));
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::runner::probe_image;

    const SHIPPED: &[u8] = include_bytes!("../../models/sound.onnx");

    fn run(network: &Network) -> Vec<f32> {
        let image = probe_image(1);
        network.session().unwrap().run_rows(image.chunks(Network::SIDE)).unwrap()
    }

    fn network(onnx: &[u8], outputs: usize) -> Network {
        Network::new(&ModelProto::decode(onnx).unwrap(), outputs).unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
        }
    }

    #[test]
    fn embedding_and_head_together_are_the_network() {
        let headless = Headless::from_onnx(SHIPPED).unwrap();
        let whole = run(&network(SHIPPED, headless.head().bias.len()));
        let embedding = run(&headless.embedder().unwrap());
        assert_eq!(embedding.len(), headless.head().features);
        close(&headless.head().apply(&embedding), &whole);
        let again = headless.with_head(headless.head()).unwrap();
        close(&run(&network(&again, whole.len())), &whole);
    }

    #[test]
    fn another_head_gives_its_own_outputs_and_can_be_replaced_again() {
        let headless = Headless::from_onnx(SHIPPED).unwrap();
        let features = headless.head().features;
        let weights = (0..3 * features).map(|i| (i as f32 * 0.37).sin() * 0.1).collect();
        let head = Linear { features, weights, bias: vec![0.5, -1.0, 2.0] };
        let expected = head.apply(&run(&headless.embedder().unwrap()));
        let onnx = headless.with_head(&head).unwrap();
        close(&run(&network(&onnx, 3)), &expected);
        let second = Headless::from_onnx(&onnx).unwrap();
        assert_eq!(second.head(), &head);
        let onnx = second.scale_outputs(&[2.0, 1.0, -1.0], &[0.0, 0.25, 1.0]).unwrap();
        let scaled = [2.0 * expected[0], expected[1] + 0.25, 1.0 - expected[2]];
        close(&run(&network(&onnx, 3)), &scaled);
        // Nothing of the layers that were taken off stays behind.
        assert_eq!(onnx.len(), second.with_head(&head).unwrap().len());
    }

    #[test]
    fn appended_rows_leave_the_first_ones_as_they_are() {
        let headless = Headless::from_onnx(SHIPPED).unwrap();
        let (old, features) = (headless.head().clone(), headless.head().features);
        let outputs = old.bias.len();
        let new = Linear { features, weights: vec![0.01; features], bias: vec![-3.0] };
        let onnx = headless.with_head(&old.clone().followed_by(&new)).unwrap();
        let found = run(&network(&onnx, outputs + 1));
        close(&found[..outputs], &run(&network(SHIPPED, outputs)));
        let sum: f32 = run(&headless.embedder().unwrap()).iter().sum();
        close(&found[outputs..], &[0.01 * sum - 3.0]);
    }

    /// A graph of these nodes on an input of `[1, 2]` and weights `w` (2 x 3) and `b` (3).
    fn small(nodes: &[(&str, &[&str], &str)]) -> Vec<u8> {
        let node = |&(op_type, input, output): &(&str, &[&str], &str)| NodeProto {
            op_type: op_type.to_owned(),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let graph = GraphProto {
            node: nodes.iter().map(node).collect(),
            initializer: vec![
                tensor("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
                tensor("b", &[3], &[0.1, 0.2, 0.3]),
            ],
            input: vec![value_info("x", 2)],
            output: vec![value_info("y", 3)],
            ..GraphProto::default()
        };
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    #[test]
    fn gemm_and_matmul_with_add_mean_the_same() {
        let gemm: &[_] = &[("Relu", &["x"][..], "e"), ("Gemm", &["e", "w", "b"], "y")];
        let matmul: &[_] = &[
            ("Relu", &["x"][..], "e"),
            ("MatMul", &["e", "w"], "p"),
            ("Add", &["b", "p"], "q"),
            ("Identity", &["q"], "y"),
        ];
        for nodes in [gemm, matmul] {
            let headless = Headless::from_onnx(&small(nodes)).unwrap();
            let head = headless.head();
            assert_eq!((head.features, head.bias.as_slice()), (2, &[0.1, 0.2, 0.3][..]));
            close(&head.apply(&[1.0, 10.0]), &[41.1, 52.2, 63.3]);
            let graph = headless.proto.graph.as_ref().unwrap();
            assert_eq!((graph.node.len(), graph.initializer.len()), (1, 0));
        }
    }

    #[test]
    fn a_network_without_a_linear_end_is_refused_with_the_reason() {
        type Nodes = [(&'static str, &'static [&'static str], &'static str)];
        let cases: [(&Nodes, &str); 4] = [
            (&[("Gemm", &["x", "w", "b"], "z"), ("Softmax", &["z"], "y")], "Softmax"),
            (&[("Gemm", &["x", "v", "b"], "y")], "\"v\" is no stored weight"),
            (&[("Identity", &["y"], "y")], "Identity"),
            (&[("Gemm", &["x", "w", "b"], "z")], "nothing makes the value \"y\""),
        ];
        for (nodes, reason) in cases {
            let error = Headless::from_onnx(&small(nodes)).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(matches!(Headless::from_onnx(b"RIFF"), Err(HeadError::Model(_))));
        let headless = Headless::from_onnx(SHIPPED).unwrap();
        let bad = Linear { features: 3, weights: vec![0.0; 6], bias: vec![0.0; 2] };
        assert!(matches!(headless.with_head(&bad), Err(HeadError::Size { .. })));
    }
}
