//! `hearken shift`: photos with shifted colours and their table, out of clean ones.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::photos::{Kind, PhotosArgs, read};
use super::{Outcome, output};
use crate::chart::{Tile, montage};
use crate::colour::{Shift, ShiftModel, distort};
use crate::data::columns::to_csv;
use crate::picture::{Format, Photo, Samples, View, encode_rgb};

/// Photos in the montage at most.
const SHOWN: usize = 24;

#[derive(Args)]
pub struct ShiftCommand {
    #[command(flatten)]
    photos: PhotosArgs,
    /// Folder for the shifted photos (PNG), their table `shifts.csv` and `montage.png`
    #[arg(long, value_name = "DIR")]
    out_dir: PathBuf,
    /// What is done to the colours
    #[arg(long, value_enum, default_value_t = Kind::Offset)]
    kind: Kind,
    /// Shifted photos out of each clean one
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
    /// The part of the photos that stays unshifted, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "PART", value_parser = part)]
    unshifted: f64,
    /// The same seed and photos give the same shifts
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
}

/// A shifted photo, for the table and the montage.
struct Made {
    name: String,
    shift: Shift,
    clean: PathBuf,
    view: View,
}

impl ShiftCommand {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let listed = self.photos.list()?;
        let out = &self.out_dir;
        std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
        let (table, montage_path) = (out.join("shifts.csv"), out.join("montage.png"));
        for path in [&table, &montage_path] {
            output::check_free(path, self.force)?;
        }
        let mut outcome = Outcome::Done;
        let mut made: Vec<Made> = Vec::new();
        let bar = output::progress(listed.len());
        for (index, photo) in listed.iter().enumerate() {
            match self.of_one(&photo.path, index) {
                Ok(photos) => made.extend(photos),
                Err(error) => {
                    bar.suspend(|| output::complain(&format!("{error:#}")));
                    outcome = Outcome::SomeFailed;
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if made.is_empty() {
            bail!("no photo could be shifted");
        }
        output::write_file(&table, &rows(&made), self.force)?;
        output::write_file(&montage_path, &picture(&made)?, self.force)?;
        output::write_line(&format!("{}: {} photos", table.display(), made.len()))?;
        Ok(outcome)
    }

    /// The shifted photos out of one clean one.
    fn of_one(&self, path: &Path, index: usize) -> anyhow::Result<Vec<Made>> {
        let clean = read(path)?;
        if clean.is_grey() {
            bail!("{}: it has no colours", path.display());
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut made = Vec::new();
        for number in 1..=self.count {
            let shift = draw(self.seed, index, number, self.kind.model(), self.unshifted);
            let mut photo = clean.clone();
            let channels = photo.channels;
            match &mut photo.samples {
                Samples::Eight(samples) => distort(samples, channels, &shift),
                Samples::Sixteen(samples) => distort(samples, channels, &shift),
            }
            photo.format = Format::Png;
            let name = format!("{index:05}_{stem}_{number}.png");
            let shifted = self.out_dir.join(&name);
            output::write_file(&shifted, &without_notes(&photo).write(0)?, self.force)?;
            let view = View::of(&photo)?;
            made.push(Made { name, shift, clean: absolute(path), view });
        }
        Ok(made)
    }
}

/// The shift of a photo's number, whatever else is drawn.
pub fn draw(seed: u64, index: usize, number: u32, model: ShiftModel, unshifted: f64) -> Shift {
    let own = (index as u64) << 20 | u64::from(number);
    let mut random = fastrand::Rng::with_seed(seed ^ own.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let drawn = model.drawn([random.f64(), random.f64(), random.f64()]);
    if random.f64() < unshifted { model.none() } else { drawn }
}

/// A photo that stands for itself: nothing beside its pixels, and upright.
fn without_notes(photo: &Photo) -> Photo {
    match (&photo.samples, photo.channels) {
        (Samples::Eight(_), 3) => {
            let (width, height, rgb) = photo.rgb8();
            Photo::from_rgb8(photo.format, width, height, rgb)
        }
        _ => photo.clone(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn rows(made: &[Made]) -> Vec<u8> {
    let header = ["file", "R", "G", "B", "clean"].map(str::to_owned);
    let rows = made.iter().map(|photo| {
        let [r, g, b] = photo.shift.shown().map(|value| format!("{:.4}", value + 0.0));
        [photo.name.clone(), r, g, b, photo.clean.display().to_string()]
    });
    let records: Vec<[String; 5]> = [header].into_iter().chain(rows).collect();
    to_csv(records.iter().map(|record| record.iter().map(String::as_str)))
}

fn picture(made: &[Made]) -> anyhow::Result<Vec<u8>> {
    let tiles: Vec<Tile> = made
        .iter()
        .take(SHOWN)
        .map(|photo| {
            let digits = if photo.shift.model == ShiftModel::Offset { 0 } else { 2 };
            let [r, g, b] = photo.shift.shown().map(|value| format!("{:+.digits$}", value));
            Tile { side: View::SIDE, rgb: photo.view.pixels(), words: format!("{r} {g} {b}") }
        })
        .collect();
    let picture =
        montage("Shifted photos: red, green, blue", &tiles).map_err(anyhow::Error::msg)?;
    Ok(encode_rgb(picture.width, picture.height, &picture.rgb)?)
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err("allowed is a number of 0 to 1".to_owned()),
    }
}
