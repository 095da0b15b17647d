//! `hearken eval colour`: how well shifts of photographs are found and undone, beside the ways
//! that need no network.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::parallel::in_parallel;
use crate::cli::photos::{PhotosArgs, read};
use crate::cli::scatter::scatter_png;
use crate::cli::shift::draw;
use crate::cli::{Outcome, output};
use crate::colour::{Baseline, Shift, ShiftModel, Undo, distort, mean_delta_e};
use crate::correct::{ColourModel, Corrector, Method};
use crate::data::photos::Listed;
use crate::evaluate::colour::{CleanTrial, ColourFigures, Trial, figures};
use crate::hear::read_model_file;
use crate::picture::View;

/// Of rows and columns, Delta E is taken at every so many.
const DELTA_E_STEP: usize = 3;

/// The ways that are compared, by name; the model's own first.
const METHODS: [(&str, Option<Method>); 6] = [
    ("network", Some(Method::Network)),
    ("statistics", Some(Method::Statistics)),
    ("gray-world", Some(Method::Baseline(Baseline::GrayWorld))),
    ("shades-of-gray", Some(Method::Baseline(Baseline::ShadesOfGray))),
    ("max-rgb", Some(Method::Baseline(Baseline::MaxRgb))),
    ("nothing", None),
];

#[derive(Args)]
pub struct Colour {
    #[command(flatten)]
    photos: PhotosArgs,
    /// A model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Shifts that each clean photo is tried with
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    shifts: u32,
    /// The same seed and photos give the same shifts
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Leave shifts under this size alone; default: as the model says
    #[arg(long, value_name = "SIZE")]
    min_shift: Option<f64>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Write a plot of true and predicted shifts (PNG)
    #[arg(long, value_name = "FILE")]
    scatter: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
}

/// What came of one photo, for each method.
struct OfPhoto {
    shifted: [Vec<Trial>; METHODS.len()],
    clean: [Vec<CleanTrial>; METHODS.len()],
}

impl Colour {
    pub fn run(self) -> anyhow::Result<Outcome> {
        if let Some(path) = &self.scatter {
            output::check_free(path, self.force)?;
        }
        let bytes = self.model.as_ref().map(|path| read_model_file(path)).transpose()?;
        let file = self.model.as_deref().zip(bytes.as_deref());
        let model = ColourModel::load(file)?;
        let least = self.min_shift.unwrap_or(model.min_shift());
        let listed = self.photos.list()?;
        let found = in_parallel(
            self.photos.jobs,
            listed.len(),
            || Ok(model.corrector()?),
            |index, corrector| match listed.get(index) {
                Some(photo) => self.of_photo(photo, index, corrector, model.shift, least),
                None => bail!("no photo {index}"),
            },
        )?;
        let photos = found.iter().flatten().count();
        let grey = found.len() - photos;
        let mut results: Vec<(&str, ColourFigures)> = Vec::new();
        let mut pairs: Vec<(Shift, Shift)> = Vec::new();
        for (n, (name, _)) in METHODS.into_iter().enumerate() {
            let of = found.iter().flatten();
            let shifted: Vec<Trial> =
                of.clone().filter_map(|photo| photo.shifted.get(n)).flatten().copied().collect();
            let clean: Vec<CleanTrial> =
                of.filter_map(|photo| photo.clean.get(n)).flatten().copied().collect();
            if n == 0 {
                pairs = shifted.iter().map(|trial| (trial.truth, trial.found)).collect();
            }
            match figures(&shifted, &clean) {
                Some(figures) => results.push((name, figures)),
                None => bail!("there is no photo with colours to try"),
            }
        }
        let text = match self.json {
            true => serde_json::to_string_pretty(&report(
                &results,
                &model,
                photos,
                pairs.len(),
                least,
            )?)?,
            false => table(&results, &model, photos, pairs.len(), grey, least),
        };
        output::write_line(&text)?;
        if let Some(path) = &self.scatter {
            let picture = scatter_png("The network", model.shift, &pairs)?;
            output::write_file(path, &picture, self.force)?;
        }
        Ok(Outcome::Done)
    }

    /// Tries all methods on a photo; `None` if it has no colours.
    fn of_photo(
        &self,
        photo: &Listed,
        index: usize,
        corrector: &mut Corrector,
        model: ShiftModel,
        least: f64,
    ) -> anyhow::Result<Option<OfPhoto>> {
        let pixels = |path| -> anyhow::Result<Option<(u32, u32, Vec<u8>)>> {
            let photo = read(path)?;
            Ok((!photo.is_grey()).then(|| photo.rgb8()))
        };
        let Some(given) = pixels(&photo.path)? else { return Ok(None) };
        let mut found =
            OfPhoto { shifted: [const { Vec::new() }; 6], clean: [const { Vec::new() }; 6] };
        if let Some(values) = photo.shift {
            let truth = Shift::from_shown(model, values);
            let clean = match &photo.clean {
                Some(path) => pixels(path)?.map(|(_, _, rgb)| rgb),
                None => None,
            };
            let tried = tried(corrector, &given, clean.as_deref(), model, least)?;
            for (trials, (shift, delta_e, _)) in found.shifted.iter_mut().zip(tried) {
                trials.push(Trial { truth, found: shift, delta_e });
            }
            return Ok(Some(found));
        }
        let (width, height, clean) = &given;
        for number in 1..=self.shifts {
            let truth = draw(self.seed, index, number, model, 0.0);
            let mut rgb = clean.clone();
            distort(&mut rgb, 3, &truth);
            let shifted = (*width, *height, rgb);
            let tried = tried(corrector, &shifted, Some(clean), model, least)?;
            for (trials, (shift, delta_e, _)) in found.shifted.iter_mut().zip(tried) {
                trials.push(Trial { truth, found: shift, delta_e });
            }
        }
        let tried = tried(corrector, &given, Some(clean), model, least)?;
        for (trials, (_, delta_e, touched)) in found.clean.iter_mut().zip(tried) {
            trials.push(CleanTrial { touched, delta_e: delta_e.map_or(0.0, |[_, after]| after) });
        }
        Ok(Some(found))
    }
}

