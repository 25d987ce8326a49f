//! The mutual login of node and registry (`spec/control.md`).
//!
//! The registry sends a challenge with its key, its mesh and a nonce. The node
//! signs a *statement* of mesh, origin, both nonces, name, agent id,
//! incarnation and instance. The registry checks it and signs the same
//! statement with its own key at the end. Because the origin is what the node
//! really connected to, a registry in the middle cannot pass a login on;
//! because of the nonces, no login can be used twice.

use serde::{Deserialize, Serialize};
use waymesh_proto::control::{
    CONTROL_VERSION, Challenge, InstanceId, Login, Nonce, Origin, RegistryKey, Signature, Welcome,
};
use waymesh_proto::{Code, Fault, Incarnation, MeshId, Name};

use crate::keys::{self, Keypair};

/// What the node's signature covers before the statement.
pub const LOGIN_LABEL: &str = "waymesh login v1";

/// What the registry's signature covers before the statement.
pub const WELCOME_LABEL: &str = "waymesh welcome v1";

/// Why one side of a login does not trust the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The registry's key is not the pinned one. Only the user can say whether that is right.
    #[error("the registry's key {got} is not {expected}, which it had before")]
    RegistryChanged {
        /// The pinned key.
        expected: RegistryKey,
        /// The announced key.
        got: RegistryKey,
    },
    /// The other side belongs to another mesh.
    #[error("the mesh {got} is not {expected}")]
    WrongMesh {
        /// The own mesh.
        expected: MeshId,
        /// The other side's mesh.
        got: MeshId,
    },
    /// The node connected to a URL that is not this registry's.
    #[error("the login is for {got}, which is not an address of this registry")]
    WrongOrigin {
        /// The origin in the login.
        got: Origin,
    },
    /// Forged, changed, or made for another connection.
    #[error("the signature of the {by} does not verify")]
    BadSignature {
        /// Whose signature.
        by: &'static str,
    },
}

impl LoginError {
    /// The code that the other side or the user is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::RegistryChanged { .. } => Code::RegistryIdentityChanged,
            Self::WrongMesh { .. } | Self::WrongOrigin { .. } => Code::WrongRegistry,
            Self::BadSignature { .. } => Code::BadSignature,
        }
    }

    /// The error that the other side or the user is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self {
            Self::RegistryChanged { .. } => fault.with_hint(
                "if the registry was set up anew on purpose, start the node with a new data directory",
            ),
            Self::WrongMesh { .. } => {
                fault.with_hint("connect to the registry that this node belongs to")
            }
            Self::WrongOrigin { .. } => fault.with_hint(
                "connect to the URL that the registry prints at its start, or give that registry this one as --public-url",
            ),
            Self::BadSignature { .. } => fault,
        }
    }
}

/// What a node knows of its registry since its first login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The registry's public key.
    pub registry: RegistryKey,
    /// The mesh that it serves.
    pub mesh: MeshId,
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name that the agent wants.
    pub name: Name,
    /// The node's incarnation.
    pub incarnation: Incarnation,
    /// The node's process.
    pub instance: InstanceId,
}

/// A login that waits for the registry's welcome.
#[derive(Debug)]
pub struct Pending {
    statement: Vec<u8>,
    pin: Pin,
}

/// The node's answer to a challenge, and what to check the welcome with.
///
/// `origin` is that of the URL that the node connected to; `nonce` is 32 fresh
/// random bytes.
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
    check_pin(challenge, pinned)?;
    let mut login = Login {
        mesh: challenge.mesh,
        origin: origin.clone(),
        nonce,
        name: who.name.clone(),
        agent_id: keypair.agent_id(),
        incarnation: who.incarnation,
        instance: who.instance,
        sig: Signature::from_bytes([0; 64]),
    };
    let statement = statement(&login, &challenge.nonce);
    login.sig = keypair.sign(LOGIN_LABEL, &statement);
    let pin = Pin {
        registry: challenge.registry,
        mesh: challenge.mesh,
    };
    Ok((login, Pending { statement, pin }))
}

fn check_pin(challenge: &Challenge, pinned: Option<&Pin>) -> Result<(), LoginError> {
    let Some(pin) = pinned else { return Ok(()) };
    if challenge.registry != pin.registry {
        return Err(LoginError::RegistryChanged {
            expected: pin.registry,
            got: challenge.registry,
        });
    }
    if challenge.mesh != pin.mesh {
        return Err(LoginError::WrongMesh {
            expected: pin.mesh,
            got: challenge.mesh,
        });
    }
    Ok(())
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

/// The registry's end of one login.
#[derive(Debug)]
pub struct Gate<'a> {
    /// The registry's keypair.
    pub keypair: &'a Keypair,
    /// Its mesh.
    pub mesh: MeshId,
    /// Every origin under which nodes may reach it.
    pub origins: &'a [Origin],
    /// The nonce of this connection's challenge.
    pub nonce: Nonce,
}

impl Gate<'_> {
    /// The first message of the connection.
    pub fn challenge(&self) -> Challenge {
        Challenge {
            version: CONTROL_VERSION,
            mesh: self.mesh,
            registry: self.keypair.registry_key(),
            nonce: self.nonce,
        }
    }

    /// Checks a login and gives the welcome to send once the name is granted.
    ///
    /// # Errors
    /// The first check that fails: mesh, origin, signature.
    pub fn verify(&self, login: &Login) -> Result<Welcome, LoginError> {
        if login.mesh != self.mesh {
            return Err(LoginError::WrongMesh {
                expected: self.mesh,
                got: login.mesh,
            });
        }
        if !self.origins.contains(&login.origin) {
            return Err(LoginError::WrongOrigin {
                got: login.origin.clone(),
            });
        }
        let statement = statement(login, &self.nonce);
        keys::verify(&login.agent_id, LOGIN_LABEL, &statement, &login.sig)
            .map_err(|_| LoginError::BadSignature { by: "agent" })?;
        let bytes = with_key(statement, &self.keypair.registry_key());
        Ok(Welcome {
            sig: self.keypair.sign(WELCOME_LABEL, &bytes),
        })
    }
}

/// The statement's bytes: each field as its length in four big-endian bytes and
/// the field, in the order mesh, origin, registry's nonce, agent's nonce, name,
/// agent id, incarnation (eight big-endian bytes), instance.
pub fn statement(login: &Login, registry_nonce: &Nonce) -> Vec<u8> {
    let incarnation = login.incarnation.number().to_be_bytes();
    let fields: [&[u8]; 8] = [
        login.mesh.as_bytes(),
        login.origin.as_str().as_bytes(),
        registry_nonce.as_bytes(),
        login.nonce.as_bytes(),
        login.name.as_str().as_bytes(),
        login.agent_id.as_bytes(),
        &incarnation,
        login.instance.as_bytes(),
    ];
    let mut bytes = Vec::new();
    for field in fields {
        push_field(&mut bytes, field);
    }
    bytes
}

/// The welcome's bytes: the statement, and the registry's key as one more field.
fn with_key(mut statement: Vec<u8>, key: &RegistryKey) -> Vec<u8> {
    push_field(&mut statement, key.as_bytes());
    statement
}

fn push_field(bytes: &mut Vec<u8>, field: &[u8]) {
    let len = u32::try_from(field.len()).expect("a field of a decoded login is below 4 GiB");
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(field);
}

#[cfg(test)]
mod tests;
