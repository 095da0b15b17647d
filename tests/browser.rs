//! The dashboard's page in a real browser, against a daemon that hears the recording in real time. With
//! `HEARKEN_SCREENSHOTS` set to a folder, pictures of every view are left there.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/browser.rs"]
mod browser;
#[path = "common/daemon.rs"]
mod daemon;

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use broker::free_port;
use browser::Browser;
use daemon::{Daemon, hearken, repository};
use serde_json::Value;
use tempfile::TempDir;

const PASSWORD: &str = "correct horse";
const PANEL: &str = "document.querySelector('section.panel[aria-label=room]')";

/// A daemon behind a password, with a microphone's stand-in named `room`.
struct House {
    daemon: Daemon,
    port: u16,
    _folder: TempDir,
}

impl House {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut command = hearken(["password"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        writeln!(child.stdin.take().expect("piped"), "{PASSWORD}").expect("taken");
        let hash = child.wait_with_output().expect("it ends").stdout;
        std::fs::write(folder.path().join("password"), hash).expect("written");
        let config = folder.path().join("config.toml");
        let (recording, state) = (repository("assets/soundscape.ogg"), folder.path().join("state"));
        let text = format!(
            "node = \"attic\"\nmqtt.enabled = false\nstore.folder = {state:?}\nclips.enabled = true\n\
             [[source]]\nname = \"room\"\nfile = {recording:?}\nrepeat = true\n\
             [dashboard]\nlisten = \"127.0.0.1:{port}\"\npassword_file = \"password\"\n"
        );
        std::fs::write(&config, text).expect("written");
        let mut command = hearken(["run", "--config"]);
        command.arg(&config).env_remove("HEARKEN_DASHBOARD__ENABLED");
        let daemon = Daemon::start(command);
        daemon.wait_for_log(&["dashboard at"]);
        Self { daemon, port, _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn get(&self, path: &str) -> Value {
        let header = format!("Authorization: Bearer {PASSWORD}");
        let output = Command::new("curl")
            .args(["-s", "--noproxy", "*", "-H", &header, &self.url(path)])
            .output()
            .expect("curl is needed");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("HEARKEN_SCREENSHOTS") {
        let folder = PathBuf::from(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        browser.screenshot(&folder.join(format!("{name}.png")));
    }
}

fn sign_in(browser: &Browser, house: &House) {
    browser.open(&house.url(""));
    browser.wait("document.querySelector('dialog#sign-in[open], section.lone button')");
    browser.run("document.querySelector('dialog#sign-in[open]') || document.querySelector('section.lone button').click()");
    browser.act("#password", Some("wrong horse"));
    browser.act("#sign-in-submit", None);
    browser.wait("document.querySelector('#sign-in-error').textContent");
    assert_eq!(browser.value("document.querySelectorAll('section.panel').length"), 0);
    browser.act("#password", Some(PASSWORD));
    browser.act("#sign-in-submit", None);
    browser.wait(PANEL);
}

#[test]
fn a_siren_is_seen_lights_up_and_is_remembered() {
    let browser = Browser::start();
    let house = House::start();
    browser.prefer("dark");
    sign_in(&browser, &house);

    // It is on, in the page, in the title, and in the picture.
    browser.wait(&format!("/siren/i.test({PANEL}?.querySelector('.chips')?.textContent)"));
    browser.wait("document.title.startsWith('●')");
    // Those of `hearken spectrogram`, as the interface gives them.
    let palette = house.get("api/model")["palette"].clone();
    browser.run(&format!(
        "const bytes = atob({palette}); window.palette = new Set();
         for (let at = 0; at < bytes.length; at += 3) window.palette.add(
           bytes.charCodeAt(at) << 16 | bytes.charCodeAt(at + 1) << 8 | bytes.charCodeAt(at + 2));
         window.coloursSeen = () => {{
           const canvas = {PANEL}.querySelector('canvas'), copy = document.createElement('canvas');
           copy.width = canvas.width; copy.height = canvas.height;
           const context = copy.getContext('2d'), seen = new Set(); context.drawImage(canvas, 0, 0);
           const data = context.getImageData(0, 0, copy.width, copy.height).data;
           for (let at = 0; at < data.length; at += 4)
             seen.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
           return [...seen].filter((colour) => window.palette.has(colour)).length; }}"
    ));
    browser.wait("window.coloursSeen() > 60");

    // A second window, and one that never reads: this one goes on all the same.
    browser.open_beside(&house.url("#/live"));
    let mut stuck = TcpStream::connect(("127.0.0.1", house.port)).expect("it listens");
    let request = format!(
        "GET /api/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {PASSWORD}\r\n\r\n"
    );
    stuck.write_all(request.as_bytes()).expect("taken");

    // What is remembered is what the interface says.
    browser.wait(&format!("/glass/i.test({PANEL}?.querySelector('.chips')?.textContent)"));
    picture(&browser, "live-dark");
    browser.open(&house.url("#/history"));
    browser.wait("/siren/i.test(document.querySelector('table.events tbody')?.textContent)");
    browser.wait("document.querySelectorAll('table.events tbody tr').length >= 2");
    picture(&browser, "history-dark");
    let siren = house.get("api/events?class=siren");
    let id = siren["events"].as_array().expect("a list").last().expect("a siren")["id"].as_str();
    let id = id.expect("an id").to_owned();
    browser.wait(&format!("document.querySelector('a[href$=\"#/event/{id}\"]')"));
    house.daemon.wait_until("a clip", || house.get(&format!("api/events/{id}"))["clip"] == true);
    browser.open(&house.url(&format!("#/event/{id}")));
    browser.wait("document.querySelector('audio')?.src");
    browser.wait("[...document.querySelectorAll('main img, main canvas')].some(x => (x.naturalWidth ?? x.width) >= 227)");
    picture(&browser, "event-dark");

    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn thresholds_are_tried_and_every_view_fits_a_phone() {
    let browser = Browser::start();
    let house = House::start();
    browser.prefer("light");
    sign_in(&browser, &house);
    browser.wait(&format!("/siren/i.test({PANEL}?.querySelector('.chips')?.textContent)"));
    picture(&browser, "live-light");

    browser.open(&house.url("#/thresholds?class=siren"));
    let figure =
        |kind: &str| format!("document.querySelector('.figure.{kind} strong')?.textContent");
    browser.wait(&format!("Number({}) >= 1", figure("now")));
    let fired = browser.value(&figure("now"));
    assert_eq!(browser.value(&figure("would")), fired);
    // The recording is heard over and over: there may be one more by now.
    let kept = house.get("api/events?class=siren")["events"].as_array().map_or(0, Vec::len);
    let fired: usize = fired.as_str().and_then(|text| text.parse().ok()).expect("a number");
    assert!(kept == fired || kept == fired + 1, "{kept} are kept, {fired} would have fired");
    // A threshold that nothing reaches.
    browser.run(
        "const input = document.querySelector('form.rule input[type=number]'); input.value = '1';
         input.dispatchEvent(new Event('input', { bubbles: true }))",
    );
    browser.wait(&format!("{} === '0'", figure("would")));
    let lines = browser.value("document.querySelector('pre').textContent");
    let lines = lines.as_str().expect("text");
    assert!(lines.contains("[detection.class.siren]") && lines.contains("on = 1"), "{lines}");
    assert!(lines.contains("at_once = 1\n"), "{lines}");
    // Half a number takes no other along, and less than the others takes them along.
    let typed = |place: usize, text: &str| {
        browser.run(&format!(
            "const input = document.querySelectorAll('form.rule fieldset input[type=number]')[{place}];
             for (const text of ['0', '{text}']) {{
               input.value = text; input.dispatchEvent(new Event('input', {{ bubbles: true }}));
             }}
             input.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        ));
        let lines = browser.value("document.querySelector('pre').textContent");
        lines.as_str().expect("text").to_owned()
    };
    assert!(typed(0, "0.9").contains("on = 0.9\noff = 0."), "{lines}");
    let sure = typed(2, "0.95");
    assert!(sure.contains("on = 0.9\n") && sure.contains("at_once = 0.95\n"), "{sure}");
    let lower = typed(2, "0.3");
    assert!(lower.contains("on = 0.3\n") && lower.contains("at_once = 0.3\n"), "{lower}");
    let never = typed(0, "0.8");
    assert!(never.contains("on = 0.8\n") && never.contains("at_once = 1\n"), "{never}");
    picture(&browser, "thresholds-light");

    browser.resize(390, 844);
    for view in ["live", "history", "thresholds", "try", "alerts"] {
        browser.open(&house.url(&format!("#/{view}")));
        browser.wait("document.querySelector('main h1')");
        if view == "live" {
            browser.wait("document.querySelector('.scores .number')?.textContent");
        }
        let width = browser.value("document.documentElement.scrollWidth").as_u64();
        assert!(width.expect("a number") <= 390, "{view} is {width:?} wide");
        picture(&browser, &format!("{view}-phone"));
    }
    browser.resize(1280, 800);
    // A hidden page asks for nothing: signing out ends what it may see.
    browser.act("#account", None);
    browser.wait("document.querySelector('dialog#sign-in[open], section.lone')");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
