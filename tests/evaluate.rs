//! `hearken eval sound` on the golden clips: its figures, its files, its complaints.

#[path = "common/daemon.rs"]
mod daemon;

use std::path::Path;

use daemon::{outcome, repository};
use serde_json::Value;
use tempfile::TempDir;

const CLIPS: [&str; 5] = ["siren", "dog", "rain", "glass_breaking", "thunderstorm"];

/// A folder with a table of the golden clips, each in a fold of its own, and one clip that is
/// labelled wrongly.
fn data() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("audio")).expect("made");
    let mut table = "filename,fold,category\n".to_owned();
    for (fold, class) in CLIPS.iter().enumerate() {
        let name = format!("{class}.ogg");
        let from = repository("tests/golden").join(&name);
        std::fs::copy(from, folder.path().join("audio").join(&name)).expect("copied");
        table += &format!("{name},{fold},{class}\n");
    }
    table += "rain.ogg,4,siren\n";
    let path = write(folder.path(), "clips.csv", &table);
    (folder, path)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn json(arguments: &[&str]) -> Value {
    let mut all = vec!["eval", "sound", "--json"];
    all.extend(arguments);
    let (code, out, log) = outcome(&all);
    assert_eq!((code, log.as_str()), (0, ""), "{out}");
    serde_json::from_str(&out).expect("JSON")
}

fn class<'a>(report: &'a Value, name: &str) -> &'a Value {
    let classes = report["classes"].as_array().expect("a list");
    classes.iter().find(|class| class["class"] == name).expect("a class")
}

