//! A training as a person sees it: steps as a bar, epochs as lines, checkpoints in a folder.

use std::path::Path;

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::cli::output;
use crate::network::Layers;
use crate::train::examples::Examples;
use crate::train::fit::{Epoch, FitSettings, Fitted, Keeping, Progress, Score, fit};

/// Where a training's state is kept, and whether to go on from it.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub folder: Option<&'a Path>,
    pub resume: bool,
}

/// Fits a network to examples: the first of the pair, validated by the second unless that is empty.
/// `told` says how good a validation was.
pub fn fit_shown(
    layers: Layers,
    (training, validation): (&dyn Examples, &dyn Examples),
    settings: &FitSettings,
    kept: Kept<'_>,
    force: bool,
    told: impl Fn(Score) -> String,
) -> anyhow::Result<Fitted> {
    let keeping = kept.folder.map(|folder| Keeping {
        checkpoint: folder.join("checkpoint.safetensors"),
        resume: kept.resume,
    });
    if let (Some(folder), Some(keeping)) = (kept.folder, &keeping) {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        if !kept.resume {
            output::check_free(&keeping.checkpoint, force)?;
        }
    }
    let bar = output::steps(training.len().div_ceil(settings.batch), "epoch 1");
    let mut epochs = 0;
    let mut watch = |progress| {
        epochs += u32::from(matches!(progress, Progress::Epoch { .. }));
        show(&bar, progress, &told);
    };
    let validated = (!validation.is_empty()).then_some(validation);
    let fitted = fit(layers, training, validated, settings, keeping.as_ref(), &mut watch)?;
    bar.finish_and_clear();
    if epochs == 0 {
        output::complain(
            "the training in the checkpoint had ended already: nothing was added to it (more \
             --epochs would)",
        );
    }
    Ok(fitted)
}

/// Reads how many examples a step has.
pub fn batch(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=4_096).contains(number));
    number.ok_or_else(|| "allowed is a whole number from 1 to 4096".to_owned())
}

/// Steps as a bar on a terminal, epochs as lines.
fn show(bar: &ProgressBar, progress: Progress, told: &impl Fn(Score) -> String) {
    match progress {
        Progress::Step { epoch, step, loss, .. } => {
            bar.set_message(format!("epoch {epoch}, loss {loss:.4}"));
            bar.set_position(step as u64);
        }
        Progress::Epoch { epoch, epochs, is_best, seconds_left } => {
            let Epoch { number, training, validation, .. } = epoch;
            let held_back = validation.map_or_else(String::new, |score| {
                format!(", validation loss {:.4}, {}", score.loss, told(score))
            });
            let best = if is_best && validation.is_some() { ", best" } else { "" };
            let (loss, left) = (training.loss, (seconds_left / 60.0).ceil());
            bar.suspend(|| {
                output::complain(&format!(
                    "epoch {number} of {epochs}: loss {loss:.4}{held_back}{best}; {left} min left"
                ));
            });
        }
    }
}

/// The command that is running, for a model's card.
pub fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    ["hearken".to_owned()].into_iter().chain(words).collect::<Vec<String>>().join(" ")
}
