//! The last layer of a network, and another one in its place.

use super::{Layers, LayersError, Node, Op, Weight};

impl Layers {
    /// The last linear layer, if the network ends in one.
    pub fn head(&self) -> Option<&Node> {
        self.nodes.iter().rev().find(|node| node.op != Op::Flatten).filter(|n| n.op == Op::Gemm)
    }

    /// Puts another last layer in the place of the old one, which is a linear one or a convolution of
    /// single pixels whose outputs are averaged over the image (SqueezeNet): for each output the
    /// number of the old one that it goes on from, or `None` for small random weights. Returns the
    /// names of its weights.
    pub fn replace_head(
        &mut self,
        outputs: &[Option<usize>],
        seed: u64,
    ) -> Result<Vec<String>, LayersError> {
        self.end_linear()?;
        let head = self.head().cloned().ok_or_else(|| LayersError::Shape {
            node: self.nodes.last().map(|node| node.output.clone()).unwrap_or_default(),
            why:
                "the network ends neither in a linear layer nor in a convolution of single pixels \
                  and its mean"
                    .to_owned(),
        })?;
        let mut random = fastrand::Rng::with_seed(seed);
        for (index, name) in head.weights.iter().enumerate() {
            let Some(weight) = self.weights.get_mut(name) else { continue };
            let features = weight.shape.get(1).copied().unwrap_or(1).max(1);
            let spread = if index == 0 { 1.0 / (features as f32).sqrt() } else { 0.0 };
            let kept = |old: Option<usize>| weight.values.chunks(features).nth(old?);
            let mut values: Vec<f32> = Vec::with_capacity(outputs.len() * features);
            for &old in outputs {
                match kept(old) {
                    Some(row) => values.extend(row),
                    None => {
                        values.extend((0..features).map(|_| (2.0 * random.f32() - 1.0) * spread))
                    }
                }
            }
            weight.values = values;
            weight.shape.iter_mut().take(1).for_each(|rows| *rows = outputs.len());
        }
        Ok(head.weights)
    }

    /// Where the last layer is a convolution of single pixels, followed by their mean, it becomes a
    /// linear layer of the same weights behind the mean. That gives the same outputs as long as
    /// nothing but the mean comes in between; a rectifier or a border there is left out.
    fn end_linear(&mut self) -> Result<(), LayersError> {
        let Some(place) = self.pointwise_end() else { return Ok(()) };
        let Some(conv) = self.nodes.get(place).cloned() else { return Ok(()) };
        let mut weights = Vec::new();
        for name in &conv.weights {
            let Weight { shape, values } = self.weight(&conv, name)?.clone();
            let shape = shape.into_iter().take(2).collect();
            weights.push((name.clone(), Weight { shape, values }));
        }
        self.nodes.truncate(place);
        let inputs: Vec<&str> = conv.inputs.iter().map(String::as_str).collect();
        let mean = format!("{}.mean", conv.output);
        self.push(Op::GlobalAveragePool, &inputs, Vec::new(), &mean);
        self.push(Op::Gemm, &[&mean], weights, &conv.output);
        Ok(())
    }

    /// The place of such a convolution among the nodes.
    fn pointwise_end(&self) -> Option<usize> {
        let is_conv = |op: &Op| matches!(op, Op::Conv { .. });
        let place = self.nodes.iter().rposition(|node| is_conv(&node.op))?;
        let (conv, behind) = self.nodes.get(place..)?.split_first()?;
        // A border of zeros (SqueezeNet has one) takes part in the mean only by the biases.
        let is_point = match conv.op {
            Op::Conv { window, groups: 1 } => window.kernel == [1, 1] && window.stride == [1, 1],
            _ => false,
        };
        let mut means = 0;
        for node in behind {
            match node.op {
                Op::GlobalAveragePool => means += 1,
                Op::Relu | Op::Flatten | Op::Dropout { .. } => {}
                _ => return None,
            }
        }
        (is_point && means == 1).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Window;

    /// Two channels of 2x2 pixels, then a layer of three outputs by single pixels, averaged.
    fn squeezed(last: Op) -> Layers {
        let mut layers = Layers::new([2, 2, 2]);
        let weight = |values: &[f32], shape: &[usize]| Weight {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let weights = vec![
            ("w".to_owned(), weight(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2, 1, 1])),
            ("b".to_owned(), weight(&[0.5, 0.25, 0.125], &[3])),
        ];
        // With the border that SqueezeNet has.
        let window = Window { before: [1, 1], after: [1, 1], ..Window::POINT };
        let op = Op::Conv { window, groups: 1 };
        layers.push(op, &[Layers::INPUT], weights, "conv");
        layers.push(Op::Relu, &["conv"], Vec::new(), "relu");
        layers.push(last, &["relu"], Vec::new(), "pooled");
        layers.push(Op::Flatten, &["pooled"], Vec::new(), "out");
        layers
    }

    #[test]
    fn outputs_by_single_pixels_become_a_linear_layer() {
        let mut layers = squeezed(Op::GlobalAveragePool);
        layers.replace_head(&[Some(2), None, Some(0)], 1).unwrap();
        assert_eq!(layers.outputs().unwrap(), 3);
        let ops: Vec<&Op> = layers.nodes.iter().map(|node| &node.op).collect();
        assert_eq!(ops, [&Op::GlobalAveragePool, &Op::Gemm]);
        assert_eq!(layers.nodes[0].inputs, [Layers::INPUT]);
        let weight = &layers.weights["w"];
        assert_eq!(weight.shape, [3, 2]);
        assert_eq!((&weight.values[..2], &weight.values[4..]), (&[5.0, 6.0][..], &[1.0, 2.0][..]));
        assert_eq!(layers.weights["b"].values[0], 0.125);
        // It is a network that can be written and read.
        let read = Layers::from_onnx(&layers.to_onnx().unwrap()).unwrap();
        assert_eq!(read.outputs().unwrap(), 3);
    }

    #[test]
    fn another_end_is_refused_in_one_line() {
        let mut layers = squeezed(Op::Sigmoid);
        let error = layers.replace_head(&[None], 1).unwrap_err().to_string();
        assert!(error.contains("ends neither in a linear layer nor"), "{error}");
    }
}
