//! Takes out of a stream: when a sound rises over the room, a window of it is cut out, with the
//! room before and after it. Pure: time is the number of samples.
//!
//! The level is looked at in blocks of 10 ms, behind a high-pass: footsteps, traffic and a constant
//! offset would hide quiet sounds. What is cut out is the stream as it came.

use std::collections::VecDeque;
use std::f32::consts::PI;

/// Blocks a second.
const BLOCKS_PER_S: u32 = 100;
/// What is below this frequency does not count for the level.
const HIGH_PASS_HZ: f32 = 100.0;
/// How much of the room stands before the onset in a take: 0.5 s.
const LEAD_BLOCKS: usize = 50;
/// From the call to the take, so that the key that calls is not heard in it: 0.5 s.
const CALL_BLOCKS: usize = 50;
/// The room has to be quiet for so long before the next take: 0.5 s.
const QUIET_BLOCKS: usize = 50;
/// The room's level is the median over so much: 3 s.
const ROOM_BLOCKS: usize = 300;
/// It is known after so much: 1 s.
const ROOM_KNOWN_BLOCKS: usize = 100;
/// No room is quieter: digital silence is no measure for what is loud.
const ROOM_MIN_DBFS: f32 = -70.0;
/// A sound begins where the level is this much over the room's.
const ONSET_DB: f32 = 12.0;
/// It is over where the level is less than its onset by this much.
const HYSTERESIS_DB: f32 = 6.0;
/// Samples from here on are at the converter's limit.
const CLIPPED: f32 = 0.999;
/// So many of them in a take are no coincidence.
const CLIPPED_SAMPLES: usize = 3;

/// What begins a take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trigger {
    /// The level rises 12 dB over the room's.
    Rise,
    /// The level reaches this, in dBFS.
    Level(f32),
    /// [`Cutter::call`].
    Call,
    /// The end of the one before: takes follow one another without a gap.
    Always,
}

/// A window cut out of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Take {
    /// Mono, -1 to 1.
    pub samples: Vec<f32>,
    /// Seconds from the first to the last moment that was louder than the room; 0 if none was.
    /// `None` where takes follow one another, and the room is not known.
    pub sound_s: Option<f64>,
}

impl Take {
    /// The largest sample in dBFS; negative infinity for digital silence.
    pub fn peak_dbfs(&self) -> f32 {
        20.0 * peak(&self.samples).log10()
    }

    /// Whether it was too loud for the converter.
    pub fn is_clipped(&self) -> bool {
        is_clipped(&self.samples)
    }
}

/// The largest magnitude.
pub fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, sample| peak.max(sample.abs()))
}

/// Whether samples lie at the converter's limit.
pub fn is_clipped(samples: &[f32]) -> bool {
    samples.iter().filter(|sample| sample.abs() >= CLIPPED).count() >= CLIPPED_SAMPLES
}

/// What a cutter is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// It learns how loud the room is, or waits until the last sound is over.
    Settling,
    /// It waits for a sound, or for the call.
    Ready,
    /// A take is in progress.
    Taking,
}

/// Cuts takes out of one stream.
pub struct Cutter {
    trigger: Trigger,
    /// Samples of a take.
    take_len: usize,
    block_len: usize,
    block: Vec<f32>,
    high_pass: HighPass,
    room: Room,
    /// The newest half second.
    lead: VecDeque<f32>,
    state: State,
}

enum State {
    Settling { quiet_blocks: usize },
    Ready,
    Called { blocks_left: usize },
    Taking(Growing),
}

/// A take in progress.
#[derive(Default)]
struct Growing {
    samples: Vec<f32>,
    /// Its blocks so far, without the lead.
    blocks: usize,
    /// The first of them that was louder than the room, and the one behind the last.
    loud: Option<(usize, usize)>,
}

