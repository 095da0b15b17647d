//! Alerts, for real: the daemon on a recording, with programs, web servers, a broker and mail servers
//! that somebody else has written.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/daemon.rs"]
mod daemon;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use broker::{Door, Mosquitto, free_port, make_authority, wait_until};
use daemon::{Daemon, hearken, outcome, repository};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Debian's, which has aiosmtpd when `make test` has installed it.
const PYTHON: &str = "/usr/bin/python3";

/// Text that a shell would make something else of.
const ODD: &str = "$(touch touched) `touch touched` \\\"a\\\" 'b' \\\\ * ; & | > touched é";
const ODD_AS_IT_IS: &str = "$(touch touched) `touch touched` \"a\" 'b' \\ * ; & | > touched é";

/// A server that prints JSON lines, killed when this is dropped.
struct Server {
    child: Child,
    port: u16,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    fn start(script: &str, arguments: &[&str]) -> Self {
        use std::io::BufRead as _;
        let port = free_port();
        let mut child = Command::new(PYTHON)
            .arg(repository("tests/common/servers").join(script))
            .arg(port.to_string())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed; run `make test`");
        let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.next().expect("a line; is python3-aiosmtpd there?").expect("text");
        assert_eq!(ready, "ready");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let filled = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("JSON");
                filled.lock().expect("not poisoned").push(value);
            }
        });
        Self { child, port, seen }
    }

    /// Answers with these statuses, the last one for ever.
    fn web(statuses: &str, secret: &[&str]) -> Self {
        Self::start("web_server.py", &[&[statuses][..], secret].concat())
    }

    fn seen(&self) -> Vec<Value> {
        self.seen.lock().expect("not poisoned").clone()
    }

    fn wait_for(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} requests have come"), || self.seen().len() >= count);
        self.seen()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for configuration, state and whatever commands write.
struct Rig {
    folder: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// Writes the configuration: `text`, and where the state is.
    fn configure(&self, text: &str) -> String {
        let state = self.path("state");
        self.write("config.toml", &format!("[store]\nfolder = {state:?}\n{text}"))
    }

    /// The daemon with this configuration, on the recording.
    fn command(&self, text: &str, more: &[&str]) -> Command {
        let config = self.configure(text);
        let recording = repository("assets/soundscape.ogg").display().to_string();
        let mut command = hearken(["run", "--node", "attic", "--file", &recording, "--fast"]);
        command.args(["--config", &config]).args(more).current_dir(self.folder.path());
        command
    }

    /// As [`Self::command`], started, and hearing the recording over and over.
    fn listen(&self, text: &str) -> Daemon {
        let daemon = Daemon::start(self.command(text, &["--repeat"]));
        let socket = self.path("state/hearken.sock");
        daemon.wait_until("the socket is there", || socket.exists());
        daemon
    }

    fn alert(&self, arguments: &[&str]) -> (i32, String, String) {
        let config = self.path("config.toml").display().to_string();
        outcome([&["alert"][..], arguments, &["--config", &config]].concat())
    }

    /// `hearken alert list` of one alert.
    fn status(&self, name: &str) -> Value {
        let (code, out, err) = self.alert(&["list", "--json"]);
        assert_eq!(code, 0, "{err}");
        let list: Vec<Value> = serde_json::from_str(&out).expect("JSON");
        list.into_iter().find(|alert| alert["name"] == name).expect("the alert is known")
    }
}

/// A command that writes its arguments and environment into a file, whole or not at all.
fn noting(file: &Path) -> String {
    let script = "import json,os,sys\nout=sys.argv[1]\n\
        open(out+'~','w').write(json.dumps([sys.argv[2:],dict(os.environ)]))\nos.rename(out+'~',out)";
    format!("{PYTHON:?}, \"-c\", {script:?}, {file:?}")
}

