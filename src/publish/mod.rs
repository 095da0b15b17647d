//! Publishing over MQTT: events, states and levels go out, commands come in. The rest of the
//! program hands over [`Report`]s and never waits; one thread does the talking.
//!
//! `payload`, `discovery`, `queue`, `board`, `backoff`, `quiet` and `hub` are pure; `link` alone
//! knows the client library's protocol versions, `session` keeps a connection, and `broker` is the
//! embedded one for when there is no other.

pub mod backoff;
mod board;
mod broker;
pub mod discovery;
mod hub;
mod link;
pub mod payload;
pub mod queue;
mod quiet;
mod session;
pub mod settings;
mod tls;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::allowance::Allowance;
use crate::signal::{Command, Event, Report, SourceName};

use self::backoff::Pace;
use self::board::Board;
use self::link::Endpoint;
pub use self::queue::Settled;
use self::session::{Session, Shared};
use self::settings::{Broker, ProtocolVersion, PublishSettings, RemoteBroker};
pub use self::tls::TlsError;

/// Commands that may come at once, and then one in so long.
const COMMANDS: u32 = 20;
const COMMAND_EVERY: Duration = Duration::from_secs(1);

/// What exists to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    pub sources: Vec<SourceName>,
    /// The watched classes, by the names the model gives them.
    pub classes: Vec<Arc<str>>,
    /// The model's name.
    pub model: Arc<str>,
    /// This software's version.
    pub version: &'static str,
}

/// How publishing is doing. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub connected: bool,
    /// Events that the broker has not acknowledged.
    pub queued_events: usize,
    /// Events lost because the queue was full.
    pub dropped_events: u64,
    /// Events that the broker refused; they are tried again.
    pub refused_events: usize,
    /// Events that the broker has acknowledged.
    pub delivered_events: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Messages on `set` topics that made no sense.
    pub ignored_commands: u64,
    /// Why the last connection ended or did not come about, with host and port.
    pub last_error: Option<String>,
}

/// Why publishing can't start. A broker that is not there is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A person has to correct a file or a key; the message names it.
    #[error(transparent)]
    CorrectTls(#[from] TlsError),
    /// A person has to choose another port.
    #[error(
        "the embedded broker can't listen on 127.0.0.1:{port}: set \
         mqtt.embedded_port to a free port, or mqtt.host to the broker that is there already"
    )]
    ChoosePort { port: u16, source: io::Error },
    /// A person has to name the broker differently.
    #[error("mqtt.host = {host:?} can't be used with TLS: give a name or an IPv4 address")]
    ChooseHost { host: String },
    /// The operating system refused a thread or a runtime; it may do so only now.
    #[error("publishing can't be started: {0}")]
    TryAgain(#[from] io::Error),
}

/// A running publisher. Dropping it without [`Publisher::shutdown`] cuts the connection, so that
/// the broker publishes the last will.
pub struct Publisher {
    shared: Arc<Shared>,
    /// Disconnected when the thread has ended. `None`: publishing is off.
    ended: Option<Receiver<()>>,
}

/// Starts publishing in a thread of its own.
///
/// # Errors
/// Only what can never work as configured, see [`PublishError`].
pub fn start(
    settings: PublishSettings,
    roster: Roster,
    commands: Sender<Command>,
) -> Result<Publisher, PublishError> {
    start_paced(settings, roster, commands, Pace::default())
}

/// [`start`] with other waiting times.
///
/// # Errors
/// As [`start`].
pub fn start_paced(
    settings: PublishSettings,
    roster: Roster,
    commands: Sender<Command>,
    pace: Pace,
) -> Result<Publisher, PublishError> {
    let board = Board::new(&settings, roster);
    let topics = board.topics.clone();
    let shared = Arc::new(Shared::new(board));
    let (remote, listener) = match &settings.broker {
        Broker::Off => return Ok(Publisher { shared, ended: None }),
        Broker::Remote(remote) => (remote.clone(), None),
        Broker::Embedded { port } => {
            let listener = broker::bind(*port)
                .map_err(|source| PublishError::ChoosePort { port: *port, source })?;
            (own_broker(&settings, *port), Some(listener))
        }
    };
    let endpoint = endpoint(remote, settings.keep_alive, topics.available())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ending, ended) = bounded(0);
    let for_thread = Arc::clone(&shared);
    thread::Builder::new().name("publish".to_owned()).spawn(move || {
        let session = Session {
            shared: &for_thread,
            endpoint,
            topics,
            pace,
            commands,
            complaints: quiet::Quiet::default(),
            allowance: Allowance::new(COMMANDS, COMMAND_EVERY),
        };
        run(&runtime, session, listener);
        // A name look-up that hangs must not hold up the end.
        runtime.shutdown_background();
        drop(ending);
    })?;
    Ok(Publisher { shared, ended: Some(ended) })
}

