//! One source on its way through the program: its capture, its analysis, its status.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::analyse::AnalyseJob;
use super::board::Board;
use super::history::History;
use super::lane::{Delivery, Lane};
use super::watchdog::{Pulse, Stuck};
use crate::capture::settings::Origin;
use crate::capture::{self, Capture, StateChange};
use crate::config::Source;
use crate::signal::{SourceName, SourceState, SourceStatus, Timestamp};
use crate::spectrogram::Recipe;

/// Streams that may be waiting to be analysed; a new one comes only after a reopening.
const FEEDS_MAX: usize = 4;
/// No audio for this long ends the stream: what comes later is not joined to what came before. A
/// device delivers many times a second; a pipe may deliver in bursts.
const PAUSE_OF_A_DEVICE: Duration = Duration::from_secs(2);
const PAUSE_OF_A_PIPE: Duration = Duration::from_secs(10);
/// A status is told at least this often, so that its counters are never far off.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// Changed counters are told at most this often.
const STATUS_NOT_BEFORE: Duration = Duration::from_secs(1);

/// What it takes to start a source, and to start it again.
struct Plan {
    source: Source,
    recipe: Recipe,
    hop_s: f32,
    states: Sender<StateChange>,
    lane: Lane,
    board: Arc<Board>,
    history: Option<Arc<History>>,
}

/// A source being listened to.
pub struct LiveSource {
    pub name: SourceName,
    pub board: Arc<Board>,
    pub pulse: Pulse,
    plan: Plan,
    capture: Capture,
    analysis: JoinHandle<()>,
    state: SourceState,
    since: Timestamp,
    detail: Option<String>,
    /// The wait for the next attempt has been told.
    retrying: bool,
    told: Option<(Instant, SourceStatus)>,
    /// It has failed, and is to be started again then.
    renew_at: Option<Instant>,
}

impl LiveSource {
    /// Starts the capture and the analysis. Returns the lane that the classification reads.
    pub fn start(
        source: &Source,
        recipe: &Recipe,
        hop_s: f32,
        states: Sender<StateChange>,
        history: Option<Arc<History>>,
    ) -> io::Result<(Self, Receiver<Delivery>)> {
        // A microphone can't wait; everything else can, and then loses nothing.
        let (lane, deliveries) = Lane::new(is_lossless(source));
        let board = Arc::new(Board::new());
        let (source, recipe) = (source.clone(), recipe.clone());
        let plan = Plan { source, recipe, hop_s, states, lane, board: Arc::clone(&board), history };
        let (capture, analysis) = plan.start()?;
        let live = Self {
            name: Arc::clone(&plan.source.capture.name),
            board,
            pulse: Pulse::new(),
            plan,
            capture,
            analysis,
            state: SourceState::Opening,
            since: Timestamp::now(),
            detail: None,
            retrying: false,
            told: None,
            renew_at: None,
        };
        Ok((live, deliveries))
    }

    /// Starts it again after the wait, if it has failed. Counters and what the classification knows
    /// go on; what the old threads may still do has no effect.
    pub fn renew(&mut self, now: Instant) {
        if self.renew_at.is_none_or(|at| now < at) {
            return;
        }
        match self.plan.start() {
            Ok((capture, analysis)) => {
                // Dropping the old capture ends its thread without waiting for it.
                (self.capture, self.analysis) = (capture, analysis);
                self.pulse = Pulse::new();
                self.renew_at = None;
            }
            Err(error) => {
                tracing::error!(source = %self.name, "can't be started again: {error}");
                self.renew_at = Some(now + PAUSE_OF_A_DEVICE);
            }
        }
    }

    /// Lets [`Self::renew`] start it again at `at`.
    pub fn fail(&mut self, at: Instant) {
        self.renew_at = Some(at);
    }

    /// Takes over what the capture says.
    pub fn change(&mut self, change: StateChange) {
        self.log(&change);
        self.state = change.state;
        self.since = change.since;
        self.detail = change.detail;
    }

