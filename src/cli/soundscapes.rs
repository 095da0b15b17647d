//! Soundscapes and backgrounds from the command line: read, mixed, heard by a model. What `eval
//! stream` measures on and `calibrate` chooses by.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::classify::decibels;
use super::folds::FoldModels;
use super::hear_file::Plan;
use super::parallel::in_parallel;
use super::{Usage, output};
use crate::capture::decode::{AudioFile, DecodeError};
use crate::data::files::audio_files;
use crate::data::{AudioError, Clip, Dataset, load};
use crate::decide::Rules;
use crate::evaluate::annotations::to_table;
use crate::evaluate::soundscape::{Material, Rendered, SCENE_S, Scene, Settings, plan, render};
use crate::evaluate::wav::to_wav;
use crate::evaluate::{Listener, Trial, TrueEvent};
use crate::hear::Judge;
use crate::spectrogram::{ChannelChoice, InputFormat};

#[derive(Args, Clone)]
pub struct SoundscapeArgs {
    /// Clips to lay into the backgrounds: a CSV (file,label[,fold][,start,end]) or a folder for
    /// each class
    #[arg(long, value_name = "CSV|DIR", requires = "background")]
    clips: Option<PathBuf>,
    /// Folder that the CSV's files are relative to; default: its own
    #[arg(long, value_name = "DIR", requires = "clips")]
    root: Option<PathBuf>,
    /// Use clips of these folds only (comma-separated), and no backgrounds of others
    #[arg(long, value_delimiter = ',', value_name = "N", requires = "clips")]
    folds: Vec<u32>,
    /// Cross-validation: a model file that hears each of the folds, named with {fold}, such as
    /// cv/fold{fold}.onnx
    #[arg(long, value_name = "PATTERN", requires = "folds")]
    models: Option<FoldModels>,
    /// Folder of long recordings to lay the clips into; they are also heard by themselves
    #[arg(long, value_name = "DIR")]
    background: Option<PathBuf>,
    /// CSV (file,label[,fold]) of the classes that sound in some of the backgrounds, joined by `|`;
    /// one of no fold is heard with every fold
    #[arg(long, value_name = "CSV", requires = "background")]
    background_classes: Option<PathBuf>,
    /// Level of a sound over its background in dB; several make the same soundscapes for each
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "6",
        value_name = "DB",
        allow_negative_numbers = true,
        value_parser = decibels
    )]
    snr: Vec<f32>,
    /// Hours of soundscapes for each level
    #[arg(long, default_value_t = 1.0, value_name = "HOURS", value_parser = hours)]
    hours: f64,
    /// Sounds a minute
    #[arg(long, default_value_t = 4, value_name = "N")]
    events_per_minute: u32,
    /// Sounds of other classes a minute, besides
    #[arg(long, default_value_t = 0, value_name = "N")]
    distractors_per_minute: u32,
    /// Another number makes other soundscapes
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Soundscapes heard at the same time; default: one a processor
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
}

/// What was heard.
#[derive(Default)]
pub struct Heard {
    /// Soundscapes by their signal-to-noise ratio.
    pub scenes: Vec<(f32, Vec<Trial>)>,
    /// Every background once, as it is.
    pub backgrounds: Vec<Trial>,
    /// Annotated recordings.
    pub recordings: Vec<Trial>,
}

/// Where soundscapes are written, and whether over others.
pub struct Save<'a> {
    pub folder: &'a Path,
    pub force: bool,
}

/// A recording without, or with some of, the classes that are looked for.
struct Background {
    path: PathBuf,
    /// Model indices.
    classes: Vec<usize>,
}

/// The sounds of a run, read from tables.
struct Studio<'a> {
    plan: &'a Plan,
    /// Model indices of the classes that have clips.
    targets: Vec<usize>,
    clips: Vec<Clip>,
    backgrounds: Vec<Background>,
    scenes: Vec<Scene>,
}

impl SoundscapeArgs {
    /// Whether there is anything to hear.
    pub fn given(&self) -> bool {
        self.background.is_some()
    }

    pub fn has_clips(&self) -> bool {
        self.clips.is_some()
    }

    /// Makes the soundscapes and hears them, and the backgrounds. `targets` are the model's
    /// classes to look for; those without a clip are only looked for where they are not.
    pub fn hear(
        &self,
        plan: &Plan,
        targets: &[usize],
        save: Option<&Save<'_>>,
    ) -> anyhow::Result<Heard> {
        let Some(models) = &self.models else { return self.hear_all(plan, targets, save) };
        if save.is_some() {
            let what = "soundscapes can't be saved with --models: each fold has its own";
            return Err(Usage(what.to_owned()).into());
        }
        let mut heard = Heard::default();
        for &fold in &self.folds {
            let model = models.load(fold, &plan.model)?;
            let hours = self.hours / self.folds.len() as f64;
            let own = Self { folds: vec![fold], hours, models: None, ..self.clone() };
            heard.join(own.hear_all(&Plan { model, ..plan.clone() }, targets, None)?);
        }
        Ok(heard)
    }

