//! Posts to a web server: webhooks, with a signature if there is a secret, and ntfy.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use ring::hmac::{Context, HMAC_SHA256, Key};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, RequestBuilder};

use super::Tried;
use crate::alert::notice::{Notice, one_line};
use crate::alert::settings::{NtfyAction, Url, WebhookAction};
use crate::signal::Timestamp;

/// Of an answer that says what was wrong.
const ANSWER_CHARS_MAX: usize = 200;
const ANSWER_BYTES_MAX: u64 = 4_096;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Posts a notice.
pub fn call_webhook(
    webhook: &WebhookAction,
    notice: &Notice,
    zone: &TimeZone,
    within: Duration,
) -> Tried {
    let filled = webhook.body.as_ref().map(|body| notice.fill_json(body, zone));
    let body = filled.unwrap_or_else(|| notice.json());
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
    post(&webhook.url, within, |mut request| {
        request = request.header("Content-Type", if is_json { JSON } else { TEXT });
        if let Some(secret) = &webhook.secret {
            let timestamp = (Timestamp::now().as_nanos() / 1_000_000_000).to_string();
            let signature = signature(secret.reveal(), &timestamp, &body);
            request = request
                .header("X-Hearken-Timestamp", &timestamp)
                .header("X-Hearken-Signature", &format!("sha256={signature}"));
        }
        request.send(&body)
    })
}

/// Has a push message sent.
pub fn push_ntfy(ntfy: &NtfyAction, title: &str, message: &str, within: Duration) -> Tried {
    post(&ntfy.url, within, |mut request| {
        request = request
            .header("Content-Type", TEXT)
            .header("Priority", &ntfy.priority.to_string())
            // A server of ntfy takes UTF-8 here.
            .header_raw("Title", title.as_bytes());
        if let Some(token) = &ntfy.token {
            request = request.header("Authorization", &format!("Bearer {}", token.reveal()));
        }
        request.send(message)
    })
}

/// HMAC-SHA256 in hexadecimal digits, over the time and the body with a dot between them, so that
/// neither can be changed and an old request is known as old.
fn signature(secret: &str, timestamp: &str, body: &str) -> String {
    let key = Key::new(HMAC_SHA256, secret.as_bytes());
    let mut context = Context::with_key(&key);
    for part in [timestamp, ".", body] {
        context.update(part.as_bytes());
    }
    context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

type Post = RequestBuilder<ureq::typestate::WithBody>;

fn post(
    url: &Url,
    within: Duration,
    send: impl FnOnce(Post) -> Result<Response<Body>, ureq::Error>,
) -> Tried {
    let agent = match agent(url, within) {
        Ok(agent) => agent,
        Err(reason) => return Tried::Failed(format!("{url}: {reason}")),
    };
    match send(agent.post(url.reveal())) {
        Ok(mut response) if response.status().is_success() => {
            let status = response.status().as_u16();
            // Read, so that it is known to have come whole; it says nothing that matters.
            let _ = answer(&mut response);
            Tried::Done(format!("{url} answered {status}"))
        }
        Ok(mut response) => refused(url, &mut response),
        Err(error) => {
            let said = error.to_string().replace(url.reveal(), &url.to_string());
            let failure = format!("{url}: {said}");
            if may_pass(&error) { Tried::Later(failure) } else { Tried::Failed(failure) }
        }
    }
}

fn refused(url: &Url, response: &mut Response<Body>) -> Tried {
    let status = response.status();
    if status.is_redirection() {
        let code = status.as_u16();
        return Tried::Failed(format!(
            "{url} answered {code}: it is elsewhere; give the address that it points to"
        ));
    }
    let said = answer(response);
    let colon = if said.is_empty() { "" } else { ": " };
    let failure = format!("{url} answered {}{colon}{said}", status.as_u16());
    match status {
        StatusCode::TOO_MANY_REQUESTS => Tried::Later(failure),
        status if status.is_server_error() => Tried::Later(failure),
        _ => Tried::Failed(failure),
    }
}

/// The beginning of what a server says, on one line.
fn answer(response: &mut Response<Body>) -> String {
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true);
    let text = body.read_to_string().unwrap_or_default();
    one_line(text.trim()).chars().take(ANSWER_CHARS_MAX).collect()
}

/// Whether another try may go better: what has to do with the way there. Certificates, and what is
/// written wrong, need a person.
fn may_pass(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
        ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Made for each request: they are rare, and the certificates that are trusted may have changed.
fn agent(url: &Url, within: Duration) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(within))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("hearken/", env!("CARGO_PKG_VERSION")));
    if url.is_secure() {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return Err("no trusted certificates were found on this system: install the package \
                        ca-certificates, or set SSL_CERT_FILE"
                .to_owned());
        }
        let trusted = found.certs.iter().map(|der| Certificate::from_der(der).to_owned());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::from(trusted))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        config = config.tls_config(tls.build());
    }
    Ok(config.build().new_agent())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// By openssl.
    fn reference(secret: &str, text: &str) -> String {
        let mut child = Command::new("openssl")
            .args(["dgst", "-sha256", "-r", "-mac", "HMAC", "-macopt", &format!("key:{secret}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl is needed");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    #[test]
    fn signatures_are_those_of_openssl() {
        for (secret, timestamp, body) in [
            ("s", "0", ""),
            ("It's a Secret to Everybody", "1767225600", "Hello, World!"),
            ("é", "1", "{\"class\":\"glass \\\"é\\\"\"}"),
        ] {
            let expected = reference(secret, &format!("{timestamp}.{body}"));
            assert_eq!(signature(secret, timestamp, body), expected, "{secret}");
        }
    }
}
