//! Convolution of batches, and the way back, as matrix products.

use rayon::prelude::*;

use super::gemm::{Panels, Rows, add_outer, starts};
use super::shards::{parts_mut, sum};
use super::views::Views;
use crate::network::{Shape, Window};

/// Images whose gradients are summed by one thread: fixed, so that sums do not depend on how many
/// threads there are.
const SHARD: usize = 4;
/// Channels from which on it is worth packing the image for the gradient of the weights.
const PACKED_MIN: usize = 8;

/// A convolution of images of one shape.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub window: Window,
    pub groups: usize,
    pub input: Shape,
    pub output: Shape,
}

/// Values of a group.
struct Sizes {
    /// Input channels and outputs.
    channels: usize,
    outputs: usize,
    x: usize,
    weights: usize,
    y: usize,
    /// Places of the window.
    places: usize,
    /// Cells of the window.
    taps: usize,
    /// Weights of an output.
    depth: usize,
}

/// What a thread needs for one image.
#[derive(Default)]
struct Work {
    phases: Vec<f32>,
    places: Vec<f32>,
    surrounded: Vec<f32>,
    by_place: Vec<f32>,
    /// Weights' gradient: a row of outputs for each tap of each channel.
    sums: Vec<f32>,
}

impl Conv {
    fn sizes(&self) -> Sizes {
        let [channels, rows, columns] = self.input;
        let [outputs, out_rows, out_columns] = self.output;
        let (channels, outputs) = (channels / self.groups, outputs / self.groups);
        let (places, taps) =
            (out_rows * out_columns, self.window.kernel[0] * self.window.kernel[1]);
        let depth = channels * taps;
        Sizes {
            channels,
            outputs,
            x: channels * rows * columns,
            weights: outputs * depth,
            y: outputs * places,
            places,
            taps,
            depth,
        }
    }

    /// Whether the window meets the image as it is.
    fn is_pointwise(&self) -> bool {
        self.window == Window::POINT
    }

    fn views(&self) -> Views {
        let ([_, rows, columns], [_, out_rows, out_columns]) = (self.input, self.output);
        Views::new(self.window, [rows, columns], [out_rows, out_columns])
    }

    /// Convolves a batch. `bias` is empty if there is none.
    pub fn forward(&self, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) {
        let sizes = self.sizes();
        let mut biases = bias.chunks(sizes.outputs.max(1));
        let panels: Vec<Panels> = weights
            .chunks(sizes.weights)
            .map(|weights| Panels::new(weights, sizes.depth, biases.next().unwrap_or_default()))
            .collect();
        let views = self.views();
        let starts = match self.is_pointwise() {
            true => starts(sizes.channels, sizes.places),
            false => views.starts(sizes.channels),
        };
        let images = y.par_chunks_mut(sizes.y * self.groups);
        let images = images.zip(x.par_chunks(sizes.x * self.groups));
        images.for_each_init(Work::default, |work, (y, x)| {
            let groups = y.chunks_mut(sizes.y).zip(x.chunks(sizes.x)).zip(&panels);
            for ((y, x), panels) in groups {
                if self.is_pointwise() {
                    let x = Rows { values: x, starts: &starts };
                    panels.multiply(x, y, sizes.places, sizes.places);
                    continue;
                }
                views.spread(x, &mut work.phases);
                work.places.resize(sizes.outputs * views.places(), 0.0);
                let x = Rows { values: &work.phases, starts: &starts };
                panels.multiply(x, &mut work.places, views.places(), views.places());
                views.crop(&work.places, y);
            }
        });
    }

    /// The gradient of the weights, and into `dx` that of the input, if it is wanted.
    pub fn backward(
        &self,
        x: &[f32],
        weights: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
    ) -> Vec<f32> {
        let sizes = self.sizes();
        let (x_shard, y_shard) = (SHARD * self.groups * sizes.x, SHARD * self.groups * sizes.y);
        let to_input = dx.is_some().then(|| ToInput::new(self, weights));
        let shards = x.par_chunks(x_shard).zip(dy.par_chunks(y_shard)).zip(parts_mut(
            dx,
            x_shard,
            x.len().div_ceil(x_shard),
        ));
        let shards = shards.map_init(Work::default, |work, ((x, dy), dx)| {
            if let (Some(to_input), Some(dx)) = (&to_input, dx) {
                let images = dx.chunks_mut(sizes.x).zip(dy.chunks(sizes.y)).enumerate();
                images.for_each(|(n, (dx, dy))| to_input.run(n % self.groups, dy, dx, work));
            }
            let mut dw = vec![0.0; weights.len()];
            for (group, dw) in dw.chunks_mut(sizes.weights).enumerate() {
                let images = x.chunks(sizes.x).zip(dy.chunks(sizes.y));
                self.to_weights(images.skip(group).step_by(self.groups), dw, work);
            }
            dw
        });
        sum(shards.collect())
    }

