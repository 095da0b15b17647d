//! An ONNX graph as a network: what exporters write in many ways is brought to our few ops.

use std::collections::BTreeMap;

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::shape::{Shape, output_shape};
use super::{Layers, LayersError, Op, Weight, Window};

/// A larger file is refused before it is parsed.
const FILE_BYTES_MAX: usize = 512 << 20;
/// Larger sizes, strides and borders are refused, so that no product of them overflows.
const SIZE_MAX: usize = 1 << 16;

impl Layers {
    /// Reads an ONNX file of one image `[n, channels, rows, columns]` to one vector a image.
    /// Constants are taken as weights that may be trained, except where [`Op`] says otherwise.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, LayersError> {
        let not_onnx = |why: &str| LayersError::NotOnnx(why.to_owned());
        if bytes.len() > FILE_BYTES_MAX {
            return Err(not_onnx("it is too large"));
        }
        let model =
            ModelProto::decode(bytes).map_err(|error| LayersError::NotOnnx(error.to_string()))?;
        let graph = model.graph.ok_or_else(|| not_onnx("it holds no graph"))?;
        let mut reader = Reader::new(&graph)?;
        for node in &graph.node {
            reader.node(node).map_err(|Refusal(why)| {
                let (name, op) = (node.name.clone(), node.op_type.clone());
                let node = if name.is_empty() { node.output.concat() } else { name };
                LayersError::Unsupported { node, op, why }
            })?;
        }
        let [output] = graph.output.as_slice() else {
            return Err(not_onnx("it has not exactly one output"));
        };
        reader.finish(&output.name)
    }
}

/// Why a node can't be read.
struct Refusal(String);

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self(why)
    }
}

struct Reader {
    layers: Layers,
    constants: BTreeMap<String, Constant>,
    /// What a value of the file is in the network, and its shape.
    values: BTreeMap<String, (String, Shape)>,
}

/// A tensor of the file; whole numbers are floats, too.
#[derive(Clone)]
struct Constant(Weight);

