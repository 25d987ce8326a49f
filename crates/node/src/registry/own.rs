//! This node as a member: what it shows of itself, and what it signs with.

use std::time::Instant;

use waymesh_proto::control::MeshKey;
use waymesh_proto::ids::AgentId;
use waymesh_proto::membership::{Certificate, Extension};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::{self, CertificateError, Verified};
use waymesh_trust::login::Pin;

use crate::members::ends;
use crate::membership::Membership;

/// The membership of this node, verified.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) keypair: Keypair,
    pub(super) membership: Membership,
    pub(super) verified: Verified,
}

impl Own {
    /// Reads the own certificate, ended or not, as long as it may be extended.
    ///
    /// # Errors
    /// Nobody would believe it.
    pub(super) fn new(
        keypair: Keypair,
        membership: Membership,
        now_ms: u64,
    ) -> Result<Self, CertificateError> {
        let certificate = &membership.certificate;
        let verified = certificate::verify_renewable(certificate, &membership.mesh, now_ms)?;
        Ok(Self {
            keypair,
            membership,
            verified,
        })
    }

    pub(super) const fn agent_id(&self) -> AgentId {
        self.membership.agent_id
    }

    pub(super) const fn mesh(&self) -> &MeshKey {
        &self.membership.mesh
    }

    pub(super) const fn certificate(&self) -> &Certificate {
        &self.membership.certificate
    }

    /// The registry that the mesh means: the one that may extend.
    pub(super) const fn registry(&self) -> Pin {
        Pin {
            registry: self.verified.registry,
            mesh: self.membership.mesh,
        }
    }

    /// When the membership ends, leeway for clocks included.
    pub(super) fn expires(&self, now: Instant, now_ms: u64) -> Instant {
        ends(&self.verified, now, now_ms)
    }

    /// Takes an extension; false when it is no longer than what there was.
    ///
    /// # Errors
    /// The registry may not extend it so: everything stays as it was.
    pub(super) fn extend(
        &mut self,
        extension: &Extension,
        now_ms: u64,
    ) -> Result<bool, CertificateError> {
        let extended = certificate::with_extension(self.certificate(), extension)?;
        let verified = certificate::verify(&extended, self.mesh(), now_ms)?;
        if verified.expires_ms <= self.verified.expires_ms {
            return Ok(false);
        }
        self.membership.certificate = extended;
        self.verified = verified;
        Ok(true)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
    use waymesh_trust::certificate::Member;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn registry() -> Keypair {
        Keypair::from_seed(&[7; 32])
    }

    impl Own {
        /// A member whose certificate ends a second from now.
        pub(in crate::registry) fn example(seed: u8, now_ms: u64) -> Self {
            let keypair = Keypair::from_seed(&[seed; 32]);
            let mesh = Keypair::from_seed(&[9; 32]);
            let member = Member {
                name: "alice".parse().expect("a name"),
                agent_id: keypair.agent_id(),
                rotations: Vec::new(),
                roles: Vec::new(),
                registry: registry().registry_key(),
                issued_ms: now_ms,
                expires_ms: now_ms + 1_000,
                renew_until_ms: now_ms + CERTIFICATE_LIFE_MS,
            };
            let membership = Membership {
                name: member.name.clone(),
                agent_id: member.agent_id,
                key: member.agent_id,
                mesh: mesh.mesh_key(),
                certificate: certificate::issue(&mesh, &member).expect("a certificate"),
                registry: "http://127.0.0.1:1".parse().expect("an origin"),
                tls_pin: None,
            };
            Self::new(keypair, membership, now_ms).expect("a membership")
        }
    }

    /// What the certificate of some member proves.
    pub(crate) fn example_member() -> Verified {
        Own::example(1, NOW_MS).verified
    }

    #[test]
    fn an_extension_by_the_registry_lasts_and_a_shorter_one_changes_nothing() {
        let mut own = Own::example(1, NOW_MS);
        let [short, long] = [2_000, 3_000]
            .map(|more| certificate::extend(&registry(), &own.verified, NOW_MS + more, NOW_MS));
        assert_eq!(own.extend(&long, NOW_MS), Ok(true));
        assert_eq!(own.verified.expires_ms, NOW_MS + 3_000);
        assert_eq!(own.extend(&short, NOW_MS), Ok(false));
        assert_eq!(own.verified.expires_ms, NOW_MS + 3_000);
    }

    #[test]
    fn an_extension_by_anybody_else_is_refused() {
        let mut own = Own::example(1, NOW_MS);
        let before = own.membership.clone();
        let stranger = Keypair::from_seed(&[8; 32]);
        let forged = certificate::extend(&stranger, &own.verified, NOW_MS + 2_000, NOW_MS);
        assert!(own.extend(&forged, NOW_MS).is_err());
        assert_eq!(own.membership, before);
    }
}
