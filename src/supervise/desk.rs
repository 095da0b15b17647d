//! What the daemon answers the dashboard: the one place where the store, the scores, the model and
//! the commands are seen from outside.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};

use base64::Engine as _;
use crossbeam_channel::Sender;
use serde_json::{Value, json};

use super::answer::{Known, NodeStatus};
use super::files;
use super::tally::Tally;
use crate::alert::{AlertStatus, TestError};
use crate::correct::ColourModel;
use crate::dashboard::house::{
    AlertFigures, CorrectedPhoto, EventQuestion, Figures, House, Preview, Refused,
};
use crate::decide::{ClassRule, RuleOverride, Rules};
use crate::hear::SoundModel;
use crate::signal::{Command, SourceName, Timestamp};
use crate::spectrogram::{FilterBank, Image, palette};
use crate::store::{Database, EventFilter, EventRow, StoreError};

/// Events in an answer, unless asked, and at most.
const EVENTS: u32 = 100;
const EVENTS_MAX: u32 = 500;
/// Hours that are counted unless asked: 31 days.
const HOURS_S: f64 = 31.0 * 86_400.0;

/// What the answers come from.
pub struct Desk {
    pub known: Arc<Known>,
    pub tally: Arc<Tally>,
    pub model: SoundModel,
    pub hop_s: f32,
    /// The database, if events are kept.
    pub database: Option<PathBuf>,
    /// The folder of clips, if any are kept.
    pub clips: Option<PathBuf>,
    pub sources: Vec<SourceName>,
    pub commands: Sender<Command>,
    /// Loaded when it is first needed.
    pub colour: OnceLock<ColourModel>,
}

