//! The sources: `[[source]]` tables, or one microphone when there are none.

use std::collections::BTreeSet;
use std::path::Path;

use super::Source;
use super::found::Found;
use super::names::{NAME_CHARS_MAX, is_plain_text, is_plain_text_or_empty, is_source_name};
use super::section::Section;
use crate::capture::settings::{DeviceSelect, Origin, Pace, PcmFormat, PcmSample, SourceSettings};
use crate::spectrogram::settings::ChannelChoice;

/// Sources at once.
pub const SOURCES_MAX: usize = 64;

/// Arguments of a command.
const ARGUMENTS_MAX: usize = 256;
const ARGUMENT_CHARS_MAX: usize = 4096;

/// What `sample_format` may say.
pub(super) const SAMPLE_FORMATS: [(&str, PcmSample); 4] = [
    ("s16le", PcmSample::S16Le),
    ("s24le", PcmSample::S24Le),
    ("s32le", PcmSample::S32Le),
    ("f32le", PcmSample::F32Le),
];
/// What `pace` may say.
pub(super) const PACES: [(&str, Pace); 2] = [("real_time", Pace::RealTime), ("fast", Pace::Fast)];
/// What `channel` may say.
pub(super) const CHANNELS: [(&str, ChannelChoice); 2] =
    [("mix", ChannelChoice::Mix), ("first", ChannelChoice::First)];

/// Reads all sources. Sources with problems are left out of the result.
pub(super) fn check(root: &mut Section, folder: Option<&Path>, found: &mut Found) -> Vec<Source> {
    let mut keys = Found::default();
    source(Section::example("source[]"), folder, &mut keys, &mut Taken::default());
    keys.finish_example(found);

    let Some(sections) = root.tables("source", SOURCES_MAX) else { return vec![microphone()] };
    if sections.is_empty() {
        root.wrong("source", "names no source; leave it out to hear the default microphone");
    }
    let mut taken = Taken::default();
    sections.into_iter().filter_map(|section| source(section, folder, found, &mut taken)).collect()
}

fn microphone() -> Source {
    let capture =
        SourceSettings { name: "microphone".into(), origin: Origin::Device(DeviceSelect::Default) };
    Source { capture, channel: ChannelChoice::Mix }
}

/// What only one source can have.
#[derive(Default)]
struct Taken {
    names: BTreeSet<String>,
    stdin: bool,
}

fn source(
    mut section: Section,
    folder: Option<&Path>,
    found: &mut Found,
    taken: &mut Taken,
) -> Option<Source> {
    let name = name(&mut section, taken);
    let origin = origin(&mut section, folder, taken);
    let channel = section.choice("channel", "mix", &CHANNELS).unwrap_or_default();
    section.finish(found);
    Some(Source { capture: SourceSettings { name: name?.into(), origin: origin? }, channel })
}

fn name(section: &mut Section, taken: &mut Taken) -> Option<String> {
    let allowed = format!("1 to {NAME_CHARS_MAX} of a-z, 0-9, `_` and `-`");
    let is_written = section.has("name");
    let Some(name) = section.text("name", "-", &allowed, is_source_name) else {
        if !is_written {
            section.wrong("name", format!("each source needs a name: {allowed}"));
        }
        return None;
    };
    section.rename(format!("source.{name}"));
    if !taken.names.insert(name.clone()) {
        section.wrong("name", "another source has this name; each needs its own");
    }
    Some(name)
}

/// Exactly one of the four origins, with the keys that belong to it and no others.
fn origin(section: &mut Section, folder: Option<&Path>, taken: &mut Taken) -> Option<Origin> {
    const ORIGINS: &str = "device, file, stdin or command";
    let written =
        ["device", "file", "stdin", "command"].into_iter().filter(|key| section.has(key)).count();
    let device = device(section).map(Origin::Device);
    let file = file(section, folder);
    let stdin = section.boolean("stdin", false);
    let argv = command(section);
    let format = format(section);

    check_company(section, "file", &["pace", "repeat"], file.is_some());
    check_company(
        section,
        "stdin or command",
        &["sample_rate_hz", "channels", "sample_format"],
        stdin || argv.is_some(),
    );
    let command = argv.map(|argv| Origin::Command { argv, format });
    if stdin && std::mem::replace(&mut taken.stdin, true) {
        section.wrong("stdin", "another source reads standard input; only one can");
    }
    let stdin = stdin.then_some(Origin::Stdin(format));
    let mut origins: Vec<Origin> = [device, file, stdin, command].into_iter().flatten().collect();
    match origins.len() {
        1 => origins.pop(),
        // One that is written but wrong has been reported already.
        0 if written > 0 && !section.is_set("stdin") => None,
        0 => {
            section.wrong_as_a_whole(format!("needs one of {ORIGINS}"));
            None
        }
        _ => {
            section.wrong_as_a_whole(format!(
                "has more than one of {ORIGINS}; make them sources of their own"
            ));
            None
        }
    }
}

fn device(section: &mut Section) -> Option<DeviceSelect> {
    let allowed = "\"default\", \"id:...\" or \"name:...\" as `hearken devices` prints them";
    let text = section.text("device", "-", allowed, |text| select(text).is_some())?;
    select(&text)
}

/// Reads `default`, `id:...` or `name:...`.
fn select(text: &str) -> Option<DeviceSelect> {
    const DEVICE_CHARS_MAX: usize = 256;
    let is_good = |text: &&str| is_plain_text(text, DEVICE_CHARS_MAX);
    match text.split_once(':') {
        None if text == "default" => Some(DeviceSelect::Default),
        Some(("id", id)) => Some(id).filter(is_good).map(|id| DeviceSelect::Id(id.to_owned())),
        Some(("name", name)) => {
            Some(name).filter(is_good).map(|name| DeviceSelect::Name(name.to_owned()))
        }
        _ => None,
    }
}

fn file(section: &mut Section, folder: Option<&Path>) -> Option<Origin> {
    let path = section.path("file", folder);
    let pace = section.choice("pace", "real_time", &PACES).unwrap_or(Pace::RealTime);
    let repeat = section.boolean("repeat", false);
    path.map(|path| Origin::File { path, pace, repeat })
}

fn command(section: &mut Section) -> Option<Vec<String>> {
    let allowed = format!(
        "a list of the program and its arguments: 1 to {ARGUMENTS_MAX} texts of at most {ARGUMENT_CHARS_MAX} \
         printable characters, the first not empty"
    );
    section.list("command", "-", &allowed, |argv| {
        let has_program = argv.first().is_some_and(|program| !program.is_empty());
        has_program
            && argv.len() <= ARGUMENTS_MAX
            && argv.iter().all(|argument| is_plain_text_or_empty(argument, ARGUMENT_CHARS_MAX))
    })
}

fn format(section: &mut Section) -> PcmFormat {
    let sample_rate_hz = section.integer("sample_rate_hz", 32_000, 4_000..=384_000);
    let channels = section.integer("channels", 1, 1..=32);
    let sample = section.choice("sample_format", "s16le", &SAMPLE_FORMATS);
    PcmFormat {
        sample_rate_hz: sample_rate_hz.unwrap_or(32_000),
        channels: channels.unwrap_or(1),
        sample: sample.unwrap_or(PcmSample::S16Le),
    }
}

/// Reports keys that say nothing about this kind of source.
fn check_company(section: &mut Section, owner: &str, keys: &[&str], has_owner: bool) {
    for key in keys {
        if section.is_set(key) && !has_owner {
            section.wrong(key, format!("only for a source with {owner}"));
        }
    }
}
