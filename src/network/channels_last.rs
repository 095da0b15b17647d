//! Depthwise convolutions for which tract is faster with channels last are turned that way.
//!
//! With channels first tract vectorises along a row of the picture, which fails for a stride of
//! two and has little to work on in small pictures; with channels last it vectorises over the
//! channels. Measured on the shipped network, a stride of two takes a third of the time this way
//! and a 5x5 kernel on four rows half, while other depthwise convolutions take up to twice as
//! long. Dense convolutions are matrix products either way.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;
use tract_onnx::tract_hir::internal::DimLike as _;

/// Pictures with at most this many rows have no inner part for a 5x5 kernel to speak of.
const FEW_ROWS: usize = 4;

/// Rewrites `model` in place; its outputs stay the same up to rounding.
pub(super) fn rewrite(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let Some(convolution) = model.node(id).op_as::<Conv>().cloned() else { continue };
        let Some(&input) = model.node(id).inputs.first() else { continue };
        let shape = model.outlet_fact(input)?.shape.clone();
        if pays(&convolution, &shape)? {
            turn(model, id, convolution, &shape)?;
        }
    }
    Ok(())
}

fn pays(convolution: &Conv, shape: &ShapeFact) -> TractResult<bool> {
    let pool = &convolution.pool_spec;
    let depthwise = convolution.group > 1
        && convolution.group == pool.input_channels
        && convolution.group == pool.output_channels
        && convolution.q_params.is_none()
        && pool.rank() == 2;
    let channels_first = matches!(pool.data_format, DataFormat::NCHW | DataFormat::CHW);
    if !(depthwise && channels_first) {
        return Ok(false);
    }
    let rows = match pool.data_format.shape(shape)?.hw_dims().first() {
        Some(rows) => rows.to_usize()?,
        None => return Ok(false),
    };
    let large_kernel = pool.kernel_shape.iter().all(|&side| side >= 5);
    Ok(pool.stride(1) == 2 || (large_kernel && rows <= FEW_ROWS))
}

fn turn(model: &mut TypedModel, id: usize, from: Conv, shape: &ShapeFact) -> TractResult<()> {
    let node = model.node(id);
    let (name, last) = (node.name.clone(), shape.rank() - 1);
    let channels = from.pool_spec.data_format.shape(shape)?.c_axis();
    let data_format = match from.pool_spec.data_format {
        DataFormat::NCHW => DataFormat::NHWC,
        _ => DataFormat::HWC,
    };
    let mut patch = TypedModelPatch::default();
    let mut wires = patch.taps(model, &node.inputs)?;
    if let Some(picture) = wires.first_mut() {
        let turned =
            patch.wire_node(format!("{name}.in"), AxisOp::Move(channels, last), &[*picture])?;
        turned.first().into_iter().for_each(|turned| *picture = *turned);
    }
    let pool_spec = PoolSpec { data_format, ..from.pool_spec.clone() };
    let output = Conv { pool_spec, ..from }.wire_as_depth_wise(&mut patch, &name, &wires)?;
    let output = patch.wire_node(format!("{name}.out"), AxisOp::Move(last, channels), &[output])?;
    for output in output {
        patch.shunt_outside(model, id.into(), output)?;
    }
    patch.apply(model)
}
