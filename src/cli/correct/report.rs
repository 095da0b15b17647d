//! What became of photos, in words and as JSON.

use serde_json::{Value, json};

use super::one::Ended;
use crate::colour::{Shift, ShiftModel};
use crate::correct::{Correction, Decision};

/// A line for people.
pub fn line(name: &str, ended: &Ended, dry_run: bool) -> String {
    let words = words(&ended.correction);
    match &ended.out {
        Some(out) => {
            let arrow = if dry_run { "would become" } else { "->" };
            format!("{name}: {words} {arrow} {}", out.display())
        }
        None => format!("{name}: {words}"),
    }
}

/// What was done, without names.
pub fn words(correction: &Correction) -> String {
    let shift = correction.shift.map(|shift| shown(&shift)).unwrap_or_default();
    match correction.decision {
        Decision::Corrected => {
            let clipped = 100.0 * correction.clipped;
            format!("{shift}; {clipped:.1} % of the pixels were clipped")
        }
        Decision::TooSmall => format!("{shift}: too little to act on, left as it is"),
        Decision::Grey => "without colour, left as it is".to_owned(),
    }
}

fn shown(shift: &Shift) -> String {
    let [r, g, b] = shift.shown();
    match shift.model {
        // Adding 0 makes a negative zero positive.
        ShiftModel::Offset => {
            format!("shift {:+.0} {:+.0} {:+.0}", r.round() + 0.0, g.round() + 0.0, b.round() + 0.0)
        }
        ShiftModel::Gain => format!("gain {r:.2} {g:.2} {b:.2}"),
    }
}

/// An object for programs.
pub fn json(name: &str, ended: &Ended, dry_run: bool) -> Value {
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    let Correction { decision, shift, clipped } = &ended.correction;
    let decision = match decision {
        Decision::Corrected => "corrected",
        Decision::TooSmall => "too_small",
        Decision::Grey => "grey",
    };
    let estimate = shift.map(|shift| {
        let [r, g, b] = shift.shown().map(rounded);
        json!({ "kind": shift.model.text(), "r": r, "g": g, "b": b })
    });
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.to_string_lossy().into_owned())
    };
    json!({
        "file": name, "estimate": estimate, "decision": decision, "clipped": rounded(*clipped),
        "output": path(&ended.out), "preview": path(&ended.preview), "dry_run": dry_run,
    })
}

/// A photo that could not be corrected.
pub fn json_error(name: &str, error: &anyhow::Error) -> Value {
    json!({ "file": name, "decision": "failed", "error": format!("{error:#}") })
}
