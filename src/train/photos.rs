//! Photographs as examples: a part of each, shifted anew in every epoch.

use super::examples::{Batch, ExampleError, Examples};
use super::shares::Shares;
use crate::colour::{Shift, ShiftModel, distort};
use crate::picture::{Crop, View};

/// Every so often a photo is left as it is, so that clean photos are known, too.
const UNSHIFTED: f64 = 0.25;
/// How often a part of a photo stands for the whole, and how much of each side it has at least.
const CROPPED: f64 = 0.6;
const CROP_LEAST: f64 = 0.5;
/// Times that each photo comes in an epoch of training, and shifts that it is validated with.
const TRAINED: usize = 16;
const VALIDATED: usize = 4;

/// A photo in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// Upright, three bytes a pixel.
    pub rgb: Vec<u8>,
    /// How it was shifted before; `None`: it is clean and is shifted here.
    pub shift: Option<Shift>,
}

/// Photos to learn from, or to validate with.
pub struct PhotoExamples {
    photos: Vec<Picture>,
    model: ShiftModel,
    seed: u64,
    /// Times that each photo comes in an epoch.
    times: usize,
    is_training: bool,
    /// Counts what the network is given instead of pixels.
    shares: Option<Shares>,
}

impl PhotoExamples {
    /// Parts of photos, mirrored or not, sixteen of each; clean ones with other shifts every time.
    pub fn training(photos: Vec<Picture>, model: ShiftModel, seed: u64) -> Self {
        Self { photos, model, seed, times: TRAINED, is_training: true, shares: None }
    }

    /// Whole photos; clean ones with four shifts each, always the same.
    pub fn validation(photos: Vec<Picture>, model: ShiftModel, seed: u64) -> Self {
        Self { photos, model, seed, times: VALIDATED, is_training: false, shares: None }
    }

    /// The same photos for the part of a network behind [`super::shares::SHARES`].
    pub fn as_shares(self) -> Self {
        Self { shares: Some(Shares::default()), ..self }
    }

    /// What the network sees of an example, and how it was shifted.
    ///
    /// # Errors
    /// When there is no such example.
    pub fn view(&self, epoch: u32, index: usize) -> Result<(View, Shift), ExampleError> {
        let failed = |why: String| ExampleError { index, why };
        let photo = self.photos.get(index / self.times).ok_or_else(|| failed("none".to_owned()))?;
        let mut random = self.random(epoch, index);
        let crop = self.is_training.then(|| crop(photo, &mut random)).flatten();
        let draw = [random.f64(), random.f64(), random.f64()];
        let unshifted = self.is_training && random.f64() < UNSHIFTED;
        let drawn = if unshifted { self.model.none() } else { self.model.drawn(draw) };
        let view = match photo.shift {
            Some(_) => View::of_rgb(&photo.rgb, photo.width, photo.height, crop),
            None => {
                let mut rgb = photo.rgb.clone();
                distort(&mut rgb, 3, &drawn);
                View::of_rgb(&rgb, photo.width, photo.height, crop)
            }
        };
        let view = view.map_err(|error| failed(error.to_string()))?;
        Ok((view, photo.shift.unwrap_or(drawn)))
    }

