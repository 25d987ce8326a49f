//! Nonces for proofs of possession (RFC 9449 §8), and what makes each proof
//! good only once.
//!
//! A nonce is the time of its issue and a MAC of that under a key that is
//! drawn at every start; nothing is kept of it. Of a proof that was taken, its
//! id is kept as long as its nonce is good. When too many are kept, nonces
//! become old earlier: then whoever comes with one of those gets a new one,
//! and nobody is locked out.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;

/// How long a nonce is good. Chosen: a node that says nothing for minutes
/// needs one more round trip.
const NONCE_LIFE: Duration = Duration::from_secs(300);

/// Proofs that are remembered; with one more, the oldest nonces become old.
/// Chosen: 400 requests a second for [`NONCE_LIFE`]; some megabytes.
const PROOFS_MAX: usize = 120_000;

const STAMP_BYTES: usize = 8;
const MAC_BYTES: usize = 16;

/// What tells one proof from another: a hash of its key and its id.
pub(crate) type ProofId = [u8; 16];

/// When a nonce was issued, milliseconds since the start of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Issued(u64);

/// The proof was taken before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replayed;

/// Issues nonces, and remembers the proofs that came with them.
#[derive(Debug)]
pub(crate) struct Proofs {
    key: hmac::Key,
    start: Instant,
    life: Duration,
    proofs_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    proofs: BTreeSet<(Issued, ProofId)>,
    /// Nonces issued before this are too old.
    floor: u64,
}

impl Proofs {
    /// Takes 32 random bytes that nobody else knows.
    pub(crate) fn new(key: &[u8; 32], now: Instant) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            start: now,
            life: NONCE_LIFE,
            proofs_max: PROOFS_MAX,
            seen: Mutex::default(),
        }
    }

    /// A nonce that is good from now on.
    pub(crate) fn nonce(&self, now: Instant) -> String {
        let stamp = self.stamp(now).to_be_bytes();
        let mut bytes = stamp.to_vec();
        bytes.extend_from_slice(&self.mac(&stamp));
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// When the nonce was issued; `None` when it is not this registry's, or too old.
    pub(crate) fn check(&self, now: Instant, nonce: &str) -> Option<Issued> {
        let bytes = BASE64URL_NOPAD.decode(nonce.as_bytes()).ok()?;
        let (stamp, mac) = bytes.split_first_chunk::<STAMP_BYTES>()?;
        verify_slices_are_equal(&self.mac(stamp), mac).ok()?;
        let issued = u64::from_be_bytes(*stamp);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget_before(self.oldest(now));
        (issued >= seen.floor).then_some(Issued(issued))
    }

    /// Remembers a proof whose nonce and signature are good.
    ///
    /// # Errors
    /// It was taken before.
    pub(crate) fn take(&self, nonce: Issued, proof: ProofId) -> Result<(), Replayed> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have become too old since it was checked.
        if nonce.0 < seen.floor || !seen.proofs.insert((nonce, proof)) {
            return Err(Replayed);
        }
        if seen.proofs.len() > self.proofs_max
            && let Some((oldest, _)) = seen.proofs.first().copied()
        {
            seen.forget_before(oldest.0 + 1);
        }
        Ok(())
    }

    fn stamp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn oldest(&self, now: Instant) -> u64 {
        let life = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        self.stamp(now).saturating_sub(life)
    }

    fn mac(&self, stamp: &[u8]) -> [u8; MAC_BYTES] {
        let tag = hmac::sign(&self.key, stamp);
        *tag.as_ref()
            .first_chunk()
            .expect("an HMAC-SHA256 has 32 bytes")
    }
}

impl Seen {
    fn forget_before(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.proofs = self.proofs.split_off(&(Issued(floor), [0; 16]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(now: Instant) -> Proofs {
        Proofs::new(&[1; 32], now)
    }

    #[test]
    fn a_nonce_is_good_for_its_life_and_not_a_millisecond_longer() {
        let start = Instant::now();
        let proofs = proofs(start);
        let nonce = proofs.nonce(start);
        assert!(proofs.check(start + NONCE_LIFE, &nonce).is_some());
        let late = start + NONCE_LIFE + Duration::from_millis(1);
        assert_eq!(proofs.check(late, &nonce), None);
    }

    #[test]
    fn a_nonce_of_another_registry_or_start_is_not_good() {
        let start = Instant::now();
        let foreign = Proofs::new(&[2; 32], start).nonce(start);
        let own = proofs(start);
        for nonce in [foreign.as_str(), "", "AAAA", "no base64url"] {
            assert_eq!(own.check(start, nonce), None, "{nonce}");
        }
    }

    #[test]
    fn a_proof_is_taken_once() {
        let start = Instant::now();
        let proofs = proofs(start);
        let issued = proofs
            .check(start, &proofs.nonce(start))
            .expect("a good nonce");
        assert_eq!(proofs.take(issued, [1; 16]), Ok(()));
        assert_eq!(proofs.take(issued, [1; 16]), Err(Replayed));
        assert_eq!(proofs.take(issued, [2; 16]), Ok(()));
    }

    #[test]
    fn as_many_proofs_as_the_limit_are_kept_and_one_more_makes_the_oldest_nonce_old() {
        let start = Instant::now();
        let mut proofs = proofs(start);
        proofs.proofs_max = 2;
        let later = start + Duration::from_millis(1);
        let (old, new) = (proofs.nonce(start), proofs.nonce(later));
        let issued = |nonce: &str| proofs.check(later, nonce);
        let (a, b) = (issued(&old).expect("good"), issued(&new).expect("good"));
        assert_eq!(proofs.take(a, [1; 16]), Ok(()));
        assert_eq!(proofs.take(b, [2; 16]), Ok(()));
        assert!(proofs.check(later, &old).is_some());
        assert_eq!(proofs.take(b, [3; 16]), Ok(()));
        assert_eq!(proofs.check(later, &old), None);
        assert_eq!(proofs.take(a, [1; 16]), Err(Replayed), "not even then");
        assert!(proofs.check(later, &new).is_some());
        assert_eq!(proofs.take(b, [2; 16]), Err(Replayed));
    }
}
