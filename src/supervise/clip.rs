//! The thread that keeps sounds: follows events from their starts, and cuts each out of its source's
//! history when it is over, or long enough, and it is known what else is heard in it. It never makes
//! anybody wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::history::History;
use crate::revive::{Restarts, revived};
use crate::signal::{EventId, SourceName, Timestamp};
use crate::store::settings::ClipSettings;
use crate::store::{flac, limit_clips, write_clip};

/// News of events that may wait.
const NEWS_MAX: usize = 256;
/// How often it is looked whether a clip is complete.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Judging is waited for so long beyond its time, then what was judged is kept.
const PATIENCE: Duration = Duration::from_secs(15);
/// A voice is known only when enough of it lies in the window: at the latest when that is full of it.
const VOICE_S: f64 = 5.0;
/// Clips in the making; more at a time are left out.
const OPEN_MAX: usize = 256;
/// How far behind the sound an event's start may come: the window, and a few to be sure.
const START_LAG_S: f64 = 30.0;
/// The latest so many sounds of classes that are never kept are remembered.
const VOICES_KEPT: usize = 1_024;

/// Where a sound that began or ended lies.
#[derive(Debug, Clone)]
pub struct ClipNews {
    pub id: EventId,
    pub source: SourceName,
    pub class: Arc<str>,
    pub stream: u64,
    pub start_s: f64,
    pub start: Timestamp,
    /// `None`: it has just begun.
    pub end_s: Option<f64>,
}

/// A clip that was kept, or is gone again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClipNote {
    Kept { id: EventId, file: String },
    Gone { file: String },
}

/// The sound of each source.
type Histories = Arc<[(SourceName, Arc<History>)]>;

/// The way to the thread.
#[derive(Clone)]
pub struct Clips {
    news: Sender<ClipNews>,
    histories: Histories,
}

impl Clips {
    /// Passes news on, if there is room; a flood of events loses clips, not events.
    pub fn tell(&self, news: ClipNews) {
        if self.news.try_send(news).is_err() {
            tracing::warn!("too many events at once: not all of them get a clip");
        }
    }

    /// All that is heard in a stream up to here was told, and in the source's streams before it.
    pub fn judged(&self, source: &str, stream: u64, to_s: f64) {
        if let Some(history) = history_of(&self.histories, source) {
            history.judged(stream, to_s);
        }
    }
}

/// Seconds of sound that have to be remembered.
pub fn history_s(settings: &ClipSettings) -> f64 {
    f64::from(settings.before_s + settings.length_max_s + settings.after_s) + START_LAG_S
}

/// Starts the thread. It ends, having cut what it can, when nobody can tell it anything any more;
/// then the receiver is disconnected.
pub fn start(
    settings: ClipSettings,
    histories: Vec<(SourceName, Arc<History>)>,
    note: impl Fn(ClipNote) + Send + 'static,
    restarts: Arc<Restarts>,
) -> std::io::Result<(Clips, Receiver<()>)> {
    let (news, waiting) = bounded(NEWS_MAX);
    let (alive, ended) = bounded(0);
    let histories = Histories::from(histories);
    let mut clipper = Clipper::new(settings, Arc::clone(&histories), note);
    std::thread::Builder::new().name("clips".to_owned()).spawn(move || {
        // Failing too often, it ends, which the supervisor sees.
        let _ = revived("the keeping of clips", &restarts, || clipper.run(&waiting));
        drop(alive);
    })?;
    Ok((Clips { news, histories }, ended))
}

struct Clipper<N> {
    settings: ClipSettings,
    histories: Histories,
    note: N,
    open: Vec<Making>,
    /// Complete, and to be cut.
    done: VecDeque<Making>,
    /// Sounds of classes that are never kept.
    voices: VecDeque<ClipNews>,
}

/// A clip in the making.
struct Making {
    news: ClipNews,
    ended_at: Option<Instant>,
}

