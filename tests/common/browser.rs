//! A headless Chromium, driven by its own WebDriver (W3C Recommendation "WebDriver") with curl.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::broker::free_port;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with one window; it ends when this is dropped.
pub struct Browser {
    driver: Child,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it with a window of 1280x800.
    pub fn start() -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is needed: apt-get install chromium chromium-driver");
        let profile = tempfile::tempdir().expect("a folder");
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--window-size=1280,800".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let deadline = Instant::now() + PATIENCE;
        let mut browser = Self { driver, session: String::new(), _profile: profile };
        while browser.session.is_empty() {
            assert!(Instant::now() < deadline, "no session with {base}");
            // It may not listen yet.
            let made = ask("POST", &base, Some(&wanted)).unwrap_or_default();
            if let Some(id) = made["value"]["sessionId"].as_str() {
                browser.session = format!("{base}/{id}");
            } else {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.session);
        let answer = ask("POST", &url, Some(body)).expect("the browser answers");
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }

    /// Opens a page in the present window.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// Opens a page in another window, and comes back to the present one.
    pub fn open_beside(&self, url: &str) {
        let handle = ask("GET", &format!("{}/window", self.session), None).expect("a window");
        let new = self.post("window/new", &json!({ "type": "window" }));
        self.post("window", &json!({ "handle": new["handle"] }));
        self.open(url);
        self.post("window", &json!({ "handle": handle["value"] }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The value of an expression.
    pub fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"))
    }

    /// Waits until an expression is true.
    pub fn wait(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != true {
            let text = self.value("document.body.innerText");
            assert!(Instant::now() < deadline, "waited for {expression}; the page: {text}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Types into the element that a CSS selector names; clicks when there is nothing to type.
    pub fn act(&self, selector: &str, keys: Option<&str>) {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|pair| pair.values().next()?.as_str());
        let id = id.expect("an element");
        match keys {
            Some(keys) => self.post(&format!("element/{id}/value"), &json!({ "text": keys })),
            None => self.post(&format!("element/{id}/click"), &json!({})),
        };
    }

    /// Changes the window's size.
    pub fn resize(&self, width: u32, height: u32) {
        self.post("goog/cdp/execute", &json!({
            "cmd": "Emulation.setDeviceMetricsOverride",
            "params": { "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 },
        }));
    }

    /// Prefers `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.post(
            "goog/cdp/execute",
            &json!({
                "cmd": "Emulation.setEmulatedMedia", "params": { "features": features },
            }),
        );
    }

    /// Errors in the console, but for requests that were refused on purpose.
    pub fn errors(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        let texts = severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        texts.filter(|text| !text.contains("status of 401")).collect()
    }

    /// Writes what is seen as a PNG.
    pub fn screenshot(&self, path: &Path) {
        use base64::Engine as _;
        let url = format!("{}/screenshot", self.session);
        let answer = ask("GET", &url, None).expect("the browser answers");
        let text = answer["value"].as_str().expect("a picture");
        let png = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        std::fs::write(path, png).expect("written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends Chromium; without it the driver's end does.
            let _ = ask("DELETE", &self.session, None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn ask(method: &str, url: &str, body: Option<&Value>) -> Option<Value> {
    let mut command = Command::new("curl");
    command.args(["-s", "--noproxy", "*", "--max-time", "80", "-X", method, url]);
    if let Some(body) = body {
        let text = body.to_string();
        command.args(["-H", "Content-Type: application/json", "-d", &text]);
    }
    let output = command.output().expect("curl is needed");
    serde_json::from_slice(&output.stdout).ok()
}
