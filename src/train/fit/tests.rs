//! The steps against slow references and finite differences, and trainings from end to end.

use super::conv::Conv;
use super::gradients::backward;
use super::graph::Graph;
use super::tape::{Mode, Tape};
use super::*;
use crate::network::{Op, Shape, Weight, Window};
use crate::train::architecture::Architecture;
use crate::train::examples::Batch;

const TRAINING: Mode = Mode::Training { seed: 5 };

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
}

fn weight(shape: &[usize], seed: u64) -> Weight {
    Weight { shape: shape.to_vec(), values: random(shape.iter().product(), seed) }
}

/// A network of one convolution, one step to be looked at, and one linear layer, so that the step
/// has something to train on both sides.
fn around(input: Shape, channels: usize, step: impl FnOnce(&mut Layers)) -> Layers {
    let mut layers = Layers::new(input);
    let first = ("first".to_owned(), weight(&[channels, input[0], 1, 1], 1));
    let conv = Op::Conv { window: Window::POINT, groups: 1 };
    layers.push(conv, &[Layers::INPUT], vec![first], "x");
    step(&mut layers);
    let features: usize = layers.shapes().unwrap().last().unwrap().iter().product();
    let at = layers.nodes.last().unwrap().output.clone();
    let last = ("last".to_owned(), weight(&[3, features], 2));
    layers.push(Op::Gemm, &[&at], vec![last, ("last.bias".to_owned(), weight(&[3], 3))], "y");
    layers
}

