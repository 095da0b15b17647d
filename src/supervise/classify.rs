//! The classification thread: windows of all sources to scores, and scores to reports. One
//! network state serves every source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use base64::Engine as _;
use crossbeam_channel::{Receiver, Select};

use super::answer::Known;
use super::board::Board;
use super::clip::{ClipNews, Clips};
use super::lane::{Delivery, TimedSlice};
use super::scores::{Scored, streams_apart_s};
use super::tally::Tally;
use crate::dashboard::live::{Live, LiveWindow};
use crate::decide::{Change, Heard, Rules, Sound, Tracker};
use crate::hear::{Judge, SoundModel};
use crate::network::ModelError;
use crate::signal::{Event, EventId, Phase, Report, SourceName, Timestamp};
use crate::spectrogram::Image;

/// Scores in a `scores` report.
const TOP: usize = 5;
/// How often it is noted that a sound goes on, in seconds of its stream. A crash loses no more of
/// its length than this.
const NOTED_EVERY_S: f64 = 5.0;

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
    /// Remembers what was judged.
    pub known: Arc<Known>,
    /// Keeps the sound of events, if wanted.
    pub clips: Option<Clips>,
    pub tally: Arc<Tally>,
    /// Shows windows to those who look.
    pub live: Arc<Live>,
    pub sink: S,
}

/// One source's decision state.
struct Ear {
    tracker: Tracker,
    /// The stream that the tracker follows.
    stream: u64,
    /// No window of it was judged yet: `anchor` is still the last one's.
    fresh: bool,
    on: Vec<On>,
    /// The newest position and its time, to turn positions into times.
    anchor: (f64, Timestamp),
    /// Position at which it was last noted that sounds go on.
    noted_s: f64,
    /// How many had come to look when a window was last shown.
    shown_to: u64,
}

/// What the thread remembers from window to window.
pub struct Ears(Vec<Ear>);

/// A sound that is on, as its start was reported.
#[derive(Clone, Copy)]
struct On {
    class: usize,
    id: EventId,
    start: Timestamp,
}

impl<S: Fn(Report)> ClassifyJob<S> {
    /// A fresh memory for [`Self::run`].
    pub fn ears(&self) -> Ears {
        Ears(self.sources.iter().map(|_| Ear::new(&self.rules)).collect())
    }

    /// Judges windows as they come, whichever source they come from. When this is called again
    /// after a panic, what was on is closed first, so that it has an end. An error is the network's
    /// own and means that nothing can be judged any more.
    pub fn run(&self, Ears(ears): &mut Ears) -> Result<(), ModelError> {
        for (source, ear) in self.sources.iter().zip(ears.iter_mut()) {
            self.begin_stream(source, ear, ear.stream);
        }
        let mut judge = self.model.judge()?;
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
                    Ok(rules) => self.change_rules(&rules, ears),
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
        self.judged(source, stream, 0.0);
        ear.stream = stream;
        ear.fresh = true;
        ear.noted_s = 0.0;
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
        let began = Instant::now();
        let scores = judge.scores(image)?;
        self.tally.inference.add(began.elapsed());
        source.board.classified_windows.add(1);
        if self.live.is_watched() {
            self.show(source, ear, timed, &scores);
        }
        ear.follow(slice.end_s, timed.end_at);
        let heard = Heard {
            start_s: slice.end_s - self.model.recipe.window_s(),
            end_s: slice.end_s,
            scores: &scores,
            level_dbfs: slice.window_level_dbfs,
            first: slice.first,
        };
        let changes = ear.tracker.step(heard);
        let news = !changes.is_empty();
        for change in changes {
            self.report(source, ear, change);
        }
        self.judged(source, timed.stream, slice.end_s);
        if news || slice.end_s - ear.noted_s >= NOTED_EVERY_S {
            self.note_open(source, ear, slice.end_s);
        }
        if self.scores {
            let top = self.model.top(&scores, TOP);
            let (source, at) = (Arc::clone(&source.source), timed.end_at);
            (self.sink)(Report::Scores { source, at, top });
        }
        let scored = Scored {
            stream: timed.stream,
            start_s: slice.end_s - self.model.recipe.window_s(),
            end_s: slice.end_s,
            end_at: timed.end_at,
            level_dbfs: slice.window_level_dbfs,
            first: slice.first,
            scores,
        };
        self.known.scores.push(&source.source, scored);
        Ok(())
    }

    /// Lets clips be cut up to here: what is heard there was reported. In a hurry it was not.
    fn judged(&self, source: &Listened, stream: u64, to_s: f64) {
        if let Some(clips) = &self.clips
            && !self.hurry.load(Ordering::Relaxed)
        {
            clips.judged(&source.source, stream, to_s);
        }
    }