impl Reader {
    fn new(graph: &GraphProto) -> Result<Self, LayersError> {
        let mut constants = BTreeMap::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.clone(), constant(tensor).map_err(LayersError::NotOnnx)?);
        }
        let is_value = |input: &&ValueInfoProto| !constants.contains_key(&input.name);
        let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(is_value).collect();
        let not_image = || LayersError::NotOnnx("its input is not one image of fixed size".into());
        let [input] = inputs.as_slice() else { return Err(not_image()) };
        let shape = image_shape(input).ok_or_else(not_image)?;
        let values = BTreeMap::from([(input.name.clone(), (Layers::INPUT.to_owned(), shape))]);
        Ok(Self { layers: Layers::new(shape), constants, values })
    }

    /// The network up to `output`.
    fn finish(mut self, output: &str) -> Result<Layers, LayersError> {
        let name = self.values.get(output).map(|(name, _)| name.clone());
        let end = self.layers.nodes.iter().position(|node| Some(&node.output) == name.as_ref());
        let end = end.ok_or_else(|| LayersError::NotOnnx(format!("nothing makes `{output}`")))?;
        self.layers.nodes.truncate(end + 1);
        let used = self.layers.nodes.iter().flat_map(|node| node.weights.clone());
        let used: std::collections::BTreeSet<String> = used.collect();
        self.layers.weights.retain(|name, _| used.contains(name));
        self.layers.shapes()?;
        Ok(self.layers)
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), Refusal> {
        let attributes = Attributes(node);
        match node.op_type.as_str() {
            "Constant" => {
                let value = node.attribute.iter().find(|attribute| attribute.name == "value");
                let tensor = value.and_then(|value| value.t.as_ref()).ok_or("it has no value")?;
                self.constants.insert(node.output.concat(), constant(tensor)?);
                Ok(())
            }
            "Conv" => {
                let kernel = self.weight(node, 1)?.shape.get(2..).unwrap_or_default().to_vec();
                let window = attributes.window(&kernel)?;
                let groups = attributes.int("group", 1)?;
                self.layer(node, Op::Conv { window, groups })
            }
            "BatchNormalization" => {
                let (epsilon, momentum) =
                    (attributes.float("epsilon", 1e-5), attributes.float("momentum", 0.9));
                self.layer(node, Op::BatchNorm { epsilon, momentum })
            }
            "Gemm" => self.gemm(node, &attributes),
            "MatMul" => self.matrix_product(node),
            "Relu" => self.layer(node, Op::Relu),
            "HardSwish" => self.layer(node, Op::HardSwish),
            "Sigmoid" => self.layer(node, Op::Sigmoid),
            "HardSigmoid" => {
                let (alpha, beta) = (attributes.float("alpha", 0.2), attributes.float("beta", 0.5));
                self.layer(node, Op::HardSigmoid { alpha, beta })
            }
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "GlobalAveragePool" => self.layer(node, Op::GlobalAveragePool),
            "ReduceMean" => self.reduce_mean(node, &attributes),
            "MaxPool" => {
                let window = attributes.window(&attributes.ints("kernel_shape")?)?;
                self.layer(node, Op::MaxPool(window))
            }
            "AveragePool" => {
                let window = attributes.window(&attributes.ints("kernel_shape")?)?;
                let is_bare = [window.before, window.after] == [[0; 2]; 2];
                if attributes.int("count_include_pad", 0)? != 0 && !is_bare {
                    return Err("cells around the image count".into());
                }
                self.layer(node, Op::AveragePool(window))
            }
            "Concat" if attributes.int("axis", 0)? == 1 => self.layer(node, Op::Concat),
            "Identity" | "Dropout" => self.rename(node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            _ => Err("this operation is not known".into()),
        }
    }

    /// Adds a node; its inputs that are constants become weights.
    fn layer(&mut self, node: &NodeProto, op: Op) -> Result<(), Refusal> {
        let (mut inputs, mut weights) = (Vec::new(), Vec::new());
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            match self.constants.get(name) {
                Some(Constant(weight)) => weights.push((name.clone(), weight.clone())),
                None => inputs.push(self.value(name)?),
            }
        }
        self.push(node, op, inputs, weights)
    }

    fn push(
        &mut self,
        node: &NodeProto,
        op: Op,
        inputs: Vec<(String, Shape)>,
        weights: Vec<(String, Weight)>,
    ) -> Result<(), Refusal> {
        let shapes: Vec<Shape> = inputs.iter().map(|(_, shape)| *shape).collect();
        let weight_shapes: Vec<&[usize]> =
            weights.iter().map(|(_, weight)| weight.shape.as_slice()).collect();
        let shape = output_shape(&op, &shapes, &weight_shapes)?;
        let output = node.output.first().ok_or("it has no output")?;
        let inputs: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        let name = self.layers.push(op, &inputs, weights, output);
        self.values.insert(output.clone(), (name, shape));
        Ok(())
    }

    fn value(&self, name: &str) -> Result<(String, Shape), Refusal> {
        let unknown = || Refusal(format!("its input `{name}` is not known"));
        self.values.get(name).cloned().ok_or_else(unknown)
    }

    fn weight(&self, node: &NodeProto, index: usize) -> Result<&Weight, Refusal> {
        let constant = node.input.get(index).and_then(|name| self.constants.get(name));
        constant.map(|Constant(weight)| weight).ok_or("its weights are not constant".into())
    }

    fn gemm(&mut self, node: &NodeProto, attributes: &Attributes) -> Result<(), Refusal> {
        let plain = [attributes.float("alpha", 1.0), attributes.float("beta", 1.0)] == [1.0; 2]
            && attributes.int("transA", 0)? == 0;
        if !plain {
            return Err("only weights, transposed or not, and a bias are known".into());
        }
        if attributes.int("transB", 0)? == 0 {
            let turned = transposed(self.weight(node, 1)?);
            let name = node.input.get(1).cloned().unwrap_or_default();
            self.constants.insert(name, Constant(turned));
        }
        self.layer(node, Op::Gemm)
    }

    fn matrix_product(&mut self, node: &NodeProto) -> Result<(), Refusal> {
        let is_left = node.input.first().is_some_and(|name| self.constants.contains_key(name));
        self.layer(node, if is_left { Op::MatMulLeft } else { Op::MatMulRight })
    }

    /// With a constant: scaling or shifting. Of two values: a sum or a product.
    fn arithmetic(&mut self, node: &NodeProto) -> Result<(), Refusal> {
        let [a, b] = node.input.as_slice() else { return Err("it has not two inputs".into()) };
        let kind = node.op_type.as_str();
        let (value, constant) = match (self.constants.get(a), self.constants.get(b)) {
            (None, Some(constant)) => (self.value(a)?, constant),
            (Some(constant), None) if matches!(kind, "Add" | "Mul") => (self.value(b)?, constant),
            (None, None) => return self.of_two(node, a, b),
            _ => return Err("of its inputs only the second may be constant".into()),
        };
        let values =
            per_channel(&constant.0, value.1).ok_or("a constant is not one per channel")?;
        let (scale, shift) = match kind {
            "Mul" => (values, vec![0.0]),
            "Div" => (values.iter().map(|value| 1.0 / value).collect(), vec![0.0]),
            "Sub" => (vec![1.0], values.iter().map(|value| -value).collect()),
            _ => (vec![1.0], values),
        };
        self.push(node, Op::Affine { scale, shift }, vec![value], Vec::new())
    }

    fn of_two(&mut self, node: &NodeProto, a: &str, b: &str) -> Result<(), Refusal> {
        let (a, b) = (self.value(a)?, self.value(b)?);
        match node.op_type.as_str() {
            "Add" => self.push(node, Op::Add, vec![a, b], Vec::new()),
            // The factor comes second.
            "Mul" if a.1[1] * a.1[2] == 1 => self.push(node, Op::Mul, vec![b, a], Vec::new()),
            "Mul" => self.push(node, Op::Mul, vec![a, b], Vec::new()),
            _ => Err("its second input is not constant".into()),
        }
    }

    fn reduce_mean(&mut self, node: &NodeProto, attributes: &Attributes) -> Result<(), Refusal> {
        let axes = match self.weight(node, 1) {
            Ok(axes) => axes.values.iter().map(|&axis| axis as i64).collect(),
            Err(_) => attributes.ints_signed("axes"),
        };
        if !matches!(axes.as_slice(), [2, 3] | [-2, -1]) {
            return Err("only means over rows and columns are known".into());
        }
        let input = self.value(node.input.first().map_or("", String::as_str))?;
        self.push(node, Op::GlobalAveragePool, vec![input], Vec::new())
    }

    /// The output is the input by another name.
    fn rename(&mut self, node: &NodeProto) -> Result<(), Refusal> {
        let value = self.value(node.input.first().map_or("", String::as_str))?;
        self.values.insert(node.output.first().cloned().unwrap_or_default(), value);
        Ok(())
    }

    /// Vectors keep their values whatever form they have; images may become vectors.
    fn reshape(&mut self, node: &NodeProto) -> Result<(), Refusal> {
        let value = self.value(node.input.first().map_or("", String::as_str))?;
        if value.1[1] * value.1[2] == 1 {
            return self.rename(node);
        }
        let flattens = match node.op_type.as_str() {
            "Flatten" => Attributes(node).int("axis", 1)? == 1,
            "Reshape" => self.weight(node, 1)?.values.len() == 2,
            _ => false,
        };
        if !flattens {
            return Err("an image can only be made one vector".into());
        }
        self.push(node, Op::Flatten, vec![value], Vec::new())
    }
}