fn one(op: Op, weights: Vec<(&'static str, Weight)>) -> impl FnOnce(&mut Layers) {
    let weights = weights.into_iter().map(|(name, weight)| (name.to_owned(), weight)).collect();
    move |layers| {
        layers.push(op, &["x"], weights, "step");
    }
}

/// The gradients of all trained weights against differences of a loss, a weighted sum of the
/// outputs. Each is taken in a random direction in which
/// all parts of the gradient add up, so that rounding and kinks count for little beside it. Steps are short, so that few values meet the kink of a function on their way.
fn check_gradients(layers: &Layers) {
    let mut graph = Graph::new(layers).unwrap();
    let images = random(3 * layers.input.iter().product::<usize>(), 7);
    let mut tape = Tape::new();
    let factors = random(tape.forward(&graph, &images, TRAINING).len(), 8);
    let gradients = backward(&graph, &mut tape, factors.clone());
    let loss = |graph: &Graph| {
        let y = Tape::new().forward(graph, &images, TRAINING).to_vec();
        y.iter().zip(&factors).map(|(&y, &factor)| f64::from(y) * f64::from(factor)).sum::<f64>()
    };
    for (number, gradient) in gradients.iter().enumerate() {
        let parameter = graph.parameters[number].clone();
        if !parameter.trained {
            assert!(gradient.is_empty(), "{}", parameter.name);
            continue;
        }
        let lengths = random(parameter.values.len(), 100 + number as u64);
        let pairs = gradient.iter().zip(&lengths);
        let direction: Vec<f32> = pairs.map(|(g, length)| length.abs() * g.signum()).collect();
        let pairs = gradient.iter().zip(&direction);
        let slope: f64 = pairs.map(|(g, d)| f64::from(g * d)).sum();
        let mut at = |by: f32| {
            let moved = parameter.values.iter().zip(&direction).map(|(value, d)| value + by * d);
            graph.parameters[number].values = moved.collect();
            let loss = loss(&graph);
            graph.parameters[number].values.clone_from(&parameter.values);
            loss
        };
        let by = 1e-3_f32;
        let measured = (at(by) - at(-by)) / (2.0 * f64::from(by));
        let name = &parameter.name;
        assert!(
            (slope - measured).abs() < 0.02 * slope,
            "{name}: {slope}, measured {measured}, in {:?}",
            layers.nodes
        );
    }
}

fn conv(kernel: [usize; 2], stride: [usize; 2], before: [usize; 2], groups: usize) -> Op {
    let after = [before[0], before[1] + 1];
    Op::Conv { window: Window { kernel, stride, before, after, ceil: false }, groups }
}

#[test]
fn gradients_of_convolutions() {
    for (kernel, stride, before, groups, channels) in [
        ([1, 1], [1, 1], [0, 0], 1, 5),
        ([3, 3], [1, 1], [1, 1], 1, 5),
        ([3, 2], [2, 1], [0, 1], 1, 7),
        ([5, 3], [3, 2], [2, 0], 2, 6),
        ([3, 3], [1, 1], [1, 1], 4, 4),
        ([5, 5], [2, 2], [2, 2], 4, 4),
        ([3, 5], [2, 3], [0, 2], 4, 4),
        ([2, 2], [3, 3], [0, 0], 4, 4),
    ] {
        let weights = vec![
            ("w", weight(&[channels, 4 / groups, kernel[0], kernel[1]], 11)),
            ("b", weight(&[channels], 12)),
        ];
        let step = one(conv(kernel, stride, before, groups), weights);
        check_gradients(&around([2, 9, 23], 4, step));
    }
}

#[test]
fn gradients_of_normalisation_and_what_follows_it() {
    let norm = || {
        let moments =
            [("mean", weight(&[4], 15)), ("var", Weight { shape: vec![4], values: vec![1.0; 4] })];
        let [mean, variance] = moments;
        let scale = Weight { shape: vec![4], values: vec![0.7, -1.2, 1.5, 0.4] };
        let op = Op::BatchNorm { epsilon: 1e-3, momentum: 0.9 };
        one(op, vec![("gamma", scale), ("beta", weight(&[4], 14)), mean, variance])
    };
    check_gradients(&around([2, 5, 9], 4, norm()));
    for op in [Op::Relu, Op::HardSwish, Op::Sigmoid, Op::HardSigmoid { alpha: 0.2, beta: 0.5 }] {
        check_gradients(&around([2, 5, 9], 4, |layers| {
            norm()(layers);
            layers.push(op, &["step"], Vec::new(), "function");
        }));
    }
}

#[test]
fn gradients_of_normalisation_of_the_image_itself() {
    let mut layers = Layers::new([2, 4, 5]);
    let weights = [("gamma", 1.2), ("beta", 0.3), ("mean", 0.0), ("variance", 1.0)];
    let weights = weights
        .map(|(part, value)| (part.to_owned(), Weight { shape: vec![2], values: vec![value; 2] }));
    let norm = Op::BatchNorm { epsilon: 1e-3, momentum: 0.9 };
    layers.push(norm, &[Layers::INPUT], weights.into(), "norm");
    layers.push(Op::Gemm, &["norm"], vec![("last".to_owned(), weight(&[3, 40], 2))], "y");
    check_gradients(&layers);
}

#[test]
fn gradients_of_steps_without_weights() {
    let window = Window { ceil: true, ..Window::square(3, 2, 1) };
    let steps = [
        Op::Relu,
        Op::HardSwish,
        Op::Sigmoid,
        Op::HardSigmoid { alpha: 0.3, beta: 0.4 },
        Op::GlobalAveragePool,
        Op::AveragePool(window),
        Op::MaxPool(window),
        Op::Flatten,
        Op::Affine { scale: vec![0.5, 2.0, -1.0, 3.0], shift: vec![1.0] },
        Op::Dropout { ratio: 0.3 },
    ];
    for step in steps {
        check_gradients(&around([2, 8, 6], 4, one(step, Vec::new())));
    }
    check_gradients(&around([2, 8, 6], 4, one(Op::MatMulLeft, vec![("m", weight(&[5, 8], 20))])));
    check_gradients(&around([2, 8, 6], 4, one(Op::MatMulRight, vec![("m", weight(&[6, 9], 21))])));
}

#[test]
fn gradients_of_values_that_meet() {
    let branch = |op: Op| {
        move |layers: &mut Layers| {
            let weights = vec![("branch".to_owned(), weight(&[4, 4, 1, 1], 30))];
            let point = Op::Conv { window: Window::POINT, groups: 1 };
            layers.push(point, &["x"], weights, "branch");
            layers.push(op, &["x", "branch"], Vec::new(), "met");
        }
    };
    for op in [Op::Add, Op::Mul, Op::Concat] {
        check_gradients(&around([2, 4, 5], 4, branch(op)));
    }
    check_gradients(&around([2, 4, 5], 4, |layers| {
        layers.push(Op::GlobalAveragePool, &["x"], Vec::new(), "squeezed");
        let weights = vec![("gate".to_owned(), weight(&[4, 4], 31))];
        layers.push(Op::Gemm, &["squeezed"], weights, "gate");
        layers.push(Op::Mul, &["x", "gate"], Vec::new(), "gated");
    }));
}

/// Each cell of the window at each place, as in the textbook: the input's value that it meets, the
/// weight it has, and the output's value that both go to.
fn meetings(conv: &Conv, mut visit: impl FnMut(usize, usize, usize)) {
    let Conv { window, groups, input: [channels, rows, columns], output } = *conv;
    let (inputs, outputs) = (channels / groups, output[0] / groups);
    let [kernel_rows, kernel_columns] = window.kernel;
    for (o, r, c) in cells(output) {
        for (i, kr, kc) in cells([inputs, kernel_rows, kernel_columns]) {
            let row = (r * window.stride[0] + kr).wrapping_sub(window.before[0]);
            let column = (c * window.stride[1] + kc).wrapping_sub(window.before[1]);
            if row < rows && column < columns {
                let channel = o / outputs * inputs + i;
                let weight = ((o * inputs + i) * kernel_rows + kr) * kernel_columns + kc;
                let y = (o * output[1] + r) * output[2] + c;
                visit((channel * rows + row) * columns + column, weight, y);
            }
        }
    }
}

fn cells([planes, rows, columns]: Shape) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..planes).flat_map(move |plane| {
        (0..rows).flat_map(move |row| (0..columns).map(move |column| (plane, row, column)))
    })
}

