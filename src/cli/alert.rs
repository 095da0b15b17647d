//! `hearken alert`: what the running daemon's alerts have done, and a try of what they do.

use clap::{Args, Subcommand};

use super::state::StateArgs;
use super::{Outcome, Usage, output};
use crate::alert::{ActionStatus, AlertStatus, TestError};
use crate::supervise::answer::{AlertTest, Question, ask};

#[derive(Subcommand)]
pub enum Alert {
    /// List the alerts, with what they have told and held back
    List(List),
    /// Run all actions of an alert now, marked as a test
    Test(Test),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    state: StateArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Test {
    /// The alert's name
    name: String,
    #[command(flatten)]
    state: StateArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The alerts can't be tried out at present.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Busy(TestError);

impl Alert {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::List(list) => list.run(),
            Self::Test(test) => test.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let socket = self.state.socket()?;
        let alerts: Vec<AlertStatus> = ask(&socket, &Question::Alerts)?;
        let text = match (self.json, alerts.is_empty()) {
            (true, _) => serde_json::to_string(&alerts)?,
            (false, true) => "the configuration has no [[alert]]".to_owned(),
            (false, false) => alerts.iter().map(words).collect::<Vec<_>>().join("\n"),
        };
        output::write_line(&text)?;
        Ok(Outcome::Done)
    }
}

impl Test {
    /// [`Outcome::SomeFailed`] when an action did not work.
    fn run(self) -> anyhow::Result<Outcome> {
        let socket = self.state.socket()?;
        let question = Question::TestAlert { name: self.name };
        let results = match ask(&socket, &question)? {
            AlertTest::Tried(results) => results,
            AlertTest::Refused(error @ TestError::Unknown { .. }) => {
                return Err(Usage(error.to_string()).into());
            }
            AlertTest::Refused(error @ TestError::Busy) => return Err(Busy(error).into()),
        };
        if self.json {
            output::write_line(&serde_json::to_string(&results)?)?;
        } else {
            for result in &results {
                let word = if result.ok { "done" } else { "FAILED" };
                output::write_line(&format!("{}: {word}: {}", result.action, result.detail))?;
            }
        }
        let is_well = results.iter().all(|result| result.ok);
        Ok(if is_well { Outcome::Done } else { Outcome::SomeFailed })
    }
}

fn words(alert: &AlertStatus) -> String {
    let AlertStatus { name, notices, held_back, out_of_hours, last_notice, actions } = alert;
    let last = last_notice.map(|at| format!(", the last at {at}")).unwrap_or_default();
    let mut lines = vec![format!(
        "{name}: {notices} notices{last}; {held_back} held back; {out_of_hours} sounds at other hours"
    )];
    lines.extend(actions.iter().map(action_words));
    lines.join("\n")
}

fn action_words(action: &ActionStatus) -> String {
    let ActionStatus { kind, done, failed, dropped, waiting, last_error, last_error_at, .. } =
        action;
    let error = last_error.as_ref().map(|error| {
        let at = last_error_at.map(|at| format!(" at {at}")).unwrap_or_default();
        let word = if action.is_failing { "FAILING" } else { "last error" };
        format!("; {word}{at}: {error}")
    });
    let error = error.unwrap_or_default();
    format!("  {kind}: {done} done, {failed} failed, {dropped} dropped, {waiting} waiting{error}")
}
