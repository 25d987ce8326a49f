//! Nonces that the server need not remember.
//!
//! ```text
//!  obMatJos2  gAAA  base64url( seconds since start (4) | HMAC-SHA256(key, seconds | IP) cut to 8 )
//! ```
//!
//! The first part says that PASSWORD-ALGORITHMS counts (RFC 8489 §9.2). A nonce
//! proves that its holder receives at that IP address; ports change with NATs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;

/// The nonce cookie, and the security features: bit 0, password algorithms.
const PREFIX: &str = "obMatJos2gAAA";

/// Bytes of time and proof.
const TIME_BYTES: usize = 4;
const PROOF_BYTES: usize = 8;

/// Makes and checks nonces.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
    start: Instant,
    lifetime: Duration,
}

impl Nonces {
    pub(super) fn new(seed: &[u8; 32], start: Instant, lifetime: Duration) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, seed),
            start,
            lifetime,
        }
    }

    pub(super) fn make(&self, now: Instant, source: IpAddr) -> String {
        let seconds = self.seconds(now).to_be_bytes();
        let mut bytes = seconds.to_vec();
        bytes.extend_from_slice(&self.proof(seconds, source));
        let mut nonce = PREFIX.to_owned();
        BASE64URL_NOPAD.encode_append(&bytes, &mut nonce);
        nonce
    }

    /// Whether it was made here, for this source, and is not too old.
    pub(super) fn is_fresh(&self, now: Instant, source: IpAddr, nonce: &[u8]) -> bool {
        let Some(text) = nonce.strip_prefix(PREFIX.as_bytes()) else {
            return false;
        };
        let mut bytes = [0; TIME_BYTES + PROOF_BYTES];
        if BASE64URL_NOPAD.decode_len(text.len()) != Ok(bytes.len())
            || BASE64URL_NOPAD.decode_mut(text, &mut bytes).is_err()
        {
            return false;
        }
        let mut seconds = [0; TIME_BYTES];
        seconds.copy_from_slice(&bytes[..TIME_BYTES]);
        let age = self.seconds(now).checked_sub(u32::from_be_bytes(seconds));
        verify_slices_are_equal(&bytes[TIME_BYTES..], &self.proof(seconds, source)).is_ok()
            && age.is_some_and(|age| u64::from(age) <= self.lifetime.as_secs())
    }

    fn seconds(&self, now: Instant) -> u32 {
        let seconds = now.saturating_duration_since(self.start).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    fn proof(&self, seconds: [u8; TIME_BYTES], source: IpAddr) -> [u8; PROOF_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&seconds);
        match source {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        let tag = context.sign();
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_source_and_time_only() {
        let start = Instant::now();
        let lifetime = Duration::from_secs(3_600);
        let nonces = Nonces::new(&[1; 32], start, lifetime);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let nonce = nonces.make(start, source);
        let good = |nonces: &Nonces, at, from| nonces.is_fresh(at, from, nonce.as_bytes());
        assert!(good(&nonces, start, source));
        assert!(good(&nonces, start + lifetime, source));
        assert!(!good(
            &nonces,
            start + lifetime + Duration::from_secs(1),
            source
        ));
        assert!(!good(&nonces, start, "192.0.2.2".parse().unwrap()));
        assert!(!good(
            &Nonces::new(&[2; 32], start, lifetime),
            start,
            source
        ));
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.is_fresh(start, source, &changed), "{at}");
        }
    }

    #[test]
    fn a_nonce_cookie_before_text_of_several_bytes_a_letter_is_refused_without_a_panic() {
        let nonces = Nonces::new(&[1; 32], Instant::now(), Duration::from_secs(60));
        let source = IpAddr::from([192, 0, 2, 1]);
        for text in [
            "obMatJos2é",
            "obMatJos2éé",
            "obMatJos2ééé",
            "obMatJos2日本語",
            "obMatJos2",
            "obMatJos2gAAAé",
        ] {
            assert!(
                !nonces.is_fresh(Instant::now(), source, text.as_bytes()),
                "{text}"
            );
        }
    }
}
