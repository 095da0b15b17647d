//! Cuts images to a part of their columns: a network learns from more of them in the same time.

use std::borrow::Cow;

use crate::network::Shape;

/// Keeps a column without any brightness possible, so that there is always one to draw.
const LEAST: f64 = 1e-3;

/// Cuts each of `images` (`n x channels x rows x columns`) to `kept` neighbouring columns, the same
/// ones in all channels: around one that is drawn by the square of its brightness, so that there is
/// mostly something to be heard.
pub(super) fn crop(
    images: &[f32],
    [channels, rows, columns]: Shape,
    kept: usize,
    seed: u64,
) -> Cow<'_, [f32]> {
    if kept >= columns {
        return Cow::Borrowed(images);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cut = Vec::with_capacity(images.len() / columns * kept);
    for image in images.chunks(channels * rows * columns) {
        let drawn = bright_column(image, columns, &mut random);
        let first = (drawn + 1).saturating_sub(kept);
        let start = random.usize(first..=drawn.min(columns - kept));
        for row in image.chunks(columns) {
            cut.extend(row.iter().skip(start).take(kept));
        }
    }
    Cow::Owned(cut)
}

fn bright_column(image: &[f32], columns: usize, random: &mut fastrand::Rng) -> usize {
    let mut sums = vec![0.0_f32; columns];
    for row in image.chunks(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let weight = |sum: &f32| f64::from(*sum).powi(2) + LEAST;
    let mut left = random.f64() * sums.iter().map(weight).sum::<f64>();
    let drawn = sums.iter().position(|sum| {
        left -= weight(sum);
        left <= 0.0
    });
    drawn.unwrap_or(columns - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = [2, 3, 20];

    /// Images whose pixels say where they stand, dark but for one bright column.
    fn images(bright: usize) -> Vec<f32> {
        let pixel = |n: usize| if n % 20 == bright { 1e6 } else { 1e-6 * n as f32 };
        [(0..120).map(pixel).collect::<Vec<_>>(), (0..120).map(pixel).collect()].concat()
    }

    #[test]
    fn a_crop_holds_what_is_bright_and_is_the_same_in_all_rows_and_channels() {
        let mut starts = std::collections::BTreeSet::new();
        for (seed, bright) in (0..200).zip((0..20).cycle()) {
            let whole = images(bright);
            let cut = crop(&whole, SHAPE, 8, seed);
            assert_eq!(cut.len(), 2 * 2 * 3 * 8);
            for (image, whole) in cut.chunks(48).zip(whole.chunks(120)) {
                let start = (0..=12).find(|&at| whole[at..at + 8] == image[..8]).unwrap();
                assert!((start..start + 8).contains(&bright), "{start}, {bright}");
                for (row, whole) in image.chunks(8).zip(whole.chunks(20)) {
                    assert_eq!(row, &whole[start..start + 8]);
                }
                starts.insert(start);
            }
        }
        assert_eq!(starts.len(), 13, "each place is taken: {starts:?}");
    }

    #[test]
    fn silence_is_cut_too_and_whole_images_are_left_alone() {
        let silent = vec![0.0; 120];
        assert_eq!(crop(&silent, SHAPE, 5, 1).len(), 30);
        assert!(matches!(crop(&silent, SHAPE, 20, 1), Cow::Borrowed(same) if same == silent));
    }
}
