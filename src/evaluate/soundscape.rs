//! Soundscapes: sounds laid into long backgrounds at known places and at a stated signal-to-noise
//! ratio. Pure: the same plan and the same sounds give the same samples.
//!
//! **Where a sound begins.** A clip is looked at in frames of 10 ms. It sounds from the first to
//! the last frame whose power is within 30 dB of the loudest one's; what is outside is cut off.
//! **How loud it is.** Its power is the mean over those frames, so pauses inside do not count. The
//! background's power is its mean where the sound is laid, but at least -60 dBFS, so that a sound
//! in a silent recording is not silent.

use std::ops::Range;

use fastrand::Rng;

use super::events::TrueEvent;

/// Length of a soundscape.
pub const SCENE_S: f64 = 60.0;
/// Frames in which loudness is looked at.
const FRAME_S: f64 = 0.01;
/// A frame this much quieter than the loudest one is not the sound: 30 dB.
const SILENT_PART: f64 = 1e-3;
/// A background's power is taken to be at least this: -60 dBFS.
const POWER_MIN: f64 = 1e-6;
/// Where a background begins again, its end and its beginning overlap for this long.
const CROSS_FADE_S: f64 = 0.5;
/// A sound is faded in and out for this long, so that cutting it makes no click.
const FADE_S: f64 = 0.005;
/// Louder samples than this make the whole soundscape quieter.
const PEAK_MAX: f32 = 0.99;
/// An event gets at least this long.
const EVENT_S_MIN: f64 = 1.0;

/// What kind of soundscapes, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub scenes: usize,
    /// Of the classes that are looked for.
    pub events_per_minute: u32,
    /// Of other classes.
    pub distractors_per_minute: u32,
    /// Length of the network's window. No sound comes before a window and a second, and behind
    /// each there is as much background, so that a window seldom holds two.
    pub window_s: f64,
    pub seed: u64,
}

/// What soundscapes are made of, by number.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// The clips of each class that is looked for.
    pub clips: Vec<Vec<usize>>,
    /// Clips of other classes.
    pub distractors: Vec<usize>,
    /// For each background the classes that may sound in it: they are not laid into it.
    pub backgrounds: Vec<Vec<usize>>,
}

/// One soundscape that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Number of the background, and where it begins, 0 to under 1 of its length.
    pub background: usize,
    background_start: f64,
    pub placements: Vec<Placement>,
}

/// A clip that is to be laid into a background.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    pub clip: usize,
    /// Index among the classes that are looked for; `None`: a distractor.
    pub class: Option<usize>,
    /// The time that it may take.
    slot_s: Range<f64>,
    /// Where in that time, 0 to 1.
    place: f64,
}

/// A soundscape, and what sounds where.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub samples: Vec<f32>,
    /// Classes by their index among those that are looked for.
    pub truth: Vec<TrueEvent>,
}

/// A plan that can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("there is no background to lay sounds into")]
    NoBackground,
    #[error("every background holds all of the classes that are looked for")]
    NoRoom,
    #[error("{asked} sounds a minute are too many, at most {most} fit")]
    TooMany { asked: u32, most: u32 },
}

/// Shares out clips and backgrounds: every background comes in turn, every class as often as the
/// others as far as the backgrounds allow it, and every clip of a class in turn.
///
/// # Errors
/// When there is nothing to lay sounds into, or no room for as many.
pub fn plan(material: &Material, settings: &Settings) -> Result<Vec<Scene>, PlanError> {
    let usable = |held: &Vec<usize>| (0..material.clips.len()).any(|class| !held.contains(&class));
    if material.backgrounds.is_empty() {
        return Err(PlanError::NoBackground);
    }
    if !material.backgrounds.iter().any(usable) {
        return Err(PlanError::NoRoom);
    }
    let minutes = SCENE_S / 60.0;
    let lead_s = settings.window_s + 1.0;
    let asked = settings.events_per_minute + settings.distractors_per_minute;
    let most = ((SCENE_S - lead_s) / (settings.window_s + EVENT_S_MIN) / minutes) as u32;
    if asked > most {
        return Err(PlanError::TooMany { asked, most });
    }
    let mut random = Rng::with_seed(settings.seed);
    let mut backgrounds = Deck::new((0..material.backgrounds.len()).collect());
    let mut classes = Classes::new(material);
    let mut distractors = Deck::new(material.distractors.clone());
    let (events, others) = (
        (f64::from(settings.events_per_minute) * minutes).round() as usize,
        (f64::from(settings.distractors_per_minute) * minutes).round() as usize,
    );
    let slot_s = (SCENE_S - lead_s) / (events + others).max(1) as f64;
    let mut scenes = Vec::with_capacity(settings.scenes);
    while scenes.len() < settings.scenes {
        let Some(background) = backgrounds.draw(&mut random) else { break };
        let held = material.backgrounds.get(background).map_or(&[][..], Vec::as_slice);
        let mut kinds: Vec<bool> = (0..events + others).map(|slot| slot < events).collect();
        random.shuffle(&mut kinds);
        let mut placements = Vec::new();
        for (slot, is_event) in kinds.into_iter().enumerate() {
            let drawn = match is_event {
                true => classes.draw(held, &mut random),
                false => distractors.draw(&mut random).map(|clip| (None, clip)),
            };
            let start_s = lead_s + slot_s * slot as f64;
            let slot_s = start_s..start_s + slot_s - settings.window_s;
            let place = random.f64();
            let placed = drawn.map(|(class, clip)| Placement { clip, class, slot_s, place });
            placements.extend(placed);
        }
        scenes.push(Scene { background, background_start: random.f64(), placements });
    }
    Ok(scenes)
}

