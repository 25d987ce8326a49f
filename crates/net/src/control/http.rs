//! HTTP/1.1 with the registry: requests that prove who asks, and upgrades.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, upgrade};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use waymesh_proto::Fault;
use waymesh_proto::http::{PROOF_HEADER, PROOF_NONCE_HEADER};

use super::Deadline;
use super::dial::{Io, dial};
use super::error::{ConnectError, RequestError};
use super::meter::Meter;
use super::target::{ProofRequest, Target};

/// Largest head of an answer, bytes. Chosen: the least that the library allows is 8 KiB.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// Largest body that [`Client::get`] reads, bytes. Chosen: several pages of agents.
pub const GET_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Largest body of an error that is read, bytes. Chosen.
pub(super) const ERROR_MAX_BYTES: usize = 64 * 1024;

/// What this program calls itself.
pub(super) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("waymesh/", env!("CARGO_PKG_VERSION")));

type Body = Full<Bytes>;

/// The library's task of a connection; `None` after its end.
type Driver = Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>;

/// One HTTP/1.1 connection. It makes progress only while it is asked for something.
pub(super) struct Connection {
    sender: http1::SendRequest<Body>,
    driver: Driver,
}

impl Connection {
    pub(super) async fn start(io: Io) -> Result<Self, ConnectError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX_BYTES)
            .title_case_headers(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| ConnectError::Handshake(e.to_string()))?;
        let driver: Driver = Some(Box::pin(connection.with_upgrades()));
        Ok(Self { sender, driver })
    }

    /// Whether the other side has not closed it meanwhile.
    fn is_open(&mut self) -> bool {
        let ended = self
            .driver
            .as_mut()
            .is_none_or(|d| d.now_or_never().is_some());
        if ended {
            self.driver = None;
        }
        !ended && !self.sender.is_closed()
    }

    /// The answer to a request, up to its head.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        // Where it is not ready, the request comes back as not sent.
        let _ = drive(&mut self.driver, self.sender.ready()).await;
        drive(&mut self.driver, self.sender.try_send_request(request)).await
    }

    /// The body of an answer.
    pub(super) async fn body(
        &mut self,
        response: Response<Incoming>,
        max_bytes: usize,
    ) -> Result<Bytes, RequestError> {
        let body = Limited::new(response.into_body(), max_bytes).collect();
        match drive(&mut self.driver, body).await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(RequestError::Unreadable(format!(
                "the answer is larger than {max_bytes} bytes"
            ))),
            Err(error) => Err(RequestError::Broken(error.to_string())),
        }
    }

    /// The stream below, after an answer that switched protocols, and what was
    /// read of the new protocol already.
    pub(super) async fn upgrade(
        mut self,
        response: Response<Incoming>,
    ) -> Result<(Io, Bytes), hyper::Error> {
        let upgraded = drive(&mut self.driver, upgrade::on(response)).await?;
        let parts = upgraded
            .downcast::<TokioIo<Io>>()
            .expect("the connection was started on this type");
        Ok((parts.io.into_inner(), parts.read_buf))
    }

    /// Asks a proxy to connect to a host (RFC 9110 §9.3.6).
    pub(super) async fn tunnel(
        mut self,
        host_and_port: &str,
        credentials: Option<&HeaderValue>,
    ) -> Result<Io, ConnectError> {
        let handshake = |why: String| ConnectError::Handshake(why);
        let mut request = Request::connect(host_and_port)
            .header(HOST, host_and_port)
            .header(USER_AGENT, AGENT)
            .body(Body::default())
            .map_err(|e| handshake(e.to_string()))?;
        if let Some(credentials) = credentials {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, credentials.clone());
        }
        let response = self.exchange(request).await;
        let response = response.map_err(|e| handshake(e.into_error().to_string()))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(handshake("it wants other credentials (407)".into()));
            }
            status => return Err(handshake(format!("it answers {status}"))),
        }
        match self.upgrade(response).await {
            Ok((io, early)) if early.is_empty() => Ok(io),
            Ok(_) => Err(handshake("it speaks where the registry should".into())),
            Err(error) => Err(handshake(error.to_string())),
        }
    }
}

/// Waits for something of a connection and lets the connection work meanwhile.
async fn drive<F: Future>(driver: &mut Driver, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Some(task) = driver
            && let Poll::Ready(_ended) = task.as_mut().poll(cx)
        {
            // What waits on it is told why by the library.
            *driver = None;
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// What is asked of the registry.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: &'static str,
    /// With the query, if any.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Bytes,
    pub(super) answer_max_bytes: usize,
}

/// What the registry answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The answer where it is not what was asked for, as an error.
    pub(super) fn into_error(self) -> RequestError {
        match coded(&self.body) {
            Some(fault) => RequestError::Refused(fault),
            None => RequestError::Unreadable(format!("HTTP {}", self.status)),
        }
    }
}

