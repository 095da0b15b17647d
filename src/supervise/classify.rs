//! The classification thread: windows of all sources to scores, and scores to reports. One
//! network state serves every source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Select};

use super::board::Board;
use super::lane::{Delivery, TimedSlice};
use crate::decide::{Change, Heard, Rules, Tracker};
use crate::hear::{Judge, SoundModel};
use crate::network::ModelError;
use crate::signal::{Event, EventId, Phase, Report, SourceName, Timestamp};

/// Scores in a `scores` report.
const TOP: usize = 5;

/// What the thread knows of one source.
pub struct Listened {
    pub source: SourceName,
    pub board: Arc<Board>,
    pub deliveries: Receiver<Delivery>,
}

/// Everything the thread needs; it ends when all lanes have ended.
pub struct ClassifyJob<S> {
    pub node: Arc<str>,
    pub model: SoundModel,
    pub rules: Rules,
    pub sources: Vec<Listened>,
    /// New rules, after a reload.
    pub new_rules: Receiver<Rules>,
    /// Whether to report scores.
    pub scores: bool,
    /// Once set, windows are no longer judged: the end is near.
    pub hurry: Arc<AtomicBool>,
    pub sink: S,
}

/// One source's decision state.
struct Ear {
    tracker: Tracker,
    /// The stream that the tracker follows.
    stream: u64,
    on: Vec<On>,
    /// The newest position and its time, to turn positions into times.
    anchor: (f64, Timestamp),
}

/// A sound that is on, as its start was reported.
#[derive(Clone, Copy)]
struct On {
    class: usize,
    id: EventId,
    start: Timestamp,
}

impl<S: Fn(Report)> ClassifyJob<S> {
    /// Judges windows as they come, whichever source they come from. An error is the network's
    /// own and means that nothing can be judged any more.
    pub fn run(self) -> Result<(), ModelError> {
        let mut judge = self.model.judge()?;
        let mut ears: Vec<Ear> = self.sources.iter().map(|_| Ear::new(&self.rules)).collect();
        let mut select = Select::new();
        let lanes: Vec<usize> =
            self.sources.iter().map(|source| select.recv(&source.deliveries)).collect();
        let rules_lane = select.recv(&self.new_rules);
        let mut open = lanes.len();
        while open > 0 {
            let ready = select.select();
            let lane = ready.index();
            if lane == rules_lane {
                match ready.recv(&self.new_rules) {
                    Ok(rules) => self.change_rules(&rules, &mut ears),
                    Err(_) => select.remove(rules_lane),
                }
                continue;
            }
            let (Some(source), Some(ear)) = (self.sources.get(lane), ears.get_mut(lane)) else {
                continue;
            };
            match ready.recv(&source.deliveries) {
                Ok(delivery) => self.take(source, ear, delivery, &mut judge)?,
                Err(_) => {
                    select.remove(lane);
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    fn take(
        &self,
        source: &Listened,
        ear: &mut Ear,
        delivery: Delivery,
        judge: &mut Judge,
    ) -> Result<(), ModelError> {
        if let Some(end) = delivery.ended
            && end.stream >= ear.stream
        {
            if end.stream == ear.stream {
                ear.anchor = (end.end_s, end.end_at);
            }
            self.begin_stream(source, ear, end.stream + 1);
        }
        match delivery.slice {
            Some(slice) => self.judge(source, ear, &slice, judge),
            None => Ok(()),
        }
    }

    /// Closes what is on from an earlier stream, at its last known position.
    fn begin_stream(&self, source: &Listened, ear: &mut Ear, stream: u64) {
        for change in ear.tracker.close(ear.anchor.0) {
            self.report(source, ear, change);
        }
        ear.tracker = Tracker::new(ear.tracker.rules().clone());
        ear.stream = stream;
    }

    fn judge(
        &self,
        source: &Listened,
        ear: &mut Ear,
        timed: &TimedSlice,
        judge: &mut Judge,
    ) -> Result<(), ModelError> {
        let slice = &timed.slice;
        let Some(image) = &slice.image else { return Ok(()) };
        if self.hurry.load(Ordering::Relaxed) {
            return Ok(());
        }
        if timed.stream != ear.stream {
            self.begin_stream(source, ear, timed.stream);
        }
        let scores = judge.scores(image)?;
        source.board.classified_windows.add(1);
        ear.anchor = (slice.end_s, timed.end_at);
        let heard = Heard {
            start_s: slice.end_s - self.model.recipe.window_s(),
            end_s: slice.end_s,
            scores: &scores,
            level_dbfs: slice.window_level_dbfs,
            first: slice.first,
        };
        for change in ear.tracker.step(heard) {
            self.report(source, ear, change);
        }
        if self.scores {
            let top = self.model.top(&scores, TOP);
            let (source, at) = (Arc::clone(&source.source), timed.end_at);
            (self.sink)(Report::Scores { source, at, top });
        }
        Ok(())
    }

    fn change_rules(&self, rules: &Rules, ears: &mut [Ear]) {
        for (source, ear) in self.sources.iter().zip(ears) {
            for change in ear.tracker.set_rules(rules.clone(), ear.anchor.0) {
                self.report(source, ear, change);
            }
        }
    }

    fn report(&self, source: &Listened, ear: &mut Ear, change: Change) {
        let (sound, end_s) = match change {
            Change::Start(sound) => (sound, None),
            Change::End { sound, end_s } => (sound, Some(end_s)),
        };
        let place = ear.on.iter().position(|on| on.class == sound.class);
        let on = match place {
            Some(place) => ear.on.swap_remove(place),
            None => {
                let (id, start) = (EventId::new(), ear.at(sound.start_s));
                On { class: sound.class, id, start }
            }
        };
        if end_s.is_none() {
            ear.on.push(on);
        }
        let event = Event {
            id: on.id,
            phase: if end_s.is_some() { Phase::End } else { Phase::Start },
            node: Arc::clone(&self.node),
            source: Arc::clone(&source.source),
            class: self.model.classes.get(sound.class).map_or_else(|| "".into(), Arc::clone),
            start: on.start,
            // By the sample counter: a clock that is set meanwhile does not change the duration.
            end: end_s.map(|end_s| on.start.plus_seconds(end_s - sound.start_s)),
            score_peak: sound.score_peak,
            score_mean: sound.score_mean,
            level_dbfs: sound.level_dbfs.max(Board::FLOOR_DBFS),
            model: Arc::clone(&self.model.digest),
        };
        (self.sink)(Report::Event(event));
    }
}

impl Ear {
    /// The time at a position of the stream.
    fn at(&self, stream_s: f64) -> Timestamp {
        self.anchor.1.plus_seconds(stream_s - self.anchor.0)
    }

    fn new(rules: &Rules) -> Self {
        let anchor = (0.0, Timestamp::from_nanos(0));
        Self { tracker: Tracker::new(rules.clone()), stream: 0, on: Vec::new(), anchor }
    }
}
