//! From what is written to what is used: every key outside sources and MQTT, and the layers' order.

use std::path::Path;
use std::sync::Arc;

use super::environment::Environment;
use super::found::Found;
use super::names::{
    CLASS_CHARS_MAX, CLASSES_MAX, NAME_CHARS_MAX, are_class_names, is_node_name, is_plain_text,
    node_from_host,
};
use super::overrides::Overrides;
use super::problem::Problems;
use super::raw::Table;
use super::section::Section;
use super::{LogLevel, LogSettings, Settings, alert, dashboard, mqtt, sources, store};
use crate::decide::settings::{DetectionSettings, RuleOverride};

/// Entries of `suppressed_by`.
const SUPPRESSORS_MAX: usize = 64;

/// Settings from a file's table under the environment and the flags, and what was found on the way.
/// The settings are good only if no problem was found. `folder` is the file's, for relative paths.
pub(super) fn check(
    mut table: Table,
    folder: Option<&Path>,
    environment: &Environment,
    flags: &Overrides,
) -> (Settings, Found) {
    let mut problems = Problems::default();
    let mut given = environment.given(&mut problems);
    given.extend(flags.given(&mut problems));
    if let Some(entry) = flags.sources.tables(&mut problems) {
        table.insert("source".to_owned(), entry);
    }
    let mut root = Section::root(table, given);
    let mut found = Found::new(problems);

    let node = node(&mut root, environment);
    let kept = store::check(&mut root, folder, environment, &mut found);
    let sources = sources::check(&mut root, folder, &mut found);
    let publish = mqtt::check(&mut root, &node, folder, environment, &mut found);
    let company =
        alert::Company { node: &node, sources: &sources, publish: &publish, environment, folder };
    let alerts = alert::check(&mut root, &company, &mut found);
    let settings = Settings {
        model: model(&mut root, folder, &mut found),
        sources,
        hop_s: hop_s(&mut root, &mut found),
        detection: detection(&mut root, &mut found),
        publish,
        alerts,
        clips: store::check_clips(&mut root, folder, &kept, &mut found),
        store: kept,
        dashboard: dashboard::check(&mut root, folder, environment, &mut found),
        log: log(&mut root, &mut found),
        node,
    };
    root.finish(&mut found);
    (settings, found)
}

fn node(root: &mut Section, environment: &Environment) -> Arc<str> {
    let allowed = format!("1 to {NAME_CHARS_MAX} of A-Z, a-z, 0-9, `_` and `-`");
    let node = root.text("node", "the host's name", &allowed, is_node_name);
    node.unwrap_or_else(|| node_from_host(environment.host_name.as_deref())).into()
}

fn model(
    root: &mut Section,
    folder: Option<&Path>,
    found: &mut Found,
) -> Option<std::path::PathBuf> {
    let mut model = root.subsection("model");
    let path = model.path("path", folder);
    model.finish(found);
    path
}

fn hop_s(root: &mut Section, found: &mut Found) -> f32 {
    let mut analysis = root.subsection("analysis");
    let hop_s = analysis.number("hop_s", 0.5, 0.1..=5.0);
    analysis.finish(found);
    hop_s
}

fn log(root: &mut Section, found: &mut Found) -> LogSettings {
    let mut log = root.subsection("log");
    let options = LogLevel::ALL.map(|level| (level.as_str(), level));
    let level = log.choice("level", LogLevel::default().as_str(), &options).unwrap_or_default();
    log.finish(found);
    LogSettings { level }
}

fn detection(root: &mut Section, found: &mut Found) -> DetectionSettings {
    let mut detection = root.subsection("detection");
    let sensitivity = detection.number("sensitivity", 0.5, 0.0..=1.0);
    let min_level_dbfs = detection.number("min_level_dbfs", -70.0, -120.0..=0.0);
    let allowed = format!("a list of at most {CLASSES_MAX} different class names");
    let classes =
        detection.list("classes", "[]", &allowed, |names| are_class_names(names, CLASSES_MAX));
    let mut overrides = Vec::new();
    for (class, mut section) in detection.named_tables("class", "NAME", CLASSES_MAX) {
        if !is_plain_text(&class, CLASS_CHARS_MAX) {
            section.wrong_as_a_whole(format!(
                "a class's name has 1 to {CLASS_CHARS_MAX} printable characters"
            ));
        }
        overrides.push((class.clone(), rule(section, &class, found)));
    }
    document_rules(found);
    detection.finish(found);
    DetectionSettings {
        sensitivity,
        min_level_dbfs,
        classes: classes.unwrap_or_default(),
        overrides,
    }
}

/// Makes the keys of rules known, so that they are documented when no rule is written.
fn document_rules(found: &mut Found) {
    let mut keys = Found::default();
    rule(Section::example("detection.class.NAME"), "NAME", &mut keys);
    keys.finish_example(found);
}

fn rule(mut section: Section, class: &str, found: &mut Found) -> RuleOverride {
    const HOUR_S: f32 = 3600.0;
    let allowed = format!("a list of at most {SUPPRESSORS_MAX} different other class names");
    let are_others = |names: &[String]| {
        are_class_names(names, SUPPRESSORS_MAX) && !names.iter().any(|name| name == class)
    };
    let rule = RuleOverride {
        on: section.number_or_none("on", 0.0..=1.0),
        off: section.number_or_none("off", 0.0..=1.0),
        hits: section.integer("hits", "-", 1..=64),
        of: section.integer("of", "-", 1..=64),
        at_once: section.number_or_none("at_once", 0.0..=1.0),
        min_duration_s: section.number_or_none("min_duration_s", 0.0..=HOUR_S),
        hold_s: section.number_or_none("hold_s", 0.0..=HOUR_S),
        cooldown_s: section.number_or_none("cooldown_s", 0.0..=24.0 * HOUR_S),
        suppressed_by: section.list("suppressed_by", "-", &allowed, are_others),
    };
    if let (Some(on), Some(off)) = (rule.on, rule.off)
        && off > on
    {
        section.wrong("off", format!("must not be over `on`, which is {on}"));
    }
    if let (Some(on), Some(at_once)) = (rule.on, rule.at_once)
        && at_once < on
    {
        section.wrong("at_once", format!("must not be under `on`, which is {on}"));
    }
    if let (Some(hits), Some(of)) = (rule.hits, rule.of)
        && hits > of
    {
        section.wrong("hits", format!("must not be over `of`, which is {of}"));
    }
    section.finish(found);
    rule
}