fn assert_refused(arguments: &[&str], code: i32, words: &[&str]) {
    let mut all = vec!["eval", "sound"];
    all.extend(arguments);
    let (found, out, log) = outcome(&all);
    assert_eq!(found, code, "{arguments:?}: {out}{log}");
    for word in words {
        assert!(log.contains(word), "{arguments:?}: {word:?} is not in: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn the_figures_are_those_of_the_labels() {
    let (_folder, table) = data();
    let report = json(&[&table]);
    assert_eq!((&report["clips"], &report["negatives"]), (&6.into(), &0.into()));
    let accuracy = report["accuracy"].as_f64().expect("a number");
    assert!((accuracy - 5.0 / 6.0).abs() < 1e-9, "{accuracy}");
    assert_eq!(class(&report, "rain")["precision"], 0.5);
    assert_eq!(class(&report, "siren")["recall"], 0.5);
    assert_eq!(class(&report, "dog")["average_precision"], 1.0);
    assert_eq!(class(&report, "cat")["f1"], Value::Null);
    let mistake = &report["confusions"][0];
    assert_eq!((&mistake["class"], &mistake["heard_as"]), (&"siren".into(), &"rain".into()));
    assert_eq!(report["folds"]["folds"][4]["accuracy"], 0.5);
    assert_eq!(report["folds"]["mean"], 0.9);
    let some = json(&[&table, "--folds", "1,2", "--only-data-classes"]);
    assert_eq!((&some["clips"], &some["accuracy"]), (&2.into(), &1.0.into()));
    assert_eq!(some["classes"].as_array().expect("a list").len(), CLIPS.len());
}

#[test]
fn tables_say_what_json_says() {
    let (_folder, table) = data();
    let (code, out, log) = outcome(["eval", "sound", &table]);
    assert_eq!((code, log.as_str()), (0, ""));
    for words in ["6 clips of 5 classes", "accuracy 83.33 %", "siren heard as rain", "mean 90.00 %"]
    {
        assert!(out.contains(words), "{words:?} is not in: {out}");
    }
}

#[test]
fn a_clip_scores_as_in_classify() {
    let (folder, table) = data();
    let scores = path(&folder, "scores.csv");
    json(&[&table, "--folds", "0", "--save-scores", &scores]);
    let saved = std::fs::read_to_string(&scores).expect("scores");
    let rows: Vec<Vec<&str>> = saved.lines().map(|line| line.split(',').collect()).collect();
    let column = rows[0].iter().position(|name| *name == "siren").expect("a column");
    let clip = repository("tests/golden/siren.ogg").display().to_string();
    let (_, out, _) = outcome(["classify", "--json", &clip]);
    let heard: Value = serde_json::from_str(&out).expect("JSON");
    let saved: f64 = rows[1][column].parse().expect("a score");
    assert_eq!((rows[1][0], Some(saved)), ("siren.ogg", heard["score"].as_f64()));
}

#[test]
fn saved_scores_compare_as_equals_and_others_as_they_are() {
    let (folder, table) = data();
    let scores = path(&folder, "scores.csv");
    json(&[&table, "--save-scores", &scores]);
    let against = &json(&[&table, "--against", &scores])["against"];
    assert_eq!(against["ours"]["accuracy"], against["theirs"]["accuracy"]);
    assert_eq!(
        against["ours"]["mean_average_precision"],
        against["theirs"]["mean_average_precision"]
    );
    let other = "file,dog,siren\nsiren.ogg,2,1\ndog.ogg,1,2\nrain.ogg,0,0\nglass_breaking.ogg,0,0\n\
                 thunderstorm.ogg,0,0\n";
    let other = write(folder.path(), "other.csv", other);
    let against = &json(&[&table, "--against", &other])["against"];
    assert_eq!(against["theirs"]["classes"].as_array().expect("a list").len(), 2);
    assert_eq!(class(&against["theirs"], "dog")["recall"], 0.0);
    assert_eq!(class(&against["ours"], "dog")["recall"], 1.0);
}

#[test]
fn folds_may_have_models_of_their_own() {
    let (folder, table) = data();
    for fold in 0..CLIPS.len() {
        let to = folder.path().join(format!("fold{fold}.onnx"));
        std::fs::copy(repository("models/sound.onnx"), to).expect("copied");
    }
    let pattern = path(&folder, "fold{fold}.onnx");
    let report = json(&[&table, "--models", &pattern]);
    assert_eq!(report["models"].as_array().expect("a list").len(), CLIPS.len());
    assert_eq!(report["folds"]["mean"], 0.9);
    std::fs::remove_file(folder.path().join("fold3.onnx")).expect("removed");
    assert_refused(&[&table, "--models", &pattern], 64, &["fold3.onnx"]);
    assert_refused(&[&table, "--models", "model.onnx"], 2, &["{fold}"]);
}

#[test]
fn degraded_clips_score_otherwise_and_the_same_each_time() {
    let (folder, table) = data();
    let noise = folder.path().join("noise");
    std::fs::create_dir(&noise).expect("made");
    std::fs::copy(repository("tests/golden/crying_baby.ogg"), noise.join("b.ogg")).expect("copied");
    let noise = noise.display().to_string();
    let scores = |arguments: &[&str]| {
        let out = path(&folder, "scores.csv");
        let mut all = vec![table.as_str(), "--force", "--save-scores", &out];
        all.extend(arguments);
        json(&all);
        std::fs::read_to_string(&out).expect("scores")
    };
    let clean = scores(&[]);
    for degradation in
        [&["--low-pass", "2000"][..], &["--gain", "-30"], &["--snr", "-6", "--background", &noise]]
    {
        let worse = scores(degradation);
        assert_ne!(worse, clean, "{degradation:?}");
        let mut one_job = degradation.to_vec();
        one_job.extend(["--jobs", "1"]);
        assert_eq!(worse, scores(&one_job), "{degradation:?}");
    }
    let drowned = json(&[&table, "--snr", "-40", "--background", &noise]);
    assert!(drowned["accuracy"].as_f64().expect("a number") < 0.2, "{drowned}");
}

#[test]
fn the_confusion_matrix_is_drawn_and_nothing_is_overwritten() {
    let (folder, table) = data();
    let picture = path(&folder, "confusion.png");
    json(&[&table, "--confusion", &picture]);
    let png = std::fs::read(&picture).expect("a picture");
    assert!(png.starts_with(b"\x89PNG"));
    assert_refused(&[&table, "--confusion", &picture], 1, &["confusion.png", "--force"]);
    assert_eq!(std::fs::read(&picture).expect("kept"), png);
    json(&[&table, "--confusion", &picture, "--force"]);
}

#[test]
fn bad_data_is_named() {
    let (folder, table) = data();
    let in_audio = |text: &str| write(&folder.path().join("audio"), "bad.csv", text);
    let unknown = in_audio("file,label\ndog.ogg,wolf\nsiren.ogg,siren|ghost\n");
    assert_refused(&[&unknown], 2, &["wolf, ghost", "model show"]);
    let missing = in_audio("file,label\nnone.ogg,dog\ndog.ogg,dog\nmore.ogg,dog\n");
    assert_refused(&[&missing], 1, &["bad.csv", "line 2", "none.ogg", "line 4"]);
    assert_refused(&[&table, "--folds", "9"], 2, &["fold"]);
    assert_refused(&[&table, "--snr", "0"], 2, &["--background"]);
    assert_refused(&[&table, "--low-pass", "0"], 2, &["50 to 96000"]);
    write(&folder.path().join("audio"), "text.wav", "no sound");
    let damaged = in_audio("file,label\ntext.wav,dog\ndog.ogg,dog\n");
    let (code, out, log) = outcome(["eval", "sound", &damaged]);
    assert_eq!(code, 1);
    assert!(log.contains("text.wav") && out.contains("1 clips of 1 classes"), "{out}{log}");
    let silent = in_audio("file,label\ntext.wav,dog\n");
    assert_refused(&[&silent], 1, &["none of the clips could be heard"]);
    let scores = write(folder.path(), "scores.csv", "file,dog\ndog.ogg,1\n");
    assert_refused(&[&table, "--against", &scores], 2, &["scores.csv", "siren.ogg"]);
}

#[test]
fn negatives_count_against_the_ranking() {
    let folder = tempfile::tempdir().expect("a folder");
    for (from, to) in [("siren", "siren"), ("dog", "dog"), ("siren", "_negatives")] {
        let to = folder.path().join(to);
        std::fs::create_dir(&to).expect("made");
        let from = repository("tests/golden").join(format!("{from}.ogg"));
        std::fs::copy(from, to.join("a.ogg")).expect("copied");
    }
    let report = json(&[&folder.path().display().to_string()]);
    assert_eq!((&report["negatives"], &report["accuracy"]), (&1.into(), &1.0.into()));
    assert_eq!(class(&report, "siren")["average_precision"], 0.5);
    assert_eq!(class(&report, "dog")["average_precision"], 1.0);
}
