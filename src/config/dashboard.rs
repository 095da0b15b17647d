//! The dashboard: `[dashboard]` and `[dashboard.tls]`, and the password that comes from a file or from
//! systemd.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::found::Found;
use super::secrets;
use super::section::Section;
use crate::dashboard::password::is_hash;
use crate::dashboard::settings::{DashboardSettings, TlsFiles};
use crate::secret::Secret;

/// The systemd credential that holds the password's hash.
const CREDENTIAL: &str = "dashboard_password";

/// Reads `[dashboard]`; `None` when there is to be none.
pub(super) fn check(
    root: &mut Section,
    folder: Option<&Path>,
    environment: &Environment,
    found: &mut Found,
) -> Option<DashboardSettings> {
    let mut section = root.subsection("dashboard");
    let is_enabled = section.boolean("enabled", true);
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DashboardSettings::PORT);
    let allowed =
        "an address and a port, such as \"127.0.0.1:8787\", \"0.0.0.0:8787\" or \"[::]:8787\"";
    let is_address =
        |text: &str| text.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0);
    let listen = section.text("listen", &format!("\"{default}\""), allowed, is_address);
    let listen = listen.and_then(|text| text.parse().ok()).unwrap_or(default);
    let password_file = section.path("password_file", folder);
    let password = password(&mut section, password_file, environment);
    let tls = tls(&mut section, folder, found);
    // A password that is wrong has been named already.
    if is_enabled
        && !listen.ip().is_loopback()
        && password.is_none()
        && !section.is_set("password_file")
    {
        let message = "other machines can reach this address, so it needs a password: make one with \
                       `hearken password` and name its file in dashboard.password_file";
        section.wrong("listen", message);
    }
    section.finish(found);
    is_enabled.then_some(DashboardSettings { listen, password, tls })
}

/// The hash from the named file, or else from systemd's credential if there is one.
fn password(
    section: &mut Section,
    file: Option<PathBuf>,
    environment: &Environment,
) -> Option<Secret> {
    let found = secrets::file_or_credential(section, file, (CREDENTIAL, "listen"), environment)?;
    if is_hash(found.reveal()) {
        return Some(found);
    }
    let message = "this file holds no hash; it is to hold the line that `hearken password` prints, and \
                   nothing else";
    section.wrong("password_file", message);
    None
}

/// `None` without TLS.
fn tls(section: &mut Section, folder: Option<&Path>, found: &mut Found) -> Option<TlsFiles> {
    let mut tls = section.subsection("tls");
    let files = [tls.path("cert_file", folder), tls.path("key_file", folder)];
    let files = match files {
        [Some(cert_file), Some(key_file)] => Some(TlsFiles { cert_file, key_file }),
        [None, None] => None,
        [cert_file, _] => {
            let (key, other) = match cert_file {
                Some(_) => ("cert_file", "key_file"),
                None => ("key_file", "cert_file"),
            };
            tls.wrong(key, format!("needs dashboard.tls.{other} beside it"));
            None
        }
    };
    tls.finish(found);
    files
}
