//! The rules of the house, as ARCHITECTURE.md states them, checked in the source itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which of our own modules a module may use. `signal` is everybody's.
const MAY_USE: [(&str, &[&str]); 28] = [
    ("signal", &[]),
    ("ring", &[]),
    ("revive", &[]),
    ("allowance", &[]),
    ("tls", &[]),
    ("last_line", &[]),
    ("secret", &[]),
    ("capture", &["ring", "last_line"]),
    ("chart", &[]),
    ("picture", &[]),
    // Its plot is drawn on a chart's canvas.
    ("spectrogram", &["chart", "picture"]),
    ("network", &[]),
    // Statistics are those of a picture.
    ("colour", &["picture"]),
    // The colour model: where these three meet.
    ("correct", &["network", "picture", "colour"]),
    ("decide", &[]),
    ("publish", &["allowance", "secret", "tls"]),
    ("dashboard", &["allowance", "secret", "tls"]),
    // Its threads are begun anew after a panic, and keep a command's last words.
    ("alert", &["secret", "revive", "last_line", "tls"]),
    ("store", &[]),
    // The settings of every stage, to fill them in.
    (
        "config",
        &[
            "secret",
            "alert::settings",
            "capture::settings",
            "dashboard::settings",
            "dashboard::password",
            "decide::settings",
            "publish::settings",
            "spectrogram::settings",
            "store::settings",
        ],
    ),
    // The sound model: where these three meet.
    ("hear", &["network", "spectrogram", "decide"]),
    // Labelled audio on disk, read as a source reads it.
    ("data", &["capture", "spectrogram"]),
    ("train", &["data", "network", "spectrogram", "hear", "picture", "colour"]),
    ("evaluate", &["data", "network", "spectrogram", "decide", "hear", "colour"]),
    (
        "supervise",
        &[
            "alert",
            "capture",
            "ring",
            "spectrogram",
            "network",
            "decide",
            "publish",
            "config",
            "hear",
            "revive",
            "store",
            "dashboard",
            // Files that are dropped on the dashboard.
            "evaluate",
            "correct",
            "picture",
        ],
    ),
    (
        "cli",
        &[
            "alert",
            "capture",
            "chart",
            "spectrogram",
            "network",
            "decide",
            "publish",
            "config",
            "hear",
            "supervise",
            "data",
            "train",
            "evaluate",
            "picture",
            "colour",
            "correct",
            "store",
            "dashboard",
        ],
    ),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// The one place that may import a foreign crate; a `|` stands between two.
const HOMES: [(&str, &str); 36] = [
    ("cpal", "src/capture/device.rs"),
    ("alsa", "src/capture/device.rs"),
    ("symphonia", "src/capture/decode.rs"),
    ("ringbuf", "src/ring.rs"),
    ("rubato", "src/spectrogram/resample.rs"),
    ("realfft", "src/spectrogram/"),
    ("rustfft", "src/spectrogram/"),
    ("image", "src/picture/"),
    ("fast_image_resize", "src/picture/"),
    ("tiff", "src/picture/notes.rs"),
    ("bytemuck", "src/picture/"),
    ("palette", "src/colour/difference.rs"),
    ("glob", "src/cli/correct/places.rs"),
    ("plotters", "src/chart/canvas.rs"),
    ("csv", "src/data/columns.rs"),
    ("zip", "src/train/starting.rs"),
    ("pulp", "src/network/depthwise.rs|src/train/fit/"),
    ("rayon", "src/train/fit/"),
    ("safetensors", "src/train/"),
    ("tract_onnx", "src/network/"),
    ("rumqttc", "src/publish/"),
    ("rustls", "src/tls.rs"),
    ("ureq", "src/alert/"),
    ("lettre", "src/alert/actions/email.rs"),
    ("nix", "src/alert/actions/command.rs"),
    ("rusqlite", "src/store/"),
    ("flacenc", "src/store/clips.rs"),
    ("toml", "src/config/"),
    ("sd_notify", "src/supervise/notify.rs"),
    ("clap", "src/cli/"),
    ("rpassword", "src/cli/password.rs"),
    ("axum", "src/dashboard/"),
    ("axum_server", "src/dashboard/"),
    ("hyper_util", "src/dashboard/mod.rs"),
    ("argon2", "src/dashboard/password.rs"),
    ("prometheus_client", "src/dashboard/metrics.rs"),
];

/// Modules without clock, I/O, threads or logging, and what would show them.
const PURE: [&str; 21] = [
    "src/alert/notice.rs",
    "src/alert/rules.rs",
    "src/alert/schedule.rs",
    "src/alert/template.rs",
    "src/spectrogram/",
    "src/picture/",
    "src/colour/",
    "src/evaluate/colour.rs",
    "src/decide/",
    "src/chart/",
    "src/data/degrade.rs",
    "src/data/takes.rs",
    "src/network/depthwise.rs",
    "src/network/metrics.rs",
    "src/network/layers/",
    "src/train/augment.rs",
    "src/train/architecture.rs",
    "src/evaluate/calibrate.rs",
    "src/evaluate/events.rs",
    "src/evaluate/scores.rs",
    "src/evaluate/soundscape.rs",
];
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::time",
    "std::process",
    "std::env",
    "tracing::",
    "Timestamp::now",
    "println!",
];

