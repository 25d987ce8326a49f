//! The HTTP side: routes, health, metrics, and the way to the control WebSocket
//! (`spec/http.md`).

mod agents;
mod error;
mod proof;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::mpsc;
use waymesh_core::registry::ConnId;
use waymesh_proto::control::{CONTROL_PATH, RegistryKey};
use waymesh_proto::http::{
    AGENTS_PATH, HEALTH_PATH, METRICS_PATH, POLL_IN_PATH, POLL_OUT_PATH, POLL_PATH,
};
use waymesh_proto::{AgentId, Code, Fault, MeshId};
use waymesh_trust::mesh_id;

use crate::carrier::{Visitor, websocket};
use crate::connection::{self, Identity, READ_MAX_BYTES};
use crate::driver::Input;
use crate::guard::{Own, guard};
use crate::metrics::Metrics;
use crate::origins::Origins;
use crate::poll::{self, Sessions};
use crate::proofs::Proofs;
use crate::rates::{Rate, Rates};
use crate::server::Ends;
use crate::source::Source;
use crate::turn::RelayHandle;

pub(crate) use error::HttpError;
pub(crate) use proof::Proved;

/// How often one address may begin something for which the registry must
/// verify signatures: a control connection or a request with a proof; one more
/// is answered with `rate_limited`. Chosen: a thousand nodes of one site come
/// back at once, or as many as may poll do so twice a second; less than a
/// tenth of one processor.
const SOURCE_RATE: Rate = Rate {
    per_second: 500,
    burst: 2_000,
    keys_max: 4_096,
};

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Front {
    relay: Option<RelayHandle>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) origins: Origins,
    pub(crate) driver: mpsc::Sender<Input>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) proofs: Proofs,
    members: Rates<AgentId>,
    sources: Rates<Source>,
    tls_key: Option<[u8; 32]>,
    next_conn: AtomicU64,
}

impl Front {
    /// What the handlers need at their start. `tls_key` is the SHA-256 of the key
    /// that the port speaks TLS with, if it does; `nonce_key` is 32 random bytes.
    pub(crate) fn new(
        relay: Option<RelayHandle>,
        identity: Arc<Identity>,
        origins: Origins,
        driver: mpsc::Sender<Input>,
        metrics: Arc<Metrics>,
        tls_key: Option<[u8; 32]>,
        nonce_key: &[u8; 32],
    ) -> Self {
        Self {
            relay,
            identity,
            origins,
            driver,
            metrics,
            sessions: Arc::default(),
            proofs: Proofs::new(nonce_key, Instant::now()),
            members: agents::rates(),
            sources: Rates::new(SOURCE_RATE),
            tls_key,
            next_conn: AtomicU64::new(0),
        }
    }

    /// Somebody who begins a control connection; `key` is what was proved.
    pub(crate) fn visitor(&self, ends: Ends, own: &Own, key: Option<AgentId>) -> Visitor {
        Visitor {
            conn: ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed)),
            address: ends.peer.ip().to_canonical(),
            key,
            origins: own.origins(),
            tls_key: self.tls_key,
        }
    }

    /// Lets an address go on that did not begin too much lately.
    pub(crate) fn admit(&self, ends: Ends) -> Result<(), HttpError> {
        let source = Source::of(ends.peer.ip());
        if source.is_this_machine() || self.sources.pay(Instant::now(), source).is_ok() {
            return Ok(());
        }
        self.metrics.requests_limited.add();
        let fault = Fault::new(Code::RateLimited, "too many requests from this address");
        Err(HttpError::limited(fault))
    }
}

/// All routes.
pub(crate) fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route(HEALTH_PATH, get(health))
        .route(AGENTS_PATH, get(agents::agents))
        .route(METRICS_PATH, get(metrics))
        .route(CONTROL_PATH, get(control))
        .route(POLL_PATH, post(poll::open))
        .route(POLL_IN_PATH, post(poll::take_in))
        .route(POLL_OUT_PATH, get(poll::give_out))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&front), guard))
        .with_state(front)
}

async fn unknown_path() -> HttpError {
    let fault = Fault::new(Code::UnknownVerb, "nothing is served at this path")
        .with_hint("the paths are /v1/control, /v1/poll, /v1/agents and /v1/health");
    HttpError::new(StatusCode::NOT_FOUND, fault)
}

