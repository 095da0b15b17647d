//! Audio files into samples: WAV, AIFF, FLAC, MP3 and Ogg Vorbis. The only home of `symphonia`.
//!
//! Encoder delay and padding are trimmed where the file tells them (the end granule of Ogg, the
//! LAME tag of MP3), so that a clip has the length it had before it was encoded.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP3, CODEC_ID_VORBIS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::pcm::silence_bad_samples;

/// What [`AudioFile::open_recording`] opens.
const RECORDING: &[u8] = include_bytes!("../../assets/soundscape.ogg");

/// Channels of a file at most.
pub const CHANNELS_MAX: u16 = 32;

/// Sample rates that are believed.
pub const SAMPLE_RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Packets that fail one after the other before a file is given up: garbage has no end of its own.
const DAMAGED_PACKETS_IN_A_ROW_MAX: u32 = 1_000;

/// The end of an Ogg file that must hold its last page: a page is at most 65,307 bytes long.
const OGG_TAIL_BYTES: u64 = 66_000;

/// Why a file can not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not there, not readable, or the disk failed: may be otherwise another time.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The path is a folder.
    #[error("{}: is a folder; name an audio file", path.display())]
    Folder { path: PathBuf },
    /// Zero bytes, or a header without a single sample behind it.
    #[error("{}: holds no audio: its length is zero", path.display())]
    Empty { path: PathBuf },
    /// None of the known formats.
    #[error("{}: is not audio in a known format (WAV, AIFF, FLAC, MP3, Ogg Vorbis): {reason}", path.display())]
    NotAudio { path: PathBuf, reason: String },
    /// A container without sound in it.
    #[error("{}: has no audio track", path.display())]
    NoAudioTrack { path: PathBuf },
    /// A track that needs another decoder.
    #[error("{}: its codec is not supported ({reason}); convert it to WAV, AIFF, FLAC, MP3 or Ogg Vorbis", path.display())]
    UnsupportedCodec { path: PathBuf, reason: String },
    /// Its layout is outside what is listened to.
    #[error("{}: {what} of {value} is not supported; allowed is {allowed}", path.display())]
    Layout { path: PathBuf, what: &'static str, value: u32, allowed: String },
    /// The file ends too early. What there is has been decoded.
    #[error("{}: is cut off after {frames} frames{}", path.display(), expected_suffix(*expected))]
    Truncated { path: PathBuf, frames: u64, expected: Option<u64> },
    /// Parts of the file could not be decoded. The rest has been.
    #[error("{}: is damaged: {packets} parts could not be decoded ({reason})", path.display())]
    Damaged { path: PathBuf, packets: u64, reason: String },
}

impl DecodeError {
    /// Whether the same path may work another time without being replaced by another file.
    pub fn may_heal(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

fn expected_suffix(expected: Option<u64>) -> String {
    expected.map_or_else(String::new, |frames| format!(" of {frames}"))
}

/// An audio file being read from its beginning to its end.
pub struct AudioFile {
    path: PathBuf,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    sample_rate_hz: u32,
    channels: u16,
    frames: Option<u64>,
    decoded_frames: u64,
    bad_samples: u64,
    damage: Damage,
    /// Known to lack its end, whatever its header says.
    cut_off: bool,
    done: bool,
}

/// What went wrong on the way, told at the end.
#[derive(Debug, Default)]
struct Damage {
    packets: u64,
    in_a_row: u32,
    first_reason: Option<String>,
}

impl AudioFile {
    /// Opens a file and reads as far as its first audio track.
    ///
    /// # Errors
    /// Anything but [`DecodeError::Damaged`]. [`DecodeError::Truncated`] where nothing can be decoded
    /// of what there is (AIFF is not read without its end).
    pub fn open(path: &Path) -> Result<Self, DecodeError> {
        let mut file = open_file(path)?;
        let io = |source| io_error(path, source);
        // A pipe has no end to be looked at.
        let is_file = file.metadata().map_err(io)?.is_file();
        let cut_off = is_file && ogg_is_cut_off(&mut file).map_err(io)?;
        guarded_probe(path, Box::new(file), cut_off)
    }

    /// Opens the recording in this program: a quiet room, then a siren, thunder, glass and a dog
    /// (sources and authors in `assets/README.md`).
    ///
    /// # Errors
    /// None, unless the program itself is damaged.
    pub fn open_recording() -> Result<Self, DecodeError> {
        let path = Path::new("(recording).ogg");
        probe(path, Box::new(io::Cursor::new(RECORDING)), false)
    }

    /// Opens a file's content.
    ///
    /// # Errors
    /// As [`Self::open`], with "the file" for a name.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let path = Path::new("the file");
        if bytes.is_empty() {
            return Err(DecodeError::Empty { path: path.to_owned() });
        }
        let mut source = io::Cursor::new(bytes);
        let cut_off = ogg_is_cut_off(&mut source).map_err(|source| io_error(path, source))?;
        guarded_probe(path, Box::new(source), cut_off)
    }

    /// Frames per second.
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }

