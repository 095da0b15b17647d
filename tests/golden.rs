//! The front end and the network against figures from outside: images and logits by numpy and
//! onnxruntime, kept as data (`tests/golden/README.md`).

use std::path::{Path, PathBuf};

use hearken::capture::decode::AudioFile;
use hearken::hear::SoundModel;
use hearken::network::Activation;
use hearken::spectrogram::{
    Analyser, ChannelChoice, FilterBank, Image, InputFormat, PowerStft, Recipe, Slice,
};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn data(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).expect("golden data");
    serde_json::from_str(&text).expect("golden data is JSON")
}

fn items() -> Vec<Value> {
    data("golden.json")["items"].as_array().expect("a list").clone()
}

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item[key].as_str().expect("a text")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|n| n.as_f64().expect("a number")).collect()
}

fn model() -> SoundModel {
    SoundModel::load(None).expect("the embedded model")
}

/// The first window of a clip, as the daemon would see it.
fn first_image(path: &Path, recipe: &Recipe) -> Image {
    let mut file = AudioFile::open(path).expect("a clip");
    let format = InputFormat {
        sample_rate_hz: file.sample_rate_hz(),
        channels: file.channels(),
        choice: ChannelChoice::First,
    };
    let mut analyser = Analyser::new(recipe, format, 227).expect("a usual rate");
    let mut images = Vec::new();
    let mut keep = |slice: Slice| images.extend(slice.image);
    let mut samples = Vec::new();
    while file.next_block(&mut samples).expect("a whole clip") > 0 {}
    // Some clips are a few samples longer, and the reference ends at 5 s.
    samples.truncate(5 * file.sample_rate_hz() as usize * usize::from(file.channels()));
    analyser.push(&samples, &mut keep);
    analyser.finish(&mut keep);
    images.swap_remove(0)
}

/// Mean difference, and the share of pixels that differ by more than one level.
fn difference(a: &Image, b: &Image) -> (f64, f64) {
    let levels = || a.pixels().iter().zip(b.pixels()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let count = a.pixels().len() as f64;
    (levels().sum::<f64>() / count, levels().filter(|&level| level > 1.0).count() as f64 / count)
}

fn golden_image(item: &Value) -> Image {
    let png = std::fs::read(folder().join(text(item, "png"))).expect("a golden image");
    Image::from_png(&png).expect("a network image")
}

/// The scores that the model's activation makes of the reference's outputs.
fn scores_of(model: &SoundModel, logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    let score = |logit: &f64| match model.metadata.activation {
        Activation::Softmax => logit.exp() / sum,
        Activation::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        Activation::Linear => *logit,
    };
    logits.iter().map(score).collect()
}

#[test]
fn images_equal_the_reference() {
    let recipe = model().recipe;
    for item in items().iter().filter(|item| text(item, "mono") == "first") {
        let name = text(item, "name");
        let image = first_image(&folder().join(text(item, "file")), &recipe);
        let (mean, share) = difference(&image, &golden_image(item));
        // Without a resampler only roundings differ; two good resamplers differ at the band's edge.
        let resampled = item["sample_rate"] != 32_000;
        let (mean_max, share_max) = if resampled { (0.05, 0.003) } else { (0.001, 0.0) };
        assert!(
            mean <= mean_max && share <= share_max,
            "{name}: mean {mean}, {share} over 1 level"
        );
    }
}

#[test]
fn scores_of_the_reference_images_are_those_of_onnxruntime() {
    let model = model();
    let mut judge = model.judge().expect("a judge");
    for item in items() {
        let scores = judge.scores(&golden_image(&item)).expect("scores");
        let expected = scores_of(&model, &numbers(&item["logits"]));
        for (class, (score, expected)) in scores.iter().zip(&expected).enumerate() {
            let error = (f64::from(*score) - expected).abs();
            assert!(error < 1e-4, "{} class {class}: {score} for {expected}", text(&item, "name"));
        }
    }
}

#[test]
fn clips_score_as_in_the_reference_from_end_to_end() {
    let model = model();
    let mut judge = model.judge().expect("a judge");
    for item in items().iter().filter(|item| text(item, "mono") == "first") {
        let image = first_image(&folder().join(text(item, "file")), &model.recipe);
        let scores = judge.scores(&image).expect("scores");
        let best = model.top(&scores, 1).swap_remove(0);
        assert_eq!(&*best.class, text(item, "predicted"));
        for (score, expected) in scores.iter().zip(scores_of(&model, &numbers(&item["logits"]))) {
            assert!((f64::from(*score) - expected).abs() < 0.01, "{}", text(item, "name"));
        }
    }
}

#[test]
fn power_spectra_equal_those_of_scipy() {
    let recipe = model().recipe;
    let mut file = AudioFile::open(&folder().join("synthetic.wav")).expect("a clip");
    let mut samples = Vec::new();
    while file.next_block(&mut samples).expect("a whole clip") > 0 {}
    let mut frames: Vec<Vec<f32>> = Vec::new();
    let mut stft = PowerStft::new(&recipe);
    stft.push(&samples, |power| frames.push(power.to_vec()));
    stft.finish(|power| frames.push(power.to_vec()));
    assert_eq!(frames.len(), 227);
    for frame in data("pieces.json")["stft_power"].as_array().expect("frames") {
        let power = &frames[frame["frame"].as_u64().expect("an index") as usize];
        let max = frame["max"].as_f64().expect("a number");
        for (bin, expected) in numbers(&frame["bins"]).iter().zip(numbers(&frame["power"])) {
            let error = (f64::from(power[*bin as usize]) - expected).abs();
            assert!(error < 1e-6 * max + 1e-4 * expected, "bin {bin}: {error}");
        }
    }
}

#[test]
fn mel_bands_equal_those_of_kaldi() {
    let bank = FilterBank::new(&model().recipe);
    for row in data("pieces.json")["mel_filters"]["rows"].as_array().expect("rows") {
        let band = row["band"].as_u64().expect("an index") as usize;
        let first_bin = row["first_bin"].as_u64().expect("an index") as usize;
        let weights = numbers(&row["weights"]);
        // One bin at a time shows the weight of that bin.
        for bin in first_bin.saturating_sub(2)..first_bin + weights.len() + 2 {
            let mut power = vec![0.0; 1_025];
            power[bin] = 1.0;
            let mut energy = vec![0.0; 227];
            bank.apply(&power, &mut energy);
            let expected = bin.checked_sub(first_bin).and_then(|n| weights.get(n)).unwrap_or(&0.0);
            let error = (f64::from(energy[band]) - expected).abs();
            assert!(error < 1e-5, "band {band} bin {bin}: {} for {expected}", energy[band]);
        }
    }
}
