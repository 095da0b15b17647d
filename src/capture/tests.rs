//! The sources as their users see them: files written by hand, real commands, a fake device that
//! misbehaves. What needs a sound system is in `tests/microphone.rs`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use proptest::prelude::*;

use super::decode::{AudioFile, DecodeError};
use super::owner::{Control, Outlets, Owner};
use super::settings::{Origin, Pace, PcmFormat, PcmSample, SourceSettings};
use super::source::{Habits, Health, Open, OpenError, Opened, Stream, new_feed};
use super::stdin::PcmInput;
use super::{Capture, Feed, StateChange, start};
use crate::ring::Producer;
use crate::signal::SourceState;

const DEADLINE: Duration = Duration::from_secs(20);

// ---- files written by hand ----

/// Tag 1 is integer PCM, 3 is float (RFC 2361).
fn wav(tag: u16, bits: u16, channels: u16, rate: u32, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"RIFF");
    bytes.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt ");
    bytes.extend_from_slice(&16u32.to_le_bytes());
    bytes.extend_from_slice(&tag.to_le_bytes());
    bytes.extend_from_slice(&channels.to_le_bytes());
    bytes.extend_from_slice(&rate.to_le_bytes());
    bytes.extend_from_slice(&(rate * u32::from(block)).to_le_bytes());
    bytes.extend_from_slice(&block.to_le_bytes());
    bytes.extend_from_slice(&bits.to_le_bytes());
    bytes.extend_from_slice(b"data");
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A ramp that names each sample: `n` is the sample's value in 16 bits.
fn ramp(samples: usize) -> Vec<u8> {
    (0..samples).flat_map(|n| ((n % 30_000) as i16).to_le_bytes()).collect()
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Everything a file gives, and the error at its end if there is one.
fn decoded(path: &Path) -> Result<(Vec<f32>, Option<DecodeError>, AudioFile), DecodeError> {
    let mut file = AudioFile::open(path)?;
    let mut samples = Vec::new();
    let problem = loop {
        match file.next_block(&mut samples) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(file.next_block(&mut samples).unwrap(), 0, "the end follows an error");
                break Some(error);
            }
        }
    };
    Ok((samples, problem, file))
}

fn open_error(path: &Path) -> DecodeError {
    AudioFile::open(path).err().expect("an error")
}

#[test]
fn a_wav_file_gives_its_samples_exactly() {
    let folder = tempfile::tempdir().unwrap();
    for (channels, rate) in [(1, 8_000), (8, 44_100)] {
        let frames = 5_000;
        let bytes = wav(1, 16, channels, rate, &ramp(frames * usize::from(channels)));
        let path = written(folder.path(), "a.wav", &bytes);
        let (samples, problem, file) = decoded(&path).unwrap();
        assert!(problem.is_none(), "{problem:?}");
        assert_eq!((file.channels(), file.sample_rate_hz()), (channels, rate));
        assert_eq!(file.frames(), Some(frames as u64));
        let expected: Vec<f32> =
            (0..frames * usize::from(channels)).map(|n| (n % 30_000) as f32 / 32_768.0).collect();
        assert_eq!(samples, expected);
    }
}

#[test]
fn float_samples_that_are_not_finite_become_silence_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let values = [0.5f32, f32::NAN, -0.25, f32::INFINITY, f32::NEG_INFINITY, 1.0];
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let path = written(folder.path(), "nan.wav", &wav(3, 32, 1, 16_000, &data));
    let (samples, problem, file) = decoded(&path).unwrap();
    assert!(problem.is_none(), "{problem:?}");
    assert_eq!(samples, [0.5, 0.0, -0.25, 0.0, 0.0, 1.0]);
    assert_eq!(file.bad_samples(), 3);
}

#[test]
fn a_cut_off_file_gives_what_there_is_and_then_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = wav(1, 16, 2, 44_100, &ramp(20_000));
    bytes.truncate(44 + 4 * 3_000 + 1);
    let path = written(folder.path(), "cut.wav", &bytes);
    let (samples, problem, _) = decoded(&path).unwrap();
    assert_eq!(samples.len(), 2 * 3_000);
    let problem = problem.expect("an error at the end");
    assert!(
        matches!(problem, DecodeError::Truncated { frames: 3_000, expected: Some(10_000), .. }),
        "{problem:?}"
    );
    assert!(problem.to_string().contains("cut.wav"), "{problem}");
}