    /// Samples in a frame, 1 to 32.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Length in frames, where the file tells it reliably.
    pub fn frames(&self) -> Option<u64> {
        self.frames
    }

    /// Frames decoded so far.
    pub fn decoded_frames(&self) -> u64 {
        self.decoded_frames
    }

    /// Samples that were NaN or infinite and became 0, so far.
    pub fn bad_samples(&self) -> u64 {
        self.bad_samples
    }

    /// Appends the next piece, interleaved, -1 to 1 (float files and lossy codecs may go
    /// somewhat beyond). Returns how many frames; 0 is the end.
    ///
    /// # Errors
    /// Once, after everything that could be decoded: [`DecodeError::Truncated`],
    /// [`DecodeError::Damaged`], [`DecodeError::Empty`] or [`DecodeError::Io`]. The end follows.
    pub fn next_block(&mut self, out: &mut Vec<f32>) -> Result<usize, DecodeError> {
        while !self.done {
            let packet = match guarded(|| self.format.next_packet()) {
                Some(Ok(Some(packet))) => packet,
                Some(Ok(None)) => return self.finish(),
                Some(Err(MediaError::IoError(error)))
                    if error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    // How a recording without a length in its header ends, and a cut-off one too:
                    // the frames tell which.
                    return self.finish();
                }
                Some(Err(MediaError::IoError(source))) => {
                    self.done = true;
                    return Err(io_error(&self.path, source));
                }
                Some(Err(MediaError::ResetRequired)) => {
                    if !self.follow_chain() {
                        return self.finish();
                    }
                    continue;
                }
                Some(Err(error)) => {
                    if self.note_damage(error.to_string()) {
                        return self.finish();
                    }
                    continue;
                }
                None => {
                    self.note_damage("the reader gave up".to_owned());
                    return self.finish();
                }
            };
            if packet.track_id != self.track_id {
                continue;
            }
            let frames = self.decode(&packet, out);
            if frames > 0 {
                return Ok(frames);
            }
            if self.damage.in_a_row > DAMAGED_PACKETS_IN_A_ROW_MAX {
                return self.finish();
            }
        }
        Ok(0)
    }

    /// Decodes one packet. A damaged packet is noted and gives nothing.
    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> usize {
        let Self { decoder, channels, .. } = self;
        let start = out.len();
        let decoded = guarded(|| -> Result<usize, String> {
            let buffer = decoder.decode(packet).map_err(|error| error.to_string())?;
            if buffer.num_planes() != usize::from(*channels) {
                return Err("its number of channels changes on the way".to_owned());
            }
            out.resize(start + buffer.samples_interleaved(), 0.0);
            if let Some(space) = out.get_mut(start..) {
                buffer.copy_to_slice_interleaved::<f32, _>(space);
            }
            Ok(buffer.frames())
        })
        .unwrap_or_else(|| Err("the decoder gave up".to_owned()));
        match decoded {
            Ok(frames) => {
                self.damage.in_a_row = 0;
                self.decoded_frames += frames as u64;
                self.bad_samples += silence_bad_samples(out.get_mut(start..).unwrap_or_default());
                frames
            }
            Err(reason) => {
                out.truncate(start);
                self.note_damage(reason);
                0
            }
        }
    }

    /// Counts a damaged part. True when there were too many in a row to go on.
    fn note_damage(&mut self, reason: String) -> bool {
        self.damage.packets += 1;
        self.damage.in_a_row += 1;
        self.damage.first_reason.get_or_insert(reason);
        self.damage.in_a_row > DAMAGED_PACKETS_IN_A_ROW_MAX
    }

    /// Goes on with the next stream of a chained Ogg file, if it has the same layout.
    fn follow_chain(&mut self) -> bool {
        let next = self.format.default_track(TrackType::Audio).and_then(|track| {
            let parameters = audio_parameters(track)?;
            let same = parameters.sample_rate == Some(self.sample_rate_hz)
                && channels_of(parameters) == Some(self.channels);
            same.then(|| (track.id, make_decoder(parameters)))
        });
        match next {
            Some((id, Ok(decoder))) => {
                (self.track_id, self.decoder) = (id, decoder);
                // The length told at the beginning was that of the first stream.
                self.frames = None;
                true
            }
            Some((_, Err(_))) | None => {
                self.note_damage("a stream of another layout follows the first".to_owned());
                false
            }
        }
    }

    /// The end of the file: nothing, or the one error that tells what was wrong with it.
    fn finish(&mut self) -> Result<usize, DecodeError> {
        self.done = true;
        let path = self.path.clone();
        let frames = self.decoded_frames;
        let missing = self.frames.is_some_and(|expected| frames < expected);
        if let Some(reason) = self.damage.first_reason.take() {
            return Err(DecodeError::Damaged { path, packets: self.damage.packets, reason });
        }
        if self.cut_off || missing {
            return Err(DecodeError::Truncated { path, frames, expected: self.frames });
        }
        if frames == 0 { Err(DecodeError::Empty { path }) } else { Ok(0) }
    }
}

