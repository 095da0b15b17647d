//! What a source is, as the configuration has checked it.

use std::path::PathBuf;

use crate::signal::SourceName;

/// One source of audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    pub name: SourceName,
    pub origin: Origin,
}

/// Where samples come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A microphone or another input of the sound system.
    Device(DeviceSelect),
    /// An audio file (WAV, FLAC, MP3, Ogg Vorbis).
    File { path: PathBuf, pace: Pace, repeat: bool },
    /// The recording in this program, in real time, over and over: something to hear on a machine
    /// without a microphone.
    Recording,
    /// Raw PCM on standard input; its end ends the source.
    Stdin(PcmFormat),
    /// Raw PCM on the standard output of a command (no shell), started again when it ends.
    Command { argv: Vec<String>, format: PcmFormat },
}

/// Which input device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSelect {
    /// The sound system's default input.
    Default,
    /// The stable identifier that `hearken devices` prints.
    Id(String),
    /// The first input whose name contains this, upper and lower case alike.
    Name(String),
}

/// How fast a file is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// One second of audio a second.
    RealTime,
    /// As fast as it can be analysed; nothing is dropped.
    Fast,
}

/// The layout of raw PCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcmFormat {
    /// 4,000 to 384,000.
    pub sample_rate_hz: u32,
    /// 1 to 32.
    pub channels: u16,
    pub sample: PcmSample,
}

/// The type of one raw sample, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcmSample {
    S16Le,
    S24Le,
    S32Le,
    F32Le,
}

impl PcmSample {
    /// Bytes of one sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::S16Le => 2,
            Self::S24Le => 3,
            Self::S32Le | Self::F32Le => 4,
        }
    }
}