impl Cutter {
    /// For a stream at `rate_hz` (100 or more); takes of `take_s` seconds (1 or more).
    pub fn new(rate_hz: u32, take_s: f64, trigger: Trigger) -> Self {
        let block_len = (rate_hz / BLOCKS_PER_S).max(1) as usize;
        Self {
            trigger,
            take_len: (take_s * f64::from(rate_hz)).round() as usize,
            block_len,
            block: Vec::with_capacity(block_len),
            high_pass: HighPass::new(rate_hz),
            room: Room::default(),
            lead: VecDeque::with_capacity((LEAD_BLOCKS + 1) * block_len),
            state: idle(trigger),
        }
    }

    /// Takes mono samples; every take that they complete is `found`.
    pub fn push(&mut self, mono: &[f32], found: &mut dyn FnMut(Take)) {
        for &sample in mono {
            self.block.push(sample);
            if self.block.len() == self.block_len {
                let mut block = std::mem::take(&mut self.block);
                if let Some(take) = self.step(&block) {
                    found(take);
                }
                block.clear();
                self.block = block;
            }
        }
    }

    /// Begins a take in half a second, if the cutter is ready.
    pub fn call(&mut self) {
        if matches!(self.state, State::Ready) {
            self.state = State::Called { blocks_left: CALL_BLOCKS };
        }
    }

    /// Samples are missing here. True if a take in progress is lost by that.
    pub fn gap(&mut self) -> bool {
        let was_taking = matches!(self.state, State::Taking(_));
        self.block.clear();
        self.lead.clear();
        self.state = idle(self.trigger);
        was_taking
    }

    /// The stream ends: the take of a sound in progress ends with it, shorter than the others.
    pub fn finish(self) -> Option<Take> {
        match (self.state, self.trigger) {
            (State::Taking(growing), Trigger::Rise | Trigger::Level(_)) => {
                Some(growing.done(self.trigger))
            }
            _ => None,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Settling { .. } => Phase::Settling,
            State::Ready => Phase::Ready,
            State::Called { .. } | State::Taking(_) => Phase::Taking,
        }
    }

    /// The level from which a sound begins a take, in dBFS.
    pub fn onset_dbfs(&self) -> f32 {
        match self.trigger {
            Trigger::Level(dbfs) => dbfs,
            _ => self.room.level_dbfs() + ONSET_DB,
        }
    }

    fn step(&mut self, block: &[f32]) -> Option<Take> {
        let level = self.high_pass.level_dbfs(block);
        let onset = self.onset_dbfs();
        let is_loud = level >= onset - HYSTERESIS_DB;
        match std::mem::replace(&mut self.state, idle(self.trigger)) {
            State::Taking(growing) => self.grow(growing, block, is_loud),
            waiting => {
                self.room.note(level);
                self.state = self.wait(waiting, block, level >= onset, is_loud);
                None
            }
        }
    }

    /// One block of a take.
    fn grow(&mut self, mut growing: Growing, block: &[f32], is_loud: bool) -> Option<Take> {
        growing.push(block, is_loud);
        if growing.samples.len() < self.take_len {
            self.state = State::Taking(growing);
            return None;
        }
        let over = growing.samples.split_off(self.take_len);
        // Where takes follow one another, the next one has begun.
        if let State::Taking(next) = &mut self.state {
            next.samples = over;
        }
        Some(growing.done(self.trigger))
    }

    /// One block outside of a take.
    fn wait(&mut self, state: State, block: &[f32], is_onset: bool, is_loud: bool) -> State {
        let next = match state {
            State::Settling { .. } if is_loud => State::Settling { quiet_blocks: 0 },
            State::Settling { quiet_blocks }
                if quiet_blocks >= QUIET_BLOCKS && self.room.is_known() =>
            {
                State::Ready
            }
            State::Settling { quiet_blocks } => State::Settling { quiet_blocks: quiet_blocks + 1 },
            State::Ready if is_onset && self.trigger != Trigger::Call => {
                let lead = self.lead.drain(..).collect();
                let mut growing = Growing { samples: lead, ..Growing::default() };
                growing.push(block, true);
                return State::Taking(growing);
            }
            State::Called { blocks_left: 0 } => State::Taking(Growing::default()),
            State::Called { blocks_left } => State::Called { blocks_left: blocks_left - 1 },
            other => other,
        };
        self.lead.extend(block);
        let too_many = self.lead.len().saturating_sub(LEAD_BLOCKS * self.block_len);
        self.lead.drain(..too_many);
        next
    }
}

