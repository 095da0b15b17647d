//! Examples of sounds: samples out of memory, changed on purpose, and through the steps of the
//! live front end to images.

use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;

use super::augment::{Augmentation, beta, crop, mix_up};
use super::examples::{Batch, ExampleError, Examples};
use super::library::Library;
use crate::spectrogram::{Image, Recipe, WindowMaker};

/// Windows of a clip that are this much quieter than its loudest one may lie beside the sound,
/// and are not asked for it: 10 dB.
const QUIET_PART: f64 = 0.1;

/// What examples are made of.
#[derive(Clone)]
pub struct SoundSet {
    pub recipe: Recipe,
    pub sounds: Arc<Library>,
    /// Which of them to mix in, at random places. Of their classes it isn't known whether they
    /// are still heard in the mix.
    pub backgrounds: Arc<[Labelled]>,
    /// Classes the network tells apart.
    pub outputs: usize,
}

/// A sound of the set with its classes; none in a negative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labelled {
    pub sound: usize,
    pub classes: Vec<usize>,
    /// Classes of which it isn't known: their targets are NaN.
    pub maybe: Vec<usize>,
}

/// Examples of a [`SoundSet`].
pub struct SoundExamples {
    set: SoundSet,
    items: Vec<Item>,
    /// `None`: the windows as they are.
    augmentation: Option<Augmentation>,
    seed: u64,
    /// Front ends that no thread is using.
    makers: Mutex<Vec<WindowMaker>>,
}

struct Item {
    labelled: Labelled,
    /// First sample of the window; chosen anew each time while learning.
    start: usize,
}

/// An image with what is wanted for it.
#[derive(Debug, Clone, PartialEq)]
pub struct SoundExample {
    /// The pixels in the order of the network's rows.
    pub pixels: Vec<u8>,
    /// One value an output.
    pub targets: Vec<f32>,
}

impl SoundExamples {
    /// Examples to learn from: one for each sound and epoch, a random window of it, changed as
    /// `augmentation` says.
    pub fn training(
        set: SoundSet,
        labelled: Vec<Labelled>,
        augmentation: Augmentation,
        seed: u64,
    ) -> Self {
        let items = labelled.into_iter().map(|labelled| Item { labelled, start: 0 }).collect();
        Self { set, items, augmentation: Some(augmentation), seed, makers: Mutex::default() }
    }

    /// Examples to judge by: all windows of each sound, one after the other and as they are, the
    /// last one up to the sound's end. Of a sound with a class, windows that are 10 dB quieter
    /// than the loudest one are left out.
    pub fn validation(set: SoundSet, labelled: Vec<Labelled>) -> Self {
        let window = window_len(&set.recipe);
        let windows = |labelled: Labelled| {
            let samples = set.sounds.samples(labelled.sound);
            let starts = loud_windows(&samples, window, labelled.classes.is_empty());
            starts.into_iter().map(move |start| Item { labelled: labelled.clone(), start })
        };
        let items = labelled.into_iter().flat_map(windows).collect();
        Self { set, items, augmentation: None, seed: 0, makers: Mutex::default() }
    }

    /// The sound that an example is of.
    pub fn sound_of(&self, index: usize) -> Option<usize> {
        self.items.get(index).map(|item| item.labelled.sound)
    }

    /// One example, 8-bit, without stripes.
    pub fn example(&self, epoch: u32, index: usize) -> Result<SoundExample, ExampleError> {
        self.draw(index, &mut self.random(epoch, index))
    }

    /// The generator of one example: the same for the same seed, epoch and index.
    fn random(&self, epoch: u32, index: usize) -> Rng {
        // The seeds of neighbours must not be neighbours: fastrand mixes a seed only once.
        let mut random = Rng::with_seed(self.seed ^ (u64::from(epoch) << 32) ^ index as u64);
        Rng::with_seed(random.u64(..))
    }