    /// Random numbers of an example's own.
    fn random(&self, epoch: u32, index: usize) -> fastrand::Rng {
        let epoch = if self.is_training { u64::from(epoch) } else { 0 };
        let number = (epoch << 32 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        fastrand::Rng::with_seed(self.seed ^ number)
    }

    fn example(&self, epoch: u32, index: usize, batch: &mut Batch) -> Result<(), ExampleError> {
        let (view, shift) = self.view(epoch, index)?;
        batch.targets.extend(shift.responses().map(|response| response as f32));
        if let Some(shares) = &self.shares {
            batch.images.extend(shares.of(&view));
            return Ok(());
        }
        let mirrored = self.is_training && self.random(epoch, index).bool();
        for channel in 0..3 {
            let plane: Vec<f32> = view.plane(channel).map(f32::from).collect();
            for row in plane.chunks(View::SIDE) {
                if mirrored {
                    batch.images.extend(row.iter().rev());
                } else {
                    batch.images.extend(row);
                }
            }
        }
        Ok(())
    }
}

/// A part of the photo, now and then.
fn crop(photo: &Picture, random: &mut fastrand::Rng) -> Option<Crop> {
    let mut side = |whole: u32| {
        let whole = f64::from(whole);
        let length = whole * (CROP_LEAST + (1.0 - CROP_LEAST) * random.f64());
        ((whole - length) * random.f64(), length)
    };
    let ((left, width), (top, height)) = (side(photo.width), side(photo.height));
    (random.f64() < CROPPED).then_some(Crop { left, top, width, height })
}

impl Examples for PhotoExamples {
    fn len(&self) -> usize {
        self.photos.len() * self.times
    }

    fn outputs(&self) -> usize {
        3
    }

    fn batch(&self, epoch: u32, indices: &[usize]) -> Result<Batch, ExampleError> {
        let mut batch = Batch::default();
        for &index in indices {
            self.example(epoch, index, &mut batch)?;
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photos(shift: Option<Shift>) -> Vec<Picture> {
        let rgb = |n: usize| (0..60 * 40 * 3).map(|at| 80 + ((at * (n + 3)) % 90) as u8).collect();
        (0..8).map(|n| Picture { width: 60, height: 40, rgb: rgb(n), shift }).collect()
    }

    #[test]
    fn training_varies_with_the_epoch_and_validation_does_not() {
        let training = PhotoExamples::training(photos(None), ShiftModel::Offset, 1);
        let all: Vec<usize> = (0..8).collect();
        let first = training.batch(1, &all).unwrap();
        assert_eq!(first.images.len(), 8 * 3 * 227 * 227);
        assert_eq!(first, training.batch(1, &all).unwrap());
        let second = training.batch(2, &all).unwrap();
        assert_ne!(first.targets, second.targets);
        let epochs: Vec<f32> =
            (0..40).flat_map(|epoch| training.batch(epoch, &all).unwrap().targets).collect();
        let unshifted = epochs.chunks(3).filter(|targets| **targets == [0.0; 3]).count();
        assert!((50..110).contains(&unshifted), "{unshifted} of 320");
        assert!(epochs.iter().all(|value| value.abs() <= 0.25));
        let validation = PhotoExamples::validation(photos(None), ShiftModel::Gain, 1);
        assert_eq!((training.len(), validation.len()), (128, 32));
        assert_eq!(validation.batch(1, &all).unwrap(), validation.batch(9, &all).unwrap());
    }

    #[test]
    fn the_target_is_what_was_done_to_the_photo() {
        let validation = PhotoExamples::validation(photos(None), ShiftModel::Offset, 5);
        let shifted = validation.batch(0, &[14]).unwrap();
        let clean = View::of_rgb(&photos(None)[3].rgb, 60, 40, None).unwrap();
        for channel in 0..3 {
            let mean = |values: &mut dyn Iterator<Item = f32>| values.sum::<f32>() / 51_529.0;
            let plane = &shifted.images[channel * 51_529..(channel + 1) * 51_529];
            let moved =
                mean(&mut plane.iter().copied()) - mean(&mut clean.plane(channel).map(f32::from));
            assert!((moved / 255.0 - shifted.targets[channel]).abs() < 0.004);
        }
        let known = Shift::from_shown(ShiftModel::Offset, [5.0, 6.0, 7.0]);
        let shifted_before = PhotoExamples::training(photos(Some(known)), ShiftModel::Offset, 5);
        let expected: Vec<f32> = known.values.iter().map(|&value| value as f32).collect();
        assert_eq!(shifted_before.batch(3, &[20]).unwrap().targets, expected);
    }
}
