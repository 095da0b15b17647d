//! `hearken eval stream` and `hearken calibrate`: soundscapes of real clips through the whole
//! program, back in as annotated recordings, and rules made from them.

#[path = "common/daemon.rs"]
mod daemon;

use std::path::{Path, PathBuf};

use daemon::{outcome, repository};
use serde_json::Value;
use tempfile::TempDir;

const CLASSES: [&str; 4] = ["dog", "glass_breaking", "siren", "crying_baby"];

/// A folder with `clips`, a subfolder for each class, and `background` with two noises, one of
/// which is said to hold a siren.
fn material() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let make = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    };
    for class in CLASSES {
        let clip = repository("tests/golden").join(format!("{class}.ogg"));
        std::fs::copy(clip, make("clips").join(make(&format!("clips/{class}"))).join("clip.ogg"))
            .expect("copied");
    }
    let background = make("background");
    for (name, loudness) in [("quiet.wav", 300), ("loud.wav", 3_000)] {
        std::fs::write(background.join(name), noise(20, loudness)).expect("written");
    }
    let table = folder.path().join("backgrounds.csv");
    std::fs::write(table, "file,label\nloud.wav,siren\n").expect("written");
    folder
}

/// A WAV file of 16-bit noise at 32 kHz.
fn noise(seconds: u32, loudness: i32) -> Vec<u8> {
    let mut state = 1_u32;
    let samples = (0..seconds * 32_000).flat_map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sample = (i64::from(state) - (1 << 31)) * i64::from(loudness) / (1 << 31);
        (sample as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend([32_000_u32, 64_000].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// The command line of soundscapes of this material: three minutes.
fn soundscapes(folder: &Path) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    [
        ("--clips", at("clips")),
        ("--background", at("background")),
        ("--background-classes", at("backgrounds.csv")),
        ("--classes", CLASSES.join(",")),
        ("--hours", "0.05".to_owned()),
        ("--snr", "12".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn run(arguments: &[&[&str]]) -> (i32, String, String) {
    outcome(arguments.concat())
}

fn strings(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

fn part<'a>(measured: &'a Value, name: &str) -> &'a Value {
    let parts = measured["parts"].as_array().expect("parts");
    parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{name}: {measured}"))
}

fn sum(part: &Value, key: &str) -> u64 {
    let rows = part["classes"].as_array().expect("classes");
    rows.iter().map(|row| row[key].as_u64().expect("a count")).sum()
}

/// Of 12 events how many were found.
fn found(part: &Value) -> f64 {
    let rows = part["classes"].as_array().expect("classes");
    let one = |row: &Value| row["found"].as_f64().unwrap_or(0.0) * row["events"].as_f64().unwrap();
    rows.iter().map(one).sum()
}

#[test]
fn soundscapes_are_heard_and_heard_again_as_recordings() {
    let folder = material();
    let saved: PathBuf = folder.path().join("saved");
    let saved_name = saved.display().to_string();
    let soundscapes = soundscapes(folder.path());
    let arguments = strings(&soundscapes);
    let stream = ["eval", "stream", "--json"];
    let (code, out, err) = run(&[&stream, &arguments, &["--save-soundscapes", &saved_name]]);
    assert_eq!(code, 0, "{err}");
    let made: Value = serde_json::from_str(&out).expect("JSON");
    let scenes = part(&made, "soundscapes");
    assert_eq!(scenes["snr_db"], 12.0);
    assert_eq!(sum(scenes, "events"), 12);
    assert!(found(scenes) >= 6.0, "most clips 12 dB over noise are found: {scenes}");
    let classes = part(&made, "backgrounds")["classes"].as_array().expect("classes");
    let siren = classes.iter().find(|row| row["class"] == "siren").expect("a siren");
    let hours = siren["hours_without"].as_f64().expect("hours");
    assert!((hours - 20.0 / 3_600.0).abs() < 1e-6, "one background holds a siren: {hours}");

    let table = saved.join("events.csv").display().to_string();
    let classes = CLASSES.join(",");
    let (code, out, err) = run(&[&stream, &["--truth", &table, "--classes", &classes]]);
    assert_eq!(code, 0, "{err}");
    let read: Value = serde_json::from_str(&out).expect("JSON");
    let recordings = part(&read, "recordings");
    assert_eq!(sum(recordings, "events"), 12);
    // 16 bits a sample may move a score over a threshold once.
    assert!((found(recordings) - found(scenes)).abs() < 1.5, "{recordings}\n{scenes}");

    let (code, _, err) = run(&[&stream, &arguments, &["--save-soundscapes", &saved_name]]);
    assert!(code == 1 && err.contains("--force"), "{code}: {err}");
}

#[test]
fn a_calibrated_model_has_rules_and_a_reliability_table() {
    let folder = material();
    let out = folder.path().join("calibrated.onnx").display().to_string();
    let model = repository("models/sound.onnx").display().to_string();
    let soundscapes = soundscapes(folder.path());
    let arguments = strings(&soundscapes);
    // One of them has no clip.
    let classes = format!("{},rain", CLASSES.join(","));
    let mut with_rain = arguments.clone();
    let place = with_rain.iter().position(|&word| word == "--classes").expect("classes");
    with_rain[place + 1] = &classes;
    let (code, table, err) = run(&[&["calibrate", &model, "--out", &out], &with_rain]);
    assert_eq!(code, 0, "{err}");
    assert!(CLASSES.iter().all(|class| table.contains(class)), "{table}");
    assert!(table.contains("rain: no clip of it was laid"), "{table}");
    let (code, shown, err) = run(&[&["model", "show", "--json", &out]]);
    assert_eq!(code, 0, "{err}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let recommended: Vec<&str> = classes.split(',').collect();
    assert_eq!(shown["decision"]["recommended"], serde_json::json!(recommended));
    for class in CLASSES {
        let rule = &shown["decision"]["classes"][class];
        let (on, off) = (rule["on"].as_f64().expect("on"), rule["off"].as_f64().expect("off"));
        assert!(off < on && on < 1.0, "{rule}");
    }
    let calibration = &shown["card"]["calibration"];
    let windows: u64 = calibration["reliability"]
        .as_array()
        .expect("a table")
        .iter()
        .map(|row| row["windows"].as_u64().expect("a count"))
        .sum();
    assert!(windows > 1_000, "{calibration}");
    let (code, _, err) = run(&[&["eval", "stream", "--model", &out], &arguments]);
    assert_eq!(code, 0, "{err}");
    // Another one of its kind is calibrated like it, once.
    let like = |model: &str, to: &str| run(&[&["calibrate", model, "--like", &out, "--out", to]]);
    let (code, _, err) = like(&out, "x.onnx");
    assert!(code == 2 && err.contains("already"), "{code}: {err}");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (bare, alike) = (at("bare.onnx"), at("alike.onnx"));
    let card = repository("models/sound.card.json");
    let card =
        std::fs::read_to_string(card).expect("a card").replace("\"calibration\"", "\"before\"");
    std::fs::write(at("card.json"), card).expect("written");
    let recipe = repository("models/sound.recipe.json").display().to_string();
    let card = at("card.json");
    let wrap = ["model", "wrap", &model, "--card", &card, "--recipe", &recipe, "--out", &bare];
    let (code, _, err) = run(&[&wrap]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&[&["calibrate", &model, "--like", &bare, "--out", "x.onnx"]]);
    assert!(code == 2 && err.contains("no calibration"), "{code}: {err}");
    let (code, _, err) = like(&bare, &alike);
    assert_eq!(code, 0, "{err}");
    let (_, copied, _) = run(&[&["model", "show", "--json", &alike]]);
    let copied: Value = serde_json::from_str(&copied).expect("JSON");
    assert_eq!(copied["decision"], shown["decision"]);
    assert_eq!(&copied["card"]["calibration"], calibration);
}

#[test]
fn each_fold_is_heard_by_its_own_model_on_its_own_backgrounds() {
    let folder = material();
    let at = |name: &str| folder.path().join(name);
    let rows = CLASSES.iter().enumerate();
    let rows: String =
        rows.map(|(n, class)| format!("{class}/clip.ogg,{class},{}\n", 1 + n % 2)).collect();
    std::fs::write(at("clips/clips.csv"), format!("file,label,fold\n{rows}")).expect("written");
    let table = "file,label,fold\nloud.wav,siren?,1\nquiet.wav,,2\n";
    std::fs::write(at("backgrounds.csv"), table).expect("written");
    std::fs::create_dir(at("cv")).expect("a folder");
    std::fs::copy(repository("models/sound.onnx"), at("cv/fold1.onnx")).expect("copied");
    let (clips, background) = (at("clips/clips.csv"), at("background"));
    let (held, models) = (at("backgrounds.csv"), at("cv/fold{fold}.onnx"));
    let path = |path: &Path| path.display().to_string();
    let arguments = [path(&clips), path(&background), path(&held), path(&models)];
    let [clips, background, held, models] = &arguments;
    let order = [
        "eval",
        "stream",
        "--json",
        "--clips",
        clips,
        "--background",
        background,
        "--background-classes",
        held,
        "--hours",
        "0.05",
        "--snr",
        "12",
        "--models",
        models,
    ];
    let (code, _, err) = run(&[&order, &["--folds", "1,2"]]);
    assert!(code != 0 && err.contains("fold2.onnx"), "{code}: {err}");
    // The same network, but nothing says that its scores are scaled.
    let [model, recipe] = ["models/sound.onnx", "models/sound.recipe.json"].map(repository);
    let card = std::fs::read_to_string(repository("models/sound.card.json")).expect("the card");
    let mut card: Value = serde_json::from_str(&card).expect("JSON");
    card["card"].as_object_mut().expect("an object").remove("calibration");
    std::fs::write(at("raw.json"), card.to_string()).expect("written");
    let [card, raw] = ["raw.json", "cv/fold2.onnx"].map(|name| path(&at(name)));
    let (model, recipe) = (path(&model), path(&recipe));
    let wrap = ["model", "wrap", &model, "--card", &card, "--recipe", &recipe, "--out", &raw];
    let (code, _, err) = outcome(wrap);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&[&order, &["--folds", "1,2"]]);
    assert!(code == 2 && err.contains("fold2.onnx") && err.contains("not calibrated"), "{err}");
    std::fs::copy(repository("models/sound.onnx"), at("cv/fold2.onnx")).expect("copied");
    let measured = |folds: &str| -> Value {
        let (code, out, err) = run(&[&order, &["--folds", folds]]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).expect("JSON")
    };
    let (first, both) = (measured("1"), measured("1,2"));
    // Fold 1 has clips of dog and siren, and a background in which a siren may sound.
    let events = |measured: &Value, class: &str| {
        let rows = part(measured, "soundscapes")["classes"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["class"] == class).expect("the class");
        row["events"].as_u64().expect("a count")
    };
    assert_eq!((events(&first, "siren"), events(&first, "glass_breaking")), (0, 0), "{first}");
    assert_eq!(events(&first, "dog"), 12, "{first}");
    assert_eq!((events(&both, "dog"), events(&both, "siren")), (8, 0), "{both}");
    assert_eq!(events(&both, "glass_breaking") + events(&both, "crying_baby"), 8, "{both}");
    let hours = |measured: &Value| part(measured, "backgrounds")["hours"].as_f64().expect("hours");
    assert!((hours(&both) / hours(&first) - 2.0).abs() < 1e-6, "{both}");
    let (code, _, err) = run(&[&order, &["--folds", "1", "--save-soundscapes", "x"]]);
    assert!(code == 2 && err.contains("--models"), "{code}: {err}");
}

#[test]
fn what_can_not_be_measured_is_said() {
    let folder = material();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (clips, background) = (at("clips"), at("background"));
    let (code, _, err) = run(&[&["eval", "stream"]]);
    assert!(code == 2 && err.contains("--truth"), "{code}: {err}");
    let sounds = ["eval", "stream", "--clips", &clips, "--background", &background];
    for (more, expected) in [
        (&["--classes", "rooster"][..], "no clip of a class to look for"),
        (&["--events-per-minute", "40"], "at most"),
        (&["--folds", "3"], "no clip in these folds"),
        (&["--hours", "0"], "over 0"),
    ] {
        let (code, _, err) = run(&[&sounds, more]);
        assert!(code == 2 && err.contains(expected), "{code}: {err}");
    }
    let (code, _, err) = run(&[&["calibrate", "x.onnx", "--out", "y.onnx"]]);
    assert!(code == 2 && err.contains("--clips"), "{code}: {err}");
}
