//! Writing results: standard output, files that are never overwritten unasked, progress.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::Outcome;

/// Writes to standard output.
pub fn write_all(bytes: &[u8]) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("standard output")?;
    Ok(Outcome::Done)
}

/// Writes a line to standard output.
pub fn write_line(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("standard output")
}

/// Says that one input could not be used; the others go on.
pub fn complain(what: &str) {
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "hearken: {what}");
}

/// Whether [`write_file`] would leave what is there, or has no folder to write to; to be asked
/// before long work, too.
pub fn check_free(path: &Path, force: bool) -> anyhow::Result<()> {
    let shown = path.display();
    if !force && path.exists() {
        bail!("{shown} exists already; give --force to overwrite it, or another place");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("{shown} can't be written: there is no folder {}", folder.display());
    }
    Ok(())
}

/// Writes a whole file, or nothing: a temporary file beside it takes its name at the end. An
/// existing file stays as it is unless `force`.
pub fn write_file(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    check_free(path, force)?;
    let shown = path.display();
    let name = path.file_name().with_context(|| format!("{shown} names no file"))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        // It may never have been made; the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("{shown} can't be written"))
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// A progress bar over `count` files, shown on a terminal's standard error only.
pub fn progress(count: usize) -> ProgressBar {
    bar(count, "{bar:30} {pos}/{len} files, {eta} left  {wide_msg}")
}

/// A progress bar over `count` steps of the work that is named, shown on a terminal's standard
/// error only.
pub fn steps(count: usize, work: &'static str) -> ProgressBar {
    bar(count, "{msg:26} {bar:30} {pos}/{len}, {eta} left").with_message(work)
}

fn bar(count: usize, template: &str) -> ProgressBar {
    if count < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count as u64);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Whether an error says no more than that the reader of our output has gone.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
