//! The rules that turn scores into events, as the configuration or the model file gives them.

use serde::{Deserialize, Serialize};

/// How one class becomes an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A window counts as a hit at this score or above, 0 to 1.
    pub on: f32,
    /// An open event goes on while scores are at this or above, 0 to `on` (hysteresis).
    pub off: f32,
    /// An event opens when this many ...
    pub hits: u32,
    /// ... of this many latest windows are hits (1 to 64, at least `hits`),
    pub of: u32,
    /// or when one window is at this score or above, `on` to 1. 1: never.
    #[serde(default = "never")]
    pub at_once: f32,
    /// Shorter sounds are not reported: the start waits until the sound is this old. Seconds.
    pub min_duration_s: f32,
    /// An open event survives scores under `off` for this long. Seconds.
    pub hold_s: f32,
    /// After an event ended, a new one of this class waits this long. Seconds.
    pub cooldown_s: f32,
    /// How much of a sound must lie in the window before the network knows it, in seconds. Places
    /// starts and ends: a sound is known this long after it began, and until the window holds
    /// less than this of it.
    pub evidence_s: f32,
    /// A hit does not count while one of these classes scores higher.
    pub suppressed_by: Vec<String>,
}

impl Rule {
    /// Whether one window with this score is enough.
    pub(super) fn is_sure(&self, score: f32) -> bool {
        self.at_once < 1.0 && score >= self.at_once
    }
}

/// Files of models from before there was `at_once` have none.
pub(super) fn never() -> f32 {
    1.0
}

/// What the configuration may override in a rule; `None` keeps the model's own value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleOverride {
    pub on: Option<f32>,
    pub off: Option<f32>,
    pub hits: Option<u32>,
    pub of: Option<u32>,
    pub at_once: Option<f32>,
    pub min_duration_s: Option<f32>,
    pub hold_s: Option<f32>,
    pub cooldown_s: Option<f32>,
    pub suppressed_by: Option<Vec<String>>,
}

/// The configuration's say in detection.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionSettings {
    /// One knob for people who want one, 0 to 1. 0.5 leaves the model's thresholds; towards 1 they
    /// fall (more events, more false alarms), towards 0 they rise.
    pub sensitivity: f32,
    /// Windows in which no hop is as loud as this (dBFS) hear nothing.
    pub min_level_dbfs: f32,
    /// Classes to report; empty: those that the model recommends, or all.
    pub classes: Vec<String>,
    /// Overrides by class name.
    pub overrides: Vec<(String, RuleOverride)>,
}

impl Default for DetectionSettings {
    /// The model's own rules.
    fn default() -> Self {
        Self { sensitivity: 0.5, min_level_dbfs: -70.0, classes: Vec::new(), overrides: Vec::new() }
    }
}

#[cfg(test)]
impl Rule {
    /// Two of three windows at 0.6, for tests.
    pub(super) fn example() -> Self {
        Self {
            on: 0.6,
            off: 0.3,
            hits: 2,
            of: 3,
            at_once: 1.0,
            min_duration_s: 0.0,
            hold_s: 1.0,
            cooldown_s: 0.0,
            evidence_s: 1.0,
            suppressed_by: Vec::new(),
        }
    }
}
