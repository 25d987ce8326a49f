//! The text that an admin hands to a new member.

use std::fmt;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use waymesh_proto::control::{MeshKey, Origin};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::membership::{Certificate, Delegation, Invite};
use waymesh_proto::{AgentId, Name};

use super::delegation::{Grant, VerifiedDelegation, delegate, verify_delegation};
use super::error::InviteError;
use crate::certificate::{self, CertificateError, Member};
use crate::jwt::Base64Bytes;
use crate::keys::Keypair;
use crate::rotation::Rotation;

/// An invite that was read: its delegation is the mesh's, its key is the delegation's.
///
/// `Debug` does not show the key.
#[derive(Clone)]
pub struct InviteSecret {
    /// Where the registry is.
    pub registry: Origin,
    /// The mesh to join.
    pub mesh: MeshKey,
    /// SHA-256 of the registry's TLS public key (SPKI), when no authority vouches for it.
    pub tls_pin: Option<[u8; 32]>,
    /// What the mesh allows the invite.
    pub delegation: Delegation,
    /// The same, verified.
    pub grant: VerifiedDelegation,
    /// The invite's key.
    pub keypair: Keypair,
    seed: [u8; 32],
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteSecret")
            .field("registry", &self.registry)
            .field("mesh", &self.mesh)
            .field("invite", &self.grant.invite)
            .finish_non_exhaustive()
    }
}

/// Who enters by a pre-approved invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The name that it wants.
    pub name: Name,
    /// Its identity.
    pub agent_id: AgentId,
    /// What led from the identity to its current key, oldest first.
    pub rotations: Vec<Rotation>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    url: Origin,
    mesh: MeshKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    delegation: Delegation,
    seed: Base64Bytes,
}

/// The version of the invite's text.
const VERSION: u32 = 1;

fn malformed(why: impl fmt::Display) -> InviteError {
    InviteError::Malformed(why.to_string())
}

impl InviteSecret {
    /// Makes an invite. `seed` is 32 fresh random bytes.
    ///
    /// # Errors
    /// [`InviteError::Limits`]: no invite may say this.
    pub fn make(
        mesh: &Keypair,
        grant: &Grant,
        registry: Origin,
        tls_pin: Option<[u8; 32]>,
        seed: [u8; 32],
    ) -> Result<Self, InviteError> {
        let keypair = Keypair::from_seed(&seed);
        let delegation = delegate(mesh, &keypair.agent_id(), grant)?;
        let grant = verify_delegation(&delegation, &mesh.mesh_key())?;
        let made = Self {
            registry,
            mesh: mesh.mesh_key(),
            tls_pin,
            delegation,
            grant,
            keypair,
            seed,
        };
        made.encode()?;
        Ok(made)
    }

    /// Reads the text of an invite.
    ///
    /// # Errors
    /// [`InviteError::Malformed`], [`InviteError::Forged`] or [`InviteError::ForeignMesh`].
    pub fn parse(invite: &Invite) -> Result<Self, InviteError> {
        let json = BASE64URL_NOPAD.decode(invite.as_str().as_bytes());
        let json = json.map_err(|_| malformed("not base64url"))?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| malformed("cut off"))?;
        if wire.v != VERSION {
            return Err(malformed("made by another version"));
        }
        let tls_pin = wire.pin.map(|pin| parse_pin(&pin)).transpose()?;
        let grant = verify_delegation(&wire.delegation, &wire.mesh)?;
        let keypair = Keypair::from_seed(&wire.seed.0);
        if keypair.agent_id() != grant.key {
            return Err(malformed("its key is not that of its delegation"));
        }
        Ok(Self {
            registry: wire.url,
            mesh: wire.mesh,
            tls_pin,
            delegation: wire.delegation,
            grant,
            keypair,
            seed: wire.seed.0,
        })
    }

    /// The text: base64url of JSON, a secret.
    ///
    /// # Errors
    /// [`InviteError::Limits`]: it would be too long.
    pub fn encode(&self) -> Result<Invite, InviteError> {
        let wire = Wire {
            v: VERSION,
            url: self.registry.clone(),
            mesh: self.mesh,
            pin: self.tls_pin.map(|pin| HEXLOWER.encode(&pin)),
            delegation: self.delegation.clone(),
            seed: Base64Bytes(self.seed),
        };
        let json = serde_json::to_vec(&wire).expect("an invite has string keys only");
        let text = BASE64URL_NOPAD.encode(&json);
        text.parse().map_err(|_| InviteError::Limits("too long"))
    }

    /// Makes the certificate of whoever enters by this invite, with all its
    /// roles and for as long as certificates live.
    ///
    /// # Errors
    /// The invite is not pre-approved, or does not allow the name or the time.
    pub fn admit(&self, who: &Applicant, now_ms: u64) -> Result<Certificate, CertificateError> {
        let renew_until_ms = self.grant.renew_until_ms;
        let ends_ms = now_ms.saturating_add(CERTIFICATE_LIFE_MS);
        let member = Member {
            name: who.name.clone(),
            agent_id: who.agent_id,
            rotations: who.rotations.clone(),
            roles: self.grant.roles.clone(),
            registry: self.grant.registry,
            issued_ms: now_ms,
            expires_ms: ends_ms.min(renew_until_ms),
            renew_until_ms,
        };
        certificate::issue_delegated(self, &member)
    }
}

fn parse_pin(text: &str) -> Result<[u8; 32], InviteError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let pin = bytes.and_then(|bytes| bytes.try_into().ok());
    pin.ok_or_else(|| malformed("its pin is not a SHA-256"))
}