    /// Shows a window to those who look: its columns since the last one, or all of them when somebody
    /// has just come, and what it sounds like.
    fn show(&self, source: &Listened, ear: &mut Ear, timed: &TimedSlice, scores: &[f32]) {
        let Some(image) = &timed.slice.image else { return };
        let recipe = &self.model.recipe;
        let since_s = timed.slice.end_s - ear.anchor.0;
        let column_s = recipe.window_s() / recipe.columns as f64;
        let all = timed.slice.first || ear.shown_to != self.live.joined();
        ear.shown_to = self.live.joined();
        let columns =
            if all { Image::SIDE } else { (since_s / column_s).round().max(1.0) as usize };
        self.live.window(&LiveWindow {
            source: Arc::clone(&source.source),
            at: timed.end_at,
            level_dbfs: source.board.level(),
            columns: base64::engine::general_purpose::STANDARD.encode(image.last_columns(columns)),
            top: self.model.top(scores, TOP),
        });
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
        if let Some(clips) = &self.clips {
            clips.tell(ClipNews {
                id: on.id,
                source: Arc::clone(&source.source),
                class: self.class(sound),
                stream: ear.stream,
                start_s: sound.start_s,
                start: on.start,
                end_s,
            });
        }
        let phase = if end_s.is_some() { Phase::End } else { Phase::Start };
        (self.sink)(Report::Event(self.event(source, on, phase, sound, end_s)));
    }

    /// Lets the store know how long the sounds that are on have been heard.
    fn note_open(&self, source: &Listened, ear: &mut Ear, now_s: f64) {
        ear.noted_s = now_s;
        for (sound, heard_s) in ear.tracker.open() {
            if let Some(&on) = ear.on.iter().find(|on| on.class == sound.class) {
                let event = self.event(source, on, Phase::Update, sound, Some(heard_s));
                (self.sink)(Report::Event(event));
            }
        }
    }

    fn class(&self, sound: Sound) -> Arc<str> {
        self.model.classes.get(sound.class).map_or_else(|| "".into(), Arc::clone)
    }

    fn event(
        &self,
        source: &Listened,
        on: On,
        phase: Phase,
        sound: Sound,
        end_s: Option<f64>,
    ) -> Event {
        Event {
            id: on.id,
            phase,
            node: Arc::clone(&self.node),
            source: Arc::clone(&source.source),
            class: self.class(sound),
            start: on.start,
            // By the sample counter: a clock that is set meanwhile does not change the duration.
            end: end_s.map(|end_s| on.start.plus_seconds(end_s - sound.start_s)),
            score_peak: sound.score_peak,
            score_mean: sound.score_mean,
            level_dbfs: sound.level_dbfs.max(Board::FLOOR_DBFS),
            model: Arc::clone(&self.model.digest),
        }
    }
}

impl Ear {
    /// Takes the newest position and its time; the first one of a stream begins it.
    fn follow(&mut self, end_s: f64, end_at: Timestamp) {
        if std::mem::take(&mut self.fresh) {
            self.tracker.begin_stream(streams_apart_s(self.anchor, (end_s, end_at)));
        }
        self.anchor = (end_s, end_at);
    }

    /// The time at a position of the stream.
    fn at(&self, stream_s: f64) -> Timestamp {
        self.anchor.1.plus_seconds(stream_s - self.anchor.0)
    }