#[test]
fn what_is_no_audio_says_so_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("zero.wav", vec![], "holds no audio"),
        ("header-only.wav", wav(1, 16, 1, 8_000, &[]), "holds no audio"),
        ("text.wav", b"To whom it may concern\n".repeat(100), "is not audio"),
        ("noise.mp3", vec![0x5a; 5_000], "is not audio"),
    ];
    for (name, bytes, expected) in cases {
        let path = written(folder.path(), name, &bytes);
        let error = open_error(&path);
        assert!(error.to_string().contains(expected), "{name}: {error:?}");
        assert!(!error.may_heal() && error.to_string().contains(name), "{error}");
    }
    let missing = open_error(&folder.path().join("missing.wav"));
    assert!(missing.may_heal() && missing.to_string().contains("missing.wav"), "{missing}");
    assert!(matches!(open_error(folder.path()), DecodeError::Folder { .. }));
}

#[test]
fn layouts_out_of_bounds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "slow.wav", &wav(1, 16, 1, 10, &ramp(1_000)));
    let error = open_error(&path);
    assert!(matches!(error, DecodeError::Layout { value: 10, .. }), "{error:?}");
    // 40 channels: whoever refuses first, it is refused and named.
    let path = written(folder.path(), "wide.wav", &wav(1, 16, 40, 8_000, &ramp(4_000)));
    assert!(open_error(&path).to_string().contains("wide.wav"));
}

/// A tone of 441 Hz at half of full scale, encoded by ffmpeg 5 (libvorbis, libmp3lame) from a known
/// number of frames.
fn tone(extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tone").with_extension(extension)
}

#[test]
fn each_format_gives_the_length_it_was_made_from_and_its_tone() {
    let cases = [
        ("flac", 44_100, 1, 11_025, 1e-4),
        ("aiff", 44_100, 1, 11_025, 1e-4),
        ("mp3", 44_100, 1, 11_025, 0.03),
        ("ogg", 48_000, 2, 12_345, 0.03),
    ];
    for (extension, rate, channels, frames, tolerance) in cases {
        let (samples, problem, file) = decoded(&tone(extension)).unwrap();
        assert!(problem.is_none(), "{extension}: {problem:?}");
        assert_eq!((file.sample_rate_hz(), file.channels()), (rate, channels), "{extension}");
        assert_eq!(file.decoded_frames(), frames, "{extension}");
        assert_eq!(file.frames(), Some(frames), "{extension}");
        let step = std::f32::consts::TAU * 441.0 / rate as f32;
        let wide = usize::from(channels);
        // Right from the start: no delay is left over. The edges of lossy codecs ring.
        for n in 1_000..10_000 {
            let expected = 0.5 * (step * n as f32).sin();
            let error = (samples[n * wide] - expected).abs();
            assert!(error < tolerance, "{extension}: {error} at frame {n}");
        }
    }
}

#[test]
fn cut_off_files_of_every_format_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for extension in ["flac", "mp3", "ogg"] {
        let bytes = std::fs::read(tone(extension)).unwrap();
        let path = written(folder.path(), &format!("cut.{extension}"), &bytes[..bytes.len() - 600]);
        let (samples, problem, _) = decoded(&path).unwrap();
        assert!(!samples.is_empty(), "{extension}");
        let problem = problem.map(|problem| problem.to_string()).unwrap_or_default();
        assert!(problem.contains("is cut off after"), "{extension}: {problem:?}");
    }
    // Of this one the reader takes nothing without its end.
    let bytes = std::fs::read(tone("aiff")).unwrap();
    let path = written(folder.path(), "cut.aiff", &bytes[..bytes.len() - 600]);
    assert!(open_error(&path).to_string().contains("is cut off after 0 frames"));
}

proptest! {
    #![proptest_config(crate::testing::cases(128))]
    #[test]
    fn damaged_bytes_never_panic_nor_run_for_ever(
        changes in prop::collection::vec((0usize..400, any::<u8>()), 1..12),
        keep in 10usize..2_044,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = wav(1, 16, 2, 8_000, &ramp(1_000));
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(keep);
        let path = written(folder.path(), "damaged.wav", &bytes);
        if let Ok((samples, _, file)) = decoded(&path) {
            prop_assert!(samples.len() as u64 == file.decoded_frames() * u64::from(file.channels()));
            prop_assert!(samples.iter().all(|sample| sample.is_finite()));
        }
    }
}