/// Numbers that come in a random order, all of them before any comes again.
struct Deck {
    numbers: Vec<usize>,
    drawn: usize,
}

impl Deck {
    fn new(numbers: Vec<usize>) -> Self {
        let drawn = numbers.len();
        Self { numbers, drawn }
    }

    fn draw(&mut self, random: &mut Rng) -> Option<usize> {
        if self.drawn >= self.numbers.len() {
            random.shuffle(&mut self.numbers);
            self.drawn = 0;
        }
        self.drawn += 1;
        self.numbers.get(self.drawn - 1).copied()
    }
}

/// A deck of clips for each class.
struct Classes(Vec<(Deck, usize)>);

impl Classes {
    fn new(material: &Material) -> Self {
        Self(material.clips.iter().map(|clips| (Deck::new(clips.clone()), 0)).collect())
    }

    /// A clip of the class that came least so far, and is not among the `held`.
    fn draw(&mut self, held: &[usize], random: &mut Rng) -> Option<(Option<usize>, usize)> {
        let mut allowed: Vec<(usize, &mut (Deck, usize))> =
            self.0.iter_mut().enumerate().filter(|(class, _)| !held.contains(class)).collect();
        random.shuffle(&mut allowed);
        let (class, (deck, count)) = allowed.into_iter().min_by_key(|(_, (_, count))| *count)?;
        *count += 1;
        deck.draw(random).map(|clip| (Some(class), clip))
    }
}

/// Makes a soundscape at `rate_hz`. `clips` holds the samples of each placement's clip, in their
/// order; one without sound is left out. Where the sum would clip, the whole is made quieter.
pub fn render(
    scene: &Scene,
    snr_db: f32,
    rate_hz: u32,
    background: &[f32],
    clips: &[Vec<f32>],
) -> Rendered {
    let rate = f64::from(rate_hz);
    let mut samples = bed(background, scene.background_start, rate);
    let mut truth = Vec::new();
    for (placement, clip) in scene.placements.iter().zip(clips) {
        let Some(sound) = sounding_part(clip, rate_hz) else { continue };
        let length = sound.range.len().min((length_s(&placement.slot_s) * rate) as usize);
        let room_s = length_s(&placement.slot_s) - length as f64 / rate;
        let start = ((placement.slot_s.start + placement.place * room_s) * rate) as usize;
        let sounding = clip.get(sound.range).unwrap_or_default();
        let (Some(part), Some(place)) =
            (sounding.get(..length), samples.get_mut(start..start + length))
        else {
            continue;
        };
        let wanted = power(place).max(POWER_MIN) * 10.0_f64.powf(f64::from(snr_db) / 10.0);
        add_faded(place, part, (wanted / sound.power).sqrt() as f32, (FADE_S * rate) as usize);
        let onset_s = start as f64 / rate;
        let offset_s = (start + length) as f64 / rate;
        truth.extend(placement.class.map(|class| TrueEvent { class, onset_s, offset_s }));
    }
    let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    if peak > PEAK_MAX {
        samples.iter_mut().for_each(|sample| *sample *= PEAK_MAX / peak);
    }
    Rendered { samples, truth }
}

fn length_s(range: &Range<f64>) -> f64 {
    (range.end - range.start).max(0.0)
}

