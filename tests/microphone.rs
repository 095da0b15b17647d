//! Capture from a real sound system: PulseAudio, ALSA and cpal, with a microphone that is played
//! into, pulled out, frozen and muted.
//!
//! The environment tells ALSA where the microphone is, so that each listener is a process of its
//! own: this binary, started again.

#[path = "common/microphone.rs"]
mod rig;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hearken::capture::settings::{DeviceSelect, Origin, SourceSettings};
use hearken::capture::{self, Feed};
use rig::{DEADLINE, Room};

/// Set in the process that listens: the name of the input, `id=` and its id, or `devices`.
const ROLE: &str = "HEARKEN_TEST_LISTEN_TO";

/// A fault must be seen on the status within 2 s; the rest is for a busy machine to tell it.
const SEEN_WITHIN: Duration = Duration::from_secs(4);

// ---- the process that listens ----

#[test]
fn inside_the_child() {
    match std::env::var(ROLE).as_deref() {
        Ok("devices") => list_devices(),
        Ok(name) => listen(name),
        Err(_) => {}
    }
}

fn list_devices() {
    for device in capture::devices().expect("a list") {
        let config = device.chosen.map(|c| (c.sample_rate_hz, c.channels));
        println!("\ndevice {}|{}|{config:?}|{}", device.id, device.name, device.is_default);
    }
}

/// Prints states and counts until standard input ends, then stops.
fn listen(name: &str) {
    let (feed_sender, feeds) = crossbeam_channel::bounded(4);
    let (state_sender, states) = crossbeam_channel::bounded(64);
    let select = match name.strip_prefix("id=") {
        Some(id) => DeviceSelect::Id(id.to_owned()),
        None => DeviceSelect::Name(name.to_owned()),
    };
    let origin = Origin::Device(select);
    let settings = SourceSettings { name: "room".into(), origin };
    let capture = capture::start(settings, feed_sender, state_sender).expect("a thread");
    let (quit_sender, quit) = crossbeam_channel::bounded::<()>(0);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(quit_sender);
    });
    let mut feed: Option<Feed> = None;
    let (mut frames, mut samples) = (0, Vec::new());
    while quit.recv_timeout(Duration::from_millis(50)) != Err(disconnected()) {
        if let Some(opened) = feeds.try_iter().last() {
            println!("\nfeed {} {}", opened.sample_rate_hz, opened.channels);
            (feed, frames) = (Some(opened), 0);
        }
        for change in states.try_iter() {
            let detail = change.detail.unwrap_or_default();
            println!("\nstate {} {detail}", change.state.as_str());
        }
        if let Some(feed) = &mut feed {
            samples.clear();
            while feed.audio.pop(&mut samples).frames > 0 {}
            frames += samples.len() / usize::from(feed.channels);
            let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            println!("\nheard {frames} {peak} {}", feed.audio.meter().lost_frames());
        }
    }
    let stopping = Instant::now();
    capture.stop();
    println!("\nstopped {}", stopping.elapsed().as_millis());
    // What still hangs in the sound system must not keep the process.
    std::process::exit(0);
}

fn disconnected() -> crossbeam_channel::RecvTimeoutError {
    crossbeam_channel::RecvTimeoutError::Disconnected
}

// ---- the process that watches it ----

struct Listener {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

fn this_binary() -> PathBuf {
    std::env::current_exe().expect("this binary's path")
}

fn child(mut command: Command, role: &str) -> Child {
    command
        .args(["--exact", "inside_the_child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this binary starts")
}

impl Listener {
    fn new(room: &Room) -> Self {
        Self::start(room.command(this_binary()), rig::DEVICE_NAME)
    }

    fn start(command: Command, role: &str) -> Self {
        let mut child = child(command, role);
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, lines }
    }

    /// The rest of the first line that begins with `start`.
    fn wait(&self, start: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no `{start}` within {patience:?}; seen: {seen:#?}");
            };
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
            if line.starts_with("state") || line.starts_with("feed") {
                seen.push(line);
            }
        }
    }

