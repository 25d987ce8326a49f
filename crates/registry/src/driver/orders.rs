//! What admins order, between the words of the admin socket and those of the
//! rules: signatures are checked on the way in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use waymesh_core::registry::{
    Decision, Order as RulesOrder, OrderTicket, Query, Reply as RulesReply, Revoked, StoredJoin,
    StoredRevocation,
};
use waymesh_proto::membership::{Certificate, Revocation};
use waymesh_proto::{Code, Fault, RequestId};
use waymesh_trust::revocation::{self, Target};

use crate::admin::{Order, PendingJoin, Reply};
use crate::clock::Clock;
use crate::connection::Identity;

/// Who waits for an answer. As many as the admin socket has connections.
#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting: BTreeMap<OrderTicket, oneshot::Sender<Result<Reply, Fault>>>,
    next: u64,
}

impl Orders {
    pub(super) fn open(&mut self, reply: oneshot::Sender<Result<Reply, Fault>>) -> OrderTicket {
        let ticket = OrderTicket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, reply);
        ticket
    }

    pub(super) fn answer(&mut self, ticket: OrderTicket, answer: Result<Reply, Fault>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // Whoever asked may have gone away.
            let _ = waiting.send(answer);
        }
    }
}

/// Checks whatever is signed.
pub(super) fn verify(order: Order, identity: &Identity) -> Result<RulesOrder, Fault> {
    Ok(match order {
        Order::Found { mesh } => RulesOrder::Found { mesh },
        Order::Agents { name, after } => RulesOrder::Agents(Query {
            name,
            after,
            skill: None,
        }),
        Order::Pending => RulesOrder::Pending,
        Order::Approve {
            request,
            certificate,
        } => approve(request, certificate, identity)?,
        Order::Reject { request, reason } => RulesOrder::Reject { request, reason },
        Order::Revoke { revocations } => {
            let verify = |revocation| verify_revocation(revocation, identity);
            let verified: Result<_, Fault> = revocations.into_iter().map(verify).collect();
            RulesOrder::Revoke(verified?)
        }
        Order::PairingCode { ttl_ms } => RulesOrder::PairingCode {
            life: Duration::from_millis(ttl_ms),
        },
    })
}

fn approve(
    request: RequestId,
    certificate: Certificate,
    identity: &Identity,
) -> Result<RulesOrder, Fault> {
    let mesh = identity.mesh()?;
    let now_ms = Clock::now().unix_ms;
    let verified = identity.certificates().verify(&certificate, &mesh, now_ms);
    let member = verified.map_err(|error| error.fault())?;
    if member.registry != identity.keypair.registry_key() {
        let text = "the certificate could be extended by another registry only";
        return Err(Fault::new(Code::BadCertificate, text));
    }
    Ok(RulesOrder::Approve {
        request,
        certificate,
        name: member.name.clone(),
        agent_id: member.agent_id,
    })
}

fn verify_revocation(
    revocation: Revocation,
    identity: &Identity,
) -> Result<StoredRevocation, Fault> {
    let target = revocation::verify(&revocation, &identity.mesh()?)
        .map_err(|error| Fault::new(error.code(), error.to_string()))?;
    let target = match target {
        Target::Member(agent_id) => Revoked::Member(agent_id),
        Target::Invite(invite) => Revoked::Invite(invite),
    };
    Ok(StoredRevocation { target, revocation })
}

/// What the rules answer, in the words of the admin socket.
pub(super) fn reply(reply: RulesReply) -> Reply {
    match reply {
        RulesReply::Done => Reply::Done,
        RulesReply::Agents { agents, next } => Reply::Agents { agents, next },
        RulesReply::Pending(joins) => Reply::Pending {
            joins: joins.into_iter().map(pending).collect(),
        },
        RulesReply::PairingCode(code) => Reply::PairingCode { code },
    }
}

fn pending(join: StoredJoin) -> PendingJoin {
    PendingJoin {
        request: join.request,
        name: join.name,
        agent_id: join.agent_id,
        join_request: join.join_request,
        address: join.address,
        waiting_ms: u64::try_from(join.waited.as_millis()).unwrap_or(u64::MAX),
        invite: join.invite,
        delegation: join.delegation,
        approved: matches!(join.decision, Some(Decision::Approved(_))),
    }
}
