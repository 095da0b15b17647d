//! Batch normalisation (Ioffe and Szegedy 2015), together with the function that follows it: the
//! memory is gone through as few times as possible, and the normalised values are not kept.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::activation::{Activation, WithFunction};
use super::sums::fold;

/// Batch normalisation of images of `channels` planes, each of `plane` values.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub channels: usize,
    pub plane: usize,
    pub epsilon: f32,
    pub activation: Activation,
}

/// Mean and variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// What is done to the values of one channel: `f(scale * x + shift)`.
#[derive(Clone, Copy)]
struct Channel {
    mean: f32,
    /// One over the standard deviation.
    inverse: f32,
    scale: f32,
    shift: f32,
}

impl Norm {
    fn image(&self) -> usize {
        self.channels * self.plane
    }

    /// The moments over a batch: those of each plane, put together in double precision (Chan et
    /// al. 1979).
    pub fn moments(&self, x: &[f32]) -> Moments {
        let planes: Vec<[f32; 2]> = x
            .par_chunks(self.plane)
            .map(|plane| Arch::new().dispatch(PlaneMoments(plane)))
            .collect();
        let (mut mean, mut variance) = (Vec::new(), Vec::new());
        for channel in 0..self.channels {
            let planes = || planes.iter().skip(channel).step_by(self.channels);
            let count = planes().count().max(1) as f64;
            let center = planes().map(|&[mean, _]| f64::from(mean)).sum::<f64>() / count;
            let spread = |&[mean, variance]: &[f32; 2]| {
                f64::from(variance) + (f64::from(mean) - center).powi(2)
            };
            mean.push(center as f32);
            variance.push((planes().map(spread).sum::<f64>() / count) as f32);
        }
        Moments { mean, variance }
    }

    fn per_channel(&self, moments: &Moments, gamma: &[f32], beta: &[f32]) -> Vec<Channel> {
        let moments = moments.mean.iter().zip(&moments.variance);
        moments
            .zip(gamma.iter().zip(beta))
            .map(|((&mean, &variance), (gamma, beta))| {
                let inverse = 1.0 / (variance + self.epsilon).sqrt();
                let scale = gamma * inverse;
                Channel { mean, inverse, scale, shift: beta - mean * scale }
            })
            .collect()
    }

    /// Normalises by `moments`: the batch's while training, else the running ones.
    pub fn forward(&self, x: &[f32], moments: &Moments, weights: [&[f32]; 2], y: &mut [f32]) {
        let [gamma, beta] = weights;
        let channels = self.per_channel(moments, gamma, beta);
        let images = y.par_chunks_mut(self.image()).zip(x.par_chunks(self.image()));
        images.for_each(|(y, x)| {
            let planes = y.chunks_mut(self.plane).zip(x.chunks(self.plane));
            for ((y, x), &channel) in planes.zip(&channels) {
                self.activation.with(Forward { channel, x, y });
            }
        });
    }

    /// The gradients of scale and shift, and into `dx` that of the input. `moments` are those of
    /// the batch `x`.
    pub fn backward(
        &self,
        x: &[f32],
        moments: &Moments,
        weights: [&[f32]; 2],
        dy: &[f32],
        dx: &mut [f32],
    ) -> [Vec<f32>; 2] {
        let [gamma, beta] = weights;
        let channels = self.per_channel(moments, gamma, beta);
        let sums = self.sums(x, &channels, dy);
        let count = (x.len() / self.channels) as f64;
        // How the batch's moments move with x: a straight line in x, for each channel.
        let lines: Vec<[f32; 2]> = channels
            .iter()
            .zip(&sums)
            .map(|(channel, [dy, product])| {
                let [scale, inverse, mean] =
                    [channel.scale, channel.inverse, channel.mean].map(f64::from);
                let slope = -scale * inverse * product / count;
                [slope as f32, (-scale * dy / count - slope * mean) as f32]
            })
            .collect();
        let images = x.par_chunks(self.image()).zip(dy.par_chunks(self.image()));
        images.zip(dx.par_chunks_mut(self.image())).for_each(|((x, dy), dx)| {
            let planes = x.chunks(self.plane).zip(dy.chunks(self.plane));
            let planes = planes.zip(dx.chunks_mut(self.plane));
            for (((x, dy), dx), (&channel, &line)) in planes.zip(channels.iter().zip(&lines)) {
                self.activation.with(Backward { channel, line, x, dy, dx });
            }
        });
        let part = |index: usize| {
            sums.iter().map(|sums| sums.get(index).map_or(0.0, |&sum| sum as f32)).collect()
        };
        [part(1), part(0)]
    }

    /// For each channel the sums of the gradient before the function, and of its product with the
    /// normalised input.
    fn sums(&self, x: &[f32], channels: &[Channel], dy: &[f32]) -> Vec<[f64; 2]> {
        let images = x.par_chunks(self.image()).zip(dy.par_chunks(self.image()));
        let images: Vec<Vec<[f32; 2]>> = images
            .map(|(x, dy)| {
                let planes = x.chunks(self.plane).zip(dy.chunks(self.plane)).zip(channels);
                planes
                    .map(|((x, dy), &channel)| self.activation.with(Sums { channel, x, dy }))
                    .collect()
            })
            .collect();
        let mut totals = vec![[0.0; 2]; self.channels];
        for image in &images {
            for (totals, sums) in totals.iter_mut().zip(image) {
                totals.iter_mut().zip(sums).for_each(|(total, &sum)| *total += f64::from(sum));
            }
        }
        totals
    }
}

/// Mean and variance of one plane.
struct PlaneMoments<'a>(&'a [f32]);

impl NullaryFnOnce for PlaneMoments<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn call(self) -> [f32; 2] {
        let count = self.0.len() as f32;
        let [sum] = fold(self.0, self.0, |x, _| [x]);
        let mean = sum / count;
        let [squares] = fold(self.0, self.0, |x, _| [(x - mean) * (x - mean)]);
        [mean, squares / count]
    }
}

struct Forward<'a> {
    channel: Channel,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithFunction for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, f: impl Fn(f32) -> f32, _: impl Fn(f32) -> f32) {
        let Channel { scale, shift, .. } = self.channel;
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = f(scale * x + shift);
        }
    }
}

struct Sums<'a> {
    channel: Channel,
    x: &'a [f32],
    dy: &'a [f32],
}

impl WithFunction for Sums<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run(self, _: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) -> [f32; 2] {
        let Channel { mean, inverse, scale, shift } = self.channel;
        let [dy, product] = fold(self.x, self.dy, |x, dy| {
            let gradient = dy * slope(scale * x + shift);
            [gradient, gradient * (x - mean)]
        });
        [dy, product * inverse]
    }
}

struct Backward<'a> {
    channel: Channel,
    line: [f32; 2],
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl WithFunction for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
        let Channel { scale, shift, .. } = self.channel;
        let [a, b] = self.line;
        for ((dx, &x), &dy) in self.dx.iter_mut().zip(self.x).zip(self.dy) {
            *dx = scale * dy * slope(scale * x + shift) + (a * x + b);
        }
    }
}
