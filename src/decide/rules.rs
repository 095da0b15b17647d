//! One rule for each class, out of the model's defaults and the configuration's overrides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::settings::{DetectionSettings, Rule, RuleOverride};

/// How far full sensitivity moves a threshold, in log-odds.
const SENSITIVITY_LOGIT: f32 = 4.0;

/// The decision part of a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Classes worth reporting when nobody says which; empty: all.
    pub recommended: Vec<String>,
    /// The rule of a class that has none of its own.
    pub default: Rule,
    /// Rules by class name.
    pub classes: BTreeMap<String, Rule>,
}

/// The rules in force, by class index.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub min_level_dbfs: f32,
    /// `None`: the class is not reported.
    pub by_class: Vec<Option<ClassRule>>,
}

/// A rule with its class names turned to indices.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRule {
    pub rule: Rule,
    pub suppressed_by: Vec<usize>,
}

/// A rule that makes no sense for this model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    #[error("{key} names the class {class:?}, which this model does not know{hint}")]
    UnknownClass { key: String, class: String, hint: String },
    #[error(
        "detection.class.{class} has no effect, since {class} is not reported: add it to detection.classes"
    )]
    NoEffect { class: String },
    #[error("{key} names the class {class:?}, which is not reported: add it to detection.classes")]
    NotReported { key: String, class: String },
    #[error("the rule of {class} has {what}")]
    Invalid { class: String, what: String },
}

