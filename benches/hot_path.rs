//! What a second of sound costs, stage by stage: `cargo bench --bench hot_path`. Where "elem/s" is
//! printed, an element is what the name says: a column, a window, a block, or a second of audio
//! (then the figure is the speed in times real time). benches/figures.sh prints all figures.

#![allow(clippy::expect_used, missing_docs, reason = "a benchmark may end at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hearken::hear::SoundModel;
use hearken::ring::ring;
use hearken::spectrogram::{
    Analyser, ChannelChoice, ColumnMaker, Image, InputFormat, PowerStft, Recipe, Resampler, Slide,
};

/// Length of the noise.
const SECONDS: u32 = 10;
/// Seconds between two windows of a live source by default.
const HOP_S: f32 = 0.5;

fn model() -> SoundModel {
    SoundModel::load(None).expect("the model in the program")
}

fn noise(samples: u32) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..samples).map(|_| 0.2 * (random.f32() - 0.5)).collect()
}

/// A window of noise.
fn window(recipe: &Recipe) -> Slide {
    let (mut stft, mut maker) = (PowerStft::new(recipe), ColumnMaker::new(recipe));
    let mut slide = Slide::new(recipe.channels, recipe.hop_columns(HOP_S));
    stft.push(&noise(SECONDS * recipe.sample_rate_hz), |power| {
        slide.push(maker.column(power));
    });
    slide
}

fn stft(criterion: &mut Criterion) {
    let recipe = model().recipe;
    let samples = noise(SECONDS * recipe.sample_rate_hz);
    let (mut stft, mut maker) = (PowerStft::new(&recipe), ColumnMaker::new(&recipe));
    let mut columns = 0;
    stft.push(&samples, |_| columns += 1);
    stft.finish(|_| columns += 1);
    let mut group = criterion.benchmark_group("stft");
    group.throughput(Throughput::Elements(columns));
    group.bench_function("columns", |bencher| {
        bencher.iter(|| {
            // In blocks of a hundredth of a second, as a device hands them over.
            for block in samples.chunks(recipe.sample_rate_hz as usize / 100) {
                stft.push(block, |power| _ = black_box(maker.column(power)));
            }
            stft.finish(|power| _ = black_box(maker.column(power)));
        });
    });
    group.finish();
}

fn resample(criterion: &mut Criterion) {
    let recipe = model().recipe;
    let mut group = criterion.benchmark_group("resample");
    group.throughput(Throughput::Elements(SECONDS.into()));
    for rate_hz in [44_100, 48_000] {
        let samples = noise(SECONDS * rate_hz);
        let mut resampler = Resampler::new(rate_hz, recipe.sample_rate_hz).expect("two good rates");
        let mut output = Vec::new();
        group.bench_function(format!("seconds_{rate_hz}_hz"), |bencher| {
            bencher.iter(|| {
                for block in samples.chunks(rate_hz as usize / 100) {
                    output.clear();
                    resampler.push(block, &mut output);
                    black_box(&output);
                }
            });
        });
    }
    group.finish();
}

fn image(criterion: &mut Criterion) {
    let slide = window(&model().recipe);
    let mut group = criterion.benchmark_group("image");
    group.throughput(Throughput::Elements(1));
    group.bench_function("window", |bencher| bencher.iter(|| black_box(slide.image())));
    group.finish();
}

fn analyser(criterion: &mut Criterion) {
    const RATE_HZ: u32 = 48_000;
    const CHANNELS: u16 = 2;
    let recipe = model().recipe;
    let samples = noise(SECONDS * RATE_HZ * u32::from(CHANNELS));
    let format =
        InputFormat { sample_rate_hz: RATE_HZ, channels: CHANNELS, choice: ChannelChoice::Mix };
    let mut analyser =
        Analyser::new(&recipe, format, recipe.hop_columns(HOP_S)).expect("a good rate");
    let mut group = criterion.benchmark_group("analyser");
    group.throughput(Throughput::Elements(SECONDS.into()));
    group.bench_function("seconds_48000_hz_stereo", |bencher| {
        bencher.iter(|| {
            for block in samples.chunks((RATE_HZ * u32::from(CHANNELS)) as usize / 100) {
                analyser.push(block, &mut |slice| _ = black_box(slice));
            }
        });
    });
    group.finish();
}

fn network(criterion: &mut Criterion) {
    let model = model();
    let mut judge = model.judge().expect("a session");
    let image: Image = window(&model.recipe).image();
    let mut group = criterion.benchmark_group("network");
    group.throughput(Throughput::Elements(1));
    group.bench_function("window", |bencher| {
        bencher.iter(|| judge.scores(black_box(&image)).expect("scores"));
    });
    group.finish();
}

fn hand_over(criterion: &mut Criterion) {
    const FRAMES: usize = 480;
    const CHANNELS: u16 = 2;
    let block = noise(FRAMES as u32 * u32::from(CHANNELS));
    let (mut producer, mut consumer) = ring(CHANNELS, 2 * 48_000);
    let mut output = Vec::new();
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(1));
    group.bench_function("block_10_ms_48000_hz_stereo", |bencher| {
        bencher.iter(|| {
            assert_eq!(producer.push(black_box(&block)), FRAMES);
            output.clear();
            assert_eq!(consumer.pop(&mut output).frames, FRAMES);
            black_box(&output);
        });
    });
    group.finish();
}

criterion_group!(hot_path, stft, resample, image, analyser, network, hand_over);
criterion_main!(hot_path);
