//! The engine: one immutable plan that all threads share, one state for each.

use std::sync::Arc;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;

use super::artifact::ModelError;
use super::channels_last;

/// A network ready to run; cheap to clone.
#[derive(Clone)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    outputs: usize,
}

/// What one thread needs to run a network.
pub struct Session {
    state: TypedSimpleState,
    outputs: usize,
}

impl Network {
    /// Width and height of the image.
    pub const SIDE: usize = 227;

    /// Optimises the graph. It must have one input `[1, 1, 227, 227]` of f32 and one output of
    /// `[1, outputs]` f32.
    pub(super) fn new(proto: &ModelProto, outputs: usize) -> Result<Self, ModelError> {
        let mut model = tract_onnx::onnx().parse(proto, None).map_err(unrunnable)?.model;
        for (what, found) in [("inputs", model.inputs.len()), ("outputs", model.outputs.len())] {
            if found != 1 {
                let expected = "1".to_owned();
                return Err(ModelError::Shape { what, found: found.to_string(), expected });
            }
        }
        let shape = [1, 1, Self::SIDE, Self::SIDE];
        let declared = model.input_fact(0).map_err(unrunnable)?;
        let wanted = f32::fact(shape).into();
        if declared.unify(&wanted).is_err() {
            let (found, expected) = (format!("{declared:?}"), format!("{wanted:?}"));
            return Err(ModelError::Shape { what: "an input of", found, expected });
        }
        model.set_input_fact(0, wanted).map_err(unrunnable)?;
        let model = optimise(model).map_err(unrunnable)?;
        let fact = model.output_fact(0).map_err(unrunnable)?;
        if fact.datum_type != f32::datum_type() || fact.shape.as_concrete() != Some(&[1, outputs]) {
            let (found, expected) = (format!("{fact:?}"), format!("1,{outputs},F32"));
            return Err(ModelError::Shape { what: "an output of", found, expected });
        }
        let plan = model.into_runnable().map_err(unrunnable)?;
        Ok(Self { plan, outputs })
    }

    /// A state for one thread.
    pub fn session(&self) -> Result<Session, ModelError> {
        let state = self.plan.spawn().map_err(unrunnable)?;
        Ok(Session { state, outputs: self.outputs })
    }
}

impl Session {
    /// Runs one image, given as 227 rows of 227 pixels in the network's own order. Returns the
    /// raw outputs (logits or values).
    pub fn run_rows<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<f32>, ModelError> {
        let shape = [1, 1, Network::SIDE, Network::SIDE];
        let pixels: Vec<f32> = rows.flatten().map(|&pixel| f32::from(pixel)).collect();
        let input = Tensor::from_shape(&shape, &pixels).map_err(unrunnable)?;
        let outputs = self.state.run(tvec!(input.into_tvalue())).map_err(unrunnable)?;
        let values = outputs.first().map(|output| output.try_as_plain_ram());
        let values = match values {
            Some(view) => view.and_then(|view| view.as_slice::<f32>()).map_err(unrunnable)?,
            None => &[],
        };
        if values.len() != self.outputs {
            let (found, expected) = (values.len().to_string(), self.outputs.to_string());
            return Err(ModelError::Shape { what: "outputs", found, expected });
        }
        Ok(values.to_vec())
    }
}

fn optimise(model: InferenceModel) -> TractResult<TypedModel> {
    let mut model = model.into_typed()?.into_decluttered()?;
    channels_last::rewrite(&mut model)?;
    model.into_optimized()
}

fn unrunnable(error: TractError) -> ModelError {
    // The chain's first line says which node, its last one why.
    ModelError::Unrunnable(format!("{error:#}"))
}

/// The image of the self-test: a fixed pattern of waves with some texture, row by row.
pub(super) fn probe_image() -> Vec<u8> {
    let side = Network::SIDE as u32;
    let pixel = |n: u32| {
        let (row, column) = (n / side, n % side);
        let texture = (n.wrapping_mul(2_654_435_761) >> 27) as i32;
        let wave = |x: u32, period: u32| {
            let phase = (x % period) as i32 * 2 - period as i32;
            phase.abs() * 255 / period as i32
        };
        ((wave(row + column, 90) * 2 + wave(column, 37) + texture) / 4).clamp(0, 255) as u8
    };
    (0..side * side).map(pixel).collect()
}
