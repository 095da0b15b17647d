//! What training needs and running doesn't, taken out of a network: batch normalisation goes into
//! the convolution before it, and dropout goes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Layers, LayersError, Node, Op, Weight};

impl Layers {
    /// The same network for running: the outputs are those of evaluation, up to rounding.
    pub fn folded(&self) -> Result<Self, LayersError> {
        let uses = self.uses();
        let mut folded = Self::new(self.input);
        // What values are called now whose node went.
        let mut renamed: BTreeMap<String, String> = BTreeMap::new();
        for node in &self.nodes {
            let mut node = node.clone();
            for input in &mut node.inputs {
                if let Some(name) = renamed.get(input) {
                    input.clone_from(name);
                }
            }
            let input = node.inputs.first().cloned().unwrap_or_default();
            match node.op {
                Op::Dropout { .. } => {
                    renamed.insert(node.output, input);
                }
                Op::BatchNorm { epsilon, .. } => {
                    let (scale, shift) = self.as_affine(&node, epsilon)?;
                    let before = folded.nodes.last_mut().filter(|before| {
                        matches!(before.op, Op::Conv { .. })
                            && before.output == input
                            && uses.get(&input) == Some(&1)
                    });
                    if let Some(conv) = before {
                        fold_into(conv, &mut folded.weights, &scale, &shift);
                        renamed.insert(node.output, input);
                    } else {
                        node.op = Op::Affine { scale, shift };
                        node.weights.clear();
                        folded.nodes.push(node);
                    }
                }
                _ => {
                    for name in &node.weights {
                        folded.weights.insert(name.clone(), self.weight(&node, name)?.clone());
                    }
                    folded.nodes.push(node);
                }
            }
        }
        Ok(folded)
    }

    /// How often each value is taken in.
    fn uses(&self) -> BTreeMap<&String, usize> {
        let mut uses = BTreeMap::new();
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            *uses.entry(input).or_insert(0) += 1;
        }
        uses
    }

    /// A normalisation by its running mean and variance, as one scale and shift a channel.
    fn as_affine(&self, node: &Node, epsilon: f32) -> Result<(Vec<f32>, Vec<f32>), LayersError> {
        let [scale, shift, mean, variance] = node.weights.as_slice() else {
            let (node, why) = (node.output.clone(), "it needs four weights".to_owned());
            return Err(LayersError::Shape { node, why });
        };
        let values = |name| self.weight(node, name).map(|weight| weight.values.iter());
        let (scale, shift) = (values(scale)?, values(shift)?);
        let statistics = values(mean)?.zip(values(variance)?);
        let pairs = scale.zip(shift).zip(statistics).map(|((scale, shift), (mean, variance))| {
            let factor = f64::from(*scale) / (f64::from(*variance) + f64::from(epsilon)).sqrt();
            (factor as f32, (f64::from(*shift) - f64::from(*mean) * factor) as f32)
        });
        Ok(pairs.unzip())
    }
}

/// Changes a convolution's outputs to `scale * output + shift`, one of each a channel.
fn fold_into(
    conv: &mut Node,
    weights: &mut BTreeMap<String, Weight>,
    scale: &[f32],
    shift: &[f32],
) {
    let Some(kernel) = conv.weights.first().cloned() else { return };
    if let Some(kernel) = weights.get_mut(&kernel) {
        let taps = (kernel.values.len() / scale.len().max(1)).max(1);
        for (channel, scale) in kernel.values.chunks_mut(taps).zip(scale) {
            channel.iter_mut().for_each(|tap| *tap *= scale);
        }
    }
    match conv.weights.get(1).and_then(|bias| weights.get_mut(bias)) {
        Some(bias) => {
            for (bias, (scale, shift)) in bias.values.iter_mut().zip(scale.iter().zip(shift)) {
                *bias = *bias * scale + shift;
            }
        }
        None => {
            let taken: BTreeSet<&String> = weights.keys().collect();
            let mut name = format!("{}.bias", conv.output);
            while taken.contains(&name) {
                name.push('_');
            }
            let bias = Weight { shape: vec![shift.len()], values: shift.to_vec() };
            weights.insert(name.clone(), bias);
            conv.weights.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Window;
    use super::*;

    fn weight(values: &[f32]) -> Weight {
        Weight { shape: vec![values.len()], values: values.to_vec() }
    }

    fn norm_weights() -> Vec<(String, Weight)> {
        // Scale 2 / sqrt(3 + 1), shift 5 - mean * scale.
        ["s", "t", "m", "v"]
            .into_iter()
            .zip([[2.0, 4.0], [5.0, 6.0], [10.0, 20.0], [3.0, 15.0]])
            .map(|(name, values)| (name.to_owned(), weight(&values)))
            .collect()
    }

    #[test]
    fn normalisation_goes_into_the_convolution_and_dropout_goes() {
        let mut layers = Layers::new([1, 2, 2]);
        let kernel = Weight { shape: vec![2, 1, 1, 1], values: vec![1.0, 3.0] };
        let op = Op::Conv { window: Window::POINT, groups: 1 };
        layers.push(op, &[Layers::INPUT], vec![("k".to_owned(), kernel)], "c");
        layers.push(Op::BatchNorm { epsilon: 1.0, momentum: 0.9 }, &["c"], norm_weights(), "n");
        layers.push(Op::Dropout { ratio: 0.5 }, &["n"], Vec::new(), "d");
        layers.push(Op::Relu, &["d"], Vec::new(), "r");
        let folded = layers.folded().unwrap();
        assert_eq!(folded.nodes.len(), 2);
        assert_eq!(folded.nodes[1].inputs, ["c"]);
        assert_eq!(folded.weights["k"].values, [1.0, 3.0]);
        assert_eq!(folded.weights["c.bias"].values, [5.0 - 10.0, 6.0 - 20.0]);
        assert_eq!(folded.weights.len(), 2);
        assert_eq!(folded.shapes().unwrap().last(), Some(&[2, 2, 2]));
    }

    #[test]
    fn a_convolution_that_others_use_stays_as_it_is() {
        let mut layers = Layers::new([1, 2, 2]);
        let kernel = Weight { shape: vec![2, 1, 1, 1], values: vec![1.0, 3.0] };
        let op = Op::Conv { window: Window::POINT, groups: 1 };
        layers.push(op, &[Layers::INPUT], vec![("k".to_owned(), kernel)], "c");
        layers.push(Op::BatchNorm { epsilon: 1.0, momentum: 0.9 }, &["c"], norm_weights(), "n");
        layers.push(Op::Add, &["c", "n"], Vec::new(), "sum");
        let folded = layers.folded().unwrap();
        let affine = Op::Affine { scale: vec![1.0, 1.0], shift: vec![-5.0, -14.0] };
        assert_eq!(folded.nodes[1].op, affine);
        assert_eq!(folded.nodes.len(), 3);
    }
}
