//! Convolution of each channel with a window of its own: batches, and the way back.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::shards::{parts_mut, sum};
use super::sums::fold;
use crate::network::Depthwise;

/// Images whose gradients are summed by one thread, as in `conv`.
const SHARD: usize = 4;
/// Places that are worked on together, so that they stay in the nearest cache.
const BLOCK: usize = 2048;

/// Convolves a batch. `bias` is empty if there is none.
pub(super) fn forward(of: &Depthwise, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) {
    let [x_image, y_image] = images(of);
    let images = y.par_chunks_mut(y_image).zip(x.par_chunks(x_image));
    images.for_each_init(|| of.workspace(), |work, (y, x)| of.forward(x, weights, bias, work, y));
}

/// The gradient of the weights, and into `dx` that of the input, if it is wanted.
pub(super) fn backward(
    of: &Depthwise,
    x: &[f32],
    weights: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
) -> Vec<f32> {
    let [x_plane, y_plane] = of.planes();
    let [x_shard, y_shard] = images(of).map(|values| SHARD * values);
    let shards = x.par_chunks(x_shard).zip(dy.par_chunks(y_shard)).zip(parts_mut(
        dx,
        x_shard,
        x.len().div_ceil(x_shard),
    ));
    let work = || [of.laid_len(), of.laid_len(), of.run_len()].map(|length| vec![0.0; length]);
    let shards = shards.map_init(work, |work, ((x, dy), dx)| {
        let mut dw = vec![0.0; weights.len()];
        let dxs = parts_mut(dx, x_plane, x.len() / x_plane);
        let planes = x.chunks(x_plane).zip(dy.chunks(y_plane)).zip(dxs);
        for (plane, ((x, dy), dx)) in planes.enumerate() {
            let (taps, channel) = (of.starts().len(), plane % of.output()[0]);
            let dw = dw.chunks_mut(taps).nth(channel).unwrap_or_default();
            let weights = weights.chunks(taps).nth(channel).unwrap_or_default();
            Arch::new().dispatch(Backward { of, x, weights, dy, work, dw, dx });
        }
        dw
    });
    sum(shards.collect())
}

/// Values of an image, and of what comes out.
fn images(of: &Depthwise) -> [usize; 2] {
    of.planes().map(|plane| of.output()[0] * plane)
}

/// One channel backwards. `work` is for its image and the gradient of it in the layout, and for
/// the gradient of the output with zeros between the rows.
struct Backward<'a> {
    of: &'a Depthwise,
    x: &'a [f32],
    weights: &'a [f32],
    dy: &'a [f32],
    work: &'a mut [Vec<f32>; 3],
    dw: &'a mut [f32],
    dx: Option<&'a mut [f32]>,
}

impl NullaryFnOnce for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of, x, weights, dy, work: [laid, gradient, spread], dw, dx } = self;
        of.lay(x, laid);
        of.spread(dy, spread);
        for (block, spread) in spread.chunks(BLOCK).enumerate() {
            for (start, dw) in of.starts().iter().zip(dw.iter_mut()) {
                let cells = laid.get(start + block * BLOCK..).unwrap_or_default();
                let [product] = fold(spread, cells, |dy, cell| [dy * cell]);
                *dw += product;
            }
        }
        let Some(dx) = dx else { return };
        gradient.fill(0.0);
        for (block, spread) in spread.chunks(BLOCK).enumerate() {
            for (start, &weight) in of.starts().iter().zip(weights) {
                let cells = gradient.get_mut(start + block * BLOCK..).unwrap_or_default();
                for (cell, &dy) in cells.iter_mut().zip(spread) {
                    *cell += weight * dy;
                }
            }
        }
        of.unlay(gradient, dx);
    }
}
