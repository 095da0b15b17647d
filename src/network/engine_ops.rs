//! Steps that the engine leaves to us: depthwise convolutions.
//!
//! tract has vectors for those of stride 1 whose rows are long, and works value by value otherwise.
//! On the shipped network they took a third of the time; by [`Depthwise`] they take half of that.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::nn::DataFormat;
use tract_onnx::tract_hir::internal::*;

use super::depthwise::Depthwise;
use super::layers::{Shape, Window};

/// Puts our own steps into `model`, in place; its outputs stay the same.
pub(super) fn rewrite(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let Some(step) = depthwise(model, id)? else { continue };
        let inputs: TVec<OutletId> = model.node(id).inputs.iter().copied().take(1).collect();
        TypedModelPatch::replace_single_op(model, model.node(id), &inputs, step)?.apply(model)?;
    }
    Ok(())
}

/// What node `id` does, if it is a depthwise convolution of one image with constant weights.
fn depthwise(model: &TypedModel, id: usize) -> TractResult<Option<DepthwiseOp>> {
    let node = model.node(id);
    let (Some(conv), &[image, kernel, bias]) = (node.op_as::<Conv>(), node.inputs.as_slice())
    else {
        return Ok(None);
    };
    let pool = &conv.pool_spec;
    let is_depthwise = conv.group > 1
        && conv.group == pool.input_channels
        && conv.group == pool.output_channels
        && conv.q_params.is_none()
        && conv.kernel_fmt == KernelFormat::OIHW
        && matches!(pool.data_format, DataFormat::NCHW | DataFormat::CHW)
        && pool.dilations().iter().all(|&dilation| dilation == 1);
    let (image, output) = (model.outlet_fact(image)?, model.outlet_fact(id.into())?);
    let weights = [kernel, bias].map(|outlet| constant(model, outlet));
    let ([Some(weights), Some(bias)], true) = (weights, is_depthwise) else { return Ok(None) };
    let (Some(input), Some(places)) = (one_image(image), one_image(output)) else {
        return Ok(None);
    };
    let [channels, rows, columns] = input;
    let padding = pool.computed_padding(&[rows, columns]);
    let (&[kernel_rows, kernel_columns], [of_rows, of_columns]) =
        (pool.kernel_shape.as_slice(), padding.as_slice())
    else {
        return Ok(None);
    };
    let window = Window {
        kernel: [kernel_rows, kernel_columns],
        stride: [pool.stride(0), pool.stride(1)],
        before: [of_rows.pad_before, of_columns.pad_before],
        after: [of_rows.pad_after, of_columns.pad_after],
        ceil: false,
    };
    // One bias for all channels is written without an axis.
    let bias = if bias.len() == 1 { bias.repeat(channels) } else { bias };
    let sizes = window.kernel.into_iter().chain(window.stride).chain(input).chain(places);
    let fits = image.datum_type == f32::datum_type()
        && weights.len() == channels * kernel_rows * kernel_columns
        && bias.len() == channels
        && sizes.min() > Some(0);
    if !fits {
        return Ok(None);
    }
    let plan = Depthwise::new(window, input, places);
    let shape = output.shape.as_concrete().unwrap_or_default().into();
    Ok(Some(DepthwiseOp { plan, weights, bias, shape }))
}

/// Channels, rows and columns of one image; tract leaves out the axis of the images where it can.
fn one_image(fact: &TypedFact) -> Option<Shape> {
    match fact.shape.as_concrete()? {
        &[channels, rows, columns] | &[1, channels, rows, columns] => {
            Some([channels, rows, columns])
        }
        _ => None,
    }
}

/// The values of a constant of 32-bit floats.
fn constant(model: &TypedModel, outlet: OutletId) -> Option<Vec<f32>> {
    let values = model.outlet_fact(outlet).ok()?.konst.clone()?;
    let values = values.try_as_plain_ram().ok()?;
    Some(values.as_slice::<f32>().ok()?.to_vec())
}

/// A depthwise convolution of one image.
#[derive(Debug, Clone, PartialEq)]
struct DepthwiseOp {
    plan: Depthwise,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Of what comes out: `channels x rows x columns`, perhaps behind a 1.
    shape: TVec<usize>,
}

