//! Pixels at full size: a shift is put on and taken off through tables, one for each channel.

use super::shift::{Shift, ShiftModel, Triple, encoded, linear};

/// A value of a pixel: 8 or 16 bits.
pub trait Sample: Copy + PartialEq + Send + Sync + 'static {
    /// The highest value.
    const MAX: usize;
    fn index(self) -> usize;
    /// `value` is within 0 to [`Sample::MAX`].
    fn of(value: usize) -> Self;
}

impl Sample for u8 {
    const MAX: usize = 0xff;

    fn index(self) -> usize {
        self.into()
    }

    fn of(value: usize) -> Self {
        value as Self
    }
}

impl Sample for u16 {
    const MAX: usize = 0xffff;

    fn index(self) -> usize {
        self.into()
    }

    fn of(value: usize) -> Self {
        value as Self
    }
}

/// Shifts the first three of every `channels` samples (red, green, blue), rounds and clips. Others
/// (alpha) stay.
pub fn distort<T: Sample>(samples: &mut [T], channels: usize, shift: &Shift) {
    let table = |channel: usize| -> Vec<T> {
        let value = value_of(&shift.values, channel);
        let shifted = |level: usize| {
            let share = level as f64 / T::MAX as f64;
            let share = match shift.model {
                ShiftModel::Offset => share + value,
                ShiftModel::Gain => encoded(linear(share) * value),
            };
            T::of((share.clamp(0.0, 1.0) * T::MAX as f64).round() as usize)
        };
        (0..=T::MAX).map(shifted).collect()
    };
    let tables = [table(0), table(1), table(2)];
    for pixel in samples.chunks_exact_mut(channels.max(3)) {
        for (sample, table) in pixel.iter_mut().zip(&tables) {
            *sample = table.get(sample.index()).copied().unwrap_or(*sample);
        }
    }
}

/// Takes a shift off again. Where a channel was clipped its true value is only known to lie
/// between what the shift's inverse gives and the end of the scale; the value of it that is
/// nearest to the other two channels is taken.
pub struct Undo<T> {
    channels: [Inverse; 3],
    sample: std::marker::PhantomData<T>,
}

/// The inverse for one channel.
struct Inverse {
    /// For each value, what it was, in levels; may lie outside the scale.
    levels: Vec<i32>,
    /// The highest value stands for everything above its inverse, too.
    is_clipped_above: bool,
    /// The value 0 stands for everything below its inverse, too.
    is_clipped_below: bool,
}

impl<T: Sample> Undo<T> {
    /// Tables for this shift.
    pub fn new(shift: &Shift) -> Self {
        let inverse = |channel: usize| {
            let value = value_of(&shift.values, channel);
            let level = |level: usize| {
                let share = level as f64 / T::MAX as f64;
                let share = match shift.model {
                    ShiftModel::Offset => share - value,
                    ShiftModel::Gain => encoded(linear(share) / value),
                };
                // Gains may be tiny: what is far off the scale stays far off it.
                (share.clamp(-2.0, 2.0) * T::MAX as f64).round() as i32
            };
            Inverse {
                levels: (0..=T::MAX).map(level).collect(),
                is_clipped_above: match shift.model {
                    ShiftModel::Offset => value > 0.0,
                    ShiftModel::Gain => value > 1.0,
                },
                is_clipped_below: shift.model == ShiftModel::Offset && value < 0.0,
            }
        };
        Self { channels: [inverse(0), inverse(1), inverse(2)], sample: std::marker::PhantomData }
    }

    /// Corrects the first three of every `channels` samples. Returns how many pixels had a channel
    /// that was clipped, and so were guessed in part.
    pub fn apply(&self, samples: &mut [T], channels: usize) -> usize {
        let mut guessed = 0;
        for pixel in samples.chunks_exact_mut(channels.max(3)) {
            let Some((colour, _)) = pixel.split_first_chunk_mut::<3>() else { continue };
            let [red, green, blue] = &self.channels;
            let levels = [red.level(colour[0]), green.level(colour[1]), blue.level(colour[2])];
            let end = [red.end(colour[0]), green.end(colour[1]), blue.end(colour[2])];
            let levels = if end == [End::Known; 3] {
                levels
            } else {
                guessed += 1;
                nearest(levels, end, T::MAX as i32)
            };
            *colour = levels.map(|level| T::of(level.clamp(0, T::MAX as i32) as usize));
        }
        guessed
    }
}

/// What a value tells of what it was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Known,
    /// At least its inverse.
    Above,
    /// At most its inverse.
    Below,
}

impl Inverse {
    fn level<T: Sample>(&self, value: T) -> i32 {
        self.levels.get(value.index()).copied().unwrap_or(0)
    }

    fn end<T: Sample>(&self, value: T) -> End {
        match value.index() {
            0 if self.is_clipped_below => End::Below,
            index if index == T::MAX && self.is_clipped_above => End::Above,
            _ => End::Known,
        }
    }
}