    /// Waits for a loss and the wait after it; what was said of the loss.
    fn wait_for_loss(&self) -> String {
        let lost = self.wait("state lost", SEEN_WITHIN);
        let waiting = self.wait("state backing_off", SEEN_WITHIN);
        assert!(waiting.contains("next attempt in"), "{waiting}");
        lost
    }

    /// Frames since the stream was opened, and the newest peak, as of now.
    fn heard(&self) -> (u64, f32) {
        while self.lines.try_recv().is_ok() {}
        let line = self.wait("heard ", DEADLINE);
        let mut fields = line.split(' ').map(|field| field.parse::<f64>().expect("a number"));
        (fields.next().expect("frames") as u64, fields.next().expect("peak") as f32)
    }

    /// CPU time of the process so far, user and system.
    fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("the child runs");
        // Fields 14 and 15 of proc(5), counted behind the name in brackets.
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split(' ').collect();
        let ticks: f64 = fields[12..14].iter().map(|f| f.parse::<f64>().expect("ticks")).sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        ticks / per_second.expect("known").expect("known") as f64
    }

    /// Asks it to stop; milliseconds that took.
    fn stop(mut self) -> u64 {
        drop(self.stdin.take());
        let took = self.wait("stopped", DEADLINE);
        self.child.wait().expect("it ends");
        took.parse().expect("milliseconds")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn noise_file(room: &Room) -> PathBuf {
    let path = room.folder().join("noise.wav");
    rig::write_wav(&path, rig::noise(120.0));
    path
}

#[test]
fn the_microphone_is_listed_and_nothing_else_is_printed() {
    let room = Room::new();
    let output = child(room.command(this_binary()), "devices").wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let expected = format!("device {}|{}|Some((48000,", rig::DEVICE_ID, rig::DEVICE_NAME);
    assert!(text.contains(&expected), "{text}");
    assert!(
        text.lines().any(|l| l.starts_with("device alsa:default|") && l.ends_with("true")),
        "{text}"
    );
    assert!(!errors.contains("ALSA"), "{errors}");
}

#[test]
fn samples_come_in_real_time() {
    let room = Room::new();
    let noise = noise_file(&room);
    let _playing = room.play_in_background(&noise);
    let listener = Listener::new(&room);
    let rate: u64 = listener.wait("feed ", DEADLINE).split(' ').next().unwrap().parse().unwrap();
    assert_eq!(rate, 48_000);
    listener.wait("state running", DEADLINE);
    let (first, peak) = listener.heard();
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(5));
    let (last, _) = listener.heard();
    let measured = (last - first) as f64 / began.elapsed().as_secs_f64();
    assert!((0.8..1.2).contains(&(measured / rate as f64)), "{measured} frames a second");
    assert!((0.05..0.2).contains(&peak), "the noise at its level, not {peak}");
    assert!(listener.stop() < 1_000);
}

#[test]
fn a_microphone_that_is_pulled_out_comes_back() {
    let room = Room::new();
    let listener = Listener::new(&room);
    listener.wait("state running", DEADLINE);
    room.unplug();
    assert!(!listener.wait_for_loss().is_empty(), "the loss is explained");
    room.plug_in();
    listener.wait("state running", DEADLINE);
    assert!(listener.heard().0 > 0);
}

#[test]
fn a_frozen_sound_system_is_a_stall_until_it_goes_on() {
    let room = Room::new();
    let noise = noise_file(&room);
    let _playing = room.play_in_background(&noise);
    let listener = Listener::new(&room);
    listener.wait("state running", DEADLINE);
    room.freeze();
    listener.wait("state stalled", SEEN_WITHIN);
    room.thaw();
    listener.wait("state running", DEADLINE);
}

