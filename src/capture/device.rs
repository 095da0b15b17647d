//! Microphones and other inputs of the sound system. The only home of `cpal` (and of `alsa`, which
//! is needed for nothing but to keep that library quiet).
//!
//! A device is found anew at each opening, by its stable identifier or by its name, never by its
//! number. Opening and closing may block for as long as the sound system likes: both belong on
//! helper threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use cpal::{
    Device, Error, ErrorKind, InputCallbackInfo, SampleFormat, SizedSample, StreamInstant,
    SupportedStreamConfig, SupportedStreamConfigRange,
};
use serde::Serialize;

use super::callback::{Callback, RawSample};
use super::decode::CHANNELS_MAX;
use super::settings::{DeviceSelect, Pace};
use super::source::{Habits, Health, OpenError, Opened, Stream, new_feed};
use crate::signal::Timestamp;

/// How often cpal looks at a device that says nothing.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// A device that does not answer holds up a listing no longer than this.
const LISTING_TIMEOUT: Duration = Duration::from_secs(5);

/// Rates in the order of preference; the first is the sound system's own most often.
const PREFERRED_RATES_HZ: [u32; 3] = [48_000, 44_100, 32_000];

/// Below this rate high sounds are missing.
const FULL_BAND_RATE_HZ: u32 = 32_000;

/// A device that is plugged in again is heard again within seconds.
pub(super) const HABITS: Habits = Habits {
    first_retry: Duration::from_millis(250),
    longest_retry: Duration::from_secs(5),
    patience: Some(Duration::from_secs(10)),
    silence_is_mute: true,
};

/// An input as `hearken devices` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Stable identifier, for the configuration: `alsa:hw:CARD=Device,DEV=0`.
    pub id: String,
    /// For people.
    pub name: String,
    /// The sound system it belongs to: `alsa`.
    pub host: String,
    /// Whether it is what `default` means now.
    pub is_default: bool,
    /// How it would be listened to; absent when it can not be asked.
    pub chosen: Option<InputConfig>,
    /// Least and most channels.
    pub channels: (u16, u16),
    /// Lowest and highest sample rate in Hz.
    pub sample_rates_hz: (u32, u32),
    /// Sample formats: `i16`, `f32`.
    pub sample_formats: Vec<String>,
    /// Why it can not be asked: in use, no permission.
    pub problem: Option<String>,
}

/// One way of listening to an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputConfig {
    pub sample_rate_hz: u32,
    pub channels: u16,
    pub sample_format: String,
}

/// Why the inputs can not be listed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no sound system here, or it does not work.
    #[error("the sound system is not available: {0}")]
    Unavailable(String),
    /// It hangs.
    #[error("the sound system does not answer (waited {} s)", LISTING_TIMEOUT.as_secs())]
    NoAnswer,
}

/// The inputs of the sound system. Inputs that exist but can not be opened now are listed with
/// their problem; those that only look like inputs are not listed. Prints nothing: ALSA's own
/// messages are held back.
///
/// # Errors
/// When no input can be listed at all.
pub fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("device-list".to_owned())
        .spawn(move || list(&sender))
        .map_err(|error| DeviceError::Unavailable(error.to_string()))?;
    let mut found = Vec::new();
    loop {
        match receiver.recv_timeout(LISTING_TIMEOUT) {
            Ok(Ok(info)) => found.push(info),
            Ok(Err(error)) => return Err(DeviceError::Unavailable(error.to_string())),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(found),
            // What answered is worth showing; the one that hangs hides those behind it.
            Err(mpsc::RecvTimeoutError::Timeout) if found.is_empty() => {
                return Err(DeviceError::NoAnswer);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => return Ok(found),
        }
    }
}

fn list(sender: &mpsc::Sender<Result<DeviceInfo, Error>>) {
    let _quiet = quiet();
    let host = cpal::default_host();
    let inputs = match all_inputs(&host) {
        Ok(inputs) => inputs,
        Err(error) => {
            // The listener has gone: nobody wants to know.
            let _ = sender.send(Err(error));
            return;
        }
    };
    let default = host.default_input_device().and_then(|device| device.id().ok());
    for device in inputs {
        let Ok(id) = device.id() else { continue };
        if let Some(info) = describe(&device, &id, default.as_ref() == Some(&id))
            && sender.send(Ok(info)).is_err()
        {
            return;
        }
    }
}