/// The background from `start` (0 to 1 of it) on, going round without a seam: the last part of it
/// fades out while the first one fades in, at constant power.
fn bed(background: &[f32], start: f64, rate: f64) -> Vec<f32> {
    let fade = ((CROSS_FADE_S * rate) as usize).min(background.len() / 2);
    let (round, tail) = background.split_at(background.len() - fade);
    let mut round = round.to_vec();
    for (n, (head, tail)) in round.iter_mut().zip(tail).enumerate() {
        let angle = std::f32::consts::FRAC_PI_2 * (n as f32 + 0.5) / fade as f32;
        *head = *head * angle.sin() + *tail * angle.cos();
    }
    let length = (SCENE_S * rate) as usize;
    let first = (start * round.len() as f64) as usize;
    let mut bed: Vec<f32> = round.iter().cycle().skip(first).take(length).copied().collect();
    // A recording without a sample is silence.
    bed.resize(length, 0.0);
    bed
}

/// Adds `part` times `gain`, faded in and out over `fade` samples.
fn add_faded(place: &mut [f32], part: &[f32], gain: f32, fade: usize) {
    let length = part.len();
    for (n, (sample, sound)) in place.iter_mut().zip(part).enumerate() {
        let edge = (n + 1).min(length - n) as f32 / fade.max(1) as f32;
        *sample += gain * edge.min(1.0) * sound;
    }
}

/// Where a clip sounds, and how loud it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct SoundingPart {
    pub range: Range<usize>,
    /// Mean square of its frames that are not silent beside the loudest one.
    pub power: f64,
}

/// The sounding part of a clip, by the rule at the head of this file; `None` in digital silence.
pub fn sounding_part(samples: &[f32], rate_hz: u32) -> Option<SoundingPart> {
    let frame = ((FRAME_S * f64::from(rate_hz)) as usize).max(1);
    let powers: Vec<f64> = samples.chunks(frame).map(power).collect();
    let least = powers.iter().copied().fold(0.0, f64::max) * SILENT_PART;
    let sounds = |&power: &f64| power > least;
    let first = powers.iter().position(sounds)?;
    let last = powers.iter().rposition(sounds)?;
    let (sum, count) = powers
        .iter()
        .filter(|power| sounds(power))
        .fold((0.0, 0_u32), |sum, p| (sum.0 + p, sum.1 + 1));
    let range = first * frame..((last + 1) * frame).min(samples.len());
    Some(SoundingPart { range, power: sum / f64::from(count.max(1)) })
}

