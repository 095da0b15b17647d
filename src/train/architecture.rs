//! The networks that training can start from. Weights have the names of the starting weights that
//! fit them.

use std::collections::BTreeMap;

use super::shares::{SHARES, STRIDE, ramps};
use crate::network::{Layers, Op, Weight, Window};

/// Width and height of the image.
const SIDE: usize = 227;
/// Epsilon and momentum of batch normalisation in the starting weights of [`Architecture::Mn04`].
const MN04_NORM: Op = Op::BatchNorm { epsilon: 1e-3, momentum: 0.99 };
const DENSE_NORM: Op = Op::BatchNorm { epsilon: 1e-5, momentum: 0.9 };

/// A plan of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// EfficientAT's mn04 (Schmid et al. 2023), a MobileNetV3-Large of width 0.4, for images of
    /// the recipe that hearken ships: its 227 bands are brought to the 128 that the starting
    /// weights know. Columns are 22 ms apart; the first layer's stride brings them to 44 ms at
    /// once, and the second block, which did so in the original, keeps them. Images of three
    /// channels hold columns 7 ms apart: there the first layer steps over all channels and brings
    /// them to 22 ms, about as in the original, and so does the second block.
    Mn04,
    /// The same for columns about as far apart as in the original, 10 ms, with its strides.
    Mn04Fine,
    /// A plain residual network of 3x3 convolutions (He et al. 2016) with a large first stride.
    Dense,
    /// For photographs: soft histograms of each channel, two layers on what lies around their
    /// quantiles.
    Quantiles,
}

/// How values go on after a convolution.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Linear,
    Relu,
    HardSwish,
}

/// An inverted residual block: kernel side, inner channels, outer channels, squeeze and
/// excitation's inner channels (0: none), activation and strides.
struct Inverted(usize, usize, usize, usize, Then, [usize; 2]);

const BLOCKS: [Inverted; 15] = [
    Inverted(3, 8, 8, 0, Then::Relu, [1, 1]),
    // Here the plans differ.
    Inverted(3, 24, 16, 0, Then::Relu, [2, 2]),
    Inverted(3, 32, 16, 0, Then::Relu, [1, 1]),
    Inverted(5, 32, 16, 8, Then::Relu, [2, 2]),
    Inverted(5, 48, 16, 16, Then::Relu, [1, 1]),
    Inverted(5, 48, 16, 16, Then::Relu, [1, 1]),
    Inverted(3, 96, 32, 0, Then::HardSwish, [2, 2]),
    Inverted(3, 80, 32, 0, Then::HardSwish, [1, 1]),
    Inverted(3, 72, 32, 0, Then::HardSwish, [1, 1]),
    Inverted(3, 72, 32, 0, Then::HardSwish, [1, 1]),
    Inverted(3, 192, 48, 48, Then::HardSwish, [1, 1]),
    Inverted(3, 272, 48, 72, Then::HardSwish, [1, 1]),
    Inverted(5, 272, 64, 72, Then::HardSwish, [2, 2]),
    Inverted(5, 384, 64, 96, Then::HardSwish, [1, 1]),
    Inverted(5, 384, 64, 96, Then::HardSwish, [1, 1]),
];
/// Channels after the first layer, of the last convolution and of the embedding.
const MN04_WIDTHS: [usize; 3] = [8, 384, 512];
/// Bands that the starting weights know.
const MN04_BANDS: usize = 128;
/// What black and white pixels are in the starting weights' scale of `(ln(power) + 4.5) / 5`.
const MN04_RANGE: [f32; 2] = [-1.402_585_1, 2.6];

/// Channels of [`Architecture::Dense`]'s first layer, and of its stages.
const DENSE_STEM: usize = 32;
const DENSE_WIDTHS: [usize; 3] = [40, 80, 160];

/// Shares of the pixels whose quantiles [`Architecture::Quantiles`] looks for, from either end.
const QUANTILES: [f32; 6] = [0.0015, 0.004, 0.01, 0.03, 0.1, 0.3];
/// Values of its two hidden layers.
const QUANTILES_WIDTHS: [usize; 2] = [512, 256];

impl Architecture {
    /// The network with random weights, for images of 227x227 pixels of 0 to 255 in one channel or
    /// three ([`Architecture::Quantiles`]: red, green and blue) and that many outputs. The same seed
    /// gives the same weights.
    pub fn build(self, channels: usize, outputs: usize, seed: u64) -> Layers {
        let builder = Builder {
            layers: Layers::new([channels, SIDE, SIDE]),
            random: fastrand::Rng::with_seed(seed),
            last: Layers::INPUT.to_owned(),
            channels,
        };
        match self {
            Self::Mn04 if channels == 1 => builder.mn04(outputs, [2, 2], [2, 1]),
            Self::Mn04 => builder.mn04(outputs, [2, 1], [2, 2]),
            Self::Mn04Fine => builder.mn04(outputs, [2, 2], [2, 2]),
            Self::Dense => builder.dense(outputs),
            Self::Quantiles => builder.quantiles(outputs),
        }
    }
}