/// For each clipped channel the level in its range that is nearest to the others.
fn nearest(levels: [i32; 3], ends: [End; 3], max: i32) -> [i32; 3] {
    let [red, green, blue] = levels;
    let others = [[green, blue], [red, blue], [red, green]];
    let mut found = levels;
    for ((found, end), [one, other]) in found.iter_mut().zip(ends).zip(others) {
        let known = *found;
        *found = match end {
            End::Known => known,
            End::Above => one.max(other).clamp(known.min(max), max),
            End::Below => one.min(other).clamp(0, known.max(0)),
        };
    }
    found
}

fn value_of(values: &Triple, channel: usize) -> f64 {
    values.get(channel).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn models() -> impl Strategy<Value = Shift> {
        let parts = prop::array::uniform3(0.0..1.0_f64);
        (prop::bool::ANY, parts).prop_map(|(offset, parts)| {
            if offset { ShiftModel::Offset } else { ShiftModel::Gain }.drawn(parts)
        })
    }

    /// How far one level of the shifted photo reaches in the original: a gain under 1 brings
    /// several levels to one.
    fn coarseness<T: Sample>(shift: &Shift, channel: usize, level: usize) -> f64 {
        let max = T::MAX as f64;
        match shift.model {
            ShiftModel::Offset => 1.0,
            ShiftModel::Gain => {
                let there = |level: f64| encoded(linear(level / max) * shift.values[channel]) * max;
                let slope = there(level as f64 + 0.5) - there(level as f64 - 0.5);
                (1.0 / slope).max(1.0)
            }
        }
    }

    fn comes_back<T: Sample>(shift: &Shift, original: &[T]) -> Result<(), TestCaseError> {
        let mut samples = original.to_vec();
        distort(&mut samples, 3, shift);
        let shifted = samples.clone();
        Undo::new(shift).apply(&mut samples, 3);
        for (n, (was, is)) in original.iter().zip(&samples).enumerate() {
            let pixel = &shifted[n / 3 * 3..n / 3 * 3 + 3];
            let is_clipped = pixel.iter().any(|v| v.index() == 0 || v.index() == T::MAX);
            let off = (was.index() as f64 - is.index() as f64).abs();
            let allowed = coarseness::<T>(shift, n % 3, was.index());
            prop_assert!(is_clipped || off <= allowed, "{off} of {allowed}: {n} {shift:?}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_known_shift_is_undone_within_a_level(
            shift in models(),
            pixels in prop::collection::vec(any::<u8>(), 300),
        ) {
            comes_back(&shift, &pixels)?;
        }

        #[test]
        fn and_so_it_is_with_16_bits(
            shift in models(),
            pixels in prop::collection::vec(any::<u16>(), 300),
        ) {
            comes_back(&shift, &pixels)?;
        }

        #[test]
        fn a_clipped_value_stays_in_its_range(
            shift in models(),
            pixels in prop::collection::vec(any::<u8>(), 300),
        ) {
            let mut samples = pixels.clone();
            distort(&mut samples, 3, &shift);
            Undo::new(&shift).apply(&mut samples, 3);
            let mut again = samples.clone();
            distort(&mut again, 3, &shift);
            let mut once = pixels;
            distort(&mut once, 3, &shift);
            // Shifting what was found gives the same photo again: no clipped value was left.
            for (a, b) in once.iter().zip(&again) {
                prop_assert!(a.abs_diff(*b) <= 1, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_clipped_channel_comes_near_the_others() {
        let shift = Shift::from_shown(ShiftModel::Offset, [50.0, 0.0, 0.0]);
        // Red was over 205; green and blue say white.
        let mut pixels = [255_u8, 240, 235, 255, 30, 20];
        assert_eq!(Undo::new(&shift).apply(&mut pixels, 3), 2);
        assert_eq!(pixels, [240, 240, 235, 205, 30, 20]);
        let shift = Shift::from_shown(ShiftModel::Offset, [-50.0, 0.0, 0.0]);
        let mut pixels = [0_u8, 20, 30, 0, 200, 180];
        assert_eq!(Undo::new(&shift).apply(&mut pixels, 3), 2);
        assert_eq!(pixels, [20, 20, 30, 50, 200, 180]);
    }

    #[test]
    fn alpha_stays() {
        let shift = Shift::from_shown(ShiftModel::Offset, [10.0, 20.0, 30.0]);
        let mut pixels = [100_u16 << 8, 100 << 8, 100 << 8, 7, 1 << 8, 0, 0, 9];
        distort(&mut pixels, 4, &shift);
        assert_eq!((pixels[3], pixels[7]), (7, 9));
        Undo::new(&shift).apply(&mut pixels, 4);
        assert_eq!((pixels[3], pixels[7]), (7, 9));
        assert_eq!(pixels[..3], [100 << 8; 3]);
    }
}
