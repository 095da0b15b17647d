//! The whole picture: its size, that it shows what the network gets, and what is refused.

use super::super::analyser::{Analyser, InputFormat};
use super::super::recipe::RowOrder;
use super::super::settings::ChannelChoice;
use super::*;

fn recipe() -> Recipe {
    Recipe::parse(include_str!("../../../models/sound.recipe.json")).unwrap()
}

fn input<'a>(recipe: &'a Recipe, channels: &'a [Vec<f32>], sample_rate_hz: u32) -> PlotInput<'a> {
    PlotInput {
        title: "a test",
        sample_rate_hz,
        channels,
        channel: None,
        start_s: 0.0,
        recipe,
        fmin_hz: None,
        fmax_hz: None,
    }
}

fn noise(len: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(11);
    (0..len).map(|_| random.f32() - 0.5).collect()
}

/// Width and height from the header of a PNG (RFC 2083, 4.1.1).
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[12..16], b"IHDR");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn the_height_grows_with_the_channels_up_to_a_limit() {
    let recipe = recipe();
    let channels = vec![noise(4_000); 12];
    let mut heights = Vec::new();
    for count in [1, 2, 3, 8, 9, 12] {
        let (width, height) = size(&plot_png(&input(&recipe, &channels[..count], 16_000)).unwrap());
        assert_eq!(width, 1200);
        heights.push(height);
    }
    assert!(heights.windows(2).take(4).all(|pair| pair[0] < pair[1]), "{heights:?}");
    assert_eq!(heights[4], heights[5]);
}

#[test]
fn every_column_is_the_networks() {
    let recipe = recipe();
    let frames = recipe.columns * recipe.hop;
    let channels = [noise(frames), noise(frames + 1)[1..].to_vec()];
    for channel in [None, Some(0), Some(1)] {
        let asked = PlotInput { channel, ..input(&recipe, &channels, recipe.sample_rate_hz) };
        let content = Content::new(&asked, frames, recipe.columns).unwrap();
        let heard: Vec<f32> = match channel {
            Some(index) => channels[index].clone(),
            None => channels[0].iter().zip(&channels[1]).map(|(a, b)| (a + b) * 0.5).collect(),
        };
        let format = InputFormat {
            sample_rate_hz: recipe.sample_rate_hz,
            channels: 1,
            choice: ChannelChoice::First,
        };
        let mut image = None;
        let mut analyser = Analyser::new(&recipe, format, 23).unwrap();
        analyser.push(&heard, &mut |slice| image = slice.image.or(image.take()));
        analyser.finish(&mut |slice| image = slice.image.or(image.take()));
        for (band, row) in image.unwrap().rows_in(RowOrder::LowestFirst).enumerate() {
            let drawn: Vec<u8> = (0..row.len()).map(|x| content.columns.value(x, band)).collect();
            assert_eq!(drawn, row, "channel {channel:?}, band {band}");
        }
    }
}

#[test]
fn a_tones_mean_spectrum_peaks_at_its_band() {
    let recipe = recipe();
    let sample = |n: u32| (n as f32 * std::f32::consts::TAU * 2_000.0 / 44_100.0).sin();
    let channels = [(0..44_100).map(sample).collect::<Vec<f32>>()];
    let content = Content::new(&input(&recipe, &channels, 44_100), 44_100, 100).unwrap();
    let peak = content.mean_db.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    let centre_hz = super::super::mel::FilterBank::centres_hz(&recipe)[peak];
    assert!((centre_hz - 2_000.0).abs() < 20.0, "{centre_hz} Hz");
}

#[test]
fn short_silent_and_broken_sound_is_drawn() {
    let recipe = recipe();
    let sounds = [vec![0.0], vec![0.5; 2], vec![0.0; 30_000], vec![f32::NAN; 3_000]];
    for (samples, rate) in sounds.into_iter().zip([192_000, 8_000, 44_100, 32_000]) {
        let channels = [samples];
        let asked = PlotInput {
            title: "a\nvery long 🐕 title ".repeat(30).leak(),
            start_s: f64::NAN,
            ..input(&recipe, &channels, rate)
        };
        assert_eq!(size(&plot_png(&asked).unwrap()).0, 1200);
    }
}

#[test]
fn limits_crop_and_reach_no_farther_than_the_bands() {
    let recipe = recipe();
    let channels = [noise(8_000)];
    let axis = |fmin_hz, fmax_hz| {
        frequency_axis(&PlotInput { fmin_hz, fmax_hz, ..input(&recipe, &channels, 16_000) })
    };
    let cropped = axis(Some(500.0), Some(2_000.0)).unwrap();
    assert!((cropped.at(500.0), cropped.at(2_000.0)) == (0.0, 1.0));
    let nyquist = axis(None, Some(16_000.0)).unwrap();
    assert_eq!(nyquist.at(f64::from(recipe.max_hz)), 1.0);
}

#[test]
fn errors_name_the_value_and_what_is_allowed() {
    let recipe = recipe();
    let channels = [noise(100), noise(100)];
    let good = || input(&recipe, &channels, 16_000);
    let uneven = [noise(100), noise(99)];
    let cases = [
        (PlotInput { channels: &[], ..good() }, vec!["no samples"]),
        (PlotInput { channels: &[vec![]], ..good() }, vec!["no samples"]),
        (PlotInput { channels: &uneven, ..good() }, vec!["channel 1", "99", "100"]),
        (PlotInput { channel: Some(2), ..good() }, vec!["channel 2", "2 channel(s)"]),
        (PlotInput { fmin_hz: Some(-1.0), ..good() }, vec!["fmin = -1 Hz", "0 to 16000 Hz"]),
        (PlotInput { fmax_hz: Some(f32::NAN), ..good() }, vec!["fmax = NaN", "16000"]),
        (PlotInput { fmax_hz: Some(16_001.0), ..good() }, vec!["fmax = 16001 Hz", "16000"]),
        (
            PlotInput { fmin_hz: Some(900.0), fmax_hz: Some(900.0), ..good() },
            vec!["fmin = 900 Hz", "fmax = 900 Hz", "0 to 16000 Hz"],
        ),
        (PlotInput { fmin_hz: Some(15_500.0), ..good() }, vec!["15500 Hz", "15000 Hz"]),
        (PlotInput { sample_rate_hz: 0, ..good() }, vec!["0 Hz", "32000 Hz"]),
    ];
    for (asked, parts) in cases {
        let error = plot_png(&asked).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
