//! `hearken correct`: photographs without the shift of their colours.

mod one;
mod places;
mod report;

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::one::{Ended, of_bytes, of_file};
use self::places::{Place, places};
use super::parallel::in_order;
use super::{Outcome, Usage, output};
use crate::colour::{Baseline, Shift, ShiftModel, Triple};
use crate::correct::{ColourModel, Method, Settings};
use crate::hear::read_model_file;

/// What stands for standard input.
const STDIN: &str = "-";
/// More than this is not read from it.
const STDIN_BYTES_MAX: u64 = 1 << 30;

#[derive(Args)]
pub struct Correct {
    /// Photos (JPEG, PNG, TIFF, WebP), folders, patterns such as 'holiday/*.jpg', or - for standard
    /// input, corrected to standard output
    #[arg(required = true, value_name = "IMAGE")]
    paths: Vec<PathBuf>,
    /// Who estimates the shift
    #[arg(long, value_enum, default_value_t = MethodName::Cnn, conflicts_with_all = ["shift", "gain"])]
    method: MethodName,
    /// A model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Undo this shift instead of an estimate: levels of 255 that were added
    #[arg(long, value_name = "R,G,B", value_parser = triple, allow_hyphen_values = true, conflicts_with = "gain")]
    shift: Option<Triple>,
    /// Undo these factors in linear light instead of an estimate
    #[arg(long, value_name = "R,G,B", value_parser = triple)]
    gain: Option<Triple>,
    /// The part of the shift to undo, 0 to 2
    #[arg(long, default_value_t = 1.0, value_name = "PART")]
    strength: f64,
    /// Undo the cast and leave the lightness of greys as it is
    #[arg(long)]
    preserve_luminance: bool,
    /// Leave a photo alone if its largest shift is under this: levels of 255, of a gain model
    /// percent; default: as the model was calibrated
    #[arg(long, value_name = "SIZE")]
    min_shift: Option<f64>,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// A line of JSON for each photo
    #[arg(long)]
    json: bool,
    /// Write a picture of before and after with histograms beside each result, too
    #[arg(long)]
    preview: bool,
    /// Folder for the results; default: beside each photo
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// What is added to the name of each photo
    #[arg(long, default_value = "_corrected", value_name = "TEXT", value_parser = suffix)]
    suffix: String,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    /// Quality of written JPEGs, 1 to 100
    #[arg(long, default_value_t = 92, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Photos that are worked on at the same time; default: as many as there are cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

/// Who estimates, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// The network
    Cnn,
    /// The mean is grey
    GrayWorld,
    /// The mean of sixth powers is grey
    ShadesOfGray,
    /// The brightest is grey
    MaxRgb,
    /// A linear regression on statistics of the channels
    Statistics,
}

/// How results are written.
struct Writing {
    quality: u8,
    force: bool,
    dry_run: bool,
    preview: bool,
}

