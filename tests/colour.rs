//! Photographs: shifts undone at full size with everything beside the pixels kept, files that are
//! no photos, batches, and a colour network from its training to its figures.

#[path = "common/daemon.rs"]
mod daemon;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use daemon::{hearken, outcome, repository};
use hearken::colour::{Shift, ShiftModel, distort};
use hearken::picture::{Format, Photo, Samples};
use serde_json::Value;
use tempfile::TempDir;

const BY_HAND: [&str; 2] = ["--shift", "20,-30,10"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn data(name: &str) -> PathBuf {
    repository("tests/data/photos").join(name)
}

/// A file's copy in `folder`, with the colours shifted by what [`BY_HAND`] undoes.
fn shifted(folder: &Path, name: &str) -> PathBuf {
    let mut photo = read(&data(name));
    let shift = Shift::from_shown(ShiftModel::Offset, [20.0, -30.0, 10.0]);
    match &mut photo.samples {
        Samples::Eight(samples) => distort(samples, photo.channels, &shift),
        Samples::Sixteen(samples) => distort(samples, photo.channels, &shift),
    }
    let path = folder.join(name);
    std::fs::write(&path, photo.write(100).expect("it can be written")).expect("a file");
    path
}

fn read(path: &Path) -> Photo {
    let bytes = std::fs::read(path).expect("a photo");
    Photo::read(&bytes, None).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn levels(photo: &Photo) -> Vec<i32> {
    match &photo.samples {
        Samples::Eight(samples) => samples.iter().map(|&sample| sample.into()).collect(),
        Samples::Sixteen(samples) => samples.iter().map(|&sample| sample.into()).collect(),
    }
}

fn furthest(one: &Photo, other: &Photo) -> i32 {
    assert_eq!((one.width, one.height, one.channels), (other.width, other.height, other.channels));
    let (one, other) = (levels(one), levels(other));
    one.iter().zip(&other).map(|(a, b)| (a - b).abs()).max().expect("it has pixels")
}

/// Runs `correct` with these arguments behind a file's name.
fn correct(path: &Path, arguments: &[&str]) -> (i32, String, String) {
    let path = path.to_string_lossy();
    let words = ["correct", &*path].into_iter().chain(arguments.iter().copied());
    outcome(words)
}

#[test]
fn a_known_shift_is_undone_and_all_else_is_kept() {
    let folder = folder();
    for (name, off, notes) in [
        ("notes.png", 1, true),
        ("notes.webp", 1, true),
        ("alpha.png", 1, false),
        // Written twice with quality.
        ("notes.jpg", 12, true),
        ("notes.tif", 1, true),
        ("notes-big-endian.tif", 1, true),
    ] {
        let path = shifted(folder.path(), name);
        let (code, out, log) = correct(&path, &[BY_HAND[0], BY_HAND[1], "--quality", "100"]);
        assert_eq!((code, log.as_str()), (0, ""), "{name}: {out}");
        assert!(out.contains("shift +20 -30 +10"), "{out}");
        let (stem, ending) = name.split_once('.').expect("an ending");
        let made = folder.path().join(format!("{stem}_corrected.{ending}"));
        let (before, after) = (read(&data(name)), read(&made));
        assert!(furthest(&before, &after) <= off, "{name}: {}", furthest(&before, &after));
        let bytes = std::fs::read(&made).expect("a file");
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        // The camera's name in the EXIF notes; PNG keeps its profile compressed.
        assert_eq!(holds(b"Hearken test camera"), notes, "{name}");
        let profile: &[u8] = if ending == "png" { b"iCCP" } else { b"acsp" };
        assert_eq!(holds(profile), notes, "{name}");
        // The orientation is in the notes, so the pixels lie as they lay.
        assert_eq!((after.width, after.height), (before.width, before.height), "{name}");
    }
}

#[test]
fn depth_is_kept() {
    let folder = folder();
    let mut photo = read(&data("notes.png"));
    let samples: Vec<u16> = levels(&photo).iter().map(|&v| v as u16 * 257 + v as u16 % 7).collect();
    photo.samples = Samples::Sixteen(samples.clone());
    for (format, name) in [(Format::Png, "deep.png"), (Format::Tiff, "deep.tif")] {
        let mut deep = photo.clone();
        deep.format = format;
        let Samples::Sixteen(samples) = &mut deep.samples else { unreachable!("16 bits") };
        distort(samples, 3, &Shift::from_shown(ShiftModel::Gain, [1.3, 0.9, 1.1]));
        let path = folder.path().join(name);
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(&deep.write(0).expect("it can be written")).expect("room");
        let (code, out, log) = correct(&path, &["--gain", "1.3,0.9,1.1", "--suffix", "_fixed"]);
        assert_eq!((code, log.as_str()), (0, ""), "{out}");
        assert!(out.contains("gain 1.30 0.90 1.10"), "{out}");
        let made = read(&folder.path().join(name.replace('.', "_fixed.")));
        assert!(matches!(made.samples, Samples::Sixteen(_)));
        assert!(furthest(&photo, &made) <= 2, "{name}: {}", furthest(&photo, &made));
    }
}

#[test]
fn what_is_no_photo_is_named_and_the_others_go_on() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let whole = std::fs::read(data("notes.jpg")).expect("a photo");
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).expect("a file");
    write("truncated.jpg", &whole[..whole.len() * 3 / 4]);
    write("headless.jpg", &whole[..30]);
    write("empty.jpg", b"");
    write("misnamed.png", &whole);
    write("words.jpg", b"no photo at all, but long enough to be one");
    let png = std::fs::read(data("notes.png")).expect("a photo");
    write("cut.png", &png[..png.len() / 2]);
    for name in ["bomb.jpg", "cmyk.jpg", "animated.png", "animated.webp"] {
        std::fs::copy(data(name), at(name)).expect("a copy");
    }
    let good = shifted(folder.path(), "progressive.jpg");
    let path = folder.path().to_string_lossy();
    let (code, out, log) = outcome(["correct", &*path, "--shift", "20,-30,10"]);
    assert_eq!(code, 1, "{log}");
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(out.starts_with(&*good.to_string_lossy()), "{out}");
    let expected = [
        ("truncated.jpg", "its end is missing"),
        ("headless.jpg", "its end is missing"),
        ("empty.jpg", "it is empty"),
        ("misnamed.png", "its content is Jpeg"),
        ("words.jpg", "no JPEG, PNG, TIFF or WebP"),
        ("cut.png", "damaged"),
        ("bomb.jpg", "30000x30000"),
        ("cmyk.jpg", "CMYK"),
        ("animated.png", "animated"),
        ("animated.webp", "animated"),
    ];
    assert_eq!(log.lines().count(), expected.len(), "{log}");
    for (name, words) in expected {
        let said = log.lines().any(|line| line.contains(name) && line.contains(words));
        assert!(said, "{name}: {words}\n{log}");
    }
    let (code, _, log) = correct(&at("none.jpg"), &[]);
    assert_eq!((code, log.lines().count()), (1, 1), "{log}");
}