fn assert_near(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    for (at, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs();
        assert!(off <= 1e-5 * largest.max(1.0), "{what}, value {at}: {found}, not {expected}");
    }
}

/// Outputs and both gradients of five images (two shards), value by value.
#[test]
fn convolutions_and_their_gradients_are_those_of_the_textbook() {
    let window =
        |kernel, stride, before, after| Window { kernel, stride, before, after, ceil: false };
    let same = |side: usize| Window::square(side, 1, side / 2);
    for (window, groups, [channels, outputs]) in [
        (Window::POINT, 1, [4, 9]),
        (Window::POINT, 2, [10, 6]),
        (same(3), 1, [4, 5]),
        (same(3), 1, [9, 18]),
        (same(5), 2, [18, 34]),
        (Window::square(3, 2, 1), 1, [9, 17]),
        (Window::square(3, 2, 1), 4, [4, 4]),
        (Window::square(8, 4, 0), 1, [1, 7]),
        (Window::square(2, 3, 0), 1, [8, 3]),
        (Window { ceil: true, ..Window::square(3, 2, 0) }, 1, [8, 3]),
        (window([1, 1], [2, 2], [0, 0], [0, 0]), 1, [8, 3]),
        (window([5, 3], [3, 2], [2, 0], [2, 1]), 2, [6, 6]),
        (window([4, 5], [2, 3], [0, 2], [3, 0]), 1, [8, 6]),
        (window([2, 1], [1, 1], [3, 0], [0, 2]), 1, [8, 6]),
        (window([9, 23], [1, 1], [0, 0], [0, 0]), 1, [8, 5]),
        (window([13, 29], [2, 1], [4, 3], [4, 4]), 1, [8, 5]),
    ] {
        for [rows, columns] in [[9, 23], [31, 47]] {
            let input = [channels, rows, columns];
            let kernel = [outputs, channels / groups, window.kernel[0], window.kernel[1]];
            let mut layers = Layers::new(input);
            let w = weight(&kernel, 9);
            let bias = random(outputs, 12);
            let weights = [w.clone(), Weight { shape: vec![outputs], values: bias.clone() }];
            let weights = ["w", "b"].map(str::to_owned).into_iter().zip(weights).collect();
            layers.push(Op::Conv { window, groups }, &[Layers::INPUT], weights, "y");
            let output = layers.shapes().unwrap()[0];
            let conv = Conv { window, groups, input, output };
            let [x_length, y_length] = [input, output].map(|shape| shape.iter().product::<usize>());
            let (x, dy) = (random(5 * x_length, 4), random(5 * y_length, 5));
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            conv.forward(&x, &w.values, &bias, &mut y);
            let dw = conv.backward(&x, &w.values, &dy, Some(&mut dx));
            assert_eq!(dw, conv.backward(&x, &w.values, &dy, None));
            let places = y_length / outputs;
            let mut slow_y: Vec<f64> =
                (0..dy.len()).map(|at| f64::from(bias[at / places % outputs])).collect();
            let (mut slow_dx, mut slow_dw) = (vec![0.0; x.len()], vec![0.0; w.values.len()]);
            for image in 0..5 {
                meetings(&conv, |at, weight, y| {
                    let (at, y) = (image * x_length + at, image * y_length + y);
                    let [value, weighed, slope] = [x[at], w.values[weight], dy[y]].map(f64::from);
                    slow_y[y] += value * weighed;
                    slow_dx[at] += slope * weighed;
                    slow_dw[weight] += slope * value;
                });
            }
            let what = format!("{window:?}, {groups} groups, {input:?}");
            assert_near(&y, &slow_y, &format!("outputs of {what}"));
            assert_near(&dx, &slow_dx, &format!("gradient of the input of {what}"));
            assert_near(&dw, &slow_dw, &format!("gradient of the weights of {what}"));
        }
    }
}