/// Changes starting weights, by name, to what this plan wants of them for images of `channels`.
pub(super) fn adapt(
    architecture: Architecture,
    channels: usize,
    found: &mut BTreeMap<String, Weight>,
) {
    if architecture == Architecture::Mn04
        && let Some(kernel) = found.get_mut("features.0.0.weight")
    {
        if channels == 1 { stem_at_22_ms(kernel) } else { stem_at_7_ms(kernel) }
    }
}

/// EfficientAT's first kernel sees columns 10 ms apart, ours 22 ms. What it would see at its own
/// columns is interpolated from ours, and the interpolation is put into the kernel: its taps lie
/// at -3/4, -1/4 and 1/4 of our columns.
fn stem_at_22_ms(kernel: &mut Weight) {
    for taps in kernel.values.as_chunks_mut().0 {
        let [first, second, third]: [f32; 3] = *taps;
        *taps =
            [0.75 * first + 0.25 * second, 0.25 * first + 0.75 * (second + third), 0.25 * third];
    }
}

/// The same for images of three channels: EfficientAT's taps lie at -1.36, 0 and 1.36 of our spectra,
/// of which the kernel sees nine, three columns of three channels.
fn stem_at_7_ms(kernel: &mut Weight) {
    let [near, far] = [0.638, 0.362];
    // Rows of the kernel, one output after the other, three taps each.
    let rows: Vec<[f32; 3]> = kernel.values.as_chunks().0.to_vec();
    let outputs = rows.chunks(3).flat_map(|rows| {
        let of_channel = move |channel: usize| {
            rows.iter().flat_map(move |&[before, at, after]| match channel {
                0 => [0.0, near * before, far * after],
                1 => [0.0, at, 0.0],
                _ => [far * before, near * after, 0.0],
            })
        };
        (0..3).flat_map(of_channel)
    });
    kernel.values = outputs.collect();
    if let Some(channels) = kernel.shape.get_mut(1) {
        *channels = 3;
    }
}

/// A network that grows at its end.
struct Builder {
    layers: Layers,
    random: fastrand::Rng,
    /// The value that the next layer takes.
    last: String,
    /// How many channels it has.
    channels: usize,
}

/// A convolution: the names of its weight and of its normalisation's, and what it is like.
struct Plan<'a> {
    conv: &'a str,
    norm: &'a str,
    outputs: usize,
    window: Window,
    depthwise: bool,
    then: Then,
}

impl Builder {
    /// `first`, `second`: strides of the first layer and of the second block.
    fn mn04(mut self, outputs: usize, first: [usize; 2], second: [usize; 2]) -> Layers {
        let [stem, last, embedding] = MN04_WIDTHS;
        let [black, white] = MN04_RANGE;
        let (scale, shift) = (vec![(white - black) / 255.0], vec![black]);
        self.push(Op::Affine { scale, shift }, Vec::new(), "scaled");
        let bands = Weight { shape: vec![MN04_BANDS, SIDE], values: resampling(MN04_BANDS, SIDE) };
        self.push(Op::MatMulLeft, vec![("bands".to_owned(), bands)], "banded");
        let window = Window { stride: first, ..Window::square(3, 1, 1) };
        self.mn04_conv("features.0", stem, window, false, Then::HardSwish);
        for (index, block) in BLOCKS.iter().enumerate() {
            let strides = if index == 1 { second } else { block.5 };
            self.inverted(&format!("features.{}.block", index + 1), block, strides);
        }
        self.mn04_conv("features.16", last, Window::POINT, false, Then::HardSwish);
        self.push(Op::GlobalAveragePool, Vec::new(), "pooled");
        self.linear("classifier.2", last, embedding);
        self.push(Op::HardSwish, Vec::new(), "embedding");
        self.push(Op::Dropout { ratio: 0.2 }, Vec::new(), "dropped");
        self.linear("classifier.5", embedding, outputs);
        self.layers
    }

