//! `hearken events`: what was heard.

use std::collections::HashSet;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::state::StateArgs;
use super::{Outcome, output, when};
use crate::signal::Timestamp;
use crate::store::{Database, EventFilter, EventRow};

/// How often `--follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);
/// Changes that are read at once.
const FOLLOW_MAX: u32 = 1_000;

#[derive(Args)]
pub struct Events {
    #[command(flatten)]
    state: StateArgs,
    /// Events of this class only; may be given often, or with commas
    #[arg(long = "class", value_delimiter = ',', value_name = "NAME")]
    classes: Vec<String>,
    /// Events of this source only; may be given often, or with commas
    #[arg(long = "source", value_delimiter = ',', value_name = "NAME")]
    sources: Vec<String>,
    /// From this time on: 2026-05-01, 2026-05-01T18:00Z, or how long ago: 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = when::argument)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = when::argument)]
    until: Option<Timestamp>,
    /// With at least this score, 0 to 1
    #[arg(long, value_name = "SCORE")]
    min_score: Option<f32>,
    /// The newest so many
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: u32,
    /// Go on with what changes, until interrupted
    #[arg(long, conflicts_with = "until")]
    follow: bool,
    /// How events are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// One line of JSON an event; the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Events by day (UTC), source and class instead, also of days whose events are deleted
    #[arg(long, conflicts_with_all = ["follow", "since", "until", "min_score", "limit"])]
    daily: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

impl Events {
    pub fn run(self) -> anyhow::Result<Outcome> {
        let path = self.state.settings()?.database();
        let database = Database::read(&path)?;
        let format = if self.json { Format::Json } else { self.format };
        if self.daily {
            return daily(&database, format, [&self.sources, &self.classes]);
        }
        let mut filter = EventFilter {
            classes: self.classes,
            sources: self.sources,
            since: self.since,
            until: self.until,
            score_min: self.min_score,
            ..EventFilter::default()
        };
        if format == Format::Csv {
            write_csv(&HEADER)?;
        }
        // Before the list, so that nothing falls between the two.
        let mut seen = database.revision()?;
        // Those that are on: how far they are heard to last is noted every few seconds.
        let mut on = HashSet::new();
        for row in database.events(&filter, self.limit)? {
            write(&row, format)?;
            on.extend(row.end.is_none().then_some(row.id));
        }
        if !self.follow {
            return Ok(Outcome::Done);
        }
        loop {
            std::thread::sleep(FOLLOW_EVERY);
            filter.after = Some(seen);
            for row in database.events(&filter, FOLLOW_MAX)? {
                seen = row.revision;
                if row.end.is_some() || on.insert(row.id.clone()) {
                    write(&row, format)?;
                }
                if row.end.is_some() {
                    on.remove(&row.id);
                }
            }
        }
    }
}

const HEADER: [&str; 13] = [
    "id",
    "node",
    "source",
    "class",
    "start",
    "end",
    "seconds",
    "score_peak",
    "score_mean",
    "level_dbfs",
    "ending",
    "clip",
    "delivered",
];

fn write(row: &EventRow, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::write_line(&serde_json::to_string(row)?),
        Format::Csv => write_csv(&[
            &row.id,
            &row.node,
            &row.source,
            &row.class,
            &row.start.to_string(),
            &row.end.map(|end| end.to_string()).unwrap_or_default(),
            &format!("{:.3}", row.heard.seconds_since(row.start)),
            &format!("{:.4}", row.score_peak),
            &format!("{:.4}", row.score_mean),
            &format!("{:.1}", row.level_dbfs),
            row.ending.as_deref().unwrap_or_default(),
            row.clip.as_deref().unwrap_or_default(),
            &row.delivered.to_string(),
        ]),
        Format::Table => output::write_line(&line(row)),
    }
}

fn line(row: &EventRow) -> String {
    let seconds = row.heard.seconds_since(row.start);
    let EventRow { start, source, class, score_peak, level_dbfs, .. } = row;
    let length = match row.end {
        Some(_) => format!("{seconds:.1} s"),
        None => format!("{seconds:.0} s, still on"),
    };
    let notes = [
        (row.ending.as_deref() == Some("restart")).then_some("cut off by a restart"),
        (!row.delivered).then_some("not delivered"),
        row.clip.as_deref(),
    ];
    let notes: Vec<&str> = notes.into_iter().flatten().collect();
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) };
    format!("{start}  {source}  {class}  {score_peak:.2}  {level_dbfs:.0} dBFS  {length}{notes}")
}

fn daily(
    database: &Database,
    format: Format,
    [sources, classes]: [&[String]; 2],
) -> anyhow::Result<Outcome> {
    let wanted = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    if format == Format::Csv {
        write_csv(&["day", "source", "class", "events"])?;
    }
    for (day, source, class, events) in database.daily()? {
        if !wanted(sources, &source) || !wanted(classes, &class) {
            continue;
        }
        match format {
            Format::Json => output::write_line(
                &serde_json::json!({ "day": day, "source": source, "class": class, "events": events })
                    .to_string(),
            )?,
            Format::Csv => write_csv(&[&day, &source, &class, &events.to_string()])?,
            Format::Table => output::write_line(&format!("{day}  {source}  {class}  {events}"))?,
        }
    }
    Ok(Outcome::Done)
}

/// One row of CSV (RFC 4180).
fn write_csv(fields: &[&str]) -> anyhow::Result<()> {
    let quoted = |field: &&str| {
        let plain = !field.contains([',', '"', '\n', '\r']);
        if plain { (*field).to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    };
    output::write_line(&fields.iter().map(quoted).collect::<Vec<_>>().join(","))
}
