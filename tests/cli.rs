//! The commands on real and on bad input: each answer, each exit code, each message.

#[path = "common/daemon.rs"]
mod daemon;

use std::path::{Path, PathBuf};

use daemon::{outcome, repository};
use serde_json::Value;
use tempfile::TempDir;

fn golden(name: &str) -> String {
    repository("tests/golden").join(name).display().to_string()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

/// A WAV file of 16-bit samples.
fn wav(sample_rate_hz: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    wav_of(1, 16, sample_rate_hz, channels, &data)
}

fn wav_of(code: u16, bits: u16, sample_rate_hz: u32, channels: u16, data: &[u8]) -> Vec<u8> {
    let frame = channels * bits / 8;
    let length = u32::try_from(data.len()).expect("a short file");
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(code.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(sample_rate_hz.to_le_bytes());
    bytes.extend((sample_rate_hz * u32::from(frame)).to_le_bytes());
    bytes.extend(frame.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(data);
    bytes
}

fn noise(count: usize) -> Vec<i16> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16 / 8
    };
    (0..count).map(step).collect()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Fails with this code, and says all these words on standard error, on one line for each input.
fn assert_refused(arguments: &[&str], code: i32, words: &[&str]) {
    let (found, out, log) = outcome(arguments);
    assert_eq!(found, code, "{arguments:?}: {out}{log}");
    for word in words {
        assert!(log.contains(word), "{arguments:?}: {word:?} is not in: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn classify_names_what_is_heard_and_when() {
    let (code, out, log) =
        outcome(["classify", "--json", &golden("siren.ogg"), &golden("dog.ogg")]);
    assert_eq!((code, log.as_str()), (0, ""));
    let lines = json_lines(&out);
    for (line, class) in lines.iter().zip(["siren", "dog"]) {
        assert!(line["file"].as_str().expect("a path").ends_with(&format!("{class}.ogg")));
        assert_eq!(line["class"], class);
        assert!(line["score"].as_f64().expect("a number") > 0.9);
        assert_eq!(line["top"].as_array().expect("a list").len(), 5);
        assert_eq!(line["top"][0]["class"], class);
        let event = &line["events"][0];
        assert_eq!(event["class"], class);
        assert_eq!(event["start"], 0.0);
        let end = event["end"].as_f64().expect("seconds");
        assert!((4.9..5.1).contains(&end), "{end}");
        assert!(event["peak"].as_f64().expect("a number") > 0.9);
    }
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_png_scores_as_the_sound_it_was_made_from() {
    let folder = folder();
    let png = folder.path().join("siren.png").display().to_string();
    let (code, _, log) = outcome(["spectrogram", &golden("siren.ogg"), "--out", &png]);
    assert_eq!((code, log.as_str()), (0, ""));
    let (_, sound, _) = outcome(["classify", "--json", &golden("siren.ogg")]);
    let (_, image, _) = outcome(["classify", "--json", &png]);
    assert_eq!(json_lines(&sound)[0]["top"], json_lines(&image)[0]["top"]);
    assert_eq!(json_lines(&image)[0]["events"], Value::Array(Vec::new()));
}

#[test]
fn a_folder_is_heard_in_order_whatever_the_number_of_jobs() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("b")).expect("made");
    for (from, to) in [("dog.ogg", "a.ogg"), ("siren.ogg", "b/c.ogg"), ("rain.ogg", "z.ogg")] {
        std::fs::copy(golden(from), folder.path().join(to)).expect("copied");
    }
    write(&folder, "notes.txt", b"not audio, and not looked at");
    let path = folder.path().display().to_string();
    let (code, one, _) = outcome(["classify", "--json", "--jobs", "1", &path]);
    let (_, three, _) = outcome(["classify", "--json", "--jobs", "3", &path]);
    assert_eq!(code, 0);
    assert_eq!(one, three);
    let classes: Vec<Value> = json_lines(&one).iter().map(|line| line["class"].clone()).collect();
    assert_eq!(classes, ["dog", "siren", "rain"]);
}

#[test]
fn tables_csv_and_labels_say_the_same() {
    let (code, table, _) = outcome(["classify", &golden("siren.ogg")]);
    assert_eq!(code, 0);
    assert!(table.contains("00:00.0 - 00:05.0  siren"), "{table}");
    let (_, csv, _) = outcome(["classify", "--format", "csv", &golden("siren.ogg")]);
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "file,class,score,event,start_s,end_s,peak");
    assert!(rows[1].contains(",siren,0.00,5.0"), "{csv}");
    let (_, labels, _) = outcome(["classify", "--format", "audacity", &golden("siren.ogg")]);
    assert!(labels.starts_with("0.000\t5.0") && labels.ends_with("\tsiren\n"), "{labels}");
    let folder = folder();
    let out = folder.path().join("labels").display().to_string();
    let two = [&*golden("siren.ogg"), &*golden("dog.ogg")];
    let to_folder = ["classify", "--format", "audacity", "--out-dir", &out, two[0], two[1]];
    assert_eq!(outcome(to_folder).0, 0);
    let written = std::fs::read_to_string(Path::new(&out).join("siren.ogg.txt")).expect("labels");
    assert_eq!(written, labels);
    assert_refused(&to_folder, 1, &["exists already", "--force"]);
    assert_refused(&["classify", "--format", "audacity", two[0], two[1]], 2, &["--out-dir"]);
    assert_refused(&["classify", "--out-dir", &out, two[0]], 2, &["audacity"]);
    let same = repository("assets/../tests/golden/dog.ogg").display().to_string();
    let clash = ["classify", "--format", "audacity", "--out-dir", &out, two[1], &same];
    assert_refused(&clash, 2, &["share one label file"]);
}

#[test]
fn odd_but_sound_audio_is_heard() {
    let folder = folder();
    let eight = write(&folder, "eight.wav", &wav(48_000, 8, &noise(8 * 48_000 * 5)));
    let slow = write(&folder, "slow.wav", &wav(8_000, 1, &noise(8_000 * 12)));
    let short = write(&folder, "short.wav", &wav(44_100, 2, &noise(200)));
    let mut floats: Vec<u8> =
        noise(32_000 * 5).iter().flat_map(|s| (f32::from(*s) / 32_768.0).to_le_bytes()).collect();
    for sample in floats.chunks_exact_mut(4).step_by(1_000) {
        sample.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let nan = write(&folder, "nan.wav", &wav_of(3, 32, 32_000, 1, &floats));
    let (code, out, log) = outcome(["classify", "--json", &eight, &slow, &short, &nan]);
    assert_eq!(code, 0, "{log}");
    for line in json_lines(&out) {
        let score = line["score"].as_f64().expect("a number");
        assert!(score > 0.0 && score <= 1.0, "{line}");
    }
}

#[test]
fn bad_audio_is_named_and_does_not_stop_the_others() {
    let folder = folder();
    let zero = write(&folder, "zero.wav", b"");
    let text = write(&folder, "text.wav", b"this is no sound at all, only a text about it");
    let missing = folder.path().join("missing.wav").display().to_string();
    let ogg = std::fs::read(golden("rain.ogg")).expect("a clip");
    let cut = write(&folder, "cut.ogg", &ogg[..ogg.len() / 2]);
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    let empty = empty.display().to_string();
    for (path, words) in [
        (&zero, ["zero.wav", ""]),
        (&text, ["text.wav", "not"]),
        (&missing, ["missing.wav", "No such file"]),
        (&cut, ["cut.ogg", "what came before was heard"]),
        (&empty, ["empty", "no audio file"]),
    ] {
        assert_refused(&["classify", path], 1, &words);
        let (code, out, _) = outcome(["classify", "--json", path, &golden("dog.ogg")]);
        assert_eq!(code, 1);
        assert_eq!(json_lines(&out).last().expect("the good one")["class"], "dog");
    }
}

#[test]
fn bad_images_are_named() {
    let folder = folder();
    let plot = folder.path().join("plot.png").display().to_string();
    assert_eq!(outcome(["spectrogram", "--plot", &golden("dog.ogg"), "-o", &plot]).0, 0);
    assert_refused(&["classify", &plot], 1, &["plot.png", "227x227", "hearken spectrogram"]);
    let broken = write(&folder, "broken.png", b"\x89PNG\r\n\x1a\nnothing more");
    assert_refused(&["classify", &broken], 1, &["broken.png", "PNG"]);
}

#[test]
fn spectrograms_are_never_overwritten_and_say_where_they_can_not_go() {
    let folder = folder();
    let out = write(&folder, "mine.png", b"precious");
    let clip = golden("dog.ogg");
    assert_refused(&["spectrogram", &clip, "--out", &out], 1, &["mine.png", "--force"]);
    assert_eq!(std::fs::read(&out).expect("kept"), b"precious");
    assert_eq!(outcome(["spectrogram", &clip, "--out", &out, "--force"]).0, 0);
    assert_ne!(std::fs::read(&out).expect("a PNG"), b"precious");
    let nowhere = folder.path().join("no/such/folder.png").display().to_string();
    assert_refused(&["spectrogram", &clip, "--out", &nowhere], 1, &["folder.png"]);
    let into = write(&folder, "file", b"");
    let below = format!("{into}/x.png");
    assert_refused(&["spectrogram", &clip, "--out", &below], 1, &["x.png"]);
    let left: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(left.len(), 2, "nothing temporary is left: {left:?}");
}

#[test]
fn spectrogram_options_are_checked() {
    let clip = golden("door_wood_knock.ogg");
    let folder = folder();
    let out = folder.path().join("x.png").display().to_string();
    for (arguments, words) in [
        (vec!["--channel", "3"], "channels 1 to 2"),
        (vec!["--channel", "left"], "left"),
        (vec!["--at", "99"], "99"),
        (vec!["--plot", "--fmin", "5000", "--fmax", "100"], "5000"),
    ] {
        let mut all = vec!["spectrogram", &clip, "--out", &out];
        all.extend(arguments);
        assert_refused(&all, 1, &[words]);
    }
    assert_refused(&["spectrogram", &clip, "--fmin", "100"], 2, &["--plot"]);
    let images: Vec<Vec<u8>> = ["1", "2", "mix"]
        .iter()
        .map(|channel| {
            let all = ["spectrogram", &clip, "--force", "--out", &out, "--channel", channel];
            assert_eq!(outcome(all).0, 0);
            std::fs::read(&out).expect("a PNG")
        })
        .collect();
    assert!(images[0] != images[1] && images[1] != images[2]);
}

#[test]
fn three_mistakes_in_a_configuration_are_told_at_once() {
    let folder = folder();
    let text = b"nodes = 1\n[detection]\nsensitivity = 3\n[mqtt]\nport = 99999\n";
    let config = write(&folder, "config.toml", text);
    let words = ["nodes", "detection.sensitivity", "3", "mqtt.port", "99999", "config.toml"];
    assert_refused(&["config", "check", &config], 64, &words);
    assert_refused(&["run", "--config", &config], 64, &words);
    let missing = folder.path().join("none.toml").display().to_string();
    assert_refused(&["run", "--config", &missing], 64, &["none.toml"]);
    let syntax = write(&folder, "syntax.toml", b"[mqtt\nhost = 1");
    assert_refused(&["run", "--config", &syntax], 64, &["syntax.toml", "line"]);
    let class = write(&folder, "class.toml", b"[detection]\nclasses = [\"glass\"]\n");
    assert_refused(&["config", "check", &class], 64, &["glass", "glass_breaking"]);
    assert_refused(&["run", "--config", &class], 64, &["glass", "glass_breaking"]);
    assert_refused(&["run", "--set", "detection.sensitivity=much"], 64, &["much"]);
    assert_refused(&["run", "--wat"], 2, &["--wat"]);
}

#[test]
fn the_sample_configuration_is_valid() {
    let (code, sample, _) = outcome(["config", "default"]);
    assert_eq!(code, 0);
    let folder = folder();
    let path = write(&folder, "config.toml", sample.as_bytes());
    let (code, settings, log) = outcome(["config", "check", &path]);
    assert_eq!(code, 0, "{log}");
    assert!(settings.contains("embedded_port"), "{settings}");
}

#[test]
fn bad_models_are_named() {
    let folder = folder();
    let missing = folder.path().join("none.onnx").display().to_string();
    let text = write(&folder, "text.onnx", b"not a model");
    let shipped = std::fs::read(repository("models/sound.onnx")).expect("the shipped model");
    let cut = write(&folder, "cut.onnx", &shipped[..shipped.len() / 3]);
    for (path, words) in [
        (&missing, ["none.onnx", "No such file"]),
        (&text, ["text.onnx", "not an ONNX file"]),
        (&cut, ["cut.onnx", "damaged"]),
    ] {
        assert_refused(&["run", "--model", path], 64, &words);
        assert_refused(&["classify", "--model", path, &golden("dog.ogg")], 64, &words);
        assert_refused(&["model", "show", path], 64, &words);
    }
}

#[test]
fn a_model_is_shown_and_its_metadata_can_be_put_back() {
    let (code, shown, _) = outcome(["model", "show"]);
    assert_eq!(code, 0);
    for word in ["sample_rate_hz: 32000", "glass_breaking", "licence", "digest"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    let folder = folder();
    let out = folder.path().join("again.onnx").display().to_string();
    let shipped = repository("models/sound.onnx").display().to_string();
    let card = repository("models/sound.card.json").display().to_string();
    let recipe = repository("models/sound.recipe.json").display().to_string();
    let wrap = ["model", "wrap", &shipped, "--card", &card, "--recipe", &recipe, "--out", &out];
    let (code, _, log) = outcome(wrap);
    assert_eq!(code, 0, "{log}");
    assert_refused(&wrap, 1, &["exists already"]);
    let (_, ours, _) = outcome(["model", "show", "--json"]);
    let (_, again, _) = outcome(["model", "show", "--json", &out]);
    // But for the outputs for the test image, which have the arithmetic of the processor at hand,
    // the file is the one that is committed.
    let value = |text: &str| {
        let mut value = serde_json::from_str::<Value>(text).expect("JSON");
        let fields = value.as_object_mut().expect("an object");
        fields.retain(|name, _| !matches!(name.as_str(), "digest" | "bytes"));
        value
    };
    assert_eq!(value(&ours), value(&again));
}

#[test]
fn completions_and_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = outcome(["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.contains("classify"), "{shell}");
    }
    let (code, page, _) = outcome(["man"]);
    assert_eq!(code, 0);
    assert!(page.contains(".TH") && page.contains("SPECTROGRAM"), "{page}");
}

#[test]
fn devices_without_a_sound_system_say_so() {
    let (code, out, log) = outcome(["devices", "--json"]);
    assert!(code == 0 || code == 69, "{code}");
    assert!(json_lines(&out).iter().all(|device| device["chosen"].is_null()), "{out}");
    assert!(log.contains("hearken:"), "{log}");
}
