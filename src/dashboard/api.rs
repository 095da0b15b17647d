//! The requests, one function each: what is asked goes to the house, what it answers becomes JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Desk;
use super::house::{EventQuestion, House, Preview, Refused};
use super::reply::Complaint;
use super::session::Right;

/// Bytes of an uploaded file.
const FILE_BYTES_MAX: usize = 32 << 20;
/// It has to be here within so long.
const FILE_WITHIN: Duration = Duration::from_secs(120);
/// One waits for so long while another file is worked on.
const TURN_WITHIN: Duration = Duration::from_secs(20);

type Answer = Result<Json<Value>, Complaint>;
type Shared = State<Arc<Desk>>;

/// Lets through who may do that much.
pub async fn require(
    State((desk, right)): State<(Arc<Desk>, Right)>,
    request: Request,
    next: Next,
) -> Response {
    let rights = rights(&desk, request.headers()).await;
    match rights {
        Ok(rights) if rights.contains(&right) => next.run(request).await,
        Ok(_) if desk.door.is_locked() => {
            Complaint::new(StatusCode::UNAUTHORIZED, "sign in to do this").into_response()
        }
        Ok(_) => {
            let words = "this needs a password, and none is set: make one with `hearken password` and name its \
                         file in dashboard.password_file";
            Complaint::new(StatusCode::FORBIDDEN, words).into_response()
        }
        Err(complaint) => complaint.into_response(),
    }
}

async fn rights(desk: &Arc<Desk>, headers: &HeaderMap) -> Result<&'static [Right], Complaint> {
    let (desk, headers) = (Arc::clone(desk), headers.clone());
    let checked = tokio::task::spawn_blocking(move || desk.door.rights(&headers));
    Ok(checked.await.map_err(|_| broken())??)
}

fn broken() -> Complaint {
    Complaint::new(StatusCode::SERVICE_UNAVAILABLE, "the work on it failed; the log says why")
}

/// Asks the house, in a thread that may wait.
async fn ask<T: Send + 'static>(
    desk: Arc<Desk>,
    question: impl FnOnce(&dyn House) -> T + Send + 'static,
) -> Result<T, Complaint> {
    tokio::task::spawn_blocking(move || question(&*desk.house)).await.map_err(|_| broken())
}

async fn answer(
    desk: Arc<Desk>,
    question: impl FnOnce(&dyn House) -> Result<Value, Refused> + Send + 'static,
) -> Answer {
    Ok(Json(ask(desk, question).await??))
}

/// `GET /api/session`.
pub async fn session(State(desk): Shared, headers: HeaderMap) -> Answer {
    let rights = rights(&desk, &headers).await.unwrap_or_default();
    Ok(Json(session_state(&desk, rights)))
}

fn session_state(desk: &Desk, rights: &[Right]) -> Value {
    let (locked, all) = (desk.door.is_locked(), rights.contains(&Right::Change));
    json!({ "signed_in": locked && all, "password_set": locked, "rights": rights })
}

/// What [`sign_in`] takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    password: String,
}

/// `POST /api/session`.
pub async fn sign_in(
    State(desk): Shared,
    credentials: Result<Json<Credentials>, JsonRejection>,
) -> Result<Response, Complaint> {
    let Json(Credentials { password }) = credentials.map_err(wrong)?;
    let door = Arc::clone(&desk);
    let signed = tokio::task::spawn_blocking(move || door.door.sign_in(&password));
    let cookie = signed.await.map_err(|_| broken())??;
    let state = session_state(&desk, &[Right::Read, Right::Use, Right::Change]);
    Ok(([(header::SET_COOKIE, cookie)], Json(state)).into_response())
}

/// `DELETE /api/session`.
pub async fn sign_out(State(desk): Shared, headers: HeaderMap) -> Result<Response, Complaint> {
    let door = Arc::clone(&desk);
    let signed_out = tokio::task::spawn_blocking(move || door.door.sign_out(&headers));
    let cookie = signed_out.await.map_err(|_| broken())?;
    let rights: &[Right] = if desk.door.is_locked() { &[] } else { &[Right::Read, Right::Use] };
    Ok(([(header::SET_COOKIE, cookie)], Json(session_state(&desk, rights))).into_response())
}

