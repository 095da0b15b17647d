//! The shapes of all values of a network, and with that the proof that it fits together.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Layers, LayersError, Node, Op, Window};

/// Channels, rows and columns of one value.
pub type Shape = [usize; 3];

/// No value of a network is larger than this.
const VALUES_MAX: usize = 1 << 28;

impl Layers {
    /// The shape of each node's output, in the order of the nodes.
    pub fn shapes(&self) -> Result<Vec<Shape>, LayersError> {
        let mut known = BTreeMap::from([(Self::INPUT, self.input)]);
        let mut shapes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let shape = self.output_shape(node, &known)?;
            if known.insert(&node.output, shape).is_some() {
                return Err(misfit(node, "it is made twice"));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }

    fn output_shape(
        &self,
        node: &Node,
        known: &BTreeMap<&str, Shape>,
    ) -> Result<Shape, LayersError> {
        let inputs = node.inputs.iter().map(|name| {
            let shape = known.get(name.as_str()).copied();
            shape.ok_or_else(|| misfit(node, &format!("`{name}` is not known")))
        });
        let inputs = inputs.collect::<Result<Vec<Shape>, _>>()?;
        let weights = node.weights.iter().map(|name| {
            let weight = self.weight(node, name)?;
            if weight.values.len() != weight.shape.iter().product::<usize>() {
                return Err(misfit(node, &format!("`{name}` has not as many values as its shape")));
            }
            Ok(weight.shape.as_slice())
        });
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let shape = output_shape(&node.op, &inputs, &weights).map_err(|why| misfit(node, &why))?;
        let values = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        match values {
            Some(1..=VALUES_MAX) => Ok(shape),
            _ => Err(misfit(node, &format!("its output would be {shape:?}"))),
        }
    }
}

/// The places `o` in `0..places` at which `o * stride + tap` lies in an image of `size` behind
/// `before` added cells. The first of them meets the cell `first * stride + tap - before`.
pub(crate) fn meeting(
    places: usize,
    size: usize,
    stride: usize,
    before: usize,
    tap: usize,
) -> Range<usize> {
    let end = (size + before).saturating_sub(tap).div_ceil(stride).min(places);
    let start = before.saturating_sub(tap).div_ceil(stride).min(end);
    start..end
}

fn misfit(node: &Node, why: &str) -> LayersError {
    LayersError::Shape { node: node.output.clone(), why: why.to_owned() }
}

/// The shape of what `op` makes of values of the shapes `inputs`.
pub(super) fn output_shape(
    op: &Op,
    inputs: &[Shape],
    weights: &[&[usize]],
) -> Result<Shape, String> {
    let wrong = || Err(format!("inputs of {inputs:?} with weights of {weights:?}"));
    let per_channel = |channels: usize| weights.iter().all(|&shape| shape == [channels]);
    match (op, inputs, weights) {
        (Op::Conv { window, groups }, &[[channels, rows, columns]], &[weight, ref bias @ ..]) => {
            let &[outputs, inputs, kernel_rows, kernel_columns] = weight else { return wrong() };
            let fits = *groups > 0
                && channels == inputs * groups
                && outputs % groups == 0
                && window.kernel == [kernel_rows, kernel_columns]
                && bias.iter().all(|&bias| bias == [outputs])
                && bias.len() <= 1;
            if !fits { wrong() } else { slid(window, [outputs, rows, columns]) }
        }
        (Op::BatchNorm { .. }, &[shape], weights) if weights.len() == 4 => {
            if per_channel(shape[0]) { Ok(shape) } else { wrong() }
        }
        (Op::Gemm, &[shape], &[&[outputs, features], ref bias @ ..]) => {
            let fits = shape.iter().product::<usize>() == features
                && bias.iter().all(|&bias| bias == [outputs])
                && bias.len() <= 1;
            if fits { Ok([outputs, 1, 1]) } else { wrong() }
        }
        (Op::MatMulLeft, &[[channels, rows, columns]], &[&[new, old]]) if old == rows => {
            Ok([channels, new, columns])
        }
        (Op::MatMulRight, &[[channels, rows, columns]], &[&[old, new]]) if old == columns => {
            Ok([channels, rows, new])
        }
        (op, inputs, []) => weightless_shape(op, inputs).unwrap_or_else(wrong),
        _ => wrong(),
    }
}

/// The shape of what an op without weights makes; nothing, if the inputs don't fit.
fn weightless_shape(op: &Op, inputs: &[Shape]) -> Option<Result<Shape, String>> {
    let fitting = match (op, inputs) {
        (Op::Relu | Op::HardSwish | Op::Sigmoid | Op::HardSigmoid { .. }, &[shape]) => shape,
        (Op::Dropout { .. }, &[shape]) => shape,
        (Op::Affine { scale, shift }, &[shape]) => {
            let fits = |values: &Vec<f32>| values.len() == 1 || values.len() == shape[0];
            (fits(scale) && fits(shift)).then_some(shape)?
        }
        (Op::Add, &[a, b]) if a == b => a,
        (Op::Mul, &[a, b]) if a == b || b == [a[0], 1, 1] => a,
        (Op::GlobalAveragePool, &[[channels, ..]]) => [channels, 1, 1],
        (Op::AveragePool(window) | Op::MaxPool(window), &[shape]) => {
            return Some(slid(window, shape));
        }
        (Op::Flatten, &[shape]) => [shape.iter().product(), 1, 1],
        (Op::Concat, &[[_, rows, columns], ..]) => {
            let fits = inputs.iter().all(|&[_, r, c]| (r, c) == (rows, columns));
            fits.then(|| [inputs.iter().map(|shape| shape[0]).sum(), rows, columns])?
        }
        _ => return None,
    };
    Some(Ok(fitting))
}

/// The shape left by sliding a window over each channel.
fn slid(window: &Window, [channels, rows, columns]: Shape) -> Result<Shape, String> {
    let along = |axis: usize, size: usize| {
        let (kernel, stride) = (*window.kernel.get(axis)?, *window.stride.get(axis)?);
        let (before, after) = (*window.before.get(axis)?, *window.after.get(axis)?);
        let room = (size + before + after).checked_sub(kernel)?;
        let floor = room.checked_div(stride)? + 1;
        // One more, if it begins inside the image or before it.
        let more = window.ceil && room % stride > 0 && floor * stride < size + before;
        (kernel > 0).then_some(floor + usize::from(more))
    };
    match (along(0, rows), along(1, columns)) {
        (Some(rows), Some(columns)) => Ok([channels, rows, columns]),
        _ => Err(format!("{window:?} does not fit into {rows} x {columns}")),
    }
}