/// The inputs, the default first, without those that are none.
fn all_inputs(host: &cpal::Host) -> Result<Vec<Device>, Error> {
    let mut inputs: Vec<Device> = host.default_input_device().into_iter().collect();
    for device in host.input_devices()? {
        if !inputs.contains(&device) {
            inputs.push(device);
        }
    }
    let ids: Vec<String> = inputs
        .iter()
        .map(|device| device.id().map(|id| id.id().to_owned()).unwrap_or_default())
        .collect();
    let mut keep = ids.iter().map(|id| is_worth_listing(id, &ids));
    inputs.retain(|_| keep.next().unwrap_or(false));
    Ok(inputs)
}

/// ALSA lists each card a second time by its number, which changes with the order of plugging in; a
/// device that makes silence out of nothing; and one that tries to start a JACK server when it is
/// asked for its formats, and complains on standard error. By its id each can be used all the same.
fn is_worth_listing(id: &str, all: &[String]) -> bool {
    fn card(id: &str) -> Option<(&str, bool)> {
        let (prefix, card) = id.split_once("CARD=")?;
        Some((prefix, card.starts_with(|first: char| first.is_ascii_digit())))
    }
    match card(id) {
        Some((prefix, true)) => !all.iter().any(|other| card(other) == Some((prefix, false))),
        Some((_, false)) => true,
        None => !matches!(id, "null" | "jack"),
    }
}

fn describe(device: &Device, id: &cpal::DeviceId, is_default: bool) -> Option<DeviceInfo> {
    let mut info = DeviceInfo {
        id: id.to_string(),
        name: device.to_string(),
        host: id.host().to_string(),
        is_default,
        chosen: None,
        channels: (0, 0),
        sample_rates_hz: (0, 0),
        sample_formats: Vec::new(),
        problem: None,
    };
    match device.supported_input_configs() {
        Ok(configs) => {
            let configs: Vec<_> = configs.collect();
            let chosen = choose(&configs)?;
            info.chosen = Some(InputConfig {
                sample_rate_hz: chosen.sample_rate(),
                channels: chosen.channels(),
                sample_format: chosen.sample_format().to_string(),
            });
            summarise(&configs, &mut info);
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::DeviceBusy | ErrorKind::PermissionDenied) =>
        {
            info.problem = Some(explain(&error));
        }
        // The default is what people ask for: it is shown even where it does not work.
        Err(error) if is_default => info.problem = Some(explain(&error)),
        Err(_) => return None,
    }
    Some(info)
}

fn summarise(configs: &[SupportedStreamConfigRange], info: &mut DeviceInfo) {
    let channels = || configs.iter().map(SupportedStreamConfigRange::channels);
    info.channels = (channels().min().unwrap_or(0), channels().max().unwrap_or(0));
    info.sample_rates_hz = (
        configs.iter().map(SupportedStreamConfigRange::min_sample_rate).min().unwrap_or(0),
        configs.iter().map(SupportedStreamConfigRange::max_sample_rate).max().unwrap_or(0),
    );
    for config in configs {
        let format = config.sample_format().to_string();
        if !info.sample_formats.contains(&format) {
            info.sample_formats.push(format);
        }
    }
}

/// Finds the device and begins to listen to it. Of several that fit a name, the first that opens.
pub(super) fn open(select: &DeviceSelect) -> Result<Opened, OpenError> {
    let _quiet = quiet();
    let host = cpal::default_host();
    let candidates = find(&host, select).map_err(|error| OpenError::Retry(explain(&error)))?;
    let mut failure = format!("no input {}; `hearken devices` lists the inputs", wanted(select));
    for device in candidates {
        match listen(&device) {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                failure = format!("input \"{device}\" can not be opened: {}", explain(&error));
            }
        }
    }
    Err(OpenError::Retry(failure))
}

fn wanted(select: &DeviceSelect) -> String {
    match select {
        DeviceSelect::Default => "is the default".to_owned(),
        DeviceSelect::Id(id) => format!("has the id {id:?}"),
        DeviceSelect::Name(name) => format!("has {name:?} in its name"),
    }
}

