//! `hearken train colour`: a network for the shifts of photographs.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::fitting::{Kept, batch, command_line, fit_shown};
use super::report::png;
use crate::chart::{CurveChart, Series};
use crate::cli::photos::{Kind, PhotosArgs};
use crate::cli::scatter::scatter_png;
use crate::cli::{Outcome, output};
use crate::colour::{Ridge, Shift, ShiftModel, Triple, rmse, statistics};
use crate::correct::{ColourModel, ColourRecipe, ColourRules, Method};
use crate::evaluate::colour::min_shift;
use crate::hear::read_model_file;
use crate::network::{Activation, Layers, Metadata, wrap};
use crate::picture::View;
use crate::train::architecture::Architecture;
use crate::train::examples::Examples;
use crate::train::fit::{Epoch, FitSettings, Loss, Score, outputs};
use crate::train::photos::{PhotoExamples, Picture};
use crate::train::shares::SHARES;

/// Names of the network's responses.
const RESPONSES: [&str; 3] = ["red", "green", "blue"];
/// One in so many photos is held back to validate by.
const HELD_BACK_ONE_IN: usize = 10;
/// Of the clean photos that are held back, so many are to be left alone. Of all clean photos nine in
/// ten shall be; with eighty held back, this is two standard errors more.
const UNTOUCHED: f64 = 0.95;
/// Times that each photo is shifted for the regression on its statistics.
const REGRESSION_TIMES: usize = 10;
/// Decay of weights.
const DECAY: f32 = 0.05;

#[derive(Args)]
pub struct Colour {
    #[command(flatten)]
    photos: PhotosArgs,
    /// What is done to clean photos, and what the network is to tell
    #[arg(long, value_enum, default_value_t = Kind::Offset)]
    kind: Kind,
    /// A network to start from: a colour model, or any ONNX file of photos of 227x227 that ends in
    /// a linear layer, or a mean over the image (it gets a new one); default: nothing
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Passes over the photos at most, in which each comes sixteen times
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Photos a step
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = batch)]
    batch: usize,
    /// Step of the optimiser
    #[arg(long, default_value_t = 1e-3, value_name = "STEP")]
    learning_rate: f32,
    /// Stop after so many epochs without a better validation; 0: never
    #[arg(long, default_value_t = 0, value_name = "N")]
    patience: u32,
    /// Folder to keep the state of the training in, after each epoch
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Go on from the state in that folder, if there is one; --epochs may differ
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// The same seed and data give the same model
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    /// The picture of the training's course; default: beside the model, ending in .curve.png
    #[arg(long, value_name = "FILE")]
    curve: Option<PathBuf>,
    /// The picture of true and predicted shifts; default: beside the model, ending in .scatter.png
    #[arg(long, value_name = "FILE")]
    scatter: Option<PathBuf>,
    /// What the model's card calls it; default: the file's name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Under what terms the model may be used, for its card
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    licence: String,
}