    fn draw(&self, index: usize, random: &mut Rng) -> Result<SoundExample, ExampleError> {
        let item = self.items.get(index).ok_or_else(|| ExampleError {
            index,
            why: format!("there are only {}", self.items.len()),
        })?;
        let mut targets = self.targets(&item.labelled);
        let window = window_len(&self.set.recipe);
        let samples = match &self.augmentation {
            None => self.set.sounds.part(item.labelled.sound, item.start, window),
            Some(settings) => {
                let mut samples = self.random_window(settings, item.labelled.sound, random);
                self.mix_second(settings, &mut samples, &mut targets, random);
                let background = self.background(settings, &mut targets, random);
                let rate_hz = self.set.recipe.sample_rate_hz;
                settings.sound(&mut samples, rate_hz, background.as_deref(), random);
                smooth(&mut targets, settings.label_smoothing);
                samples
            }
        };
        Ok(SoundExample { pixels: self.pixels(&samples), targets })
    }

    fn targets(&self, labelled: &Labelled) -> Vec<f32> {
        let wanted = |class| match class {
            class if labelled.classes.contains(&class) => 1.0,
            class if labelled.maybe.contains(&class) => f32::NAN,
            _ => 0.0,
        };
        (0..self.set.outputs).map(wanted).collect()
    }

    /// Exactly one window with a sound somewhere in it; besides a shorter one there is silence.
    fn random_window(&self, settings: &Augmentation, sound: usize, random: &mut Rng) -> Vec<f32> {
        let (mut samples, window) = (self.set.sounds.samples(sound), window_len(&self.set.recipe));
        samples.drain(..crop(&samples, window, random));
        samples.resize(window, 0.0);
        settings.place(&mut samples, self.set.recipe.sample_rate_hz, random);
        samples
    }

    /// Mixes another sound of the set in, now and then, and its targets with it.
    fn mix_second(
        &self,
        settings: &Augmentation,
        samples: &mut [f32],
        targets: &mut [f32],
        random: &mut Rng,
    ) {
        if random.f32() >= settings.mixup {
            return;
        }
        let Some(second) = random.choice(&self.items) else { return };
        let share = beta(settings.mixup_beta, random);
        let share = share.max(1.0 - share);
        let other = self.random_window(settings, second.labelled.sound, random);
        if !mix_up(samples, &other, share) {
            return;
        }
        for (target, other) in targets.iter_mut().zip(self.targets(&second.labelled)) {
            *target = settings.mixed.target(*target, other, share);
        }
    }

    /// A stretch of a background, now and then.
    fn background(
        &self,
        settings: &Augmentation,
        targets: &mut [f32],
        random: &mut Rng,
    ) -> Option<Vec<f32>> {
        if random.f32() >= settings.background {
            return None;
        }
        let (sounds, background) = (&self.set.sounds, random.choice(self.set.backgrounds.iter())?);
        for &class in background.classes.iter().chain(&background.maybe) {
            let target = targets.get_mut(class).filter(|target| **target == 0.0);
            target.into_iter().for_each(|target| *target = f32::NAN);
        }
        let window = window_len(&self.set.recipe);
        let room = sounds.samples_in(background.sound).saturating_sub(window);
        Some(sounds.part(background.sound, random.usize(..=room), window))
    }

    fn pixels(&self, samples: &[f32]) -> Vec<u8> {
        let unlocked = || self.makers.lock().unwrap_or_else(PoisonError::into_inner);
        let maker = unlocked().pop();
        let mut maker = maker.unwrap_or_else(|| WindowMaker::new(&self.set.recipe));
        let image = maker.image(samples);
        unlocked().push(maker);
        image.rows_in(self.set.recipe.rows).flatten().copied().collect()
    }
}

impl Examples for SoundExamples {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn outputs(&self) -> usize {
        self.set.outputs
    }

    fn batch(&self, epoch: u32, indices: &[usize]) -> Result<Batch, ExampleError> {
        let mut batch = Batch::default();
        for &index in indices {
            let mut random = self.random(epoch, index);
            let example = self.draw(index, &mut random)?;
            let mut pixels: Vec<f32> = example.pixels.into_iter().map(f32::from).collect();
            if let Some(settings) = &self.augmentation {
                settings.image(&mut pixels, Image::SIDE, &mut random);
            }
            batch.images.extend(pixels);
            batch.targets.extend(example.targets);
        }
        Ok(batch)
    }
}

