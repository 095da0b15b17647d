//! The daemon answers questions on a Unix socket in its state folder: one line of JSON comes, one
//! document of JSON goes back. Only the daemon's own user and root can ask.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use serde::{Deserialize, Serialize};

use super::scores::{Explained, ScoreLog};
use crate::alert::{Alerts, TestError, TestResult};
use crate::decide::{Rules, Verdict};
use crate::revive::{Restarts, revived};
use crate::signal::{NodeHealth, SourceStatus, Timestamp};

/// Bytes of a question, and of an answer.
const QUESTION_BYTES_MAX: u64 = 4_096;
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Whoever asks has so long to do it, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The daemon has so long to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// And so long to try out an alert, whose command may take its time.
const TEST_WITHIN: Duration = Duration::from_secs(330);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    Status,
    /// Why sounds of a stretch of time were, or were not, events; without an end up to the latest.
    Explain {
        since: Timestamp,
        until: Option<Timestamp>,
        source: Option<String>,
    },
    /// How the alerts are doing.
    Alerts,
    /// Run an alert's actions now, as a test.
    TestAlert {
        name: String,
    },
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub version: String,
    pub node: Arc<str>,
    pub process: u32,
    pub started: Timestamp,
    /// Digest of the model.
    pub model: Arc<str>,
    pub health: NodeHealth,
    /// Absent without MQTT.
    pub broker: Option<BrokerStatus>,
    /// Absent without a store.
    pub store: Option<PathBuf>,
    pub sources: Vec<SourceStatus>,
}

/// How the connection to the broker is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Host and port, or that it is the embedded one.
    pub address: String,
    pub connected: bool,
    pub delivered_messages: u64,
    pub reconnects: u64,
    pub last_error: Option<String>,
}

/// A stretch of time of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub source: Arc<str>,
    /// Windows that were judged in the stretch.
    pub windows: usize,
    /// The earliest window that is still known, in the stretch or before.
    pub known_since: Option<Timestamp>,
    pub classes: Vec<ExplainedClass>,
}

/// What became of a class in a stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedClass {
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The end of the window with the best score.
    pub best_at: Option<Timestamp>,
}

/// What became of the question to try out an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertTest {
    /// A result for each action.
    Tried(Vec<TestResult>),
    Refused(TestError),
}

/// What the answers come from.
pub struct Known {
    /// `None` until the first look around.
    pub status: Mutex<Option<NodeStatus>>,
    pub rules: Mutex<Rules>,
    pub scores: ScoreLog,
    pub classes: Vec<Arc<str>>,
    pub alerts: Arc<Alerts>,
}

/// Answers until the process ends. Removed with the daemon.
pub struct Answering {
    path: PathBuf,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl Answering {
    /// Starts the thread. The folder is the daemon's alone, so what lies in the socket's place is
    /// left from an earlier run.
    ///
    /// # Errors
    /// When there can be no socket there.
    pub fn start(path: &Path, known: Arc<Known>, restarts: Arc<Restarts>) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let (alive, ended) = bounded(0);
        std::thread::Builder::new().name("answer".to_owned()).spawn(move || {
            // Failing too often, it ends, which the supervisor sees.
            let _ = revived("answering", &restarts, || {
                for stream in listener.incoming() {
                    // Whoever hangs up does not want to know.
                    let _ = stream.and_then(|stream| serve(stream, &known));
                }
            });
            drop(alive);
        })?;
        Ok(Self { path: path.to_owned(), ended })
    }

    /// Whether the thread has ended, which only a fault can do.
    pub fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // The next start removes what is left.
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(mut stream: UnixStream, known: &Arc<Known>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(QUESTION_BYTES_MAX)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(question @ Question::TestAlert { .. }) => {
            // It takes its time, and others want answers meanwhile. Only one at a time does more
            // than be refused.
            let known = Arc::clone(known);
            let asked = std::thread::Builder::new().name("answer-test".to_owned());
            return asked
                .spawn(move || stream.write_all(known.answer(&question).as_bytes()))
                .map(drop);
        }
        Ok(question) => known.answer(&question),
        Err(error) => {
            serde_json::json!({ "error": format!("not a question: {error}") }).to_string()
        }
    };
    stream.write_all(answer.as_bytes())
}