fn notes(rig: &Rig, file: &str) -> (Vec<String>, Value) {
    let text = rig.read(file).unwrap_or_else(|| panic!("{file} was not written"));
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_siren_is_told_in_every_way() {
    let rig = Rig::new();
    let broker = Mosquitto::start(Door::Open);
    let subscriber = broker.subscribe("watcher", "house/#");
    let (web, push) = (Server::web("200", &["It's a secret"]), Server::web("200", &[]));
    let mail = Server::start("mail_server.py", &["none"]);
    rig.write("secret", "It's a secret\n");
    rig.write("token", "tk_1\n");
    let command = noting(&rig.path("noted"));
    let text = format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n\
         [alerts]\ntime_zone = \"Asia/Kathmandu\"\n\
         [alerts.smtp]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"hearken@example.org\"\n\
         [[alert]]\nname = \"siren\"\nclasses = [\"siren\"]\n\
         command = [{command}, \"{{class}}\", \"{ODD}{{source}}\", \"\"]\n\
         webhook = \"http://127.0.0.1:{}/hook?key=k\"\nwebhook_secret_file = \"secret\"\n\
         mqtt_topic = \"house/alarm\"\nmqtt_retain = true\n\
         ntfy = \"http://127.0.0.1:{}/topic\"\nntfy_priority = 5\nntfy_token_file = \"token\"\n\
         email_to = [\"me@example.org\", \"you@example.org\"]\n\
         title = \"{{class}} ü\"\nmessage = \"at {{source}}\\n{{start_local}} é\"\n\
         [[alert]]\nname = \"never\"\nclasses = [\"dog\"]\nmin_score = 1\nmqtt_topic = \"house/never\"\n",
        broker.port, mail.port, web.port, push.port,
    );
    let mut daemon = Daemon::start(rig.command(&text, &[]));
    assert_eq!(daemon.end().code(), Some(0), "{:#?}", daemon.log());

    let (arguments, environment) = notes(&rig, "noted");
    assert_eq!(arguments, ["siren".to_owned(), format!("{ODD_AS_IT_IS}soundscape"), String::new()]);
    assert!(!rig.path("touched").exists(), "a shell was involved");
    let names: Vec<&String> = environment.as_object().expect("a table").keys().collect();
    assert!(environment["PATH"].is_string() && environment.get("HEARKEN_TEST").is_none());
    let foreign = ["XDG_STATE_HOME", "ALSA_CONFIG_PATH", "CARGO_MANIFEST_DIR"];
    assert!(!names.iter().any(|name| foreign.contains(&name.as_str())), "{names:?}");

    let requests = web.wait_for(1);
    assert_eq!(requests.len(), 1, "{requests:#?}");
    assert_eq!(requests[0]["path"], "/hook?key=k");
    assert_eq!(requests[0]["signature_holds"], true);
    assert_eq!(requests[0]["headers"]["content-type"], "application/json");
    let notice: Value = serde_json::from_str(text_of(&requests[0], "body")).expect("JSON");
    for (key, expected) in
        [("alert", "siren"), ("class", "siren"), ("source", "soundscape"), ("node", "attic")]
    {
        assert_eq!(notice[key], expected, "{notice}");
    }
    assert_eq!((notice["stage"].as_u64(), notice["test"].as_bool()), (Some(1), Some(false)));

    // The very notice went to the broker, which keeps it.
    subscriber.wait_for("the message", |seen| seen.iter().any(|one| one.topic == "house/alarm"));
    let message = subscriber.latest("house/alarm").expect("seen");
    assert_eq!(serde_json::from_str::<Value>(&message).expect("JSON"), notice);
    let newcomer = broker.subscribe("newcomer", "house/#");
    newcomer.wait_for("the retained one", |seen| {
        seen.iter().any(|one| one.topic == "house/alarm" && one.retained)
    });
    assert_eq!(subscriber.latest("house/never"), None);

    let start = text_of(&notice, "start");
    let pushed = push.wait_for(1).remove(0);
    assert_eq!(pushed["path"], "/topic");
    let headers = &pushed["headers"];
    assert_eq!((&headers["title"], &headers["priority"]), (&"siren ü".into(), &"5".into()));
    assert_eq!(headers["authorization"], "Bearer tk_1");
    let local = local_time(start, "Asia/Kathmandu");
    let expected = format!("at soundscape\n{local} é");
    assert_eq!(pushed["body"], expected);

    let mail = mail.wait_for(1).remove(0);
    assert_eq!(mail["from"], "hearken@example.org");
    assert_eq!(mail["to"], serde_json::json!(["me@example.org", "you@example.org"]));
    assert_eq!(mail["subject"], "siren ü");
    assert_eq!(text_of(&mail, "text").replace("\r\n", "\n").trim_end(), expected);
    assert_eq!(mail["headers"]["auto-submitted"], "auto-generated");
    assert!(mail["headers"]["date"].is_string() && mail["headers"]["message-id"].is_string());
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// By the system's `date`.
fn local_time(utc: &str, zone: &str) -> String {
    let output = Command::new("date")
        .env("TZ", zone)
        .args(["--date", utc, "+%Y-%m-%d %H:%M:%S %Z"])
        .output()
        .expect("date is everywhere");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_command_that_hangs_is_killed_and_delays_nothing() {
    let rig = Rig::new();
    let hanging = "\"/bin/sh\", \"-c\", \"sleep 1000 & echo $! > child; echo last words; wait\"";
    let quick = noting(&rig.path("quick"));
    let alert = |name: &str, command: &str, more: &str| {
        format!(
            "[[alert]]\nname = \"{name}\"\nclasses = [\"siren\"]\ncommand = [{command}]\n{more}\n"
        )
    };
    let both = format!(
        "[mqtt]\nenabled = false\n{}{}",
        alert("hangs", hanging, "command_timeout_s = 5"),
        alert("quick", &quick, "")
    );
    let daemon = rig.listen(&both);
    daemon.wait_until("the quick one is done", || rig.path("quick").exists());
    let late = ["alert.hangs.command", "took longer than 5 s and was killed: last words"];
    let is_late = |line: &String| late.iter().all(|words| line.contains(words));
    assert!(!daemon.log().iter().any(is_late), "it waited for the other");
    daemon.wait_for_log(&late);
    let child: i32 = rig.read("child").expect("it has run").trim().parse().expect("a number");
    wait_until("the grandchild is gone", || !is_alive(child));
    let hung = rig.status("hangs");
    assert_eq!((&hung["actions"][0]["failed"], &hung["notices"]), (&1.into(), &1.into()));
    assert!(text_of(&hung["actions"][0], "last_error").contains("was killed"), "{hung}");
    assert_eq!(rig.status("quick")["actions"][0]["done"], 1);
    // Further ones are held back, and the daemon says that something does not work.
    wait_until("sirens are held back", || rig.status("quick")["held_back"].as_u64() > Some(0));
    let config = rig.path("config.toml").display().to_string();
    wait_until("the status says so", || {
        let (code, out, _) = outcome(["status", "--config", &config]);
        code == 1 && out.contains("PROBLEM: alert.hangs.command does not work")
    });
}

/// Whether a process runs; one that has ended may still be listed.
fn is_alive(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|tail| tail.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[test]
fn the_end_does_not_wait_for_what_hangs_and_leaves_nothing_behind() {
    let rig = Rig::new();
    let text = "[mqtt]\nenabled = false\n[[alert]]\nname = \"hangs\"\n\
        command = [\"/bin/sh\", \"-c\", \"echo $$ > child; exec sleep 1000\"]\ncommand_timeout_s = 300\n";
    let mut daemon = rig.listen(text);
    daemon.wait_until("it hangs", || rig.read("child").is_some_and(|pid| pid.ends_with('\n')));
    let child = rig.read("child").expect("written").trim().parse().expect("a number");
    assert!(is_alive(child));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end().code(), Some(0), "{:#?}", daemon.log());
    wait_until("the child is gone", || !is_alive(child));
    assert!(
        daemon.log().iter().any(|line| line.contains("was killed: hearken ends")),
        "{:#?}",
        daemon.log()
    );
}

#[test]
fn a_webhook_is_tried_again_when_that_may_help() {
    let rig = Rig::new();
    let busy = Server::web("503,429,200", &[]);
    let gone = Server::web("404", &[]);
    let text = format!(
        "[mqtt]\nenabled = false\n\
         [[alert]]\nname = \"busy\"\nclasses = [\"siren\"]\nwebhook = \"http://127.0.0.1:{}/a\"\n\
         webhook_body = '{{{{\"text\": \"{{class}} \\\"{{source}}\\\"\"}}}}'\n\
         [[alert]]\nname = \"gone\"\nclasses = [\"siren\"]\nwebhook = \"http://127.0.0.1:{}/secret-path\"\n\
         webhook_body = \"{{class}}\"\n\
         [[alert]]\nname = \"nobody\"\nclasses = [\"siren\"]\nwebhook = \"http://127.0.0.1:{}/\"\n",
        busy.port,
        gone.port,
        free_port(),
    );
    let daemon = rig.listen(&text);
    let requests = busy.wait_for(3);
    let bodies: Vec<&str> = requests.iter().map(|request| text_of(request, "body")).collect();
    assert_eq!(bodies, ["{\"text\": \"siren \\\"soundscape\\\"\"}"; 3]);
    wait_until("it is done", || rig.status("busy")["actions"][0]["done"] == 1);
    assert_eq!(rig.status("busy")["actions"][0]["failed"], 0);
    daemon.wait_for_log(&["alert.busy.webhook", "answered 503", "tried again in 1 s"]);
    daemon.wait_for_log(&["alert.busy.webhook", "answered 429", "tried again in 5 s"]);
    // What will never work is not tried again, and what is secret is not logged.
    daemon.wait_for_log(&["alert.gone.webhook failed", "answered 404: so says the server"]);
    assert_eq!(gone.seen().len(), 1);
    assert_eq!(gone.seen()[0]["headers"]["content-type"], "text/plain; charset=utf-8");
    daemon.wait_for_log(&["alert.nobody.webhook", "tried again in 5 s"]);
    assert!(!daemon.log().iter().any(|line| line.contains("secret-path")), "{:#?}", daemon.log());
    let (code, out, _) = rig.alert(&["list"]);
    let gone = "FAILING";
    assert!(code == 0 && out.contains("busy: 1 notices") && out.contains(gone), "{out}");
}

#[test]
fn an_alert_can_be_tried_out() {
    let rig = Rig::new();
    let web = Server::web("200", &[]);
    let text = format!(
        "[[source]]\nname = \"hall\"\nstdin = true\n[mqtt]\nenabled = false\n\
         [[alert]]\nname = \"good\"\nclasses = [\"siren\"]\ncommand = [{}, \"{{class}}\"]\nwebhook = \"http://127.0.0.1:{}/\"\n\
         [[alert]]\nname = \"bad\"\nclasses = [\"siren\"]\ncommand = [\"/bin/sh\", \"-c\", \"echo oh no >&2; exit 3\"]\n\
         [[alert]]\nname = \"missing\"\nclasses = [\"siren\"]\ncommand = [\"/no/such/program\"]\n",
        noting(&rig.path("noted")),
        web.port,
    );
    let (code, _, err) = {
        rig.configure(&text);
        rig.alert(&["test", "good"])
    };
    assert!(code == 69 && err.contains("no hearken answers"), "{err}");
    // Standard input stays open, and silent.
    let config = rig.configure(&text);
    let mut command = hearken(["run", "--config", &config]);
    command.stdin(Stdio::piped());
    let daemon = Daemon::start(command);
    daemon.wait_until("the socket is there", || rig.path("state/hearken.sock").exists());
    let (code, out, _) = rig.alert(&["test", "good"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("command: done: ") && out.contains("webhook: done: "), "{out}");
    let (arguments, environment) = notes(&rig, "noted");
    assert_eq!(
        (arguments, environment["HEARKEN_TEST"].as_str()),
        (vec!["siren".to_owned()], Some("1"))
    );
    let notice: Value = serde_json::from_str(text_of(&web.wait_for(1)[0], "body")).expect("JSON");
    assert_eq!(notice["test"], true);
    assert_eq!(rig.status("good")["notices"], 0, "nothing was heard");

    let (code, out, _) = rig.alert(&["test", "bad", "--json"]);
    let results: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &results[0]["ok"]), (1, &false.into()));
    assert!(text_of(&results[0], "detail").contains("ended with exit status 3: oh no"), "{out}");
    let (code, out, _) = rig.alert(&["test", "missing"]);
    assert!(code == 1 && out.contains("/no/such/program can't be started: No such file"), "{out}");
    let (code, _, err) = rig.alert(&["test", "goood"]);
    assert!(
        code == 2 && err.contains("no alert \"goood\"; there are: good, bad, missing"),
        "{err}"
    );
    drop(daemon);
}

#[test]
fn mail_goes_by_tls_and_only_to_a_server_that_is_trusted() {
    let rig = Rig::new();
    let authority = make_authority(rig.folder.path(), "authority");
    let file = |name: &str| rig.path(name).display().to_string();
    let (certificate, key) = (file("authority-server.crt"), file("authority-server.key"));
    let server = |way: &str| {
        Server::start("mail_server.py", &[way, &certificate, &key, "hearken", "correct horse"])
    };
    rig.write("password", "correct horse\n");
    for way in ["wrapped", "starttls"] {
        let mail = server(way);
        let text = format!(
            "[[source]]\nname = \"hall\"\nstdin = true\n[mqtt]\nenabled = false\n\
             [alerts.smtp]\nhost = \"localhost\"\nport = {}\ntls = \"{way}\"\nuser = \"hearken\"\n\
             password_file = \"password\"\nfrom = \"hearken@example.org\"\n\
             [[alert]]\nname = \"mail\"\nclasses = [\"siren\"]\nemail_to = [\"me@example.org\"]\n",
            mail.port
        );
        let config = rig.configure(&text);
        let run = |trusted: &Path| {
            let mut command = hearken(["run", "--config", &config]);
            command.stdin(Stdio::piped()).env("SSL_CERT_FILE", trusted);
            let daemon = Daemon::start(command);
            daemon.wait_until("it answers", || rig.alert(&["list"]).0 == 0);
            let result = rig.alert(&["test", "mail"]);
            drop(daemon);
            result
        };
        let (code, out, _) = run(&authority);
        assert_eq!(code, 0, "{way}: {out}");
        let seen = mail.wait_for(1).remove(0);
        assert_eq!((&seen["login"], &seen["tls"]), (&true.into(), &true.into()), "{way}");
        assert!(text_of(&seen, "subject").starts_with("Test: siren at "), "{seen}");
        let other = make_authority(rig.folder.path(), "other");
        let (code, out, _) = run(&other);
        assert!(
            code == 1 && out.contains("email: FAILED") && out.contains("certificate"),
            "{way}: {out}"
        );
        assert_eq!(mail.seen().len(), 1);
    }
}

#[test]
fn loudness_acts_whatever_it_is() {
    let rig = Rig::new();
    let text = format!(
        "[mqtt]\nenabled = false\n[[alert]]\nname = \"noise\"\nlevel_over_dbfs = -60\n\
         command = [{}, \"{{class}}\", \"{{level}}\", \"{{score}}{{id}}\"]\n\
         [[alert]]\nname = \"deaf\"\nlevel_over_dbfs = 0\ncommand = [\"touch\", \"deafening\"]\n",
        noting(&rig.path("noted"))
    );
    let daemon = rig.listen(&text);
    daemon.wait_until("the noise is told", || rig.path("noted").exists());
    let (arguments, _) = notes(&rig, "noted");
    assert_eq!((arguments[0].as_str(), arguments[2].as_str()), ("loud sound", ""));
    let level: f32 = arguments[1].parse().expect("a number");
    assert!((-60.0..=0.0).contains(&level), "{level}");
    assert!(!rig.path("deafening").exists());
}

#[test]
fn classes_are_the_models_and_a_reload_changes_alerts() {
    let rig = Rig::new();
    let alert = |classes: &str, file: &str| {
        format!(
            "[mqtt]\nenabled = false\n[[alert]]\nname = \"a\"\nclasses = [\"{classes}\"]\n\
             command = [\"touch\", \"{file}\"]\n"
        )
    };
    for (class, expected) in [
        ("sirene", "which this model does not know; did you mean \"siren\"?"),
        ("dog", "which is not reported: add it to detection.classes"),
    ] {
        let expected = format!("alert.a.classes names the class {class:?}, {expected}");
        let text = format!("{}[detection]\nclasses = [\"siren\"]\n", alert(class, "x"));
        let config = rig.configure(&text);
        let (code, _, err) = outcome(["config", "check", &config]);
        assert!(code == 64 && err.contains(&expected), "{err}");
        let (code, _, err) = outcome(["run", "--config", &config, "--file", "x.wav"]);
        assert!(code == 64 && err.contains(&expected), "{err}");
    }
    let daemon = rig.listen(&alert("siren", "first"));
    daemon.wait_until("the first is told", || rig.path("first").exists());
    // A mistake keeps what is in force.
    rig.configure(&alert("sirene", "second"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(&["reload: the old settings stay in force", "sirene"]);
    assert_eq!(rig.status("a")["notices"], 1);
    // It rests still, but is another rule by now, and so is a new one.
    let both = format!(
        "{}[[alert]]\nname = \"b\"\ncommand = [\"touch\", \"third\"]\n",
        alert("siren", "second")
    );
    rig.configure(&both);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(&["reload: the new alerts are in force"]);
    daemon.wait_until("the new one is told", || rig.path("third").exists());
    assert_eq!(rig.status("a")["notices"], 1);
    assert_eq!(rig.status("a")["actions"][0]["done"], 1);
    assert!(!rig.path("second").exists());
}