    fn inverted(&mut self, name: &str, block: &Inverted, stride: [usize; 2]) {
        let &Inverted(kernel, inner, outer, squeezed, then, _) = block;
        let (before, channels) = (self.last.clone(), self.channels);
        let mut part = 0;
        let mut next = || {
            part += 1;
            format!("{name}.{}", part - 1)
        };
        if inner != channels {
            self.mn04_conv(&next(), inner, Window::POINT, false, then);
        }
        let window = Window { stride, ..Window::square(kernel, 1, kernel / 2) };
        self.mn04_conv(&next(), inner, window, true, then);
        if squeezed > 0 {
            self.squeeze(&format!("{}.conc_se_layers.0", next()), inner, squeezed);
        }
        self.mn04_conv(&next(), outer, Window::POINT, false, Then::Linear);
        if stride == [1, 1] && outer == channels {
            self.add(&before, &format!("{name}.sum"));
        }
    }

    /// Squeeze and excitation (Hu et al. 2018): each channel times a factor that comes from the
    /// means of all.
    fn squeeze(&mut self, name: &str, channels: usize, squeezed: usize) {
        let image = self.last.clone();
        self.push(Op::GlobalAveragePool, Vec::new(), &format!("{name}.mean"));
        self.linear(&format!("{name}.fc1"), channels, squeezed);
        self.push(Op::Relu, Vec::new(), &format!("{name}.relu"));
        self.linear(&format!("{name}.fc2"), squeezed, channels);
        self.push(Op::Sigmoid, Vec::new(), &format!("{name}.factors"));
        let factors = std::mem::take(&mut self.last);
        let output = format!("{name}.scaled");
        self.last = self.layers.push(Op::Mul, &[&image, &factors], Vec::new(), &output);
    }

    /// A convolution named as in the starting weights.
    fn mn04_conv(&mut self, at: &str, outputs: usize, window: Window, depthwise: bool, then: Then) {
        let (conv, norm) = (&format!("{at}.0"), &format!("{at}.1"));
        self.conv(Plan { conv, norm, outputs, window, depthwise, then }, &MN04_NORM);
    }

    fn dense(mut self, outputs: usize) -> Layers {
        let (scale, shift) = (vec![1.0 / 64.0], vec![-1.5]);
        self.push(Op::Affine { scale, shift }, Vec::new(), "scaled");
        self.dense_conv("stem", DENSE_STEM, Window::square(8, 4, 0), Then::Relu);
        for (stage, &width) in DENSE_WIDTHS.iter().enumerate() {
            let window = Window::square(3, 2, 1);
            self.dense_conv(&format!("stage{stage}.down"), width, window, Then::Relu);
            let before = self.last.clone();
            let window = Window::square(3, 1, 1);
            self.dense_conv(&format!("stage{stage}.a"), width, window, Then::Relu);
            self.dense_conv(&format!("stage{stage}.b"), width, window, Then::Linear);
            self.add(&before, &format!("stage{stage}.sum"));
            self.push(Op::Relu, Vec::new(), &format!("stage{stage}"));
        }
        self.push(Op::GlobalAveragePool, Vec::new(), "pooled");
        self.push(Op::Dropout { ratio: 0.2 }, Vec::new(), "dropped");
        self.linear("head", self.channels, outputs);
        self.layers
    }

    fn quantiles(mut self, outputs: usize) -> Layers {
        let (scale, shift) = (vec![1.0 / 64.0], vec![-2.0]);
        self.push(Op::Affine { scale, shift }, Vec::new(), "scaled");
        let (weight, bias) = ramp_weights(1.0 / 64.0);
        let shares = bias.values.len();
        let window = Window { stride: [STRIDE; 2], ..Window::POINT };
        let weights = vec![("ramps.weight".to_owned(), weight), ("ramps.bias".to_owned(), bias)];
        self.push(Op::Conv { window, groups: 1 }, weights, "ramps");
        self.push(Op::HardSigmoid { alpha: 1.0, beta: 0.0 }, Vec::new(), "below");
        self.push(Op::GlobalAveragePool, Vec::new(), SHARES);
        let whole = self.around_quantiles(SHARES, shares);
        let [first, second] = QUANTILES_WIDTHS;
        self.linear("fc1", whole, first);
        self.push(Op::Relu, Vec::new(), "fc1.relu");
        self.linear("fc2", first, second);
        self.push(Op::Relu, Vec::new(), "fc2.relu");
        self.linear("head", second, outputs);
        self.layers
    }

