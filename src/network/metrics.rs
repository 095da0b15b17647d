//! How good scores are, where the truth is known. Pure: numbers in, numbers out.
//!
//! Definitions are scikit-learn's where it has them; tests/data/metrics_reference.json holds its figures.

/// Whom the network took for whom: rows are the true classes, columns those it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u32>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts a clip. With one label, the class with the highest score is what the network names
    /// (of equal ones the first). A clip with k labels is taken for its k best classes: those that
    /// are right count as such, the missed and the wrong ones are paired in the order of the
    /// labels and of the scores. A clip without a label has no right answer and is not counted.
    /// `labels` are indices of classes, each once; others are ignored.
    pub fn add(&mut self, scores: &[f32], labels: &[usize]) {
        let named = best(scores, labels.len());
        let missed = labels.iter().filter(|label| !named.contains(label));
        let wrong = named.iter().filter(|class| !labels.contains(class));
        let right = labels.iter().filter(|label| named.contains(label));
        let pairs = right.map(|label| (label, label)).chain(missed.zip(wrong));
        for (&truth, &named) in pairs {
            if truth < self.classes
                && let Some(count) = self.counts.get_mut(truth * self.classes + named)
            {
                *count += 1;
            }
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `truth` was taken for `named`.
    pub fn count(&self, truth: usize, named: usize) -> u32 {
        self.row(truth).get(named).copied().unwrap_or(0)
    }

    /// How often each class was named where `truth` was true.
    pub fn row(&self, truth: usize) -> &[u32] {
        self.counts.get(truth * self.classes..(truth + 1) * self.classes).unwrap_or_default()
    }

    /// Labels of this class that were counted.
    pub fn support(&self, class: usize) -> u32 {
        self.row(class).iter().sum()
    }

    /// How often this class was named.
    pub fn named(&self, class: usize) -> u32 {
        (0..self.classes).map(|truth| self.count(truth, class)).sum()
    }

    /// Part of all labels that were named, 0 to 1: with one label a clip, the accuracy. `None`
    /// where nothing was counted.
    pub fn accuracy(&self) -> Option<f64> {
        let right: u32 = (0..self.classes).map(|class| self.count(class, class)).sum();
        ratio(right, self.counts.iter().sum())
    }

    /// Part of the clips taken for this class that are of it; `None` where none was.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.named(class))
    }

    /// Part of the clips of this class that were taken for it; `None` where there is none.
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.support(class))
    }

    /// Harmonic mean of precision and recall; 0 where nothing is right, `None` where there is no
    /// clip of this class and none was taken for it.
    pub fn f1(&self, class: usize) -> Option<f64> {
        ratio(2 * self.count(class, class), self.support(class) + self.named(class))
    }

    /// Mean F1 over the classes that have clips.
    pub fn macro_f1(&self) -> Option<f64> {
        let present = (0..self.classes).filter(|&class| self.support(class) > 0);
        mean(present.filter_map(|class| self.f1(class)))
    }

    /// What was mistaken for what (truth, named, how often), the most frequent first.
    pub fn mistakes(&self) -> Vec<(usize, usize, u32)> {
        let pairs = (0..self.classes).flat_map(|truth| {
            self.row(truth).iter().enumerate().map(move |(named, &count)| (truth, named, count))
        });
        let mut mistakes: Vec<(usize, usize, u32)> =
            pairs.filter(|&(truth, named, count)| truth != named && count > 0).collect();
        mistakes.sort_by_key(|&(_, _, count)| std::cmp::Reverse(count));
        mistakes
    }
}

fn ratio(part: u32, whole: u32) -> Option<f64> {
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
}

/// The mean of some values; `None` of none.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The `count` classes with the highest scores, best first; of equal ones the first.
pub fn best(scores: &[f32], count: usize) -> Vec<usize> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.into_iter().take(count).map(|(class, _)| class).collect()
}