    fn new(rules: &Rules) -> Self {
        let anchor = (0.0, Timestamp::from_nanos(0));
        Self {
            tracker: Tracker::new(rules.clone()),
            stream: 0,
            fresh: true,
            on: Vec::new(),
            anchor,
            noted_s: 0.0,
            shown_to: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use super::*;
    use crate::alert::Alerts;
    use crate::alert::settings::AlertSettings;
    use crate::capture::decode::AudioFile;
    use crate::decide::DetectionSettings;
    use crate::revive::{Restarts, revived};
    use crate::spectrogram::{Analyser, ChannelChoice, InputFormat};
    use crate::store::settings::ClipSettings;
    use crate::supervise::clip;
    use crate::supervise::history::History;
    use crate::supervise::lane::StreamEnd;
    use crate::supervise::scores::ScoreLog;

    /// The windows of the bundled recording, and its end.
    fn recording(model: &SoundModel) -> Vec<Delivery> {
        let mut file = AudioFile::open_recording().unwrap();
        let choice = ChannelChoice::Mix;
        let (sample_rate_hz, channels) = (file.sample_rate_hz(), file.channels());
        let format = InputFormat { sample_rate_hz, channels, choice };
        let hop_columns = model.recipe.hop_columns(0.5);
        let mut analyser = Analyser::new(&model.recipe, format, hop_columns).unwrap();
        let mut samples = Vec::new();
        while file.next_block(&mut samples).unwrap() > 0 {}
        let mut deliveries = Vec::new();
        let at = |end_s| Timestamp::from_nanos(0).plus_seconds(end_s);
        analyser.push(&samples, &mut |slice| {
            let end_at = at(slice.end_s);
            let slice = slice.image.is_some().then_some(TimedSlice { stream: 1, slice, end_at });
            deliveries.push(Delivery { ended: None, slice });
        });
        let ended = StreamEnd { stream: 1, end_s: 40.0, end_at: at(40.0) };
        deliveries.push(Delivery { ended: Some(ended), slice: None });
        deliveries
    }

    /// The job of one source that these windows come from.
    fn job<S>(model: SoundModel, windows: Vec<Delivery>, clips: Clips, sink: S) -> ClassifyJob<S> {
        let rules = model.rules(&DetectionSettings::default()).unwrap();
        let (sender, deliveries) = crossbeam_channel::unbounded();
        windows.into_iter().for_each(|delivery| sender.send(delivery).unwrap());
        let source: SourceName = "door".into();
        let known = Known {
            status: Mutex::new(None),
            rules: Mutex::new(rules.clone()),
            scores: ScoreLog::new([Arc::clone(&source)].into_iter()),
            classes: model.classes.clone(),
            alerts: Arc::new(
                Alerts::start(AlertSettings::default(), |_| true, Arc::default()).unwrap(),
            ),
        };
        ClassifyJob {
            node: "n".into(),
            rules,
            sources: vec![Listened { source, board: Arc::new(Board::new()), deliveries }],
            new_rules: crossbeam_channel::never(),
            scores: true,
            hurry: Arc::default(),
            known: Arc::new(known),
            clips: Some(clips),
            tally: Arc::default(),
            live: Arc::default(),
            sink,
            model,
        }
    }

    /// The way to the clips of its stream, none of which is wanted, and their sound.
    fn clips() -> (Clips, Arc<History>) {
        let history = Arc::new(History::new(1.0));
        history.begin(1, 8_000);
        let settings = ClipSettings {
            folder: "/nonexistent".into(),
            before_s: 0.0,
            after_s: 0.0,
            length_max_s: 1.0,
            size_max_bytes: 0,
            classes: vec!["none".to_owned()],
            never_record: Vec::new(),
        };
        let histories = vec![("door".into(), Arc::clone(&history))];
        let (clips, _) = clip::start(settings, histories, |_| {}, Arc::default()).unwrap();
        (clips, history)
    }

    #[test]
    fn clips_are_told_how_far_was_judged() {
        for (windows, hurry) in [(20, false), (usize::MAX, false), (usize::MAX, true)] {
            let model = SoundModel::load(None).unwrap();
            let deliveries: Vec<_> = recording(&model).into_iter().take(windows).collect();
            let last_s = deliveries.last().unwrap().slice.as_ref().map(|timed| timed.slice.end_s);
            let (clips, history) = clips();
            let job = job(model, deliveries, clips, |_| {});
            job.hurry.store(hurry, Ordering::Relaxed);
            job.run(&mut job.ears()).unwrap();
            let expected = if hurry { 0.0 } else { last_s.unwrap_or(f64::INFINITY) };
            assert_eq!(history.judged_s(1), Some(expected));
        }
    }

    #[test]
    fn after_a_panic_listening_goes_on_and_each_start_has_its_end() {
        let model = SoundModel::load(None).unwrap();
        let windows = recording(&model);
        let (events, has_panicked) = (RefCell::new(Vec::new()), Cell::new(false));
        let job = job(model, windows, clips().0, |report| match report {
            Report::Event(event) => events.borrow_mut().push(event),
            // While the siren is on.
            _ => assert!(events.borrow().is_empty() || has_panicked.replace(true), "asked to"),
        });
        let (restarts, mut ears) = (Restarts::default(), job.ears());
        revived("the classification", &restarts, || job.run(&mut ears)).unwrap().unwrap();
        assert_eq!(restarts.total(), 1);
        let mut phases: BTreeMap<String, Vec<Phase>> = BTreeMap::new();
        for event in events.borrow().iter().filter(|event| event.phase != Phase::Update) {
            phases.entry(event.id.to_string()).or_default().push(event.phase);
        }
        assert!(phases.values().all(|phases| *phases == [Phase::Start, Phase::End]), "{phases:?}");
        let events = events.borrow();
        let classes: BTreeSet<&str> = events.iter().map(|event| &*event.class).collect();
        let expected = ["dog", "glass_breaking", "siren", "thunderstorm"];
        assert_eq!(classes.into_iter().collect::<Vec<_>>(), expected);
        // It was cut in two by the panic.
        let sirens = events.iter().filter(|e| &*e.class == "siren" && e.phase == Phase::Start);
        assert_eq!(sirens.count(), 2);
    }
}