fn find(host: &cpal::Host, select: &DeviceSelect) -> Result<Vec<Device>, Error> {
    match select {
        DeviceSelect::Default => Ok(host.default_input_device().into_iter().collect()),
        DeviceSelect::Id(id) => Ok(host.device_by_id(&id.parse()?).into_iter().collect()),
        DeviceSelect::Name(name) => {
            let name = name.to_lowercase();
            let mut inputs = all_inputs(host)?;
            inputs.retain(|device| device.to_string().to_lowercase().contains(&name));
            Ok(inputs)
        }
    }
}

fn listen(device: &Device) -> Result<Opened, Error> {
    let configs: Vec<_> = device.supported_input_configs()?.collect();
    let config = choose(&configs).ok_or_else(|| {
        Error::with_message(ErrorKind::UnsupportedConfig, "offers no PCM format that is understood")
    })?;
    let (producer, mut feed) = new_feed(config.sample_rate(), config.channels(), Pace::RealTime);
    let faults = Arc::new(FaultLatch::default());
    let callback = Callback::new(producer);
    let stream = build(device, &config, callback, &faults)?;
    stream.play()?;
    feed.opened_at = Timestamp::now();
    Ok(Opened { feed, stream: Box::new(Microphone { faults, _stream: stream }) })
}

/// The best way to listen: full band first, then what cpal holds for best (mono or stereo before
/// many channels, float before integers), at the most usual rate.
fn choose(configs: &[SupportedStreamConfigRange]) -> Option<SupportedStreamConfig> {
    let full_band =
        |config: &SupportedStreamConfigRange| config.max_sample_rate() >= FULL_BAND_RATE_HZ;
    let best = configs
        .iter()
        .filter(|config| {
            !config.sample_format().is_dsd() && (1..=CHANNELS_MAX).contains(&config.channels())
        })
        .max_by(|a, b| full_band(a).cmp(&full_band(b)).then_with(|| a.cmp_default_heuristics(b)))?;
    let preferred = PREFERRED_RATES_HZ.into_iter().find_map(|rate| best.try_with_sample_rate(rate));
    // No usual rate: the lowest that loses nothing, else the highest there is.
    let rate = best.min_sample_rate().max(FULL_BAND_RATE_HZ).min(best.max_sample_rate());
    preferred.or_else(|| best.try_with_sample_rate(rate))
}

/// The first error of a stream, and how often it overran. A lost ALSA device calls its error
/// callback 200,000 times in a tenth of a second.
#[derive(Debug, Default)]
struct FaultLatch {
    latched: AtomicBool,
    first: OnceLock<Error>,
    overruns: AtomicU64,
}

impl FaultLatch {
    /// The error callback. Keeps the first error as it is; makes no words of it.
    fn on_error(&self, error: Error) {
        match error.kind() {
            ErrorKind::Xrun => {
                self.overruns.fetch_add(1, Ordering::Relaxed);
            }
            // The stream goes on.
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ if self.latched.swap(true, Ordering::AcqRel) => {
                // Nothing is heard any more, so this thread has no deadline left; without a pause
                // it would take a whole core until the stream is put away.
                thread::sleep(Duration::from_millis(1));
            }
            _ => {
                // Only the one that latched comes here.
                let _ = self.first.set(error);
            }
        }
    }
}

/// An open input.
struct Microphone {
    faults: Arc<FaultLatch>,
    _stream: cpal::Stream,
}

impl Stream for Microphone {
    fn health(&mut self) -> Health {
        match self.faults.first.get() {
            Some(error) => {
                Health::Broken(format!("the device or its sound server went away ({error})"))
            }
            None => Health::Flowing,
        }
    }
}

/// Estimates what the device lost in an overrun, from the time stamps of the blocks around it.
#[derive(Debug)]
struct OverrunClock {
    sample_rate_hz: f64,
    seen_overruns: u64,
    /// When the frame after the last block was due.
    expected: Option<StreamInstant>,
}

impl OverrunClock {
    fn new(sample_rate_hz: u32) -> Self {
        Self { sample_rate_hz: f64::from(sample_rate_hz), seen_overruns: 0, expected: None }
    }

