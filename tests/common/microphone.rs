//! A microphone on a machine without any: a PulseAudio server of its own with a null sink, whose
//! monitor an ALSA `pulse` device makes into an ordinary input. Whoever is started with
//! [`Room::command`] hears what is played into the room, and only that.
//!
//! Needs `pulseaudio`, `pactl`, `paplay` and ALSA's PulseAudio plugin (`libasound2-plugins`). No
//! sound hardware, no D-Bus, no privileges.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Part of the input's name, for the configuration.
pub const DEVICE_NAME: &str = "Rig microphone";

/// Its stable identifier.
pub const DEVICE_ID: &str = "alsa:testmic";

/// Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Sample rate of the room; audio of another rate is converted.
pub const SAMPLE_RATE_HZ: u32 = 48_000;

const SINK: &str = "module-null-sink sink_name=room rate=48000 channels=1 format=s16le norewinds=1 \
                    sink_properties=device.description=room";

/// A room with a microphone in it. Its server ends when this is dropped.
pub struct Room {
    folder: TempDir,
    server: Child,
}

/// A program started by a test, ended when this is dropped.
pub struct Running(pub Child);

impl Room {
    /// Starts the server and waits until it answers.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("room").tempdir().expect("a folder");
        for name in ["run", "config"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        write_settings(folder.path());
        let server = start_server(folder.path());
        let room = Self { folder, server };
        room.wait_until_it_answers();
        room
    }

    /// What a program's environment needs to hear this room.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        environment(self.folder.path())
    }

    /// A command that hears this room, with nothing on its standard input.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment()).stdin(Stdio::null());
        command
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Plays a WAV file into the room to its end.
    pub fn play(&self, wav: &Path) {
        let status = self.player(wav).status().expect("paplay starts");
        assert!(status.success(), "paplay: {status}");
    }

    /// Plays a WAV file into the room until the returned guard is dropped.
    pub fn play_in_background(&self, wav: &Path) -> Running {
        Running(self.player(wav).spawn().expect("paplay starts"))
    }

    /// The microphone is plugged in again.
    pub fn plug_in(&self) {
        let mut arguments = vec!["load-module"];
        arguments.extend(SINK.split_whitespace());
        self.pactl(&arguments);
    }

    /// The microphone is pulled out.
    pub fn unplug(&self) {
        self.pactl(&["unload-module", "module-null-sink"]);
    }

    /// The microphone's mute button.
    pub fn mute(&self, muted: bool) {
        self.pactl(&["set-source-mute", "room.monitor", if muted { "1" } else { "0" }]);
    }

    /// The sound server hangs.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// The sound server goes on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// The sound server dies.
    pub fn kill_server(&mut self) {
        self.server.kill().expect("the server runs");
        self.server.wait().expect("the server ends");
    }

    /// A new server takes its place.
    pub fn restart_server(&mut self) {
        self.server = start_server(self.folder.path());
        self.wait_until_it_answers();
    }

    fn player(&self, wav: &Path) -> Command {
        let mut command = self.command("paplay");
        command.args(["--latency-msec=50", "--device=room"]).arg(wav);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn pactl(&self, arguments: &[&str]) {
        let output = self.command("pactl").args(arguments).output().expect("pactl starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pactl {arguments:?}: {errors}");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.server.id()).expect("a process id"));
        kill(pid, signal).expect("the server runs");
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut question = self.command("pactl");
            question.arg("info").stdout(Stdio::null()).stderr(Stdio::null());
            if question.status().expect("pactl is installed (pulseaudio-utils)").success() {
                return;
            }
            assert!(Instant::now() < deadline, "PulseAudio does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A frozen process dies of KILL as well; one that is gone already is just waited for.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a mono WAV file of 16 bits at the room's rate. Samples are -1 to 1.
pub fn write_wav(path: &Path, samples: impl IntoIterator<Item = f32>) {
    let data: Vec<u8> =
        samples.into_iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()).collect();
    let length = u32::try_from(data.len()).expect("a short file");
    let mut bytes = Vec::with_capacity(44 + data.len());
    bytes.extend_from_slice(b"RIFF");
    bytes.extend_from_slice(&(36 + length).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend_from_slice(&SAMPLE_RATE_HZ.to_le_bytes());
    bytes.extend_from_slice(&(2 * SAMPLE_RATE_HZ).to_le_bytes());
    bytes.extend_from_slice(b"\x02\0\x10\0data");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&data);
    std::fs::write(path, bytes).expect("the file is written");
}

/// White noise at a tenth of full scale, the same each time.
pub fn noise(seconds: f32) -> impl Iterator<Item = f32> {
    let mut state = 0x2545_f491_u32;
    (0..(seconds * SAMPLE_RATE_HZ as f32) as usize).map(move |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 - 0.5) * 0.2
    })
}

fn environment(folder: &Path) -> Vec<(&'static str, OsString)> {
    let run = folder.join("run");
    let config = folder.join("config");
    let mut server = OsString::from("unix:");
    server.push(socket(folder));
    vec![
        ("PULSE_RUNTIME_PATH", run.clone().into()),
        ("PULSE_STATE_PATH", config.clone().into()),
        ("PULSE_CONFIG_PATH", config.clone().into()),
        ("PULSE_COOKIE", config.join("cookie").into()),
        ("PULSE_SERVER", server),
        ("XDG_RUNTIME_DIR", run.into()),
        ("ALSA_CONFIG_PATH", folder.join("asound.conf").into()),
    ]
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("run").join("native")
}

fn write_settings(folder: &Path) {
    let socket = socket(folder).display().to_string();
    let pulse = format!(
        "load-module module-native-protocol-unix auth-anonymous=1 socket={socket}\n\
         load-module {SINK}\n\
         set-default-sink room\n\
         set-default-source room.monitor\n"
    );
    let alsa = format!(
        "</usr/share/alsa/alsa.conf>\n\
         pcm.testmic {{\n  type pulse\n  server \"unix:{socket}\"\n  device \"room.monitor\"\n  \
         handle_underrun 0\n  hint {{ show on description \"{DEVICE_NAME}\" }}\n}}\n\
         pcm.!default {{\n  type pulse\n  server \"unix:{socket}\"\n  \
         hint {{ show on description \"default\" }}\n}}\n\
         ctl.!default {{ type pulse server \"unix:{socket}\" }}\n"
    );
    std::fs::write(folder.join("room.pa"), pulse).expect("the file is written");
    std::fs::write(folder.join("asound.conf"), alsa).expect("the file is written");
}

fn start_server(folder: &Path) -> Child {
    // What a killed server has left would make the next one believe that it runs.
    let _ = std::fs::remove_file(socket(folder));
    let mut log = OsString::from("file:");
    log.push(folder.join("pulse.log"));
    let mut log_argument = OsString::from("--log-target=");
    log_argument.push(log);
    Command::new("pulseaudio")
        .envs(environment(folder))
        .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes"])
        .args(["--use-pid-file=no", "--resample-method=copy", "-F"])
        .arg(folder.join("room.pa"))
        .arg(log_argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pulseaudio is installed")
}