/// Average precision of one class over pairs of score and truth: the sum of precision times the
/// gain in recall over all thresholds, without interpolation; equal scores share a threshold.
/// `None` where nothing is true.
pub fn average_precision(pairs: impl Iterator<Item = (f32, bool)>) -> Option<f64> {
    let mut ranked: Vec<(f32, bool)> = pairs.collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut sum, mut right, mut taken) = (0.0, 0_u32, 0_u32);
    for equal in ranked.chunk_by(|a, b| a.0 == b.0) {
        let gained = equal.iter().map(|&(_, truth)| u32::from(truth)).sum::<u32>();
        right += gained;
        taken += equal.len() as u32;
        sum += f64::from(gained) * f64::from(right) / f64::from(taken);
    }
    (right > 0).then(|| sum / f64::from(right))
}

/// Scores in one range, and how often they were right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Over `low`, up to and including `high`; the first bin holds 0 too.
    pub low: f64,
    pub high: f64,
    pub count: u32,
    /// Mean score of those in this bin.
    pub score: f64,
    /// Part of them that were right.
    pub frequency: f64,
}

/// Whether scores mean what they say: of those at 0.8, 80 % should be right.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliability {
    /// Ranges of equal width that hold a score, from low to high.
    pub bins: Vec<Bin>,
    /// Expected calibration error: the mean distance between score and frequency, weighted by the
    /// bins' counts. 0 to 1; 0 of no score.
    pub error: f64,
}