/// Mean square; 0 of no samples.
fn power(samples: &[f32]) -> f64 {
    let energy: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    energy / samples.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 8_000;

    fn settings() -> Settings {
        Settings {
            scenes: 30,
            events_per_minute: 4,
            distractors_per_minute: 1,
            window_s: 5.0,
            seed: 3,
        }
    }

    /// Three classes of 4 clips, 5 distractors; the first background holds class 0.
    fn material() -> Material {
        Material {
            clips: vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9, 10, 11]],
            distractors: vec![12, 13, 14, 15, 16],
            backgrounds: vec![vec![0], vec![], vec![]],
        }
    }

    /// A tone of this amplitude from `from_s` to `to_s` in 3 s of silence.
    fn tone(from_s: f64, to_s: f64, amplitude: f32) -> Vec<f32> {
        let sample = |n: u32| {
            let s = f64::from(n) / f64::from(RATE_HZ);
            let on = s >= from_s && s < to_s;
            if on { amplitude * (s * 440.0 * std::f64::consts::TAU).sin() as f32 } else { 0.0 }
        };
        (0..3 * RATE_HZ).map(sample).collect()
    }

    fn noise(seconds: u32) -> Vec<f32> {
        let mut random = Rng::with_seed(1);
        (0..seconds * RATE_HZ).map(|_| (random.f32() - 0.5) * 0.1).collect()
    }

    #[test]
    fn the_plan_shares_out_evenly_and_keeps_classes_out_of_their_own_backgrounds() {
        let scenes = plan(&material(), &settings()).unwrap();
        assert_eq!(scenes, plan(&material(), &settings()).unwrap());
        assert_ne!(scenes, plan(&material(), &Settings { seed: 4, ..settings() }).unwrap());
        let mut counts = [0; 17];
        let mut by_class = [0; 3];
        let mut backgrounds = [0; 3];
        for scene in &scenes {
            backgrounds[scene.background] += 1;
            assert_eq!(scene.placements.len(), 5);
            for placement in &scene.placements {
                counts[placement.clip] += 1;
                let Some(class) = placement.class else { continue };
                assert!(material().clips[class].contains(&placement.clip));
                assert!(!(scene.background == 0 && class == 0));
                by_class[class] += 1;
            }
            let slots = scene.placements.windows(2);
            assert!(slots.into_iter().all(|two| two[1].slot_s.start - two[0].slot_s.end > 4.99));
            assert!(scene.placements[0].slot_s.start >= 6.0);
            assert!(scene.placements[4].slot_s.end <= SCENE_S - 5.0);
        }
        assert_eq!(backgrounds, [10, 10, 10]);
        assert_eq!(by_class, [40, 40, 40]);
        assert!(counts[..12].iter().all(|&count| count == 10), "{counts:?}");
        assert!(counts[12..].iter().all(|&count| count == 6), "{counts:?}");
    }

    #[test]
    fn what_can_not_be_planned_is_said() {
        let crowded = Settings { events_per_minute: 9, ..settings() };
        assert_eq!(plan(&material(), &crowded), Err(PlanError::TooMany { asked: 10, most: 9 }));
        let none = Material { backgrounds: vec![], ..material() };
        assert_eq!(plan(&none, &settings()), Err(PlanError::NoBackground));
        let full = Material { backgrounds: vec![vec![0, 1, 2]], ..material() };
        assert_eq!(plan(&full, &settings()), Err(PlanError::NoRoom));
    }

    #[test]
    fn silence_before_and_behind_and_pauses_do_not_count() {
        let mut samples = tone(0.5, 1.0, 0.4);
        for (sample, more) in samples.iter_mut().zip(tone(1.5, 2.0, 0.4)) {
            *sample += more;
        }
        // 40 dB quieter than the sound.
        for (sample, quiet) in samples.iter_mut().zip(tone(0.0, 0.4, 0.004)) {
            *sample += quiet;
        }
        let part = sounding_part(&samples, RATE_HZ).unwrap();
        assert_eq!(part.range, 4_000..16_000);
        assert!((part.power - 0.08).abs() < 1e-4, "{}", part.power);
        assert_eq!(sounding_part(&[0.0; 100], RATE_HZ), None);
        assert_eq!(sounding_part(&[], RATE_HZ), None);
    }

    #[test]
    fn sounds_stand_where_the_truth_says_and_as_loud_as_asked() {
        let scene = plan(&material(), &settings()).unwrap().swap_remove(0);
        let background = noise(20);
        let silent = vec![vec![0.0; 100]; 5];
        let bare = render(&scene, 6.0, RATE_HZ, &background, &silent);
        assert!(bare.truth.is_empty());
        let clips = vec![tone(0.5, 2.0, 0.3); 5];
        let rendered = render(&scene, 6.0, RATE_HZ, &background, &clips);
        assert_eq!(rendered.samples.len(), 60 * RATE_HZ as usize);
        assert_eq!(rendered.truth.len(), 4);
        let added: Vec<f32> =
            rendered.samples.iter().zip(&bare.samples).map(|(with, bare)| with - bare).collect();
        for event in &rendered.truth {
            assert!((event.offset_s - event.onset_s - 1.5).abs() < 1e-3);
            let at = |s: f64| (s * f64::from(RATE_HZ)).round() as usize;
            let range = at(event.onset_s)..at(event.offset_s);
            let before = added[range.start - 1_000..range.start].iter().all(|s| s.abs() < 1e-6);
            assert!(before && power(&added[range.end + 1..range.end + 1_000]) < 1e-12);
            let snr = power(&added[range.clone()]) / power(&bare.samples[range]);
            assert!((10.0 * snr.log10() - 6.0).abs() < 0.1, "{} dB", 10.0 * snr.log10());
        }
    }

    #[test]
    fn a_background_goes_round_without_a_seam_and_nothing_clips() {
        let scene = Scene { background: 0, background_start: 0.4, placements: vec![] };
        let background = noise(2);
        let bed = render(&scene, 0.0, RATE_HZ, &background, &[]).samples;
        assert_eq!(bed[0], background[4_800]);
        assert_eq!(bed[..10_000], bed[12_000..22_000]);
        // The power stays over the seam.
        let frames: Vec<f64> = bed.chunks(400).map(power).collect();
        let mean = power(&bed);
        assert!(frames.iter().all(|p| p / mean > 0.7 && p / mean < 1.4), "{frames:?}");
        let empty = render(&scene, 0.0, RATE_HZ, &[], &[]).samples;
        assert!(empty.len() == 480_000 && empty.iter().all(|&s| s == 0.0));
        let loud: Vec<f32> = background.iter().map(|s| s * 100.0).collect();
        let bed = render(&scene, 0.0, RATE_HZ, &loud, &[]).samples;
        let peak = bed.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
        assert!((peak - 0.99).abs() < 1e-6);
    }
}
