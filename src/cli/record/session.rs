//! From samples to files, and what a person is told on the way.

use std::path::Path;

use super::meter::Meter;
use super::shelf::Shelf;
use crate::cli::output;
use crate::data::takes::{Cutter, Phase, Take, Trigger};
use crate::evaluate::wav::to_wav;
use crate::spectrogram::{ChannelChoice, mix_into};

/// A take whose peak is lower holds little but the microphone's own noise.
const QUIET_DBFS: f32 = -40.0;

/// The samples that come.
pub struct Layout {
    pub rate_hz: u32,
    pub channels: usize,
    pub choice: ChannelChoice,
}

/// One run of the command.
pub struct Session {
    shelf: Shelf,
    trigger: Trigger,
    take_s: f64,
    /// Takes to make, if that is limited.
    count: Option<u32>,
    made: u32,
    heard: Option<Hearing>,
    meter: Meter,
    mono: Vec<f32>,
    /// It was said that the first sound may come.
    is_ready: bool,
}

/// A stream that is being heard.
struct Hearing {
    layout: Layout,
    cutter: Cutter,
}

impl Session {
    /// For takes of `take_s` seconds in the folder `label` of `out`.
    pub fn new(
        out: &Path,
        label: &str,
        trigger: Trigger,
        take_s: f64,
        count: Option<u32>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            shelf: Shelf::new(out, label)?,
            trigger,
            take_s,
            count,
            made: 0,
            heard: None,
            meter: Meter::new(),
            mono: Vec::new(),
            is_ready: false,
        })
    }

    /// A stream begins.
    pub fn begin(&mut self, layout: Layout) {
        let cutter = Cutter::new(layout.rate_hz, self.take_s, self.trigger);
        self.heard = Some(Hearing { layout, cutter });
    }

    /// Whether there are as many takes as wanted.
    pub fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.made >= count)
    }

    /// Takes made so far.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Whether a take is in progress.
    pub fn is_taking(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.cutter.phase() == Phase::Taking)
    }

    /// Takes interleaved samples, and writes the takes that they complete.
    pub fn hear(&mut self, interleaved: &[f32]) -> anyhow::Result<()> {
        let Some(Hearing { layout, cutter }) = &mut self.heard else { return Ok(()) };
        let rate_hz = layout.rate_hz;
        self.mono.clear();
        mix_into(&mut self.mono, interleaved, layout.channels, layout.choice);
        let mut takes = Vec::new();
        cutter.push(&self.mono, &mut |take| takes.push(take));
        for take in takes {
            self.keep(&take, rate_hz)?;
        }
        Ok(())
    }

    /// Draws the meter, and says when the first sound may come.
    pub fn show(&mut self) {
        let Some(Hearing { cutter, .. }) = &self.heard else { return };
        let next = self.made + 1;
        let (words, onset) = (words(cutter.phase(), self.trigger, next), cutter.onset_dbfs());
        let waits = self.trigger == Trigger::Rise && cutter.phase() == Phase::Ready;
        if waits && !self.is_ready {
            self.is_ready = true;
            self.say(&format!("ready: now make the sound; {onset:.0} dBFS begin a take"));
        }
        self.meter.show(&self.mono, &words);
        self.mono.clear();
    }

    /// Begins a take.
    pub fn call(&mut self) {
        if let Some(heard) = &mut self.heard {
            heard.cutter.call();
        }
    }

    /// Samples are missing here.
    pub fn gap(&mut self) {
        let lost = self.heard.as_mut().is_some_and(|heard| heard.cutter.gap());
        if lost {
            self.say("this take is thrown away: a part of it was lost, the machine is too busy");
        }
    }

    /// The stream is over: the take in progress ends with it, if its sound makes it one.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let Some(Hearing { layout, cutter }) = self.heard.take() else { return Ok(()) };
        match cutter.finish() {
            Some(take) if !self.is_complete() => self.keep(&take, layout.rate_hz)?,
            _ => {}
        }
        self.sum_up()
    }

    /// It ends here: the take in progress is thrown away.
    pub fn abandon(&mut self) -> anyhow::Result<()> {
        if self.is_taking() && !self.is_complete() {
            self.say("the take in progress is thrown away");
        }
        self.heard = None;
        self.sum_up()
    }

    /// Says something that is no result.
    pub fn say(&self, what: &str) {
        self.meter.aside(|| output::complain(what));
    }

    /// Why there was no take in a whole recording.
    pub fn why_nothing(&self) -> String {
        match self.trigger {
            Trigger::Level(dbfs) => format!("no sound in it reaches {dbfs} dBFS"),
            Trigger::Always => format!("shorter than one take of {} s", self.take_s),
            Trigger::Rise | Trigger::Call => {
                "no sound in it stands out from what is around it; --threshold or --mode fixed may help"
                    .to_owned()
            }
        }
    }

    fn keep(&mut self, take: &Take, rate_hz: u32) -> anyhow::Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let peak = take.peak_dbfs();
        if peak == f32::NEG_INFINITY {
            self.say("digital silence is no take: the microphone is muted, or switched off");
            return Ok(());
        }
        let name = self.shelf.put(&to_wav(&take.samples, rate_hz))?;
        self.made += 1;
        let of = self.count.map_or_else(String::new, |count| format!(" of {count}"));
        let seconds = take.sound_s.unwrap_or(take.samples.len() as f64 / f64::from(rate_hz));
        let warning = warning(take, peak).map_or_else(String::new, |text| format!("; {text}"));
        let line =
            format!("take {}{of}: {seconds:.1} s, peak {peak:.0} dBFS, {name}{warning}", self.made);
        self.meter.aside(|| output::write_line(&line))
    }

    fn sum_up(&self) -> anyhow::Result<()> {
        let (made, folder) = (self.made, self.shelf.folder().display());
        let takes = if made == 1 { "take" } else { "takes" };
        match made {
            0 => Ok(()),
            _ => self.meter.aside(|| output::write_line(&format!("{made} {takes} in {folder}"))),
        }
    }
}

/// What is wrong with a take that is kept all the same.
fn warning(take: &Take, peak_dbfs: f32) -> Option<&'static str> {
    // Pieces of the background may be as quiet as they like.
    let is_sound = take.sound_s.is_some();
    if take.is_clipped() {
        Some("clipped: step back, or turn the microphone down")
    } else if take.sound_s == Some(0.0) {
        Some("nothing in it is louder than the room")
    } else if is_sound && peak_dbfs < QUIET_DBFS {
        Some("quiet: come nearer, or turn the microphone up")
    } else {
        None
    }
}

fn words(phase: Phase, trigger: Trigger, next: u32) -> String {
    match (phase, trigger) {
        (Phase::Taking, _) => format!("take {next} ..."),
        (Phase::Settling, _) => "quiet, please".to_owned(),
        (Phase::Ready, Trigger::Call) => "press Enter".to_owned(),
        (Phase::Ready, _) => "waiting for a sound".to_owned(),
    }
}