// ---- running sources ----

struct Heard {
    capture: Capture,
    feeds: Receiver<Feed>,
    states: Receiver<StateChange>,
}

fn listen(origin: Origin) -> Heard {
    let (feed_sender, feeds) = unbounded();
    let (state_sender, states) = unbounded();
    let settings = SourceSettings { name: "test".into(), origin };
    let capture = start(settings, feed_sender, state_sender).unwrap();
    Heard { capture, feeds, states }
}

impl Heard {
    fn wait_for(&self, state: SourceState) -> StateChange {
        wait_for(&self.states, state)
    }

    fn feed(&self) -> Feed {
        self.feeds.recv_timeout(DEADLINE).expect("a feed")
    }
}

fn wait_for(states: &Receiver<StateChange>, state: SourceState) -> StateChange {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let change =
            states.recv_deadline(deadline).unwrap_or_else(|error| panic!("no {state:?}: {error}"));
        if change.state == state {
            return change;
        }
    }
}

/// Reads until the source has ended, or until `frames` are there.
fn drain(feed: &mut Feed, frames: usize) -> Vec<f32> {
    let deadline = Instant::now() + DEADLINE;
    let mut samples = Vec::new();
    while samples.len() < frames.saturating_mul(usize::from(feed.channels)) {
        let drained = feed.audio.is_drained();
        let popped = feed.audio.pop(&mut samples);
        assert_eq!(popped.gap_frames, 0, "sources that wait lose nothing");
        if drained && popped.frames == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "only {} samples came", samples.len());
        if popped.frames == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    samples
}

fn as_samples(frames: usize) -> Vec<f32> {
    (0..frames).map(|n| (n % 30_000) as f32 / 32_768.0).collect()
}

const MONO_16K: PcmFormat =
    PcmFormat { sample_rate_hz: 16_000, channels: 1, sample: PcmSample::S16Le };

fn shell(script: &str) -> Origin {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    Origin::Command { argv, format: MONO_16K }
}

#[test]
fn a_fast_file_is_heard_whole_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the ring, so that it must wait for its reader.
    let frames = 12 * 8_000;
    let path = written(folder.path(), "a.wav", &wav(1, 16, 1, 8_000, &ramp(frames)));
    let heard = listen(Origin::File { path, pace: Pace::Fast, repeat: false });
    let mut feed = heard.feed();
    assert_eq!((feed.sample_rate_hz, feed.channels, feed.pace), (8_000, 1, Pace::Fast));
    // Held back by us for longer than a stall takes: that is not the file's fault.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(drain(&mut feed, usize::MAX), as_samples(frames));
    let before: Vec<SourceState> = std::iter::from_fn(|| heard.states.recv_timeout(DEADLINE).ok())
        .map(|change| change.state)
        .take_while(|&state| state != SourceState::Ended)
        .collect();
    assert_eq!(before, [SourceState::Opening, SourceState::Running]);
    heard.capture.stop();
}

#[test]
fn a_real_time_file_never_runs_ahead_of_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "a.wav", &wav(1, 16, 1, 8_000, &ramp(8_000)));
    let began = Instant::now();
    let heard = listen(Origin::File { path, pace: Pace::RealTime, repeat: false });
    let mut feed = heard.feed();
    let mut samples = Vec::new();
    while !feed.audio.is_drained() {
        feed.audio.pop(&mut samples);
        // Read after the samples: the clock is then at least where it was when they were sent.
        let possible = began.elapsed().as_secs_f64() * 8_000.0;
        assert!(samples.len() as f64 <= possible + 1.0, "{} after {possible}", samples.len());
        assert!(began.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(samples, as_samples(8_000));
    heard.wait_for(SourceState::Ended);
    heard.capture.stop();
}

#[test]
fn a_repeated_file_loops_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "a.wav", &wav(1, 16, 1, 8_000, &ramp(1_234)));
    let heard = listen(Origin::File { path, pace: Pace::Fast, repeat: true });
    let samples = drain(&mut heard.feed(), 10_000);
    let expected: Vec<f32> = (0..samples.len()).map(|n| (n % 1_234) as f32 / 32_768.0).collect();
    assert_eq!(samples, expected);
    heard.capture.stop();
}