impl Known {
    /// The answer as JSON.
    pub fn answer(&self, question: &Question) -> String {
        let text = match question {
            Question::Status => {
                serde_json::to_string(&*self.status.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Question::Explain { since, until, source } => {
                let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let until = until.unwrap_or(Timestamp::from_nanos(i64::MAX));
                let explained = self.scores.explain(&rules, source.as_deref(), *since, until);
                let explained: Vec<Explanation> =
                    explained.into_iter().map(|one| self.explanation(one)).collect();
                serde_json::to_string(&explained)
            }
            Question::Alerts => serde_json::to_string(&self.alerts.status()),
            Question::TestAlert { name } => {
                let tested = self.alerts.test(name);
                serde_json::to_string(&tested.map_or_else(AlertTest::Refused, AlertTest::Tried))
            }
        };
        // Plain structs of text and finite numbers always serialise.
        text.unwrap_or_default()
    }

    fn explanation(&self, explained: Explained) -> Explanation {
        let Explained { source, explainer, ends, known_since } = explained;
        let verdicts = explainer.verdicts(&self.classes);
        let classes = verdicts.into_iter().map(|verdict| ExplainedClass {
            best_at: ends.get(verdict.best_window).copied(),
            verdict,
        });
        Explanation { source, windows: ends.len(), known_since, classes: classes.collect() }
    }
}

/// Why a daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no hearken answers at {}: is it running, with the same store.folder? ({error})",
        path.display()
    )]
    Silent { path: PathBuf, error: io::Error },
    #[error("hearken at {} gave an answer that is none: {why}", path.display())]
    Nonsense { path: PathBuf, why: String },
}

/// Asks the daemon whose socket lies at `path`.
///
/// # Errors
/// When nobody answers, or not what was asked.
pub fn ask<T: serde::de::DeserializeOwned>(
    path: &Path,
    question: &Question,
) -> Result<T, AskError> {
    let silent = |error| AskError::Silent { path: path.to_owned(), error };
    let patience = match question {
        Question::TestAlert { .. } => TEST_WITHIN,
        _ => ANSWER_WITHIN,
    };
    let nonsense = |why: String| AskError::Nonsense { path: path.to_owned(), why };
    let asked = || -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_string(question)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(silent)?;
    serde_json::from_str(&answer).map_err(|error| nonsense(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::settings::AlertSettings;

    fn known() -> Known {
        let alerts = Alerts::start(AlertSettings::default(), |_| true, Arc::default()).unwrap();
        Known {
            alerts: Arc::new(alerts),
            status: Mutex::new(None),
            rules: Mutex::new(Rules { min_level_dbfs: -70.0, by_class: Vec::new() }),
            scores: ScoreLog::new(["door".into()].into_iter()),
            classes: Vec::new(),
        }
    }

    #[test]
    fn questions_are_answered_and_nonsense_is_not_obeyed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "left behind").unwrap();
        let answering = Answering::start(&path, Arc::new(known()), Arc::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let at = Timestamp::from_nanos(5);
        let question = Question::Explain { since: at, until: Some(at), source: None };
        let answer: Vec<Explanation> = ask(&path, &question).unwrap();
        assert_eq!((&*answer[0].source, answer[0].windows), ("door", 0));
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..50 {
            let mut stream = UnixStream::connect(&path).unwrap();
            let noise: Vec<u8> = (0..random.usize(0..6_000)).map(|_| random.u8(..)).collect();
            // It may hang up before it has read everything.
            let _ = stream.write_all(&noise);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let test = Question::TestAlert { name: "x".to_owned() };
        let unknown = TestError::Unknown { name: "x".to_owned(), known: Vec::new() };
        assert_eq!(ask::<AlertTest>(&path, &test).unwrap(), AlertTest::Refused(unknown));
        let nobody: Option<NodeStatus> = ask(&path, &Question::Status).unwrap();
        assert_eq!(nobody, None);
        drop(answering);
        assert!(matches!(ask::<()>(&path, &Question::Status), Err(AskError::Silent { .. })));
    }

    proptest::proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn any_question_has_an_answer_or_is_refused(
            text in "(\\{|\\}|\"|:|,|ask|status|alerts|explain|since|until|source|null|[0-9TZ-]|.){0,40}",
        ) {
            if let Ok(question) = serde_json::from_str::<Question>(&text) {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&known().answer(&question)).is_ok());
            }
        }
    }
}