/// An estimate, Delta E before and after, and whether it was acted on.
type Tried = (Shift, Option<[f64; 2]>, bool);

/// What each method makes of a photo.
fn tried(
    corrector: &mut Corrector,
    (width, height, rgb): &(u32, u32, Vec<u8>),
    clean: Option<&[u8]>,
    model: ShiftModel,
    least: f64,
) -> anyhow::Result<Vec<Tried>> {
    let view = View::of_rgb(rgb, *width, *height, None)?;
    let width = *width as usize;
    let delta_e = |other: &[u8]| mean_delta_e(pairs(clean.unwrap_or_default(), other, width));
    let before = delta_e(rgb);
    let mut found = Vec::new();
    for (_, method) in METHODS {
        let shift = match method {
            Some(method) => corrector.estimate(&view, method)?,
            None => model.none(),
        };
        let touched = method.is_some() && shift.size() >= least;
        let after = if touched && clean.is_some() {
            let mut undone = rgb.clone();
            Undo::new(&shift).apply(&mut undone, 3);
            delta_e(&undone)
        } else {
            before
        };
        found.push((shift, before.zip(after).map(|(before, after)| [before, after]), touched));
    }
    Ok(found)
}

/// Pixels of both at every third place of every third row.
fn pairs<'a>(
    one: &'a [u8],
    other: &'a [u8],
    width: usize,
) -> impl Iterator<Item = ([u8; 3], [u8; 3])> + 'a {
    let rows = one.as_chunks().0.chunks(width.max(1)).zip(other.as_chunks().0.chunks(width.max(1)));
    let rows = rows.step_by(DELTA_E_STEP);
    rows.flat_map(|(one, other)| {
        one.iter().copied().zip(other.iter().copied()).step_by(DELTA_E_STEP)
    })
}

fn report(
    results: &[(&str, ColourFigures)],
    model: &ColourModel,
    photos: usize,
    trials: usize,
    least: f64,
) -> anyhow::Result<Value> {
    let mut all = Map::new();
    if let Some((_, figures)) = results.first()
        && let Value::Object(fields) = serde_json::to_value(figures)?
    {
        all.extend(fields);
    }
    let others = results
        .iter()
        .skip(1)
        .map(|(name, figures)| Ok(((*name).to_owned(), serde_json::to_value(figures)?)));
    all.insert("baselines".to_owned(), others.collect::<serde_json::Result<Map<_, _>>>()?.into());
    let rest = json!({ "photos": photos, "trials": trials, "min_shift": least,
        "model": *model.digest, "kind": model.shift.text() });
    if let Value::Object(fields) = rest {
        all.extend(fields);
    }
    Ok(all.into())
}

fn table(
    results: &[(&str, ColourFigures)],
    model: &ColourModel,
    photos: usize,
    trials: usize,
    grey: usize,
    least: f64,
) -> String {
    let is_gain = model.shift == ShiftModel::Gain;
    let digits = if is_gain { 3 } else { 2 };
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let mut lines = vec![
        format!(
            "{photos} photos, {trials} of them shifted ({}), {grey} without colour",
            model.shift.text()
        ),
        format!(
            "{:16} {:>7} {:>7} {:>7} {:>7} {:>7}   {:>8} {:>8}   {:>8} {:>8}",
            "RMSE",
            "red",
            "green",
            "blue",
            "all",
            "chroma",
            "dE00 was",
            "dE00 is",
            "clean dE",
            "touched"
        ),
    ];
    for (name, figures) in results {
        let rmse = figures.rmse;
        let touched =
            figures.clean_touched.map_or("-".to_owned(), |part| format!("{:.1} %", 100.0 * part));
        lines.push(format!(
            "{name:16} {:7.digits$} {:7.digits$} {:7.digits$} {:7.digits$} {:7.digits$}   {:>8} {:>8}   {:>8} {:>8}",
            rmse.r, rmse.g, rmse.b, rmse.all, rmse.chroma,
            number(figures.delta_e_before), number(figures.delta_e_after),
            number(figures.clean_delta_e), touched,
        ));
    }
    if is_gain {
        lines.push(format!(
            "{:16} {:>7} {:>7} {:>7} {:>7} {:>7}",
            "angle in degrees", "mean", "median", "trimean", "best25", "worst25"
        ));
        for (name, figures) in results {
            let Some(angle) = figures.angular_error else { continue };
            lines.push(format!(
                "{name:16} {:7.2} {:7.2} {:7.2} {:7.2} {:7.2}",
                angle.mean, angle.median, angle.trimean, angle.best_25, angle.worst_25
            ));
        }
    }
    lines.push(format!("shifts under {least:.1} were left alone in the Delta E figures"));
    lines.join("\n")
}
