//! A memory of verified certificates: every signal and every sealed message
//! carries one, and most carry the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use waymesh_proto::control::MeshKey;
use waymesh_proto::membership::Certificate;

use super::Verified;
use super::error::CertificateError;
use super::verify::verify_chain;
use crate::keys::sha256;

/// Certificates that a cache remembers; one more makes it forget the oldest.
/// Chosen: some 2 MiB, and more members than one node talks to in a while.
pub const CACHE_MAX_CERTIFICATES: usize = 1_024;

/// Remembers certificates whose chain was verified. The time is checked at every use.
///
/// It is of one mesh: asked for another, it forgets everything. Certificates
/// that do not verify are not remembered.
#[derive(Debug, Default)]
pub struct Cache {
    mesh: Option<MeshKey>,
    known: BTreeMap<[u8; 32], Arc<Verified>>,
    oldest_first: VecDeque<[u8; 32]>,
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

    /// How many it remembers now.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
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
        if let Some(verified) = self.known.get(&hash) {
            return Ok(Arc::clone(verified));
        }
        let verified = Arc::new(verify_chain(certificate, mesh)?);
        if self.oldest_first.len() == CACHE_MAX_CERTIFICATES
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.oldest_first.push_back(hash);
        self.known.insert(hash, Arc::clone(&verified));
        Ok(verified)
    }
}
