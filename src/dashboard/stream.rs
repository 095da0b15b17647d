//! `GET /api/live`: server-sent events for one browser, for as long as it looks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Desk;
use super::live::{Reader, Said};
use super::reply::Complaint;
use super::session::Right;

/// Browsers that look at the same time.
const READERS_MAX: u32 = 32;
/// A sign of life, so that a connection that is gone is noticed.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

struct Viewing {
    desk: Arc<Desk>,
    /// What they came with: whoever has signed out does not look any longer.
    headers: HeaderMap,
    reader: Reader,
    /// To be said before anything else.
    first: VecDeque<Said>,
    stopped: watch::Receiver<bool>,
}

/// The present, and then whatever happens.
pub async fn live(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Complaint> {
    let words = "too many live views are open; close one";
    let busy = || Complaint::later(StatusCode::SERVICE_UNAVAILABLE, words, 30);
    let mut reader = desk.live.read(READERS_MAX).ok_or_else(busy)?;
    let first = std::mem::take(&mut reader.present).into();
    let stopped = desk.stopped.clone();
    let viewing = Viewing { desk, headers, reader, first, stopped };
    let events = futures_util::stream::unfold(viewing, |mut viewing| async {
        let said = viewing.next().await?;
        Some((Ok(Event::default().event(said.kind).data(&*said.json)), viewing))
    });
    // A page can't see comments: this is a message that it can.
    let alive = Event::default().event("alive").data("{}");
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY).event(alive)))
}

impl Viewing {
    /// What comes next; `None` at the end.
    async fn next(&mut self) -> Option<Said> {
        if let Some(said) = self.first.pop_front() {
            return Some(said);
        }
        let rights = self.desk.door.rights(&self.headers);
        if !rights.is_ok_and(|rights| rights.contains(&Right::Read)) {
            return None;
        }
        tokio::select! {
            biased;
            // The other end is gone, or says so: either way it is over.
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
            // One that is so far behind that sounds are missing begins again, from the present.
            said = self.reader.news.recv() => said.ok(),
            said = self.reader.windows.recv() => match said {
                Ok(said) => Some(said),
                Err(RecvError::Lagged(windows)) => {
                    let json = serde_json::json!({ "windows": windows }).to_string();
                    Some(Said { kind: "missed", json: json.into() })
                }
                Err(RecvError::Closed) => None,
            },
        }
    }
}