/// The attributes of a node.
struct Attributes<'a>(&'a NodeProto);

impl Attributes<'_> {
    fn int(&self, name: &str, default: usize) -> Result<usize, Refusal> {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        let wrong = |_| Refusal(format!("`{name}` is negative"));
        found.map_or(Ok(default), |attribute| usize::try_from(attribute.i).map_err(wrong))
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        found.map_or(default, |attribute| attribute.f)
    }

    fn ints_signed(&self, name: &str) -> Vec<i64> {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        found.map(|attribute| attribute.ints.clone()).unwrap_or_default()
    }

    fn ints(&self, name: &str) -> Result<Vec<usize>, Refusal> {
        self.ints_signed(name).into_iter().map(|value| size(name, value)).collect()
    }

    fn window(&self, kernel: &[usize]) -> Result<Window, Refusal> {
        let automatic = self.0.attribute.iter().find(|attribute| attribute.name == "auto_pad");
        if automatic.is_some_and(|a| !matches!(a.s.as_slice(), b"NOTSET" | b"VALID" | b"")) {
            return Err("automatic borders are not known".into());
        }
        if self.ints("dilations")?.iter().any(|&dilation| dilation != 1) {
            return Err("dilated windows are not known".into());
        }
        let pair = |values: &[usize]| match *values {
            [rows, columns] => Ok([rows, columns]),
            _ => Err(Refusal::from("only windows in two dimensions are known")),
        };
        let or = |values: Vec<usize>, default: &[usize]| {
            if values.is_empty() { default.to_vec() } else { values }
        };
        let pads = or(self.ints("pads")?, &[0; 4]);
        let (before, after) = pads.split_at(pads.len() / 2);
        Ok(Window {
            kernel: pair(kernel)?,
            stride: pair(&or(self.ints("strides")?, &[1; 2]))?,
            before: pair(before)?,
            after: pair(after)?,
            ceil: self.int("ceil_mode", 0)? != 0,
        })
    }
}