/// Images with a bright row, whose place is the class.
struct Stripes {
    count: usize,
    classes: usize,
}

impl Examples for Stripes {
    fn len(&self) -> usize {
        self.count
    }

    fn outputs(&self) -> usize {
        self.classes
    }

    fn batch(&self, epoch: u32, indices: &[usize]) -> Result<Batch, ExampleError> {
        let mut batch = Batch::default();
        for &index in indices {
            let class = index % self.classes;
            let mut image = random(32 * 24, (u64::from(epoch) << 32) + index as u64);
            for (n, pixel) in image.iter_mut().enumerate() {
                let is_bright = n / 24 / 4 == class;
                *pixel = 100.0 + 50.0 * *pixel + if is_bright { 60.0 } else { 0.0 };
            }
            batch.images.extend(image);
            batch.targets.extend((0..self.classes).map(|n| f32::from(u8::from(n == class))));
        }
        Ok(batch)
    }
}

/// Two convolutions with all that training treats in its own way: normalisation and dropout.
fn small() -> Layers {
    let mut layers = Layers::new([1, 32, 24]);
    let (scale, shift) = (vec![1.0 / 64.0], vec![-2.0]);
    layers.push(Op::Affine { scale, shift }, &[Layers::INPUT], Vec::new(), "scaled");
    let mut at = "scaled".to_owned();
    for (name, inputs, outputs) in [("stem", 1, 8), ("second", 8, 12)] {
        let kernel = (format!("{name}.weight"), weight(&[outputs, inputs, 4, 4], outputs as u64));
        let window = Op::Conv { window: Window::square(4, 4, 0), groups: 1 };
        layers.push(window, &[&at], vec![kernel], &format!("{name}.conv"));
        let weights = [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)];
        let weights = weights.map(|(part, value)| {
            let weight = Weight { shape: vec![outputs], values: vec![value; outputs] };
            (format!("{name}.{part}"), weight)
        });
        let norm = Op::BatchNorm { epsilon: 1e-3, momentum: 0.9 };
        layers.push(norm, &[&format!("{name}.conv")], weights.into(), &format!("{name}.norm"));
        at = layers.push(Op::Relu, &[&format!("{name}.norm")], Vec::new(), name);
    }
    layers.push(Op::Dropout { ratio: 0.1 }, &[&at], Vec::new(), "dropped");
    let head = vec![
        ("head.weight".to_owned(), weight(&[4, 24], 1)),
        ("head.bias".to_owned(), Weight::zeros(&[4])),
    ];
    layers.push(Op::Gemm, &["dropped"], head, "head");
    layers
}