/// Sorts pairs of score (0 to 1) and truth into `bins` ranges.
pub fn reliability(pairs: impl Iterator<Item = (f32, bool)>, bins: usize) -> Reliability {
    let edge = |n: usize| n as f64 / bins.max(1) as f64;
    let mut sums = vec![(0_u32, 0.0, 0_u32); bins.max(1)];
    let inner: Vec<f64> = (1..sums.len()).map(edge).collect();
    for (score, truth) in pairs {
        let score = f64::from(score);
        if let Some((count, total, right)) = sums.get_mut(inner.partition_point(|&e| e < score)) {
            *count += 1;
            *total += score;
            *right += u32::from(truth);
        }
    }
    let all: u32 = sums.iter().map(|bin| bin.0).sum();
    let bins: Vec<Bin> = sums
        .into_iter()
        .enumerate()
        .filter(|(_, (count, _, _))| *count > 0)
        .map(|(n, (count, total, right))| Bin {
            low: edge(n),
            high: edge(n + 1),
            count,
            score: total / f64::from(count),
            frequency: f64::from(right) / f64::from(count),
        })
        .collect();
    let weighted = bins.iter().map(|b| f64::from(b.count) * (b.score - b.frequency).abs());
    let error = weighted.sum::<f64>() / f64::from(all.max(1));
    Reliability { bins, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores and labels drawn by a seed, with scikit-learn's figures for them.
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        scores: Vec<Vec<f32>>,
        labels: Vec<Vec<usize>>,
        average_precision: Vec<Option<f64>>,
        mean_average_precision: f64,
        reliability: Vec<[f64; 2]>,
        /// Where every clip has one label.
        single: Option<Single>,
    }

    #[derive(serde::Deserialize)]
    struct Single {
        accuracy: f64,
        macro_f1: f64,
        confusion: Vec<Vec<u32>>,
        precision: Vec<f64>,
        recall: Vec<f64>,
        f1: Vec<f64>,
    }

    fn cases() -> Vec<Case> {
        serde_json::from_str(include_str!("../../tests/data/metrics_reference.json")).unwrap()
    }

    fn confusion(case: &Case) -> Confusion {
        let mut confusion = Confusion::new(case.scores[0].len());
        for (scores, labels) in case.scores.iter().zip(&case.labels) {
            confusion.add(scores, labels);
        }
        confusion
    }

    /// Score and truth of one class over the clips.
    fn pairs(case: &Case, class: usize) -> impl Iterator<Item = (f32, bool)> {
        let clips = case.scores.iter().zip(&case.labels);
        clips.map(move |(scores, labels)| (scores[class], labels.contains(&class)))
    }

    fn assert_close(found: Option<f64>, expected: f64, what: &str) {
        assert!((found.unwrap_or(0.0) - expected).abs() < 1e-9, "{what}: {found:?}, {expected}");
    }

    #[test]
    fn the_figures_are_scikit_learns() {
        let cases = cases();
        assert!(cases.iter().filter(|case| case.single.is_some()).count() >= 3);
        for case in &cases {
            let name = &case.name;
            for (class, &expected) in case.average_precision.iter().enumerate() {
                let found = average_precision(pairs(case, class));
                assert_eq!(found.is_some(), expected.is_some(), "{name}: class {class}");
                assert_close(found, expected.unwrap_or(0.0), name);
            }
            let classes = 0..case.average_precision.len();
            let found = mean(classes.filter_map(|class| average_precision(pairs(case, class))));
            assert_close(found, case.mean_average_precision, name);
            let Some(single) = &case.single else { continue };
            let confusion = confusion(case);
            assert_close(confusion.accuracy(), single.accuracy, name);
            assert_close(confusion.macro_f1(), single.macro_f1, name);
            for (class, row) in single.confusion.iter().enumerate() {
                assert_eq!(confusion.row(class), row, "{name}: class {class}");
                assert_close(confusion.precision(class), single.precision[class], name);
                assert_close(confusion.recall(class), single.recall[class], name);
                assert_close(confusion.f1(class), single.f1[class], name);
            }
        }
    }

    #[test]
    fn the_reliability_table_is_scikit_learns() {
        for case in cases() {
            let classes = case.scores[0].len();
            let all = (0..classes).flat_map(|class| pairs(&case, class));
            let found = reliability(all, 10);
            assert_eq!(found.bins.len(), case.reliability.len(), "{}", case.name);
            for (bin, &[frequency, score]) in found.bins.iter().zip(&case.reliability) {
                assert_close(Some(bin.frequency), frequency, &case.name);
                assert_close(Some(bin.score), score, &case.name);
                assert!(bin.low <= bin.score && bin.score <= bin.high + 1e-9);
            }
            let count: u32 = found.bins.iter().map(|bin| bin.count).sum();
            assert_eq!(count as usize, case.scores.len() * classes);
        }
        let two = [(0.9, true), (0.9, true), (0.9, false), (0.2, false)];
        let found = reliability(two.into_iter(), 10);
        let expected = (3.0 * (0.9_f64 - 2.0 / 3.0) + 0.2) / 4.0;
        assert!((found.error - expected).abs() < 1e-6, "{}", found.error);
        assert_eq!(reliability(std::iter::empty(), 10).error, 0.0);
    }

    #[test]
    fn several_labels_count_once_each_and_none_not_at_all() {
        let mut confusion = Confusion::new(4);
        confusion.add(&[0.9, 0.1, 0.8, 0.2], &[0, 2]);
        confusion.add(&[0.9, 0.1, 0.8, 0.2], &[0, 3]);
        confusion.add(&[0.9, 0.1, 0.8, 0.2], &[1, 3]);
        confusion.add(&[0.9, 0.1, 0.8, 0.2], &[]);
        assert_eq!(confusion.accuracy(), Some(0.5));
        let counted = [[2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 2, 0]];
        for (class, row) in counted.iter().enumerate() {
            assert_eq!(confusion.row(class), row);
        }
        assert_eq!(confusion.mistakes(), [(3, 2, 2), (1, 0, 1)]);
        assert_eq!((confusion.support(3), confusion.named(2)), (2, 3));
    }

    #[test]
    fn what_is_not_defined_is_said_so() {
        let empty = Confusion::new(2);
        assert_eq!((empty.accuracy(), empty.macro_f1(), empty.f1(0)), (None, None, None));
        let mut one = Confusion::new(3);
        one.add(&[0.1, 0.9, 0.0], &[0]);
        assert_eq!((one.precision(0), one.recall(0), one.f1(0)), (None, Some(0.0), Some(0.0)));
        assert_eq!((one.precision(1), one.recall(1), one.f1(2)), (Some(0.0), None, None));
        assert_eq!(average_precision([(0.5, false)].into_iter()), None);
    }

    #[test]
    fn labels_and_scores_that_do_not_fit_are_ignored() {
        let mut confusion = Confusion::new(2);
        confusion.add(&[0.5, 0.5], &[7]);
        confusion.add(&[], &[0]);
        assert_eq!(confusion, Confusion::new(2));
        assert_eq!(confusion.count(9, 9), 0);
    }
}
