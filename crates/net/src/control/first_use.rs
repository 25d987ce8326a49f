//! Trust on first use: what the first stream of a connection was shown binds all others of it.

use std::sync::OnceLock;

/// What TLS has been shown so far, of one connection to the registry.
///
/// By long-poll that connection is several streams. Whoever gets between one
/// of them only must not be taken for the one that was met first.
#[derive(Debug, Default)]
pub(super) struct FirstUse(OnceLock<Shown>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A certificate that an authority vouches for.
    Vouched,
    /// A key that nobody vouches for: the SHA-256 of its SPKI.
    Unvouched([u8; 32]),
}

impl FirstUse {
    /// An authority vouches for what a stream was shown.
    pub(super) fn handle_vouched(&self) {
        // Such a certificate is good whatever came before.
        self.0.get_or_init(|| Shown::Vouched);
    }

    /// Whether a key that nobody vouches for is trusted: when it is the first
    /// that is shown, or that one again.
    pub(super) fn admits(&self, key: [u8; 32]) -> bool {
        let shown = Shown::Unvouched(key);
        *self.0.get_or_init(|| shown) == shown
    }

    /// The key that is trusted for no other reason than that it came first.
    pub(super) fn key(&self) -> Option<[u8; 32]> {
        match self.0.get()? {
            Shown::Vouched => None,
            Shown::Unvouched(key) => Some(*key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_admitted_again_and_no_other() {
        let first_use = FirstUse::default();
        assert_eq!(first_use.key(), None);
        assert!(first_use.admits([1; 32]));
        assert!(!first_use.admits([2; 32]));
        assert!(first_use.admits([1; 32]));
        first_use.handle_vouched();
        assert!(first_use.admits([1; 32]));
        assert_eq!(first_use.key(), Some([1; 32]));
    }

    #[test]
    fn after_what_an_authority_vouches_for_no_other_key_is_admitted() {
        let first_use = FirstUse::default();
        first_use.handle_vouched();
        assert!(!first_use.admits([1; 32]));
        assert_eq!(first_use.key(), None);
    }
}
