//! Asking to become a member: the request, the wait for an admin, the certificate.

use std::time::Duration;

use tokio::sync::mpsc;
use waymesh_net::control::Target;
use waymesh_proto::control::{
    Challenge, ClientMessage, Join, MeshKey, SILENCE_MAX_MS, ServerMessage,
};
use waymesh_proto::ids::RequestId;
use waymesh_proto::membership::Certificate;
use waymesh_proto::{Code, Fault};
use waymesh_trust::certificate::{self, Verified};
use waymesh_trust::join::{self, Ask};
use waymesh_trust::{Keypair, fingerprint};

use super::News;
use super::dialog::{Dialog, Passed, out_of_order};
use super::trouble::{Ended, Trouble};
use crate::client::unix_ms;
use crate::membership::{Application, Membership, RegistryTls};

/// Silence after which the registry is gone; it pings twice as often.
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// A request to join that waits for an admin. What is here the admin sees too,
/// and both should compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingJoin {
    /// What to approve it under.
    pub request: RequestId,
    /// The fingerprint of the mesh's key.
    pub mesh_fingerprint: String,
    /// The fingerprint of this node's identity.
    pub fingerprint: String,
}

/// What is known of a registry since it has said its first word: it must show
/// the same from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// The mesh that it serves.
    pub(super) mesh: MeshKey,
    /// Its TLS key.
    pub(super) tls: RegistryTls,
}

/// Who wants to join, and what it has seen so far.
#[derive(Debug)]
pub(super) struct Joiner<'a> {
    pub(super) keypair: &'a Keypair,
    pub(super) application: &'a Application,
    pub(super) seen: &'a mut Option<Seen>,
}

impl Joiner<'_> {
    /// Asks, and waits until an admin has agreed. The driver is told what the admin sees.
    ///
    /// # Errors
    /// The connection ended, the request was refused, or what came instead of
    /// a certificate is none. The registry has proved nothing by then, but
    /// there is nothing to lose either.
    pub(super) async fn join(
        &mut self,
        target: &Target,
        passed: &mut Passed,
        news: &mpsc::Sender<News>,
    ) -> Result<Membership, Trouble> {
        let (mut dialog, challenge) = Dialog::open(target, passed).await?;
        let seen = *self.seen.get_or_insert(Seen {
            mesh: challenge.mesh,
            tls: self.application.tls.after_first_use(dialog.first_use_key()),
        });
        self.check_mesh(seen, &challenge)?;
        dialog.say(&self.request(seen, &challenge)?).await?;
        loop {
            match dialog.hear(SILENCE_MAX).await? {
                ServerMessage::Pending { request } => {
                    let pending = self.pending(request, &challenge);
                    let told = news.send(News::Pending(pending)).await;
                    told.map_err(|_| Trouble::Final(Ended::ByDriver))?;
                }
                ServerMessage::Approved { certificate } => {
                    let membership = self.accept(certificate, seen);
                    dialog.close().await;
                    return membership.map_err(Trouble::from_fault);
                }
                ServerMessage::Error { error } => return Err(Trouble::from_fault(error)),
                _ => return Err(out_of_order()),
            }
        }
    }

    /// The mesh must be the invite's, or the one that was seen first.
    fn check_mesh(&self, seen: Seen, challenge: &Challenge) -> Result<(), Trouble> {
        let expected = self.application.mesh().unwrap_or(seen.mesh);
        if challenge.mesh == expected {
            return Ok(());
        }
        let fault = Fault::new(
            Code::WrongRegistry,
            "the registry there serves another mesh than the one to join",
        );
        Err(Trouble::fatal(fault.with_hint(
            "check the registry's URL; if it is right, somebody stands between",
        )))
    }

    fn request(&self, seen: Seen, challenge: &Challenge) -> Result<ClientMessage, Trouble> {
        let application = self.application;
        let trusted = match application.tls {
            RegistryTls::FirstUse => seen.tls.pin(),
            RegistryTls::Pinned(_) | RegistryTls::Vouched => None,
        };
        let ask = Ask {
            name: application.name.clone(),
            agent_id: application.agent_id,
            rotations: application.rotations.clone(),
            mesh: challenge.mesh,
            registry: challenge.registry,
            nonce: challenge.nonce,
            tls_key: trusted.map(|pin| pin.0),
        };
        let invite = application.invitation.invite();
        let key = invite.map(|invite| &invite.keypair);
        let request = join::request(self.keypair, &ask, key, unix_ms());
        Ok(ClientMessage::Join(Join {
            request: request.map_err(|error| Trouble::from_fault(error.fault()))?,
            code: application.invitation.code(),
            invite: invite.map(|invite| invite.delegation.clone()),
        }))
    }

    fn pending(&self, request: RequestId, challenge: &Challenge) -> PendingJoin {
        PendingJoin {
            request,
            mesh_fingerprint: fingerprint(challenge.mesh.as_bytes()),
            fingerprint: fingerprint(self.application.agent_id.as_bytes()),
        }
    }

    /// Checks that the certificate is what was asked for.
    fn accept(&self, certificate: Certificate, seen: Seen) -> Result<Membership, Fault> {
        let mesh = seen.mesh;
        let verified = certificate::verify(&certificate, &mesh, unix_ms());
        let verified = verified.map_err(|error| error.fault())?;
        if !self.is_mine(&verified) {
            let message = "the registry answers with the certificate of somebody else";
            return Err(Fault::new(Code::BadCertificate, message));
        }
        Ok(Membership {
            name: verified.name,
            agent_id: verified.agent_id,
            key: verified.key,
            mesh,
            certificate,
            registry: self.application.registry.clone(),
            tls_pin: seen.tls.pin(),
        })
    }

    fn is_mine(&self, verified: &Verified) -> bool {
        verified.name == self.application.name
            && verified.agent_id == self.application.agent_id
            && verified.key == self.keypair.agent_id()
    }
}
