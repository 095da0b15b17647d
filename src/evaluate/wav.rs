//! Mono samples as a WAV file of 16 bits.

/// The file's content. What is beyond -1 to 1 is clipped.
pub fn to_wav(samples: &[f32], rate_hz: u32) -> Vec<u8> {
    let data_bytes = (samples.len() * 2) as u32;
    let mut bytes = Vec::with_capacity(44 + samples.len() * 2);
    bytes.extend(b"RIFF");
    bytes.extend((36 + data_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    // 16 bytes of format: PCM, one channel, rate, bytes a second, bytes a frame, bits.
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([1_u16, 1].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend([rate_hz, rate_hz * 2].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend([2_u16, 16].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    let pcm = |sample: &f32| (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16;
    bytes.extend(samples.iter().flat_map(|sample| pcm(sample).to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load;
    use crate::spectrogram::ChannelChoice;

    #[test]
    fn what_is_written_is_decoded_again() {
        let file = tempfile::Builder::new().suffix(".wav").tempfile().unwrap();
        let samples = [0.0, 0.5, -0.25, 1.5, -1.0];
        std::fs::write(file.path(), to_wav(&samples, 16_000)).unwrap();
        let read = load(file.path(), None, 16_000, ChannelChoice::Mix).unwrap();
        for (read, expected) in read.iter().zip([0.0, 0.5, -0.25, 1.0, -1.0]) {
            assert!((read - expected).abs() < 1e-4, "{read} for {expected}");
        }
        assert_eq!(read.len(), samples.len());
    }
}