/// Where a cutter stands before and after a take.
fn idle(trigger: Trigger) -> State {
    match trigger {
        Trigger::Rise | Trigger::Level(_) => State::Settling { quiet_blocks: 0 },
        Trigger::Call => State::Ready,
        Trigger::Always => State::Taking(Growing::default()),
    }
}

impl Growing {
    fn push(&mut self, block: &[f32], is_loud: bool) {
        self.samples.extend(block);
        if is_loud {
            let first = self.loud.map_or(self.blocks, |(first, _)| first);
            self.loud = Some((first, self.blocks + 1));
        }
        self.blocks += 1;
    }

    fn done(self, trigger: Trigger) -> Take {
        let blocks = self.loud.map_or(0, |(first, behind)| behind - first);
        let sound_s = blocks as f64 / f64::from(BLOCKS_PER_S);
        let sound_s = (trigger != Trigger::Always).then_some(sound_s);
        Take { samples: self.samples, sound_s }
    }
}

/// How loud it is when nothing happens.
#[derive(Default)]
struct Room {
    levels_dbfs: VecDeque<f32>,
}

impl Room {
    fn note(&mut self, level_dbfs: f32) {
        if self.levels_dbfs.len() == ROOM_BLOCKS {
            self.levels_dbfs.pop_front();
        }
        self.levels_dbfs.push_back(level_dbfs);
    }

    fn is_known(&self) -> bool {
        self.levels_dbfs.len() >= ROOM_KNOWN_BLOCKS
    }

    /// The median: sounds that take up less than half of the time do not count.
    fn level_dbfs(&self) -> f32 {
        let mut levels: Vec<f32> = self.levels_dbfs.iter().copied().collect();
        let middle = levels.len() / 2;
        if levels.is_empty() {
            return ROOM_MIN_DBFS;
        }
        let (_, median, _) = levels.select_nth_unstable_by(middle, f32::total_cmp);
        median.max(ROOM_MIN_DBFS)
    }
}

/// A high-pass of the first order.
struct HighPass {
    keep: f32,
    input: f32,
    output: f32,
}

impl HighPass {
    fn new(rate_hz: u32) -> Self {
        let keep = 1.0 / (1.0 + 2.0 * PI * HIGH_PASS_HZ / rate_hz.max(1) as f32);
        Self { keep, input: 0.0, output: 0.0 }
    }