fn wrong(rejection: JsonRejection) -> Complaint {
    Complaint::new(rejection.status(), rejection.body_text())
}

/// `GET /api/status`.
pub async fn status(State(desk): Shared) -> Answer {
    answer(desk, |house| Ok(house.status())).await
}

/// `GET /api/model`.
pub async fn model(State(desk): Shared) -> Answer {
    answer(desk, |house| Ok(house.model())).await
}

/// `GET /api/rules`.
pub async fn rules(State(desk): Shared) -> Answer {
    answer(desk, |house| Ok(house.rules())).await
}

/// `POST /api/preview`.
pub async fn preview(
    State(desk): Shared,
    question: Result<Json<Preview>, JsonRejection>,
) -> Answer {
    let Json(question) = question.map_err(wrong)?;
    answer(desk, move |house| house.preview(question)).await
}

/// `GET /api/events`.
pub async fn events(
    State(desk): Shared,
    question: Result<Query<EventQuestion>, QueryRejection>,
) -> Answer {
    let question = asked(question)?;
    answer(desk, move |house| house.events(question)).await
}

/// `GET /api/hours`.
pub async fn hours(
    State(desk): Shared,
    question: Result<Query<EventQuestion>, QueryRejection>,
) -> Answer {
    let question = asked(question)?;
    answer(desk, move |house| house.hours(question)).await
}

fn asked(
    question: Result<Query<EventQuestion>, QueryRejection>,
) -> Result<EventQuestion, Complaint> {
    let Query(mut question) =
        question.map_err(|error| Complaint::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    // An empty field of a form is no condition.
    for text in [&mut question.class, &mut question.source, &mut question.before] {
        *text = text.take().filter(|text| !text.is_empty());
    }
    Ok(question)
}

/// `GET /api/events/{id}`.
pub async fn event(State(desk): Shared, Path(id): Path<String>) -> Answer {
    answer(desk, move |house| house.event(&id)).await
}

/// `GET /api/events/{id}/clip`.
pub async fn clip(State(desk): Shared, Path(id): Path<String>) -> Result<Response, Complaint> {
    let bytes = ask(desk, move |house| house.clip(&id)).await??;
    Ok(([(header::CONTENT_TYPE, "audio/flac")], bytes).into_response())
}

/// `GET /api/events/{id}/spectrogram`.
pub async fn clip_image(
    State(desk): Shared,
    Path(id): Path<String>,
) -> Result<Response, Complaint> {
    let turn = turn(&desk).await?;
    let bytes = ask(desk, move |house| with(turn, || house.clip_image(&id))).await??;
    Ok(([(header::CONTENT_TYPE, "image/png")], bytes).into_response())
}

/// What [`listening`] takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    on: bool,
}

