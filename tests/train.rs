//! `hearken train sound`: one's own sounds learnt from a handful of clips, whole networks that go on
//! where another ended, and all that can be wrong with them.

#[path = "common/daemon.rs"]
mod daemon;

use std::path::Path;

use daemon::{outcome, repository};
use serde_json::Value;
use tempfile::TempDir;

const RATE_HZ: u32 = 16_000;
const CLASSES: [&str; 3] = ["low_beep", "high_beep", "warble"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A mono WAV file of 16-bit samples.
fn wav(samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> =
        samples.iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()).collect();
    let length = u32::try_from(data.len()).expect("a short file");
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(RATE_HZ.to_le_bytes());
    bytes.extend((2 * RATE_HZ).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Two seconds of a quiet room with a sound of that class at a place, a pitch and a level of its
/// own.
fn clip(class: &str, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let (start, level) = ((random() * 12_000.0) as usize, 0.1 + 0.2 * random());
    let detune = 1.0 + 0.08 * random();
    let sample = |n: usize| {
        let turns = |hz: f32| std::f32::consts::TAU * hz * n as f32 / RATE_HZ as f32;
        let tone = |hz: f32| turns(hz * detune).sin() * level;
        let sound = match class {
            "low_beep" => tone(400.0),
            "high_beep" => tone(2_600.0),
            _ => (turns(1_000.0 * detune) + 80.0 * turns(5.0).sin()).sin() * level,
        };
        let on = (start..start + 16_000).contains(&n);
        (random() - 0.5) * 0.003 + if on { sound } else { 0.0 }
    };
    wav(&(0..32_000).map(sample).collect::<Vec<f32>>())
}

/// A folder for each class with `count` clips.
fn sounds(count: u64) -> TempDir {
    let data = folder();
    for class in CLASSES {
        std::fs::create_dir(data.path().join(class)).expect("a folder");
        for n in 0..count {
            let path = data.path().join(class).join(format!("take {n}.wav"));
            std::fs::write(path, clip(class, 100 + n)).expect("written");
        }
    }
    data
}

fn train(arguments: &[&str]) -> (i32, String, String) {
    outcome(["train", "sound"].iter().chain(arguments))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn show(model: &str) -> Value {
    let (code, out, error) = outcome(["model", "show", "--json", model]);
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).expect("JSON")
}

/// What the model takes a file for, with its score.
fn heard(model: &str, file: &str) -> (String, f64) {
    let (code, out, error) = outcome(["classify", "--json", "--model", model, file]);
    assert_eq!(code, 0, "{error}");
    let line: Value = serde_json::from_str(&out).expect("a line of JSON");
    (line["class"].as_str().expect("a class").to_owned(), line["score"].as_f64().expect("a score"))
}

#[test]
fn sounds_that_were_learnt_are_heard_and_others_are_not() {
    let (data, out) = (sounds(8), folder());
    let model = text(&out.path().join("own.onnx"));
    let (code, table, error) = train(&[&text(data.path()), "--head", "--out", &model]);
    assert_eq!(code, 0, "{error}");
    assert!(table.contains("high_beep") && table.contains("accuracy"), "{table}");
    for picture in ["own.curve.png", "own.confusion.png"] {
        let bytes = std::fs::read(out.path().join(picture)).expect("a picture");
        assert_eq!(&bytes[1..4], b"PNG", "{picture}");
    }
    for class in CLASSES {
        let file = out.path().join("new.wav");
        std::fs::write(&file, clip(class, 9_000)).expect("written");
        let (found, score) = heard(&model, &text(&file));
        assert_eq!(found, class);
        assert!(score > 0.5, "{class} {score}");
    }
    let (class, score) = heard(&model, &text(&repository("tests/golden/rain.ogg")));
    let shown = show(&model);
    let threshold = shown["decision"]["classes"][&class]["on"].as_f64().expect("a threshold");
    assert!(score < threshold, "rain is no {class}: {score} of {threshold}");
    assert_eq!(shown["activation"], "sigmoid");
    assert_eq!(shown["card"]["training"]["clips"], 24);
    assert!(shown["card"]["metrics"]["held_back_accuracy"].as_f64().expect("a share") > 0.9);
}

#[test]
fn kept_classes_give_what_they_gave_and_new_ones_stand_beside_them() {
    let (data, out) = (sounds(6), folder());
    let model = text(&out.path().join("more.onnx"));
    let (code, _, error) =
        train(&[&text(data.path()), "--head", "--keep-classes", "--out", &model]);
    assert_eq!(code, 0, "{error}");
    let (own, shipped) = (show(&model), show(&text(&repository("models/sound.onnx"))));
    let (outputs, before) = (&own["outputs"], shipped["outputs"].as_array().expect("names"));
    assert_eq!(outputs.as_array().expect("names").len(), before.len() + 3);
    assert_eq!(outputs[before.len() + 2], "warble");
    assert_eq!(own["activation"], shipped["activation"]);
    let recommended = own["decision"]["recommended"].as_array().expect("names");
    assert!(recommended.iter().any(|name| name == "low_beep"), "{recommended:?}");
    for name in ["dog", "siren", "crying_baby"] {
        let file = text(&repository("tests/golden").join(format!("{name}.ogg")));
        let (found, score) = heard(&model, &file);
        let (_, before) = heard(&text(&repository("models/sound.onnx")), &file);
        assert_eq!(found, name);
        // In a softmax model the new classes take something from the old ones, else nothing.
        let least = if own["activation"] == "softmax" { 0.5 } else { before - 1e-3 };
        assert!(score >= least, "{name}: {score}, before {before}");
    }
    let file = out.path().join("new.wav");
    std::fs::write(&file, clip("high_beep", 9_001)).expect("written");
    assert_eq!(heard(&model, &text(&file)).0, "high_beep");
}

#[test]
fn the_same_seed_gives_the_same_network_and_a_table_its_folds() {
    let (data, out) = (sounds(4), folder());
    let mut table = "file,label,fold\n".to_owned();
    for class in CLASSES {
        for n in 0..4 {
            table.push_str(&format!("{class}/take {n}.wav,{class},{}\n", 1 + n % 2));
        }
    }
    let csv = text(&data.path().join("clips.csv"));
    std::fs::write(&csv, table).expect("written");
    let path = |name: &str| text(&out.path().join(name));
    let make = |name: &str, seed: &str| {
        let (code, _, error) = train(&[
            &csv,
            "--head",
            "--folds",
            "1",
            "--validate",
            "2",
            "--seed",
            seed,
            "--out",
            &path(name),
        ]);
        assert_eq!(code, 0, "{error}");
        std::fs::read(out.path().join(name)).expect("a model")
    };
    let (first, other) = (make("a.onnx", "1"), make("c.onnx", "2"));
    // The same but for the command in the card.
    let again = make("b.onnx", "1");
    let differing = first.iter().zip(&again).filter(|(a, b)| a != b).count();
    assert!(first.len() == again.len() && differing < 10, "{differing} bytes differ");
    assert_ne!(first, other);
    let clips = &show(&path("a.onnx"))["card"]["metrics"]["classes"]["warble"]["clips"];
    assert_eq!(*clips, 2, "fold 2 is held back");
}

#[test]
fn a_whole_network_begins_from_nothing_and_another_goes_on_from_it() {
    let (data, out) = (sounds(4), folder());
    let path = |name: &str| text(&out.path().join(name));
    let data_path = text(data.path());
    let shipped = std::fs::read_to_string(repository("models/sound.recipe.json")).expect("recipe");
    std::fs::write(path("fine.json"), shipped.replace("705", "352")).expect("written");
    let finest = shipped.replace(r#""channels": 1"#, r#""channels": 3"#);
    std::fs::write(path("finest.json"), finest).expect("written");
    std::fs::write(path("bad.json"), "{}").expect("written");
    let (first, second) = (path("first.onnx"), path("second.onnx"));
    let (fine, bad) = (path("fine.json"), path("bad.json"));
    let short = ["--epochs", "1", "--batch", "4"];
    let run = |more: &[&str]| train(&[&[data_path.as_str()], &short[..], more].concat());
    let begin = |recipe| run(&["--architecture", "mn04", "--recipe", recipe, "--out", &first]);
    let (code, _, error) = begin(&bad);
    assert!(code == 1 && error.contains("bad.json"), "{code}: {error}");
    let (code, said, error) = begin(&fine);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("3 classes") && error.contains("epoch 1 of 1"), "{said} {error}");
    assert!(Path::new(&path("first.curve.png")).exists());
    let model = show(&first);
    assert_eq!(model["recipe"]["hop"], 352, "{}", model["recipe"]);
    assert_eq!(model["card"]["training"]["layers"], "all");

    std::fs::rename(data.path().join("warble"), data.path().join("siren")).expect("renamed");
    let (code, _, error) = run(&["--from", &first, "--recipe", &fine, "--out", &second]);
    assert!(code == 2 && error.contains("--recipe"), "{code}: {error}");
    let (code, _, error) = run(&["--from", &first, "--started-share", "0.5", "--out", &second]);
    assert_eq!(code, 0, "{error}");
    let model = show(&second);
    assert_eq!(model["card"]["training"]["settings"]["started_share"], 0.5);
    let classes = serde_json::json!(["high_beep", "low_beep", "siren"]);
    assert_eq!(model["outputs"], classes);
    assert_eq!(model["decision"]["recommended"], classes, "one's own are reported");
    // Those of the model in the program were chosen for its scores, not for these.
    assert_eq!(model["decision"]["classes"], serde_json::json!({}), "a siren has the usual rule");
    assert_eq!(model["recipe"]["hop"], 352, "the recipe goes with the network");
    let (label, _) = heard(&second, &text(&data.path().join("siren/take 0.wav")));
    assert!(["high_beep", "low_beep", "siren"].contains(&label.as_str()));

    // Three channels: what is drawn is what is heard, and a grey picture is refused.
    let (third, finest) = (path("third.onnx"), path("finest.json"));
    let begun = ["--architecture", "dense", "--recipe", &finest, "--out", &third];
    let strided = ["--architecture", "mn04-strided", "--recipe", &finest, "--out", &third];
    let (code, _, error) = run(&strided);
    assert!(code == 2 && error.contains("mn04-strided"), "{code}: {error}");
    let (code, _, error) = run(&begun);
    assert_eq!(code, 0, "{error}");
    let sound = text(&data.path().join("siren/take 0.wav"));
    let (colour, grey) = (path("colour.png"), path("grey.png"));
    for (model, picture) in [(&third, &colour), (&second, &grey)] {
        let (code, _, error) = outcome(["spectrogram", "--model", model, &sound, "--out", picture]);
        assert_eq!(code, 0, "{error}");
        assert_eq!(heard(model, picture), heard(model, &sound));
    }
    let (code, _, error) = outcome(["classify", "--model", &third, &grey]);
    assert!(
        code != 0 && error.contains("grey.png") && error.contains("model's have 3"),
        "{code}: {error}"
    );
    let [shipped, card] =
        ["models/sound.onnx", "models/sound.card.json"].map(|name| text(&repository(name)));
    let wrapped =
        ["model", "wrap", &shipped, "--card", &card, "--recipe", &finest, "--out", &path("x.onnx")];
    let (code, _, error) = outcome(wrapped);
    assert!(code != 0 && error.contains("takes 1 channels"), "{code}: {error}");
}

#[test]
fn a_training_that_had_ended_goes_on_for_longer_and_with_crops() {
    let (data, out) = (sounds(4), folder());
    let path = |name: &str| text(&out.path().join(name));
    let (data_path, kept) = (text(data.path()), path("kept"));
    let plan = ["--architecture", "dense", "--batch", "4", "--checkpoint", &kept, "--resume"];
    let run = |more: &[&str]| train(&[&[data_path.as_str()], &plan[..], more].concat());
    let (first, second) = (path("first.onnx"), path("second.onnx"));
    let (code, _, error) = run(&["--epochs", "1", "--out", &first]);
    assert!(code == 0 && error.contains("epoch 1 of 1"), "{code}: {error}");
    let (code, _, error) = run(&["--epochs", "3", "--crop", "0.5", "--out", &second]);
    assert_eq!(code, 0, "{error}");
    let epochs: Vec<&str> = error.lines().filter_map(|line| line.split(": loss").next()).collect();
    assert_eq!(epochs, ["hearken: epoch 2 of 3", "hearken: epoch 3 of 3"], "{error}");
    let settings = &show(&second)["card"]["training"]["settings"];
    assert_eq!((&settings["crop"], &settings["epochs"]), (&0.5.into(), &3.into()));
    let (label, _) = heard(&second, &text(&data.path().join("warble/take 0.wav")));
    assert!(CLASSES.contains(&label.as_str()), "{label}");
    let (code, _, error) = run(&["--epochs", "3", "--seed", "1", "--out", &path("third.onnx")]);
    assert!(code == 1 && error.contains("other"), "{code}: {error}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_learnt() {
    let (data, out) = (sounds(2), folder());
    let path = |name: &str| text(&out.path().join(name));
    let data_path = text(data.path());
    let refused = |arguments: &[&str], wanted: &[&str]| {
        let (code, _, error) = train(arguments);
        assert_ne!(code, 0);
        for part in wanted {
            assert!(error.contains(part), "{part} in: {error}");
        }
    };
    let model = path("model.onnx");
    refused(&[&path("nowhere"), "--head", "--out", &model], &["nowhere"]);
    refused(&[&data_path, "--out", &model, "--keep-classes"], &["--head"]);
    refused(&[&data_path, "--architecture", "dense", "--batch", "0", "--out", &model], &["4096"]);
    refused(
        &[&data_path, "--architecture", "dense", "--crop", "0", "--out", &model],
        &["0.1 to 1"],
    );
    let nowhere = path("nowhere/model.onnx");
    refused(&[&data_path, "--head", "--out", &nowhere], &["there is no folder"]);
    std::fs::create_dir(data.path().join("lonely")).expect("a folder");
    std::fs::write(data.path().join("lonely/one.wav"), clip("warble", 1)).expect("written");
    refused(&[&data_path, "--head", "--out", &model], &["lonely", "at least two clips"]);
    std::fs::write(data.path().join("lonely/two.wav"), b"no audio").expect("written");
    std::fs::write(data.path().join("lonely/three.wav"), wav(&[0.0; 16_000])).expect("written");
    refused(&[&data_path, "--head", "--out", &model], &["two.wav", "three.wav", "silent"]);
    std::fs::rename(data.path().join("lonely"), data.path().join("dog")).expect("renamed");
    std::fs::write(data.path().join("dog/two.wav"), clip("warble", 2)).expect("written");
    std::fs::write(data.path().join("dog/three.wav"), clip("warble", 3)).expect("written");
    refused(&[&data_path, "--head", "--keep-classes", "--out", &model], &["dog", "already"]);
    let broken = path("broken.onnx");
    std::fs::write(&broken, b"no model").expect("written");
    refused(&[&data_path, "--head", "--from", &broken, "--out", &model], &["broken.onnx", "ONNX"]);
    refused(&[&data_path, "--head", "--out", &broken], &["broken.onnx", "--force"]);
    assert!(!Path::new(&model).exists(), "nothing is written when something is wrong");
}

#[test]
fn the_other_sounds_that_the_model_learned_from_are_measured_on_by_the_same_folds() {
    let rows = |table: &str, folder: &str| -> Vec<String> {
        let text = std::fs::read_to_string(repository(table)).expect("the table");
        let rows = text.lines().filter_map(|row| row.strip_prefix(folder));
        // File, label and fold.
        rows.map(|row| row.split(',').take(3).collect::<Vec<_>>().join(",")).collect()
    };
    let learned = rows("models/sound.clips.csv", "background/debian/");
    let (unheard, measured): (Vec<_>, Vec<_>) = rows("models/backgrounds.csv", "debian/")
        .into_iter()
        .partition(|row| row.starts_with("unheard/"));
    assert_eq!(learned.len(), 368, "as many as scripts/negatives.py makes");
    assert_eq!(learned, measured);
    assert_eq!(unheard.len(), 261, "as many as it makes with --unheard");
    for (rows, least) in [(learned, 80), (unheard, 60)] {
        for fold in 1..=4 {
            let of_fold = rows.iter().filter(|row| row.ends_with(&format!(",{fold}"))).count();
            assert!(of_fold > least, "fold {fold} has {of_fold}");
        }
    }
}
