//! What a training came to: figures by clips that were held back, for the terminal and the card,
//! and pictures.

use serde_json::{Value, json};

use super::material::Material;
use crate::chart::{ConfusionChart, CurveChart, Picture, Series};
use crate::network::metrics::Confusion;
use crate::picture::encode_rgb;
use crate::train::adapt::{Adapted, Judged};
use crate::train::head::HeadEpoch;
use crate::train::threshold::Threshold;

/// What stands for none of the classes in the confusion matrix.
const NONE: &str = "(none)";

/// Figures of the new classes.
pub struct Figures {
    classes: Vec<String>,
    /// Clips of each class that were held back.
    clips: Vec<usize>,
    thresholds: Vec<Threshold>,
    /// Best class of each clip with a sound, whatever its score. Nothing, if there is but one.
    accuracy: Option<f64>,
    /// Classes, and none of them, by the thresholds.
    confusion: Confusion,
    /// Clips without any of the classes.
    pub negatives: usize,
}

impl Figures {
    pub fn new(material: &Material, adapted: &Adapted) -> Self {
        let none = material.classes.len();
        let (mut best, mut confusion) = (Confusion::new(none), Confusion::new(none + 1));
        let mut clips = vec![0; none];
        for Judged { clip, scores } in &adapted.judged {
            let Some(clip) = material.clips.get(*clip) else { continue };
            // Only what reaches its threshold is named, before none is.
            let named = scores.iter().zip(&adapted.thresholds);
            let named = named.map(|(&score, at)| if score >= at.on { score } else { -1.0 });
            let with_none: Vec<f32> = named.chain([-0.5]).collect();
            if clip.classes.is_empty() {
                confusion.add(&with_none, &[none]);
                continue;
            }
            best.add(scores, &clip.classes);
            confusion.add(&with_none, &clip.classes);
            for &class in &clip.classes {
                clips.iter_mut().skip(class).take(1).for_each(|count| *count += 1);
            }
        }
        Self {
            classes: material.classes.clone(),
            clips,
            thresholds: adapted.thresholds.clone(),
            accuracy: best.accuracy().filter(|_| none > 1),
            confusion,
            negatives: material.clips.iter().filter(|clip| clip.classes.is_empty()).count(),
        }
    }

    /// A line a class, and the accuracy.
    pub fn table(&self) -> String {
        let width = self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
        let mut lines =
            vec![format!("{:width$}  clips  windows found  false alarms  threshold", "class")];
        let rows = self.classes.iter().zip(&self.clips).zip(&self.thresholds);
        lines.extend(rows.map(|((name, clips), threshold)| {
            let (found, false_alarms) = (100.0 * threshold.found, 100.0 * threshold.false_alarms);
            let on = threshold.on;
            format!("{name:width$}  {clips:5}  {found:11.1} %  {false_alarms:10.2} %  {on:9.2}")
        }));
        if let Some(accuracy) = self.accuracy {
            let clips: usize = self.clips.iter().sum();
            let accuracy = 100.0 * accuracy;
            lines.push(format!("accuracy {accuracy:.1} % of {clips} clips that were held back"));
        }
        lines.join("\n")
    }

    /// For the card.
    pub fn json(&self) -> Value {
        let rows = self.classes.iter().zip(&self.clips).zip(&self.thresholds);
        let classes = rows.map(|((name, clips), threshold)| {
            let figures = json!({
                "clips": clips,
                "windows_found": rounded(threshold.found.into()),
                "windows_false_alarms": rounded(threshold.false_alarms.into()),
                "threshold": rounded(threshold.on.into()),
            });
            (name.clone(), figures)
        });
        json!({
            "held_back_accuracy": self.accuracy.map(rounded),
            "classes": classes.collect::<serde_json::Map<String, Value>>(),
        })
    }
}

/// To four digits: more would promise more than some clips can tell.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// PNG files.
pub struct Pictures {
    pub curve: Vec<u8>,
    pub confusion: Vec<u8>,
}

impl Pictures {
    pub fn draw(
        name: &str,
        history: &[HeadEpoch],
        kept: u32,
        figures: &Figures,
    ) -> anyhow::Result<Self> {
        let loss: Vec<f64> = history.iter().map(|epoch| epoch.loss.into()).collect();
        let validation: Vec<f64> =
            history.iter().map(|epoch| epoch.validation_loss.map_or(f64::NAN, f64::from)).collect();
        let curve = CurveChart {
            title: &format!("Training of {name}"),
            subtitle: "the last layer, with a part of the clips held back",
            left: (
                "loss",
                &[
                    Series { name: "loss", values: &loss },
                    Series { name: "validation loss", values: &validation },
                ],
            ),
            right: ("", &[]),
            kept: Some(kept as usize),
        };
        let classes: Vec<String> =
            figures.classes.iter().cloned().chain([NONE.to_owned()]).collect();
        let confusion = ConfusionChart {
            title: &format!("{name}: what was taken for what"),
            subtitle: "clips that were held back, at the thresholds of the model",
            classes: &classes,
            count: |truth, named| figures.confusion.count(truth, named),
        };
        let drawn = |picture: Result<Picture, String>| {
            let picture = picture.map_err(anyhow::Error::msg)?;
            png(&picture)
        };
        Ok(Self { curve: drawn(curve.draw())?, confusion: drawn(confusion.draw())? })
    }
}

/// The picture as a PNG file.
pub fn png(picture: &Picture) -> anyhow::Result<Vec<u8>> {
    Ok(encode_rgb(picture.width, picture.height, &picture.rgb)?)
}
