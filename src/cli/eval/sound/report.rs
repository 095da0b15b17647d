//! The figures as tables for people, or as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::{Comparison, Figures, Folds};

/// Pairs of classes in the list of confusions.
const MISTAKES_SHOWN: usize = 15;

/// All that was measured.
pub struct Report {
    /// Digests: one model, or one for each fold.
    pub models: Vec<String>,
    pub figures: Figures,
    pub folds: Option<Folds>,
    pub against: Option<Comparison>,
}

impl Report {
    /// One JSON object.
    pub fn json(&self) -> anyhow::Result<String> {
        let mut value = json!({ "models": self.models, "confusions": self.mistakes() });
        if let (Value::Object(all), Value::Object(figures)) =
            (&mut value, serde_json::to_value(&self.figures)?)
        {
            all.extend(figures);
            for (key, part) in [
                ("folds", serde_json::to_value(&self.folds)?),
                ("against", serde_json::to_value(&self.against)?),
            ] {
                if !part.is_null() {
                    all.insert(key.to_owned(), part);
                }
            }
        }
        Ok(serde_json::to_string_pretty(&value)?)
    }

    /// The most important figures in a line.
    pub fn summary(&self) -> String {
        summary(&self.figures)
    }

    /// For people.
    pub fn table(&self) -> String {
        let figures = &self.figures;
        let negatives = match figures.negatives {
            0 => String::new(),
            count => format!(" ({count} without a label)"),
        };
        let models = self.models.join(", ");
        let classes = figures.classes.iter().filter(|class| class.clips > 0).count();
        let mut text = format!(
            "{} clips{negatives} of {classes} classes, model {models}\n{}\n\n",
            figures.clips,
            summary(figures),
        );
        // Writing to a String can't fail; neither can it below.
        self.classes(&mut text);
        self.confusions(&mut text);
        if let Some(folds) = &self.folds {
            by_fold(&mut text, folds);
        }
        if let Some(against) = &self.against {
            side_by_side(&mut text, against);
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn classes(&self, text: &mut String) {
        let width = name_width(&self.figures);
        let _ = writeln!(text, "{:width$}  clips  precision  recall     F1     AP", "class");
        // A class without clips that was never named says nothing.
        let told = self.figures.classes.iter().filter(|class| class.f1.is_some());
        for class in told {
            let _ = writeln!(
                text,
                "{:width$}  {:>5}  {:>9}  {:>6}  {:>5}  {:>5}",
                class.class,
                class.clips,
                figure(class.precision),
                figure(class.recall),
                figure(class.f1),
                figure(class.average_precision),
            );
        }
    }

    fn confusions(&self, text: &mut String) {
        let mistakes = self.mistakes();
        if mistakes.is_empty() {
            return;
        }
        text.push_str("\nmost frequent confusions\n");
        for mistake in mistakes.iter().take(MISTAKES_SHOWN) {
            let Mistake { count, class, heard_as } = mistake;
            let _ = writeln!(text, "{count:>5}  {class} heard as {heard_as}");
        }
        if mistakes.len() > MISTAKES_SHOWN {
            let more: u32 = mistakes.iter().skip(MISTAKES_SHOWN).map(|mistake| mistake.count).sum();
            let _ = writeln!(text, "{more:>5}  others");
        }
    }

    fn mistakes(&self) -> Vec<Mistake<'_>> {
        let name = |class: usize| self.figures.classes.get(class).map_or("", |c| &c.class);
        let mistakes = self.figures.confusion.mistakes().into_iter();
        mistakes
            .map(|(truth, named, count)| Mistake {
                class: name(truth),
                heard_as: name(named),
                count,
            })
            .collect()
    }
}

/// What was taken for what.
#[derive(serde::Serialize)]
struct Mistake<'a> {
    class: &'a str,
    heard_as: &'a str,
    count: u32,
}

fn summary(figures: &Figures) -> String {
    format!(
        "accuracy {}, macro F1 {}, mAP {}, calibration error {:.3}",
        percent(figures.accuracy),
        figure(figures.macro_f1),
        figure(figures.mean_average_precision),
        figures.calibration_error,
    )
}

fn by_fold(text: &mut String, folds: &Folds) {
    text.push_str("\nfold  clips  accuracy\n");
    for fold in &folds.folds {
        let accuracy = percent(Some(fold.accuracy));
        let _ = writeln!(text, "{:>4}  {:>5}  {accuracy:>8}", fold.fold, fold.clips);
    }
    let (mean, deviation) = (percent(Some(folds.mean)), 100.0 * folds.standard_deviation);
    let _ = writeln!(text, "mean {mean}, standard deviation {deviation:.2}");
}

fn side_by_side(text: &mut String, comparison: &Comparison) {
    let Comparison { other, ours, theirs } = comparison;
    let width = name_width(ours);
    let _ = writeln!(text, "\nagainst {other}, over the classes that both know");
    for (name, figures) in [("model", ours), ("other", theirs)] {
        let (accuracy, map) = (percent(figures.accuracy), figure(figures.mean_average_precision));
        let _ = writeln!(text, "{name}: accuracy {accuracy}, mAP {map}");
    }
    let _ = writeln!(text, "{:width$}  clips     AP  other  recall  other", "class");
    let told = ours.classes.iter().zip(&theirs.classes).filter(|(class, _)| class.clips > 0);
    for (mine, other) in told {
        let _ = writeln!(
            text,
            "{:width$}  {:>5}  {:>5}  {:>5}  {:>6}  {:>5}",
            mine.class,
            mine.clips,
            figure(mine.average_precision),
            figure(other.average_precision),
            figure(mine.recall),
            figure(other.recall),
        );
    }
}

fn name_width(figures: &Figures) -> usize {
    let names = figures.classes.iter().map(|class| class.class.chars().count());
    names.max().unwrap_or(0).max("class".len())
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", 100.0 * value))
}
