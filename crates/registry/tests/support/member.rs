//! Members of the test mesh, and what they sign.

use waymesh_proto::control::{Challenge, InstanceId, Login, Nonce, Origin, RegistryKey};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Incarnation, Name};
use waymesh_trust::Keypair;
use waymesh_trust::certificate;
use waymesh_trust::dpop;
use waymesh_trust::login::{self, Pending, Who};
use waymesh_trust::sealing::SealingKey;

use super::{mesh, mesh_key, now_ms};

/// A member of the mesh.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: Name,
    pub(crate) keypair: Keypair,
    pub(crate) certificate: Certificate,
}

impl Member {
    /// The member of this name with the key of this seed.
    pub(crate) fn new(name: &str, key: u8, registry: RegistryKey) -> Self {
        Self::until(name, key, registry, now_ms() + CERTIFICATE_LIFE_MS)
    }

    /// The same with a certificate that ends, and cannot be extended, at this time.
    pub(crate) fn until(name: &str, key: u8, registry: RegistryKey, expires_ms: u64) -> Self {
        let member = claims(name, key, registry, expires_ms);
        let certificate = certificate::issue(&mesh(), &member).expect("a certificate");
        Self {
            name: member.name,
            keypair: Keypair::from_seed(&[key; 32]),
            certificate,
        }
    }

    pub(crate) const fn agent_id(&self) -> AgentId {
        self.keypair.agent_id()
    }

    /// The answer to a challenge.
    pub(crate) fn login(
        &self,
        origin: &Origin,
        challenge: &Challenge,
        incarnation: u64,
    ) -> (Login, Pending) {
        let who = Who {
            name: self.name.clone(),
            agent_id: self.agent_id(),
            incarnation: Incarnation::new(incarnation),
            instance: InstanceId::from_bytes([u8::try_from(incarnation % 256).expect("small"); 16]),
            certificate: self.certificate.clone(),
            sealing: SealingKey::from_seed(&[9; 32], now_ms() + CERTIFICATE_LIFE_MS).statement(
                &self.keypair,
                self.agent_id(),
                &mesh_key(),
                now_ms(),
            ),
        };
        let nonce = Nonce::from_bytes([3; 32]);
        login::answer(&self.keypair, &who, origin, challenge, None, nonce)
            .expect("no pin, no refusal")
    }

    /// A proof for one request in this member's name.
    pub(crate) fn proof(&self, method: &str, url: &str, nonce: Option<&str>) -> String {
        let request = dpop::Request {
            method,
            url,
            certificate: Some(&self.certificate),
        };
        dpop::prove(&self.keypair, request, nonce, rand::random(), now_ms())
    }
}

/// What the certificate of a member says that ends, and cannot be extended, at this time.
pub(crate) fn claims(
    name: &str,
    key: u8,
    registry: RegistryKey,
    expires_ms: u64,
) -> certificate::Member {
    certificate::Member {
        name: name.parse().expect("a name"),
        agent_id: Keypair::from_seed(&[key; 32]).agent_id(),
        rotations: Vec::new(),
        roles: Vec::new(),
        registry,
        issued_ms: expires_ms - CERTIFICATE_LIFE_MS,
        expires_ms,
        renew_until_ms: expires_ms,
    }
}

/// A proof for one request of whoever holds a key.
pub(crate) fn proof_of_key(
    keypair: &Keypair,
    method: &str,
    url: &str,
    nonce: Option<&str>,
) -> String {
    let request = dpop::Request {
        method,
        url,
        certificate: None,
    };
    dpop::prove(keypair, request, nonce, rand::random(), now_ms())
}