    /// Values of 0 to 1 around each of [`QUANTILES`], from below and from above, behind the shares
    /// themselves. Returns how many there are.
    fn around_quantiles(&mut self, shares: &str, count: usize) -> usize {
        let mut parts = vec![shares.to_owned()];
        for (n, quantile) in QUANTILES.into_iter().enumerate() {
            let steep = 0.5 / quantile;
            for (end, alpha, beta) in [("low", steep, 0.0), ("high", -steep, steep)] {
                let (op, name) = (Op::HardSigmoid { alpha, beta }, format!("{end}{n}"));
                parts.push(self.layers.push(op, &[shares], Vec::new(), &name));
            }
        }
        let inputs: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.last = self.layers.push(Op::Concat, &inputs, Vec::new(), "quantiles");
        count * parts.len()
    }

    fn dense_conv(&mut self, name: &str, outputs: usize, window: Window, then: Then) {
        let norm = &format!("{name}.norm");
        let plan = Plan { conv: name, norm, outputs, window, depthwise: false, then };
        self.conv(plan, &DENSE_NORM);
    }

    /// A convolution, its normalisation and its activation.
    fn conv(&mut self, plan: Plan, normalise: &Op) {
        let Plan { conv, norm, outputs, window, depthwise, then } = plan;
        let groups = if depthwise { self.channels } else { 1 };
        let [rows, columns] = window.kernel;
        let shape = [outputs, self.channels / groups, rows, columns];
        // Keeps the variance of gradients from layer to layer (He et al. 2015).
        let fan_out = outputs / groups * rows * columns;
        let weight = self.normal(&shape, (2.0 / fan_out as f32).sqrt());
        self.push(Op::Conv { window, groups }, vec![(format!("{conv}.weight"), weight)], conv);
        self.channels = outputs;
        let weights = [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]
            .map(|(part, value)| {
                let values = vec![value; outputs];
                (format!("{norm}.{part}"), Weight { shape: vec![outputs], values })
            });
        self.push(normalise.clone(), weights.into(), norm);
        match then {
            Then::Linear => {}
            Then::Relu => self.push(Op::Relu, Vec::new(), &format!("{norm}.relu")),
            Then::HardSwish => self.push(Op::HardSwish, Vec::new(), &format!("{norm}.hardswish")),
        }
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        let weight = self.normal(&[outputs, inputs], (1.0 / inputs as f32).sqrt());
        let weights = vec![
            (format!("{name}.weight"), weight),
            (format!("{name}.bias"), Weight::zeros(&[outputs])),
        ];
        self.push(Op::Gemm, weights, name);
    }

    fn add(&mut self, other: &str, output: &str) {
        let last = std::mem::take(&mut self.last);
        self.last = self.layers.push(Op::Add, &[&last, other], Vec::new(), output);
    }

    fn push(&mut self, op: Op, weights: Vec<(String, Weight)>, output: &str) {
        let last = std::mem::take(&mut self.last);
        self.last = self.layers.push(op, &[&last], weights, output);
    }