fn settings(epochs: u32) -> FitSettings {
    FitSettings { epochs, batch: 8, rate: 2e-2, averaging: 0.9, seed: 1, ..FitSettings::default() }
}

fn fitted(settings: &FitSettings, keeping: Option<&Keeping>) -> Fitted {
    let (training, validation) =
        (Stripes { count: 96, classes: 4 }, Stripes { count: 16, classes: 4 });
    fit(small(), &training, Some(&validation), settings, keeping, &mut |_| {}).unwrap()
}

#[test]
fn training_learns_and_the_same_seed_gives_the_same_network() {
    let fitted_once = fitted(&settings(6), None);
    let scores: Vec<Score> = fitted_once.history.iter().map(|e| e.validation.unwrap()).collect();
    assert!(scores[5].loss < 0.5 * scores[0].loss, "{scores:?}");
    assert!(scores[5].quality > 0.9, "{scores:?}");
    assert_eq!(fitted(&settings(6), None), fitted_once);
    let other = FitSettings { seed: 2, ..settings(6) };
    assert_ne!(fitted(&other, None).layers, fitted_once.layers);
    // What is kept gives the validation's best score again.
    let batch = Stripes { count: 16, classes: 4 }.batch(0, &(0..16).collect::<Vec<_>>()).unwrap();
    let given = outputs(&fitted_once.layers, &batch.images).unwrap();
    let (tally, _) = Loss::Softmax.compare(4, &given, &batch.targets);
    let best = scores.iter().map(|score| score.loss).fold(f32::INFINITY, f32::min);
    assert!((tally.score(Loss::Softmax).loss - best).abs() < 1e-6);
}

#[test]
fn a_resumed_training_ends_as_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("training.safetensors");
    let keeping = Keeping { checkpoint, resume: true };
    let settings = settings(4);
    let (training, validation) =
        (Stripes { count: 96, classes: 4 }, Stripes { count: 16, classes: 4 });
    // Stopped in the middle of the third epoch.
    let stopped = std::panic::catch_unwind(|| {
        fit(small(), &training, Some(&validation), &settings, Some(&keeping), &mut |progress| {
            assert!(!matches!(progress, Progress::Step { epoch: 3, step: 4, .. }));
        })
    });
    assert!(stopped.is_err());
    let mut epochs = Vec::new();
    let resumed = fit(small(), &training, Some(&validation), &settings, Some(&keeping), &mut |p| {
        if let Progress::Epoch { epoch, .. } = p {
            epochs.push(epoch.number);
        }
    });
    assert_eq!(epochs, [3, 4]);
    assert_eq!(resumed.unwrap(), fitted(&settings, None));
    // One that has ended goes on where more epochs are wanted.
    let mut epochs = Vec::new();
    let longer = FitSettings { epochs: 6, ..settings.clone() };
    let kept = folder.path().join("longer.safetensors");
    std::fs::copy(&keeping.checkpoint, &kept).unwrap();
    let kept = Keeping { checkpoint: kept, resume: true };
    let gone_on = fit(small(), &training, Some(&validation), &longer, Some(&kept), &mut |p| {
        if let Progress::Epoch { epoch, .. } = p {
            epochs.push((epoch.number, epoch.rate > 0.1 * settings.rate));
        }
    });
    assert_eq!(epochs, [(5, true), (6, false)]);
    let histories = [gone_on.unwrap().history, fitted(&settings, None).history];
    assert_eq!(histories[0][..4], histories[1][..]);
    let other = FitSettings { batch: 4, ..settings.clone() };
    let refused = fit(small(), &training, None, &other, Some(&keeping), &mut |_| {});
    assert!(refused.unwrap_err().to_string().contains("other settings"));
    // Neither examples nor weights may be others.
    let fewer = Stripes { count: 95, classes: 4 };
    let refused = |layers, training: &Stripes, validation| {
        fit(layers, training, validation, &settings, Some(&keeping), &mut |_| {}).map(|_| ())
    };
    assert!(refused(small(), &fewer, Some(&validation as &dyn Examples)).is_err());
    assert!(refused(small(), &training, None).unwrap_err().to_string().contains("other examples"));
    let learnt = fitted(&settings, None).layers;
    assert!(refused(learnt, &training, Some(&validation)).is_err());
    assert!(refused(small(), &training, Some(&validation)).is_ok());
}

