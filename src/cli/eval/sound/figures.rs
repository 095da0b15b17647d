//! What the scores of all clips come to: over all, by class, by fold, and beside another system's.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::cli::Usage;
use crate::data::{Clip, ScoreTable};
use crate::network::metrics::{Confusion, Reliability, average_precision, best, mean, reliability};

/// Ranges of scores in the reliability table.
const RELIABILITY_BINS: usize = 10;

/// A clip that was heard. Labels and scores are by the classes that are looked at.
#[derive(Clone)]
pub struct Scored<'a> {
    pub clip: &'a Clip,
    pub labels: Vec<usize>,
    /// Classes of which nobody knows whether they are in the clip: not asked for.
    pub maybe: Vec<usize>,
    pub scores: Vec<f32>,
}

impl Scored<'_> {
    /// The scores, with the lowest of all for what is not known.
    fn known_scores(&self) -> Vec<f32> {
        let mut scores = self.scores.clone();
        for &class in &self.maybe {
            if let Some(score) = scores.get_mut(class) {
                *score = f32::NEG_INFINITY;
            }
        }
        scores
    }

    /// The score of a class and whether it is in the clip, as far as that is known.
    fn pair(&self, class: usize) -> Option<(f32, bool)> {
        let score = self.scores.get(class).filter(|_| !self.maybe.contains(&class))?;
        Some((*score, self.labels.contains(&class)))
    }
}

/// The figures of one system.
#[derive(Serialize)]
pub struct Figures {
    pub clips: usize,
    /// Clips without any of the classes.
    pub negatives: usize,
    /// Part of the labels that were named. `None`, here and below: not defined.
    pub accuracy: Option<f64>,
    /// Mean over the classes that have clips.
    pub macro_f1: Option<f64>,
    pub mean_average_precision: Option<f64>,
    /// Expected calibration error of the best class' score.
    pub calibration_error: f64,
    pub classes: Vec<ClassFigures>,
    /// Of the best class' score, in clips that have a label.
    #[serde(serialize_with = "bins")]
    pub reliability: Reliability,
    #[serde(skip)]
    pub confusion: Confusion,
}

#[derive(Serialize)]
pub struct ClassFigures {
    pub class: String,
    pub clips: u32,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    pub average_precision: Option<f64>,
}

