//! The HTTP side: health, the agents, the metrics, and the way to the control WebSocket.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use waymesh_core::registry::{ConnId, PAGE_MAX_AGENTS, Page};
use waymesh_proto::api::AgentRecord;
use waymesh_proto::control::{CONTROL_PATH, RegistryKey};
use waymesh_proto::ids::IdError;
use waymesh_proto::{Code, Fault, MeshId, Name};

use crate::connection::{self, Identity, READ_MAX_BYTES};
use crate::driver::Input;
use crate::guard::guard;
use crate::metrics::Metrics;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) identity: Arc<Identity>,
    pub(crate) driver: mpsc::Sender<Input>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) next_conn: AtomicU64,
}

/// All routes. Request bodies are not read by any of them.
pub(crate) fn router(front: Front) -> Router {
    let front = Arc::new(front);
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/agents", get(agents))
        .route("/metrics", get(metrics))
        .route(CONTROL_PATH, get(control))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&front), guard))
        .with_state(front)
}

/// An error as the body `{"error": …}`.
pub(crate) struct HttpError(pub(crate) StatusCode, pub(crate) Fault);

#[derive(Serialize)]
struct ErrorBody {
    error: Fault,
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

fn bad_request(message: impl Into<String>) -> HttpError {
    HttpError(
        StatusCode::BAD_REQUEST,
        Fault::new(Code::BadRequest, message),
    )
}

fn stopping() -> HttpError {
    let fault = Fault::new(Code::RegistryUnreachable, "the registry is stopping");
    HttpError(StatusCode::SERVICE_UNAVAILABLE, fault)
}

async fn unknown_path() -> HttpError {
    let fault = Fault::new(Code::UnknownVerb, "nothing is served at this path")
        .with_hint("try /v1/agents or /v1/health");
    HttpError(StatusCode::NOT_FOUND, fault)
}

async fn wrong_method() -> HttpError {
    let fault = Fault::new(Code::BadRequest, "only GET is served here");
    HttpError(StatusCode::METHOD_NOT_ALLOWED, fault)
}

#[derive(Serialize)]
struct Health {
    ok: bool,
    mesh: MeshId,
    registry: RegistryKey,
    version: &'static str,
}

async fn health(State(front): State<Arc<Front>>) -> Result<Json<Health>, HttpError> {
    if front.driver.is_closed() {
        return Err(stopping());
    }
    Ok(Json(Health {
        ok: true,
        mesh: front.identity.mesh,
        registry: front.identity.keypair.registry_key(),
        version: env!("CARGO_PKG_VERSION"),
    }))
}

#[derive(Deserialize)]
struct AgentsQuery {
    name: Option<String>,
    skill: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
struct Agents {
    agents: Vec<AgentRecord>,
    next: Option<Name>,
}

async fn agents(
    State(front): State<Arc<Front>>,
    query: Result<Query<AgentsQuery>, QueryRejection>,
) -> Result<Json<Agents>, HttpError> {
    let Query(query) = query.map_err(|e| bad_request(e.body_text()))?;
    let (reply, found) = oneshot::channel();
    let input = Input::Find {
        limit: limit(query.limit.as_deref())?,
        query: waymesh_core::registry::Query {
            name: optional(query.name.as_deref())?,
            skill: optional(query.skill.as_deref())?,
            after: optional(query.after.as_deref())?,
        },
        reply,
    };
    front.driver.send(input).await.map_err(|_| stopping())?;
    let Page { agents, next } = found.await.map_err(|_| stopping())?;
    Ok(Json(Agents { agents, next }))
}

/// How many agents a page may have: as many as are asked for, up to [`PAGE_MAX_AGENTS`].
fn limit(text: Option<&str>) -> Result<NonZeroUsize, HttpError> {
    let number = text.map_or(Ok(PAGE_MAX_AGENTS), str::parse).ok();
    number
        .filter(|limit| *limit <= PAGE_MAX_AGENTS)
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| bad_request(format!("the limit is not from 1 to {PAGE_MAX_AGENTS}")))
}

fn optional<T: FromStr<Err = IdError>>(text: Option<&str>) -> Result<Option<T>, HttpError> {
    text.map(str::parse::<T>)
        .transpose()
        .map_err(|e: IdError| bad_request(e.to_string()))
}

async fn metrics(State(front): State<Arc<Front>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, front.metrics.text())
}

async fn control(
    State(front): State<Arc<Front>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    let upgrade = upgrade.map_err(|e| {
        let fault = Fault::new(Code::BadRequest, e.body_text())
            .with_hint("this path speaks WebSocket (RFC 6455) only");
        HttpError(e.status(), fault)
    })?;
    let conn = ConnId(front.next_conn.fetch_add(1, Ordering::Relaxed));
    let identity = Arc::clone(&front.identity);
    let driver = front.driver.clone();
    Ok(upgrade
        .max_message_size(READ_MAX_BYTES)
        .max_frame_size(READ_MAX_BYTES)
        .on_upgrade(move |socket| connection::serve(socket, conn, identity, driver)))
}
