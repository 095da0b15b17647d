//! `hearken spectrogram`: the image that the network sees, or a plot for people.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Outcome, output};
use crate::capture::decode::AudioFile;
use crate::hear::SoundModel;
use crate::spectrogram::plot::{PlotInput, plot_png};
use crate::spectrogram::{Analyser, ChannelChoice, Image, InputFormat, Recipe};

/// The most of a recording that is plotted; a longer one is cut, and that is said.
const PLOT_S_MAX: f64 = 600.0;
/// The same for all its channels together, in samples: 256 MiB.
const SAMPLES_MAX: usize = 64 << 20;

#[derive(Args)]
pub struct Spectrogram {
    /// An audio file
    file: PathBuf,
    /// The PNG to write; default: the file's name with `.png`, in this folder
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite it if it exists
    #[arg(long)]
    force: bool,
    /// Begin this many seconds into the recording
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    at: f64,
    /// A channel, counted from 1, or `mix`, the mean of all
    #[arg(long, default_value = "mix", value_name = "CHANNEL")]
    channel: String,
    /// A picture for people: axes, colour bar, waveforms, overall spectrum, the whole recording
    #[arg(long)]
    plot: bool,
    /// Lower end of the plot's frequency axis in Hz
    #[arg(long, requires = "plot", value_name = "HZ")]
    fmin: Option<f32>,
    /// Upper end of the plot's frequency axis in Hz
    #[arg(long, requires = "plot", value_name = "HZ")]
    fmax: Option<f32>,
    /// Take the recipe of this model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// A decoded piece of a recording, by channel.
struct Recording {
    sample_rate_hz: u32,
    channels: Vec<Vec<f32>>,
    /// There was more than was taken.
    cut: bool,
}

impl Spectrogram {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let shown = self.file.display();
        let out = self.out.clone().unwrap_or_else(|| default_out(&self.file));
        let recipe = SoundModel::load(self.model.as_deref())?.recipe;
        if !(0.0..=1e9).contains(&self.at) {
            bail!("--at {} is no position in a recording", self.at);
        }
        let seconds = if self.plot { PLOT_S_MAX } else { recipe.window_s() };
        let recording = decode(&self.file, self.at, seconds)?;
        let channel = self.channel_index(recording.channels.len())?;
        let png = if self.plot {
            if recording.cut {
                let plotted = recording.channels.first().map_or(0, Vec::len);
                let plotted_s = plotted as f64 / f64::from(recording.sample_rate_hz.max(1));
                output::complain(&format!("{shown}: only {plotted_s:.0} s are plotted"));
            }
            let title = self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy();
            plot_png(&PlotInput {
                title: &title,
                sample_rate_hz: recording.sample_rate_hz,
                channels: &recording.channels,
                channel,
                start_s: self.at,
                recipe: &recipe,
                fmin_hz: self.fmin,
                fmax_hz: self.fmax,
            })
            .with_context(|| format!("{shown}"))?
        } else {
            image(&recording, channel, &recipe).with_context(|| format!("{shown}"))?.to_png()?
        };
        output::write_file(&out, &png, self.force)?;
        Ok(Outcome::Done)
    }

    /// The channel's index, or `None` for the mean of all.
    fn channel_index(&self, channels: usize) -> anyhow::Result<Option<usize>> {
        if self.channel == "mix" {
            return Ok(None);
        }
        match self.channel.parse::<usize>() {
            Ok(number) if (1..=channels).contains(&number) => Ok(Some(number - 1)),
            _ => bail!(
                "--channel {}: {} has channels 1 to {channels}, or `mix`",
                self.channel,
                self.file.display()
            ),
        }
    }
}

fn default_out(file: &Path) -> PathBuf {
    let mut name = file.file_stem().unwrap_or(file.as_os_str()).to_owned();
    name.push(".png");
    PathBuf::from(name)
}

/// Decodes up to `seconds` from `at_s` on.
fn decode(path: &Path, at_s: f64, seconds: f64) -> anyhow::Result<Recording> {
    let mut file = AudioFile::open(path)?;
    let (rate_hz, width) = (file.sample_rate_hz(), usize::from(file.channels()).max(1));
    let skip = (at_s * f64::from(rate_hz)).round() as usize;
    let wanted = (seconds * f64::from(rate_hz)).round() as usize;
    let wanted = wanted.min(SAMPLES_MAX / width);
    let mut channels = vec![Vec::new(); width];
    let (mut block, mut position, mut cut) = (Vec::new(), 0, false);
    loop {
        block.clear();
        match file.next_block(&mut block) {
            Ok(0) => break,
            Ok(_) => {}
            // What could be decoded is drawn, if there is any.
            Err(error) if position > skip => {
                output::complain(&error.to_string());
                break;
            }
            Err(error) => return Err(error.into()),
        }
        for frame in block.chunks_exact(width) {
            if position >= skip + wanted {
                cut = true;
                break;
            }
            if position >= skip {
                channels.iter_mut().zip(frame).for_each(|(channel, &s)| channel.push(s));
            }
            position += 1;
        }
        if cut {
            break;
        }
    }
    if channels.iter().all(Vec::is_empty) {
        bail!("{}: it ends before --at {at_s} s", path.display());
    }
    Ok(Recording { sample_rate_hz: rate_hz, channels, cut })
}

/// The window that begins where the recording begins.
fn image(recording: &Recording, channel: Option<usize>, recipe: &Recipe) -> anyhow::Result<Image> {
    let chosen: Vec<&Vec<f32>> = match channel {
        Some(index) => recording.channels.iter().skip(index).take(1).collect(),
        None => recording.channels.iter().collect(),
    };
    let format = InputFormat {
        sample_rate_hz: recording.sample_rate_hz,
        channels: u16::try_from(chosen.len())?,
        choice: ChannelChoice::Mix,
    };
    let frames = chosen.first().map_or(0, |samples| samples.len());
    let interleaved: Vec<f32> = (0..frames)
        .flat_map(|frame| chosen.iter().filter_map(move |samples| samples.get(frame).copied()))
        .collect();
    let mut analyser = Analyser::new(recipe, format, recipe.columns)?;
    let mut first = None;
    let mut keep = |slice: crate::spectrogram::Slice| first = first.take().or(slice.image);
    analyser.push(&interleaved, &mut keep);
    analyser.finish(&mut keep);
    first.context("there is no sound in it")
}