/// A network that takes a mean over columns, of which there may be any number.
fn pooled() -> Layers {
    let mut layers = Layers::new([1, 32, 24]);
    let (scale, shift) = (vec![1.0 / 64.0], vec![-2.0]);
    layers.push(Op::Affine { scale, shift }, &[Layers::INPUT], Vec::new(), "scaled");
    let stem = ("stem.weight".to_owned(), weight(&[8, 1, 32, 2], 8));
    let window = Window { kernel: [32, 2], ..Window::square(2, 2, 0) };
    layers.push(Op::Conv { window, groups: 1 }, &["scaled"], vec![stem], "stem");
    layers.push(Op::Relu, &["stem"], Vec::new(), "lit");
    layers.push(Op::GlobalAveragePool, &["lit"], Vec::new(), "mean");
    let head = vec![
        ("head.weight".to_owned(), weight(&[4, 8], 1)),
        ("head.bias".to_owned(), Weight::zeros(&[4])),
    ];
    layers.push(Op::Gemm, &["mean"], head, "head");
    layers
}

#[test]
fn crops_teach_a_network_that_is_then_used_on_whole_images() {
    let (training, validation) =
        (Stripes { count: 96, classes: 4 }, Stripes { count: 16, classes: 4 });
    let fitted = |crop| {
        let settings = FitSettings { crop, ..settings(8) };
        fit(pooled(), &training, Some(&validation), &settings, None, &mut |_| {}).unwrap()
    };
    let cropped = fitted(0.5);
    let scores: Vec<Score> = cropped.history.iter().map(|e| e.validation.unwrap()).collect();
    // The last epoch learns from whole images; those before are validated on them, too.
    assert!(scores[6..].iter().all(|score| score.quality > 0.9), "{scores:?}");
    assert_eq!(cropped.layers.input, [1, 32, 24]);
    assert_ne!(cropped, fitted(1.0));
    let settings = FitSettings { crop: 0.5, ..settings(20) };
    let columns = |epoch| settings.columns_at(epoch, 227);
    assert_eq!([1, 18, 19, 20].map(columns), [114, 114, 227, 227]);
    // The last layer of this one wants all columns.
    let refused = fit(small(), &training, None, &settings, None, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().starts_with("crop 0.5: the network can't take 12 of 24 columns"));
}

#[test]
fn training_ends_when_it_gets_no_better() {
    let impatient = FitSettings { rate: 1e-9, patience: 2, averaging: 0.0, ..settings(50) };
    let history = fitted(&impatient, None).history;
    assert!(history.len() < 50, "{} epochs", history.len());
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let (training, none) = (Stripes { count: 8, classes: 3 }, Stripes { count: 0, classes: 4 });
    let refused = |examples: &dyn Examples, settings: &FitSettings| {
        fit(small(), examples, None, settings, None, &mut |_| {}).unwrap_err().to_string()
    };
    assert!(refused(&training, &settings(1)).contains("4 outputs"));
    assert!(refused(&none, &settings(1)).contains("nothing"));
    let bad = FitSettings { rate: f32::NAN, ..settings(1) };
    assert!(refused(&training, &bad).contains("rate"));
}

