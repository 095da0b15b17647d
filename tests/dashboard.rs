//! The dashboard of a running daemon, asked by curl as any program would.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/daemon.rs"]
mod daemon;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use broker::{free_port, make_authority};
use daemon::{Daemon, hearken, outcome, repository};
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse";
/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What curl got.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines();
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A daemon that has heard the recording, and goes on listening to it in real time.
struct House {
    daemon: Daemon,
    port: u16,
    scheme: &'static str,
    folder: TempDir,
}

/// How the dashboard is locked.
#[derive(Clone, Copy, PartialEq)]
enum Lock {
    Open,
    Password,
    Tls,
}

impl House {
    fn start(lock: Lock) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, Self::config(lock, port, folder.path())).expect("written");
        let mut command = hearken(["run", "--config"]);
        command.arg(&config).env_remove("HEARKEN_DASHBOARD__ENABLED");
        let scheme = if lock == Lock::Tls { "https" } else { "http" };
        let house = Self { daemon: Daemon::start(command), port, scheme, folder };
        house.daemon.wait_for_log(&["dashboard at"]);
        house
    }

    fn config(lock: Lock, port: u16, folder: &Path) -> String {
        let recording = repository("assets/soundscape.ogg");
        let recording = recording.display();
        let folder = folder.display();
        let mut text = format!(
            "node = \"rig\"\nmqtt.enabled = false\nstore.folder = \"{folder}/state\"\nclips.enabled = true\n\
             [[source]]\nname = \"past\"\nfile = \"{recording}\"\npace = \"fast\"\n\
             [[source]]\nname = \"room\"\nfile = \"{recording}\"\nrepeat = true\n\
             [dashboard]\nlisten = \"127.0.0.1:{port}\"\n"
        );
        if lock != Lock::Open {
            let file = Path::new(&folder.to_string()).join("password");
            std::fs::write(file, hash(PASSWORD)).expect("written");
            writeln!(text, "password_file = \"password\"").expect("a string");
        }
        if lock == Lock::Tls {
            make_authority(Path::new(&folder.to_string()), "own");
            let files = "cert_file = \"own-server.crt\"\nkey_file = \"own-server.key\"\n";
            writeln!(text, "[dashboard.tls]\n{files}").expect("a string");
        }
        text
    }

    fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let output = Command::new("curl")
            .args(["-s", "-i", "--globoff", "--max-time", "50", "--noproxy", "*", "-H", "Expect:"])
            .args(arguments)
            .arg(self.url(path))
            .output()
            .expect("curl is needed");
        let log = self.daemon.log();
        assert!(output.status.success(), "{path} {arguments:?}: {output:?}; {log:#?}");
        let split = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let headers = String::from_utf8_lossy(&output.stdout[..split]).into_owned();
        let status = headers.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.expect("a status"),
            headers,
            body: output.stdout[split + 4..].to_vec(),
        }
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.curl(path, &[]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    fn send(&self, method: &str, path: &str, body: &Value, arguments: &[&str]) -> Answer {
        let text = body.to_string();
        let mut all = vec!["-X", method, "-H", "Content-Type: application/json", "-d", &text];
        all.extend(arguments);
        self.curl(path, &all)
    }

    fn upload(&self, path: &str, file: &Path) -> Answer {
        self.curl(path, &["-X", "POST", "-T", &file.display().to_string()])
    }

    /// Waits until the recording's four sounds are kept, with their ends, and returns them, oldest first.
    fn past(&self, arguments: &[&str]) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.curl("/api/events?source=past", arguments).json();
            let events = found["events"].as_array().unwrap_or_else(|| panic!("{found}")).clone();
            if events.len() == 4 && events.iter().all(|event| event["end"].is_string()) {
                return events.into_iter().rev().collect();
            }
            assert!(Instant::now() < deadline, "{found}; {:#?}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A live view, read line by line.
struct View {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl View {
    fn open(house: &House, arguments: &[&str]) -> Self {
        let mut child = Command::new("curl")
            .args(["-s", "-N", "--max-time", "60", "--noproxy", "*"])
            .args(arguments)
            .arg(house.url("/api/live"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl is needed");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// The next message of this kind.
    fn next(&mut self, kind: &str) -> Value {
        let wanted = format!("event: {kind}");
        while self.lines.next().expect("it goes on").expect("text") != wanted {}
        let line = self.lines.next().expect("it goes on").expect("text");
        serde_json::from_str(line.strip_prefix("data: ").expect("data")).expect("JSON")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line that `hearken password` prints.
fn hash(password: &str) -> String {
    let mut command = hearken(["password"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    writeln!(child.stdin.take().expect("piped"), "{password}").expect("taken");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn classes(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["class"].as_str().expect("a class")).collect()
}

#[test]
fn what_was_heard_can_be_looked_at() {
    let house = House::start(Lock::Open);
    let events = house.past(&[]);
    assert_eq!(classes(&events), ["siren", "thunderstorm", "glass_breaking", "dog"]);
    let siren = &events[0];
    let id = siren["id"].as_str().expect("an id");
    assert_eq!(&house.get(&format!("/api/events/{id}")), siren);
    assert_eq!(house.curl("/api/events/nothing", &[]).status, 404);

    // Filters and pages.
    let one = house.get("/api/events?source=past&class=dog&min_score=0.1&limit=1");
    assert_eq!(
        (classes(one["events"].as_array().unwrap()), &one["more"]),
        (vec!["dog"], &json!(false))
    );
    let first = house.get("/api/events?source=past&limit=3");
    assert_eq!(first["more"], true);
    let last = first["events"][2]["id"].as_str().expect("an id");
    let rest = house.get(&format!("/api/events?source=past&before={last}"));
    assert_eq!(classes(rest["events"].as_array().unwrap()), ["siren"]);
    assert_eq!(house.curl("/api/events?min_score=7", &[]).status, 400);
    assert_eq!(house.curl("/api/events?since=yesterday", &[]).status, 400);

    let hours = house.get("/api/hours?source=past");
    let counts = hours["hours"].as_array().expect("a list").iter();
    assert_eq!(counts.map(|hour| hour[1].as_i64().expect("a count")).sum::<i64>(), 4);

    let model = house.get("/api/model");
    assert_eq!(model["band_hz"].as_array().expect("a list").len(), 227);
    let health = house.curl("/healthz", &[]);
    assert_eq!((health.status, health.body.as_slice()), (200, b"ok".as_slice()));
}

#[test]
fn the_preview_agrees_with_the_events() {
    let house = House::start(Lock::Open);
    let events = house.past(&[]);
    let ask = |question: Value| house.send("POST", "/api/preview", &question, &[]);
    let preview = ask(json!({ "class": "siren", "source": "past" })).json();
    // As it is in force, it would have done what it did.
    assert_eq!(preview["would_fire"], preview["fired"]);
    let fired = &preview["fired"][0];
    for field in ["source", "start", "end"] {
        assert_eq!(fired[field], events[0][field], "{field}");
    }
    let points = preview["scores"][0]["points"].as_array().expect("a curve");
    assert_eq!(points.len() as u64, preview["windows"].as_u64().expect("a count"));
    let best = points.iter().filter_map(|point| point[1].as_f64()).fold(0.0, f64::max);
    assert!(best >= events[0]["score_peak"].as_f64().expect("a score") - 1e-6);

    let never = ask(json!({ "class": "siren", "source": "past", "on": 1.0 })).json();
    assert_eq!(never["would_fire"], json!([]));
    let least = json!({ "class": "door_wood_knock", "source": "past", "on": 0.001, "off": 0.001, "hits": 1 });
    let often = ask(least);
    assert!(!often.json()["would_fire"].as_array().expect("a list").is_empty());
    let patient = |at_once: f64| {
        ask(json!({
            "class": "door_wood_knock", "source": "past", "on": 0.001, "off": 0.001, "hits": 64, "of": 64,
            "at_once": at_once,
        }))
    };
    assert_eq!(patient(1.0).json()["would_fire"], json!([]));
    assert_eq!(patient(0.001).json()["would_fire"], often.json()["would_fire"]);
    for (question, status) in [
        (json!({ "class": "unicorn" }), 404),
        (json!({ "class": "rain" }), 404),
        (json!({ "class": "siren", "source": "cellar" }), 404),
        (json!({ "class": "siren", "on": 0.2, "off": 0.5 }), 400),
        (json!({ "class": "siren", "hits": 9, "of": 3 }), 400),
        (json!({ "class": "siren", "on": 0.5, "at_once": 0.4 }), 400),
        (json!({ "class": "siren", "volume": 11 }), 422),
        (json!([]), 422),
    ] {
        let answer = ask(question.clone());
        assert_eq!(answer.status, status, "{question}: {answer:?}");
        assert!(answer.json()["error"].is_string());
    }
}

#[test]
fn a_live_view_shows_windows_sounds_and_states() {
    let house = House::start(Lock::Open);
    let (mut view, mut other) = (View::open(&house, &[]), View::open(&house, &[]));
    let status = view.next("status");
    assert!(status["source"] == "past" || status["source"] == "room", "{status}");
    other.next("health");
    let window = loop {
        let window = view.next("window");
        if window["source"] == "room" {
            break window;
        }
    };
    use base64::Engine as _;
    let columns =
        base64::engine::general_purpose::STANDARD.decode(window["columns"].as_str().unwrap());
    let columns = columns.expect("base64");
    assert!(!columns.is_empty() && columns.len() % 227 == 0, "{} bytes", columns.len());
    assert_eq!(window["top"].as_array().expect("a list").len(), 5);
    let sound = loop {
        let sound = view.next("sound");
        if sound["source"] == "room" {
            break sound;
        }
    };
    assert_eq!((&sound["class"], &sound["phase"]), (&json!("siren"), &json!("start")));
    // Whoever comes now knows that it is on.
    let mut late = View::open(&house, &[]);
    while late.next("sound")["id"] != sound["id"] {}
}

#[test]
fn without_a_password_nothing_can_be_changed_and_other_sites_get_nothing() {
    let house = House::start(Lock::Open);
    let session = house.get("/api/session");
    assert_eq!(
        session,
        json!({ "signed_in": false, "password_set": false, "rights": ["read", "use"] })
    );
    let off = house.send("PUT", "/api/sources/room/listening", &json!({ "on": false }), &[]);
    assert_eq!(off.status, 403, "{off:?}");
    assert!(off.json()["error"].as_str().expect("words").contains("hearken password"));
    assert_eq!(house.send("POST", "/api/session", &json!({ "password": "x" }), &[]).status, 401);

    // Another name for this machine (DNS rebinding), another site's form.
    assert_eq!(house.curl("/api/status", &["-H", "Host: evil.example"]).status, 403);
    let foreign = ["-H", "Origin: http://evil.example"];
    assert_eq!(
        house.send("POST", "/api/preview", &json!({ "class": "siren" }), &foreign).status,
        403
    );
    let cross = ["-H", "Sec-Fetch-Site: cross-site"];
    assert_eq!(
        house.send("POST", "/api/preview", &json!({ "class": "siren" }), &cross).status,
        403
    );

    let page = house.curl("/", &[]);
    assert_eq!((page.status, page.header("x-frame-options")), (200, Some("DENY")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    for path in ["/nothing", "/..%2fconfig.toml", "/api", "/api/events/..%2f..%2fx/clip"] {
        let status = house.curl(path, &["--path-as-is"]).status;
        assert!(status == 404 || status == 403, "{path}: {status}");
    }
    assert_eq!(house.curl("/api/status", &["-X", "DELETE"]).status, 405);
}

#[test]
fn a_password_opens_everything_and_its_absence_nothing() {
    let house = House::start(Lock::Password);
    for path in ["/api/status", "/api/live", "/api/events", "/metrics"] {
        assert_eq!(house.curl(path, &[]).status, 401, "{path}");
    }
    assert_eq!(house.get("/api/session")["rights"], json!([]));
    let wrong = house.send("POST", "/api/session", &json!({ "password": "wrong horse" }), &[]);
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let right = house.send("POST", "/api/session", &json!({ "password": PASSWORD }), &[]);
    assert_eq!(right.json()["rights"], json!(["read", "use", "change"]));
    let cookie = right.header("set-cookie").expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a pair"));
    let signed: &[&str] = &["-H", &cookie];

    let events = house.past(signed);
    let id = events[0]["id"].as_str().expect("an id");
    let deadline = Instant::now() + PATIENCE;
    let clip = loop {
        let clip = house.curl(&format!("/api/events/{id}/clip"), signed);
        if clip.status == 200 || Instant::now() > deadline {
            break clip;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(
        (clip.header("content-type"), clip.body.get(..4)),
        (Some("audio/flac"), Some(b"fLaC".as_slice()))
    );
    let image = house.curl(&format!("/api/events/{id}/spectrogram"), signed);
    assert_eq!(image.body.get(1..4), Some(b"PNG".as_slice()), "{}", image.headers);

    let off = house.send("PUT", "/api/sources/room/listening", &json!({ "on": false }), signed);
    assert_eq!(off.status, 202);
    house.daemon.wait_for_log(&["listening switched off"]);
    assert_eq!(
        house.send("PUT", "/api/sources/x/listening", &json!({ "on": false }), signed).status,
        404
    );

    let bearer = format!("Authorization: Bearer {PASSWORD}");
    assert_eq!(house.curl("/metrics", &["-H", &bearer]).status, 200);
    assert_eq!(house.curl("/metrics", &["-u", &format!("prometheus:{PASSWORD}")]).status, 200);
    assert_eq!(house.send("DELETE", "/api/session", &json!({}), signed).status, 200);
    assert_eq!(house.curl("/api/status", signed).status, 401);
    // Guessing comes to nothing, however slow the machine is.
    let guess = |n: u32| json!({ "password": format!("{n}") });
    let is_slowed = |n| house.send("POST", "/api/session", &guess(n), &[]).status == 429;
    assert!((0..500).any(is_slowed), "passwords can be tried without end");
    let log = house.daemon.log().join("\n");
    assert!(!log.contains(PASSWORD) && !log.contains("argon2id"), "{log}");
}

#[test]
fn files_are_worked_on() {
    let house = House::start(Lock::Open);
    let heard = house.upload("/api/classify", &repository("tests/golden/siren.ogg"));
    assert_eq!(heard.status, 200, "{heard:?}");
    let heard = heard.json();
    assert_eq!(heard["events"][0]["class"], "siren");
    assert_eq!(heard["top"][0]["class"], "siren");
    assert!(heard["image"].as_str().expect("a picture").starts_with("iVBOR"));

    let folder = house.folder.path();
    let photo = photo(folder, "shifted");
    let corrected = house.upload("/api/correct", &photo);
    assert_eq!(corrected.status, 200, "{}", corrected.headers);
    assert_eq!(corrected.header("x-hearken-changed"), Some("true"), "{}", corrected.headers);
    let shift = corrected.header("x-hearken-shift").expect("a shift");
    assert_eq!(shift.split(',').filter(|part| part.parse::<f64>().is_ok()).count(), 3, "{shift}");
    // The command line does the same to the same photo.
    let (code, _, errors) = outcome(["correct", "--quality", "92", &photo.display().to_string()]);
    assert_eq!(code, 0, "{errors}");
    let by_command = std::fs::read(folder.join("shifted_corrected.jpg")).expect("written");
    assert!(by_command == corrected.body, "the same photo is corrected differently");

    // Small as a file, and too large in memory: nothing of it is decoded.
    let vast = folder.join("vast.png");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "color=c=red:s=6000x5000", "-frames:v", "1"])
        .arg(&vast)
        .status();
    assert!(made.expect("ffmpeg is needed").success());
    let refused = house.upload("/api/correct", &vast);
    assert_eq!(refused.status, 413, "{}", refused.headers);
    assert!(refused.json()["error"].as_str().expect("words").contains("6000x5000"));

    let noise = folder.join("noise");
    std::fs::write(&noise, [7_u8; 5_000]).expect("written");
    let empty = folder.join("empty");
    std::fs::write(&empty, "").expect("written");
    let large = folder.join("large");
    std::fs::write(&large, vec![0_u8; (32 << 20) + 1]).expect("written");
    for path in ["/api/classify", "/api/correct"] {
        for (file, status) in [(&noise, 415), (&empty, 400), (&large, 413)] {
            let answer = house.upload(path, file);
            assert_eq!(answer.status, status, "{path} {file:?}: {}", answer.headers);
            assert!(answer.json()["error"].is_string());
        }
    }
}

/// A photo with a cast, small.
fn photo(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("{name}.jpg"));
    let filter = "color=c=gray:s=320x240,noise=alls=40:allf=t,colorbalance=rm=0.9:rs=0.9:rh=0.9:bm=-0.9:bs=-0.9:bh=-0.9";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", filter, "-frames:v", "1"])
        .arg(&path)
        .status();
    assert!(made.expect("ffmpeg is needed").success());
    path
}

#[test]
fn figures_are_there_for_prometheus() {
    let house = House::start(Lock::Open);
    house.past(&[]);
    // Counters of sources are looked at once a second.
    house.daemon.wait_until("windows are counted", || {
        let status = house.get("/api/status");
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        sources.iter().any(|source| source["classified_windows"].as_u64().is_some_and(|n| n > 50))
    });
    let text = house.curl("/metrics", &[]);
    assert!(
        text.header("content-type").expect("a type").starts_with("application/openmetrics-text")
    );
    let text = String::from_utf8(text.body).expect("text");
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
        line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
    };
    assert_eq!(value("hearken_events_total{source=\"past\",class=\"siren\"}"), 1.0);
    assert_eq!(value("hearken_source_lost_samples_total{source=\"past\"}"), 0.0);
    assert_eq!(value("hearken_stage_restarts_total"), 0.0);
    let judged = value("hearken_source_classified_windows_total{source=\"past\"}");
    assert!(judged > 50.0 && value("hearken_inference_seconds_count") >= judged, "{text}");
    assert!(value("hearken_event_latency_seconds_count") >= 4.0);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn tls_is_served_from_files() {
    let house = House::start(Lock::Tls);
    let authority = house.folder.path().join("own.crt").display().to_string();
    let sign = json!({ "password": PASSWORD });
    let right = house.send("POST", "/api/session", &sign, &["--cacert", &authority]);
    assert!(right.header("set-cookie").expect("a cookie").contains("; Secure"), "{right:?}");
    let mut plain = TcpStream::connect(("127.0.0.1", house.port)).expect("it listens");
    write!(plain, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("taken");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn other_machines_need_a_password() {
    let run = |address: &str| {
        outcome([
            "run",
            "--set",
            &format!("dashboard.listen={address}"),
            "--set",
            "dashboard.enabled=true",
        ])
    };
    for address in ["0.0.0.0:8787", "[::]:8787", "192.0.2.1:80"] {
        let (code, _, errors) = run(address);
        assert_eq!(code, 64, "{errors}");
        assert!(
            errors.contains("dashboard.listen") && errors.contains("hearken password"),
            "{errors}"
        );
    }
    for address in ["8787", "localhost:8787", "127.0.0.1:0", "127.0.0.1"] {
        let (code, _, errors) = run(address);
        assert!(code == 64 && errors.contains("dashboard.listen"), "{address}: {errors}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "a plain password\n").expect("written");
    let (code, _, errors) =
        outcome(["run", "--set", &format!("dashboard.password_file={}", file.display())]);
    assert!(
        code == 64 && errors.contains("password_file") && !errors.contains("a plain"),
        "{errors}"
    );
}

#[test]
fn a_port_that_is_taken_keeps_nobody_from_listening() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let mut command = hearken(["run", "--node", "rig", "--repeat", "--json", "--file"]);
    command.arg(repository("assets/soundscape.ogg")).args(["--set", "mqtt.enabled=false"]);
    command.args(["--set", &format!("dashboard.listen=127.0.0.1:{port}")]);
    command.env("HEARKEN_DASHBOARD__ENABLED", "true");
    let daemon = Daemon::start(command);
    daemon.wait_for_log(&["the dashboard can't listen on", "dashboard.listen"]);
    daemon.wait_until("a siren", || daemon.out().iter().any(|line| line.contains("siren")));
    drop(taken);
    daemon.wait_for_log(&["dashboard at"]);
    assert_eq!(daemon.log().iter().filter(|line| line.contains("can't listen")).count(), 1);
}

#[test]
fn whoever_is_slow_or_comes_too_often_is_cut_and_the_others_are_served() {
    let house = House::start(Lock::Open);
    let connect = || TcpStream::connect(("127.0.0.1", house.port)).expect("it listens");
    // A body that never comes.
    let mut slow = connect();
    slow.set_read_timeout(Some(PATIENCE)).expect("set");
    let head = "POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 60000\r\n\r\n";
    slow.write_all(head.as_bytes()).expect("taken");
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 408");
    // More connections than there may be: the last is cut, and there is room again when they have gone.
    let many: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    let mut last = many.last().expect("a connection");
    last.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let got = last.read(&mut answer);
    let reset = std::io::ErrorKind::ConnectionReset;
    let is_cut = matches!(&got, Ok(0)) || got.as_ref().is_err_and(|error| error.kind() == reset);
    assert!(is_cut, "it is not cut: {got:?}");
    drop(many);
    house.daemon.wait_until("there is room", || {
        let url = house.url("/healthz");
        let got = Command::new("curl").args(["-s", "--noproxy", "*", &url]).output();
        got.expect("curl is needed").status.success()
    });
}

#[test]
fn odd_requests_are_refused_and_never_break_anything() {
    let house = House::start(Lock::Open);
    let mut random = fastrand::Rng::with_seed(7);
    let paths = [
        "/api/events",
        "/api/preview",
        "/api/session",
        "/api/classify",
        "/api/sources/room/listening",
        "/",
    ];
    let words = [
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "{",
        "}",
        "\"class\"",
        ":",
        "9e999",
        "\u{1F600}",
        "%00",
        "[[",
        "null",
    ];
    for _ in 0..300 {
        let body: String =
            (0..random.usize(0..12)).map(|_| words[random.usize(0..words.len())]).collect();
        let (method, path) = (words[random.usize(0..5)], paths[random.usize(0..paths.len())]);
        let query: String = (0..random.usize(0..3))
            .map(|_| format!("&{}={}", random.alphabetic(), random.u32(..)))
            .collect();
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let length = body.len();
        let head = format!(
            "{method} {path}?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).expect("taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
        let status: u16 = status.parse().unwrap_or_else(|_| panic!("{head}: {answer:?}"));
        assert!(status < 500, "{head}: {status}");
    }
    house.daemon.wait_until("a status", || house.get("/api/status").is_object());
    assert_eq!(house.get("/api/status")["health"]["restarts"], 0);
}