    /// Level of the filtered block in dBFS (a full-scale sine is -3.01).
    fn level_dbfs(&mut self, block: &[f32]) -> f32 {
        let mut energy = 0.0;
        for &sample in block {
            self.output = self.keep * (self.output + sample - self.input);
            self.input = sample;
            energy += self.output * self.output;
        }
        10.0 * (energy / block.len().max(1) as f32).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 8_000;

    /// White noise at `rms`, the same each time.
    fn noise(seconds: f64, rms: f32, seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        let len = (seconds * f64::from(RATE_HZ)).round() as usize;
        (0..len).map(|_| (random.f32() * 2.0 - 1.0) * rms * 3.0_f32.sqrt()).collect()
    }

    /// Adds a tone of 1 kHz, `seconds` long, from `at_s` on.
    fn add_tone(samples: &mut [f32], at_s: f64, seconds: f64, amplitude: f32) {
        let place = |s: f64| (s * f64::from(RATE_HZ)).round() as usize;
        let part = &mut samples[place(at_s)..place(at_s + seconds)];
        for (n, sample) in part.iter_mut().enumerate() {
            *sample += amplitude * (2.0 * PI * 1_000.0 * n as f32 / RATE_HZ as f32).sin();
        }
    }

    fn cut_in(samples: &[f32], take_s: f64, trigger: Trigger, piece: usize) -> Vec<Take> {
        let mut cutter = Cutter::new(RATE_HZ, take_s, trigger);
        let mut takes = Vec::new();
        for piece in samples.chunks(piece) {
            cutter.push(piece, &mut |take| takes.push(take));
        }
        takes.extend(cutter.finish());
        takes
    }

    fn cut(samples: &[f32], take_s: f64, trigger: Trigger) -> Vec<Take> {
        cut_in(samples, take_s, trigger, 333)
    }

    /// Where in the stream a take was cut out, in seconds.
    fn place(take: &Take, samples: &[f32]) -> f64 {
        let at = samples.windows(take.samples.len()).position(|window| window == take.samples);
        at.expect("a part of the stream") as f64 / f64::from(RATE_HZ)
    }

    #[test]
    fn each_sound_is_a_take_that_begins_half_a_second_before_it() {
        let mut samples = noise(20.0, 0.003, 1);
        for (at_s, seconds) in [(2.0, 0.7), (8.0, 1.3), (14.5, 0.05)] {
            add_tone(&mut samples, at_s, seconds, 0.1);
        }
        let takes = cut(&samples, 3.0, Trigger::Rise);
        let places: Vec<f64> = takes.iter().map(|take| place(take, &samples)).collect();
        let lengths: Vec<f64> = takes.iter().map(|take| take.sound_s.unwrap()).collect();
        for (place, onset) in places.iter().zip([2.0, 8.0, 14.5]) {
            assert!((place - (onset - 0.5)).abs() <= 0.011, "{places:?}");
        }
        for (length, seconds) in lengths.iter().zip([0.7, 1.3, 0.05]) {
            assert!((length - seconds).abs() <= 0.021, "{lengths:?}");
        }
        assert!(takes.len() == 3 && takes.iter().all(|take| take.samples.len() == 24_000));
        assert!((takes[0].peak_dbfs() + 20.0).abs() < 1.0, "{}", takes[0].peak_dbfs());
    }

    #[test]
    fn any_chunking_gives_the_same_takes() {
        let mut samples = noise(9.0, 0.003, 2);
        add_tone(&mut samples, 2.003, 0.4, 0.2);
        add_tone(&mut samples, 6.0, 0.4, 0.2);
        let whole = cut_in(&samples, 2.0, Trigger::Rise, samples.len());
        assert_eq!(whole.len(), 2);
        for piece in [1, 79, 80, 1_000] {
            assert_eq!(cut_in(&samples, 2.0, Trigger::Rise, piece), whole);
        }
    }

    #[test]
    fn neither_noise_nor_an_offset_nor_rumble_is_a_sound() {
        let mut samples = noise(20.0, 0.003, 3);
        for (n, sample) in samples.iter_mut().enumerate() {
            // Swells of 10 Hz, unfiltered 16 dB over the noise.
            let t = n as f32 / RATE_HZ as f32;
            let swell = 0.5 - 0.5 * (2.0 * PI * t / 5.0).cos();
            *sample += 0.02 + 0.03 * swell.powi(4) * (2.0 * PI * 10.0 * t).sin();
        }
        assert_eq!(cut(&samples, 2.0, Trigger::Rise), []);
    }

    #[test]
    fn a_noise_that_stays_becomes_the_room() {
        let mut samples = noise(5.0, 0.001, 4);
        samples.extend(noise(30.0, 0.03, 5));
        add_tone(&mut samples, 30.0, 0.5, 0.5);
        let takes = cut(&samples, 2.0, Trigger::Rise);
        let places: Vec<f64> = takes.iter().map(|take| place(take, &samples)).collect();
        assert!(places.len() == 2 && (places[1] - 29.5).abs() <= 0.011, "{places:?}");
    }

    #[test]
    fn a_sound_has_to_be_over_before_the_next_take() {
        let mut samples = noise(20.0, 0.001, 6);
        // As long as one and a half takes.
        add_tone(&mut samples, 3.0, 3.0, 0.1);
        add_tone(&mut samples, 10.0, 1.0, 0.1);
        let takes = cut(&samples, 2.0, Trigger::Rise);
        let places: Vec<f64> = takes.iter().map(|take| place(take, &samples)).collect();
        assert!(places.len() == 2 && (places[1] - 9.5).abs() <= 0.011, "{places:?}");
        // The first is loud to its end.
        assert!((takes[0].sound_s.unwrap() - 1.5).abs() <= 0.011);
    }

    #[test]
    fn a_given_level_takes_the_place_of_the_rooms() {
        let mut samples = noise(12.0, 0.01, 7);
        add_tone(&mut samples, 3.0, 0.5, 0.1);
        add_tone(&mut samples, 8.0, 0.5, 0.5);
        assert_eq!(cut(&samples, 2.0, Trigger::Level(-30.0)).len(), 2);
        assert_eq!(cut(&samples, 2.0, Trigger::Level(-15.0)).len(), 1);
        assert_eq!(cut(&samples, 2.0, Trigger::Level(-5.0)).len(), 0);
    }

    #[test]
    fn pieces_follow_one_another_without_a_gap() {
        // Takes of 1.003 s are no whole number of blocks.
        let samples = noise(3.5, 0.01, 8);
        let takes = cut(&samples, 1.003, Trigger::Always);
        let joined: Vec<f32> = takes.iter().flat_map(|take| take.samples.clone()).collect();
        assert_eq!(takes.len(), 3);
        assert_eq!(joined, samples[..joined.len()]);
        assert!(takes.iter().all(|take| take.samples.len() == 8_024 && take.sound_s.is_none()));
    }

    #[test]
    fn a_call_begins_a_take_half_a_second_later() {
        let mut samples = noise(6.0, 0.003, 9);
        add_tone(&mut samples, 3.0, 0.4, 0.2);
        let mut cutter = Cutter::new(RATE_HZ, 2.0, Trigger::Call);
        let mut takes = Vec::new();
        cutter.push(&samples[..16_000], &mut |take| takes.push(take));
        assert_eq!(cutter.phase(), Phase::Ready);
        cutter.call();
        cutter.push(&samples[16_000..32_000], &mut |take| takes.push(take));
        // In the middle of a take it is not heard.
        cutter.call();
        cutter.push(&samples[32_000..], &mut |take| takes.push(take));
        assert_eq!(takes.len(), 1);
        assert!((place(&takes[0], &samples) - 2.5).abs() <= 0.011);
        assert!((takes[0].sound_s.unwrap() - 0.4).abs() <= 0.021);
    }

    #[test]
    fn a_take_with_a_hole_in_it_is_none() {
        let mut samples = noise(8.0, 0.003, 10);
        add_tone(&mut samples, 2.0, 0.5, 0.1);
        add_tone(&mut samples, 6.0, 0.5, 0.1);
        let mut cutter = Cutter::new(RATE_HZ, 1.5, Trigger::Rise);
        let mut takes = Vec::new();
        cutter.push(&samples[..18_000], &mut |take| takes.push(take));
        assert_eq!(cutter.phase(), Phase::Taking);
        assert!(cutter.gap());
        assert!(!cutter.gap());
        cutter.push(&samples[18_000..], &mut |take| takes.push(take));
        assert_eq!(takes.len(), 1);
        assert!((place(&takes[0], &samples) - 5.5).abs() <= 0.011);
    }

    #[test]
    fn a_sound_at_the_end_is_a_shorter_take() {
        let mut samples = noise(4.0, 0.003, 11);
        add_tone(&mut samples, 3.0, 0.5, 0.1);
        let takes = cut(&samples, 5.0, Trigger::Rise);
        assert_eq!(takes.len(), 1);
        assert!((place(&takes[0], &samples) - 2.5).abs() <= 0.011);
    }

    #[test]
    fn clipping_is_more_than_one_loud_sample() {
        let take = |samples: &[f32]| Take { samples: samples.to_vec(), sound_s: None };
        assert!(!take(&[0.2, 1.0, 0.3]).is_clipped());
        assert!(take(&[0.2, 1.0, 1.0, -1.0, 0.3]).is_clipped());
        assert_eq!(take(&[0.0, 0.0]).peak_dbfs(), f32::NEG_INFINITY);
    }
}
