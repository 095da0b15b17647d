//! The engine: one immutable plan that all threads share, one state for each.

use std::sync::Arc;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;

use super::artifact::ModelError;
use super::engine_ops;

/// A network ready to run; cheap to clone.
#[derive(Clone)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    channels: usize,
    outputs: usize,
}

/// How many channels an image may have.
const CHANNELS: [usize; 2] = [1, 3];

/// What one thread needs to run a network.
pub struct Session {
    state: TypedSimpleState,
    channels: usize,
    outputs: usize,
}

impl Network {
    /// Width and height of the image.
    pub const SIDE: usize = 227;

    /// Optimises the graph. It must have one input `[1, 1, 227, 227]` or `[1, 3, 227, 227]` of f32
    /// and one output of `[1, outputs]` f32.
    pub(super) fn new(proto: &ModelProto, outputs: usize) -> Result<Self, ModelError> {
        let mut model = tract_onnx::onnx().parse(proto, None).map_err(unrunnable)?.model;
        for (what, found) in [("inputs", model.inputs.len()), ("outputs", model.outputs.len())] {
            if found != 1 {
                let expected = "1".to_owned();
                return Err(ModelError::Shape { what, found: found.to_string(), expected });
            }
        }
        let declared = model.input_fact(0).map_err(unrunnable)?;
        let fact = |channels| f32::fact([1, channels, Self::SIDE, Self::SIDE]).into();
        let fits = |&channels: &usize| declared.unify(&fact(channels)).is_ok();
        let Some(channels) = CHANNELS.into_iter().find(fits) else {
            let (found, expected) = (format!("{declared:?}"), "1,1,227,227,F32 or 1,3,227,227,F32");
            let expected = expected.to_owned();
            return Err(ModelError::Shape { what: "an input of", found, expected });
        };
        model.set_input_fact(0, fact(channels)).map_err(unrunnable)?;
        let model = optimise(model).map_err(unrunnable)?;
        let fact = model.output_fact(0).map_err(unrunnable)?;
        if fact.datum_type != f32::datum_type() || fact.shape.as_concrete() != Some(&[1, outputs]) {
            let (found, expected) = (format!("{fact:?}"), format!("1,{outputs},F32"));
            return Err(ModelError::Shape { what: "an output of", found, expected });
        }
        let plan = model.into_runnable().map_err(unrunnable)?;
        Ok(Self { plan, channels, outputs })
    }

    /// A state for one thread.
    pub fn session(&self) -> Result<Session, ModelError> {
        let state = self.plan.spawn().map_err(unrunnable)?;
        Ok(Session { state, channels: self.channels, outputs: self.outputs })
    }

    /// Channels of the image: 1, or 3 for red, green and blue.
    pub fn channels(&self) -> usize {
        self.channels
    }
}

impl Session {
    /// Runs one image, given as 227 rows of 227 pixels in the network's own order. Returns the
    /// raw outputs (logits or values).
    pub fn run_rows<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<f32>, ModelError> {
        self.run(rows.flatten().copied())
    }

    /// Runs one image, given pixel by pixel, row by row, and the channels one after the other.
    /// Returns the raw outputs (logits or values).
    pub fn run(&mut self, pixels: impl Iterator<Item = u8>) -> Result<Vec<f32>, ModelError> {
        let shape = [1, self.channels, Network::SIDE, Network::SIDE];
        let pixels: Vec<f32> = pixels.map(f32::from).collect();
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
    engine_ops::rewrite(&mut model)?;
    model.into_optimized()
}

fn unrunnable(error: TractError) -> ModelError {
    // The chain's first line says which node, its last one why.
    ModelError::Unrunnable(format!("{error:#}"))
}

/// The image of the self-test: a fixed pattern of waves with some texture, row by row, channel by
/// channel.
pub(super) fn probe_image(channels: usize) -> Vec<u8> {
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
    (0..side * side * channels as u32).map(pixel).collect()
}
