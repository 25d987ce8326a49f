//! The agents that the registry knows, for members only.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::header;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use waymesh_core::registry::{PAGE_MAX_AGENTS, Page};
use waymesh_proto::api::AgentRecord;
use waymesh_proto::http::AUTHORIZATION_SCHEME;
use waymesh_proto::ids::IdError;
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Code, Fault, Name};
use waymesh_trust::certificate::Verified;

use super::proof::prove;
use super::{Front, HttpError};
use crate::clock::Clock;
use crate::driver::Input;
use crate::rates::{Rate, Rates};

/// How often one member may ask. Chosen: all pages of a full registry at once;
/// each costs some milliseconds. One more is answered with `rate_limited`.
const MEMBER_RATE: Rate = Rate {
    per_second: 10,
    burst: 50,
    keys_max: 4_096,
};

/// How often each member has asked.
pub(super) const fn rates() -> Rates<AgentId> {
    Rates::new(MEMBER_RATE)
}

/// A member that has proved to be one: its certificate is good, and the
/// request is signed by the certificate's key.
#[derive(Debug, Clone)]
pub(super) struct Member(Arc<Verified>);

impl FromRequestParts<Arc<Front>> for Member {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, HttpError> {
        let certificate = certificate(parts)?;
        let key = prove(front, parts, Some(&certificate))?;
        let member = verify(front, &certificate)?;
        if member.key != key {
            let fault = Fault::new(
                Code::Unauthorized,
                "the proof is by another key than the certificate's",
            );
            return Err(HttpError::forbidden(fault));
        }
        match front.members.pay(Instant::now(), member.agent_id) {
            Ok(()) => Ok(Self(member)),
            Err(_) => {
                front.metrics.requests_limited.add();
                let fault = Fault::new(Code::RateLimited, "this member asks too often");
                Err(HttpError::limited(fault))
            }
        }
    }
}

/// The certificate in the `Authorization` header; where RFC 9449 has an access token.
fn certificate(parts: &Parts) -> Result<Certificate, HttpError> {
    let header = parts.headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let (_, certificate) = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(AUTHORIZATION_SCHEME))
        .ok_or_else(HttpError::anonymous)?;
    certificate.trim().parse().map_err(|error| {
        let fault = Fault::new(Code::BadCertificate, format!("{error}"));
        HttpError::forbidden(fault)
    })
}

fn verify(front: &Front, certificate: &Certificate) -> Result<Arc<Verified>, HttpError> {
    let identity = &front.identity;
    let mesh = identity.mesh().map_err(HttpError::unavailable)?;
    identity
        .certificates()
        .verify(certificate, &mesh, Clock::now().unix_ms)
        .map_err(|error| HttpError::forbidden(error.fault()))
}

#[derive(Deserialize)]
pub(super) struct AgentsQuery {
    name: Option<String>,
    skill: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Agents {
    agents: Vec<AgentRecord>,
    next: Option<Name>,
}

/// One page of the agents that fit.
pub(super) async fn agents(
    State(front): State<Arc<Front>>,
    Member(member): Member,
    query: Result<Query<AgentsQuery>, QueryRejection>,
) -> Result<Json<Agents>, HttpError> {
    let Query(query) = query.map_err(|e| HttpError::bad_request(e.body_text()))?;
    let (reply, found) = oneshot::channel();
    let input = Input::Find {
        member,
        limit: limit(query.limit.as_deref())?,
        query: waymesh_core::registry::Query {
            name: optional(query.name.as_deref())?,
            skill: optional(query.skill.as_deref())?,
            after: optional(query.after.as_deref())?,
        },
        reply,
    };
    let sent = front.driver.send(input).await;
    sent.map_err(|_| HttpError::stopping())?;
    let page = found.await.map_err(|_| HttpError::stopping())?;
    let Page { agents, next } = page.map_err(HttpError::forbidden)?;
    Ok(Json(Agents { agents, next }))
}

/// How many agents a page may have: as many as are asked for, up to [`PAGE_MAX_AGENTS`].
fn limit(text: Option<&str>) -> Result<NonZeroUsize, HttpError> {
    let number = text.map_or(Ok(PAGE_MAX_AGENTS), str::parse).ok();
    number
        .filter(|limit| *limit <= PAGE_MAX_AGENTS)
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| {
            HttpError::bad_request(format!("the limit is not from 1 to {PAGE_MAX_AGENTS}"))
        })
}

fn optional<T: FromStr<Err = IdError>>(text: Option<&str>) -> Result<Option<T>, HttpError> {
    text.map(str::parse::<T>)
        .transpose()
        .map_err(|e: IdError| HttpError::bad_request(e.to_string()))
}