impl Correct {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let settings = self.settings()?;
        let bytes = self.model.as_ref().map(|path| read_model_file(path)).transpose()?;
        let model = ColourModel::load(self.model.as_deref().zip(bytes.as_deref()))?;
        if self.paths.iter().any(|path| path.as_os_str() == STDIN) {
            return self.stdin(&model, &settings);
        }
        let (places, mut outcome) = places(&self.paths, self.out_dir.as_deref(), &self.suffix)?;
        let writing = self.writing();
        in_order(
            self.jobs,
            places.len(),
            || Ok(model.corrector()?),
            |index, corrector| {
                let place = places.get(index);
                Ok(place.map(|place| (place, of_file(place, corrector, &settings, &writing))))
            },
            |ended| {
                if let Some((place, ended)) = ended {
                    outcome = self.tell(place, ended, outcome)?;
                }
                Ok(())
            },
        )?;
        Ok(outcome)
    }

    /// Says what became of a photo.
    fn tell(
        &self,
        place: &Place,
        ended: anyhow::Result<Ended>,
        outcome: Outcome,
    ) -> anyhow::Result<Outcome> {
        let name = place.photo.display().to_string();
        match ended {
            Ok(ended) => {
                let dry_run = self.dry_run;
                let line = match self.json {
                    true => report::json(&name, &ended, dry_run).to_string(),
                    false => report::line(&name, &ended, dry_run),
                };
                output::write_line(&line)?;
                Ok(outcome)
            }
            Err(error) => {
                if self.json {
                    output::write_line(&report::json_error(&name, &error).to_string())?;
                }
                output::complain(&format!("{name}: {error:#}"));
                Ok(Outcome::SomeFailed)
            }
        }
    }

    fn stdin(&self, model: &ColourModel, settings: &Settings) -> anyhow::Result<Outcome> {
        if self.paths.len() > 1 || self.preview || self.out_dir.is_some() {
            let what = "- is one photo from standard input to standard output; other photos, \
                        --preview and --out-dir don't go with it";
            return Err(Usage(what.to_owned()).into());
        }
        if std::io::stdout().is_terminal() && !self.dry_run {
            let what = "standard output is a terminal; send it to a file, or give --dry-run";
            return Err(Usage(what.to_owned()).into());
        }
        let mut bytes = Vec::new();
        let input = std::io::stdin().lock();
        input.take(STDIN_BYTES_MAX).read_to_end(&mut bytes).context("standard input")?;
        let mut corrector = model.corrector()?;
        let (ended, photo) =
            of_bytes(&bytes, &mut corrector, settings, self.quality).context("standard input")?;
        let line = match self.json {
            true => report::json(STDIN, &ended, self.dry_run).to_string(),
            false => report::line(STDIN, &ended, self.dry_run),
        };
        output::complain(&line);
        // What is left alone goes on as it came.
        if self.dry_run { Ok(Outcome::Done) } else { output::write_all(&photo.unwrap_or(bytes)) }
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let given = self
            .shift
            .map(|values| Shift::from_shown(ShiftModel::Offset, values))
            .or(self.gain.map(|values| Shift::from_shown(ShiftModel::Gain, values)));
        if self.gain.is_some_and(|gain| gain.iter().any(|value| *value <= 0.0)) {
            return Err(Usage("--gain: factors are over 0".to_owned()).into());
        }
        if !(0.0..=2.0).contains(&self.strength) {
            let what = format!("--strength {}: allowed is 0 to 2", self.strength);
            return Err(Usage(what).into());
        }
        if self.min_shift.is_some_and(|least| !(0.0..=255.0).contains(&least)) {
            return Err(Usage("--min-shift: allowed is 0 to 255".to_owned()).into());
        }
        Ok(Settings {
            method: match self.method {
                MethodName::Cnn => Method::Network,
                MethodName::Statistics => Method::Statistics,
                MethodName::GrayWorld => Method::Baseline(Baseline::GrayWorld),
                MethodName::ShadesOfGray => Method::Baseline(Baseline::ShadesOfGray),
                MethodName::MaxRgb => Method::Baseline(Baseline::MaxRgb),
            },
            shift: given,
            strength: self.strength,
            preserve_luminance: self.preserve_luminance,
            min_shift: self.min_shift,
        })
    }

    fn writing(&self) -> Writing {
        let (quality, force) = (self.quality, self.force);
        Writing { quality, force, dry_run: self.dry_run, preview: self.preview }
    }
}

fn triple(text: &str) -> Result<Triple, String> {
    let wrong = || "allowed are three numbers of -255 to 255, such as 12,-30,4".to_owned();
    let values: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let triple: Triple = values.map_err(|_| wrong())?.try_into().map_err(|_| wrong())?;
    if triple.iter().all(|value: &f64| value.abs() <= 255.0) { Ok(triple) } else { Err(wrong()) }
}

fn suffix(text: &str) -> Result<String, String> {
    match text.contains(['/', '\\']) || text.chars().any(char::is_control) {
        true => Err("a suffix has no path in it".to_owned()),
        false => Ok(text.to_owned()),
    }
}
