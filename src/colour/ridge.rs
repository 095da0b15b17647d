//! Ridge regression (Hoerl and Kennard 1970) from statistics to the three responses.

use serde::{Deserialize, Serialize};

use super::shift::Triple;

/// Penalty on the squared weights of standardised statistics, for all examples together.
const PENALTY: f64 = 3.0;

/// A fitted regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ridge {
    means: Vec<f64>,
    /// One over the standard deviations; 0 for a statistic that never changed.
    scales: Vec<f64>,
    /// For each response: the constant, then a weight for each statistic.
    weights: [Vec<f64>; 3],
}

/// Why there is no regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RidgeError {
    #[error("a regression needs examples that all have equally many statistics")]
    Examples,
    #[error("the examples do not decide a regression")]
    Singular,
}

impl Ridge {
    /// Fits to pairs of statistics and responses.
    ///
    /// # Errors
    /// When there are no examples, or they do not fit together.
    pub fn fit(examples: &[(Vec<f64>, Triple)]) -> Result<Self, RidgeError> {
        let size = examples.first().map_or(0, |(statistics, _)| statistics.len());
        if size == 0 || examples.iter().any(|(statistics, _)| statistics.len() != size) {
            return Err(RidgeError::Examples);
        }
        let count = examples.len() as f64;
        let mean = |of: &dyn Fn(&Vec<f64>) -> f64| {
            examples.iter().map(|(statistics, _)| of(statistics)).sum::<f64>() / count
        };
        let at = |statistics: &[f64], n: usize| statistics.get(n).copied().unwrap_or(0.0);
        let means: Vec<f64> = (0..size).map(|n| mean(&|row| at(row, n))).collect();
        let scales = means.iter().enumerate().map(|(n, centre)| {
            let variance = mean(&|row| (at(row, n) - centre).powi(2));
            if variance > 1e-12 { variance.sqrt().recip() } else { 0.0 }
        });
        let scales: Vec<f64> = scales.collect();
        let rows: Vec<Vec<f64>> = examples
            .iter()
            .map(|(statistics, _)| standardised(statistics, &means, &scales))
            .collect();
        let mut normal = vec![vec![0.0; size]; size];
        for row in &rows {
            for (sums, &one) in normal.iter_mut().zip(row) {
                sums.iter_mut().zip(row).for_each(|(sum, other)| *sum += one * other);
            }
        }
        for (n, row) in normal.iter_mut().enumerate() {
            row.iter_mut().skip(n).take(1).for_each(|diagonal| *diagonal += PENALTY);
        }
        let factor = cholesky(&normal).ok_or(RidgeError::Singular)?;
        let mut weights = [const { Vec::new() }; 3];
        for (response, weights) in weights.iter_mut().enumerate() {
            let target = |triple: &Triple| triple.get(response).copied().unwrap_or(0.0);
            let constant = examples.iter().map(|(_, triple)| target(triple)).sum::<f64>() / count;
            let mut right = vec![0.0; size];
            for (row, (_, triple)) in rows.iter().zip(examples) {
                let rest = target(triple) - constant;
                right.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * rest);
            }
            weights.push(constant);
            weights.extend(solve(&factor, &right));
        }
        Ok(Self { means, scales, weights })
    }

    /// The responses to some statistics; `None` when they are not as many as it was fitted to.
    pub fn respond(&self, statistics: &[f64]) -> Option<Triple> {
        if statistics.len() != self.means.len() {
            return None;
        }
        let row = standardised(statistics, &self.means, &self.scales);
        Some(self.weights.each_ref().map(|weights| {
            let (constant, weights) = weights.split_first().unwrap_or((&0.0, &[]));
            constant + weights.iter().zip(&row).map(|(weight, value)| weight * value).sum::<f64>()
        }))
    }
}

fn standardised(statistics: &[f64], means: &[f64], scales: &[f64]) -> Vec<f64> {
    let values = statistics.iter().zip(means).zip(scales);
    values.map(|((value, mean), scale)| (value - mean) * scale).collect()
}

