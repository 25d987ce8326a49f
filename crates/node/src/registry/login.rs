//! The login: this node proves that it is a member, the registry that it is
//! the one that the mesh means.

use std::time::{Duration, Instant};

use waymesh_net::control::{ControlSocket, Target};
use waymesh_proto::control::{ClientMessage, InstanceId, Nonce, ServerMessage};
use waymesh_proto::ids::Incarnation;
use waymesh_proto::membership::SealingStatement;
use waymesh_proto::{Code, Fault};
use waymesh_trust::login::{self, Who};

use super::dialog::{Dialog, LOGIN_TIMEOUT, Passed, out_of_order};
use super::own::Own;
use super::trouble::Trouble;
use crate::members::Members;

/// Whether a failure that no retry would help ends the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It does: the user has to know.
    Final,
    /// Only that another process is this node does: the registry is where it
    /// should be, and there are links to lose.
    Twin,
    /// It is tried again: anybody on the registry's port may have said it, and
    /// there are links to lose.
    Passing,
}

/// What failures mean before the registry has proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    /// The other side shows another key or mesh than the registry's.
    pub(super) stranger: Weight,
    /// The other side refuses the login.
    pub(super) refusal: Weight,
}

/// What a login says beside the membership.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) incarnation: Incarnation,
    pub(super) instance: InstanceId,
    pub(super) sealing: SealingStatement,
    /// Whether it wants to be told of others ahead of need.
    pub(super) introduce: bool,
}

/// A connection that is logged in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) socket: ControlSocket,
    /// How long the registry took to answer the login.
    pub(super) round_trip: Duration,
}

/// Connects and logs in.
pub(super) async fn log_in(
    target: &Target,
    passed: &mut Passed,
    own: &Own,
    saying: Saying,
    weights: Weights,
    members: &Members,
) -> Result<Entered, Trouble> {
    let (mut dialog, challenge) = Dialog::open(target, passed).await?;
    let who = Who {
        name: own.membership.name.clone(),
        agent_id: own.agent_id(),
        incarnation: saying.incarnation,
        instance: saying.instance,
        certificate: own.certificate().clone(),
        sealing: saying.sealing,
    };
    let nonce = Nonce::from_bytes(rand::random());
    let pin = own.registry();
    let answer = login::answer(
        &own.keypair,
        &who,
        target.origin(),
        &challenge,
        Some(&pin),
        nonce,
    );
    let (mut login, pending) = answer.map_err(|e| weigh(e.fault(), weights.stranger))?;
    login.introduce = saying.introduce;
    let said = Instant::now();
    dialog.say(&ClientMessage::Login(login)).await?;
    loop {
        match dialog.hear(LOGIN_TIMEOUT).await? {
            ServerMessage::Welcome(welcome) => {
                let verified = pending.verify(&welcome);
                verified.map_err(|e| weigh(e.fault(), weights.stranger))?;
                return Ok(Entered {
                    round_trip: said.elapsed(),
                    socket: dialog.into_socket(),
                });
            }
            // Signed by the mesh: who passes it on does not matter.
            ServerMessage::Revoked { revocations } => {
                for revocation in &revocations {
                    let _ = members.handle_revocation(revocation);
                }
            }
            ServerMessage::Error { error } => return Err(refused(error, weights, members)),
            _ => return Err(out_of_order()),
        }
    }
}

/// What a refusal of the login means. That this node was revoked can be checked.
fn refused(error: Fault, weights: Weights, members: &Members) -> Trouble {
    match members.check_own() {
        Err(revoked) if error.code == Code::Revoked => Trouble::fatal(revoked),
        _ => weigh(error, weights.refusal),
    }
}

fn weigh(fault: Fault, weight: Weight) -> Trouble {
    match weight {
        Weight::Final => Trouble::from_fault(fault),
        Weight::Twin => Trouble::from_fault(fault).on_its_word(),
        Weight::Passing => Trouble::Passing(fault),
    }
}