impl Colour {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let curve = self.curve.clone().unwrap_or_else(|| self.out.with_extension("curve.png"));
        let scatter =
            self.scatter.clone().unwrap_or_else(|| self.out.with_extension("scatter.png"));
        for path in [&self.out, &curve, &scatter] {
            output::check_free(path, self.force)?;
        }
        let model = self.kind.model();
        let (photos, grey) = self.photos.load(model)?;
        if grey > 0 {
            output::complain(&format!("{grey} photos without colour were left out"));
        }
        let mut layers = self.start()?;
        let (training, held) = split(photos, self.seed);
        if training.is_empty() || held.is_empty() {
            bail!("{} photos are too few to train and validate with", training.len() + held.len());
        }
        let counts = [training.len(), held.len()];
        let ridge = regression(&training, model, self.seed)?;
        let clean: Vec<Picture> =
            held.iter().filter(|photo| photo.shift.is_none()).cloned().collect();
        let mut examples = PhotoExamples::training(training, model, self.seed);
        let mut validation = PhotoExamples::validation(held, model, self.seed.wrapping_add(1));
        let mut trained = layers.clone();
        if self.from.is_none() {
            // What the plan counts is not trained, so it is counted here.
            trained = layers.behind(SHARES)?;
            (examples, validation) = (examples.as_shares(), validation.as_shares());
        }
        let settings = self.settings();
        let kept = Kept { folder: self.checkpoint.as_deref(), resume: self.resume };
        let told = |score: Score| format!("RMSE {}", shown(model, score));
        let pair = (&examples as &dyn Examples, &validation as &dyn Examples);
        let fitted = fit_shown(trained, pair, &settings, kept, self.force, told)?;
        let judged = judged(&fitted.layers, &validation, model)?;
        layers.take_weights(fitted.layers);
        let least = least(&layers, &clean, model, &ridge)?;
        let rules = ColourRules { min_shift: least, statistics: ridge };
        let metrics = json!({ "validation_rmse": rmse(&judged) });
        let card = self.card(&settings, &fitted.history, counts, metrics);
        let bytes = model_file(&layers, model, &rules, card)?;
        ColourModel::from_bytes(&bytes, &self.out.display().to_string())?;
        output::write_file(&self.out, &bytes, self.force)?;
        output::write_file(&curve, &curve_png(&self.name(), model, &fitted.history)?, self.force)?;
        output::write_file(&scatter, &scatter_png(&self.name(), model, &judged)?, self.force)?;
        if let Some(rmse) = rmse(&judged) {
            output::write_line(&format!(
                "RMSE {:.3} of {} photos that were held back; chroma {:.3}; a shift under {least:.1} is left alone",
                rmse.all, counts[1], rmse.chroma
            ))?;
        }
        Ok(Outcome::Done)
    }

    fn name(&self) -> String {
        let stem = || self.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(stem)
    }

    fn start(&self) -> anyhow::Result<Layers> {
        let Some(path) = &self.from else {
            return Ok(Architecture::Quantiles.build(3, RESPONSES.len(), self.seed));
        };
        let name = || format!("model {}", path.display());
        let bytes = read_model_file(path)?;
        let mut layers = Layers::from_onnx(&bytes).with_context(name)?;
        if layers.input.first() != Some(&3) {
            bail!("{}: its image has not three channels", name());
        }
        if ColourModel::from_bytes(&bytes, &name()).is_err() {
            layers.replace_head(&[None; 3], self.seed).with_context(name)?;
        }
        Ok(layers)
    }

    fn settings(&self) -> FitSettings {
        FitSettings {
            loss: Loss::MeanSquare,
            epochs: self.epochs,
            batch: self.batch,
            rate: self.learning_rate,
            decay: DECAY,
            patience: self.patience,
            seed: self.seed,
            ..FitSettings::default()
        }
    }

    fn card(
        &self,
        settings: &FitSettings,
        history: &[Epoch],
        [training, held]: [usize; 2],
        metrics: Value,
    ) -> Value {
        let from = self.from.as_ref().and_then(|path| path.file_name());
        json!({
            "name": self.name(),
            "licence": self.licence,
            "from": from.map(|name| name.to_string_lossy()),
            "training": {
                "command": command_line(), "photos": training, "held_back": held,
                "settings": settings, "last_epoch": history.last(),
            },
            "metrics": metrics,
        })
    }
}

/// The error in people's units.
fn shown(model: ShiftModel, score: Score) -> String {
    match model {
        ShiftModel::Offset => format!("{:.2} levels", 255.0 * score.quality),
        ShiftModel::Gain => format!("{:.1} %", 100.0 * score.quality),
    }
}

/// Photos to learn from, and those that are held back.
fn split(mut photos: Vec<Picture>, seed: u64) -> (Vec<Picture>, Vec<Picture>) {
    fastrand::Rng::with_seed(seed).shuffle(&mut photos);
    let held = photos.split_off(photos.len() - photos.len() / HELD_BACK_ONE_IN);
    (photos, held)
}

/// The regression on statistics, by the same examples that the network sees.
fn regression(photos: &[Picture], model: ShiftModel, seed: u64) -> anyhow::Result<Ridge> {
    let examples = PhotoExamples::training(photos.to_vec(), model, seed.wrapping_add(2));
    let each = examples.len() / photos.len().max(1);
    let drawn: Vec<usize> = (0..examples.len()).filter(|n| n % each < REGRESSION_TIMES).collect();
    let bar = output::steps(drawn.len(), "statistics");
    let mut pairs: Vec<(Vec<f64>, Triple)> = Vec::new();
    for index in drawn {
        let (view, shift) = examples.view(0, index)?;
        pairs.push((statistics(&view, model), shift.responses()));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Ridge::fit(&pairs)?)
}