#[test]
fn weights_that_were_trained_before_move_less() {
    let moved = |settings: &FitSettings| {
        let fitted = fitted(settings, None).layers;
        let difference = |name: &str| -> f32 {
            let (old, new) = (&small().weights[name].values, &fitted.weights[name].values);
            old.iter().zip(new).map(|(old, new)| (old - new).abs()).sum()
        };
        difference("stem.weight")
    };
    let fresh = vec!["head.weight".to_owned()];
    let frozen = FitSettings { fresh: fresh.clone(), started_share: 0.0, ..settings(1) };
    assert_eq!(moved(&frozen), 0.0);
    let slow = FitSettings { fresh, started_share: 0.1, ..settings(1) };
    assert!(moved(&slow) > 0.0 && moved(&slow) < 0.3 * moved(&settings(1)));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads, architecture: Architecture| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let graph = Graph::new(&architecture.build(1, 5, 1)).unwrap();
            let mut tape = Tape::new();
            let images: Vec<f32> =
                random(5 * 227 * 227, 3).iter().map(|x| 127.0 * (x + 1.0)).collect();
            let y = tape.forward(&graph, &images, TRAINING).to_vec();
            (y.clone(), backward(&graph, &mut tape, y))
        })
    };
    for architecture in [Architecture::Mn04, Architecture::Dense] {
        assert!(run(1, architecture) == run(3, architecture), "{architecture:?}");
    }
}

#[test]
fn unknown_targets_have_no_loss_and_no_gradient() {
    for loss in [Loss::Sigmoid, Loss::MeanSquare] {
        let (known, gradient) = loss.compare(2, &[0.3, -1.0], &[1.0, f32::NAN]);
        assert_eq!(gradient[1], 0.0);
        let (alone, _) = loss.compare(1, &[0.3], &[1.0]);
        assert_eq!(known.score(loss), alone.score(loss));
    }
}

#[test]
fn losses_have_the_slopes_they_say() {
    let given = random(12, 1);
    let targets = [[0.2, 0.5, 0.3, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]].concat();
    for loss in [Loss::Softmax, Loss::Sigmoid, Loss::MeanSquare] {
        let (_, gradient) = loss.compare(4, &given, &targets);
        for index in 0..given.len() {
            let at = |by: f32| {
                let mut moved = given.clone();
                moved[index] += by;
                loss.compare(4, &moved, &targets).0.score(loss).loss
            };
            let measured = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((measured - gradient[index]).abs() < 1e-3, "{loss:?}");
        }
    }
}

#[test]
fn the_engine_gives_the_outputs_of_the_trainer() {
    use crate::network::Artifact;
    let shipped = include_bytes!("../../../models/sound.onnx");
    let layers = Layers::from_onnx(shipped).unwrap();
    let pixels: Vec<u8> = random(227 * 227, 6).iter().map(|x| (127.0 * (x + 1.0)) as u8).collect();
    let images: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel)).collect();
    let ours = outputs(&layers, &images).unwrap();
    let artifact = Artifact::read(shipped).unwrap();
    let metadata = artifact.metadata.clone();
    let written = crate::network::wrap(&layers.to_onnx().unwrap(), &metadata).unwrap();
    for artifact in [artifact, Artifact::read(&written).unwrap()] {
        let mut session = artifact.into_network().unwrap().session().unwrap();
        let theirs = session.run_rows(pixels.chunks(227)).unwrap();
        assert_eq!(theirs.len(), ours.len());
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert!((theirs - ours).abs() < 1e-4, "{theirs}, the trainer says {ours}");
        }
    }
}

#[test]
fn a_mean_of_single_pixels_gives_the_same_as_a_linear_layer() {
    let mut squeezed = Layers::new([3, 4, 5]);
    let conv = Op::Conv { window: Window::POINT, groups: 1 };
    let weights =
        vec![("w".to_owned(), weight(&[4, 3, 1, 1], 7)), ("b".to_owned(), weight(&[4], 8))];
    squeezed.push(conv, &[Layers::INPUT], weights, "conv");
    squeezed.push(Op::GlobalAveragePool, &["conv"], Vec::new(), "mean");
    let mut linear = squeezed.clone();
    linear.replace_head(&[Some(0), Some(1), Some(2), Some(3)], 1).unwrap();
    assert_ne!(linear.nodes, squeezed.nodes);
    let images = random(2 * 60, 9);
    let (before, after) =
        (outputs(&squeezed, &images).unwrap(), outputs(&linear, &images).unwrap());
    assert_eq!(before.len(), 8);
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5), "{before:?} {after:?}");
}