/// The lower triangle whose product with its transpose is the matrix; `None` if it has none.
fn cholesky(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let mut factor: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
    for (n, row) in matrix.iter().enumerate() {
        let mut found: Vec<f64> = Vec::with_capacity(n + 1);
        for (before, &value) in factor.iter().zip(row) {
            let known: f64 = before.iter().zip(&found).map(|(a, b)| a * b).sum();
            found.push((value - known) / before.last()?);
        }
        let rest = row.get(n)? - found.iter().map(|value| value * value).sum::<f64>();
        if rest <= 0.0 {
            return None;
        }
        found.push(rest.sqrt());
        factor.push(found);
    }
    Some(factor)
}

/// Solves `factor * transpose(factor) * x = right`.
fn solve(factor: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut found: Vec<f64> = Vec::with_capacity(right.len());
    for (row, value) in factor.iter().zip(right) {
        let known: f64 = row.iter().zip(&found).map(|(a, b)| a * b).sum();
        found.push((value - known) / row.last().copied().unwrap_or(1.0));
    }
    for (n, row) in factor.iter().enumerate().rev() {
        let Some((&diagonal, before)) = row.split_last() else { continue };
        let Some(value) = found.get_mut(n) else { continue };
        *value /= diagonal;
        let value = *value;
        found.iter_mut().zip(before).for_each(|(other, part)| *other -= part * value);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_law_is_found() {
        let mut random = fastrand::Rng::with_seed(3);
        let examples: Vec<(Vec<f64>, Triple)> = (0..4_000)
            .map(|_| {
                let x: Vec<f64> = (0..5).map(|_| random.f64()).chain([7.0]).collect();
                let y = [1.0 + 2.0 * x[0], x[1] - 3.0 * x[4], -0.5];
                (x, y)
            })
            .collect();
        let ridge = Ridge::fit(&examples).unwrap();
        let found = ridge.respond(&[0.2, 0.4, 0.6, 0.8, 0.9, 7.0]).unwrap();
        for (found, expected) in found.iter().zip([1.4, 0.4 - 2.7, -0.5]) {
            assert!((found - expected).abs() < 0.01, "{found} {expected}");
        }
        assert_eq!(ridge.respond(&[1.0]), None);
    }

    #[test]
    fn the_penalty_is_scikit_learns() {
        // make_pipeline(StandardScaler(), Ridge(3.0)).fit([[1], [2], [4]], [1, 3, 4]).predict([[3]])
        let example = |x: f64, y: f64| (vec![x], [y; 3]);
        let examples = [example(1.0, 1.0), example(2.0, 3.0), example(4.0, 4.0)];
        let found = Ridge::fit(&examples).unwrap().respond(&[3.0]).unwrap()[0];
        // Standardised by its deviation d, the weight is sum(xy) / d / (3 + 3).
        let (mean, deviation) = (7.0 / 3.0, (14.0_f64 / 9.0).sqrt());
        let products: f64 = [(1.0, 1.0), (2.0, 3.0), (4.0, 4.0)]
            .iter()
            .map(|(x, y)| (x - mean) / deviation * (y - 8.0 / 3.0))
            .sum();
        let expected = 8.0 / 3.0 + products / 6.0 * (3.0 - mean) / deviation;
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn examples_that_do_not_fit_are_refused() {
        assert_eq!(Ridge::fit(&[]), Err(RidgeError::Examples));
        let uneven = [(vec![1.0], [0.0; 3]), (vec![1.0, 2.0], [0.0; 3])];
        assert_eq!(Ridge::fit(&uneven), Err(RidgeError::Examples));
        let bad = [(vec![f64::NAN], [0.0; 3])];
        assert!(Ridge::fit(&bad).is_ok_and(|ridge| ridge.respond(&[1.0]).is_some()));
    }
}
