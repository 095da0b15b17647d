//! `hearken model`: what a model file says of itself, and how a network becomes one.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::{Outcome, output};
use crate::hear::{LoadError, SoundModel, embedded_model, read_model_file};
use crate::network::{Activation, Artifact, Metadata, wrap};
use crate::spectrogram::Recipe;

/// Longer lists are counted, not shown.
const LISTED_MAX: usize = 60;

#[derive(Subcommand)]
pub enum Model {
    /// Print what a model file says of itself
    Show(Show),
    /// Put metadata into a plain ONNX file, so that it becomes a model
    Wrap(Wrap),
}

#[derive(Args)]
pub struct Show {
    /// The model file; without it the one in this program
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Wrap {
    /// A network: one input [1, 1, 227, 227] or [1, 3, 227, 227] of pixels 0..255, one output [1, classes]
    onnx: PathBuf,
    /// JSON: task, outputs, activation, decision, card
    #[arg(long, value_name = "FILE")]
    card: PathBuf,
    /// JSON: the spectrogram recipe
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite it if it exists
    #[arg(long)]
    force: bool,
}

/// What a card file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFile {
    task: String,
    outputs: Vec<String>,
    activation: Activation,
    decision: Value,
    card: Value,
}

impl Model {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Show(show) => show.run(),
            Self::Wrap(wrap) => wrap.run(),
        }
    }
}

impl Show {
    fn run(self) -> anyhow::Result<Outcome> {
        let (bytes, name) = match &self.file {
            Some(path) => (read_model_file(path)?, path.display().to_string()),
            None => (embedded_model().to_vec(), "(embedded)".to_owned()),
        };
        let invalid = |error| LoadError::Invalid { name: name.clone(), error };
        let artifact = Artifact::read(&bytes).map_err(invalid)?;
        let (metadata, digest) = (artifact.metadata.clone(), artifact.digest.clone());
        artifact.into_network().map_err(invalid)?;
        let text = if self.json {
            let all = serde_json::json!({
                "digest": digest, "task": metadata.task, "outputs": metadata.outputs,
                "activation": metadata.activation, "recipe": recipe_value(&metadata),
                "recipe_hash": metadata.recipe_hash, "decision": metadata.decision,
                "card": metadata.card, "bytes": bytes.len(),
            });
            serde_json::to_string_pretty(&all)?
        } else {
            describe(&metadata, &digest, bytes.len(), &name)
        };
        output::write_line(&text)?;
        Ok(Outcome::Done)
    }
}

impl Wrap {
    fn run(self) -> anyhow::Result<Outcome> {
        let onnx = read_model_file(&self.onnx)?;
        let card: CardFile = serde_json::from_str(&read_text(&self.card)?)
            .with_context(|| format!("{} is no card", self.card.display()))?;
        let recipe = Recipe::parse(&read_text(&self.recipe)?)
            .with_context(|| format!("{} is no recipe", self.recipe.display()))?;
        let metadata = Metadata {
            task: card.task,
            recipe: recipe.text(),
            recipe_hash: recipe.hash(),
            outputs: card.outputs,
            activation: card.activation,
            decision: card.decision,
            card: card.card,
        };
        let name = self.onnx.display();
        let wrapped = wrap(&onnx, &metadata).with_context(|| format!("{name}"))?;
        if metadata.task == "sound" {
            SoundModel::from_bytes(&wrapped, &name.to_string())?;
        }
        output::write_file(&self.out, &wrapped, self.force)?;
        Ok(Outcome::Done)
    }
}

fn read_text(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

fn recipe_value(metadata: &Metadata) -> Value {
    serde_json::from_str(&metadata.recipe).unwrap_or(Value::Null)
}

fn describe(metadata: &Metadata, digest: &str, bytes: usize, name: &str) -> String {
    let mut lines = vec![
        format!("model      {name}"),
        format!("digest     {digest}"),
        format!("size       {:.1} MB", bytes as f64 / 1e6),
        format!("task       {}", metadata.task),
        format!("recipe     {}", metadata.recipe_hash.get(..16).unwrap_or_default()),
    ];
    indent(&mut lines, &recipe_value(metadata), 1);
    lines.push("card".to_owned());
    indent(&mut lines, &metadata.card, 1);
    lines.push("decision".to_owned());
    indent(&mut lines, &metadata.decision, 1);
    lines.push(format!("outputs    {} ({:?})", metadata.outputs.len(), metadata.activation));
    for row in metadata.outputs.chunks(5) {
        lines.push(format!("  {}", row.join("  ")));
    }
    lines.join("\n")
}

fn indent(lines: &mut Vec<String>, value: &Value, depth: usize) {
    let Value::Object(fields) = value else { return };
    let space = "  ".repeat(depth);
    for (key, value) in fields {
        match value {
            Value::Object(_) if depth < 3 && key != "default" && !is_rule(value) => {
                lines.push(format!("{space}{key}"));
                indent(lines, value, depth + 1);
            }
            Value::Array(values) if values.len() > LISTED_MAX => {
                lines.push(format!("{space}{key}: {} values", values.len()));
            }
            Value::String(text) => lines.push(format!("{space}{key}: {text}")),
            other => lines.push(format!("{space}{key}: {other}")),
        }
    }
}

/// Rules are short enough for one line each.
fn is_rule(value: &Value) -> bool {
    value.get("on").is_some()
}