impl<N: Fn(ClipNote)> Clipper<N> {
    fn new(settings: ClipSettings, histories: Histories, note: N) -> Self {
        let (open, done, voices) = (Vec::new(), VecDeque::new(), VecDeque::new());
        Self { settings, histories, note, open, done, voices }
    }

    /// Runs until nobody can tell it anything any more. May be called again after a panic, which
    /// costs the clip that was in hand.
    fn run(&mut self, waiting: &Receiver<ClipNews>) {
        self.limit();
        loop {
            let news = waiting.recv_timeout(LOOK_EVERY);
            let ended = matches!(news, Err(RecvTimeoutError::Disconnected));
            news.into_iter().for_each(|news| self.take(news));
            self.look(waiting, ended);
            if ended {
                return;
            }
        }
    }

    /// Takes what waits, and cuts what is complete; in the end all.
    fn look(&mut self, waiting: &Receiver<ClipNews>, ended: bool) {
        // News is told before it counts as judged: what is heard in a clip that is complete now waits
        // to be taken, and so does the end that says how long it is to be.
        let complete = self.open.iter().filter(|making| ended || self.is_complete(making));
        let complete: Vec<EventId> = complete.map(|making| making.news.id).collect();
        waiting.try_iter().for_each(|news| self.take(news));
        let (done, open): (Vec<Making>, Vec<Making>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|making| complete.contains(&making.news.id));
        self.open = open;
        self.done.extend(done);
        while let Some(making) = self.done.pop_front() {
            self.keep(&making.news);
        }
    }

    fn take(&mut self, news: ClipNews) {
        if self.settings.never_record.iter().any(|class| **class == *news.class) {
            self.voices.retain(|voice| voice.id != news.id);
            self.voices.push_back(news);
            while self.voices.len() > VOICES_KEPT {
                self.voices.pop_front();
            }
            return;
        }
        if !self.settings.keeps(&news.class) {
            return;
        }
        let ended_at = news.end_s.map(|_| Instant::now());
        let has_room = self.open.len() < OPEN_MAX;
        match self.open.iter_mut().find(|making| making.news.id == news.id) {
            Some(making) => *making = Making { news, ended_at },
            None if news.end_s.is_none() && has_room => self.open.push(Making { news, ended_at }),
            // Cut already, because it was long.
            None => {}
        }
    }

    /// From where to where a clip goes, in seconds of its stream.
    fn span(&self, news: &ClipNews) -> (f64, f64) {
        let longest = news.start_s + f64::from(self.settings.length_max_s);
        let end_s = news.end_s.unwrap_or(longest).min(longest);
        let from_s = news.start_s - f64::from(self.settings.before_s);
        (from_s.max(0.0), end_s + f64::from(self.settings.after_s))
    }

    fn is_complete(&self, making: &Making) -> bool {
        let history = self.history(&making.news);
        let Some(judged_s) = history.and_then(|history| history.judged_s(making.news.stream))
        else {
            return true;
        };
        let late = making.ended_at.is_some_and(|at| {
            at.elapsed() > PATIENCE + Duration::from_secs_f32(self.settings.after_s)
        });
        late || judged_s >= self.span(&making.news).1 + VOICE_S
    }

    fn keep(&self, news: &ClipNews) {
        let (from_s, to_s) = self.span(news);
        let is_voice = |voice: &&ClipNews| {
            voice.source == news.source
                && voice.stream == news.stream
                && voice.start_s < to_s
                && voice.end_s.is_none_or(|end_s| end_s > from_s)
        };
        if let Some(voice) = self.voices.iter().find(is_voice) {
            let (source, class) = (&news.source, &news.class);
            tracing::info!(%source, "no clip of {class}: {} is heard in it", voice.class);
            return;
        }
        let cut = self.history(news).and_then(|history| history.cut(news.stream, from_s, to_s));
        let Some((samples, sample_rate_hz)) = cut else {
            tracing::warn!(source = %news.source, "no clip of {}: its sound is gone", news.class);
            return;
        };
        let file = file_name(news);
        let written = flac(&samples, sample_rate_hz).and_then(|bytes| {
            write_clip(&self.settings.folder, &file, &bytes).map_err(|error| error.to_string())
        });
        match written {
            Ok(()) => (self.note)(ClipNote::Kept { id: news.id, file }),
            Err(error) => {
                let folder = self.settings.folder.display();
                tracing::error!("a clip can't be kept in {folder}: {error}");
            }
        }
        self.limit();
    }

