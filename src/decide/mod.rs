//! Scores to events: thresholds, hysteresis, N of M, hold, cooldown. Pure: time is the position in
//! the stream, passed in with every window.

mod explain;
mod rules;
pub mod settings;
mod tracker;

pub use explain::{Explainer, Verdict};
pub use rules::{ClassRule, Defaults, RuleProblem, Rules};
pub use settings::{DetectionSettings, Rule, RuleOverride};
pub use tracker::{Change, Heard, Sound, Tracker};
