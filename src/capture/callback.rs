//! What runs inside the sound system's real-time callback, and nothing else: convert, push, count.
//!
//! Real-time contract: no allocation, no lock, no system call, no log, and a number of steps bound
//! by the size of the block. `tests/realtime.rs` holds precisely this code to it.

use crate::ring::Producer;

/// Samples converted at a time; whole frames of up to 32 channels always fit.
const CHUNK_SAMPLES: usize = 1_024;

/// A sample as a sound system delivers it, in native byte order.
pub trait RawSample: Copy {
    /// The sample as -1 to 1; what is not finite becomes 0.
    fn to_f32(self) -> f32;
}

macro_rules! signed_samples {
    ($($kind:ty),*) => {$(
        impl RawSample for $kind {
            fn to_f32(self) -> f32 {
                self as f32 / -(<$kind>::MIN as f32)
            }
        }
    )*};
}

macro_rules! unsigned_samples {
    ($($kind:ty => $signed:ty),*) => {$(
        impl RawSample for $kind {
            fn to_f32(self) -> f32 {
                // The middle of the range is silence: flipping the top bit is subtracting it.
                ((self ^ (1 << (<$kind>::BITS - 1))) as $signed).to_f32()
            }
        }
    )*};
}

signed_samples!(i8, i16, i32, i64);
unsigned_samples!(u8 => i8, u16 => i16, u32 => i32, u64 => i64);

impl RawSample for f32 {
    fn to_f32(self) -> f32 {
        if self.is_finite() { self } else { 0.0 }
    }
}

impl RawSample for f64 {
    fn to_f32(self) -> f32 {
        (self as f32).to_f32()
    }
}

/// The body of the audio callback: owns the writing end of the ring.
pub struct Callback {
    producer: Producer,
    chunk: Box<[f32]>,
    /// The largest number of samples that fit the chunk and make whole frames.
    step: usize,
}

impl Callback {
    /// Takes the ring's writing end. All memory is allocated here. Rings of more than 1,024
    /// channels are not served.
    pub fn new(producer: Producer) -> Self {
        let channels = producer.channels().max(1);
        let step = (CHUNK_SAMPLES / channels).max(1) * channels;
        Self { producer, chunk: vec![0.0; step].into_boxed_slice(), step }
    }

    /// Hands one block of interleaved samples over; what does not fit the ring is dropped, counted
    /// and marked there.
    pub fn on_samples<T: RawSample>(&mut self, samples: &[T]) {
        for piece in samples.chunks(self.step) {
            for (converted, raw) in self.chunk.iter_mut().zip(piece) {
                *converted = raw.to_f32();
            }
            if let Some(converted) = self.chunk.get(..piece.len()) {
                self.producer.push(converted);
            }
        }
    }

    /// Marks a gap for frames that the device lost before they reached the callback.
    pub fn on_overrun(&mut self, lost_frames: u64) {
        self.producer.lose(lost_frames);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring;

    #[test]
    fn each_format_maps_its_range_to_minus_one_to_one() {
        assert_eq!([i8::MIN, 0, 64].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([i16::MIN, 0, 16_384].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([i32::MIN, 0, 1 << 30].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([i64::MIN, 0, 1 << 62].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([u8::MIN, 128, 192].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([u16::MIN, 32_768, 49_152].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([u32::MIN, 1 << 31, 3 << 30].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([u64::MIN, 1 << 63, 3 << 62].map(RawSample::to_f32), [-1.0, 0.0, 0.5]);
        assert_eq!([f32::NAN, f32::INFINITY, 0.25].map(RawSample::to_f32), [0.0, 0.0, 0.25]);
        assert_eq!([f64::NAN, 1e300, 0.25].map(RawSample::to_f32), [0.0, 0.0, 0.25]);
    }

    #[test]
    fn blocks_longer_than_the_chunk_arrive_whole_and_in_order() {
        let (producer, mut consumer) = ring::ring(3, 4_000);
        let samples: Vec<f32> = (0..9_999).map(|n| n as f32 / 10_000.0).collect();
        Callback::new(producer).on_samples(&samples);
        let mut heard = Vec::new();
        assert_eq!(consumer.pop(&mut heard).frames, 3_333);
        assert_eq!(heard, samples);
    }

    #[test]
    fn an_overrun_is_a_gap_before_the_next_block() {
        let (producer, mut consumer) = ring::ring(1, 100);
        let mut callback = Callback::new(producer);
        callback.on_samples(&[0.5f32; 10]);
        callback.on_overrun(7);
        callback.on_samples(&[0.5f32; 5]);
        let mut heard = Vec::new();
        assert_eq!(consumer.pop(&mut heard), ring::Popped { gap_frames: 0, frames: 10 });
        assert_eq!(consumer.pop(&mut heard), ring::Popped { gap_frames: 7, frames: 5 });
        let meter = consumer.meter();
        assert_eq!((meter.lost_frames(), meter.gaps(), meter.arrived_frames()), (7, 1, 22));
    }
}
