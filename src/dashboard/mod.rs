//! The dashboard: a page that shows what is heard, its interface, metrics. One thread serves them all;
//! what takes time is done in threads beside it. It asks the program by [`house::House`] and is told by
//! [`live::Live`]; nothing waits for it.

mod api;
mod few;
mod guard;
pub mod house;
pub mod live;
mod metrics;
mod page;
pub mod password;
mod reply;
mod session;
pub mod settings;
mod stream;
mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post, put};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use tokio::sync::{Semaphore, watch};

use few::Few;
use house::House;
use live::Live;
use session::{Door, Right};
use settings::DashboardSettings;
pub use tls::TlsError;

/// A port that is taken is tried again after so long.
const BIND_EVERY: Duration = Duration::from_secs(5);
/// Requests that may go on for so long at the end.
const FAREWELL: Duration = Duration::from_millis(300);
/// Threads for what takes time.
const HANDS: usize = 4;
/// Connections at the same time; further ones are cut at once.
const CONNECTIONS_MAX: usize = 256;
/// Whoever connects has so long to say what for.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);

/// Why there can be no dashboard as configured. A port that is taken is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// A person has to correct a file.
    #[error(transparent)]
    CorrectTls(#[from] TlsError),
    /// The operating system refused a thread or a runtime; it may do so only now.
    #[error("the dashboard can't be started: {0}")]
    TryAgain(#[from] io::Error),
}

/// What the requests share.
pub struct Desk {
    house: Arc<dyn House>,
    live: Arc<Live>,
    door: Door,
    /// One file is worked on at a time.
    files: Arc<Semaphore>,
    requests: Semaphore,
    stopped: watch::Receiver<bool>,
}

/// A running dashboard; it is told to end when this is dropped.
pub struct Dashboard {
    stop: watch::Sender<bool>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Dashboard {
    /// Starts it in a thread of its own.
    ///
    /// # Errors
    /// Only what can never work as configured.
    pub fn start(
        settings: &DashboardSettings,
        house: Arc<dyn House>,
        live: Arc<Live>,
    ) -> Result<Self, DashboardError> {
        let tls = settings.tls.as_ref().map(tls::server_config).transpose()?;
        let (stop, stopped) = watch::channel(false);
        let desk = Arc::new(Desk {
            house,
            live,
            door: Door::new(settings.password.clone(), tls.is_some()),
            files: Arc::new(Semaphore::new(1)),
            requests: Semaphore::new(guard::REQUESTS_MAX),
            stopped: stopped.clone(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HANDS)
            .thread_name("dashboard-work")
            .build()?;
        let problem = Arc::new(Mutex::new(None));
        let (ending, ended) = bounded(0);
        let serving = Serving {
            url: settings.url(),
            listen: settings.listen,
            tls: tls.map(RustlsConfig::from_config),
            router: router(&desk),
            is_locked: desk.door.is_locked(),
            problem: Arc::clone(&problem),
            stopped,
        };
        std::thread::Builder::new().name("dashboard".to_owned()).spawn(move || {
            runtime.block_on(serving.run());
            runtime.shutdown_background();
            drop(ending);
        })?;
        Ok(Self { stop, ended, problem })
    }

    /// Why it can't be reached at present.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets it end, without waiting for that.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end, but no longer than this.
    pub fn end(self, within: Duration) {
        self.stop();
        // Disconnected at its end, which is what is waited for.
        let _ = self.ended.recv_timeout(within.min(2 * FAREWELL));
    }

    /// Whether the thread has ended; before [`Self::stop`], only a fault can do that.
    pub fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread needs.
struct Serving {
    url: String,
    listen: SocketAddr,
    tls: Option<RustlsConfig>,
    router: Router,
    is_locked: bool,
    problem: Arc<Mutex<Option<String>>>,
    stopped: watch::Receiver<bool>,
}

impl Serving {
    /// Serves until it is stopped; a port that can't be had is tried again and again.
    async fn run(mut self) {
        loop {
            let stopped = self.stopped.clone();
            let served = match bind(self.listen) {
                Ok(listener) => self.serve(listener).await,
                Err(error) => Err(error),
            };
            if *stopped.borrow() {
                return;
            }
            self.complain(served.err());
            let waited = self.stopped.wait_for(|stopped| *stopped);
            if tokio::time::timeout(BIND_EVERY, waited).await.is_ok() {
                return;
            }
        }
    }

    async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.announce();
        let handle = axum_server::Handle::new();
        let (ending, mut stopped) = (handle.clone(), self.stopped.clone());
        tokio::spawn(async move {
            // The other end being gone is the end as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            ending.graceful_shutdown(Some(FAREWELL));
        });
        let service = self.router.clone().into_make_service();
        let server = axum_server::from_tcp(listener)?.handle(handle).http1_only();
        let few = Few::new(CONNECTIONS_MAX);
        match &self.tls {
            None => {
                let mut server = server.acceptor(few);
                limit(server.http_builder());
                server.serve(service).await
            }
            Some(tls) => {
                let mut server = server.acceptor(RustlsAcceptor::new(tls.clone()).acceptor(few));
                limit(server.http_builder());
                server.serve(service).await
            }
        }
    }

    fn announce(&self) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!("dashboard at {}", self.url);
        if !self.listen.ip().is_loopback() {
            let plain = if self.tls.is_none() {
                "; without TLS: the password and what is heard can be read on the way"
            } else {
                ""
            };
            tracing::warn!("the dashboard can be reached from other machines, by password{plain}");
        } else if !self.is_locked {
            tracing::debug!("the dashboard has no password: whoever uses this machine may look");
        }
    }

    fn complain(&self, error: Option<io::Error>) {
        let why = error.map_or("it ended by itself".to_owned(), |error| error.to_string());
        let listen = self.listen;
        let words = format!(
            "the dashboard can't listen on {listen}: {why}; set dashboard.listen to another address, or \
             dashboard.enabled to false"
        );
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.as_ref() != Some(&words) {
            tracing::error!("{words}");
        }
        *problem = Some(words);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn limit(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    let timer = hyper_util::rt::TokioTimer::new();
    builder.http1().timer(timer).header_read_timeout(HEADERS_WITHIN);
}

/// Every path of the interface, as `openapi.json` describes it.
#[cfg(test)]
const PATHS: [&str; 18] = [
    "/api/session",
    "/api/status",
    "/api/model",
    "/api/rules",
    "/api/preview",
    "/api/events",
    "/api/events/{id}",
    "/api/events/{id}/clip",
    "/api/events/{id}/spectrogram",
    "/api/hours",
    "/api/live",
    "/api/sources/{name}/listening",
    "/api/classify",
    "/api/correct",
    "/api/alerts",
    "/api/alerts/{name}/test",
    "/metrics",
    "/healthz",
];

fn router(desk: &Arc<Desk>) -> Router {
    let group = |routes: Vec<(&str, MethodRouter<Arc<Desk>>)>, right: Right| {
        let router = routes
            .into_iter()
            .fold(Router::new(), |router, (path, method)| router.route(path, method));
        router.route_layer(from_fn_with_state((Arc::clone(desk), right), api::require))
    };
    let read = vec![
        ("/api/status", get(api::status)),
        ("/api/model", get(api::model)),
        ("/api/rules", get(api::rules)),
        ("/api/events", get(api::events)),
        ("/api/events/{id}", get(api::event)),
        ("/api/hours", get(api::hours)),
        ("/api/alerts", get(api::alerts)),
        ("/api/live", get(stream::live)),
        ("/metrics", get(api::metrics)),
    ];
    let work = vec![
        ("/api/preview", post(api::preview)),
        ("/api/classify", post(api::classify)),
        ("/api/correct", post(api::correct)),
    ];
    let change = vec![
        ("/api/events/{id}/clip", get(api::clip)),
        ("/api/events/{id}/spectrogram", get(api::clip_image)),
        ("/api/sources/{name}/listening", put(api::listening)),
        ("/api/alerts/{name}/test", post(api::test_alert)),
    ];
    let session = get(api::session).post(api::sign_in).delete(api::sign_out);
    let open = Router::new()
        .route("/", get(page::index))
        .route("/{name}", get(page::file))
        .route("/api/openapi.json", get(page::openapi))
        .route("/api/session", session)
        .route("/healthz", get(api::healthz));
    open.merge(group(read, Right::Read))
        .merge(group(work, Right::Use))
        .merge(group(change, Right::Change))
        .fallback(api::nothing)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(from_fn_with_state(Arc::clone(desk), guard::guard))
        .with_state(Arc::clone(desk))
}
