//! Functions of single values, and their slopes.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use crate::network::Op;

/// Values that are worked on by one thread.
const PART: usize = 1 << 15;

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Activation {
    Identity,
    Relu,
    HardSwish,
    Sigmoid,
    HardSigmoid { alpha: f32, beta: f32 },
}

impl Activation {
    /// What `op` does, if it is a function of single values.
    pub fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Relu => Some(Self::Relu),
            Op::HardSwish => Some(Self::HardSwish),
            Op::Sigmoid => Some(Self::Sigmoid),
            Op::HardSigmoid { alpha, beta } => Some(Self::HardSigmoid { alpha, beta }),
            _ => None,
        }
    }

    /// Does `work` with the function and its slope: compiled for each function apart, with the
    /// widest vectors that this machine has.
    pub fn with<W: WithFunction>(self, work: W) -> W::Output {
        Arch::new().dispatch(Chosen { activation: self, work })
    }

    /// `y = f(x)`
    pub fn forward(self, x: &[f32], y: &mut [f32]) {
        let parts = y.par_chunks_mut(PART).zip(x.par_chunks(PART));
        parts.for_each(|(y, x)| self.with(Forward { x, y }));
    }

    /// `dx = dy * f'(x)`
    pub fn backward(self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let parts = dx.par_chunks_mut(PART).zip(x.par_chunks(PART)).zip(dy.par_chunks(PART));
        parts.for_each(|((dx, x), dy)| self.with(Backward { x, dy, dx }));
    }
}

/// Work with a function and its slope. What implements this is inlined.
pub(super) trait WithFunction {
    type Output;

    fn run(self, f: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) -> Self::Output;
}

struct Chosen<W> {
    activation: Activation,
    work: W,
}

impl<W: WithFunction> NullaryFnOnce for Chosen<W> {
    type Output = W::Output;

    #[inline(always)]
    fn call(self) -> W::Output {
        let Self { activation, work } = self;
        match activation {
            Activation::Identity => work.run(|x| x, |_| 1.0),
            Activation::Relu => work.run(|x: f32| x.max(0.0), step),
            Activation::HardSwish => work.run(hard_swish, hard_swish_slope),
            Activation::Sigmoid => work.run(sigmoid, |x| sigmoid(x) * sigmoid(-x)),
            Activation::HardSigmoid { alpha, beta } => work.run(
                |x: f32| (alpha * x + beta).clamp(0.0, 1.0),
                |x: f32| {
                    let y = alpha * x + beta;
                    if y > 0.0 && y < 1.0 { alpha } else { 0.0 }
                },
            ),
        }
    }
}

#[inline(always)]
fn step(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}

#[inline(always)]
fn hard_swish(x: f32) -> f32 {
    x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
}

#[inline(always)]
fn hard_swish_slope(x: f32) -> f32 {
    let inside = x * (1.0 / 3.0) + 0.5;
    if x.abs() < 3.0 { inside } else { step(x) }
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithFunction for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, f: impl Fn(f32) -> f32, _: impl Fn(f32) -> f32) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = f(x);
        }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl WithFunction for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
        for ((dx, &dy), &x) in self.dx.iter_mut().zip(self.dy).zip(self.x) {
            *dx = dy * slope(x);
        }
    }
}

/// The logistic function.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