/// Symphonia does not promise never to panic on a hostile file, and one bad file must not end a
/// listener that watches other sources. What it was working on is not used again.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn io_error(path: &Path, source: io::Error) -> DecodeError {
    DecodeError::Io { path: path.to_owned(), source }
}

fn open_file(path: &Path) -> Result<File, DecodeError> {
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    let metadata = file.metadata().map_err(|source| io_error(path, source))?;
    if metadata.is_dir() {
        return Err(DecodeError::Folder { path: path.to_owned() });
    }
    if metadata.is_file() && metadata.len() == 0 {
        return Err(DecodeError::Empty { path: path.to_owned() });
    }
    Ok(file)
}

/// [`probe`] for content from outside.
fn guarded_probe(
    path: &Path,
    source: Box<dyn MediaSource>,
    cut_off: bool,
) -> Result<AudioFile, DecodeError> {
    guarded(|| probe(path, source, cut_off)).unwrap_or_else(|| {
        let reason = "its header makes no sense".to_owned();
        Err(DecodeError::NotAudio { path: path.to_owned(), reason })
    })
}

fn probe(
    path: &Path,
    source: Box<dyn MediaSource>,
    cut_off: bool,
) -> Result<AudioFile, DecodeError> {
    let owned = || path.to_owned();
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(source, Default::default());
    let format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| match error {
            // A known header, and nothing behind it that could be read.
            MediaError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                DecodeError::Truncated { path: owned(), frames: 0, expected: None }
            }
            error => DecodeError::NotAudio { path: owned(), reason: error.to_string() },
        })?;
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| DecodeError::NoAudioTrack { path: owned() })?;
    let parameters =
        audio_parameters(track).ok_or_else(|| DecodeError::NoAudioTrack { path: owned() })?;
    let decoder = make_decoder(parameters)
        .map_err(|reason| DecodeError::UnsupportedCodec { path: owned(), reason })?;
    let sample_rate_hz = checked_sample_rate(path, parameters)?;
    let channels = checked_channels(path, parameters)?;
    let frames = reliable_frames(track, parameters);
    if frames == Some(0) && parameters.codec != CODEC_ID_VORBIS {
        return Err(DecodeError::Empty { path: owned() });
    }
    let track_id = track.id;
    Ok(AudioFile {
        path: owned(),
        format,
        decoder,
        track_id,
        sample_rate_hz,
        channels,
        frames,
        decoded_frames: 0,
        bad_samples: 0,
        damage: Damage::default(),
        cut_off,
        done: false,
    })
}

