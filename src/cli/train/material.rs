//! What a training is given: labelled clips, negatives and backgrounds, checked and in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::{Usage, output};
use crate::data::files::audio_files;
use crate::data::{Clip, Dataset};
use crate::spectrogram::Recipe;
use crate::train::adapt::OwnClip;
use crate::train::library::{Library, Source};
use crate::train::noises::noises;
use crate::train::sounds::{Labelled, SoundSet};
use crate::train::split::recording;

/// Class names that are shown when something is wrong with them.
const NAMES_SHOWN: usize = 10;

#[derive(Args)]
pub struct MaterialArgs {
    /// Labelled clips: a CSV (file,label[,fold][,start,end]) or a folder for each class
    pub data: PathBuf,
    /// Folder that the CSV's files are relative to; default: its own
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Recordings to mix in as background; none of the sounds may be in them
    #[arg(long, value_name = "DIR")]
    background: Option<PathBuf>,
    /// Clips of other sounds, which must not be taken for any of these
    #[arg(long, value_name = "DIR")]
    negatives: Option<PathBuf>,
    /// Learn from clips of these folds only (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "N")]
    folds: Vec<u32>,
    /// Hold clips of these folds back to validate by; default: a part that is drawn
    #[arg(long, value_delimiter = ',', value_name = "N")]
    validate: Vec<u32>,
    /// Learn from all clips and hold none back
    #[arg(long, conflicts_with = "validate")]
    pub all: bool,
}

/// Clips in memory, by index.
pub struct Material {
    pub classes: Vec<String>,
    pub set: SoundSet,
    /// The labelled ones first, then negatives and backgrounds.
    pub clips: Vec<OwnClip>,
    /// How many of them come with the data.
    pub labelled: usize,
}

/// A clip before it is loaded.
struct Found {
    path: PathBuf,
    span_s: Option<(f64, f64)>,
    clip: OwnClip,
}

impl MaterialArgs {
    /// Finds, checks and loads everything, the noises that every microphone hears included. The
    /// backgrounds are negatives, too.
    pub fn load(&self, recipe: &Recipe) -> anyhow::Result<Material> {
        let dataset = Dataset::read(&self.data, self.root.as_deref())?;
        let mut found = self.chosen(dataset.clips)?;
        check_counts(&self.data, &dataset.classes, &found)?;
        let labelled = found.len();
        found.extend(others(self.negatives.as_deref())?);
        let backdrops = others(self.background.as_deref())?;
        let first_background = found.len();
        found.extend(backdrops);
        let bar = output::steps(found.len(), "reading clips");
        let sources: Vec<Source<'_>> =
            found.iter().map(|found| (found.path.as_path(), found.span_s)).collect();
        let mut library = Library::load(&sources, recipe.sample_rate_hz, &|| bar.inc(1))
            .with_context(|| format!("{}", self.data.display()))?;
        bar.finish_and_clear();
        let mut clips: Vec<OwnClip> = found.into_iter().map(|found| found.clip).collect();
        let window = recipe.columns * recipe.hop;
        library.append(Library::of(noises(recipe.sample_rate_hz, window, 0)));
        clips.extend((clips.len()..library.len()).map(|n| negative(format!("noise {n}"))));
        let backgrounds = backgrounds(&clips, first_background);
        let set = SoundSet {
            recipe: recipe.clone(),
            backgrounds,
            sounds: Arc::new(library),
            outputs: dataset.classes.len(),
        };
        Ok(Material { classes: dataset.classes, set, clips, labelled })
    }

    /// The clips of the folds that are asked for.
    fn chosen(&self, clips: Vec<Clip>) -> anyhow::Result<Vec<Found>> {
        let by_fold = !(self.folds.is_empty() && self.validate.is_empty());
        if let Some(fold) = self.folds.iter().find(|fold| self.validate.contains(fold)) {
            let what = format!("fold {fold} can't be in both --folds and --validate");
            return Err(Usage(what).into());
        }
        let mut found = Vec::new();
        for clip in clips {
            let held_back = match clip.fold {
                _ if !by_fold => None,
                Some(fold) if self.validate.contains(&fold) => Some(true),
                Some(fold) if !self.folds.is_empty() && !self.folds.contains(&fold) => continue,
                Some(_) if self.validate.is_empty() => None,
                Some(_) => Some(false),
                None => bail!(
                    "{}: {} has no fold, which --folds and --validate ask for",
                    self.data.display(),
                    clip.path.display()
                ),
            };
            let recording = recording(&clip.path);
            let own = OwnClip { classes: clip.labels, maybe: clip.maybe, recording, held_back };
            found.push(Found { path: clip.path, span_s: clip.span_s, clip: own });
        }
        Ok(found)
    }
}

/// What may be mixed in: the backgrounds and noises, and of the labelled clips those that are of no
/// class, or of which it isn't quite known.
fn backgrounds(clips: &[OwnClip], first_background: usize) -> Arc<[Labelled]> {
    let clips = clips.iter().enumerate().filter(|(sound, clip)| {
        let unclear = clip.classes.is_empty() || !clip.maybe.is_empty();
        *sound >= first_background || (unclear && clip.held_back != Some(true))
    });
    let labelled = clips.map(|(sound, clip)| {
        let (classes, maybe) = (clip.classes.clone(), clip.maybe.clone());
        Labelled { sound, classes, maybe }
    });
    labelled.collect()
}

/// Every class needs a clip to learn from and another one to be judged by.
fn check_counts(data: &Path, classes: &[String], found: &[Found]) -> anyhow::Result<()> {
    let data = data.display();
    if classes.is_empty() {
        bail!("{data}: no clip has a label");
    }
    let lacking = |(class, _): &(usize, &String)| {
        let own = || found.iter().filter(|found| found.clip.classes.contains(class));
        let told = found.iter().any(|found| found.clip.held_back.is_some());
        let both = own().any(|found| found.clip.held_back == Some(false))
            && own().any(|found| found.clip.held_back == Some(true));
        if told { !both } else { own().count() < 2 }
    };
    let lacking: Vec<&str> =
        classes.iter().enumerate().filter(lacking).map(|(_, name)| name.as_str()).collect();
    let Some(more) = lacking.len().checked_sub(NAMES_SHOWN) else {
        if lacking.is_empty() {
            return Ok(());
        }
        bail!("{data}: {}; {LACKING}", lacking.join(", "));
    };
    let shown: Vec<&str> = lacking.into_iter().take(NAMES_SHOWN).collect();
    bail!("{data}: {} and {more} more classes; {LACKING}", shown.join(", "))
}

const LACKING: &str = "a class needs at least two clips, one to learn from and one to judge by, \
                       and 20 are better";

/// The audio files of a folder, as negatives.
fn others(folder: Option<&Path>) -> anyhow::Result<Vec<Found>> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let found = |path: PathBuf| {
        let clip = negative(recording(&path));
        Found { path, span_s: None, clip }
    };
    Ok(audio_files(folder)?.into_iter().map(found).collect())
}

fn negative(recording: String) -> OwnClip {
    OwnClip { classes: Vec::new(), maybe: Vec::new(), recording, held_back: None }
}
