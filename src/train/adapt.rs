//! A network adapted to a person's own sounds: embeddings of their clips, a last layer fitted to
//! them, and its scores and thresholds by clips that were held back.

use std::thread;

use super::augment::Augmentation;
use super::embed::{EmbedError, Embedding, embed};
use super::examples::Examples as _;
use super::head::{Embedded, FittedHead, HeadEpoch, HeadSettings, fit, scores};
use super::sounds::{Labelled, SoundExamples, SoundSet};
use super::split::deal;
use super::threshold::{Threshold, choose};
use crate::network::{Headless, Linear};

/// Parts of the cross-validation.
const FOLDS: usize = 4;
/// Changed copies of the clips with a sound and of those without, aimed at; and how many of one
/// clip at least and at most.
const SOUND_COPIES: (usize, usize, usize) = (1_200, 4, 16);
const NEGATIVE_COPIES: (usize, usize, usize) = (400, 1, 4);
/// The fewest epochs of the last fit, whatever the parts of the cross-validation took.
const EPOCHS_MIN: u32 = 5;

/// A clip of the set; its place is that of its sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClip {
    /// Classes of which it isn't known: a last layer does not learn from such a clip.
    pub maybe: Vec<usize>,
    /// None in a negative.
    pub classes: Vec<usize>,
    /// Clips of one recording are learnt from together or held back together.
    pub recording: String,
    /// Whether it is held back; `None` leaves it to the split.
    pub held_back: Option<bool>,
}

/// What is to be learnt, and from what.
pub struct Task<'a> {
    pub headless: &'a Headless,
    pub set: SoundSet,
    pub clips: &'a [OwnClip],
    /// Embeddings of sounds that are none of the classes.
    pub memory: &'a [Vec<f32>],
    /// The network's own classes stay beside the new ones.
    pub keep_classes: bool,
    pub settings: HeadSettings,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// The rows of the new classes.
    pub head: Linear,
    pub epochs: u32,
    /// How the first fit with clips held back went.
    pub history: Vec<HeadEpoch>,
    /// Every clip that was held back, judged by a layer that had not learnt from it.
    pub judged: Vec<Judged>,
    /// By class, chosen on what was held back.
    pub thresholds: Vec<Threshold>,
}

/// A clip's scores, averaged over its windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub clip: usize,
    pub scores: Vec<f32>,
}

/// Examples as they are, and changed ones of sounds and of negatives with their number of copies.
struct Sets {
    plain: SoundExamples,
    changed: [(SoundExamples, u32); 2],
}

/// Embeddings, and where they come from.
struct Table {
    embedded: Embedded,
    rows: Vec<Row>,
}

struct Row {
    /// Its place among the clips; behind them come those of the memory.
    clip: usize,
    /// A whole window as it is.
    plain: bool,
}