fn audio_parameters(track: &Track) -> Option<&AudioCodecParameters> {
    track.codec_params.as_ref()?.audio()
}

fn make_decoder(parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, String> {
    symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| error.to_string())
}

fn channels_of(parameters: &AudioCodecParameters) -> Option<u16> {
    parameters.channels.as_ref().map(|channels| u16::try_from(channels.count()).unwrap_or(u16::MAX))
}

fn checked_sample_rate(path: &Path, parameters: &AudioCodecParameters) -> Result<u32, DecodeError> {
    let value = parameters.sample_rate.unwrap_or(0);
    if SAMPLE_RATES_HZ.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (SAMPLE_RATES_HZ.start(), SAMPLE_RATES_HZ.end());
    Err(DecodeError::Layout {
        path: path.to_owned(),
        what: "a sample rate in Hz",
        value,
        allowed: format!("{low} to {high}"),
    })
}

fn checked_channels(path: &Path, parameters: &AudioCodecParameters) -> Result<u16, DecodeError> {
    let channels = channels_of(parameters).unwrap_or(0);
    if (1..=CHANNELS_MAX).contains(&channels) {
        return Ok(channels);
    }
    Err(DecodeError::Layout {
        path: path.to_owned(),
        what: "a number of channels",
        value: channels.into(),
        allowed: format!("1 to {CHANNELS_MAX}"),
    })
}

/// The track's length where it is more than an estimate: an MP3 without a LAME tag only guesses.
fn reliable_frames(track: &Track, parameters: &AudioCodecParameters) -> Option<u64> {
    let guessed = parameters.codec == CODEC_ID_MP3 && track.delay.is_none();
    track.num_frames.filter(|_| !guessed)
}

/// Whether this is an Ogg file that lacks its end: no whole last page that is marked as last
/// (RFC 3533, section 6). The reader itself takes any end for the end. Leaves the file at its start.
fn ogg_is_cut_off(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let mut head = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut head)?;
    let mut tail = Vec::new();
    if head == b"OggS" {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(OGG_TAIL_BYTES)))?;
        file.by_ref().take(OGG_TAIL_BYTES).read_to_end(&mut tail)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(head == b"OggS" && !ends_with_last_page(&tail))
}

/// Whether a page that is marked as the last of its stream ends within these bytes.
fn ends_with_last_page(tail: &[u8]) -> bool {
    const END_OF_STREAM: u8 = 4;
    const HEADER_BYTES: usize = 27;
    tail.windows(HEADER_BYTES).enumerate().any(|(at, header)| {
        let marked = header.starts_with(b"OggS")
            && header.get(5).is_some_and(|flags| flags & END_OF_STREAM != 0);
        let segments = usize::from(header.last().copied().unwrap_or(0));
        let lengths = tail.get(at + HEADER_BYTES..at + HEADER_BYTES + segments);
        marked
            && lengths.is_some_and(|lengths| {
                let body: usize = lengths.iter().map(|&length| usize::from(length)).sum();
                at + HEADER_BYTES + segments + body <= tail.len()
            })
    })
}