/// The registry's own error in a body `{"error": …}`.
pub(super) fn coded(body: &[u8]) -> Option<Fault> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: Fault,
    }
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    Some(body.error)
}

/// Asks a registry one thing after the other, over one connection as long as
/// that lasts. Requests carry a proof of possession where the [`Target`] has a
/// prover.
pub struct Client {
    target: Target,
    connection: Option<Connection>,
    /// What the next proof must contain (RFC 9449 §8).
    nonce: Option<String>,
    meter: Meter,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; the first request connects.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            connection: None,
            nonce: None,
            meter: Meter::default(),
        }
    }

    /// Makes another client, with its own connection, that knows the nonce already.
    pub(super) fn sibling(&self) -> Self {
        Self {
            nonce: self.nonce.clone(),
            ..Self::new(self.target.clone())
        }
    }

    /// The body of the answer to a `GET`, [`GET_MAX_BYTES`] at most. `path`
    /// begins with `/` and may have a query. A dropped request takes its
    /// connection with it; the next one makes a new one.
    ///
    /// # Errors
    /// A [`RequestError`], after `limit` at the latest.
    pub async fn get(
        &mut self,
        path: &str,
        headers: &[(&'static str, &str)],
        limit: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        let ask = Ask {
            method: "GET",
            path,
            headers,
            body: Bytes::new(),
            answer_max_bytes: GET_MAX_BYTES,
        };
        let target = self.target.clone();
        let answer = Deadline::after(limit).limit(&target, Box::pin(self.ask(&ask)));
        let answer = answer.await??;
        match answer.status {
            StatusCode::OK => Ok(answer.body.into()),
            _ => Err(answer.into_error()),
        }
    }

    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// One request and its answer, asked again where only the nonce was missing.
    pub(super) async fn ask(&mut self, ask: &Ask<'_>) -> Result<Answer, RequestError> {
        let (answer, is_asked_for_nonce) = self.ask_once(ask).await?;
        if is_asked_for_nonce {
            return self.ask_once(ask).await.map(|(answer, _)| answer);
        }
        Ok(answer)
    }

    async fn ask_once(&mut self, ask: &Ask<'_>) -> Result<(Answer, bool), RequestError> {
        let request = self.request(ask)?;
        let (mut connection, response) = self.exchange(request).await?;
        let status = response.status();
        let nonce = nonce_of(response.headers());
        let is_asked_for_nonce =
            status == StatusCode::UNAUTHORIZED && nonce.is_some() && nonce != self.nonce;
        if nonce.is_some() {
            self.nonce = nonce;
        }
        let max_bytes = if status.is_success() {
            ask.answer_max_bytes
        } else {
            ERROR_MAX_BYTES
        };
        let body = connection.body(response, max_bytes).await?;
        self.connection = Some(connection);
        Ok((Answer { status, body }, is_asked_for_nonce))
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Body>, RequestError> {
        let way = self.target.way();
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(HOST, &way.authority)
            .header(USER_AGENT, AGENT);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(prover) = self.target.prover() {
            let path = ask.path.split_once('?').map_or(ask.path, |(path, _)| path);
            let proof = prover(ProofRequest {
                method: ask.method,
                url: &format!("{}{path}", way.origin),
                nonce: self.nonce.as_deref(),
            });
            request = request.header(PROOF_HEADER, proof);
        }
        request
            .body(ask.body.clone().into())
            .map_err(|e| RequestError::Broken(e.to_string()))
    }

    /// Sends a request on the open connection, or on a new one where there is
    /// none or where the other side closed it before it had the request.
    async fn exchange(
        &mut self,
        mut request: Request<Body>,
    ) -> Result<(Connection, Response<Incoming>), RequestError> {
        if let Some(mut connection) = self.connection.take()
            && connection.is_open()
        {
            match connection.exchange(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(RequestError::Broken(error.into_error().to_string())),
                },
            }
        }
        let io = dial(self.target.way(), &self.meter).await?;
        let mut connection = Connection::start(io).await?;
        let response = connection.exchange(request).await;
        let response = response.map_err(|e| not_http(e.into_error()))?;
        Ok((connection, response))
    }
}

/// Nobody who speaks HTTP, or nobody any more.
fn not_http(error: hyper::Error) -> RequestError {
    if error.is_parse() {
        RequestError::Unreadable(error.to_string())
    } else {
        RequestError::Broken(error.to_string())
    }
}

fn nonce_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(PROOF_NONCE_HEADER)?.to_str().ok()?;
    Some(value.to_owned())
}
