//! The registry's end of one login.

use std::sync::Arc;

use waymesh_proto::control::{CONTROL_VERSION, Challenge, Login, MeshKey, Nonce, Origin, Welcome};

use super::error::LoginError;
use super::{LOGIN_LABEL, WELCOME_LABEL, statement, with_key};
use crate::certificate::{Cache, Verified};
use crate::keys::{self, Keypair};
use crate::sealing::SealTo;

/// The registry's end of one login.
#[derive(Debug)]
pub struct Gate<'a> {
    /// The registry's keypair.
    pub keypair: &'a Keypair,
    /// Its mesh.
    pub mesh: MeshKey,
    /// Every origin under which nodes may reach it.
    pub origins: &'a [Origin],
    /// The nonce of this connection's challenge.
    pub nonce: Nonce,
}

/// A login that holds.
#[derive(Debug, Clone)]
pub struct Admission {
    /// To be sent once the name is granted.
    pub welcome: Welcome,
    /// Who has logged in. Its certificate may have ended, as long as it can be
    /// extended: extend it before anybody else is shown it.
    pub member: Arc<Verified>,
    /// The key to seal messages to it with.
    pub sealing: SealTo,
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
    /// Not checked here: whether the member or its invite is revoked, the
    /// invite's count and end, the rotations that were seen before, and
    /// whether this registry is the one that may extend the certificate.
    ///
    /// # Errors
    /// The first check that fails: mesh, origin, certificate, holder, signature, sealing.
    pub fn verify(
        &self,
        login: &Login,
        now_ms: u64,
        cache: &mut Cache,
    ) -> Result<Admission, LoginError> {
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
        let member = cache.verify_renewable(&login.certificate, &self.mesh, now_ms)?;
        if login.agent_id != member.agent_id {
            return Err(LoginError::NotTheHolder { what: "agent id" });
        }
        if login.name != member.name {
            return Err(LoginError::NotTheHolder { what: "name" });
        }
        let statement = statement(login, &self.nonce);
        keys::verify(&member.key, LOGIN_LABEL, &statement, &login.sig)
            .map_err(|_| LoginError::BadSignature { by: "agent" })?;
        let sealing = cache.verify_statement(&login.sealing, &member, now_ms)?;
        let bytes = with_key(statement, &self.keypair.registry_key());
        let sig = self.keypair.sign(WELCOME_LABEL, &bytes);
        Ok(Admission {
            welcome: Welcome { sig },
            member,
            sealing,
        })
    }
}
