//! Several channels to one.

use super::settings::ChannelChoice;

/// Appends one sample a frame of `interleaved` (`channels` samples a frame) to `mono`. A sample
/// that is not finite counts as 0, so that one bad value can't spoil a whole stream.
pub fn mix_into(mono: &mut Vec<f32>, interleaved: &[f32], channels: usize, choice: ChannelChoice) {
    let frames = interleaved.chunks_exact(channels.max(1));
    let finite = |sample: f32| if sample.is_finite() { sample } else { 0.0 };
    match choice {
        ChannelChoice::Mix if channels > 1 => {
            let scale = 1.0 / channels as f32;
            mono.extend(frames.map(|frame| frame.iter().map(|&s| finite(s)).sum::<f32>() * scale));
        }
        ChannelChoice::Mix | ChannelChoice::First => {
            mono.extend(frames.filter_map(|frame| frame.first()).map(|&s| finite(s)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_the_mean_and_first_is_the_first() {
        let frames = [1.0, 0.0, 0.5, -0.5, f32::NAN, 0.25];
        let mut mono = Vec::new();
        mix_into(&mut mono, &frames, 2, ChannelChoice::Mix);
        assert_eq!(mono, [0.5, 0.0, 0.125]);
        mono.clear();
        mix_into(&mut mono, &frames, 2, ChannelChoice::First);
        assert_eq!(mono, [1.0, 0.5, 0.0]);
    }
}
