//! Errors over HTTP: a status, a coded fault in the body, and what the client must do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use waymesh_proto::{Code, Fault};

/// Seconds after which whoever was too fast may try again: at every rate here
/// one more is paid for by then.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How a proof is to be made (RFC 9449 §7.1); with what was wrong with this one.
const WANTS_PROOF: HeaderValue = HeaderValue::from_static(r#"DPoP algs="EdDSA""#);
const BAD_PROOF: HeaderValue =
    HeaderValue::from_static(r#"DPoP error="invalid_dpop_proof", algs="EdDSA""#);
const WANTS_NONCE: HeaderValue =
    HeaderValue::from_static(r#"DPoP error="use_dpop_nonce", algs="EdDSA""#);

/// An error as the body `{"error": …}`.
#[derive(Debug)]
pub(crate) struct HttpError {
    status: StatusCode,
    fault: Fault,
    wants: Wants,
}

/// What a header of the answer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    Proof(Wrong),
    Patience,
}

/// What is wrong with the proof of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is none.
    Missing,
    /// It proves nothing.
    Proof,
    /// It lacks a nonce of ours; the answer has one.
    Nonce,
}

impl HttpError {
    pub(crate) const fn new(status: StatusCode, fault: Fault) -> Self {
        Self {
            status,
            fault,
            wants: Wants::Nothing,
        }
    }

    /// The request is not well formed.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            Fault::new(Code::BadRequest, message),
        )
    }

    /// The request does not prove who asks.
    pub(super) const fn unproved(wrong: Wrong, fault: Fault) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            fault,
            wants: Wants::Proof(wrong),
        }
    }

    /// The request does not say which member asks.
    pub(super) fn anonymous() -> Self {
        let fault = Fault::new(Code::Unauthorized, "only members may ask this")
            .with_hint("send your certificate as Authorization: DPoP, with a proof");
        Self::unproved(Wrong::Missing, fault)
    }

    /// It cannot be answered now.
    pub(super) const fn unavailable(fault: Fault) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, fault)
    }

    /// Whoever asks may not.
    pub(crate) const fn forbidden(fault: Fault) -> Self {
        Self::new(StatusCode::FORBIDDEN, fault)
    }

    /// It was asked too often.
    pub(crate) fn limited(fault: Fault) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            fault: fault.with_hint("wait a second, then try again"),
            wants: Wants::Patience,
        }
    }

    /// The registry is about to end.
    pub(crate) fn stopping() -> Self {
        let fault = Fault::new(Code::RegistryUnreachable, "the registry is stopping");
        Self::unavailable(fault)
    }
}

#[derive(Serialize)]
struct Body {
    error: Fault,
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = Json(Body { error: self.fault });
        let mut response = (self.status, body).into_response();
        let header = match self.wants {
            Wants::Nothing => return response,
            Wants::Proof(Wrong::Missing) => (header::WWW_AUTHENTICATE, WANTS_PROOF),
            Wants::Proof(Wrong::Proof) => (header::WWW_AUTHENTICATE, BAD_PROOF),
            Wants::Proof(Wrong::Nonce) => (header::WWW_AUTHENTICATE, WANTS_NONCE),
            Wants::Patience => (header::RETRY_AFTER, RETRY_AFTER),
        };
        response.headers_mut().insert(header.0, header.1);
        response
    }
}
