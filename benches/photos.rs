//! What correcting a photo of 12 megapixels costs beside reading and writing it: `cargo bench
//! --bench photos`.

#![allow(clippy::expect_used, missing_docs, reason = "a benchmark may end at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hearken::colour::{Shift, ShiftModel};
use hearken::correct::{ColourModel, Method, Settings};
use hearken::picture::{Format, Photo, View};

const WIDTH: u32 = 4_000;
const HEIGHT: u32 = 3_000;
const QUALITY: u8 = 92;

/// A JPEG of gradients, edges and some noise.
fn jpeg() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut rgb = Vec::with_capacity(WIDTH as usize * HEIGHT as usize * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let edge = u32::from((x / 97 + y / 61) % 5 == 0) * 40;
            let levels = [40 + x * 150 / WIDTH, 30 + y * 160 / HEIGHT, 90];
            rgb.extend(levels.map(|level| (level + edge + random.u32(0..12)).min(255) as u8));
        }
    }
    let photo = Photo::from_rgb8(Format::Jpeg, WIDTH, HEIGHT, rgb);
    photo.write(QUALITY).expect("it can be written")
}

fn photos(criterion: &mut Criterion) {
    let bytes = jpeg();
    let read = || Photo::read(&bytes, None).expect("a photo");
    let model = ColourModel::embedded().expect("the model in the program");
    let mut corrector = model.corrector().expect("it runs here");
    // Whatever the estimate, all pixels are corrected.
    let settings = Settings { min_shift: Some(0.0), ..Settings::default() };
    let mut group = criterion.benchmark_group("photo_12_mp");
    group.sample_size(10);
    group.bench_function("read_write", |bencher| {
        bencher.iter(|| black_box(read().write(QUALITY).expect("it can be written")));
    });
    group.bench_function("read_correct_write", |bencher| {
        bencher.iter(|| {
            let mut photo = read();
            corrector.correct(&mut photo, &settings).expect("it can be corrected");
            black_box(photo.write(QUALITY).expect("it can be written"))
        });
    });
    let photo = read();
    group.bench_function("view", |bencher| {
        bencher.iter(|| black_box(View::of(&photo).expect("a view")));
    });
    let view = View::of(&photo).expect("a view");
    group.bench_function("estimate", |bencher| {
        bencher
            .iter(|| corrector.estimate(black_box(&view), Method::Network).expect("an estimate"));
    });
    let given = Shift::from_shown(ShiftModel::Offset, [20.0, -10.0, 5.0]);
    let settings = Settings { shift: Some(given), ..Settings::default() };
    group.bench_function("undo", |bencher| {
        bencher.iter_batched(
            || photo.clone(),
            |mut photo| corrector.correct(&mut photo, &settings).expect("it can be corrected"),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(photo, photos);
criterion_main!(photo);
