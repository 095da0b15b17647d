//! `hearken password`: the hash of a password for the dashboard.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Outcome, output};
use crate::dashboard::password::hash;

/// Characters that a password has at least.
const CHARS_MIN: usize = 8;
/// A longer line is no password.
const LINE_BYTES_MAX: u64 = 1_024;

/// Reads a password from the terminal, or a line from standard input.
#[derive(Args)]
pub struct Password {}

impl Password {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let stdin = std::io::stdin();
        let password = if stdin.is_terminal() {
            let first = rpassword::prompt_password("Password for the dashboard: ")
                .context("the terminal can't be read")?;
            let again =
                rpassword::prompt_password("Once more: ").context("the terminal can't be read")?;
            if first != again {
                bail!("the two are not the same");
            }
            first
        } else {
            use std::io::Read as _;
            let mut line = String::new();
            let read = stdin.lock().take(LINE_BYTES_MAX + 2).read_line(&mut line);
            read.context("standard input")?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        };
        if password.chars().count() < CHARS_MIN || password.len() as u64 > LINE_BYTES_MAX {
            bail!(
                "a password has {CHARS_MIN} characters or more, and at most {LINE_BYTES_MAX} bytes"
            );
        }
        output::write_line(hash(&password).map_err(anyhow::Error::msg)?.reveal())?;
        Ok(Outcome::Done)
    }
}