#[test]
fn a_missing_file_is_tried_again_and_a_wrong_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.wav");
    let heard = listen(Origin::File { path: path.clone(), pace: Pace::Fast, repeat: false });
    let detail = heard.wait_for(SourceState::BackingOff).detail.unwrap();
    assert!(detail.contains("late.wav") && detail.contains("next attempt in"), "{detail}");
    // Complete at once, not while it is being written.
    let ready = written(folder.path(), "ready", &wav(1, 16, 1, 8_000, &ramp(800)));
    std::fs::rename(ready, &path).unwrap();
    heard.wait_for(SourceState::Ended);
    assert_eq!(drain(&mut heard.feed(), usize::MAX).len(), 800);
    heard.capture.stop();

    let path = written(folder.path(), "letter.wav", &b"Dear reader".repeat(50));
    let heard = listen(Origin::File { path, pace: Pace::Fast, repeat: true });
    let detail = heard.wait_for(SourceState::Failed).detail.unwrap();
    assert!(detail.contains("letter.wav: is not audio"), "{detail}");
    heard.capture.stop();
}

#[test]
fn digital_silence_in_a_file_is_not_mute() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "a.wav", &wav(1, 16, 1, 8_000, &vec![0; 2 * 20_000]));
    let heard = listen(Origin::File { path, pace: Pace::Fast, repeat: false });
    assert_eq!(drain(&mut heard.feed(), usize::MAX).len(), 20_000);
    heard.wait_for(SourceState::Ended);
    assert!(heard.states.try_iter().all(|change| change.state != SourceState::Muted));
    heard.capture.stop();
}

#[test]
fn off_and_on_again_starts_a_file_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "a.wav", &wav(1, 16, 1, 8_000, &ramp(30_000)));
    let heard = listen(Origin::File { path, pace: Pace::RealTime, repeat: false });
    let _first = heard.feed();
    heard.wait_for(SourceState::Running);
    heard.capture.listen(false);
    heard.wait_for(SourceState::Off);
    heard.capture.listen(true);
    heard.wait_for(SourceState::Running);
    let samples = drain(&mut heard.feed(), 1_000);
    assert_eq!(samples[..1_000], as_samples(1_000));
    heard.capture.stop();
}

#[test]
fn raw_input_is_read_to_its_end_without_loss() {
    let frames = 6 * 16_000; // more than the ring holds
    let mut bytes = ramp(frames);
    bytes.push(0x7f); // half a sample
    let (reader, mut writer) = std::io::pipe().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&bytes));
    let input = PcmInput::new(MONO_16K, Box::new(reader));
    let mut opened = input.open().map_err(|error| error.to_string()).unwrap();
    assert_eq!(drain(&mut opened.feed, usize::MAX), as_samples(frames));
    writing.join().unwrap().unwrap();
    assert_eq!(opened.stream.health(), Health::Finished);
    // Opened again after its end: still ended, and empty.
    let mut again = input.open().map_err(|error| error.to_string()).unwrap();
    assert_eq!(again.stream.health(), Health::Finished);
    assert!(drain(&mut again.feed, usize::MAX).is_empty());
}

#[test]
fn raw_input_that_comes_while_switched_off_is_not_heard_later() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let input = PcmInput::new(MONO_16K, Box::new(reader));
    let mut first = input.open().map_err(|error| error.to_string()).unwrap();
    writer.write_all(&1_000i16.to_le_bytes().repeat(100)).unwrap();
    assert_eq!(drain(&mut first.feed, 100).len(), 100);
    drop(first.stream);
    // More than a pipe holds, so that it has been read when this returns. Ends inside a sample.
    let mut unheard = 2_000i16.to_le_bytes().repeat(100_000);
    unheard.push(3_000i16.to_le_bytes()[0]);
    writer.write_all(&unheard).unwrap();
    let mut second = input.open().map_err(|error| error.to_string()).unwrap();
    writer.write_all(&[3_000i16.to_le_bytes()[1]]).unwrap();
    writer.write_all(&3_000i16.to_le_bytes().repeat(99)).unwrap();
    drop(writer);
    let heard = drain(&mut second.feed, usize::MAX);
    // What was in flight at the switch may still be heard, but not what was read before it.
    assert!(heard.len() < 50_000, "{} samples", heard.len());
    assert!(heard.ends_with(&[3_000.0 / 32_768.0; 100]), "on the frame boundary");
}