impl House for Desk {
    fn status(&self) -> Value {
        json!(*self.known.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn figures(&self) -> Figures {
        let status = self.known.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut figures = status.map(figures).unwrap_or_default();
        figures.events = self.tally.events();
        figures.inference = self.tally.inference.distribution();
        figures.latency = self.tally.latency.distribution();
        figures.alerts = self.known.alerts.status().iter().map(alert_figures).collect();
        figures.alert_lost_events = self.known.alerts.lost_events();
        figures
    }

    fn model(&self) -> Value {
        let (recipe, metadata) = (&self.model.recipe, &self.model.metadata);
        let palette: Vec<u8> = palette().into_iter().flatten().collect();
        json!({
            "name": metadata.card.get("name"),
            "digest": self.model.digest,
            "classes": self.model.classes,
            "reported": self.model.reported(&self.rules_now()),
            "window_s": recipe.window_s(),
            "hop_s": self.hop_s,
            "columns": Image::SIDE,
            "bands": recipe.bands,
            "band_hz": FilterBank::centres_hz(recipe),
            "palette": base64::engine::general_purpose::STANDARD.encode(palette),
        })
    }

    fn rules(&self) -> Value {
        let rules = self.rules_now();
        let of_class = |(name, rule): (&Arc<str>, &Option<ClassRule>)| {
            let ClassRule { rule, .. } = rule.as_ref()?;
            Some(json!({
                "class": name,
                "on": rule.on,
                "off": rule.off,
                "hits": rule.hits,
                "of": rule.of,
                "at_once": rule.at_once,
                "min_duration_s": rule.min_duration_s,
                "hold_s": rule.hold_s,
                "cooldown_s": rule.cooldown_s,
                "suppressed_by": rule.suppressed_by,
            }))
        };
        let pairs = self.model.classes.iter().zip(&rules.by_class);
        let all: Vec<Value> = pairs.filter_map(of_class).collect();
        json!({ "min_level_dbfs": rules.min_level_dbfs, "rules": all })
    }

    fn preview(&self, question: Preview) -> Result<Value, Refused> {
        if let Some(source) = &question.source {
            self.check_source(source)?;
        }
        let rules = self.rules_now();
        let class = self.class(&question.class)?;
        let other = changed(&rules, class, &question)?;
        let replay = self.known.scores.replay(question.source.as_deref());
        let (windows, known_since) = replay.extent();
        Ok(json!({
            "known_since": known_since,
            "windows": windows,
            "would_fire": replay.fired(&other, class),
            "fired": replay.fired(&rules, class),
            "scores": replay.curves(class),
        }))
    }

    fn events(&self, question: EventQuestion) -> Result<Value, Refused> {
        let limit = question.limit.unwrap_or(EVENTS).clamp(1, EVENTS_MAX);
        let filter = filter(question)?;
        let read = self.database()?.map(|database| database.events(&filter, limit + 1));
        let rows = read.transpose().map_err(unreadable)?.unwrap_or_default();
        let more = rows.len() > limit as usize;
        let newest = rows.iter().rev().take(limit as usize);
        let events: Vec<Value> = newest.map(event).collect();
        Ok(json!({ "events": events, "more": more }))
    }

    fn event(&self, id: &str) -> Result<Value, Refused> {
        Ok(event(&self.row(id)?))
    }

    fn hours(&self, question: EventQuestion) -> Result<Value, Refused> {
        let mut filter = filter(question)?;
        let since = Timestamp::now().plus_seconds(-HOURS_S);
        filter.since.get_or_insert(since);
        let read = self.database()?.map(|database| database.hours(&filter));
        let hours = read.transpose().map_err(unreadable)?.unwrap_or_default();
        Ok(json!({ "hours": hours }))
    }

    fn clip(&self, id: &str) -> Result<Vec<u8>, Refused> {
        let none = || Refused::NotFound("no sound of this event is kept".to_owned());
        let name = self.row(id)?.clip.ok_or_else(none)?;
        // What is in the database is a plain name; nothing else is followed.
        if Path::new(&name).file_name() != Some(name.as_ref()) {
            return Err(none());
        }
        let folder = self.clips.as_ref().ok_or_else(none)?;
        std::fs::read(folder.join(name)).map_err(|_| none())
    }

    fn clip_image(&self, id: &str) -> Result<Vec<u8>, Refused> {
        let class = self.class(&self.row(id)?.class).ok();
        let wanted = |found: usize| class == Some(found);
        let heard = files::hear(&self.model, self.hop_s, self.clip(id)?, wanted)?;
        heard.image.ok_or_else(|| Refused::NotFound("the clip holds no sound".to_owned()))
    }

    fn listen(&self, source: &str, on: bool) -> Result<(), Refused> {
        let source = self.check_source(source)?;
        let busy = |_| Refused::Unavailable("too many commands wait; try again".to_owned());
        self.commands.try_send(Command::Listen { source, on }).map_err(busy)
    }

    fn classify(&self, file: Vec<u8>) -> Result<Value, Refused> {
        let rules = self.rules_now();
        let reported = |class: usize| rules.by_class.get(class).is_some_and(Option::is_some);
        let heard = files::hear(&self.model, self.hop_s, file, reported)?;
        Ok(files::verdict(&self.model, rules.clone(), &heard))
    }

    fn correct(&self, file: Vec<u8>) -> Result<CorrectedPhoto, Refused> {
        let model = match self.colour.get() {
            Some(model) => model,
            None => {
                let loaded = ColourModel::embedded();
                let loaded = loaded.map_err(|error| Refused::Unavailable(error.to_string()))?;
                self.colour.get_or_init(|| loaded)
            }
        };
        files::correct(model, file)
    }

    fn alerts(&self) -> Value {
        let all: Vec<Value> = self.known.alerts.status().iter().map(alert).collect();
        json!({ "alerts": all })
    }

    fn test_alert(&self, name: &str) -> Result<Value, Refused> {
        let tested = self.known.alerts.test(name);
        match tested {
            Ok(results) => Ok(json!({ "results": results })),
            Err(error @ TestError::Busy) => Err(Refused::Unavailable(error.to_string())),
            Err(error) => Err(Refused::NotFound(error.to_string())),
        }
    }
}

impl Desk {
    fn rules_now(&self) -> Rules {
        self.known.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn class(&self, name: &str) -> Result<usize, Refused> {
        let found = self.model.classes.iter().position(|class| **class == *name);
        found.ok_or_else(|| Refused::NotFound(format!("the model knows no class {name:?}")))
    }

    fn check_source(&self, name: &str) -> Result<SourceName, Refused> {
        let found = self.sources.iter().find(|source| ***source == *name);
        found.cloned().ok_or_else(|| Refused::NotFound(format!("there is no source {name:?}")))
    }

    /// `None` before there is anything in it; why it is not there, health says.
    fn database(&self) -> Result<Option<Database>, Refused> {
        let off = || Refused::NotFound("no events are kept: store.enabled is false".to_owned());
        let path = self.database.as_ref().ok_or_else(off)?;
        if !path.exists() {
            return Ok(None);
        }
        let database = Database::read(path).map_err(unreadable)?;
        Ok(database.has_tables().then_some(database))
    }

    fn row(&self, id: &str) -> Result<EventRow, Refused> {
        let database = self.database()?;
        let found = database.map(|database| database.event(id)).transpose().map_err(unreadable)?;
        let found = found.flatten();
        found.ok_or_else(|| {
            Refused::NotFound("there is no such event; what is too old is deleted".to_owned())
        })
    }
}

fn alert(status: &AlertStatus) -> Value {
    let kinds: Vec<&str> = status.actions.iter().map(|action| action.kind.as_str()).collect();
    json!({
        "name": status.name,
        "actions": kinds,
        "notices": status.notices,
        "held_back": status.held_back,
        "failures": failures(status),
        "last": status.last_notice,
        "last_error": status.actions.iter().find_map(|action| action.last_error.as_ref()),
    })
}

fn alert_figures(status: &AlertStatus) -> AlertFigures {
    let AlertStatus { name, notices, held_back, .. } = status.clone();
    AlertFigures { name, notices, held_back, failures: failures(status) }
}

fn failures(status: &AlertStatus) -> u64 {
    status.actions.iter().map(|action| action.failed + action.dropped).sum()
}

fn unreadable(error: StoreError) -> Refused {
    Refused::Unavailable(error.to_string())
}

fn event(row: &EventRow) -> Value {
    json!({
        "id": row.id,
        "source": row.source,
        "class": row.class,
        "start": row.start,
        "end": row.end,
        "score_peak": row.score_peak,
        "score_mean": row.score_mean,
        "level_dbfs": row.level_dbfs,
        "model": row.model,
        "clip": row.clip.is_some(),
    })
}

fn filter(question: EventQuestion) -> Result<EventFilter, Refused> {
    let score_min = question.min_score;
    if score_min.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
        return Err(Refused::Bad("min_score: allowed is 0 to 1".to_owned()));
    }
    Ok(EventFilter {
        classes: question.class.into_iter().collect(),
        sources: question.source.into_iter().collect(),
        since: question.since,
        until: question.until,
        score_min,
        before: question.before,
        after: None,
    })
}

/// The rules with other thresholds for one class.
fn changed(rules: &Rules, class: usize, question: &Preview) -> Result<Rules, Refused> {
    let &Preview { on, off, hits, windows: of, at_once, .. } = question;
    let name = &question.class;
    let over = RuleOverride { on, off, hits, of, at_once, ..RuleOverride::default() };
    let unreported =
        || Refused::NotFound(format!("{name} is not reported: name it in detection.classes"));
    let changed = rules.with_override(class, name, &over).ok_or_else(unreported)?;
    changed.map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Refused::Bad(problems.join("; "))
    })
}

fn figures(status: NodeStatus) -> Figures {
    let health = &status.health;
    let broker = status.broker.as_ref();
    Figures {
        version: status.version.clone(),
        started_unix_s: status.started.as_nanos() as f64 / 1e9,
        degraded: health.degraded,
        queued_messages: health.queued_messages,
        refused_messages: health.refused_messages,
        dropped_messages: health.dropped_messages,
        delivered_messages: broker.map_or(0, |broker| broker.delivered_messages),
        broker_connected: broker.map(|broker| broker.connected),
        broker_reconnects: broker.map_or(0, |broker| broker.reconnects),
        ignored_commands: broker.map_or(0, |broker| broker.ignored_commands),
        unkept_events: health.unkept_events,
        restarts: health.restarts,
        sources: status.sources,
        ..Figures::default()
    }
}
