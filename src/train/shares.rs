//! What [`Architecture::Quantiles`](super::architecture::Architecture::Quantiles) sees of a photo:
//! for each channel, which share of the pixels is darker than each of many levels. The network
//! counts by convolution; here it is counted by histogram, which gives the same in a hundredth of
//! the time, so that training need not run what it does not change.

use crate::picture::View;

/// Name of the network's value that holds the shares.
pub const SHARES: &str = "shares";
/// Of the view, every so many columns of every so many rows are counted.
pub const STRIDE: usize = 2;
/// Levels from one ramp of the soft histograms to the next.
const RAMP_LEVELS: usize = 4;

/// The ramps of one channel, as centre and width in levels: from 1 to 0 around levels of 2, 6, 10
/// and so on, and one level wide above black and below white.
pub fn ramps() -> Vec<(f32, f32)> {
    let centres = (RAMP_LEVELS / 2..256).step_by(RAMP_LEVELS);
    let inner = centres.map(|centre| (centre as f32, RAMP_LEVELS as f32));
    inner.chain([(0.5, 1.0), (254.5, 1.0)]).collect()
}

/// Counts shares.
pub struct Shares {
    /// For each ramp, how much a pixel of each level counts.
    table: Vec<[f32; 256]>,
}

impl Default for Shares {
    fn default() -> Self {
        let row = |(centre, width): (f32, f32)| {
            std::array::from_fn(|level| (0.5 - (level as f32 - centre) / width).clamp(0.0, 1.0))
        };
        Self { table: ramps().into_iter().map(row).collect() }
    }
}

impl Shares {
    /// The shares of a view, 0 to 1: all of red, then green, then blue.
    pub fn of(&self, view: &View) -> Vec<f32> {
        let mut counts = [[0_u32; 256]; 3];
        let rows = view.pixels().chunks(View::SIDE).step_by(STRIDE);
        for pixel in rows.flat_map(|row| row.iter().step_by(STRIDE)) {
            for (counts, &level) in counts.iter_mut().zip(pixel) {
                if let Some(count) = counts.get_mut(usize::from(level)) {
                    *count += 1;
                }
            }
        }
        let pixels = View::SIDE.div_ceil(STRIDE).pow(2) as f32;
        let share = |counts: &[u32; 256], row: &[f32; 256]| {
            counts.iter().zip(row).map(|(&count, part)| count as f32 * part).sum::<f32>() / pixels
        };
        counts.iter().flat_map(|counts| self.table.iter().map(|row| share(counts, row))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::architecture::Architecture;
    use crate::train::fit::outputs;

    #[test]
    fn counting_gives_what_the_network_sees() {
        let mut random = fastrand::Rng::with_seed(3);
        let level = |n: usize, at: u8| if n.is_multiple_of(7) { at / 129 * 255 } else { at };
        let rgb: Vec<u8> = (0..227 * 227 * 3).map(|n| level(n, random.u8(..))).collect();
        let view = View::of_rgb(&rgb, 227, 227, None).unwrap();
        let whole = Architecture::Quantiles.build(3, 3, 4);
        let part = whole.behind(SHARES).unwrap();
        assert_eq!(part.input, [3 * ramps().len(), 1, 1]);
        let planes: Vec<f32> = (0..3).flat_map(|n| view.plane(n)).map(f32::from).collect();
        let seen = outputs(&whole, &planes).unwrap();
        let counted = outputs(&part, &Shares::default().of(&view)).unwrap();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
        assert!(seen.iter().zip(&counted).all(near), "{seen:?} {counted:?}");
        assert!(seen.iter().any(|value| value.abs() > 0.01));
    }

    #[test]
    fn shares_of_an_even_view_tell_its_levels() {
        let rgb = [0_u8, 128, 255].repeat(227 * 227);
        let shares = Shares::default().of(&View::of_rgb(&rgb, 227, 227, None).unwrap());
        let count = ramps().len();
        let black = |channel: usize| shares[channel * count + count - 2];
        let below_white = |channel: usize| shares[channel * count + count - 1];
        assert_eq!([black(0), black(1), black(2)], [1.0, 0.0, 0.0]);
        assert_eq!([below_white(0), below_white(1), below_white(2)], [1.0, 1.0, 0.0]);
        // Ramps of green lie at 126 and 130.
        assert_eq!([shares[count + 31], shares[count + 32]], [0.0, 1.0]);
    }
}