    /// Frames missing before a block of `frames` captured at `captured`: 0 without an overrun, at
    /// least 1 with one.
    fn lost_frames(&mut self, overruns: u64, captured: StreamInstant, frames: usize) -> u64 {
        let overran = overruns != self.seen_overruns;
        self.seen_overruns = overruns;
        let late = self.expected.map_or(Duration::ZERO, |due| captured.duration_since(due));
        let length = Duration::from_secs_f64(frames as f64 / self.sample_rate_hz);
        self.expected = captured.checked_add(length);
        if overran { ((late.as_secs_f64() * self.sample_rate_hz) as u64).max(1) } else { 0 }
    }
}

fn build(
    device: &Device,
    config: &SupportedStreamConfig,
    callback: Callback,
    faults: &Arc<FaultLatch>,
) -> Result<cpal::Stream, Error> {
    match config.sample_format() {
        SampleFormat::I8 => build_typed::<i8>(device, config, callback, faults),
        SampleFormat::I16 => build_typed::<i16>(device, config, callback, faults),
        SampleFormat::I24 => build_typed::<cpal::I24>(device, config, callback, faults),
        SampleFormat::I32 => build_typed::<i32>(device, config, callback, faults),
        SampleFormat::I64 => build_typed::<i64>(device, config, callback, faults),
        SampleFormat::U8 => build_typed::<u8>(device, config, callback, faults),
        SampleFormat::U16 => build_typed::<u16>(device, config, callback, faults),
        SampleFormat::U24 => build_typed::<cpal::U24>(device, config, callback, faults),
        SampleFormat::U32 => build_typed::<u32>(device, config, callback, faults),
        SampleFormat::U64 => build_typed::<u64>(device, config, callback, faults),
        SampleFormat::F32 => build_typed::<f32>(device, config, callback, faults),
        SampleFormat::F64 => build_typed::<f64>(device, config, callback, faults),
        other => Err(Error::with_message(
            ErrorKind::UnsupportedConfig,
            format!("sample format {other} is not understood"),
        )),
    }
}

fn build_typed<T: SizedSample + RawSample>(
    device: &Device,
    config: &SupportedStreamConfig,
    mut callback: Callback,
    faults: &Arc<FaultLatch>,
) -> Result<cpal::Stream, Error> {
    let channels = usize::from(config.channels());
    let mut clock = OverrunClock::new(config.sample_rate());
    let seen_by_data = Arc::clone(faults);
    let seen_by_errors = Arc::clone(faults);
    device.build_input_stream::<T, _, _>(
        config.config(),
        move |samples: &[T], info: &InputCallbackInfo| {
            let overruns = seen_by_data.overruns.load(Ordering::Relaxed);
            let captured = info.timestamp().capture;
            let lost = clock.lost_frames(overruns, captured, samples.len() / channels);
            callback.on_overrun(lost);
            callback.on_samples(samples);
        },
        move |error| seen_by_errors.on_error(error),
        Some(POLL_TIMEOUT),
    )
}

impl RawSample for cpal::I24 {
    fn to_f32(self) -> f32 {
        self.inner() as f32 / 8_388_608.0
    }
}

impl RawSample for cpal::U24 {
    fn to_f32(self) -> f32 {
        (self.inner() - 8_388_608) as f32 / 8_388_608.0
    }
}

/// The error in words, with the way out where there is one.
fn explain(error: &Error) -> String {
    let advice = match error.kind() {
        ErrorKind::DeviceBusy => "; another program is using it",
        ErrorKind::PermissionDenied => "; on Linux the user must be in the group `audio`",
        ErrorKind::DeviceNotAvailable => "; is it plugged in, and has this user access to it?",
        // How a device that belongs to a sound server fails when either is gone.
        ErrorKind::HostUnavailable | ErrorKind::BackendError => {
            "; is it plugged in, and is its sound server running?"
        }
        _ => "",
    };
    format!("{error}{advice}")
}

/// While this lives, ALSA's messages on this thread go into a buffer instead of standard error.
#[cfg(target_os = "linux")]
fn quiet() -> impl Sized {
    // Without it there is only more noise.
    alsa::Output::local_error_handler().ok()
}