#[test]
fn a_command_is_heard_and_started_again_when_it_ends() {
    let heard = listen(shell(
        "head -c 3200 /dev/zero; echo connecting >&2; echo 'no route to camera' >&2; exit 3",
    ));
    let lost = heard.wait_for(SourceState::Lost).detail.unwrap();
    assert!(lost.contains("exit status 3") && lost.contains("no route to camera"), "{lost}");
    let waiting = heard.wait_for(SourceState::BackingOff).detail.unwrap();
    assert!(
        waiting.contains("no route to camera") && waiting.contains("next attempt"),
        "{waiting}"
    );
    assert_eq!(drain(&mut heard.feed(), usize::MAX).len(), 1_600);
    // The second run.
    assert_eq!(drain(&mut heard.feed(), usize::MAX).len(), 1_600);
    heard.capture.stop();
}

#[test]
fn a_fast_command_is_held_back_and_loses_nothing() {
    let heard = listen(shell("head -c 400000 /dev/zero"));
    let mut feed = heard.feed();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(drain(&mut feed, usize::MAX).len(), 200_000);
    heard.capture.stop();
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let argv = vec!["/no/such/program".to_owned()];
    let heard = listen(Origin::Command { argv, format: MONO_16K });
    let detail = heard.wait_for(SourceState::BackingOff).detail.unwrap();
    assert!(detail.contains("/no/such/program"), "{detail}");
    heard.capture.stop();
}

/// Whether a process of this id runs (a zombie does not).
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim().starts_with('Z'))
}

