//! A container with real systemd as PID 1 and the daemon installed in it, for `tests/systemd.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// How long to wait for anything before a test fails. Far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Programs the rig needs, and the Debian packages they come from.
const PROGRAMS: [(&str, &str); 5] = [
    ("systemd-nspawn", "systemd-container"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("journalctl", "systemd"),
];

/// One container at a time: several would only slow each other down.
static TURN: Mutex<()> = Mutex::new(());

/// Looks again and again until `probe` finds something; fails the test after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Fails the test unless `programs` are installed; says where they come from.
pub fn require_programs(programs: &[(&str, &str)]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .filter(|(program, _)| !std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    assert!(missing.is_empty(), "not installed: {}; run `make test`", missing.join(", "));
}

/// What to install in a container before it boots.
pub struct Setup {
    stage: TempDir,
    options: Vec<String>,
}

impl Setup {
    /// Nothing.
    pub fn empty() -> Self {
        let stage = tempfile::Builder::new().prefix("hearken-rig-").tempdir().unwrap();
        fs::create_dir(stage.path().join("mnt")).unwrap();
        fs::create_dir(stage.path().join("files")).unwrap();
        Self { stage, options: Vec::new() }
    }

    /// What `make install` installs, and nothing else.
    pub fn by_make_install() -> Self {
        let setup = Self::empty();
        let output = Command::new("make")
            .args(["--directory", env!("CARGO_MANIFEST_DIR"), "install", "PREFIX=/usr/local"])
            .arg(concat!("BINARY=", env!("CARGO_BIN_EXE_hearken")))
            .arg(format!("DESTDIR={}", setup.stage.path().join("files").display()))
            .output()
            .expect("make runs (package make)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        setup
    }

    /// The daemon, its unit as it ships, and a configuration.
    pub fn new(config: &str) -> Self {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/hearken.service");
        Self::empty()
            .copy(Path::new(env!("CARGO_BIN_EXE_hearken")), "usr/local/bin/hearken", 0o755)
            .copy(&unit, "etc/systemd/system/hearken.service", 0o644)
            .file("etc/hearken/config.toml", config)
    }

    /// A text file at `path`, relative to the root, readable by everyone.
    pub fn file(self, path: &str, text: &str) -> Self {
        let target = self.target(path);
        fs::write(&target, text).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    /// A copy of a file of the host.
    pub fn copy(self, from: &Path, path: &str, mode: u32) -> Self {
        let target = self.target(path);
        fs::copy(from, &target).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// The directory `from` of the host, seen as `to`.
    pub fn bind(mut self, from: &Path, to: &str) -> Self {
        self.options.push(format!("--bind={}:{to}", from.display()));
        self
    }

    fn target(&self, path: &str) -> PathBuf {
        let target = self.stage.path().join("files").join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        target
    }

    /// Boots, and waits until systemd has started all that belongs to the boot.
    pub fn boot(self) -> Container {
        require_programs(&PROGRAMS);
        assert!(geteuid().is_root(), "booting systemd needs root; run `make test`");
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let console = self.stage.path().join("console.log");
        let log = fs::File::create(&console).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/systemd_container.sh");
        // Killed with this thread, whatever ends it, and all its mounts and processes with it.
        let nspawn = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["bash".as_ref(), script.as_os_str(), self.stage.path().as_os_str()])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut container = Container { nspawn, leader: None, _stage: self.stage, _turn: turn };
        container.wait_for_boot(&console);
        container
    }
}

/// A running container; dropping it ends everything in it.
pub struct Container {
    nspawn: Child,
    leader: Option<Pid>,
    _stage: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Container {
    fn wait_for_boot(&mut self, console: &Path) {
        let nspawn = self.nspawn.id() as i32;
        let leader = wait_for("systemd to be PID 1 of the container", || {
            if let Some(status) = self.nspawn.try_wait().unwrap() {
                let log = fs::read_to_string(console).unwrap_or_default();
                panic!("the container did not start ({status}):\n{log}");
            }
            processes().find(|p| p.parent == nspawn && p.name == "systemd").map(|p| p.pid)
        });
        self.leader = Some(Pid::from_raw(leader));
        wait_for("the container to have booted", || {
            let state = self.run(&["systemctl", "is-system-running"]).stdout;
            matches!(String::from_utf8_lossy(&state).trim(), "running" | "degraded").then_some(())
        });
    }

    fn leader(&self) -> Pid {
        self.leader.expect("the container has booted")
    }

    /// Runs a program inside as root, for a minute at most.
    pub fn run(&self, argv: &[&str]) -> Output {
        Command::new("timeout")
            .args(["--signal=KILL", "60", "nsenter", "--target", &self.leader().to_string()])
            .args(["--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"])
            .args(argv)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a program that has to succeed; what it printed.
    pub fn must(&self, argv: &[&str]) -> String {
        let output = self.run(argv);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{argv:?}: {}\n{text}{error}\njournal:\n{}",
            output.status,
            self.journal()
        );
        text
    }

    /// A property of the unit, as `systemctl show` prints it.
    pub fn property(&self, name: &str) -> String {
        self.must(&["systemctl", "show", "--value", "-p", name, "hearken"]).trim().to_owned()
    }

    /// All the unit has logged so far, and what systemd has logged about it.
    pub fn journal(&self) -> String {
        let output = self.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "hearken"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for a line of the journal that holds all of `words`.
    pub fn wait_for_line(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let journal = self.journal();
            if let Some(line) = journal.lines().find(|line| words.iter().all(|w| line.contains(w)))
            {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {words:?} in the journal:\n{journal}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Replaces a file inside.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(format!("/proc/{}/root{path}", self.leader()), text).unwrap();
    }

    /// The daemon's PID as the host sees it.
    pub fn daemon(&self) -> Pid {
        let inside: i32 = self.property("MainPID").parse().unwrap();
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(self.leader().as_raw());
        let found = processes().find(|p| p.pid_inside == inside && namespace(p.pid) == ours);
        Pid::from_raw(found.unwrap_or_else(|| panic!("no process {inside} in the container")).pid)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader.is_some() {
            eprintln!("journal of the container:\n{}", self.journal());
        }
        // Power off at once. If that does not do it, the death of PID 1 takes all others along.
        if let Some(leader) = self.leader {
            let _ = Command::new("kill").args(["-RTMIN+14", &leader.to_string()]).status();
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.leader.is_some() && Instant::now() < deadline {
            if matches!(self.nspawn.try_wait(), Ok(Some(_))) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        if let Some(leader) = self.leader {
            let _ = kill(leader, Signal::SIGKILL);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

/// A room with a microphone in it: a PulseAudio server whose only sink is its own source.
pub struct Room {
    server: Child,
    dir: TempDir,
    socket_dir: PathBuf,
}

impl Room {
    /// Starts the server, and waits until it answers.
    pub fn new() -> Self {
        require_programs(&[
            ("pulseaudio", "pulseaudio"),
            ("pactl", "pulseaudio-utils"),
            ("sox", "sox"),
        ]);
        let dir = tempfile::Builder::new().prefix("hearken-room-").tempdir().unwrap();
        let socket_dir = dir.path().join("socket");
        fs::create_dir(&socket_dir).unwrap();
        for open in [dir.path(), &socket_dir] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let script = format!(
            "load-module module-native-protocol-unix auth-anonymous=1 socket={}/native\n\
             load-module module-null-sink sink_name=room rate=48000 channels=1 format=s16le \
             norewinds=1\nset-default-sink room\nset-default-source room.monitor\n",
            socket_dir.display()
        );
        fs::write(dir.path().join("room.pa"), script).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "pulseaudio", "-n", "--daemonize=no"])
            .args(["--exit-idle-time=-1", "--disable-shm=yes", "--use-pid-file=no", "-F"])
            .arg(dir.path().join("room.pa"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("pulse.log")).unwrap());
        let server = Self::in_room(&mut command, dir.path()).spawn().unwrap();
        let room = Self { server, dir, socket_dir };
        wait_for("PulseAudio to answer", || {
            let mut pactl = Command::new("pactl");
            let output = Self::in_room(pactl.arg("info"), room.dir.path()).output().unwrap();
            output.status.success().then_some(())
        });
        room
    }

    /// Where the server's socket `native` is.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// ALSA's configuration that makes the room's microphone the default device.
    pub fn asound_conf(socket: &str) -> String {
        format!(
            "pcm.!default {{ type pulse  server \"unix:{socket}\"  device \"room.monitor\"  \
             hint {{ show on  description \"The room\" }} }}\n\
             ctl.!default {{ type pulse  server \"unix:{socket}\" }}\n"
        )
    }

    /// Plays an audio file to its end.
    pub fn play(&self, file: &Path) {
        let wav = self.dir.path().join("play.wav");
        let mut sox = Command::new("sox");
        sox.arg(file).args(["-r", "48000", "-c", "1", "-b", "16"]).arg(&wav);
        assert!(sox.status().unwrap().success(), "sox cannot read {}", file.display());
        let mut paplay = Command::new("paplay");
        let played = Self::in_room(paplay.arg("--latency-msec=50").arg(&wav), self.dir.path());
        assert!(played.status().unwrap().success(), "paplay failed");
    }

    fn in_room<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
        command
            .env("PULSE_SERVER", format!("unix:{}/socket/native", dir.display()))
            .env("PULSE_RUNTIME_PATH", dir.join("run"))
            .env("PULSE_STATE_PATH", dir.join("state"))
            .env("PULSE_CONFIG_PATH", dir.join("config"))
            .env("PULSE_COOKIE", dir.join("cookie"))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A process, as seen from the host.
struct Process {
    pid: i32,
    parent: i32,
    /// Its PID in the innermost namespace it lives in.
    pid_inside: i32,
    name: String,
}

/// All processes of the machine.
fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        Some(Process {
            pid,
            parent: field("PPid")?.parse().ok()?,
            pid_inside: field("NSpid")?.split_whitespace().last()?.parse().ok()?,
            name: field("Name")?.to_owned(),
        })
    })
}

/// A thread that this one holds still, until dropped. To be held and dropped by the thread that
/// made it: Linux ties a traced thread to its tracer, and lets a process go only when the tracer
/// has noticed the end.
pub struct FrozenThread(Pid);

impl Drop for FrozenThread {
    fn drop(&mut self) {
        // Fails when the thread has ended, as it should have.
        let _ = ptrace::detach(self.0, None);
    }
}

impl FrozenThread {
    /// Stops the thread called `name` of a process, and only that one.
    pub fn freeze(process: Pid, name: &str) -> Self {
        let mut seen = Vec::new();
        for task in fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten() {
            let called = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if called.trim() == name {
                let tid = Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
                ptrace::seize(tid, ptrace::Options::empty()).unwrap();
                ptrace::interrupt(tid).unwrap();
                let stopped = waitpid(tid, Some(WaitPidFlag::__WALL)).unwrap();
                assert!(matches!(stopped, WaitStatus::PtraceEvent(..)), "{stopped:?}");
                return Self(tid);
            }
            seen.push(called.trim().to_owned());
        }
        panic!("no thread is called {name:?}, only {seen:?}");
    }

    /// Holds it until something kills its process.
    pub fn hold_until_killed(self) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        wait_for("the frozen thread's process to be killed", || {
            match waitpid(self.0, Some(flags)) {
                Ok(WaitStatus::StillAlive) => None,
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => Some(()),
                other => panic!("the frozen thread moved: {other:?}"),
            }
        });
    }
}