    /// By one model.
    fn hear_all(
        &self,
        plan: &Plan,
        targets: &[usize],
        save: Option<&Save<'_>>,
    ) -> anyhow::Result<Heard> {
        let studio = self.studio(plan, targets)?;
        let (scenes, levels) = (studio.scenes.len(), &self.snr);
        let made = in_parallel(
            self.jobs,
            scenes * levels.len(),
            || Ok(plan.model.judge()?),
            |index, judge| {
                let (scene, level) = (index % scenes, index / scenes);
                let snr_db = levels.get(level).copied().unwrap_or_default();
                studio.hear_scene(scene, snr_db, save, judge)
            },
        )?;
        if let Some(save) = save {
            save.table(&made, &plan.model.metadata.outputs)?;
        }
        let backgrounds = in_parallel(
            self.jobs,
            studio.backgrounds.len(),
            || Ok(plan.model.judge()?),
            |index, judge| {
                let background = studio.backgrounds.get(index).context("no such background")?;
                let (trial, _) = hear_whole(plan, &background.path, judge)?;
                Ok(Trial { unknown: background.classes.clone(), ..trial })
            },
        )?;
        let mut made = made.into_iter();
        let by_level = levels.iter().map(|&snr_db| (snr_db, made.by_ref().take(scenes).collect()));
        let by_level = if scenes > 0 { by_level.collect() } else { Vec::new() };
        Ok(Heard { scenes: by_level, backgrounds, recordings: Vec::new() })
    }

    fn studio<'a>(&self, plan: &'a Plan, targets: &[usize]) -> anyhow::Result<Studio<'a>> {
        let names = &plan.model.metadata.outputs;
        let backgrounds = self.backgrounds(names)?;
        let none = Studio { plan, targets: vec![], clips: vec![], backgrounds, scenes: vec![] };
        let Some(clips) = &self.clips else { return Ok(none) };
        let dataset = Dataset::read(clips, self.root.as_deref())?;
        let model_index = |label: &usize| {
            let name = dataset.classes.get(*label)?;
            names.iter().position(|known| known == name)
        };
        let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
        let mut distractors = Vec::new();
        let (folds, wanted) = (&self.folds, |index: &usize| targets.contains(index));
        let in_folds =
            |clip: &Clip| folds.is_empty() || clip.fold.is_some_and(|fold| folds.contains(&fold));
        for (number, clip) in dataset.clips.iter().enumerate().filter(|(_, clip)| in_folds(clip)) {
            // What may be in a clip can't be told from a false alarm.
            if clip.maybe.iter().filter_map(model_index).any(|class| wanted(&class)) {
                continue;
            }
            let known: Vec<usize> = clip.labels.iter().filter_map(model_index).collect();
            match known.as_slice() {
                [class] if clip.labels.len() == 1 && wanted(class) => {
                    by_class.iter_mut().skip(*class).take(1).for_each(|clips| clips.push(number));
                }
                known if known.iter().any(wanted) => {}
                _ => distractors.push(number),
            }
        }
        let has_clips = |&class: &usize| by_class.get(class).is_some_and(|c| !c.is_empty());
        let targets: Vec<usize> = targets.iter().copied().filter(has_clips).collect();
        if targets.is_empty() {
            let folds = if folds.is_empty() { "" } else { " in these folds" };
            let what = format!("{} has no clip{folds} of a class to look for", clips.display());
            return Err(Usage(what).into());
        }
        let place = |class: &usize| targets.iter().position(|target| target == class);
        let held = |background: &Background| background.classes.iter().filter_map(place).collect();
        let material = Material {
            clips: targets.iter().filter_map(|&class| by_class.get(class).cloned()).collect(),
            distractors,
            backgrounds: none.backgrounds.iter().map(held).collect(),
        };
        let settings = Settings {
            scenes: (self.hours * 3_600.0 / SCENE_S).ceil() as usize,
            events_per_minute: self.events_per_minute,
            distractors_per_minute: self.distractors_per_minute,
            window_s: plan.model.recipe.window_s(),
            seed: self.seed,
        };
        let scenes = plan_scenes(&material, &settings)?;
        Ok(Studio { targets, clips: dataset.clips, scenes, ..none })
    }

    fn backgrounds(&self, names: &[String]) -> anyhow::Result<Vec<Background>> {
        let Some(folder) = &self.background else { return Ok(Vec::new()) };
        let table = self.background_classes.as_ref();
        let table = table.map(|table| Dataset::read(table, Some(folder))).transpose()?;
        let (classes, rows) = table.map_or_else(Default::default, |t| (t.classes, t.clips));
        let known = |label: &usize| {
            let name = classes.get(*label)?;
            names.iter().position(|known| known == name)
        };
        let background = |path: PathBuf| {
            let own: Vec<&Clip> = rows.iter().filter(|row| row.path == path).collect();
            let labels = own.iter().flat_map(|row| row.labels.iter().chain(&row.maybe));
            let classes = labels.filter_map(known).collect();
            let is_wanted = |fold| self.folds.is_empty() || self.folds.contains(&fold);
            let heard = own.iter().filter_map(|row| row.fold).all(is_wanted);
            heard.then_some(Background { path, classes })
        };
        Ok(audio_files(folder)?.into_iter().filter_map(background).collect())
    }
}

