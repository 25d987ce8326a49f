//! The mutual login of node and registry (`spec/control.md`).
//!
//! The registry sends a challenge with its key, the mesh key and a nonce. The
//! node signs a *statement* of mesh, origin, both nonces, name, agent id,
//! incarnation, instance, certificate and sealing statement, with the key that
//! its certificate proves to be its current one. The registry checks all of it
//! and signs the same statement with its own key at the end. Because the
//! origin is what the node really connected to, a registry in the middle
//! cannot pass a login on; because of the nonces, no login can be used twice.

mod error;
mod gate;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use waymesh_proto::control::{
    Challenge, InstanceId, Login, MeshKey, Nonce, Origin, RegistryKey, Signature, Welcome,
};
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::{AgentId, Incarnation, Name};

use crate::keys::{self, Keypair, fields, sha256};

pub use error::LoginError;
pub use gate::{Admission, Gate};

/// What the node's signature covers before the statement.
pub const LOGIN_LABEL: &str = "waymesh login v2";

/// What the registry's signature covers before the statement.
pub const WELCOME_LABEL: &str = "waymesh welcome v2";

/// What a node knows of its registry, from its invite or since its first login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The registry's public key.
    pub registry: RegistryKey,
    /// The mesh that it serves.
    pub mesh: MeshKey,
}

impl Pin {
    /// Checks that a challenge comes from the pinned registry.
    ///
    /// # Errors
    /// [`LoginError::WrongMesh`] or [`LoginError::RegistryChanged`]; nothing may be sent to it.
    pub fn check(&self, challenge: &Challenge) -> Result<(), LoginError> {
        if challenge.mesh != self.mesh {
            return Err(LoginError::WrongMesh {
                expected: self.mesh,
                got: challenge.mesh,
            });
        }
        if challenge.registry != self.registry {
            return Err(LoginError::RegistryChanged {
                expected: self.registry,
                got: challenge.registry,
            });
        }
        Ok(())
    }
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name of the certificate.
    pub name: Name,
    /// The identity of the certificate.
    pub agent_id: AgentId,
    /// The node's incarnation.
    pub incarnation: Incarnation,
    /// The node's process.
    pub instance: InstanceId,
    /// What proves name, identity and key.
    pub certificate: Certificate,
    /// The key to seal messages to the agent with.
    pub sealing: SealingStatement,
}

/// A login that waits for the registry's welcome.
#[derive(Debug)]
pub struct Pending {
    statement: Vec<u8>,
    pin: Pin,
}

/// The node's answer to a challenge, and what to check the welcome with.
///
/// `keypair` is that of the certificate's current key; `origin` is that of the
/// URL that the node connected to; `nonce` is 32 fresh random bytes.
///
/// # Errors
/// The challenge does not come from the pinned registry; nothing may be sent to it.
pub fn answer(
    keypair: &Keypair,
    who: &Who,
    origin: &Origin,
    challenge: &Challenge,
    pinned: Option<&Pin>,
    nonce: Nonce,
) -> Result<(Login, Pending), LoginError> {
    if let Some(pin) = pinned {
        pin.check(challenge)?;
    }
    let mut login = Login {
        mesh: challenge.mesh,
        origin: origin.clone(),
        nonce,
        name: who.name.clone(),
        agent_id: who.agent_id,
        incarnation: who.incarnation,
        instance: who.instance,
        certificate: who.certificate.clone(),
        sealing: who.sealing.clone(),
        sig: Signature::from_bytes([0; 64]),
        introduce: false,
    };
    let statement = statement(&login, &challenge.nonce);
    login.sig = keypair.sign(LOGIN_LABEL, &statement);
    let pin = Pin {
        registry: challenge.registry,
        mesh: challenge.mesh,
    };
    Ok((login, Pending { statement, pin }))
}

impl Pending {
    /// Checks the registry's proof; only then is the other side the registry of the pin.
    ///
    /// # Errors
    /// The welcome was not signed by the announced key for this very login.
    pub fn verify(self, welcome: &Welcome) -> Result<Pin, LoginError> {
        let bytes = with_key(self.statement, &self.pin.registry);
        keys::verify_registry(&self.pin.registry, WELCOME_LABEL, &bytes, &welcome.sig)
            .map_err(|_| LoginError::BadSignature { by: "registry" })?;
        Ok(self.pin)
    }
}

/// The statement's bytes: each field as its length in four big-endian bytes and
/// the field, in the order mesh key, origin, registry's nonce, agent's nonce,
/// name, agent id, incarnation (eight big-endian bytes), instance, SHA-256 of
/// the certificate, SHA-256 of the sealing statement.
pub fn statement(login: &Login, registry_nonce: &Nonce) -> Vec<u8> {
    fields([
        &login.mesh.as_bytes()[..],
        login.origin.as_str().as_bytes(),
        registry_nonce.as_bytes(),
        login.nonce.as_bytes(),
        login.name.as_str().as_bytes(),
        login.agent_id.as_bytes(),
        &login.incarnation.number().to_be_bytes(),
        login.instance.as_bytes(),
        &sha256(login.certificate.as_str().as_bytes()),
        &sha256(login.sealing.as_str().as_bytes()),
    ])
}

/// The welcome's bytes: the statement, and the registry's key as one more field.
fn with_key(mut statement: Vec<u8>, key: &RegistryKey) -> Vec<u8> {
    statement.extend(fields([&key.as_bytes()[..]]));
    statement
}
