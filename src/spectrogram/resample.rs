//! Any sample rate to the recipe's, by rubato's synchronous FFT resampler, with its delay taken
//! out so that sample 0 stays sample 0.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// Input frames a block holds, at least: long blocks keep the filter's edge close to the Nyquist
/// frequency, short ones answer sooner. A product of twos and threes, so that the usual rates give
/// lengths that are quick to transform.
const BLOCK_FRAMES: u32 = 2304;

/// A mono stream resampler. Blocks of fixed size are cut from the stream, so that the output does
/// not depend on how the input was chunked.
pub struct Resampler {
    inner: Option<Fft<f32>>,
    ratio: f64,
    block_frames: usize,
    pending: Vec<f32>,
    block: Vec<f32>,
    /// Output frames of the filter's delay that are still to be thrown away.
    skip: usize,
    frames_in: u64,
    frames_out: u64,
}

impl Resampler {
    /// From `input_hz` to `output_hz`. Fails on a rate of 0 only.
    pub fn new(input_hz: u32, output_hz: u32) -> Result<Self, String> {
        let mut resampler = Self {
            inner: None,
            ratio: f64::from(output_hz) / f64::from(input_hz.max(1)),
            block_frames: 0,
            pending: Vec::new(),
            block: Vec::new(),
            skip: 0,
            frames_in: 0,
            frames_out: 0,
        };
        if input_hz != output_hz {
            let window = WindowFunction::BlackmanHarris2;
            let fft = Fft::new_custom(
                input_hz as usize,
                output_hz as usize,
                block_frames(input_hz, output_hz),
                1,
                1,
                window,
                FixedSync::Both,
            )
            .map_err(|error| error.to_string())?;
            resampler.block_frames = fft.input_frames_next();
            resampler.block = vec![0.0; fft.output_frames_max()];
            resampler.skip = fft.output_delay();
            resampler.inner = Some(fft);
        }
        Ok(resampler)
    }

    /// Appends to `output` what the stream so far, with `input` added, gives.
    pub fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        self.frames_in += input.len() as u64;
        if self.inner.is_none() {
            output.extend_from_slice(input);
            return;
        }
        self.pending.extend_from_slice(input);
        let mut used = 0;
        while let Some(piece) = self.pending.get(used..used + self.block_frames) {
            let piece = SequentialSlice::new(piece, 1, self.block_frames);
            let out_frames = self.block.len();
            let Some(inner) = &mut self.inner else { return };
            let block = SequentialSlice::new_mut(&mut self.block, 1, out_frames);
            let (Ok(piece), Ok(mut block)) = (piece, block) else { return };
            // Sizes are the resampler's own, so this has no way to fail.
            let Ok((_, made)) = inner.process_into_buffer(&piece, &mut block, None) else { return };
            used += self.block_frames;
            let skipped = self.skip.min(made);
            self.skip -= skipped;
            self.frames_out += (made - skipped) as u64;
            output.extend_from_slice(self.block.get(skipped..made).unwrap_or_default());
        }
        self.pending.drain(..used);
    }

    /// Ends the stream: appends what the filter still held, so that the whole output has
    /// `round(input * ratio)` frames.
    pub fn finish(&mut self, output: &mut Vec<f32>) {
        if self.inner.is_none() {
            return;
        }
        let total = (self.frames_in as f64 * self.ratio).round() as u64;
        let silence = vec![0.0; self.block_frames];
        while self.frames_out < total {
            let before = self.frames_out;
            self.push(&silence, output);
            if self.frames_out == before && self.skip == 0 {
                break;
            }
        }
        let surplus = (self.frames_out.saturating_sub(total)) as usize;
        output.truncate(output.len().saturating_sub(surplus));
    }
}

/// Input frames of a block: a multiple of the shortest that both rates divide into whole frames,
/// and even, since the filter's delay is half a block and has to be whole frames too.
fn block_frames(input_hz: u32, output_hz: u32) -> usize {
    let (mut a, mut b) = (input_hz, output_hz);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let shortest = input_hz / a.max(1);
    let blocks = BLOCK_FRAMES.div_ceil(shortest.max(1));
    let blocks = if shortest % 2 == 1 { blocks.next_multiple_of(2) } else { blocks };
    shortest.saturating_mul(blocks) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate_hz: u32, hz: f64, frames: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * hz / f64::from(rate_hz);
        (0..frames).map(|n| (step * n as f64).sin() as f32 * 0.5).collect()
    }

    fn resample(input: &[f32], from_hz: u32, to_hz: u32, chunk: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(from_hz, to_hz).unwrap();
        let mut output = Vec::new();
        for piece in input.chunks(chunk) {
            resampler.push(piece, &mut output);
        }
        resampler.finish(&mut output);
        output
    }

    #[test]
    fn a_sine_stays_that_sine_in_place_and_level() {
        for from_hz in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000] {
            for hz in [100.0, 1_000.0, 3_500.0] {
                let frames = from_hz as usize;
                let output = resample(&sine(from_hz, hz, frames), from_hz, 32_000, 1_000);
                assert_eq!(output.len(), 32_000, "{from_hz} Hz");
                let expected = sine(32_000, hz, 32_000);
                let worst =
                    (2_000..30_000).map(|n| (output[n] - expected[n]).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-3, "{hz} Hz at {from_hz} Hz is off by {worst}");
            }
        }
    }

    #[test]
    fn what_the_new_rate_can_not_carry_is_gone() {
        let output = resample(&sine(48_000, 20_000.0, 48_000), 48_000, 32_000, 4_096);
        let loudest = output[2_000..30_000].iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(loudest < 1e-3, "an alias of {loudest}");
    }

    #[test]
    fn chunking_changes_nothing() {
        let input = sine(44_100, 777.0, 30_000);
        let whole = resample(&input, 44_100, 32_000, input.len());
        for chunk in [1, 7, 441, 1_023, 5_000] {
            assert_eq!(resample(&input, 44_100, 32_000, chunk), whole, "chunks of {chunk}");
        }
    }
}
