//! Results as a table, CSV, JSON lines or Audacity labels.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::hear_file::Verdict;
use crate::cli::{Outcome, output};
use crate::hear::SoundModel;
use crate::signal::ClassScore;

/// Classes in `top`.
const TOP: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// A row an event, or one row for a file without events
    Csv,
    /// A line of JSON a file
    Json,
    /// Label tracks: start, end, class
    Audacity,
}

/// Writes results, one file after the other.
pub struct Reporter {
    format: Format,
    model: SoundModel,
    out_dir: Option<PathBuf>,
    force: bool,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    file: &'a str,
    class: &'a str,
    score: f32,
    top: &'a [ClassScore],
    events: Vec<JsonEvent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct JsonEvent<'a> {
    class: &'a str,
    start: f64,
    end: f64,
    peak: f32,
}

impl Reporter {
    /// Writes what comes before the first file.
    pub fn new(
        format: Format,
        model: SoundModel,
        out_dir: Option<PathBuf>,
        force: bool,
    ) -> anyhow::Result<Self> {
        if format == Format::Csv {
            output::write_line("file,class,score,event,start_s,end_s,peak")?;
        }
        if let Some(folder) = &out_dir {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{} can't be made", folder.display()))?;
        }
        Ok(Self { format, model, out_dir, force })
    }

    /// Writes one file's result. A file that could only be read in part is reported, and said.
    pub fn report(&mut self, path: &Path, verdict: &Verdict) -> anyhow::Result<Outcome> {
        let file = path.display().to_string();
        let top = self.model.top(&verdict.scores, TOP);
        match self.format {
            Format::Json => output::write_line(&self.json(&file, &top, verdict)?)?,
            Format::Csv => {
                for line in self.csv(&file, &top, verdict) {
                    output::write_line(&line)?;
                }
            }
            Format::Table => output::write_line(&self.table(&file, &top, verdict))?,
            Format::Audacity => {
                if let Err(error) = self.labels(path, verdict) {
                    output::complain(&format!("{error:#}"));
                    return Ok(Outcome::SomeFailed);
                }
            }
        }
        match &verdict.incomplete {
            None => Ok(Outcome::Done),
            Some(error) => {
                output::complain(&format!("{error} (what came before was heard)"));
                Ok(Outcome::SomeFailed)
            }
        }
    }

    fn json(&self, file: &str, top: &[ClassScore], verdict: &Verdict) -> anyhow::Result<String> {
        let best = top.first();
        let line = JsonLine {
            file,
            class: best.map_or("", |best| &best.class),
            score: best.map_or(0.0, |best| best.score),
            top,
            events: self
                .events(verdict)
                .map(|(class, start, end, peak)| JsonEvent { class, start, end, peak })
                .collect(),
            error: verdict.incomplete.as_ref().map(ToString::to_string),
        };
        Ok(serde_json::to_string(&line)?)
    }

    fn csv(&self, file: &str, top: &[ClassScore], verdict: &Verdict) -> Vec<String> {
        let (class, score) = top.first().map_or(("", 0.0), |best| (&*best.class, best.score));
        let head = format!("{},{},{score:.4}", quoted(file), quoted(class));
        if verdict.events.is_empty() {
            return vec![format!("{head},,,,")];
        }
        let row = |(event, start, end, peak): (&str, f64, f64, f32)| {
            format!("{head},{},{start:.2},{end:.2},{peak:.4}", quoted(event))
        };
        self.events(verdict).map(row).collect()
    }

    fn table(&self, file: &str, top: &[ClassScore], verdict: &Verdict) -> String {
        let best: Vec<String> =
            top.iter().take(3).map(|best| format!("{} {:.2}", best.class, best.score)).collect();
        let mut text = format!("{file}\n    {}", best.join("  "));
        for (class, start, end, peak) in self.events(verdict) {
            let (start, end) = (clock(start), clock(end));
            // Writing to a String can't fail.
            let _ = write!(text, "\n    {start} - {end}  {class}  {peak:.2}");
        }
        text
    }

    fn labels(&self, path: &Path, verdict: &Verdict) -> anyhow::Result<()> {
        let mut text = String::new();
        for (class, start, end, _) in self.events(verdict) {
            let _ = writeln!(text, "{start:.3}\t{end:.3}\t{class}");
        }
        match &self.out_dir {
            None => output::write_all(text.as_bytes()).map(|_| ()),
            Some(folder) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                let mut name = name.to_owned();
                name.push(".txt");
                output::write_file(&folder.join(name), text.as_bytes(), self.force)
            }
        }
    }

    fn events<'a>(
        &'a self,
        verdict: &'a Verdict,
    ) -> impl Iterator<Item = (&'a str, f64, f64, f32)> {
        verdict.events.iter().map(|event| {
            let class = self.model.classes.get(event.class).map_or("", |class| class);
            (class, round(event.start_s), round(event.end_s), event.score_peak)
        })
    }
}

/// To milliseconds: more digits would promise more than a window's hop can know.
fn round(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

fn clock(seconds: f64) -> String {
    // Rounded before it is divided, or there would be a sixtieth second.
    let tenths = (seconds.max(0.0) * 10.0).round() as u64;
    format!("{:02}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

/// A CSV field (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_are_quoted_when_they_must_be() {
        assert_eq!(quoted("a.wav"), "a.wav");
        assert_eq!(quoted("a, \"b\".wav"), "\"a, \"\"b\"\".wav\"");
    }

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!(clock(5.04), "00:05.0");
        assert_eq!(clock(59.97), "01:00.0");
        assert_eq!(clock(3_661.5), "61:01.5");
    }
}