    /// Says a change once: a device that stays away is tried again every few seconds, each time
    /// for the same reason, and that is for the debug log.
    fn log(&mut self, change: &StateChange) {
        let (name, state) = (&self.name, change.state.as_str());
        let why = change.detail.as_deref().unwrap_or_default();
        let news = match change.state {
            SourceState::Opening => false,
            SourceState::BackingOff => !self.retrying,
            _ => true,
        };
        match change.state {
            _ if !news => tracing::debug!(source = %name, "{state} {why}"),
            SourceState::Running | SourceState::Off | SourceState::Ended => {
                tracing::info!(source = %name, "{state} {why}");
            }
            _ => tracing::warn!(source = %name, "{state} {why}"),
        }
        match change.state {
            SourceState::BackingOff => self.retrying = true,
            SourceState::Opening | SourceState::Lost => {}
            _ => self.retrying = false,
        }
    }

    /// Where the source stands.
    pub fn state(&self) -> SourceState {
        self.state
    }

    /// Why, if the capture gave a reason.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Switches listening on or off.
    pub fn listen(&self, on: bool) {
        self.capture.listen(on);
    }

    /// The status, if it is time to tell it: at once when the state has changed, within a second
    /// when a counter of losses has, and every half minute.
    pub fn status_to_tell(&mut self, now: Instant) -> Option<SourceStatus> {
        let status = self.status();
        let due = match &self.told {
            None => true,
            Some((when, told)) => {
                let age = now.duration_since(*when);
                let state_changed = (told.state, told.since) != (status.state, status.since);
                let lost = |s: &SourceStatus| {
                    (s.lost_samples, s.gaps, s.dropped_windows, s.level_dbfs.is_some())
                };
                state_changed
                    || (lost(told) != lost(&status) && age >= STATUS_NOT_BEFORE)
                    || age >= STATUS_EVERY
            }
        };
        due.then(|| {
            self.told = Some((now, status.clone()));
            status
        })
    }

    /// All that is known of it.
    pub fn status(&self) -> SourceStatus {
        SourceStatus {
            source: Arc::clone(&self.name),
            state: self.state,
            since: self.since,
            detail: self.detail.clone(),
            level_dbfs: self.board.level().filter(|_| self.state.is_hearing()),
            lost_samples: self.board.lost_frames.get(),
            gaps: self.board.gaps.get(),
            dropped_windows: self.board.dropped_windows.get(),
            classified_windows: self.board.classified_windows.get(),
        }
    }

    /// Why this source does not work any more, if that is not known and waited for already.
    pub fn failure(&self, window: Duration) -> Option<&'static str> {
        let stuck = self.pulse.stuck(window) == Some(Stuck::Analysis);
        match self.renew_at {
            None if self.analysis.is_finished() => Some("the analysis ended by itself"),
            None if stuck => Some("the analysis stands still"),
            _ => None,
        }
    }

    /// Stops the capture; the analysis and its lane end with it.
    pub fn stop(self) {
        drop(self.plan);
        self.capture.stop();
    }
}

impl Plan {
    fn start(&self) -> io::Result<(Capture, JoinHandle<()>)> {
        let (feeds_in, feeds) = bounded(FEEDS_MAX);
        let settings = &self.source.capture;
        let pause = if is_lossless(&self.source) { PAUSE_OF_A_PIPE } else { PAUSE_OF_A_DEVICE };
        let job = AnalyseJob {
            source: Arc::clone(&settings.name),
            recipe: self.recipe.clone(),
            hop_columns: self.recipe.hop_columns(self.hop_s),
            choice: self.source.channel,
            pause,
            feeds,
            lane: self.lane.clone(),
            board: Arc::clone(&self.board),
            history: self.history.clone(),
        };
        let analysis =
            std::thread::Builder::new().name("analyse".to_owned()).spawn(move || job.run())?;
        let capture = capture::start(settings.clone(), feeds_in, self.states.clone())?;
        Ok((capture, analysis))
    }
}

fn is_lossless(source: &Source) -> bool {
    !matches!(source.capture.origin, Origin::Device(_))
}
