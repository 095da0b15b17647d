//! Sends mail by an SMTP server.

use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, SmtpTransport, Transport as _};

use super::Tried;
use crate::alert::settings::{SmtpSettings, SmtpTls};

/// Sends one mail to all addresses.
pub fn send(
    smtp: &SmtpSettings,
    to: &[String],
    title: &str,
    text: &str,
    within: Duration,
) -> Tried {
    let place = format!("{}:{}", smtp.host, smtp.port);
    let sent = message(&smtp.from, to, title, text)
        .and_then(|message| transport(smtp, within).map(|transport| (message, transport)));
    let (message, transport) = match sent {
        Ok(ready) => ready,
        Err(reason) => return Tried::Failed(format!("{place}: {reason}")),
    };
    match transport.send(&message) {
        Ok(_) => Tried::Done(format!("{place} took it")),
        Err(error) => {
            let failure = format!("{place}: {}", chain(&error));
            // Certificates and what the server refuses for good need a person.
            let is_final = error.is_permanent() || error.is_client() || error.is_tls();
            if is_final { Tried::Failed(failure) } else { Tried::Later(failure) }
        }
    }
}

/// Whether text is an address that mail can be sent to. Domains with other letters than ASCII are
/// written in their ASCII form (`xn--...`).
pub fn is_address(text: &str) -> bool {
    text.is_ascii() && text.parse::<Address>().is_ok()
}

fn message(from: &str, to: &[String], title: &str, text: &str) -> Result<Message, String> {
    let mailbox = |address: &str| {
        let address = address.parse::<Address>().map_err(|error| format!("{address}: {error}"))?;
        Ok::<_, String>(Mailbox::new(None, address))
    };
    let sender = mailbox(from)?;
    let domain = sender.email.domain().to_owned();
    let id = format!("<{}@{domain}>", crate::signal::EventId::new());
    let mut builder = Message::builder()
        .from(sender)
        .subject(title)
        .message_id(Some(id))
        .header(ContentType::TEXT_PLAIN);
    for address in to {
        builder = builder.to(mailbox(address)?);
    }
    let mut message = builder.body(text.to_owned()).map_err(|error| error.to_string())?;
    // RFC 3834: nobody's absence note is to answer.
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
    Ok(message)
}

fn transport(smtp: &SmtpSettings, within: Duration) -> Result<SmtpTransport, String> {
    let parameters =
        || TlsParameters::new(smtp.host.clone()).map_err(|error| format!("TLS: {}", chain(&error)));
    let tls = match smtp.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::Starttls => Tls::Required(parameters()?),
        SmtpTls::Wrapped => Tls::Wrapper(parameters()?),
    };
    let mut builder =
        SmtpTransport::builder_dangerous(&smtp.host).port(smtp.port).tls(tls).timeout(Some(within));
    if let (Some(user), Some(password)) = (&smtp.user, &smtp.password) {
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        builder = builder.credentials(credentials);
    }
    Ok(builder.build())
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    crate::alert::notice::one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in
            ["me@example.org", "a.b+c@localhost", "x@xn--bcher-kva.example", "me@[127.0.0.1]"]
        {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "me",
            "me@",
            "Me <me@example.org>",
            "me@bücher.example",
            "a@b, c@d",
            "a@b\r\nBcc: c@d",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_mail_can_not_be_given_other_headers() {
        let message = message("a@b.c", &["d@e.f".to_owned()], "x\r\nBcc: g@h.i", "text\r\n.\r\n");
        let text = String::from_utf8(message.unwrap().formatted()).unwrap();
        assert!(!text.contains("\nBcc:"), "{text}");
        assert!(text.contains("\r\nAuto-Submitted: auto-generated\r\n"), "{text}");
    }
}
