//! TURN servers: each is asked for an allocation by each of its transports, which is given
//! back at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use waymesh_net::probe::turn::{Asking, Reached, reach};
use waymesh_proto::Code;
use waymesh_proto::ice::IceUrl;

use super::super::servers::{Owner, TurnServer};
use super::super::subject::Subject;
use super::{Check, NONE_HERE, State};

/// How far it got with a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Reach {
    /// It answered nothing that could be used.
    Nothing,
    /// It answered that it wants credentials, of which there are none here.
    Answered,
    /// It gave an allocation.
    Allocated,
}

/// A TURN server by one of its URLs; what was found is the relayed address.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct TurnFound {
    pub(in super::super) url: IceUrl,
    pub(in super::super) reach: Reach,
    #[serde(flatten)]
    pub(in super::super) check: Check<SocketAddr>,
    /// Whether there may be no such server at all.
    #[serde(skip)]
    pub(in super::super) owner: Owner,
}

/// Asks all, beside each other.
pub(super) async fn all(
    subject: &Subject,
    servers: &[TurnServer],
    limit: Duration,
) -> Vec<TurnFound> {
    let each = servers.iter().map(|server| one(subject, server, limit));
    futures_util::future::join_all(each).await
}

async fn one(subject: &Subject, server: &TurnServer, limit: Duration) -> TurnFound {
    let asking = Asking {
        credentials: server.credentials.clone(),
        trust: subject.trust.clone(),
        proxies: subject.proxies.clone(),
        limit,
    };
    let begun = Instant::now();
    let (reach, check) = match Box::pin(reach(&server.url, &asking)).await {
        Ok(Reached::Relays(address)) => {
            let what = format!("logged in; it relays at {address}");
            let check = Check::new(State::Passed, what, begun).with(address);
            (Reach::Allocated, check)
        }
        Ok(Reached::WantsCredentials) => {
            let what = "reached, but not tried: it wants credentials";
            (Reach::Answered, Check::new(State::Unknown, what, begun))
        }
        Err(error) => {
            let failed = Check::failed(error.fault(&server.url), begun);
            (Reach::Nothing, judged(failed, server.owner))
        }
    };
    TurnFound {
        url: server.url.clone(),
        reach,
        check,
        owner: server.owner,
    }
}

/// A failure says little of a server that may not be there at all; one whose TLS key is not
/// known is there.
fn judged(failed: Check<SocketAddr>, owner: Owner) -> Check<SocketAddr> {
    let is_there = failed
        .error
        .as_ref()
        .is_some_and(|fault| fault.code == Code::UntrustedTls);
    match owner {
        Owner::User | Owner::Registry => failed,
        Owner::Nobody | Owner::NobodyHere if is_there => Check {
            state: State::Unknown,
            ..failed
        },
        Owner::Nobody => Check {
            state: State::Unknown,
            what: format!("{}; the registry may have none there", failed.what),
            ..failed
        },
        Owner::NobodyHere => Check::skipped(NONE_HERE),
    }
}
