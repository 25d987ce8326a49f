//! Who asks, as the request itself proves it (DPoP, RFC 9449).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use waymesh_proto::http::PROOF_HEADER;
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Code, Fault};
use waymesh_trust::dpop::{self, DpopError, Request};

use super::Front;
use super::error::{HttpError, Wrong};
use crate::clock::Clock;
use crate::guard::Own;
use crate::proofs::Issued;
use crate::server::Ends;

/// The key that the sender of a request has proved to hold. Whose it is, is
/// another question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proved(pub(crate) AgentId);

impl FromRequestParts<Arc<Front>> for Proved {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, HttpError> {
        prove(front, parts, None).map(Self)
    }
}

/// Checks the proof of a request; with a certificate, that it covers this one.
pub(super) fn prove(
    front: &Front,
    parts: &Parts,
    certificate: Option<&Certificate>,
) -> Result<AgentId, HttpError> {
    if let Some(ends) = parts.extensions.get::<Ends>() {
        front.admit(*ends)?;
    }
    check(front, parts, certificate).inspect_err(|_| front.metrics.proofs_refused.add())
}

fn check(
    front: &Front,
    parts: &Parts,
    certificate: Option<&Certificate>,
) -> Result<AgentId, HttpError> {
    let (proof, nonce) = verify(front, parts, certificate).map_err(refused)?;
    match front.proofs.take(nonce, proof.id) {
        Ok(()) => Ok(proof.key),
        Err(_) => {
            let fault = Fault::new(Code::Replayed, "the proof has been used before")
                .with_hint("make a new proof for every request");
            Err(HttpError::unproved(Wrong::Proof, fault))
        }
    }
}

/// What a request proves, and with which nonce. It may name any of the own
/// URLs: a proxy in front changes the `Host`, but not what was signed.
fn verify(
    front: &Front,
    parts: &Parts,
    certificate: Option<&Certificate>,
) -> Result<(dpop::Proof, Issued), Unproved> {
    let text = the_proof(&parts.headers)?;
    let nonce = Cell::new(None);
    let mut proof = Err(DpopError::OtherRequest("URL"));
    let own = parts.extensions.get::<Own>();
    for url in own.into_iter().flat_map(|own| own.urls(parts.uri.path())) {
        let request = Request {
            method: parts.method.as_str(),
            url: &url,
            certificate,
        };
        let is_current = |text: &str| {
            nonce.set(front.proofs.check(Instant::now(), text));
            nonce.get().is_some()
        };
        proof = dpop::verify(text, request, is_current, Clock::now().unix_ms);
        if !matches!(proof, Err(DpopError::OtherRequest("URL"))) {
            break;
        }
    }
    let nonce = nonce.get().ok_or(DpopError::Nonce);
    Ok((proof?, nonce?))
}

/// Why a request proves nothing.
enum Unproved {
    Missing,
    Twice,
    Bad(DpopError),
}

impl From<DpopError> for Unproved {
    fn from(error: DpopError) -> Self {
        Self::Bad(error)
    }
}

/// The only proof of a request (RFC 9449 §4.3).
fn the_proof(headers: &HeaderMap) -> Result<&str, Unproved> {
    let mut proofs = headers.get_all(PROOF_HEADER).iter();
    match (proofs.next(), proofs.next()) {
        (None, _) => Err(Unproved::Missing),
        (Some(proof), None) => Ok(proof.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Err(Unproved::Twice),
    }
}

fn refused(unproved: Unproved) -> HttpError {
    match unproved {
        Unproved::Missing => {
            let fault = Fault::new(Code::Unauthorized, "the request has no DPoP proof")
                .with_hint("prove the possession of your key as RFC 9449 says");
            HttpError::unproved(Wrong::Missing, fault)
        }
        Unproved::Twice => {
            let fault = Fault::new(Code::BadRequest, "the request has two DPoP proofs");
            HttpError::unproved(Wrong::Proof, fault)
        }
        Unproved::Bad(error @ DpopError::Nonce) => HttpError::unproved(Wrong::Nonce, error.fault()),
        Unproved::Bad(error) => HttpError::unproved(Wrong::Proof, error.fault()),
    }
}
