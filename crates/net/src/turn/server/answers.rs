//! Answers, and what they cost a stranger.

use super::authenticate::Signer;
use super::strangers::Source;
use super::{Answer, Ends, Now, Server, Via};
use crate::turn::credential::PasswordAlgorithm;
use crate::turn::message::{Message, Writer, code, kind};

/// What a client may choose from, the better first (RFC 8489 §14.11).
pub(super) const PASSWORD_ALGORITHMS: [PasswordAlgorithm; 2] =
    [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];

impl Server {
    pub(super) fn answer(&mut self, to: Ends, bytes: Vec<u8>) {
        self.answers.push_back(Answer { to, bytes });
    }

    /// Whether somebody who is not known may have one more answer.
    pub(super) fn admit(&mut self, now: Now, from: &Ends, request: &Message<'_>) -> bool {
        let ip = from.remote.ip();
        let nonce = request.find(kind::NONCE);
        let proved = from.via != Via::Udp
            || nonce.is_some_and(|nonce| self.nonces.is_fresh(now.instant, ip, nonce));
        let source = match proved {
            true => Source::Proved(ip),
            false => Source::Unproved(ip),
        };
        self.strangers.admit(now.instant, source)
    }

    /// Refuses a request of somebody who is not known, if he may have an answer.
    pub(super) fn refuse_stranger(
        &mut self,
        now: Now,
        to: &Ends,
        request: &Message<'_>,
        code: u16,
    ) {
        if !self.admit(now, to, request) {
            self.counters.dropped_strangers += 1;
            return;
        }
        self.answer(*to, Writer::error(request, code).finish());
    }

    /// 401 or 438: says what credentials are to be combined with (RFC 8489 §9.2.4).
    pub(super) fn challenge(&mut self, now: Now, to: &Ends, request: &Message<'_>, code: u16) {
        if !self.admit(now, to, request) {
            self.counters.dropped_strangers += 1;
            return;
        }
        let nonce = self.nonces.make(now.instant, to.remote.ip());
        let mut writer = Writer::error(request, code);
        writer
            .put(kind::REALM, self.realm.as_bytes())
            .put(kind::NONCE, nonce.as_bytes())
            .put(
                kind::PASSWORD_ALGORITHMS,
                PASSWORD_ALGORITHMS
                    .map(PasswordAlgorithm::value)
                    .as_flattened(),
            );
        self.answer(*to, writer.finish());
    }

    /// Refuses a request of a member.
    pub(super) fn refuse(&mut self, to: &Ends, request: &Message<'_>, signer: &Signer, code: u16) {
        self.count_refusal(code);
        self.answer(*to, signer.sign(Writer::error(request, code)));
    }

    pub(super) fn count_refusal(&mut self, code: u16) {
        match code {
            code::ALLOCATION_QUOTA_REACHED => self.counters.refused_quota += 1,
            code::INSUFFICIENT_CAPACITY => self.counters.refused_capacity += 1,
            code::FORBIDDEN => self.counters.refused_peers += 1,
            _ => self.counters.refused_other += 1,
        }
    }
}

/// The attributes that a receiver must understand and this server does not
/// (RFC 8489 §14), as the value of UNKNOWN-ATTRIBUTES; `None` when there are none.
pub(super) fn unknown_attributes(request: &Message<'_>, known: &[u16]) -> Option<Vec<u8>> {
    let mut unknown = Vec::new();
    for (kind, _) in request.attributes() {
        if kind < 0x8000 && !known.contains(&kind) && unknown.len() < UNKNOWN_MAX_BYTES {
            unknown.extend_from_slice(&kind.to_be_bytes());
        }
    }
    (!unknown.is_empty()).then_some(unknown)
}

/// Bytes of unknown attributes that are named. Chosen: an answer is not longer for more.
const UNKNOWN_MAX_BYTES: usize = 16;