    fn limit(&self) {
        // A folder that is not there yet has no clips.
        let gone = limit_clips(&self.settings.folder, self.settings.size_max_bytes);
        for file in gone.unwrap_or_default() {
            (self.note)(ClipNote::Gone { file });
        }
    }

    fn history(&self, news: &ClipNews) -> Option<&History> {
        history_of(&self.histories, &news.source)
    }
}

fn history_of<'a>(histories: &'a Histories, source: &str) -> Option<&'a History> {
    let found = histories.iter().find(|(name, _)| **name == *source);
    found.map(|(_, history)| &**history)
}

/// Names sort by time. Nothing in a class's name can lead out of the folder.
fn file_name(news: &ClipNews) -> String {
    let safe = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(64).collect()
    };
    let start = news.start.to_string().replace([':', '.'], "-");
    format!("{start}_{}_{}_{}.flac", safe(&news.source), safe(&news.class), news.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrogram::ChannelChoice;
    use std::sync::{Mutex, PoisonError};

    fn settings(folder: &std::path::Path) -> ClipSettings {
        ClipSettings {
            folder: folder.to_owned(),
            before_s: 1.0,
            after_s: 0.5,
            length_max_s: 3.0,
            size_max_bytes: 1 << 20,
            classes: Vec::new(),
            never_record: vec!["speech".to_owned()],
        }
    }

    fn news(class: &str, start_s: f64, end_s: Option<f64>, id: EventId) -> ClipNews {
        let start = Timestamp::from_nanos(0).plus_seconds(start_s);
        ClipNews {
            id,
            source: "door".into(),
            class: class.into(),
            stream: 1,
            start_s,
            start,
            end_s,
        }
    }

    /// Ten seconds of a ramp at 8 kHz.
    fn ramp(folder: &std::path::Path) -> Arc<History> {
        let history = Arc::new(History::new(history_s(&settings(folder))));
        history.begin(1, 8_000);
        let ramp: Vec<f32> = (0..80_000).map(|n| (n % 30_000) as f32 / 32_768.0).collect();
        history.push(0, &ramp, 1, ChannelChoice::Mix);
        history
    }

    /// These events in it.
    fn kept(events: &[ClipNews]) -> Vec<(ClipNote, Vec<u8>)> {
        kept_although(events, 0)
    }

    /// The same, with a panic in the clip of that number, counted from 1.
    fn kept_although(events: &[ClipNews], panics_at: usize) -> Vec<(ClipNote, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let history = ramp(folder.path());
        // All of it.
        history.judged(2, 0.0);
        let notes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&notes);
        let histories = [("door".into(), history)].into();
        let note = move |note: ClipNote| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(note);
            assert!(seen.len() != panics_at, "asked to");
        };
        let mut clipper = Clipper::new(settings(folder.path()), histories, note);
        let (sender, waiting) = bounded(100);
        events.iter().for_each(|event| sender.send(event.clone()).unwrap());
        drop(sender);
        let restarts = Restarts::default();
        revived("clips", &restarts, || clipper.run(&waiting)).unwrap();
        assert_eq!(restarts.total(), u64::from(panics_at > 0));
        let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        let read = |note: ClipNote| {
            let (ClipNote::Kept { file, .. } | ClipNote::Gone { file }) = &note;
            let bytes = std::fs::read(folder.path().join(file)).unwrap();
            (note, bytes)
        };
        notes.into_iter().map(read).collect()
    }

    #[test]
    fn a_clip_is_the_event_with_what_is_around_it() {
        let id = EventId::new();
        let found = kept(&[news("a/../b", 2.0, None, id), news("a/../b", 2.0, Some(4.0), id)]);
        assert_eq!(found.len(), 1);
        let (ClipNote::Kept { file, .. }, bytes) = &found[0] else { panic!("{found:?}") };
        assert!(file.contains("_door_a____b_") && !file.contains('/'), "{file}");
        let expected: Vec<i16> = (8_000..36_000).map(|n| (n % 30_000) as i16).collect();
        assert_eq!(*bytes, flac(&expected, 8_000).unwrap());
    }

    #[test]
    fn a_long_sound_is_cut_and_one_with_a_voice_in_it_is_not_kept() {
        let [long, voice, other] = [EventId::new(), EventId::new(), EventId::new()];
        let found = kept(&[news("dog", 1.0, None, long)]);
        let expected: Vec<i16> = (0..36_000).map(|n| (n % 30_000) as i16).collect();
        assert_eq!(found[0].1, flac(&expected, 8_000).unwrap());
        let speech = [news("speech", 5.0, None, voice), news("speech", 5.0, Some(6.0), voice)];
        assert_eq!(kept(&speech), []);
        let mut all = speech.to_vec();
        all.push(news("dog", 4.0, None, other));
        all.push(news("dog", 4.0, Some(4.8), other));
        assert_eq!(kept(&all), [], "speech begins before the clip ends");
        all.push(news("dog", 7.5, None, long));
        assert_eq!(kept(&all).len(), 1);
    }

    #[test]
    fn a_clip_waits_until_all_that_is_heard_in_it_is_known() {
        let spoken = [news("speech", 5.2, None, EventId::new())];
        // The recording is read to its end long before it is judged.
        for (others, clips) in [(&[][..], 1), (&spoken[..], 0)] {
            let folder = tempfile::tempdir().unwrap();
            let histories: Histories = [("door".into(), ramp(folder.path()))].into();
            let (told, notes) = crossbeam_channel::unbounded();
            let note = move |note| told.send(note).unwrap();
            let mut clipper = Clipper::new(settings(folder.path()), Arc::clone(&histories), note);
            let (news_to, waiting) = bounded(100);
            let way = Clips { news: news_to, histories };
            let id = EventId::new();
            way.tell(news("dog", 4.0, None, id));
            way.judged("door", 1, 5.0);
            clipper.look(&waiting, false);
            way.judged("door", 1, 9.9);
            clipper.look(&waiting, false);
            assert_eq!(notes.len(), 0, "it may go on");
            way.tell(news("dog", 4.0, Some(5.0), id));
            others.iter().for_each(|news| way.tell(news.clone()));
            way.judged("door", 2, 0.0);
            clipper.look(&waiting, false);
            assert_eq!(notes.len(), clips);
            let Ok(ClipNote::Kept { file, .. }) = notes.try_recv() else { continue };
            let expected: Vec<i16> = (24_000..44_000).map(|n| (n % 30_000) as i16).collect();
            let bytes = std::fs::read(folder.path().join(file)).unwrap();
            assert_eq!(bytes, flac(&expected, 8_000).unwrap());
        }
    }

    #[test]
    fn a_failure_costs_no_other_clip() {
        let [first, second] = [EventId::new(), EventId::new()];
        let events = [
            news("dog", 2.0, None, first),
            news("dog", 2.0, Some(3.0), first),
            news("cat", 6.0, None, second),
            news("cat", 6.0, Some(7.0), second),
        ];
        let found = kept_although(&events, 1);
        assert_eq!(found.len(), 2, "both, and the failure came after the first was written");
    }
}