impl Heard {
    /// Adds what was heard at the same levels.
    fn join(&mut self, other: Self) {
        if self.scenes.is_empty() {
            self.scenes = other.scenes;
        } else {
            for ((_, own), (_, others)) in self.scenes.iter_mut().zip(other.scenes) {
                own.extend(others);
            }
        }
        self.backgrounds.extend(other.backgrounds);
    }
}

fn plan_scenes(material: &Material, settings: &Settings) -> Result<Vec<Scene>, Usage> {
    plan(material, settings).map_err(|error| Usage(error.to_string()))
}

impl Studio<'_> {
    fn hear_scene(
        &self,
        index: usize,
        snr_db: f32,
        save: Option<&Save<'_>>,
        judge: &mut Judge,
    ) -> anyhow::Result<Trial> {
        let scene = self.scenes.get(index).context("no such soundscape")?;
        let background = self.backgrounds.get(scene.background).context("no such background")?;
        let Plan { model, hop_s, channel, .. } = self.plan;
        let rate_hz = model.recipe.sample_rate_hz;
        let bed = load_background(&background.path, rate_hz, *channel)?;
        let clips = scene.placements.iter().filter_map(|placed| self.clips.get(placed.clip));
        let clips: Result<Vec<Vec<f32>>, _> =
            clips.map(|clip| load(&clip.path, clip.span_s, rate_hz, *channel)).collect();
        let Rendered { samples, truth } = render(scene, snr_db, rate_hz, &bed, &clips?);
        let in_model = |event: TrueEvent| {
            self.targets.get(event.class).map(|&class| TrueEvent { class, ..event })
        };
        let name = format!("soundscape-{:04}-{snr_db}dB.wav", index + 1);
        if let Some(save) = save {
            let wav = to_wav(&samples, rate_hz);
            output::write_file(&save.folder.join(&name), &wav, save.force)?;
        }
        let format = InputFormat { sample_rate_hz: rate_hz, channels: 1, choice: *channel };
        let mut listener = Listener::new(model, judge, format, *hop_s)?;
        listener.push(&samples);
        Ok(Trial {
            name,
            listened: listener.finish()?,
            truth: truth.into_iter().filter_map(in_model).collect(),
            unknown: background.classes.clone(),
        })
    }
}

impl Save<'_> {
    fn table(&self, trials: &[Trial], classes: &[String]) -> anyhow::Result<()> {
        let recordings: Vec<_> =
            trials.iter().map(|trial| (trial.name.clone(), trial.truth.clone())).collect();
        let table = to_table(&recordings, classes);
        output::write_file(&self.folder.join("events.csv"), &table, self.force)
    }
}

/// Of a longer background the rest is not mixed: a soundscape needs a minute of it.
const BED_S_MAX: f64 = 1_800.0;

/// A background's samples, up to [`BED_S_MAX`] and as far as they can be read: it ends anywhere, so a
/// cut-off end is no loss.
fn load_background(
    path: &Path,
    rate_hz: u32,
    channel: ChannelChoice,
) -> Result<Vec<f32>, AudioError> {
    match load(path, Some((0.0, BED_S_MAX)), rate_hz, channel) {
        Err(AudioError::Decode(DecodeError::Truncated { frames, .. })) if frames > 0 => {
            let end_s = frames as f64 / f64::from(AudioFile::open(path)?.sample_rate_hz());
            load(path, Some((0.0, end_s)), rate_hz, channel)
        }
        loaded => loaded,
    }
}

/// Model indices of the classes that the rules report.
pub fn reported(rules: &Rules) -> Vec<usize> {
    let reported = rules.by_class.iter().enumerate().filter(|(_, rule)| rule.is_some());
    reported.map(|(class, _)| class).collect()
}

/// Hears a whole recording, as far as it can be read, in which nothing is known to sound.
pub fn hear_whole(
    plan: &Plan,
    path: &Path,
    judge: &mut Judge,
) -> anyhow::Result<(Trial, Option<DecodeError>)> {
    let (listened, incomplete) = plan.listen(path, judge)?;
    let name = path.display().to_string();
    Ok((Trial { name, listened, truth: Vec::new(), unknown: Vec::new() }, incomplete))
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1_000.0 => Ok(value),
        _ => Err("allowed is a number over 0, up to 1000".to_owned()),
    }
}
