//! The three requests of a long-poll session.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;
use waymesh_proto::http::SESSION_HEADER;
use waymesh_proto::poll::{POLL_BODY_MAX_BYTES, PollMessage, PollOpened};
use waymesh_proto::{AgentId, Code, Fault, PollId};

use super::session::{Session, Unserved, received};
use crate::carrier::Received;
use crate::connection;
use crate::guard::Own;
use crate::http::{Front, HttpError, Proved};
use crate::server::Ends;
use crate::source::Source;

/// How long a body may take to arrive. Chosen: the largest over a line of 280 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// `POST /v1/poll`: opens a session for whoever holds a key.
pub(crate) async fn open(
    State(front): State<Arc<Front>>,
    Extension(ends): Extension<Ends>,
    Extension(own): Extension<Own>,
    Proved(key): Proved,
) -> Result<Response, HttpError> {
    if front.driver.is_closed() {
        return Err(HttpError::stopping());
    }
    let session = PollId::from_bytes(rand::random());
    let visitor = front.visitor(ends, &own, Some(key));
    let (identity, driver) = (Arc::clone(&front.identity), front.driver.clone());
    let opened = front
        .sessions
        .open(session, key, Source::of(ends.peer.ip()), |carrier| {
            let (incoming, outlet) = carrier.split();
            connection::serve(incoming, outlet, visitor, identity, driver)
        });
    opened.map_err(|_| {
        let fault = Fault::new(Code::RateLimited, "there are too many long-poll sessions");
        HttpError::limited(fault)
    })?;
    Ok((StatusCode::CREATED, Json(PollOpened { session })).into_response())
}

/// `POST /v1/poll/in`: messages from the node.
pub(crate) async fn take_in(
    State(front): State<Arc<Front>>,
    Proved(key): Proved,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, HttpError> {
    let session = find(&front, &headers, key)?;
    let _turn = session.begin_in().map_err(unserved)?;
    let messages = messages(&read(&headers, body).await?)?;
    session.take_in(messages).await.map_err(unserved)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/poll/out`: waits for messages to the node.
pub(crate) async fn give_out(
    State(front): State<Arc<Front>>,
    Proved(key): Proved,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let session = find(&front, &headers, key)?;
    session.is_alive();
    let body = session.give_out().await.map_err(unserved)?;
    let kind = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((kind, body).into_response())
}

/// The session that a request names, for the key that opened it only.
fn find(front: &Front, headers: &HeaderMap, key: AgentId) -> Result<Arc<Session>, HttpError> {
    let named = headers.get(SESSION_HEADER).and_then(|id| id.to_str().ok());
    let id: PollId = named
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| HttpError::bad_request("the request names no session"))?;
    let session = front.sessions.find(&id).ok_or_else(over)?;
    if session.key() != key {
        let fault = Fault::new(Code::Unauthorized, "the session belongs to another key");
        return Err(HttpError::forbidden(fault));
    }
    Ok(session)
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, HttpError> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > POLL_BODY_MAX_BYTES) {
        return Err(too_large());
    }
    let body = Limited::new(body, POLL_BODY_MAX_BYTES).collect();
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(HttpError::bad_request(error.to_string())),
        Err(_) => {
            let fault = Fault::new(Code::Timeout, "the body came too slowly");
            Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, fault))
        }
    }
}

fn messages(body: &[u8]) -> Result<Vec<Received>, HttpError> {
    let messages = PollMessage::all(body).map_err(|error| {
        let fault = Fault::new(error.code(), error.to_string());
        HttpError::new(StatusCode::BAD_REQUEST, fault)
    })?;
    Ok(messages.into_iter().map(received).collect())
}

fn unserved(why: Unserved) -> HttpError {
    match why {
        Unserved::Over => over(),
        Unserved::Busy => {
            let fault = Fault::new(
                Code::BadRequest,
                "another request of this session is under way",
            )
            .with_hint("send one request of each kind at a time");
            HttpError::new(StatusCode::CONFLICT, fault)
        }
        Unserved::TooSlow => {
            let fault = Fault::new(
                Code::QueueFull,
                "the registry is far behind with this session",
            );
            HttpError::new(StatusCode::SERVICE_UNAVAILABLE, fault)
        }
    }
}

fn over() -> HttpError {
    let fault = Fault::new(Code::UnknownId, "the session is over").with_hint("open a new one");
    HttpError::new(StatusCode::GONE, fault)
}

fn too_large() -> HttpError {
    let message = format!("the body is larger than {POLL_BODY_MAX_BYTES} bytes");
    let fault = Fault::new(Code::TooLarge, message);
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, fault)
}
