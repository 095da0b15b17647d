//! `hearken explain`: why sounds did, or did not, become events.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::hear_file::Plan;
use super::state::StateArgs;
use super::{Outcome, Usage, output, when};
use crate::config::{self, Environment, Overrides};
use crate::decide::{Explainer, Verdict};
use crate::hear::SoundModel;
use crate::signal::Timestamp;
use crate::spectrogram::ChannelChoice;
use crate::supervise::RuleProblems;
use crate::supervise::answer::{Explanation, Question, ask};

/// Classes that nobody asked for are shown down to this score.
const WORTH_SHOWING: f32 = 0.05;
/// And no more of them.
const SHOWN_MAX: usize = 10;

#[derive(Args)]
pub struct Explain {
    /// An audio file to explain; without one, the running daemon is asked
    #[arg(conflicts_with_all = ["last", "since", "until", "source"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
    /// The last so many seconds, minutes or hours: 90s, 10m, 1h
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = when::argument)]
    last: Timestamp,
    /// From this time on: 2026-05-01T18:00Z, or how long ago
    #[arg(long, value_name = "TIME", value_parser = when::argument, conflicts_with = "last")]
    since: Option<Timestamp>,
    /// Up to this time
    #[arg(long, value_name = "TIME", value_parser = when::argument)]
    until: Option<Timestamp>,
    /// This source only
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// These classes only, whatever their scores
    #[arg(long = "class", value_delimiter = ',', value_name = "NAME")]
    classes: Vec<String>,
    /// As JSON, with all classes
    #[arg(long)]
    json: bool,
}

/// What became of a class in a file.
#[derive(Serialize)]
struct InFile {
    #[serde(flatten)]
    verdict: Verdict,
    /// End of the window with the best score, in seconds.
    best_at_s: Option<f64>,
}

impl Explain {
    pub fn run(self) -> anyhow::Result<Outcome> {
        match &self.file {
            Some(file) => self.file(file),
            None => self.daemon(),
        }
    }

    fn daemon(&self) -> anyhow::Result<Outcome> {
        let socket = self.state.socket()?;
        let since = self.since.unwrap_or(self.last);
        let until = self.until.map_or_else(|| "now".to_owned(), |until| until.to_string());
        if self.until.is_some_and(|until| since >= until) {
            return Err(Usage(format!("there is no time from {since} to {until}")).into());
        }
        let question = Question::Explain { since, until: self.until, source: self.source.clone() };
        let explained: Vec<Explanation> = ask(&socket, &question)?;
        if let Some(source) = self.source.as_ref().filter(|_| explained.is_empty()) {
            bail!("the daemon has no source {source:?}; `hearken status` lists them");
        }
        if self.json {
            return output::write_all(
                format!("{}\n", serde_json::to_string(&explained)?).as_bytes(),
            );
        }
        for Explanation { source, windows, known_since, classes } in &explained {
            output::write_line(&format!("{source}: {windows} windows from {since} to {until}"))?;
            if let Some(known) = known_since.filter(|known| *known > since) {
                output::write_line(&format!("  (nothing is known from before {known})"))?;
            }
            let lines = classes.iter().map(|class| {
                let at = class.best_at.map(|at| at.to_string()).unwrap_or_default();
                (&class.verdict, at)
            });
            self.write(lines)?;
        }
        Ok(Outcome::Done)
    }

    fn file(&self, file: &Path) -> anyhow::Result<Outcome> {
        let config = self.state.config();
        let settings = config::load(config, &Environment::capture(), &Overrides::default())?;
        let model = SoundModel::load(settings.model.as_deref())?;
        let rules = model.rules(&settings.detection).map_err(RuleProblems)?;
        let plan = Plan { model, rules, hop_s: settings.hop_s, channel: ChannelChoice::default() };
        let mut judge = plan.model.judge()?;
        let (listened, incomplete) = plan.listen(file, &mut judge)?;
        let mut explainer = Explainer::new(plan.rules.clone(), plan.model.classes.len());
        for window in &listened.windows {
            explainer.step(listened.heard(window), true);
        }
        let end_of = |verdict: &Verdict| Some(listened.windows.get(verdict.best_window)?.end_s);
        let verdicts = explainer.verdicts(&plan.model.classes);
        let found: Vec<InFile> = verdicts
            .into_iter()
            .map(|verdict| InFile { best_at_s: end_of(&verdict), verdict })
            .collect();
        if self.json {
            output::write_line(&serde_json::to_string(&found)?)?;
        } else {
            let (shown, count) = (file.display(), listened.windows.len());
            output::write_line(&format!(
                "{shown}: {count} windows in {:.1} s",
                listened.duration_s
            ))?;
            self.write(found.iter().map(|class| {
                let at = class.best_at_s.map(|at| format!("{at:.1} s")).unwrap_or_default();
                (&class.verdict, at)
            }))?;
        }
        if let Some(error) = incomplete {
            output::complain(&error.to_string());
            return Ok(Outcome::SomeFailed);
        }
        Ok(Outcome::Done)
    }

    /// Verdicts, and when the best score was.
    fn write<'a>(
        &self,
        classes: impl Iterator<Item = (&'a Verdict, String)>,
    ) -> anyhow::Result<()> {
        let asked = |class: &Arc<str>| self.classes.iter().any(|name| *name == **class);
        let mut shown = 0;
        for (verdict, at) in classes {
            let worth = verdict.best >= WORTH_SHOWING && shown < SHOWN_MAX;
            if if self.classes.is_empty() { worth } else { asked(&verdict.class) } {
                shown += 1;
                let Verdict { class, best, why, .. } = verdict;
                output::write_line(&format!("  {class}: best score {best:.2} at {at}; {why}"))?;
            }
        }
        if shown == 0 {
            output::write_line("  nothing scored worth mentioning; --class NAME shows a class")?;
        }
        Ok(())
    }
}