impl Rules {
    /// Joins the model's `defaults` and the `settings` for the model's `classes`. All problems are
    /// reported at once.
    pub fn resolve(
        classes: &[String],
        defaults: &Defaults,
        settings: &DetectionSettings,
    ) -> Result<Self, Vec<RuleProblem>> {
        let mut problems = Vec::new();
        let index = |key: String, class: &String, problems: &mut Vec<RuleProblem>| {
            let found = classes.iter().position(|known| known == class);
            if found.is_none() {
                let hint = hint(classes, class);
                problems.push(RuleProblem::UnknownClass { key, class: class.clone(), hint });
            }
            found
        };
        let reported = match (&settings.classes, &defaults.recommended) {
            (asked, recommended) if asked.is_empty() => recommended,
            (asked, _) => asked,
        };
        let mut by_class = vec![None; classes.len()];
        let all = (0..classes.len()).collect::<Vec<_>>();
        let mut wanted: Vec<usize> = reported
            .iter()
            .filter_map(|class| index("detection.classes".to_owned(), class, &mut problems))
            .collect();
        for (class, _) in &settings.overrides {
            let known = index(format!("detection.class.{class}"), class, &mut problems);
            if known.is_some_and(|index| !reported.is_empty() && !wanted.contains(&index)) {
                problems.push(RuleProblem::NoEffect { class: class.clone() });
            }
        }
        if reported.is_empty() {
            wanted = all;
        }
        for class_index in wanted {
            let Some(class) = classes.get(class_index) else { continue };
            let rule = rule_of(class, defaults, settings);
            problems.extend(check(class, &rule));
            let key = format!("detection.class.{class}.suppressed_by");
            let suppressed_by = rule
                .suppressed_by
                .iter()
                .filter_map(|other| index(key.clone(), other, &mut problems))
                .collect();
            if let Some(slot) = by_class.get_mut(class_index) {
                *slot = Some(ClassRule { rule, suppressed_by });
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { min_level_dbfs: settings.min_level_dbfs, by_class })
    }

    /// A problem for each of `named`, which stand in `key`, that is none of the model's `classes` or is
    /// not reported.
    pub fn not_reported(
        &self,
        classes: &[String],
        key: &str,
        named: &[String],
    ) -> Vec<RuleProblem> {
        let problem = |class: &String| {
            let (key, class) = (key.to_owned(), class.clone());
            let place = classes.iter().position(|known| *known == class);
            match place.map(|place| self.by_class.get(place)) {
                None => {
                    let hint = hint(classes, &class);
                    Some(RuleProblem::UnknownClass { key, class, hint })
                }
                Some(Some(Some(_))) => None,
                Some(_) => Some(RuleProblem::NotReported { key, class }),
            }
        };
        named.iter().filter_map(problem).collect()
    }

    /// The same rules with another one for a class, by its index, to try; `None` when the class is not
    /// reported.
    ///
    /// # Errors
    /// When the rule would make no sense.
    pub fn with_override(
        &self,
        class: usize,
        name: &str,
        over: &RuleOverride,
    ) -> Option<Result<Self, Vec<RuleProblem>>> {
        let mut rules = self.clone();
        let rule = &mut rules.by_class.get_mut(class)?.as_mut()?.rule;
        apply(rule, over);
        let problems = check(name, rule);
        Some(if problems.is_empty() { Ok(rules) } else { Err(problems) })
    }

    /// The same rules for a recording in which only `windows` windows fit: where they are fewer than a
    /// rule's hits, one sure window is left; a rule that takes none for enough asks for all there are.
    pub fn for_short_recording(mut self, windows: u32) -> Self {
        for ClassRule { rule, .. } in self.by_class.iter_mut().flatten() {
            if rule.at_once == 1.0 {
                rule.hits = rule.hits.min(windows.max(1));
            }
        }
        self
    }
}

fn rule_of(class: &str, defaults: &Defaults, settings: &DetectionSettings) -> Rule {
    let mut rule = defaults.classes.get(class).unwrap_or(&defaults.default).clone();
    let shift = SENSITIVITY_LOGIT * (0.5 - settings.sensitivity);
    rule.on = shifted(rule.on, shift);
    rule.off = shifted(rule.off, shift);
    if rule.at_once < 1.0 {
        rule.at_once = shifted(rule.at_once, shift);
    }
    if let Some((_, over)) = settings.overrides.iter().find(|(name, _)| name == class) {
        apply(&mut rule, over);
    }
    rule
}

/// Moves a probability by `shift` in log-odds, so that it stays one.
fn shifted(probability: f32, shift: f32) -> f32 {
    let probability = probability.clamp(1e-4, 1.0 - 1e-4);
    let logit = (probability / (1.0 - probability)).ln() + shift;
    1.0 / (1.0 + (-logit).exp())
}

fn apply(rule: &mut Rule, over: &RuleOverride) {
    let RuleOverride { on, off, hits, of, at_once, .. } = over;
    rule.on = on.unwrap_or(rule.on);
    rule.off = off.unwrap_or(rule.off.min(rule.on));
    rule.hits = hits.unwrap_or(rule.hits);
    rule.of = of.unwrap_or(rule.of.max(rule.hits));
    // Raised over it, `on` is meant to ask for more, not to be enough alone.
    let usual = if rule.at_once > rule.on { rule.at_once } else { 1.0 };
    rule.at_once = at_once.unwrap_or(usual);
    let RuleOverride { min_duration_s, hold_s, cooldown_s, suppressed_by, .. } = over;
    rule.min_duration_s = min_duration_s.unwrap_or(rule.min_duration_s);
    rule.hold_s = hold_s.unwrap_or(rule.hold_s);
    rule.cooldown_s = cooldown_s.unwrap_or(rule.cooldown_s);
    if let Some(suppressed_by) = suppressed_by {
        rule.suppressed_by.clone_from(suppressed_by);
    }
}

fn check(class: &str, rule: &Rule) -> Vec<RuleProblem> {
    let seconds_ok = |seconds: f32| (0.0..=86_400.0).contains(&seconds);
    let checks = [
        ((0.0..=1.0).contains(&rule.on), format!("on = {}, allowed is 0 to 1", rule.on)),
        (
            rule.off >= 0.0 && rule.off <= rule.on,
            format!("off = {}, allowed is 0 to on = {}", rule.off, rule.on),
        ),
        ((1..=64).contains(&rule.of), format!("of = {}, allowed is 1 to 64", rule.of)),
        (
            rule.hits >= 1 && rule.hits <= rule.of,
            format!("hits = {}, allowed is 1 to of = {}", rule.hits, rule.of),
        ),
        (
            rule.at_once >= rule.on && rule.at_once <= 1.0,
            format!("at_once = {}, allowed is on = {} to 1", rule.at_once, rule.on),
        ),
        (
            seconds_ok(rule.min_duration_s),
            format!("min_duration_s = {}, allowed is 0 to 86400", rule.min_duration_s),
        ),
        (
            (0.0..=60.0).contains(&rule.evidence_s),
            format!("evidence_s = {}, allowed is 0 to 60", rule.evidence_s),
        ),
        (seconds_ok(rule.hold_s), format!("hold_s = {}, allowed is 0 to 86400", rule.hold_s)),
        (
            seconds_ok(rule.cooldown_s),
            format!("cooldown_s = {}, allowed is 0 to 86400", rule.cooldown_s),
        ),
    ];
    let class = || class.to_owned();
    checks
        .into_iter()
        .filter(|(good, _)| !good)
        .map(|(_, what)| RuleProblem::Invalid { class: class(), what })
        .collect()
}

/// The class that was probably meant, as the end of a sentence.
fn hint(classes: &[String], wrong: &str) -> String {
    let wrong = wrong.to_lowercase().replace([' ', '-'], "_");
    let close = classes.iter().find(|class| {
        let same_start = class.get(..4).is_some_and(|start| wrong.get(..4) == Some(start));
        class.contains(&wrong) || wrong.contains(class.as_str()) || same_start
    });
    match close {
        Some(class) => format!("; did you mean {class:?}?"),
        None => "; `hearken model show` lists its classes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        let mut dog = Rule::example();
        dog.on = 0.8;
        Defaults {
            recommended: vec!["siren".to_owned()],
            default: Rule::example(),
            classes: BTreeMap::from([("dog".to_owned(), dog)]),
        }
    }

    fn classes() -> Vec<String> {
        ["dog", "rain", "siren", "glass_breaking"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_model_recommends_and_the_configuration_decides() {
        let rules = Rules::resolve(&classes(), &defaults(), &DetectionSettings::default()).unwrap();
        let reported: Vec<bool> = rules.by_class.iter().map(Option::is_some).collect();
        assert_eq!(reported, [false, false, true, false]);
        let over = RuleOverride { on: Some(0.2), ..RuleOverride::default() };
        let asked = DetectionSettings {
            classes: vec!["dog".to_owned(), "rain".to_owned()],
            overrides: vec![("rain".to_owned(), over)],
            ..DetectionSettings::default()
        };
        let rules = Rules::resolve(&classes(), &defaults(), &asked).unwrap();
        assert!((rules.by_class[0].as_ref().unwrap().rule.on - 0.8).abs() < 1e-3);
        let rain = &rules.by_class[1].as_ref().unwrap().rule;
        // The off-threshold follows a lowered on-threshold.
        assert!((rain.on, rain.off) == (0.2, 0.2));
        assert!(rules.by_class[2].is_none());
    }

    #[test]
    fn classes_that_others_name_have_to_be_reported() {
        let rules = Rules::resolve(&classes(), &defaults(), &DetectionSettings::default()).unwrap();
        let named = ["siren", "rain", "Dog"].map(str::to_owned);
        let problems = rules.not_reported(&classes(), "alert.a.classes", &named);
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let rain = "alert.a.classes names the class \"rain\", which is not reported: add it to detection.classes";
        let dog = "alert.a.classes names the class \"Dog\", which this model does not know; did you mean \"dog\"?";
        assert_eq!(text, [rain, dog]);
    }

    #[test]
    fn sensitivity_moves_every_threshold_and_keeps_it_a_probability() {
        let mut previous = 1.0;
        for sensitivity in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let settings = DetectionSettings { sensitivity, ..DetectionSettings::default() };
            let rules = Rules::resolve(&classes(), &defaults(), &settings).unwrap();
            let on = rules.by_class[2].as_ref().unwrap().rule.on;
            assert!(on < previous && on > 0.0, "{on} at {sensitivity}");
            previous = on;
        }
    }

    #[test]
    fn a_short_recording_is_asked_for_one_sure_window_or_for_those_it_has() {
        let hits = |at_once: f32, windows: u32| {
            let mut defaults = defaults();
            let rule = Rule { hits: 5, of: 6, at_once, ..Rule::example() };
            defaults.classes.insert("siren".to_owned(), rule);
            let rules = Rules::resolve(&classes(), &defaults, &DetectionSettings::default());
            let rules = rules.unwrap().for_short_recording(windows);
            rules.by_class[2].as_ref().unwrap().rule.hits
        };
        assert_eq!([0, 1, 4, 5, 9].map(|windows| hits(1.0, windows)), [1, 1, 4, 5, 5]);
        assert_eq!([0, 1, 4, 5, 9].map(|windows| hits(0.9, windows)), [5; 5]);
    }

    #[test]
    fn a_rule_of_before_there_was_at_once_never_takes_one_window_for_enough() {
        let mut rule = serde_json::to_value(Rule { at_once: 0.9, ..Rule::example() }).unwrap();
        rule.as_object_mut().unwrap().remove("at_once");
        assert_eq!(serde_json::from_value::<Rule>(rule).unwrap().at_once, 1.0);
    }

    #[test]
    fn what_is_enough_at_once_moves_with_the_thresholds_and_never_stays_never() {
        let at_once = |at_once: f32, sensitivity: f32, over: RuleOverride| {
            let mut defaults = defaults();
            defaults.default.at_once = at_once;
            let overrides = vec![("siren".to_owned(), over)];
            let settings =
                DetectionSettings { sensitivity, overrides, ..DetectionSettings::default() };
            let rules = Rules::resolve(&classes(), &defaults, &settings);
            rules.map(|rules| rules.by_class[2].as_ref().unwrap().rule.at_once)
        };
        let plain = RuleOverride::default;
        let least = at_once(0.95, 0.8, plain()).unwrap();
        assert!(least > 0.8 && least < 0.9, "{least}");
        assert_eq!(at_once(1.0, 0.8, plain()).unwrap(), 1.0);
        let higher = RuleOverride { on: Some(0.97), ..plain() };
        assert_eq!(at_once(0.95, 0.5, higher).unwrap(), 1.0);
        let wrong = RuleOverride { at_once: Some(0.3), ..plain() };
        let problems = at_once(0.95, 0.5, wrong).unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "the rule of siren has at_once = 0.3, allowed is on = 0.6 to 1"
        );
    }

    #[test]
    fn all_problems_are_reported_with_a_hint() {
        let mut wrong = DetectionSettings {
            classes: vec!["glass".to_owned(), "siren".to_owned()],
            ..DetectionSettings::default()
        };
        let over = RuleOverride {
            hits: Some(4),
            of: Some(3),
            suppressed_by: Some(vec!["wolf".to_owned()]),
            ..RuleOverride::default()
        };
        wrong.overrides =
            vec![("siren".to_owned(), over), ("Dog".to_owned(), RuleOverride::default())];
        let idle = RuleOverride { hold_s: Some(1.0), ..RuleOverride::default() };
        wrong.overrides.push(("rain".to_owned(), idle));
        let problems = Rules::resolve(&classes(), &defaults(), &wrong).unwrap_err();
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let text = text.join("\n");
        for part in ["glass_breaking", "hits = 4", "wolf", "detection.class.Dog", "\"dog\""] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.contains("detection.class.rain has no effect"), "{text}");
        assert_eq!(problems.len(), 5);
    }
}
