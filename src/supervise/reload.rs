//! SIGHUP: what can change while listening does, the rest is named, and a bad file changes
//! nothing.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Daemon, RuleProblems, check, roster};
use crate::alert::settings::AlertSettings;
use crate::config::Settings;

/// The classification takes new rules between two windows; longer than this, it is stuck.
const PATIENCE: Duration = Duration::from_secs(1);

impl Daemon {
    /// Reads the configuration again and puts in force what can be.
    pub(super) fn reload(&mut self) {
        self.notifier.reloading();
        let fresh = match (self.reread)() {
            Ok(fresh) => fresh,
            Err(error) => {
                let error = error.to_string().replace('\n', "; ");
                tracing::error!("reload: the old settings stay in force: {error}");
                return self.notifier.ready();
            }
        };
        let rules = match check(&self.model, &fresh) {
            Ok(rules) => rules,
            Err(RuleProblems(problems)) => {
                for problem in problems {
                    tracing::error!("reload: the old settings stay in force: {problem}");
                }
                return self.notifier.ready();
            }
        };
        for name in needs_restart(&self.settings, &fresh) {
            tracing::warn!("reload: a change of {name} needs a restart; the old value stays");
        }
        if fresh.detection != self.settings.detection {
            let roster = roster(&self.settings, &self.model, &rules);
            if self.new_rules.send_timeout(rules.clone(), PATIENCE).is_err() {
                tracing::error!("reload: the old settings stay in force: no answer from the stage");
                return self.notifier.ready();
            }
            *self.known.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
            self.sinks.announce(roster);
            self.settings.detection = fresh.detection;
            tracing::info!("reload: the new detection settings are in force");
        } else {
            tracing::info!("reload: nothing has changed in detection");
        }
        self.reload_alerts(fresh.alerts);
        self.notifier.ready();
    }

    fn reload_alerts(&mut self, fresh: AlertSettings) {
        // The node's name needs a restart everywhere.
        let fresh = AlertSettings { node: Arc::clone(&self.settings.node), ..fresh };
        if fresh == self.settings.alerts {
            return;
        }
        if self.sinks.alerts().reload(fresh.clone()) {
            self.settings.alerts = fresh;
            tracing::info!("reload: the new alerts are in force");
        } else {
            tracing::error!("reload: the old alerts stay in force: no answer from their thread");
        }
    }
}

/// The sections that differ and can't change while listening.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let sections = [
        ("node", old.node != new.node),
        ("model", old.model != new.model),
        ("source", old.sources != new.sources),
        ("analysis", old.hop_s != new.hop_s),
        ("mqtt", old.publish != new.publish),
        ("store", old.store != new.store),
        ("clips", old.clips != new.clips),
        ("log", old.log != new.log),
    ];
    sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