impl Figures {
    pub fn new(classes: &[String], scored: &[Scored<'_>]) -> Self {
        let mut confusion = Confusion::new(classes.len());
        scored.iter().for_each(|one| confusion.add(&one.known_scores(), &one.labels));
        let of_class = |(index, class): (usize, &String)| ClassFigures {
            class: class.clone(),
            clips: confusion.support(index),
            precision: confusion.precision(index),
            recall: confusion.recall(index),
            f1: confusion.f1(index),
            average_precision: average_precision(scored.iter().filter_map(|one| one.pair(index))),
        };
        let by_class: Vec<ClassFigures> = classes.iter().enumerate().map(of_class).collect();
        let labelled = scored.iter().filter(|one| !one.labels.is_empty());
        let named = labelled
            .clone()
            .filter_map(|one| one.pair(best(&one.known_scores(), 1).first().copied()?));
        let reliability = reliability(named, RELIABILITY_BINS);
        Self {
            clips: scored.len(),
            negatives: scored.len() - labelled.count(),
            accuracy: confusion.accuracy(),
            macro_f1: confusion.macro_f1(),
            mean_average_precision: mean(by_class.iter().filter_map(|c| c.average_precision)),
            calibration_error: reliability.error,
            classes: by_class,
            reliability,
            confusion,
        }
    }
}

fn bins<S: serde::Serializer>(table: &Reliability, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(table.bins.iter().map(|bin| {
        serde_json::json!({
            "from": bin.low, "to": bin.high, "clips": bin.count,
            "score": bin.score, "right": bin.frequency,
        })
    }))
}

/// The accuracy on each part of a cross-validation.
#[derive(Serialize)]
pub struct Folds {
    pub folds: Vec<FoldAccuracy>,
    pub mean: f64,
    /// Of a fold's accuracy, by n - 1.
    pub standard_deviation: f64,
}

#[derive(Serialize)]
pub struct FoldAccuracy {
    pub fold: u32,
    pub clips: usize,
    pub accuracy: f64,
}

impl Folds {
    /// `None` where fewer than two folds have labels.
    pub fn new(scored: &[Scored<'_>]) -> Option<Self> {
        let mut by_fold: BTreeMap<u32, (usize, Confusion)> = BTreeMap::new();
        for one in scored {
            let Some(fold) = one.clip.fold else { continue };
            let of_fold = by_fold.entry(fold).or_insert((0, Confusion::new(one.scores.len())));
            of_fold.0 += 1;
            of_fold.1.add(&one.known_scores(), &one.labels);
        }
        let accuracy = |(fold, (clips, confusion)): (u32, (usize, Confusion))| {
            Some(FoldAccuracy { fold, clips, accuracy: confusion.accuracy()? })
        };
        let folds: Vec<FoldAccuracy> = by_fold.into_iter().filter_map(accuracy).collect();
        if folds.len() < 2 {
            return None;
        }
        let mean = mean(folds.iter().map(|fold| fold.accuracy))?;
        let squares: f64 = folds.iter().map(|fold| (fold.accuracy - mean).powi(2)).sum();
        let standard_deviation = (squares / (folds.len() - 1) as f64).sqrt();
        Some(Self { folds, mean, standard_deviation })
    }
}

/// Two systems on the same clips, over the classes that both know.
#[derive(Serialize)]
pub struct Comparison {
    pub other: String,
    pub ours: Figures,
    pub theirs: Figures,
}

impl Comparison {
    /// Takes the other system's scores from `table`, which came from `path`. Labels of classes
    /// that it does not know are left out on both sides.
    ///
    /// # Errors
    /// When it knows none of the classes, or lacks one of the clips.
    pub fn new(
        classes: &[String],
        scored: &[Scored<'_>],
        table: &ScoreTable,
        path: &Path,
    ) -> Result<Self, Usage> {
        let shown = path.display();
        // Places in our classes and in the table's.
        let (ours, theirs): (Vec<usize>, Vec<usize>) = classes
            .iter()
            .enumerate()
            .filter_map(|(n, class)| Some((n, table.classes.iter().position(|c| c == class)?)))
            .unzip();
        let common: Vec<String> = ours.iter().filter_map(|&n| classes.get(n).cloned()).collect();
        if common.is_empty() {
            return Err(Usage(format!("{shown} has no column for any of the model's classes")));
        }
        let (mut our_clips, mut their_clips) = (Vec::new(), Vec::new());
        for one in scored {
            let Some(other) = table.scores(one.clip) else {
                return Err(Usage(format!("{shown} has no row for {}", one.clip.path.display())));
            };
            let pick = |scores: &[f32], columns: &[usize]| {
                columns.iter().filter_map(|&column| scores.get(column).copied()).collect()
            };
            let place = |class: &usize| ours.iter().position(|column| column == class);
            let mine = Scored {
                clip: one.clip,
                labels: one.labels.iter().filter_map(place).collect(),
                maybe: one.maybe.iter().filter_map(place).collect(),
                scores: pick(&one.scores, &ours),
            };
            their_clips.push(Scored { scores: pick(other, &theirs), ..mine.clone() });
            our_clips.push(mine);
        }
        Ok(Self {
            other: shown.to_string(),
            ours: Figures::new(&common, &our_clips),
            theirs: Figures::new(&common, &their_clips),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(name: &str, fold: Option<u32>) -> Clip {
        Clip { path: name.into(), labels: Vec::new(), maybe: Vec::new(), fold, span_s: None }
    }

    fn classes(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn folds_have_a_mean_and_a_deviation() {
        let clips: Vec<Clip> =
            [1, 1, 2, 2, 3, 3].iter().map(|&fold| clip("a.wav", Some(fold))).collect();
        let right = [true, true, true, false, false, false];
        let scored: Vec<Scored<'_>> = clips
            .iter()
            .zip(right)
            .map(|(clip, right)| Scored {
                clip,
                labels: vec![usize::from(!right)],
                maybe: Vec::new(),
                scores: vec![0.9, 0.1],
            })
            .collect();
        let folds = Folds::new(&scored).unwrap();
        let found: Vec<f64> = folds.folds.iter().map(|fold| fold.accuracy).collect();
        assert_eq!(found, [1.0, 0.5, 0.0]);
        assert_eq!((folds.mean, folds.standard_deviation), (0.5, 0.5));
        assert!(Folds::new(&scored[..2]).is_none());
    }

    #[test]
    fn negatives_lower_the_precision_of_the_ranking_only() {
        let clip = clip("a.wav", None);
        let one = |labels: &[usize], scores: &[f32]| Scored {
            clip: &clip,
            labels: labels.to_vec(),
            maybe: Vec::new(),
            scores: scores.to_vec(),
        };
        let scored = [one(&[0], &[0.8, 0.2]), one(&[1], &[0.3, 0.7]), one(&[], &[0.9, 0.1])];
        let figures = Figures::new(&classes(&["dog", "cat"]), &scored);
        assert_eq!((figures.clips, figures.negatives), (3, 1));
        assert_eq!((figures.accuracy, figures.macro_f1), (Some(1.0), Some(1.0)));
        assert_eq!(figures.classes[0].average_precision, Some(0.5));
        assert_eq!(figures.mean_average_precision, Some(0.75));
        assert!((figures.calibration_error - 0.25).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_known_is_not_asked_for() {
        let clip = clip("a.wav", None);
        let one = |maybe: &[usize]| Scored {
            clip: &clip,
            labels: vec![0],
            maybe: maybe.to_vec(),
            scores: vec![0.4, 0.6],
        };
        let names = classes(&["dog", "cat"]);
        assert_eq!(Figures::new(&names, &[one(&[])]).accuracy, Some(0.0));
        let figures = Figures::new(&names, &[one(&[1])]);
        assert_eq!((figures.accuracy, figures.confusion.named(1)), (Some(1.0), 0));
        assert!((figures.calibration_error - 0.6).abs() < 1e-6);
    }

    #[test]
    fn systems_are_compared_over_what_both_know() {
        let clips = [clip("d/a.wav", None), clip("d/b.wav", None), clip("d/c.wav", None)];
        let one = |n: usize, label: usize, scores: [f32; 3]| Scored {
            clip: &clips[n],
            labels: vec![label],
            maybe: Vec::new(),
            scores: scores.to_vec(),
        };
        let scored =
            [one(0, 0, [0.1, 0.8, 0.2]), one(1, 1, [0.1, 0.8, 0.2]), one(2, 2, [0.5, 0.1, 0.2])];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "file,cow,bird,dog\na.wav,9,0,5\nb.wav,9,0,1\nc.wav,9,1,0\n")
            .unwrap();
        let table = ScoreTable::read(file.path()).unwrap();
        let known = classes(&["dog", "cat", "bird"]);
        let compared = Comparison::new(&known, &scored, &table, file.path()).unwrap();
        let names: Vec<&str> = compared.ours.classes.iter().map(|c| c.class.as_str()).collect();
        assert_eq!(names, ["dog", "bird"]);
        assert_eq!((compared.ours.accuracy, compared.theirs.accuracy), (Some(0.0), Some(1.0)));
        assert_eq!(compared.ours.negatives, 1);
        let missing = [Scored { clip: &clip("d/e.wav", None), ..scored[0].clone() }];
        let error = Comparison::new(&known, &missing, &table, file.path()).err().unwrap();
        assert!(error.to_string().contains("no row for d/e.wav"), "{error}");
        assert!(Comparison::new(&classes(&["cat"]), &scored, &table, file.path()).is_err());
    }
}