#[cfg(not(target_os = "linux"))]
fn quiet() -> impl Sized {
    // Only ALSA is noisy.
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpal::SupportedBufferSize;

    fn range(
        channels: u16,
        low: u32,
        high: u32,
        format: SampleFormat,
    ) -> SupportedStreamConfigRange {
        SupportedStreamConfigRange::new(channels, low, high, SupportedBufferSize::Unknown, format)
    }

    fn chosen(configs: &[SupportedStreamConfigRange]) -> Option<(u16, u32, SampleFormat)> {
        choose(configs).map(|c| (c.channels(), c.sample_rate(), c.sample_format()))
    }

    #[test]
    fn full_band_comes_before_everything_else() {
        let configs = [
            range(2, 8_000, 16_000, SampleFormat::F32),
            range(1, 8_000, 96_000, SampleFormat::I16),
        ];
        assert_eq!(chosen(&configs), Some((1, 48_000, SampleFormat::I16)));
    }

    #[test]
    fn usual_rates_first_then_the_lowest_that_loses_nothing() {
        let f32s = |low, high| chosen(&[range(1, low, high, SampleFormat::F32)]);
        assert_eq!(f32s(8_000, 44_100), Some((1, 44_100, SampleFormat::F32)));
        assert_eq!(f32s(64_000, 96_000), Some((1, 64_000, SampleFormat::F32)));
        assert_eq!(f32s(8_000, 40_000), Some((1, 32_000, SampleFormat::F32)));
        assert_eq!(f32s(8_000, 16_000), Some((1, 16_000, SampleFormat::F32)));
    }

    #[test]
    fn what_can_not_be_understood_is_not_chosen() {
        let configs = [
            range(2, 352_800, 2_822_400, SampleFormat::DsdU8),
            range(64, 48_000, 48_000, SampleFormat::I32),
        ];
        assert_eq!(chosen(&configs), None);
    }

    #[test]
    fn numbered_cards_are_listed_only_where_they_have_no_name() {
        let named = [
            "hw:CARD=PCH,DEV=0",
            "hw:CARD=0,DEV=0",
            "plughw:CARD=0,DEV=0",
            "null",
            "jack",
            "pulse",
        ];
        let all: Vec<String> = named.iter().map(|&id| id.to_owned()).collect();
        let kept: Vec<&str> = named.into_iter().filter(|id| is_worth_listing(id, &all)).collect();
        assert_eq!(kept, ["hw:CARD=PCH,DEV=0", "plughw:CARD=0,DEV=0", "pulse"]);
    }

    #[test]
    fn the_first_error_is_kept_and_overruns_are_none() {
        let latch = FaultLatch::default();
        latch.on_error(ErrorKind::Xrun.into());
        latch.on_error(ErrorKind::RealtimeDenied.into());
        assert_eq!(latch.first.get(), None);
        latch.on_error(ErrorKind::DeviceNotAvailable.into());
        latch.on_error(ErrorKind::BackendError.into());
        assert_eq!(latch.first.get().map(Error::kind), Some(ErrorKind::DeviceNotAvailable));
        assert_eq!(latch.overruns.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_overrun_loses_what_the_time_stamps_lack() {
        let mut clock = OverrunClock::new(48_000);
        let at = |ms: u64| StreamInstant::from_nanos(ms * 1_000_000);
        assert_eq!(clock.lost_frames(0, at(0), 480), 0);
        // Jitter without an overrun is not a loss.
        assert_eq!(clock.lost_frames(0, at(15), 480), 0);
        assert_eq!(clock.lost_frames(1, at(125), 480), 4_800);
        // Time stamps that do not show it: still a gap.
        assert_eq!(clock.lost_frames(2, at(135), 480), 1);
    }

    #[test]
    fn samples_of_24_bits() {
        assert_eq!(cpal::I24::new(-8_388_608).map(RawSample::to_f32), Some(-1.0));
        assert_eq!(cpal::I24::new(4_194_304).map(RawSample::to_f32), Some(0.5));
        assert_eq!(cpal::U24::new(0).map(RawSample::to_f32), Some(-1.0));
        assert_eq!(cpal::U24::new(12_582_912).map(RawSample::to_f32), Some(0.5));
    }
}
