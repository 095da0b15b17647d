//! The daemon under real systemd: `systemd/hearken.service` in a container, with real signals,
//! a real watchdog, a real broker and a real microphone.

#[path = "common/systemd.rs"]
mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rig::{Container, FrozenThread, Room, Setup, wait_for};

/// Listens to a siren for ever.
const SIREN_CONFIG: &str = r#"
[[source]]
name = "recording"
file = "/usr/share/rig/clip.ogg"
repeat = true

[detection]
sensitivity = 0.5
"#;

/// Publishes to the broker of [`with_broker`].
const MQTT_CONFIG: &str = r#"
[mqtt]
host = "127.0.0.1"
user = "hearken"
"#;

/// Listens to the default microphone.
const MICROPHONE_CONFIG: &str = r#"
[[source]]
name = "microphone"
device = "default"
"#;

const PASSWORD: &str = "a password with spaces";

fn siren() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/siren.ogg")
}

fn listening_to_a_siren() -> Setup {
    Setup::new(SIREN_CONFIG).copy(&siren(), "usr/share/rig/clip.ogg", 0o644)
}

/// A broker that wants a password, and the password where the unit looks for it.
fn with_broker(setup: Setup) -> Setup {
    rig::require_programs(&[("mosquitto", "mosquitto"), ("mosquitto_sub", "mosquitto-clients")]);
    setup
        .file("etc/hearken/config.toml", &format!("{SIREN_CONFIG}{MQTT_CONFIG}"))
        .file("etc/hearken/mqtt_password", &format!("{PASSWORD}\n"))
        .file(
            "etc/rig/mosquitto.conf",
            "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/rig/passwords\n",
        )
}

fn start_broker(container: &Container) {
    container.must(&["mosquitto_passwd", "-c", "-b", "/etc/rig/passwords", "hearken", PASSWORD]);
    container.must(&["chmod", "0644", "/etc/rig/passwords"]);
    container.must(&["systemd-run", "--unit=broker", "mosquitto", "-c", "/etc/rig/mosquitto.conf"]);
}

/// The next message on a topic, retained or not; waits for it.
fn message(container: &Container, topic: &str) -> String {
    let sub = ["mosquitto_sub", "-h", "127.0.0.1", "-u", "hearken", "-P", PASSWORD, "-C", "1"];
    let argv: Vec<&str> = sub.into_iter().chain(["-W", "30", "-t", topic]).collect();
    container.must(&argv).trim().to_owned()
}

fn start(container: &Container) {
    container.must(&["systemctl", "start", "hearken"]);
    assert_eq!(container.property("ActiveState"), "active");
}

fn wait_for_status(container: &Container, words: &str) {
    let mut last = String::new();
    wait_for(&format!("a status text with {words:?}"), || {
        last = container.property("StatusText");
        last.contains(words).then_some(())
    });
}

/// Waits until the service runs again, in another process than `before`.
fn wait_for_restart(container: &Container, before: &str) {
    wait_for("the service to be restarted", || {
        let active = container.property("ActiveState") == "active";
        let pid = container.property("MainPID");
        (active && pid != "0" && pid != before).then_some(())
    });
}

#[test]
fn the_unit_is_hardened() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/hearken.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=19"])
        .arg(unit)
        .output()
        .expect("systemd-analyze runs (package systemd); run `make test`");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "exposure above 1.9:\n{text}");
    assert!(text.contains("Overall exposure level"), "{text}");
}

#[test]
fn becomes_active_and_says_what_its_sources_do() {
    let container = listening_to_a_siren().boot();
    start(&container);
    wait_for_status(&container, "recording: running");
    assert_eq!(container.property("WatchdogUSec"), "30s");
    let user = container.must(&["ps", "-o", "user=", "-p", &container.property("MainPID")]);
    assert_ne!(user.trim(), "root");
}

/// What `hearken password` prints for [`PASSWORD`].
fn hashed_password() -> String {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_hearken"))
        .arg("password")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    writeln!(child.stdin.take().expect("piped"), "{PASSWORD}").expect("taken");
    String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text")
}

