//! `hearken record`: one's own sounds as labelled clips, from a microphone or out of a recording.

mod meter;
mod microphone;
mod session;
mod shelf;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Outcome, Usage, output};
use crate::capture::decode::{AudioFile, DecodeError};
use crate::data::takes::Trigger;
use crate::spectrogram::ChannelChoice;
pub use microphone::NoMicrophone;
use session::{Layout, Session};

/// Labels that stand for "none of the sounds".
const NEGATIVES: [&str; 2] = ["_background", "_negatives"];
/// Characters of a label at most.
const LABEL_CHARS_MAX: usize = 64;
/// Takes from a microphone unless it is said how many.
const COUNT: u32 = 20;

#[derive(Args)]
pub struct Record {
    /// What the sound is called; `_background` for what is none of the sounds: one stretch of it,
    /// cut into pieces
    #[arg(long, value_name = "NAME", value_parser = label)]
    label: String,
    /// The microphone: default, id:... or name:...
    #[arg(long, default_value = "default", value_name = "DEVICE")]
    device: String,
    /// Cut takes out of a recording instead
    #[arg(long, value_name = "FILE", conflicts_with = "device")]
    from: Option<PathBuf>,
    /// Takes go into a folder NAME in here, numbered on from what is there
    #[arg(long, default_value = "sounds", value_name = "DIR")]
    out: PathBuf,
    /// Takes to make; default: 20, or all that the recording holds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: Option<u32>,
    /// Length of a take, 1 to 30
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// What begins a take
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,
    /// Level that begins a take, -90 to 0; default: 12 dB over the room's
    #[arg(long, value_name = "DBFS", value_parser = threshold, allow_negative_numbers = true)]
    threshold: Option<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// A sound
    Auto,
    /// The Enter key; in a recording, the end of the take before
    Fixed,
}

impl Record {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let trigger = self.trigger();
        if self.threshold.is_some() && !matches!(trigger, Trigger::Level(_)) {
            let what = "--threshold: only where a sound begins a take, with --mode auto and a label \
                        that is not for the background";
            return Err(Usage(what.to_owned()).into());
        }
        let count = self.count.or(self.from.is_none().then_some(COUNT));
        let session = Session::new(&self.out, &self.label, trigger, self.seconds, count)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .context("signals can't be watched")?;
        }
        match &self.from {
            Some(file) => cut(file, session, &stop),
            None => microphone::listen(&self.device, trigger == Trigger::Call, session, &stop),
        }
    }

    fn trigger(&self) -> Trigger {
        match (self.mode, self.threshold) {
            _ if NEGATIVES.contains(&self.label.as_str()) => Trigger::Always,
            (Mode::Fixed, _) if self.from.is_some() => Trigger::Always,
            (Mode::Fixed, _) => Trigger::Call,
            (Mode::Auto, Some(dbfs)) => Trigger::Level(dbfs),
            (Mode::Auto, None) => Trigger::Rise,
        }
    }
}

/// Cuts takes out of a recording.
fn cut(path: &Path, mut session: Session, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    let mut file = AudioFile::open(path)?;
    session.begin(Layout {
        rate_hz: file.sample_rate_hz(),
        channels: usize::from(file.channels()),
        choice: ChannelChoice::Mix,
    });
    let mut block = Vec::new();
    let mut problem: Option<DecodeError> = None;
    while !session.is_complete() && !stop.load(Ordering::Relaxed) {
        block.clear();
        match file.next_block(&mut block) {
            Ok(0) => break,
            Ok(_) => session.hear(&block)?,
            Err(error) => {
                problem = Some(error);
                break;
            }
        }
    }
    session.finish()?;
    if let Some(problem) = problem {
        output::complain(&problem.to_string());
        return Ok(Outcome::SomeFailed);
    }
    if session.made() == 0 && !stop.load(Ordering::Relaxed) {
        anyhow::bail!("{}: {}", path.display(), session.why_nothing());
    }
    Ok(Outcome::Done)
}

/// Reads a label: a folder of this name is a class for `hearken train`.
fn label(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match (1..=LABEL_CHARS_MAX).contains(&text.len()) && text.chars().all(is_allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!("1 to {LABEL_CHARS_MAX} of A-Z, a-z, 0-9, `_` and `-`")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1.0..=30.0).contains(seconds));
    seconds.ok_or_else(|| "a number of 1 to 30".to_owned())
}

fn threshold(text: &str) -> Result<f32, String> {
    let dbfs = text.parse().ok().filter(|dbfs| (-90.0..=0.0).contains(dbfs));
    dbfs.ok_or_else(|| "a level in dBFS, -90 to 0".to_owned())
}