/// An attribute that counts something.
fn size(name: &str, value: i64) -> Result<usize, Refusal> {
    let size = usize::try_from(value).ok().filter(|&size| size <= SIZE_MAX);
    size.ok_or_else(|| format!("`{name}` is {value}, allowed are 0 to {SIZE_MAX}").into())
}

fn transposed(weight: &Weight) -> Weight {
    let &[rows, columns] = weight.shape.as_slice() else { return weight.clone() };
    let column = |c| weight.values.iter().skip(c).step_by(columns.max(1)).copied();
    Weight { shape: vec![columns, rows], values: (0..columns).flat_map(column).collect() }
}

/// The values of a constant that is the same at all places of a value.
fn per_channel(constant: &Weight, [channels, ..]: Shape) -> Option<Vec<f32>> {
    let is_one = constant.values.len() == 1;
    let shape = constant.shape.as_slice();
    let is_channels = [&[channels, 1, 1][..], &[1, channels, 1, 1]].contains(&shape);
    (is_one || is_channels).then(|| constant.values.clone())
}

fn constant(tensor: &TensorProto) -> Result<Constant, String> {
    let name = &tensor.name;
    let shape = tensor.dims.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| format!("`{name}` has a negative size"))?;
    let floats = DataType::Float as i32 == tensor.data_type;
    let values: Vec<f32> = match (floats, tensor.raw_data.as_slice()) {
        (true, []) => tensor.float_data.clone(),
        (true, raw) => raw.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        (false, _) if tensor.data_type != DataType::Int64 as i32 => {
            return Err(format!("`{name}` holds neither 32-bit floats nor 64-bit integers"));
        }
        (false, []) => tensor.int64_data.iter().map(|&value| value as f32).collect(),
        (false, raw) => {
            raw.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f32).collect()
        }
    };
    let expected = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
    if expected != Some(values.len()) {
        return Err(format!("`{name}` of {shape:?} holds {} values", values.len()));
    }
    Ok(Constant(Weight { shape, values }))
}

/// Channels, rows and columns of an input `[n, channels, rows, columns]`.
fn image_shape(input: &ValueInfoProto) -> Option<Shape> {
    let TypeValue::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    let size = |dimension: &tract_onnx::pb::tensor_shape_proto::Dimension| match dimension.value {
        Some(DimensionValue::DimValue(size)) => {
            usize::try_from(size).ok().filter(|n| (1..=SIZE_MAX).contains(n))
        }
        _ => None,
    };
    match tensor.shape.as_ref()?.dim.as_slice() {
        [_, channels, rows, columns] => Some([size(channels)?, size(rows)?, size(columns)?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layers;

    /// A network of one convolution, as a file, with one of its parts changed.
    fn file(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
        let mut layers = Layers::new([2, 6, 6]);
        let weight = ("w".to_owned(), Weight::zeros(&[3, 2, 3, 3]));
        let window = Window::square(3, 2, 1);
        layers.push(Op::Conv { window, groups: 1 }, &[Layers::INPUT], vec![weight], "y");
        let mut model = ModelProto::decode(layers.to_onnx().unwrap().as_slice()).unwrap();
        change(model.graph.as_mut().unwrap());
        model.encode_to_vec()
    }

    fn refusal(change: impl FnOnce(&mut GraphProto)) -> String {
        Layers::from_onnx(&file(change)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_known_is_named() {
        let other = refusal(|graph| graph.node[0].op_type = "Einsum".to_owned());
        assert!(other.contains("`y`") && other.contains("Einsum"), "{other}");
        let missing = refusal(|graph| graph.node[0].input[0] = "nowhere".to_owned());
        assert!(missing.contains("nowhere"), "{missing}");
        let weights = refusal(|graph| graph.initializer.clear());
        assert!(weights.contains("not constant"), "{weights}");
    }

    #[test]
    fn sizes_beyond_reason_are_refused() {
        for value in [-1, i64::MAX] {
            let huge = refusal(|graph| {
                let attributes = graph.node[0].attribute.iter_mut();
                attributes.filter(|a| a.name == "strides").for_each(|a| a.ints = vec![value; 2]);
            });
            assert!(huge.contains("strides") && huge.contains(&value.to_string()), "{huge}");
        }
        assert!(refusal(|graph| graph.input.clear()).contains("one image"));
    }

    #[test]
    fn damage_never_panics() {
        let whole = file(|_| {});
        assert!(Layers::from_onnx(&whole).is_ok());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            let _ = Layers::from_onnx(&bytes);
            let _ = Layers::from_onnx(&whole[..at]);
        }
    }
}