#[test]
fn nothing_is_overwritten_unasked_and_nothing_is_left_behind() {
    let folder = folder();
    let path = shifted(folder.path(), "notes.png");
    let made = folder.path().join("notes_corrected.png");
    std::fs::write(&made, b"mine").expect("a file");
    let (code, _, log) = correct(&path, &BY_HAND);
    assert_eq!(code, 1);
    assert!(log.contains("exists already") && log.contains("--force"), "{log}");
    assert_eq!(std::fs::read(&made).expect("it is there"), b"mine");
    let (code, out, _) = correct(&path, &[BY_HAND[0], BY_HAND[1], "--dry-run"]);
    assert_eq!(code, 0);
    assert!(out.contains("would become"), "{out}");
    assert_eq!(std::fs::read(&made).expect("it is there"), b"mine");
    assert_eq!(correct(&path, &[BY_HAND[0], BY_HAND[1], "--force"]).0, 0);
    assert!(furthest(&read(&data("notes.png")), &read(&made)) <= 1);
    // A place where nobody may write.
    let (code, _, log) = correct(&path, &[BY_HAND[0], BY_HAND[1], "--out-dir", "/proc/hearken"]);
    assert_eq!((code, log.lines().count()), (1, 1), "{log}");
    let names = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 2, "a temporary file was left");
}

