//! A memory of what was verified: every signal and every sealed message
//! carries a certificate, and most carry the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use waymesh_proto::control::MeshKey;
use waymesh_proto::membership::{Certificate, SealingStatement};

use super::Verified;
use super::error::CertificateError;
use super::verify::verify_chain;
use crate::keys::{fields, sha256};
use crate::sealing::{SealError, SealTo, verify_without_time};

/// Certificates that a cache remembers, and as many sealing statements; one
/// more makes it forget the oldest. Chosen: some 2 MiB, and more members than
/// one node talks to in a while.
pub const CACHE_MAX_CERTIFICATES: usize = 1_024;

/// Remembers certificates and sealing statements whose signatures were
/// verified. The time is checked at every use.
///
/// It is of one mesh: asked for another, it forgets everything. What does not
/// verify is not remembered.
#[derive(Debug, Default)]
pub struct Cache {
    mesh: Option<MeshKey>,
    certificates: Memory<Arc<Verified>>,
    statements: Memory<SealTo>,
}

impl Cache {
    /// As [`super::verify`].
    ///
    /// # Errors
    /// As [`super::verify`].
    pub fn verify(
        &mut self,
        certificate: &Certificate,
        mesh: &MeshKey,
        now_ms: u64,
    ) -> Result<Arc<Verified>, CertificateError> {
        let verified = self.chain(certificate, mesh)?;
        verified.check_time(now_ms)?;
        Ok(verified)
    }

    /// As [`super::verify_renewable`].
    ///
    /// # Errors
    /// As [`super::verify_renewable`].
    pub fn verify_renewable(
        &mut self,
        certificate: &Certificate,
        mesh: &MeshKey,
        now_ms: u64,
    ) -> Result<Arc<Verified>, CertificateError> {
        let verified = self.chain(certificate, mesh)?;
        verified.check_renewable(now_ms)?;
        Ok(verified)
    }

    /// As [`crate::sealing::verify_statement`].
    ///
    /// # Errors
    /// As [`crate::sealing::verify_statement`].
    pub fn verify_statement(
        &mut self,
        statement: &SealingStatement,
        by: &Verified,
        now_ms: u64,
    ) -> Result<SealTo, SealError> {
        let hash = sha256(&fields([
            &by.mesh.as_bytes()[..],
            by.agent_id.as_bytes(),
            by.key.as_bytes(),
            statement.as_str().as_bytes(),
        ]));
        let seal_to = match self.statements.known.get(&hash) {
            Some(seal_to) => *seal_to,
            None => {
                let seal_to = verify_without_time(statement, by)?;
                self.statements.remember(hash, seal_to);
                seal_to
            }
        };
        seal_to.check_time(&by.name, now_ms)?;
        Ok(seal_to)
    }

    /// How many certificates it remembers now.
    pub fn len(&self) -> usize {
        self.certificates.known.len()
    }

    /// Whether it remembers no certificate.
    pub fn is_empty(&self) -> bool {
        self.certificates.known.is_empty()
    }

    fn chain(
        &mut self,
        certificate: &Certificate,
        mesh: &MeshKey,
    ) -> Result<Arc<Verified>, CertificateError> {
        if self.mesh != Some(*mesh) {
            *self = Self {
                mesh: Some(*mesh),
                ..Self::default()
            };
        }
        let hash = sha256(certificate.as_str().as_bytes());
        if let Some(verified) = self.certificates.known.get(&hash) {
            return Ok(Arc::clone(verified));
        }
        let verified = Arc::new(verify_chain(certificate, mesh)?);
        self.certificates.remember(hash, Arc::clone(&verified));
        Ok(verified)
    }
}

/// At most [`CACHE_MAX_CERTIFICATES`] values by their hash.
#[derive(Debug)]
struct Memory<V> {
    known: BTreeMap<[u8; 32], V>,
    oldest_first: VecDeque<[u8; 32]>,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            oldest_first: VecDeque::new(),
        }
    }
}

impl<V> Memory<V> {
    /// Keeps a value that is not known yet.
    fn remember(&mut self, hash: [u8; 32], value: V) {
        if self.oldest_first.len() == CACHE_MAX_CERTIFICATES
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.oldest_first.push_back(hash);
        self.known.insert(hash, value);
    }
}
