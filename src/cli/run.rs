//! `hearken run`: the daemon.

use std::path::PathBuf;

use clap::Args;

use super::{Outcome, output};
use crate::capture;
use crate::capture::settings::{DeviceSelect, Origin};
use crate::config::{self, Environment, LogLevel, Overrides, Settings, SourceFlags};
use crate::hear::SoundModel;
use crate::supervise::{self, EventFormat, EventWriter};

#[derive(Args)]
pub struct Run {
    /// The configuration file; without it the defaults: the default microphone, a broker on
    /// 127.0.0.1
    #[arg(long, short, env = config::CONFIG_FILE_VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a single key, as `detection.sensitivity=0.7`; may be given often
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The name of this listener in topics
    #[arg(long)]
    node: Option<String>,
    /// A model file instead of the one in this program
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The MQTT broker's host
    #[arg(long, value_name = "HOST")]
    mqtt_host: Option<String>,
    /// The MQTT broker's port
    #[arg(long, value_name = "PORT")]
    mqtt_port: Option<String>,
    #[command(flatten)]
    sources: Sources,
    /// Events as lines of JSON
    #[arg(long)]
    json: bool,
    /// If there is no microphone at all, listen to the recording in this program, over and over
    #[arg(long)]
    demo_if_no_microphone: bool,
}

/// Sources that replace those of the configuration.
#[derive(Args)]
struct Sources {
    /// An input device: default, id:... or name:...
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<String>,
    /// An audio file
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Hear files as fast as possible
    #[arg(long)]
    fast: bool,
    /// Hear files over and over again
    #[arg(long)]
    repeat: bool,
    /// Raw PCM on standard input
    #[arg(long)]
    stdin: bool,
    /// Sample rate of standard input
    #[arg(long, value_name = "HZ")]
    sample_rate_hz: Option<u32>,
    /// Channels of standard input
    #[arg(long, value_name = "COUNT")]
    channels: Option<u16>,
    /// Sample format of standard input: s16le, s24le, s32le or f32le
    #[arg(long, value_name = "FORMAT")]
    sample_format: Option<String>,
    /// mix or first
    #[arg(long)]
    channel: Option<String>,
}

impl Run {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let format = if self.json { EventFormat::Json } else { EventFormat::Text };
        let demo = self.demo_if_no_microphone;
        let (path, overrides) = self.into_overrides();
        let read = move || config::load(path.as_deref(), &Environment::capture(), &overrides);
        let mut settings = read()?;
        start_log(settings.log.level);
        let model = SoundModel::load(settings.model.as_deref())?;
        let recording = demo && wants_default_device(&settings) && no_microphone();
        if recording {
            output::complain(
                "there is no microphone that can be listened to on this machine (`hearken \
                 devices` says why); listening to a bundled recording instead, over and over",
            );
            use_recording(&mut settings);
        }
        let reread = move || {
            let mut settings = read()?;
            if recording {
                use_recording(&mut settings);
            }
            Ok(settings)
        };
        let events = EventWriter { format, out: Box::new(std::io::stdout()) };
        let outcome = supervise::run(settings, model, events, Box::new(reread))?;
        Ok(match outcome {
            supervise::Outcome::Asked | supervise::Outcome::AllEnded => Outcome::Done,
            supervise::Outcome::SomeFailed => Outcome::SomeFailed,
        })
    }

    fn into_overrides(self) -> (Option<PathBuf>, Overrides) {
        let Sources { devices, files, fast, repeat, stdin, .. } = self.sources;
        let sources = SourceFlags {
            devices,
            files,
            fast,
            repeat,
            stdin,
            sample_rate_hz: self.sources.sample_rate_hz,
            channels: self.sources.channels,
            sample_format: self.sources.sample_format,
            channel: self.sources.channel,
        };
        let overrides = Overrides {
            set: self.set,
            node: self.node,
            model: self.model,
            log_level: self.log_level,
            mqtt_host: self.mqtt_host,
            mqtt_port: self.mqtt_port,
            sources,
        };
        (self.config, overrides)
    }
}

fn wants_default_device(settings: &Settings) -> bool {
    settings
        .sources
        .iter()
        .all(|source| source.capture.origin == Origin::Device(DeviceSelect::Default))
}

/// Whether nothing could be listened to, not only what is configured.
fn no_microphone() -> bool {
    match capture::devices() {
        Ok(devices) => !devices.iter().any(|device| device.chosen.is_some()),
        Err(_) => true,
    }
}

fn use_recording(settings: &mut Settings) {
    for source in &mut settings.sources {
        source.capture.origin = Origin::Recording;
    }
}

/// Logs go to standard error; under systemd, which adds its own, without times.
fn start_log(level: LogLevel) {
    let filter = tracing_subscriber::EnvFilter::new(format!("off,hearken={}", level.as_str(),));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    // A second logger in one process is refused; the first one serves as well.
    let _ = if under_systemd { log.without_time().try_init() } else { log.try_init() };
}