#[test]
fn the_dashboard_asks_for_the_credential_and_alerts_run_programs_in_the_sandbox() {
    rig::require_programs(&[("curl", "curl")]);
    let alert = "[[alert]]\nname = \"siren\"\nclasses = [\"siren\"]\n\
        command = [\"/usr/bin/touch\", \"/var/lib/hearken/told-{class}-{stage}\"]\n";
    let container = Setup::new(&format!("{SIREN_CONFIG}{alert}"))
        .copy(&siren(), "usr/share/rig/clip.ogg", 0o644)
        .file("etc/hearken/dashboard_password", &hashed_password())
        .boot();
    start(&container);
    container.wait_for_line(&["dashboard at http://127.0.0.1:8787"]);
    let answer = |arguments: &[&str]| {
        let fixed = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*"];
        let argv = [&fixed[..], arguments, &["http://127.0.0.1:8787/api/status"]].concat();
        container.must(&argv)
    };
    assert_eq!(answer(&[]), "401");
    assert_eq!(answer(&["-u", &format!("any:{PASSWORD}")]), "200");
    wait_for("the alert's program", || {
        container
            .run(&["test", "-e", "/var/lib/hearken/told-siren-1"])
            .status
            .success()
            .then_some(())
    });
    let tried = container.must(&["/usr/local/bin/hearken", "alert", "test", "siren"]);
    assert!(tried.contains("command: done"), "{tried}");
}

#[test]
fn make_install_is_all_it_takes() {
    let container = Setup::by_make_install().boot();
    container.must(&["systemctl", "enable", "--now", "hearken"]);
    assert_eq!(container.property("ActiveState"), "active");
    assert_eq!(container.property("UnitFileState"), "enabled");
    assert_eq!(container.property("FragmentPath"), "/usr/local/lib/systemd/system/hearken.service");
    // No card in here: that is a state to report, not a reason to end.
    wait_for_status(&container, "microphone: ");
    for file in ["man/man1/hearken.1", "bash-completion/completions/hearken"] {
        container.must(&["test", "-s", &format!("/usr/local/share/{file}")]);
    }
}

#[test]
fn is_restarted_when_killed() {
    let container = listening_to_a_siren().boot();
    start(&container);
    let before = container.property("MainPID");
    container.must(&["kill", "-KILL", &before]);
    wait_for_restart(&container, &before);
    assert_eq!(container.property("NRestarts"), "1");
}

#[test]
fn is_restarted_when_classification_is_stuck() {
    let dropin = "etc/systemd/system/hearken.service.d/rig.conf";
    let container = listening_to_a_siren().file(dropin, "[Service]\nWatchdogSec=5\n").boot();
    start(&container);
    wait_for_status(&container, "recording: running");
    let before = container.property("MainPID");
    // Longer than the watchdog's time: nothing happens while windows are classified.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(container.property("MainPID"), before, "the watchdog tripped without a reason");

    FrozenThread::freeze(container.daemon(), "classify").hold_until_killed();

    container.wait_for_line(&["Watchdog timeout"]);
    wait_for_restart(&container, &before);
    wait_for_status(&container, "recording: running");
}

/// The same recording, while only dogs are of interest.
fn dogs_only() -> String {
    SIREN_CONFIG.replace("[detection]", "[detection]\nclasses = [\"dog\"]")
}

fn reload_with(container: &Container, config: &str) {
    container.write("/etc/hearken/config.toml", config);
    container.must(&["systemctl", "reload", "hearken"]);
}

#[test]
fn a_reload_applies_what_has_changed() {
    let container = listening_to_a_siren().file("etc/hearken/config.toml", &dogs_only()).boot();
    start(&container);
    let before = container.property("MainPID");
    wait_for_status(&container, "recording: running");
    assert!(!container.journal().contains("siren"), "{}", container.journal());

    reload_with(&container, SIREN_CONFIG);

    container.wait_for_line(&["START", "recording", "siren"]);
    assert_eq!(container.property("ActiveState"), "active");
    assert_eq!(container.property("MainPID"), before);
}