    /// The gradient of a group's weights, from its parts of a few images and their gradients.
    fn to_weights<'a>(
        &self,
        images: impl Iterator<Item = (&'a [f32], &'a [f32])>,
        dw: &mut [f32],
        work: &mut Work,
    ) {
        let Sizes { channels, outputs, places, depth, .. } = self.sizes();
        if self.is_pointwise() {
            let [x_starts, y_starts] = [channels, outputs].map(|rows| starts(rows, places));
            let pairs: Vec<[Rows; 2]> = images
                .map(|(x, dy)| {
                    [Rows { values: dy, starts: &y_starts }, Rows { values: x, starts: &x_starts }]
                })
                .collect();
            return add_outer(&pairs, places, dw, depth);
        }
        let views = self.views();
        if channels >= PACKED_MIN {
            return self.packed_to_weights(&views, images, dw, work);
        }
        let (x_starts, y_starts) = (views.starts(channels), views.places_starts(outputs));
        for (x, dy) in images {
            views.spread(x, &mut work.phases);
            views.surround(dy, &mut work.surrounded);
            let dy = Rows { values: &work.surrounded, starts: &y_starts };
            let x = Rows { values: &work.phases, starts: &x_starts };
            add_outer(&[[dy, x]], views.places(), dw, depth);
        }
    }

    /// The same for images of many channels: packed once, they are multiplied from each tap's first
    /// cell on.
    fn packed_to_weights<'a>(
        &self,
        views: &Views,
        images: impl Iterator<Item = (&'a [f32], &'a [f32])>,
        dw: &mut [f32],
        work: &mut Work,
    ) {
        let Sizes { channels, outputs, taps, depth, .. } = self.sizes();
        work.sums.clear();
        let mut length = 0;
        for (x, dy) in images {
            views.spread(x, &mut work.phases);
            length = views.by_place(dy, &mut work.by_place);
            work.sums.resize(taps * channels * length, 0.0);
            let places = starts(views.places(), length);
            let dy = Rows { values: &work.by_place, starts: &places };
            let phases = work.phases.chunks_exact(channels * views.plane());
            for (phase, planes) in views.phases().zip(phases) {
                let panels = Panels::new(planes, views.plane(), &[]);
                for tap in views.taps(phase) {
                    let sums = work.sums.chunks_mut(channels * length).nth(tap.index);
                    panels.add(tap.shift, dy, sums.unwrap_or_default(), length);
                }
            }
        }
        for (tap, sums) in work.sums.chunks(channels * length).enumerate() {
            for (channel, sums) in sums.chunks(length).take(channels).enumerate() {
                let weights = dw.iter_mut().skip(channel * taps + tap).step_by(depth);
                weights.zip(sums).take(outputs).for_each(|(weight, sum)| *weight += sum);
            }
        }
    }
}

/// From the gradients of a convolution's outputs to those of its input: a convolution by the same
/// weights, turned around. By group.
struct ToInput<'a> {
    conv: &'a Conv,
    views: Views,
    groups: Vec<Vec<OfPhase>>,
}

/// The weights that the cells of one phase meet.
struct OfPhase {
    phase: [usize; 2],
    panels: Panels,
    starts: Vec<usize>,
}

impl<'a> ToInput<'a> {
    fn new(conv: &'a Conv, weights: &[f32]) -> Self {
        let (sizes, views) = (conv.sizes(), conv.views());
        let of_phase = |weights: &[f32], phase| {
            let mut matrix = Vec::new();
            for channel in 0..sizes.channels {
                for weights in weights.chunks(sizes.depth) {
                    let weights = weights.get(channel * sizes.taps..).unwrap_or_default();
                    let met = views.taps(phase).filter_map(|tap| weights.get(tap.index));
                    matrix.extend(met);
                }
            }
            let depth = sizes.outputs * views.taps(phase).count();
            let starts = match conv.is_pointwise() {
                true => starts(sizes.outputs, sizes.places),
                false => views.surrounded_starts(phase, sizes.outputs),
            };
            OfPhase { phase, panels: Panels::new(&matrix, depth, &[]), starts }
        };
        let groups = weights.chunks(sizes.weights);
        let groups = groups
            .map(|weights| views.phases().map(|phase| of_phase(weights, phase)).collect())
            .collect();
        Self { conv, views, groups }
    }

    /// One image's part of a group.
    fn run(&self, group: usize, dy: &[f32], dx: &mut [f32], work: &mut Work) {
        let (sizes, views) = (self.conv.sizes(), &self.views);
        let phases = self.groups.get(group).map_or(&[][..], Vec::as_slice);
        if self.conv.is_pointwise() {
            for of in phases {
                let dy = Rows { values: dy, starts: &of.starts };
                of.panels.multiply(dy, dx, sizes.places, sizes.places);
            }
            return;
        }
        views.surround(dy, &mut work.surrounded);
        work.places.resize(sizes.channels * views.plane(), 0.0);
        // Cells that the window steps over.
        dx.fill(0.0);
        for of in phases {
            let dy = Rows { values: &work.surrounded, starts: &of.starts };
            of.panels.multiply(dy, &mut work.places, views.plane(), views.plane());
            views.gather(of.phase, &work.places, dx);
        }
    }
}