const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
    /// The text before the module's tests.
    code: String,
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join("src"), &mut paths);
    assert!(paths.len() > 40, "the sources were not found");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        let relative = path.strip_prefix(root).expect("under the root");
        Source { path: relative.to_string_lossy().replace('\\', "/"), text, code }
    };
    paths.into_iter().map(read).collect()
}

fn module(source: &Source) -> &str {
    let inner = source.path.strip_prefix("src/").expect("under src");
    inner.split(['/', '.']).next().expect("a name")
}

fn is_test_module(source: &Source) -> bool {
    source.path.ends_with("/tests.rs")
}

#[test]
fn data_flows_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut arrows = 0;
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test_module(source)) {
        let module = module(source);
        let may = allowed.get(module).unwrap_or_else(|| panic!("{module} has no rule"));
        for (number, line) in source.code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for used in code.split("crate::").skip(1) {
                arrows += 1;
                let is_own = used.starts_with(&format!("{module}::"));
                let is_signal = used.starts_with("signal::");
                let permitted = may.iter().any(|other| {
                    used.strip_prefix(other).is_some_and(|rest| rest.starts_with([':', ';', ',']))
                });
                if !(is_own || is_signal || permitted) {
                    wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
                }
            }
        }
    }
    assert!(arrows > 50, "only {arrows} uses were found: the search is broken");
    assert!(wrong.is_empty(), "forbidden arrows:\n{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_have_one_home() {
    let mut wrong = Vec::new();
    for (name, home) in HOMES {
        let mut at_home = false;
        for source in sources() {
            let uses = source.code.lines().any(|line| {
                let line = line.split("//").next().unwrap_or_default().trim_start();
                !line.contains("crate::")
                    && line.match_indices(&format!("{name}::")).any(|(at, _)| {
                        let before = line[..at].chars().next_back();
                        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                    })
                    && !line.contains(&format!("super::{name}"))
            });
            if uses && home.split('|').any(|home| source.path.starts_with(home)) {
                at_home = true;
            } else if uses && !(name == "image" && source.path.starts_with("src/spectrogram/")) {
                wrong.push(format!("{name} in {}", source.path));
            }
        }
        assert!(at_home, "{name} is not used in {home}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_are_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        if PURE.iter().any(|folder| source.path.starts_with(folder)) {
            let found = IMPURE.iter().filter(|word| source.code.contains(**word));
            wrong.extend(found.map(|word| format!("{word} in {}", source.path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} begins without a heading", source.path);
    }
}

#[test]
fn functions_are_short() {
    let mut longest = 0;
    let mut wrong = Vec::new();
    for source in sources() {
        for (line, length) in functions(&source.text) {
            longest = longest.max(length);
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("{}:{line}: {length} lines", source.path));
            }
        }
    }
    assert!(longest > 30, "the search for functions is broken");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first line and the length of each function: from `fn` to the closing brace at its indent.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        let head = words.split("fn ").next().unwrap_or_default();
        let is_function = words.contains("fn ")
            && head.split_whitespace().all(|word| {
                matches!(word, "pub" | "const" | "async" | "unsafe") || word.starts_with("pub(")
            });
        if is_function && !words.ends_with([';', '}']) {
            let closing = format!("{}}}", " ".repeat(indent));
            if let Some(length) = lines[start..].iter().position(|line| *line == closing) {
                found.push((start + 1, length + 1));
            }
        }
    }
    found
}

#[test]
fn nothing_in_the_sources_gives_up() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test_module(source)) {
        for (number, line) in source.code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let bad =
                [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "process::exit"];
            if bad.iter().any(|word| code.contains(word)) {
                wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