    /// Normally distributed values around 0 (Box and Muller 1958).
    fn normal(&mut self, shape: &[usize], deviation: f32) -> Weight {
        let mut value = || {
            let (radius, angle) = (1.0 - self.random.f32(), self.random.f32());
            deviation * (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
        };
        let values = (0..shape.iter().product()).map(|_| value()).collect();
        Weight { shape: shape.to_vec(), values }
    }
}

/// Weights and biases of a convolution of single pixels whose outputs fall from 1 to 0 along the
/// ramps of each channel, for pixels of `level * scale - 2`.
fn ramp_weights(scale: f32) -> (Weight, Weight) {
    let all = ramps();
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for channel in 0..3 {
        for &(centre, width) in &all {
            let slope = -1.0 / (width * scale);
            weight.extend((0..3).map(|n| if n == channel { slope } else { 0.0 }));
            bias.push(0.5 - slope * (centre * scale - 2.0));
        }
    }
    let count = bias.len();
    (
        Weight { shape: vec![count, 3, 1, 1], values: weight },
        Weight { shape: vec![count], values: bias },
    )
}

/// A matrix `to x from` that resamples `from` values to fewer by a triangle as wide as two of the
/// new ones, so that none of the old is left out. Row by row.
fn resampling(to: usize, from: usize) -> Vec<f32> {
    let step = from as f64 / to as f64;
    let row = |new: usize| {
        let centre = (new as f64 + 0.5) * step - 0.5;
        let weights: Vec<f64> =
            (0..from).map(|old| (1.0 - (old as f64 - centre).abs() / step).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(move |weight| (weight / sum) as f32)
    };
    (0..to).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_fit_together_and_have_their_outputs() {
        for architecture in [Architecture::Mn04, Architecture::Mn04Fine, Architecture::Dense] {
            let network = architecture.build(1, 7, 1);
            assert_eq!(network.outputs().unwrap(), 7);
            assert_eq!(network, architecture.build(1, 7, 1));
            assert_ne!(network, architecture.build(1, 7, 2));
        }
        for architecture in [Architecture::Mn04, Architecture::Dense] {
            let network = architecture.build(3, 7, 1);
            assert_eq!((network.input, network.outputs().unwrap()), ([3, SIDE, SIDE], 7));
        }
    }

    #[test]
    fn quantiles_are_of_colours() {
        let network = Architecture::Quantiles.build(3, 3, 0);
        assert_eq!((network.input, network.outputs().unwrap()), ([3, SIDE, SIDE], 3));
    }

    #[test]
    fn mn04_has_as_many_weights_as_published() {
        let network = Architecture::Mn04.build(1, 527, 0);
        let constant = |name: &str| name == "bands" || name.contains("running");
        let trained = network.weights.iter().filter(|(name, _)| !constant(name));
        let values: usize = trained.map(|(_, weight)| weight.values.len()).sum();
        // "0.983 M parameters" in the authors' table of models.
        assert_eq!(values / 1000, 983);
    }

    #[test]
    fn a_sine_meets_the_same_first_kernel_at_either_spacing() {
        let kernel = [0.3_f32, -0.7, 0.5];
        let weight = Weight { shape: vec![1, 1, 1, 3], values: kernel.to_vec() };
        let mut found = BTreeMap::from([("features.0.0.weight".to_owned(), weight)]);
        adapt(Architecture::Mn04, 1, &mut found);
        let sound = |column: f32| (0.1 * column).sin();
        let ours = (-1..=1).zip(&found["features.0.0.weight"].values);
        let near: f32 = ours.map(|(at, w)| w * sound(100.0 + at as f32)).sum();
        let theirs = [-0.75, -0.25, 0.25].into_iter().zip(kernel);
        let fine: f32 = theirs.map(|(at, w)| w * sound(100.0 + at)).sum();
        assert!((near - fine).abs() < 1e-3, "{near} {fine}");
    }

    #[test]
    fn a_sine_meets_the_same_first_kernel_in_three_channels() {
        let kernel: Vec<f32> = (0..18).map(|n| (n as f32 * 2.3).sin()).collect();
        let weight = Weight { shape: vec![2, 1, 3, 3], values: kernel.clone() };
        let mut found = BTreeMap::from([("features.0.0.weight".to_owned(), weight)]);
        adapt(Architecture::Mn04, 3, &mut found);
        let ours = &found["features.0.0.weight"];
        assert_eq!(ours.shape, [2, 3, 3, 3]);
        // Rows differ in level; spectra are 235 samples apart, theirs 320.
        let sound = |row: usize, spectrum: f32| (1 + row) as f32 * (0.1 * spectrum).sin();
        for (output, kernel) in kernel.chunks(9).enumerate() {
            let mut sum = 0.0;
            for channel in 0..3 {
                for row in 0..3 {
                    for column in 0..3 {
                        let at = ((output * 3 + channel) * 3 + row) * 3 + column;
                        let spectrum = 3 * column as i32 + channel as i32 - 4;
                        sum += ours.values[at] * sound(row, 100.0 + spectrum as f32);
                    }
                }
            }
            let taps = kernel.iter().enumerate();
            let theirs = |(at, w): (usize, &f32)| {
                w * sound(at / 3, 100.0 + 320.0 / 235.0 * ((at % 3) as f32 - 1.0))
            };
            let wanted: f32 = taps.map(theirs).sum();
            assert!((sum - wanted).abs() < 0.01, "{sum} {wanted}");
        }
    }

    #[test]
    fn first_weights_of_a_layer_have_the_wanted_spread() {
        let network = Architecture::Dense.build(1, 2, 0);
        let values = &network.weights["stage2.a.weight"].values;
        let power = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        let wanted = 2.0 / (160.0 * 9.0);
        assert!((power / wanted - 1.0).abs() < 0.01, "{power} for {wanted}");
    }

    #[test]
    fn resampling_keeps_a_constant_and_a_slope() {
        let matrix = resampling(128, 227);
        for (new, row) in matrix.chunks(227).enumerate() {
            let sum: f32 = row.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5);
            let mean: f32 = row.iter().enumerate().map(|(old, w)| old as f32 * w).sum();
            let centre = (new as f32 + 0.5) * 227.0 / 128.0 - 0.5;
            // At the ends the triangle has one side only.
            if (2..126).contains(&new) {
                assert!((mean - centre).abs() < 0.1, "{new}: {mean} for {centre}");
            }
        }
    }
}
