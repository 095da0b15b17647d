//! What every request has to pass, and what every answer carries: other web sites can neither make a
//! browser here do something, nor read what is here, nor frame it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Desk;
use super::reply::Complaint;

/// Requests that are worked on at the same time; a live view that has begun is not among them.
pub const REQUESTS_MAX: usize = 64;

/// A body that is no file has so many bytes at most, and so long to come.
const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_WITHIN: Duration = Duration::from_secs(15);
/// Where files come.
const FILE_PATHS: [&str; 2] = ["/api/classify", "/api/correct"];

/// Sent with every answer.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// Lets a request through, or says why not.
pub async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let passed = match check(&desk, &request) {
        Ok(()) => whole(request).await,
        Err(complaint) => Err(complaint),
    };
    let mut response = match (passed, desk.requests.try_acquire()) {
        (Ok(request), Ok(_permit)) => next.run(request).await,
        (Err(complaint), _) => complaint.into_response(),
        (_, Err(_)) => {
            let words = "too many requests at the same time";
            Complaint::later(StatusCode::SERVICE_UNAVAILABLE, words, 1).into_response()
        }
    };
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Pages and data are as fresh as they are asked for; nothing of it stays in caches.
    let fresh = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(fresh);
    response
}

/// The request with its body, which has to be here in time, unless it is a file: those take turns, and
/// have limits of their own.
async fn whole(request: Request) -> Result<Request, Complaint> {
    if FILE_PATHS.contains(&request.uri().path()) {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let late = |_| Complaint::new(StatusCode::REQUEST_TIMEOUT, "the request did not come in time");
    let bytes = tokio::time::timeout(BODY_WITHIN, read).await.map_err(late)?;
    let large = |_| Complaint::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large");
    Ok(Request::from_parts(head, bytes.map_err(large)?.into()))
}

fn check(desk: &Desk, request: &Request) -> Result<(), Complaint> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    // Without a password, being on this machine is what opens. A name that somebody else owns may
    // point here as well (DNS rebinding), and is no proof of that.
    if !desk.door.is_locked() && !host.is_some_and(is_this_machine) {
        let words = "without a password the dashboard is for http://localhost and http://127.0.0.1 alone; set \
                     dashboard.password_file to reach it by other names";
        return Err(Complaint::new(StatusCode::FORBIDDEN, words));
    }
    // Not even to look: it would cost us, though it could not read the answer.
    let is_data = uri.path().starts_with("/api/") || uri.path() == "/metrics";
    let cross = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if (is_data && cross) || (!method.is_safe() && !is_own_page(headers, host)) {
        return Err(Complaint::new(StatusCode::FORBIDDEN, "another web site may not do this"));
    }
    Ok(())
}

/// Whether a `Host` names this machine in a way that nobody else can own.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether the request comes from our own page, or from no page at all. Browsers say where from with
/// every request that changes something; programs don't, and have no cookies of others.
fn is_own_page(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    match text("origin") {
        Some(origin) => origin.split_once("://").map(|(_, origin)| origin) == host,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_own_are_this_machine() {
        for own in ["localhost", "LOCALHOST:8787", "127.0.0.1:8787", "127.3.2.1", "[::1]:8787"] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in ["", "evil.example", "localhost.evil.example:8787", "10.0.0.1", "[::2]:1", ":"]
        {
            assert!(!is_this_machine(other), "{other}");
        }
    }

    #[test]
    fn other_pages_are_told_apart() {
        let own = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            });
            is_own_page(&HeaderMap::from_iter(pairs), Some("a:1"))
        };
        assert!(own(&[]) && own(&[("origin", "http://a:1")]));
        assert!(own(&[("sec-fetch-site", "same-origin"), ("origin", "https://a:1")]));
        assert!(!own(&[("origin", "http://a:2")]) && !own(&[("origin", "null")]));
        assert!(!own(&[("sec-fetch-site", "cross-site")]));
        assert!(!own(&[("sec-fetch-site", "same-site"), ("origin", "http://a:1")]));
    }
}