fn run(runtime: &Runtime, session: Session<'_>, listener: Option<TcpListener>) {
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let own = listener.map(|listener| tokio::spawn(broker::serve(listener, stopped)));
        session.run().await;
        if let Some(own) = own {
            stop.send_replace(true);
            // Its panics are logged by the runtime; there is nothing left to do about one.
            let _ = own.await;
        }
    });
}

fn own_broker(settings: &PublishSettings, port: u16) -> RemoteBroker {
    RemoteBroker {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port,
        version: ProtocolVersion::V311,
        client_id: format!("hearken-{}", settings.node),
        user: None,
        password: None,
        tls: None,
    }
}

fn endpoint(
    remote: RemoteBroker,
    keep_alive: Duration,
    will_topic: Arc<str>,
) -> Result<Endpoint, PublishError> {
    if remote.tls.is_some() && remote.host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(PublishError::ChooseHost { host: remote.host });
    }
    let tls = remote.tls.as_ref().map(tls::client_config).transpose()?;
    Ok(Endpoint {
        host: remote.host,
        port: remote.port,
        version: remote.version,
        client_id: remote.client_id,
        user: remote.user,
        password: remote.password,
        tls,
        keep_alive,
        will_topic,
    })
}

impl Publisher {
    /// Takes a report over. Never waits: events are queued (the oldest go and are counted beyond
    /// the configured number), everything else replaces what was not sent yet.
    pub fn send(&self, report: Report) {
        if self.ended.is_some() {
            self.shared.lock().board.report(report, Instant::now());
            self.shared.wake.notify_one();
        }
    }

    /// Takes an event over; `kept` is its number in the store, which [`Self::take_settled`] gives
    /// back when the broker has it. Never waits.
    pub fn tell(&self, event: &Event, kept: Option<i64>) {
        if self.ended.is_some() {
            self.shared.lock().board.event(event, kept);
            self.shared.wake.notify_one();
        }
    }

    /// Whether the thread has ended; before [`Self::shutdown`], only a fault can do that.
    pub fn has_ended(&self) -> bool {
        let ended = self.ended.as_ref().map(Receiver::try_recv);
        ended == Some(Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    /// What became of events with numbers since this was last asked.
    pub fn take_settled(&self) -> Settled {
        self.shared.lock().board.outbox.take_settled()
    }

    /// Shows other sources and classes, after a reload: what is gone has its retained topics and
    /// its Home Assistant entities removed.
    pub fn announce(&self, roster: Roster) {
        if self.ended.is_some() {
            self.shared.lock().board.announce(roster);
            self.shared.wake.notify_one();
        }
    }

    /// How it is going.
    pub fn health(&self) -> Health {
        let state = self.shared.lock();
        Health {
            queued_events: state.board.outbox.queued_events(),
            dropped_events: state.board.outbox.dropped_events(),
            delivered_events: state.board.outbox.delivered_events(),
            refused_events: state.board.outbox.refused_events(),
            ..state.health.clone()
        }
    }

    /// Delivers what is queued, sets every sound OFF and the node offline, and disconnects. Gives
    /// up when `within` has passed; the broker then publishes the last will.
    pub fn shutdown(&self, within: Duration) -> Health {
        self.close(within);
        self.health()
    }

    /// Makes a [`Self::shutdown`] that goes on, or is yet to come, give up when `within` has passed,
    /// if that is sooner.
    pub fn hurry(&self, within: Duration) {
        let mut state = self.shared.lock();
        let latest = Instant::now() + within;
        state.give_up_latest = Some(latest);
        state.give_up_at = state.give_up_at.map(|at| at.min(latest));
        drop(state);
        self.shared.wake.notify_one();
    }

    fn close(&self, within: Duration) {
        let Some(ended) = &self.ended else { return };
        let until = Instant::now() + within;
        // The thread stops trying a little earlier, to part from the broker in good order.
        let parting = (within / 3).min(Duration::from_millis(600));
        {
            let mut state = self.shared.lock();
            state.board.close_sounds();
            let at = until - parting;
            state.give_up_at = Some(state.give_up_latest.map_or(at, |latest| at.min(latest)));
        }
        self.shared.wake.notify_one();
        // Disconnected at the thread's end, which is what is waited for.
        let _ = ended.recv_deadline(until);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.shared.lock().give_up_at.is_none() {
            self.close(Duration::ZERO);
        }
    }
}