#[test]
fn grey_photos_and_single_pixels_are_left_or_done_without_harm() {
    let folder = folder();
    let grey = folder.path().join("grey.jpg");
    std::fs::copy(data("grey.jpg"), &grey).expect("a copy");
    let (code, out, _) = correct(&grey, &[]);
    assert_eq!((code, out.contains("without colour, left as it is")), (0, true), "{out}");
    let one = folder.path().join("one.png");
    let pixel = Photo::from_rgb8(Format::Png, 1, 1, vec![90, 40, 200]);
    std::fs::write(&one, pixel.write(0).expect("it can be written")).expect("a file");
    let (code, out, log) = correct(&one, &["--json", "--min-shift", "0"]);
    assert_eq!((code, log.as_str()), (0, ""));
    let said: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["decision"], "corrected");
    assert!(said["estimate"]["r"].is_number() && said["output"].is_string(), "{said}");
    assert_eq!(read(&folder.path().join("one_corrected.png")).width, 1);
}

#[test]
fn a_photo_goes_through_pipes() {
    let folder = folder();
    let path = shifted(folder.path(), "notes.png");
    let through = |input: &Path, arguments: &[&str]| {
        let input = std::fs::File::open(input).expect("a photo");
        let words = ["correct", "-"].into_iter().chain(arguments.iter().copied());
        let mut command = hearken(words);
        command.stdin(Stdio::from(input)).output().expect("the program starts")
    };
    let done = through(&path, &BY_HAND);
    assert!(done.status.success());
    let made = Photo::read(&done.stdout, Some(Format::Png)).expect("a photo");
    assert!(furthest(&read(&data("notes.png")), &made) <= 1);
    // What is left alone comes out as it went in.
    let grey = through(&data("grey.jpg"), &[]);
    assert_eq!(grey.stdout, std::fs::read(data("grey.jpg")).expect("a photo"));
    let bad = through(&repository("Cargo.toml"), &[]);
    assert_eq!((bad.status.code(), bad.stdout.len()), (Some(1), 0));
    let usage = through(&path, &["x.png"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_preview_and_the_other_ways_are_there() {
    let folder = folder();
    let path = shifted(folder.path(), "alpha.png");
    for method in ["cnn", "gray-world", "shades-of-gray", "max-rgb", "statistics"] {
        let words = ["--method", method, "--min-shift", "0", "--preview", "--force", "--json"];
        let (code, out, log) = correct(&path, &words);
        assert_eq!((code, log.as_str()), (0, ""), "{method}");
        let said: Value = serde_json::from_str(&out).expect("JSON");
        let preview = read(Path::new(said["preview"].as_str().expect("a path")));
        assert!(preview.width > 600 && preview.height > 150, "{method}");
    }
    // Strength 0 changes nothing; luminance is kept where it is asked for.
    let grey = |arguments: &[&str]| {
        assert_eq!(correct(&path, arguments).0, 0);
        levels(&read(&folder.path().join("alpha_corrected.png")))
    };
    let force = ["--shift", "30,30,30", "--force"];
    let same = grey(&[&force[..], &["--strength", "0"]].concat());
    assert_eq!(same, levels(&read(&path)));
    assert_eq!(grey(&[&force[..], &["--preserve-luminance"]].concat()), same);
    assert_ne!(grey(&force), same);
    for bad in [["--shift", "1,2"], ["--gain", "0,1,1"], ["--strength", "3"], ["--min-shift", "-1"]]
    {
        assert_eq!(correct(&path, &bad).0, 2, "{bad:?}");
    }
    assert_eq!(correct(&path, &["--model", "models/sound.onnx"]).0, 64);
}

/// A photo without an owner: patches of colours of their own on a ground from dark to light.
fn scene(seed: u64) -> Photo {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let patches: Vec<[f32; 6]> = (0..12).map(|_| std::array::from_fn(|_| random())).collect();
    let pixel = |n: usize| {
        let (x, y) = ((n % 96) as f32 / 96.0, (n / 96) as f32 / 64.0);
        let inside = |patch: &&[f32; 6]| (x - patch[0]).abs() < 0.12 && (y - patch[1]).abs() < 0.15;
        match patches.iter().find(inside) {
            Some(patch) => [patch[2], patch[3], patch[4]].map(|v| (255.0 * v) as u8),
            None => [(255.0 * (0.9 * x + 0.1 * y)) as u8; 3],
        }
    };
    Photo::from_rgb8(Format::Png, 96, 64, (0..96 * 64).flat_map(pixel).collect())
}

#[test]
fn a_network_learns_shifts_and_is_measured() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (clean, test) = (folder.path().join("clean"), folder.path().join("test"));
    for (folder, seeds) in [(&clean, 0..60), (&test, 100..112)] {
        std::fs::create_dir(folder).expect("a folder");
        for seed in seeds {
            let bytes = scene(seed).write(0).expect("it can be written");
            std::fs::write(folder.join(format!("{seed:03}.png")), bytes).expect("a file");
        }
    }
    let (code, out, log) = outcome([
        "train",
        "colour",
        &at("clean"),
        "--epochs",
        "6",
        "--batch",
        "16",
        "--seed",
        "1",
        "--out",
        &at("c.onnx"),
    ]);
    assert_eq!(code, 0, "{log}");
    assert!(out.starts_with("RMSE ") && log.contains("epoch 6 of 6"), "{out}{log}");
    for picture in ["c.curve.png", "c.scatter.png"] {
        assert!(read(Path::new(&at(picture))).width >= 1_000);
    }
    let eval = |data: &str| {
        let words = ["eval", "colour", data, "--model", &at("c.onnx"), "--json", "--seed", "3"];
        let (code, out, log) = outcome(words);
        assert_eq!(code, 0, "{log}");
        serde_json::from_str::<Value>(&out).expect("JSON")
    };
    let figures = eval(&at("test"));
    let number = |value: &Value| value.as_f64().expect("a number");
    for key in ["r", "g", "b", "all", "chroma"] {
        assert!(number(&figures["rmse"][key]) > 0.0, "{key}");
    }
    let nothing = &figures["baselines"]["nothing"]["rmse"]["all"];
    assert!(number(&figures["rmse"]["all"]) < 0.6 * number(nothing), "{figures:#}");
    assert!(number(&figures["delta_e_after"]) < number(&figures["delta_e_before"]));
    assert!(figures["clean_delta_e"].is_number() && figures["clean_touched"].is_number());
    // The same trials out of files: made, and measured as a table.
    let words = ["shift", &at("test"), "--out-dir", &at("shifted"), "--count", "3", "--seed", "3"];
    let (code, _, log) = outcome(words);
    assert_eq!(code, 0, "{log}");
    let table = eval(&format!("{}/shifts.csv", at("shifted")));
    let differs = number(&table["rmse"]["all"]) - number(&figures["rmse"]["all"]);
    assert!(differs.abs() < 0.01, "{differs}");
    assert_eq!(table["trials"], 36);
    assert!(read(Path::new(&at("shifted/montage.png"))).width > 1_000);
    let (code, _, log) = outcome(["shift", &at("none"), "--out-dir", &at("x")]);
    assert_eq!((code, log.lines().count()), (1, 1), "{log}");
}

#[test]
fn the_shipped_model_finds_a_strong_cast() {
    let folder = folder();
    let mut photo = scene(7);
    let clean = levels(&photo);
    let Samples::Eight(samples) = &mut photo.samples else { unreachable!("8 bits") };
    distort(samples, 3, &Shift::from_shown(ShiftModel::Offset, [45.0, -40.0, 0.0]));
    let path = folder.path().join("cast.png");
    std::fs::write(&path, photo.write(0).expect("it can be written")).expect("a file");
    let (code, _, log) = correct(&path, &[]);
    assert_eq!(code, 0, "{log}");
    let made = levels(&read(&folder.path().join("cast_corrected.png")));
    let off = |levels: &[i32]| {
        levels.iter().zip(&clean).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    assert!(off(&made) < 0.35 * off(&levels(&photo)), "{} {}", off(&made), off(&levels(&photo)));
}
