//! What is kept: `[store]` and `[clips]`.

use std::path::Path;

use super::environment::Environment;
use super::found::Found;
use super::names::{CLASSES_MAX, are_class_names};
use super::section::Section;
use crate::store::settings::{ClipSettings, NEVER_RECORD, StoreSettings};

const MIB: u64 = 1 << 20;

/// Reads `[store]`.
pub(super) fn check(
    root: &mut Section,
    folder: Option<&Path>,
    environment: &Environment,
    found: &mut Found,
) -> StoreSettings {
    let mut store = root.subsection("store");
    let settings = StoreSettings {
        enabled: store.boolean("enabled", true),
        folder: store.path("folder", folder).unwrap_or_else(|| environment.state_folder.clone()),
        keep_days: store.integer("keep_days", 365, 1..=36_500).unwrap_or(365),
        size_max_bytes: MIB * store.integer("size_max_mb", 200, 1..=1_000_000).unwrap_or(200),
    };
    store.finish(found);
    settings
}

/// Reads `[clips]`; `None` when none are kept.
pub(super) fn check_clips(
    root: &mut Section,
    folder: Option<&Path>,
    store: &StoreSettings,
    found: &mut Found,
) -> Option<ClipSettings> {
    let mut clips = root.subsection("clips");
    let enabled = clips.boolean("enabled", false);
    let allowed = format!("a list of at most {CLASSES_MAX} different class names");
    let names = |section: &mut Section, key, default: &str| {
        section.list(key, default, &allowed, |names| are_class_names(names, CLASSES_MAX))
    };
    let classes = names(&mut clips, "classes", "[]").unwrap_or_default();
    let spoken = NEVER_RECORD.map(str::to_owned);
    let shown = format!("[{}]", spoken.each_ref().map(|name| format!("\"{name}\"")).join(", "));
    let never_record = names(&mut clips, "never_record", &shown).unwrap_or_else(|| spoken.into());
    let settings = ClipSettings {
        folder: clips.path("folder", folder).unwrap_or_else(|| store.folder.join("clips")),
        before_s: clips.number("before_s", 2.0, 0.0..=60.0),
        after_s: clips.number("after_s", 2.0, 0.0..=60.0),
        length_max_s: clips.number("length_max_s", 60.0, 1.0..=600.0),
        size_max_bytes: MIB * clips.integer("size_max_mb", 500, 1..=1_000_000).unwrap_or(500),
        classes,
        never_record,
    };
    if enabled && !store.enabled {
        clips.wrong("enabled", "only with store.enabled, which says which event a clip is of");
    }
    clips.finish(found);
    enabled.then_some(settings)
}
