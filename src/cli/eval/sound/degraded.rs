//! Clips made worse before they are heard: other sounds mixed in, high frequencies taken away,
//! the level changed; in this order, as on the way through a room and a microphone.

use std::path::PathBuf;

use clap::Args;

use crate::cli::classify::{decibels, in_range};
use crate::data::degrade::{gain, low_pass, mix_at_snr};
use crate::data::files::audio_files;
use crate::data::load;
use crate::spectrogram::ChannelChoice;

#[derive(Args)]
pub struct Degradation {
    /// Mix a recording of --background into each clip, this much quieter than it, in dB
    #[arg(long, value_name = "DB", requires = "background", allow_negative_numbers = true,
          value_parser = decibels)]
    snr: Option<f32>,
    /// Folder of recordings for --snr
    #[arg(long, value_name = "DIR", requires = "snr")]
    background: Option<PathBuf>,
    /// Another number draws other backgrounds
    #[arg(long, default_value_t = 1, value_name = "NUMBER", requires = "snr")]
    seed: u64,
    /// Take away what is above this frequency
    #[arg(long, value_name = "HZ", value_parser = hertz)]
    low_pass: Option<f32>,
    /// Change the level of each clip by so many dB
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = decibels)]
    gain: Option<f32>,
}

/// What is done to every clip.
pub struct Degrader<'a> {
    settings: &'a Degradation,
    backgrounds: Vec<PathBuf>,
}

impl Degradation {
    /// Looks for the backgrounds.
    pub fn prepare(&self) -> anyhow::Result<Degrader<'_>> {
        let folder = self.background.as_deref();
        let backgrounds = folder.map(audio_files).transpose()?.unwrap_or_default();
        Ok(Degrader { settings: self, backgrounds })
    }
}

impl Degrader<'_> {
    /// Changes clip number `clip`, always in the same way for the same seed.
    pub fn apply(
        &self,
        clip: usize,
        samples: &mut [f32],
        rate_hz: u32,
        channel: ChannelChoice,
    ) -> anyhow::Result<()> {
        let Degradation { snr, seed, low_pass: cutoff_hz, gain: gain_db, .. } = *self.settings;
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add((clip as u64) << 32));
        if let (Some(snr_db), Some(path)) = (snr, random.choice(&self.backgrounds)) {
            let background = load(path, None, rate_hz, channel)?;
            // Anywhere in it, but so that it need not be repeated if it is long enough.
            let spare = background.len().saturating_sub(samples.len());
            let start = random.usize(0..=spare);
            mix_at_snr(samples, background.get(start..).unwrap_or_default(), snr_db);
        }
        if let Some(cutoff_hz) = cutoff_hz {
            low_pass(samples, rate_hz, cutoff_hz);
        }
        if let Some(gain_db) = gain_db {
            gain(samples, gain_db);
        }
        Ok(())
    }
}

fn hertz(text: &str) -> Result<f32, String> {
    in_range(text, 50.0, 96_000.0)
}