#[test]
fn a_reload_of_a_broken_configuration_keeps_the_old_settings() {
    let container = listening_to_a_siren().file("etc/hearken/config.toml", &dogs_only()).boot();
    start(&container);
    let before = container.property("MainPID");

    reload_with(&container, &SIREN_CONFIG.replace("sensitivity = 0.5", "sensitivity = \"loud\""));

    container.wait_for_line(&["detection.sensitivity"]);
    container.wait_for_line(&["old settings"]);
    wait_for_status(&container, "recording: running");
    assert_eq!(container.property("ActiveState"), "active");
    assert_eq!(container.property("MainPID"), before);
    assert!(!container.journal().contains("siren"), "{}", container.journal());

    // And it is not deaf to the next, correct one.
    reload_with(&container, SIREN_CONFIG);
    container.wait_for_line(&["START", "recording", "siren"]);
}

#[test]
fn a_wrong_configuration_is_retried_until_it_is_corrected() {
    let setup = listening_to_a_siren();
    let container =
        setup.file("etc/hearken/config.toml", "[detection]\nsensitivity = \"loud\"\n").boot();
    let output = container.run(&["systemctl", "start", "hearken"]);
    assert!(!output.status.success(), "started with a wrong configuration");
    container.wait_for_line(&["detection.sensitivity"]);
    container.wait_for_line(&["status=64"]);
    wait_for("more attempts than systemd's own limit", || {
        (container.property("NRestarts").parse::<u32>().unwrap() > 5).then_some(())
    });
    container.write("/etc/hearken/config.toml", SIREN_CONFIG);
    wait_for_restart(&container, "0");
    wait_for_status(&container, "recording: running");
}

#[test]
fn a_stop_closes_events_and_tells_the_broker() {
    let container = with_broker(listening_to_a_siren()).boot();
    start_broker(&container);
    start(&container);
    // The broker accepts only the password that LoadCredential has handed over.
    wait_for("the daemon to be online", || {
        (message(&container, "hearken/+/available") == "online").then_some(())
    });
    container.wait_for_line(&["START", "siren"]);
    wait_for("the siren to be on", || {
        (message(&container, "hearken/+/recording/sound/siren") == "ON").then_some(())
    });

    container.must(&["systemctl", "stop", "hearken"]);

    assert_eq!(container.property("Result"), "success");
    assert_eq!(container.property("ExecMainStatus"), "0");
    let moment = |name: &str| container.property(name).parse::<u64>().unwrap();
    let took_us =
        moment("InactiveEnterTimestampMonotonic") - moment("ActiveExitTimestampMonotonic");
    assert!(took_us < 4_000_000, "stopping took {took_us} us; systemd kills at 5 s");
    assert_eq!(message(&container, "hearken/+/available"), "offline");
    assert_eq!(message(&container, "hearken/+/recording/sound/siren"), "OFF");
    let journal = container.journal();
    let count =
        |word: &str| journal.lines().filter(|l| l.contains(word) && l.contains("Z ")).count();
    assert_eq!(count(" START "), count(" END "), "{journal}");
}

#[test]
fn hears_a_microphone_as_a_user_without_rights() {
    let room = Room::new();
    let setup = Setup::new(MICROPHONE_CONFIG)
        .bind(room.socket_dir(), "/run/rigpulse")
        .file("etc/asound.conf", &Room::asound_conf("/run/rigpulse/native"));
    let container = setup.boot();
    start(&container);
    wait_for_status(&container, "microphone: running");
    room.play(&siren());
    container.wait_for_line(&["START", "microphone", "siren"]);
}

#[test]
fn sound_cards_are_open_to_it_and_other_devices_are_not() {
    let container = listening_to_a_siren().boot();
    // There is no card here. A device that the unit may use answers that it is missing, at the
    // driver; any other is refused before that.
    container.must(&["mknod", "-m", "0666", "/dev/rig-card", "c", "116", "200"]);
    container.must(&["mknod", "-m", "0666", "/dev/rig-other", "c", "81", "0"]);
    let probe = "[Service]\nType=oneshot\nRestart=no\nExecStart=\n\
        ExecStart=-/bin/cat /dev/rig-card\nExecStart=-/bin/cat /dev/rig-other\n";
    container.must(&["mkdir", "-p", "/etc/systemd/system/hearken.service.d"]);
    container.write("/etc/systemd/system/hearken.service.d/probe.conf", probe);
    container.must(&["systemctl", "daemon-reload"]);
    container.must(&["systemctl", "start", "hearken"]);
    container.wait_for_line(&["/dev/rig-card: No such device"]);
    container.wait_for_line(&["/dev/rig-other: Operation not permitted"]);
}