impl Task<'_> {
    /// How often the network will run.
    pub fn runs(&self) -> usize {
        let sets = self.sets();
        let changed = sets.changed.iter().map(|(set, copies)| set.len() * *copies as usize);
        sets.plain.len() + changed.sum::<usize>()
    }

    /// Learns. If clips say whether they are held back, there is one fit, on the others, and it is
    /// the result. Else every clip is held back once, in a cross-validation, and the result is
    /// fitted to all of them for as long as was best there. `done` is called after each run of the
    /// network.
    pub fn learn(&self, done: &(dyn Fn() + Sync)) -> Result<Adapted, EmbedError> {
        let table = self.table(done)?;
        let (folds, held) = self.folds(&table);
        let fits: Vec<(Vec<usize>, FittedHead)> = thread::scope(|scope| {
            let workers: Vec<_> = held
                .iter()
                .map(|&held| {
                    let (table, folds) = (&table, &folds);
                    scope.spawn(move || self.fit_without(table, folds, held))
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
        });
        let mut by_row = vec![None; table.rows.len()];
        for (rows, fitted) in &fits {
            for &row in rows {
                let slot = by_row.iter_mut().skip(row).take(1);
                slot.for_each(|slot| *slot = Some(self.scores(&table, row, &fitted.head)));
            }
        }
        let (count, epochs) = (fits.len().max(1) as u32, fits.iter().map(|fit| fit.1.epochs));
        let epochs = (epochs.sum::<u32>() / count).max(EPOCHS_MIN);
        let first = fits.into_iter().next().map(|(_, fitted)| fitted);
        let history = first.as_ref().map_or_else(Vec::new, |fitted| fitted.history.clone());
        let fitted = match first {
            Some(fitted) if held.len() == 1 => fitted,
            _ => fit(&table.embedded, None, &HeadSettings { epochs, ..self.settings.clone() }),
        };
        Ok(Adapted {
            head: fitted.head,
            epochs: fitted.epochs,
            history,
            judged: judged(&table.rows, &by_row, self.clips.len()),
            thresholds: thresholds(&table.embedded, &by_row),
        })
    }

    fn sets(&self) -> Sets {
        let labelled = |negative: Option<bool>| -> Vec<Labelled> {
            let clips = self.clips.iter().enumerate().filter(|(_, clip)| clip.maybe.is_empty());
            let wanted =
                clips.filter(|(_, clip)| negative.is_none_or(|n| clip.classes.is_empty() == n));
            wanted
                .map(|(sound, clip)| Labelled {
                    sound,
                    classes: clip.classes.clone(),
                    ..Labelled::default()
                })
                .collect()
        };
        let changed = |negative, (aim, least, most): (usize, usize, usize)| {
            let clips = labelled(Some(negative));
            let copies = (aim / clips.len().max(1)).clamp(least, most) as u32;
            let seed = self.settings.seed;
            let set = self.set.clone();
            (SoundExamples::training(set, clips, Augmentation::gentle(), seed), copies)
        };
        Sets {
            plain: SoundExamples::validation(self.set.clone(), labelled(None)),
            changed: [changed(false, SOUND_COPIES), changed(true, NEGATIVE_COPIES)],
        }
    }

    fn table(&self, done: &(dyn Fn() + Sync)) -> Result<Table, EmbedError> {
        let (sets, embedder) = (self.sets(), self.headless.embedder()?);
        let (features, outputs) = (self.headless.head().features, self.set.outputs);
        let embedded = Embedded { features, outputs, ..Embedded::default() };
        let mut table = Table { embedded, rows: Vec::new() };
        let plain = [(&sets.plain, 1, true)];
        let changed = sets.changed.iter().map(|(set, copies)| (set, *copies, false));
        for (set, copies, plain) in plain.into_iter().chain(changed) {
            for embedding in embed(&embedder, set, 0..copies, done)? {
                let clip = set.sound_of(embedding.index).unwrap_or_default();
                self.add(&mut table, Row { clip, plain }, embedding);
            }
        }
        let remembered = self.memory.iter().filter(|values| values.len() == features);
        for (place, values) in remembered.enumerate() {
            let (values, targets) = (values.clone(), vec![0.0; outputs]);
            let row = Row { clip: self.clips.len() + place, plain: false };
            self.add(&mut table, row, Embedding { index: 0, values, targets });
        }
        Ok(table)
    }

    fn add(&self, table: &mut Table, row: Row, embedding: Embedding) {
        if self.keep_classes {
            table.embedded.fixed.extend(self.headless.head().apply(&embedding.values));
        }
        table.embedded.inputs.extend(embedding.values);
        table.embedded.targets.extend(embedding.targets);
        table.rows.push(row);
    }

    /// The fold of each clip and of each memory, and the folds that are held back one after the
    /// other.
    fn folds(&self, table: &Table) -> (Vec<usize>, Vec<usize>) {
        let remembered = table.rows.iter().filter(|row| row.clip >= self.clips.len()).count();
        let own =
            self.clips.iter().map(|clip| (clip.classes.first().copied(), clip.recording.clone()));
        let memory = (0..remembered).map(|n| (None, format!("memory {n}")));
        let dealt = deal(&own.chain(memory).collect::<Vec<_>>(), FOLDS, self.settings.seed);
        if self.clips.iter().all(|clip| clip.held_back.is_none()) {
            return (dealt, (0..FOLDS).collect());
        }
        // Whoever does not say learns, but for one part in four.
        let said = self.clips.iter().map(|clip| clip.held_back).chain(std::iter::repeat(None));
        let fold = |(said, dealt): (Option<bool>, usize)| usize::from(said.unwrap_or(dealt == 0));
        (said.zip(dealt).map(fold).collect(), vec![1])
    }

    /// A fit on everything but one fold, and the rows of that fold.
    fn fit_without(&self, table: &Table, folds: &[usize], held: usize) -> (Vec<usize>, FittedHead) {
        let is_held =
            |&row: &usize| table.rows.get(row).and_then(|row| folds.get(row.clip)) == Some(&held);
        let (held, rest): (Vec<usize>, Vec<usize>) = (0..table.rows.len()).partition(is_held);
        let (training, validation) = (table.embedded.pick(&rest), table.embedded.pick(&held));
        let validation = Some(&validation).filter(|examples| !examples.is_empty());
        let fitted = fit(&training, validation, &self.settings);
        (held, fitted)
    }

    fn scores(&self, table: &Table, row: usize, head: &Linear) -> Vec<f32> {
        let example = table.embedded.pick(&[row]);
        scores(self.settings.activation, &head.apply(&example.inputs), &example.fixed)
    }
}

/// The mean of the scores of each clip's plain windows.
fn judged(rows: &[Row], scores: &[Option<Vec<f32>>], clips: usize) -> Vec<Judged> {
    let mut sums: Vec<(usize, Vec<f32>)> = vec![(0, Vec::new()); clips];
    for (row, scores) in rows.iter().zip(scores) {
        let (true, Some(scores)) = (row.plain, scores) else { continue };
        let Some((count, sum)) = sums.get_mut(row.clip) else { continue };
        *count += 1;
        sum.resize(scores.len(), 0.0);
        sum.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
    }
    let known = sums.into_iter().enumerate().filter(|(_, (count, _))| *count > 0);
    let mean = |(clip, (count, sum)): (usize, (usize, Vec<f32>))| Judged {
        clip,
        scores: sum.into_iter().map(|sum| sum / count as f32).collect(),
    };
    known.map(mean).collect()
}

fn thresholds(embedded: &Embedded, scores: &[Option<Vec<f32>>]) -> Vec<Threshold> {
    let targets = embedded.targets.chunks_exact(embedded.outputs.max(1));
    let known: Vec<(&[f32], &Vec<f32>)> = targets
        .zip(scores)
        .filter_map(|(targets, scores)| Some((targets, scores.as_ref()?)))
        .collect();
    let threshold = |class: usize| {
        let of_class = |wanted: bool| -> Vec<f32> {
            let is_wanted = |targets: &[f32]| {
                let target = targets.get(class).filter(|target| !target.is_nan());
                target.is_some_and(|target| (*target >= 0.5) == wanted)
            };
            let wanted = known.iter().filter(|(targets, _)| is_wanted(targets));
            wanted.filter_map(|(_, scores)| scores.get(class).copied()).collect()
        };
        choose(&of_class(true), &of_class(false))
    };
    (0..embedded.outputs).map(threshold).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fastrand::Rng;

    use super::*;
    use crate::hear::{SoundModel, embedded_model};
    use crate::train::library::Library;
    use crate::train::noises::noises;

    /// Low and high beeps at random places in quiet noise, then noises as negatives.
    fn beeps(count: usize) -> (SoundSet, Vec<OwnClip>) {
        let mut random = Rng::with_seed(9);
        let (mut sounds, mut clips) = (Vec::new(), Vec::new());
        for n in 0..2 * count {
            let hz = if n % 2 == 0 { 440.0 } else { 2_500.0 } * (1.0 + 0.05 * random.f32());
            let start = random.usize(0..40_000);
            let sample = |t: usize| {
                let tone = (std::f32::consts::TAU * hz * t as f32 / 32_000.0).sin();
                let on = (start..start + 24_000).contains(&t);
                (random.f32() - 0.5) * 0.004 + if on { 0.2 * tone } else { 0.0 }
            };
            sounds.push((0..96_000).map(sample).collect());
            let recording = format!("beep {n}");
            clips.push(OwnClip {
                classes: vec![n % 2],
                maybe: Vec::new(),
                recording,
                held_back: None,
            });
        }
        for (n, noise) in noises(32_000, 160_000, 1).into_iter().enumerate().take(8) {
            sounds.push(noise);
            clips.push(OwnClip {
                maybe: Vec::new(),
                classes: vec![],
                recording: format!("noise {n}"),
                held_back: None,
            });
        }
        let recipe = SoundModel::load(None).unwrap().recipe;
        let sounds = Arc::new(Library::of(sounds));
        (SoundSet { recipe, sounds, backgrounds: Arc::new([]), outputs: 2 }, clips)
    }

    fn task<'a>(
        headless: &'a Headless,
        set: &SoundSet,
        clips: &'a [OwnClip],
        memory: &'a [Vec<f32>],
        keep_classes: bool,
    ) -> Task<'a> {
        let settings = HeadSettings::default();
        Task { headless, set: set.clone(), clips, memory, keep_classes, settings }
    }

    #[test]
    fn two_beeps_are_learnt_and_noise_is_neither() {
        let headless = Headless::from_onnx(embedded_model()).unwrap();
        let (set, mut clips) = beeps(6);
        let memory = vec![vec![0.0; headless.head().features], vec![0.0; 3]];
        let cross = task(&headless, &set, &clips, &memory, false).learn(&|| ()).unwrap();
        assert_eq!(cross.judged.len(), clips.len(), "every clip is held back once");
        for Judged { clip, scores } in &cross.judged {
            for (class, score) in scores.iter().enumerate() {
                let is_class = clips[*clip].classes.contains(&class);
                assert_eq!(*score >= cross.thresholds[class].on, is_class, "{clip}: {scores:?}");
            }
        }
        assert_eq!((cross.head.bias.len(), cross.thresholds.len()), (2, 2));
        // Held back as told: two of each, and nothing else but a part of the negatives.
        for (n, clip) in clips.iter_mut().enumerate().take(12) {
            clip.held_back = Some(n < 4);
        }
        let told = task(&headless, &set, &clips, &memory, true).learn(&|| ()).unwrap();
        let held: Vec<usize> = told.judged.iter().map(|judged| judged.clip).collect();
        assert_eq!(held[..4], [0, 1, 2, 3]);
        assert!(held[4..].iter().all(|clip| *clip >= 12) && held.len() < 10, "{held:?}");
    }
}
