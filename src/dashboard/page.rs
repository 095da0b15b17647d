//! The page's files, as they lie in `page/`, inside the program.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::reply::Complaint;

/// A file: its name, its kind, its content.
type File = (&'static str, &'static str, &'static [u8]);

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_bytes!(concat!("page/", $name)))
    };
}

const INDEX: File = file!("index.html", HTML);
const FILES: [File; 30] = [
    file!("api.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("axis.js", SCRIPT),
    file!("banner.js", SCRIPT),
    file!("compare.js", SCRIPT),
    file!("config-lines.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("heat-map.js", SCRIPT),
    file!("icon.svg", SVG),
    file!("palette.js", SCRIPT),
    file!("rule-form.js", SCRIPT),
    file!("score-chart.js", SCRIPT),
    file!("sign-in.js", SCRIPT),
    file!("sounds.js", SCRIPT),
    file!("source-panel.js", SCRIPT),
    file!("source-state.js", SCRIPT),
    file!("state.js", SCRIPT),
    file!("still.js", SCRIPT),
    file!("stream.js", SCRIPT),
    file!("style.css", STYLE),
    file!("theme.js", SCRIPT),
    file!("upload.js", SCRIPT),
    file!("view-alerts.js", SCRIPT),
    file!("view-event.js", SCRIPT),
    file!("view-history.js", SCRIPT),
    file!("view-live.js", SCRIPT),
    file!("view-thresholds.js", SCRIPT),
    file!("view-try.js", SCRIPT),
    file!("waterfall.js", SCRIPT),
];

/// The description of the interface.
const OPENAPI: &str = include_str!("openapi.json");

/// `GET /`.
pub async fn index() -> Response {
    respond(&INDEX)
}

/// `GET /{name}`: only names that are in the table lead anywhere.
pub async fn file(Path(name): Path<String>) -> Result<Response, Complaint> {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some(file) => Ok(respond(file)),
        None => Err(super::api::nothing().await),
    }
}

/// `GET /api/openapi.json`.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

fn respond((_, mime, content): &File) -> Response {
    ([(header::CONTENT_TYPE, *mime)], *content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_complete_and_small() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/page");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        there.sort();
        let mut known: Vec<&str> = FILES.iter().chain([&INDEX]).map(|(name, ..)| *name).collect();
        known.sort();
        assert_eq!(there, known);
        let bytes: usize = FILES.iter().chain([&INDEX]).map(|(.., content)| content.len()).sum();
        assert!(bytes < 300_000, "{bytes} bytes");
    }

    #[test]
    fn the_description_names_every_request() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap();
        for path in super::super::PATHS {
            assert!(paths.contains_key(path), "{path} is not described");
        }
        assert_eq!(paths.len(), super::super::PATHS.len());
    }
}