/// `PUT /api/sources/{name}/listening`.
pub async fn listening(
    State(desk): Shared,
    Path(name): Path<String>,
    listening: Result<Json<Listening>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Complaint> {
    let Json(Listening { on }) = listening.map_err(wrong)?;
    ask(desk, move |house| house.listen(&name, on)).await??;
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

/// `GET /api/alerts`. What a command said last is for those who may hear clips, too.
pub async fn alerts(State(desk): Shared, headers: HeaderMap) -> Answer {
    let may_know = rights(&desk, &headers).await?.contains(&Right::Change);
    let mut alerts = ask(desk, |house| house.alerts()).await?;
    let list = alerts.get_mut("alerts").and_then(Value::as_array_mut);
    let errors = list.into_iter().flatten().filter_map(|alert| alert.get_mut("last_error"));
    for error in errors.filter(|error| !may_know && error.is_string()) {
        *error = json!("sign in to see what was said");
    }
    Ok(Json(alerts))
}

/// `POST /api/alerts/{name}/test`.
pub async fn test_alert(State(desk): Shared, Path(name): Path<String>) -> Answer {
    answer(desk, move |house| house.test_alert(&name)).await
}

/// `POST /api/classify`.
pub async fn classify(State(desk): Shared, body: Body) -> Answer {
    let turn = turn(&desk).await?;
    let file = file(body).await?;
    // The turn goes with the work, which goes on when whoever asked has left.
    let work = move |house: &dyn House| with(turn, || house.classify(file));
    answer(desk, work).await
}

/// `POST /api/correct`.
pub async fn correct(State(desk): Shared, body: Body) -> Result<Response, Complaint> {
    let turn = turn(&desk).await?;
    let file = file(body).await?;
    let photo = ask(desk, move |house| with(turn, || house.correct(file))).await??;
    let mut headers = HeaderMap::new();
    let changed = HeaderValue::from_static(if photo.is_changed { "true" } else { "false" });
    headers.insert(HeaderName::from_static("x-hearken-changed"), changed);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(photo.mime));
    if let Some([red, green, blue]) = photo.shift
        && let Ok(shift) = HeaderValue::from_str(&format!("{red:.1},{green:.1},{blue:.1}"))
    {
        headers.insert(HeaderName::from_static("x-hearken-shift"), shift);
    }
    Ok((headers, photo.bytes).into_response())
}

/// Does something while holding the turn.
fn with<T>(_turn: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    work()
}

/// One file is worked on at a time: listening comes first.
async fn turn(desk: &Arc<Desk>) -> Result<OwnedSemaphorePermit, Complaint> {
    let words = "another file is being worked on; try again in a moment";
    let busy = || Complaint::later(StatusCode::TOO_MANY_REQUESTS, words, 5);
    let turn = Arc::clone(&desk.files).acquire_owned();
    let turn = tokio::time::timeout(TURN_WITHIN, turn).await.map_err(|_| busy())?;
    turn.map_err(|_| broken())
}

async fn file(body: Body) -> Result<Vec<u8>, Complaint> {
    let read = axum::body::to_bytes(body, FILE_BYTES_MAX);
    let late = |_| Complaint::new(StatusCode::REQUEST_TIMEOUT, "the file did not come in time");
    let bytes: Bytes =
        tokio::time::timeout(FILE_WITHIN, read).await.map_err(late)?.map_err(|_| {
            let words = format!("at most {} MiB are taken", FILE_BYTES_MAX >> 20);
            Complaint::new(StatusCode::PAYLOAD_TOO_LARGE, words)
        })?;
    if bytes.is_empty() {
        return Err(Complaint::new(StatusCode::BAD_REQUEST, "the file is empty"));
    }
    Ok(bytes.into())
}

/// `GET /metrics`.
pub async fn metrics(State(desk): Shared) -> Result<Response, Complaint> {
    let figures = ask(desk, House::figures).await?;
    let text = super::metrics::text(&figures).ok_or_else(broken)?;
    Ok(([(header::CONTENT_TYPE, super::metrics::MIME)], text).into_response())
}

/// `GET /healthz`: 200, or 503 with what is wrong. Open to all: it says no more than that.
pub async fn healthz(State(desk): Shared) -> Result<Response, Complaint> {
    let figures = ask(desk, House::figures).await?;
    let lost = figures.sources.iter().filter(|source| source.state.is_trouble());
    let lost: Vec<String> =
        lost.map(|source| format!("a source is {}", source.state.as_str())).collect();
    if figures.degraded || !lost.is_empty() {
        let mut words = lost.join("\n");
        if figures.degraded {
            words.push_str("\ndegraded: see /api/status or `hearken status`");
        }
        return Ok((StatusCode::SERVICE_UNAVAILABLE, words.trim().to_owned()).into_response());
    }
    Ok("ok".into_response())
}

/// What is not there.
pub async fn nothing() -> Complaint {
    Complaint::new(StatusCode::NOT_FOUND, "there is nothing here")
}

/// What is there, but not asked for in this way.
pub async fn wrong_method() -> Complaint {
    Complaint::new(StatusCode::METHOD_NOT_ALLOWED, "this can't be asked for in this way")
}
