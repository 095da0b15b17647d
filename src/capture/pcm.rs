//! Raw PCM bytes into samples. Pure: bytes in, interleaved `f32` out, what is not yet a whole frame
//! is kept for the next call.

use super::settings::{PcmFormat, PcmSample};

/// Turns a byte stream, cut anywhere, into whole frames.
#[derive(Debug)]
pub struct PcmDecoder {
    sample: PcmSample,
    frame_bytes: usize,
    /// The first bytes of a frame whose rest has not come yet.
    partial: Vec<u8>,
    bad_samples: u64,
}

impl PcmDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new(format: PcmFormat) -> Self {
        let frame_bytes = format.sample.bytes() * usize::from(format.channels.max(1));
        Self {
            sample: format.sample,
            frame_bytes,
            partial: Vec::with_capacity(frame_bytes),
            bad_samples: 0,
        }
    }

    /// Appends the whole frames of `bytes` to `out` as interleaved samples, -1 to 1 for integer
    /// formats. Float samples that are not finite become 0 and are counted.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<f32>) {
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let missing = (self.frame_bytes - self.partial.len()).min(rest.len());
            let (head, tail) = rest.split_at(missing);
            self.partial.extend_from_slice(head);
            rest = tail;
            if self.partial.len() < self.frame_bytes {
                return;
            }
            let frame = std::mem::take(&mut self.partial);
            self.convert(&frame, out);
            self.partial = frame;
            self.partial.clear();
        }
        let (whole, tail) = rest.split_at(rest.len() - rest.len() % self.frame_bytes);
        self.convert(whole, out);
        self.partial.extend_from_slice(tail);
    }

    /// Float samples that were not finite, since the start.
    pub fn bad_samples(&self) -> u64 {
        self.bad_samples
    }

    fn convert(&mut self, bytes: &[u8], out: &mut Vec<f32>) {
        match self.sample {
            PcmSample::S16Le => {
                let (samples, _) = bytes.as_chunks::<2>();
                out.extend(samples.iter().map(|&b| f32::from(i16::from_le_bytes(b)) / 32_768.0));
            }
            PcmSample::S24Le => {
                let (samples, _) = bytes.as_chunks::<3>();
                out.extend(samples.iter().map(|&[low, middle, high]| {
                    // In the upper three bytes the sign comes by itself.
                    i32::from_le_bytes([0, low, middle, high]) as f32 / 2_147_483_648.0
                }));
            }
            PcmSample::S32Le => {
                let (samples, _) = bytes.as_chunks::<4>();
                out.extend(samples.iter().map(|&b| i32::from_le_bytes(b) as f32 / 2_147_483_648.0));
            }
            PcmSample::F32Le => {
                let start = out.len();
                let (samples, _) = bytes.as_chunks::<4>();
                out.extend(samples.iter().map(|&b| f32::from_le_bytes(b)));
                self.bad_samples += silence_bad_samples(out.get_mut(start..).unwrap_or_default());
            }
        }
    }
}

/// Sets samples that are NaN or infinite to 0 and returns how many there were.
pub(super) fn silence_bad_samples(samples: &mut [f32]) -> u64 {
    let mut bad = 0;
    for sample in samples {
        if !sample.is_finite() {
            *sample = 0.0;
            bad += 1;
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn format(sample: PcmSample, channels: u16) -> PcmFormat {
        PcmFormat { sample_rate_hz: 16_000, channels, sample }
    }

    fn decode(sample: PcmSample, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        PcmDecoder::new(format(sample, 1)).decode(bytes, &mut out);
        out
    }

    #[test]
    fn extremes_and_zero_of_each_format() {
        assert_eq!(
            decode(PcmSample::S16Le, &[0, 0x80, 0, 0, 0xff, 0x7f]),
            [-1.0, 0.0, 32_767.0 / 32_768.0]
        );
        assert_eq!(
            decode(PcmSample::S24Le, &[0, 0, 0x80, 0, 0, 0, 0, 0, 0x40, 0xff, 0xff, 0xff]),
            [-1.0, 0.0, 0.5, -1.0 / 8_388_608.0]
        );
        assert_eq!(decode(PcmSample::S32Le, &[0, 0, 0, 0x80, 0, 0, 0, 0x40]), [-1.0, 0.5]);
        let floats: Vec<u8> = [0.25f32, -2.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        assert_eq!(decode(PcmSample::F32Le, &floats), [0.25, -2.0]);
    }

    #[test]
    fn samples_that_are_not_finite_become_silence_and_are_counted() {
        let bytes: Vec<u8> = [f32::NAN, 0.5, f32::INFINITY, f32::NEG_INFINITY]
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let mut decoder = PcmDecoder::new(format(PcmSample::F32Le, 2));
        let mut out = Vec::new();
        decoder.decode(&bytes, &mut out);
        assert_eq!(out, [0.0, 0.5, 0.0, 0.0]);
        assert_eq!(decoder.bad_samples(), 3);
    }

    #[test]
    fn a_partial_last_frame_is_kept_back() {
        let mut decoder = PcmDecoder::new(format(PcmSample::S16Le, 2));
        let mut out = Vec::new();
        decoder.decode(&[1, 0, 2, 0, 3, 0, 4], &mut out);
        assert_eq!(out.len(), 2);
        decoder.decode(&[0], &mut out);
        assert_eq!(out.len(), 4);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_samples(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            cuts in prop::collection::vec(1usize..40, 1..40),
            channels in 1u16..4,
            kind in prop::sample::select(vec![
                PcmSample::S16Le, PcmSample::S24Le, PcmSample::S32Le, PcmSample::F32Le,
            ]),
        ) {
            let mut whole = Vec::new();
            PcmDecoder::new(format(kind, channels)).decode(&bytes, &mut whole);
            let mut pieces = Vec::new();
            let mut decoder = PcmDecoder::new(format(kind, channels));
            let mut rest = bytes.as_slice();
            for &cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                decoder.decode(head, &mut pieces);
                rest = tail;
            }
            prop_assert_eq!(&pieces, &whole);
            let frame_bytes = kind.bytes() * usize::from(channels);
            prop_assert_eq!(whole.len(), bytes.len() / frame_bytes * usize::from(channels));
        }
    }
}