#[test]
fn one_that_stays_frozen_is_given_up_and_comes_back() {
    let room = Room::new();
    let noise = noise_file(&room);
    let _playing = room.play_in_background(&noise);
    let listener = Listener::new(&room);
    listener.wait("state running", DEADLINE);
    room.freeze();
    listener.wait("state stalled", SEEN_WITHIN);
    listener.wait("state lost", DEADLINE);
    let overdue = listener.wait("state opening", DEADLINE);
    assert_eq!(overdue, "");
    let detail = listener.wait("state backing_off", DEADLINE);
    assert!(detail.contains("does not answer"), "{detail}");
    room.thaw();
    listener.wait("state running", DEADLINE);
}

#[test]
fn stopping_does_not_wait_for_a_frozen_sound_system() {
    let room = Room::new();
    let listener = Listener::new(&room);
    listener.wait("state running", DEADLINE);
    room.freeze();
    listener.wait("state stalled", SEEN_WITHIN);
    // Bounded to 1 s by itself; more would mean that it waited for the server.
    assert!(listener.stop() < 5_000);
}

#[test]
fn a_muted_microphone_is_told_from_a_quiet_one() {
    let room = Room::new();
    let noise = noise_file(&room);
    let _playing = room.play_in_background(&noise);
    let listener = Listener::new(&room);
    listener.wait("state running", DEADLINE);
    room.mute(true);
    listener.wait("state muted", SEEN_WITHIN);
    room.mute(false);
    listener.wait("state running", SEEN_WITHIN);
    assert!(listener.heard().1 > 0.0);
}

#[test]
fn a_dead_sound_server_is_explained_and_costs_no_cpu() {
    let mut room = Room::new();
    let listener = Listener::new(&room);
    listener.wait("state running", DEADLINE);
    let (cpu_before, began) = (listener.cpu_seconds(), Instant::now());
    room.kill_server();
    assert!(!listener.wait_for_loss().is_empty(), "the loss is explained");
    // The retries that follow say what is wrong with them.
    listener.wait("state opening", DEADLINE);
    let refused = listener.wait("state backing_off", DEADLINE);
    assert!(refused.contains(rig::DEVICE_NAME), "{refused}");
    std::thread::sleep(Duration::from_secs(5));
    let share = (listener.cpu_seconds() - cpu_before) / began.elapsed().as_secs_f64();
    assert!(share < 0.3, "{:.0} % of a core while lost", share * 100.0);
    room.restart_server();
    listener.wait("state running", DEADLINE);
}

/// ALSA's `file` device reads a FIFO. When nothing is written to it, even closing it blocks.
#[test]
fn an_input_whose_closing_blocks_does_not_block_the_listener() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("samples");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let settings = format!(
        "</usr/share/alsa/alsa.conf>\n\
         pcm.filemic {{\n  type file\n  slave.pcm {{ type null }}\n  file \"/dev/null\"\n  \
         infile \"{}\"\n  format \"raw\"\n  hint {{ show on description \"FIFO\" }}\n}}\n",
        fifo.display()
    );
    let config = folder.path().join("asound.conf");
    std::fs::write(&config, settings).expect("the file is written");
    let mut command = Command::new(this_binary());
    command.env("ALSA_CONFIG_PATH", &config);
    // Open for reading too, so that neither end waits for the other.
    let mut writer =
        std::fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("the FIFO");
    let (stop_writing, stopped) = mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        let tone = 0.1f32.to_le_bytes().repeat(4_800);
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            writer.write_all(&tone).expect("the FIFO takes samples");
            std::thread::sleep(Duration::from_millis(10));
        }
        writer
    });
    let listener = Listener::start(command, "id=alsa:filemic");
    listener.wait("state running", DEADLINE);
    drop(stop_writing);
    let _writer = writing.join().expect("it wrote");
    listener.wait("state stalled", DEADLINE);
    assert!(listener.stop() < 5_000, "stopping waited for samples");
}