/// Samples of a window.
fn window_len(recipe: &Recipe) -> usize {
    recipe.columns * recipe.hop
}

/// Where the windows of a sound begin; those that are much quieter than the loudest one are left
/// out, unless `all` are wanted.
fn loud_windows(samples: &[f32], window: usize, all: bool) -> Vec<usize> {
    let last = samples.len().saturating_sub(window);
    let starts: Vec<usize> = (0..last).step_by(window.max(1)).chain([last]).collect();
    let energy = |&start: &usize| {
        let samples = samples.iter().skip(start).take(window);
        samples.map(|&sample| f64::from(sample).powi(2)).sum::<f64>()
    };
    let loudest = starts.iter().map(energy).fold(0.0, f64::max);
    let kept = |start: &usize| all || energy(start) >= QUIET_PART * loudest;
    starts.into_iter().filter(kept).collect()
}

/// Takes a part of the targets and spreads it over all outputs evenly.
fn smooth(targets: &mut [f32], part: f32) {
    let even = part / targets.len().max(1) as f32;
    targets.iter_mut().for_each(|target| *target = *target * (1.0 - part) + even);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrogram::RowOrder;
    use crate::train::augment::Mixed;

    fn recipe() -> Recipe {
        Recipe::parse(include_str!("../../models/sound.recipe.json")).unwrap()
    }

    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut random = Rng::with_seed(seed);
        (0..len).map(|_| (random.f32() - 0.5) * 0.2).collect()
    }

    fn set(mut sounds: Vec<Vec<f32>>) -> SoundSet {
        sounds.push(noise(200_000, 99));
        SoundSet {
            recipe: recipe(),
            backgrounds: Arc::new([labelled(sounds.len() - 1, &[])]),
            sounds: Arc::new(Library::of(sounds)),
            outputs: 3,
        }
    }

    fn labelled(sound: usize, classes: &[usize]) -> Labelled {
        Labelled { sound, classes: classes.to_vec(), maybe: Vec::new() }
    }

    #[test]
    fn validation_examples_are_the_images_of_the_live_path() {
        use crate::spectrogram::{Analyser, InputFormat, settings::ChannelChoice};
        let samples = noise(160_000, 1);
        let set = set(vec![samples.clone()]);
        // To 16 bits and back, as the library holds it.
        let held = set.sounds.samples(0);
        let examples = SoundExamples::validation(set, vec![labelled(0, &[2])]);
        let format =
            InputFormat { sample_rate_hz: 32_000, channels: 1, choice: ChannelChoice::Mix };
        let mut analyser = Analyser::new(&recipe(), format, 227).unwrap();
        let mut images = Vec::new();
        analyser.push(&held, &mut |slice| images.extend(slice.image));
        analyser.finish(&mut |slice| images.extend(slice.image));
        // This recipe has the lowest band first; an image has it at the bottom.
        let rows: Vec<f32> =
            images[0].rows_in(RowOrder::LowestFirst).flatten().map(|&p| f32::from(p)).collect();
        let batch = examples.batch(0, &[0]).unwrap();
        assert_eq!((examples.len(), batch.targets), (1, vec![0.0, 0.0, 1.0]));
        assert_eq!(batch.images, rows);
    }

    #[test]
    fn an_example_depends_on_seed_epoch_and_index_only() {
        let make = |seed| {
            let items = (0..4).map(|n| labelled(n, &[n % 3])).collect();
            let set = set((0..4).map(|n| noise(100_000, n)).collect());
            SoundExamples::training(set, items, Augmentation::strong(), seed)
        };
        let examples = make(1);
        let pair = examples.batch(2, &[3, 1]).unwrap();
        let alone = make(1).batch(2, &[1]).unwrap();
        let pixels = Image::SIDE * Image::SIDE;
        assert_eq!(pair.images[pixels..], alone.images);
        assert_eq!(pair.targets[3..], alone.targets);
        for other in [make(2).batch(2, &[1]), examples.batch(3, &[1]), examples.batch(2, &[0])] {
            assert_ne!(other.unwrap().images, alone.images);
        }
        assert!(examples.batch(0, &[4]).unwrap_err().to_string().contains("only 4"));
    }

    #[test]
    fn mixing_shares_the_targets_and_smoothing_spreads_them() {
        let settings = Augmentation {
            mixup: 1.0,
            mixup_beta: 1.0,
            label_smoothing: 0.3,
            ..Augmentation::gentle()
        };
        let items = vec![labelled(0, &[0]), labelled(1, &[1, 2]), labelled(2, &[])];
        let set = set((0..3).map(|n| noise(20_000, n)).collect());
        let examples = SoundExamples::training(set, items, settings, 5);
        let mut shared = 0;
        for epoch in 0..40 {
            let targets = examples.example(epoch, 0).unwrap().targets;
            let least = targets.iter().copied().fold(f32::INFINITY, f32::min);
            assert!((0.0999..=0.8001).contains(&least) && targets[0] <= 0.8001, "{targets:?}");
            assert!((targets[1] - targets[2]).abs() < 1e-6, "{targets:?}");
            let parts = (targets[0] - 0.1 + targets[1] - 0.1) / 0.7;
            shared += usize::from((parts - 1.0).abs() < 1e-5 && targets[1] > 0.11);
        }
        assert!(shared > 3, "the second clip has its share in {shared} of 40");
    }

    #[test]
    fn mixing_can_want_all_that_is_heard() {
        let mixed = Mixed::Audible;
        let settings =
            Augmentation { mixup: 1.0, mixup_beta: 1.0, mixed, ..Augmentation::strong() };
        let set = set((0..2).map(|n| noise(20_000, n)).collect());
        let items = vec![labelled(0, &[0]), labelled(1, &[1])];
        let examples = SoundExamples::training(set, items, settings, 5);
        let targets: Vec<Vec<f32>> =
            (0..60).map(|epoch| examples.example(epoch, 0).unwrap().targets).collect();
        assert!(targets.iter().all(|targets| targets[0] == 1.0 && targets[2] == 0.0));
        let count = |wanted: &dyn Fn(f32) -> bool| targets.iter().filter(|t| wanted(t[1])).count();
        // Half of the time the second clip is the first one itself.
        let [wanted, unknown, not] =
            [count(&|t| t == 1.0), count(&f32::is_nan), count(&|t| t == 0.0)];
        assert_eq!(wanted + unknown + not, 60);
        assert!(wanted > 5 && unknown > 3 && not > 20, "{wanted} {unknown} {not}");
    }

    #[test]
    fn a_negative_wants_nothing_and_a_short_sound_is_followed_by_silence() {
        let settings =
            Augmentation { roll: false, background: 0.0, low_pass: 0.0, ..Augmentation::gentle() };
        let set = set(vec![noise(32_000, 7)]);
        let examples = SoundExamples::training(set, vec![labelled(0, &[])], settings, 1);
        let example = examples.example(0, 0).unwrap();
        assert_eq!(example.targets, [0.0; 3]);
        let right = example.pixels.chunks(Image::SIDE).map(|row| row[60..].iter().max().unwrap());
        assert_eq!(right.max(), Some(&0), "a second of sound takes 46 columns");
        assert!(example.pixels.iter().any(|&pixel| pixel > 20));
    }

    #[test]
    fn windows_beside_the_sound_are_not_asked_for_it() {
        let mut samples = vec![1e-4; 400_000];
        samples[330_000..331_000].fill(0.5);
        assert_eq!(loud_windows(&samples, 160_035, true), [0, 160_035, 239_965]);
        assert_eq!(loud_windows(&samples, 160_035, false), [239_965]);
        assert_eq!(loud_windows(&samples[..1_000], 160_035, false), [0]);
        assert_eq!(loud_windows(&noise(320_070, 8), 160_035, false), [0, 160_035]);
    }
}