/// The least shift to act on, by what is found in clean photos.
fn least(
    layers: &Layers,
    clean: &[Picture],
    model: ShiftModel,
    ridge: &Ridge,
) -> anyhow::Result<f64> {
    let rules = ColourRules { min_shift: 0.0, statistics: ridge.clone() };
    let bytes = model_file(layers, model, &rules, Value::Null)?;
    let mut corrector = ColourModel::from_bytes(&bytes, "the new one")?.corrector()?;
    let mut sizes = Vec::new();
    for photo in clean {
        let view = View::of_rgb(&photo.rgb, photo.width, photo.height, None)?;
        sizes.push(corrector.estimate(&view, Method::Network)?.size());
    }
    Ok(min_shift(sizes, UNTOUCHED).unwrap_or(0.0))
}

/// Truth and prediction of the photos that were held back.
fn judged(
    layers: &Layers,
    validation: &PhotoExamples,
    model: ShiftModel,
) -> anyhow::Result<Vec<(Shift, Shift)>> {
    let triple = |values: &[f32]| -> Triple {
        std::array::from_fn(|n| values.get(n).copied().unwrap_or(0.0).into())
    };
    let mut pairs = Vec::new();
    let all: Vec<usize> = (0..validation.len()).collect();
    for indices in all.chunks(16) {
        let batch = validation.batch(0, indices)?;
        let found = outputs(layers, &batch.images)?;
        let rows = batch.targets.chunks(3).zip(found.chunks(3));
        pairs.extend(rows.map(|(truth, found)| {
            (model.from_responses(triple(truth)), model.from_responses(triple(found)))
        }));
    }
    Ok(pairs)
}

fn model_file(
    layers: &Layers,
    model: ShiftModel,
    rules: &ColourRules,
    card: Value,
) -> anyhow::Result<Vec<u8>> {
    let (recipe, recipe_hash) = ColourRecipe::new(model).text();
    let metadata = Metadata {
        task: "colour".to_owned(),
        recipe,
        recipe_hash,
        outputs: RESPONSES.map(str::to_owned).to_vec(),
        activation: Activation::Linear,
        decision: serde_json::to_value(rules)?,
        card,
    };
    Ok(wrap(&layers.to_onnx()?, &metadata)?)
}

fn curve_png(name: &str, model: ShiftModel, history: &[Epoch]) -> anyhow::Result<Vec<u8>> {
    let of = |value: &dyn Fn(&Epoch) -> f64| history.iter().map(value).collect::<Vec<_>>();
    let unit = if model == ShiftModel::Offset { 255.0 } else { 100.0 };
    let loss = of(&|epoch| epoch.training.loss.into());
    let held = of(&|epoch| epoch.validation.map_or(f64::NAN, |score| score.loss.into()));
    let training = of(&|epoch| unit * f64::from(epoch.training.quality));
    let validation =
        of(&|epoch| epoch.validation.map_or(f64::NAN, |score| unit * f64::from(score.quality)));
    let best = history.iter().filter_map(|epoch| Some((epoch.validation?.loss, epoch.number)));
    let best = best.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, number)| number as usize);
    let losses =
        [Series { name: "loss", values: &loss }, Series { name: "validation loss", values: &held }];
    let errors = [
        Series { name: "RMSE", values: &training },
        Series { name: "validation RMSE", values: &validation },
    ];
    let unit_name =
        if model == ShiftModel::Offset { "RMSE in levels of 255" } else { "RMSE of ln gain in %" };
    let chart = CurveChart {
        title: &format!("Training of {name}"),
        subtitle: "loss on changed photos, a quarter of them unshifted; validation on whole ones, all shifted",
        left: ("loss", &losses),
        right: (unit_name, &errors),
        kept: best,
    };
    png(&chart.draw().map_err(anyhow::Error::msg)?)
}