async fn wrong_method() -> HttpError {
    let fault = Fault::new(Code::BadRequest, "this method is not served here");
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, fault)
}

#[derive(Serialize)]
struct Health {
    ok: bool,
    mesh: Option<MeshId>,
    registry: RegistryKey,
    /// `None` without a STUN and TURN server.
    turn: Option<TurnHealth>,
    version: &'static str,
}

/// How the STUN and TURN server is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TurnHealth {
    Serving,
    Failed,
}

impl TurnHealth {
    fn of(relay: &RelayHandle) -> Self {
        match relay.is_serving() {
            true => Self::Serving,
            false => Self::Failed,
        }
    }
}

async fn health(State(front): State<Arc<Front>>) -> Result<(StatusCode, Json<Health>), HttpError> {
    if front.driver.is_closed() {
        return Err(HttpError::stopping());
    }
    let turn = front.relay.as_ref().map(TurnHealth::of);
    let ok = turn != Some(TurnHealth::Failed);
    let status = match ok {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let health = Health {
        ok,
        mesh: front.identity.mesh.get().map(mesh_id),
        registry: front.identity.keypair.registry_key(),
        turn,
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok((status, Json(health)))
}

/// The counters, for programs of this machine that speak for themselves: they
/// tell who is busy when.
async fn metrics(
    State(front): State<Arc<Front>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, HttpError> {
    let is_forwarded = headers.keys().any(|name| {
        let name = name.as_str();
        name == "forwarded" || name.starts_with("x-forwarded-") || name == "x-real-ip"
    });
    if is_forwarded || !Source::of(ends.peer.ip()).is_this_machine() {
        let fault = Fault::new(
            Code::Unauthorized,
            "metrics are not served to other machines",
        )
        .with_hint("ask on the registry's own machine, not through a proxy");
        return Err(HttpError::new(StatusCode::FORBIDDEN, fault));
    }
    front.metrics.poll_sessions.set(front.sessions.count());
    if let Some(relay) = &front.relay {
        front.metrics.follow(&relay.counters());
        let up = usize::from(relay.is_serving());
        front.metrics.relay_up.set(up);
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((kind, front.metrics.text()))
}

async fn control(
    State(front): State<Arc<Front>>,
    Extension(ends): Extension<Ends>,
    Extension(own): Extension<Own>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    let upgrade = upgrade.map_err(|e| {
        let fault = Fault::new(Code::BadRequest, e.body_text())
            .with_hint("this path speaks WebSocket (RFC 6455) only");
        HttpError::new(e.status(), fault)
    })?;
    front.admit(ends)?;
    let visitor = front.visitor(ends, &own, None);
    let identity = Arc::clone(&front.identity);
    let driver = front.driver.clone();
    Ok(upgrade
        .max_message_size(READ_MAX_BYTES)
        .max_frame_size(READ_MAX_BYTES)
        .on_upgrade(move |socket| {
            let (incoming, outlet) = websocket(socket);
            connection::serve(incoming, outlet, visitor, identity, driver)
        }))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use waymesh_trust::Keypair;

    use super::*;

    fn front() -> Front {
        let identity = Identity::new(Keypair::from_seed(&[1; 32]), None);
        let listening = SocketAddr::from(([0, 0, 0, 0], 7700));
        let (driver, _) = mpsc::channel(1);
        Front::new(
            None,
            Arc::new(identity),
            Origins::new(None, true, listening),
            driver,
            Arc::default(),
            None,
            &[2; 32],
        )
    }

    fn ends(peer: &str) -> Ends {
        Ends {
            peer: SocketAddr::new(peer.parse().expect("an address"), 40_000),
            arrived: SocketAddr::from(([192, 0, 2, 9], 7700)),
        }
    }

    #[test]
    fn an_address_that_begins_too_much_is_limited_and_others_are_not() {
        let front = front();
        let admitted = |peer: &str| front.admit(ends(peer)).is_ok();
        // What is paid for while the test runs is admitted beside the burst.
        let most = 2 * SOURCE_RATE.burst;
        let count = (0..most).take_while(|_| admitted("192.0.2.1")).count();
        assert!((SOURCE_RATE.burst as usize..most as usize).contains(&count));
        assert!(admitted("192.0.2.2"));
        assert!((0..most).all(|_| admitted("127.0.0.1")));
    }
}