// tract wants it, to find steps that are the same.
impl Eq for DepthwiseOp {}

impl Op for DepthwiseOp {
    fn name(&self) -> StaticName {
        "HearkenDepthwise".into()
    }

    op_as_typed_op!();
}

impl EvalOp for DepthwiseOp {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let image = args_1!(inputs);
        let image = image.try_as_plain_ram()?;
        let mut output = Tensor::zero::<f32>(&self.shape)?;
        let mut values = output.try_as_plain_ram_mut()?;
        let values = values.as_slice_mut::<f32>()?;
        let work = &mut self.plan.workspace();
        self.plan.forward(image.as_slice::<f32>()?, &self.weights, &self.bias, work, values);
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for DepthwiseOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(inputs.iter().map(|fact| fact.datum_type.fact(&self.shape)).collect())
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layers;

    /// Three convolutions, of which the last two are depthwise, as our files have them.
    fn network() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut weight = |shape: &[usize]| {
            let count = shape.iter().product();
            let values = std::iter::repeat_with(|| random.f32() - 0.5).take(count).collect();
            layers::Weight { shape: shape.to_vec(), values }
        };
        let mut network = layers::Layers::new([1, 40, 33]);
        let weights = vec![("w1".to_owned(), weight(&[6, 1, 3, 3]))];
        let op = layers::Op::Conv { window: Window::square(3, 1, 1), groups: 1 };
        network.push(op, &[layers::Layers::INPUT], weights, "first");
        let weights =
            vec![("w2".to_owned(), weight(&[6, 1, 5, 5])), ("b2".to_owned(), weight(&[6]))];
        let uneven = Window { stride: [2, 1], ..Window::square(5, 1, 2) };
        network.push(layers::Op::Conv { window: uneven, groups: 6 }, &["first"], weights, "second");
        let weights = vec![("w3".to_owned(), weight(&[6, 1, 3, 3]))];
        let lopsided = Window { after: [0, 1], ..Window::square(3, 2, 0) };
        network.push(
            layers::Op::Conv { window: lopsided, groups: 6 },
            &["second"],
            weights,
            "third",
        );
        network.push(layers::Op::GlobalAveragePool, &["third"], Vec::new(), "out");
        network.to_onnx().unwrap()
    }

    fn outputs(model: TypedModel) -> Vec<f32> {
        let image = Tensor::from_shape(
            &[1, 1, 40, 33],
            &(0..1320).map(|n| (n * 37 % 255) as f32).collect::<Vec<_>>(),
        );
        let plan = model.into_optimized().unwrap().into_runnable().unwrap();
        let outputs = plan.run(tvec!(image.unwrap().into_tvalue())).unwrap();
        outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    fn read(mut bytes: &[u8]) -> TypedModel {
        let model = tract_onnx::onnx().model_for_read(&mut bytes).unwrap();
        model.into_typed().unwrap().into_decluttered().unwrap()
    }

    fn count(model: &TypedModel) -> usize {
        model.nodes.iter().filter(|node| node.op_is::<DepthwiseOp>()).count()
    }

    #[test]
    fn all_of_the_shipped_network_are_ours() {
        let mut model = read(include_bytes!("../../models/sound.onnx"));
        rewrite(&mut model).unwrap();
        assert_eq!(count(&model.into_optimized().unwrap()), 15);
    }

    #[test]
    fn depthwise_convolutions_are_ours_and_come_to_the_same() {
        let plain = read(&network());
        let mut ours = plain.clone();
        rewrite(&mut ours).unwrap();
        assert_eq!((count(&plain), count(&ours)), (0, 2));
        assert_eq!(count(&ours.clone().into_optimized().unwrap()), 2);
        let (expected, found) = (outputs(plain), outputs(ours));
        assert_eq!(expected.len(), 6);
        for (expected, found) in expected.iter().zip(&found) {
            assert!((expected - found).abs() <= 1e-6 * expected.abs().max(1.0), "{found}");
        }
    }
}