#[test]
fn stopping_ends_a_command_its_children_and_what_ignores_term() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.2; done' & \
         echo $! $$ > {0}.new; mv {0}.new {0}; while :; do head -c 320 /dev/zero; sleep 0.01; done",
        pids.display()
    );
    let heard = listen(shell(&script));
    heard.wait_for(SourceState::Running);
    let pids = std::fs::read_to_string(&pids).unwrap();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| runs(pid)), "both run at first");
    heard.capture.stop();
    let deadline = Instant::now() + DEADLINE;
    while pids.iter().any(|pid| runs(pid)) {
        assert!(Instant::now() < deadline, "still running: {pids:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// ---- a device that misbehaves ----

/// What the fake device does; changed by the test while it runs.
#[derive(Default)]
struct Fake {
    opening_hangs: AtomicBool,
    closing_hangs: AtomicBool,
    broken: AtomicBool,
    silent: AtomicBool,
    frozen: AtomicBool,
    opened: AtomicUsize,
}

/// Its stream: produces when it is looked at.
struct FakeStream {
    fake: Arc<Fake>,
    producer: Producer,
}

fn hang_while(flag: &AtomicBool) {
    while flag.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Stream for FakeStream {
    fn health(&mut self) -> Health {
        if self.fake.broken.load(Ordering::SeqCst) {
            return Health::Broken("cable pulled".to_owned());
        }
        if !self.fake.frozen.load(Ordering::SeqCst) {
            let value = if self.fake.silent.load(Ordering::SeqCst) { 0.0 } else { 0.1 };
            self.producer.push(&[value; 500]);
        }
        Health::Flowing
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        hang_while(&self.fake.closing_hangs);
    }
}

struct FakeRig {
    fake: Arc<Fake>,
    control: Sender<Control>,
    states: Receiver<StateChange>,
    feeds: Receiver<Feed>,
    owner: std::thread::JoinHandle<()>,
}

fn fake_rig(patience: Duration) -> FakeRig {
    let fake = Arc::new(Fake::default());
    let opened_fake = Arc::clone(&fake);
    let open: Open = Arc::new(move || {
        hang_while(&opened_fake.opening_hangs);
        if opened_fake.broken.load(Ordering::SeqCst) {
            return Err(OpenError::Retry("not plugged in".to_owned()));
        }
        // A different rate each time.
        let count = opened_fake.opened.fetch_add(1, Ordering::SeqCst) as u32;
        let (producer, feed) = new_feed(1_000 + count, 1, Pace::RealTime);
        let stream = FakeStream { fake: Arc::clone(&opened_fake), producer };
        Ok(Opened { feed, stream: Box::new(stream) })
    });
    let habits = Habits {
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(100),
        patience: Some(patience),
        silence_is_mute: true,
    };
    let (control, orders) = unbounded();
    let (state_sender, states) = unbounded();
    let (feed_sender, feeds) = unbounded();
    let outlets = Outlets { feeds: feed_sender, states: state_sender };
    let owner = Owner::new("fake".into(), open, habits, orders, outlets);
    let owner = std::thread::spawn(move || owner.run());
    FakeRig { fake, control, states, feeds, owner }
}

impl FakeRig {
    fn stop(self) {
        self.control.send(Control::Stop).unwrap();
        self.owner.join().unwrap();
    }
}

#[test]
fn a_pulled_cable_is_lost_and_comes_back_with_its_new_rate() {
    let rig = fake_rig(Duration::from_secs(10));
    wait_for(&rig.states, SourceState::Running);
    assert_eq!(rig.feeds.recv_timeout(DEADLINE).unwrap().sample_rate_hz, 1_000);
    rig.fake.broken.store(true, Ordering::SeqCst);
    let lost = wait_for(&rig.states, SourceState::Lost);
    assert_eq!(lost.detail.as_deref(), Some("cable pulled"));
    wait_for(&rig.states, SourceState::Opening);
    let waiting = wait_for(&rig.states, SourceState::BackingOff).detail.unwrap();
    assert!(waiting.starts_with("not plugged in; next attempt in"), "{waiting}");
    rig.fake.broken.store(false, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Running);
    assert_eq!(rig.feeds.recv_timeout(DEADLINE).unwrap().sample_rate_hz, 1_001);
    rig.stop();
}

#[test]
fn mute_and_stall_come_and_go() {
    let rig = fake_rig(Duration::from_secs(60));
    wait_for(&rig.states, SourceState::Running);
    rig.fake.silent.store(true, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Muted);
    rig.fake.silent.store(false, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Running);
    rig.fake.frozen.store(true, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Stalled);
    rig.fake.frozen.store(false, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Running);
    assert_eq!(rig.fake.opened.load(Ordering::SeqCst), 1, "it was never reopened");
    rig.stop();
}

#[test]
fn a_long_stall_is_reopened_although_closing_hangs() {
    let rig = fake_rig(Duration::from_millis(1_200));
    wait_for(&rig.states, SourceState::Running);
    rig.fake.closing_hangs.store(true, Ordering::SeqCst);
    rig.fake.frozen.store(true, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Lost);
    rig.fake.frozen.store(false, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Running);
    assert_eq!(rig.fake.opened.load(Ordering::SeqCst), 2);
    // Stopping does not wait for it either; the owner thread ends while the drop still hangs.
    let fake = Arc::clone(&rig.fake);
    rig.stop();
    assert!(fake.closing_hangs.swap(false, Ordering::SeqCst));
}

#[test]
fn an_opening_that_hangs_is_told_and_used_when_it_comes_back() {
    let rig = fake_rig(Duration::from_secs(10));
    wait_for(&rig.states, SourceState::Running);
    rig.control.send(Control::Listen(false)).unwrap();
    wait_for(&rig.states, SourceState::Off);
    rig.fake.opening_hangs.store(true, Ordering::SeqCst);
    rig.control.send(Control::Listen(true)).unwrap();
    let waiting = wait_for(&rig.states, SourceState::BackingOff).detail.unwrap();
    assert!(waiting.contains("does not answer"), "{waiting}");
    rig.fake.opening_hangs.store(false, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Running);
    assert_eq!(rig.fake.opened.load(Ordering::SeqCst), 2, "the late stream is the one used");
    rig.stop();
}

#[test]
fn hanging_helpers_are_bounded() {
    let rig = fake_rig(Duration::from_secs(10));
    wait_for(&rig.states, SourceState::Running);
    rig.fake.opening_hangs.store(true, Ordering::SeqCst);
    // Each switching abandons one attempt.
    let told = (0..20).any(|_| {
        rig.control.send(Control::Listen(false)).unwrap();
        wait_for(&rig.states, SourceState::Off);
        rig.control.send(Control::Listen(true)).unwrap();
        wait_for(&rig.states, SourceState::Opening);
        let next = rig.states.recv_timeout(Duration::from_millis(300));
        next.is_ok_and(|change| {
            change.state == SourceState::BackingOff
                && change.detail.is_some_and(|detail| detail.contains("8 earlier calls"))
        })
    });
    assert!(told, "the ninth helper is not started");
    rig.fake.opening_hangs.store(false, Ordering::SeqCst);
    wait_for(&rig.states, SourceState::Running);
    rig.stop();
}
