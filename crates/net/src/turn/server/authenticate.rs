//! Who asks (RFC 8489 §9.2.4, with credentials as in [`super::credentials`]).

use super::answers::PASSWORD_ALGORITHMS;
use super::credentials::User;
use super::limits::CLOCK_LEEWAY;
use super::strangers::Source;
use super::{Ends, Now, Server};
use crate::turn::credential::{Integrity, Key, PasswordAlgorithm};
use crate::turn::message::{Message, Writer, code, kind};

/// A member who has proved himself, and how he signs.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) user: User,
    key: Key,
    algorithm: PasswordAlgorithm,
    integrity: Integrity,
}

impl Signer {
    /// The bytes of an answer, signed as the request was (RFC 8489 §9.2.4).
    pub(super) fn sign(&self, writer: Writer) -> Vec<u8> {
        writer.sign(&self.key, self.integrity).finish()
    }
}

impl Server {
    /// Who has signed a request; whoever is refused is answered at once.
    pub(super) fn authenticate(
        &mut self,
        now: Now,
        ends: &Ends,
        request: &Message<'_>,
    ) -> Option<Signer> {
        let source = ends.remote.ip();
        let Some(integrity) = request.integrity() else {
            self.counters.challenges += 1;
            self.challenge(now, ends, request, code::UNAUTHENTICATED);
            return None;
        };
        let (Some(name), Some(realm), Some(nonce), Ok(algorithm)) = (
            request.text(kind::USERNAME),
            request.find(kind::REALM),
            request.find(kind::NONCE),
            algorithm(request),
        ) else {
            self.refuse_stranger(now, ends, request, code::BAD_REQUEST);
            return None;
        };
        if !self.nonces.is_fresh(now.instant, source, nonce) {
            self.counters.challenges += 1;
            self.challenge(now, ends, request, code::STALE_NONCE);
            return None;
        }
        let signer = User::parse(name)
            .filter(|_| realm == self.realm.as_bytes())
            .and_then(|user| self.signer(now, ends, name, user, algorithm, integrity))
            .filter(|signer| request.verify(&signer.key))
            .filter(|signer| self.is_good(now, &signer.user));
        if signer.is_none() {
            self.counters.refused_credentials += 1;
            self.challenge(now, ends, request, code::UNAUTHENTICATED);
        }
        signer
    }

    /// The key that a request of this user, with a good nonce, must be signed with. A stranger who
    /// has used up his answers does not make the server derive keys.
    fn signer(
        &self,
        now: Now,
        ends: &Ends,
        name: &str,
        user: User,
        algorithm: PasswordAlgorithm,
        integrity: Integrity,
    ) -> Option<Signer> {
        let source = Source::Proved(ends.remote.ip());
        let allocation = self.by_client.get(ends);
        let known = allocation.and_then(|id| self.allocations.get(*id));
        let key = match known.map(|allocation| &allocation.signer) {
            Some(known) if known.user == user && known.algorithm == algorithm => known.key.clone(),
            _ if !self.strangers.would_admit(now.instant, source) => return None,
            _ => Key::new(name, &self.realm, &self.secret.password(name), algorithm),
        };
        Some(Signer {
            user,
            key,
            algorithm,
            integrity,
        })
    }

    /// Neither expired nor from before a removal; and not good for longer than any
    /// that are given out now.
    fn is_good(&self, now: Now, user: &User) -> bool {
        let latest = now.unix + self.limits.credential_lifetime + CLOCK_LEEWAY;
        let in_time = now.unix < user.expires && user.expires <= latest;
        in_time && self.members.mark(&user.member) == user.mark
    }
}

/// How the password becomes the key: as the client has chosen from what it was
/// told. `Err` when the two attributes do not fit (RFC 8489 §9.2.4): somebody
/// may have changed what it was told.
fn algorithm(request: &Message<'_>) -> Result<PasswordAlgorithm, ()> {
    let offered = request.find(kind::PASSWORD_ALGORITHMS);
    let chosen = request.find(kind::PASSWORD_ALGORITHM);
    let ours = PASSWORD_ALGORITHMS.map(PasswordAlgorithm::value);
    match (offered, chosen) {
        (None, None) => Ok(PasswordAlgorithm::Md5),
        (Some(offered), Some(chosen)) if offered == ours.as_flattened() => PASSWORD_ALGORITHMS
            .into_iter()
            .find(|algorithm| algorithm.value() == chosen)
            .ok_or(()),
        _ => Err(()),
    }
}
