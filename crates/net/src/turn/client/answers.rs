//! What the answers of a server, and their absence, lead to.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::auth::Challenge;
use super::peers::UPKEEP_EVERY;
use super::transaction::{ANSWER_WITHIN, Asked, Then, Transaction};
use super::{
    ALLOCATE_AGAIN, Allocation, Client, ClientEvent, Handled, REFRESH_AGAIN, REFRESH_EVERY,
    REFRESHES_UNANSWERED_MAX, Reason, RelayFamily, State, TurnError, Via,
};
use crate::turn::message::{Class, Message, code, kind};

/// How often a request is signed anew because the server wants it. Chosen: one for the
/// nonce, one for newer credentials, one for older, and one to spare.
const STALE_MAX: u8 = 4;

/// When the next refresh is due.
fn refresh_at(now: Instant, lifetime: Duration) -> Instant {
    now + REFRESH_EVERY.min(lifetime / 2)
}

impl Client {
    pub(super) fn handle_answer(&mut self, message: &Message<'_>) -> Handled {
        let id = message.transaction();
        let open = self.transactions.find(id);
        let Some(open) = open.filter(|t| message.method() == Some(t.asked.method())) else {
            self.counters.unmatched += 1;
            return Handled::NotMine;
        };
        match belief(open, message) {
            Belief::Full => {}
            Belief::InTime if self.via == Via::Stream || self.is_challenge(message) => {}
            Belief::InTime => {
                self.transactions.doubt(id, self.now, message.bytes());
                return Handled::Taken;
            }
            Belief::None => {
                self.counters.unverified += 1;
                return Handled::Taken;
            }
        }
        if let Some(transaction) = self.transactions.take(id) {
            match message.class() {
                Class::Success => self.handle_success(transaction, message),
                _ => self.handle_error(transaction, message),
            }
        }
        Handled::Taken
    }

    /// Whether all it costs is to sign the request anew.
    fn is_challenge(&self, message: &Message<'_>) -> bool {
        match message.error() {
            Some((code::STALE_NONCE, _)) => true,
            Some((code::UNAUTHENTICATED, _)) => self.auth.is_other_realm(message),
            _ => false,
        }
    }

    fn handle_success(&mut self, transaction: Transaction, message: &Message<'_>) {
        let since = transaction.since;
        match transaction.asked {
            Asked::Allocate => self.handle_allocated(since, message),
            Asked::Refresh => self.handle_refreshed(since, message),
            Asked::Release(Then::Nothing) => self.state = State::Over,
            Asked::Release(Then::Allocate) => self.ask(Asked::Allocate, 0),
            Asked::Permissions(ips) => {
                self.peers.handle_permitted(since, &ips);
                ips.into_iter().for_each(|ip| self.send_waiting(ip));
            }
            Asked::Channel { peer, .. } => {
                self.peers.handle_bound(since, peer);
                self.send_waiting(peer.ip());
            }
        }
    }

    fn handle_allocated(&mut self, since: Instant, message: &Message<'_>) {
        let relayed = message.xor_address(kind::XOR_RELAYED_ADDRESS);
        let lifetime = message.number(kind::LIFETIME).filter(|s| *s > 0);
        let (Some(relayed), Some(lifetime)) = (relayed, lifetime) else {
            return self.end(TurnError::Protocol("an allocation without address or life"));
        };
        if !self.family.has(relayed.ip()) || relayed.port() == 0 {
            return self.end(TurnError::Protocol("an address of the wrong family"));
        }
        let lifetime = Duration::from_secs(u64::from(lifetime));
        self.settle_family(RelayFamily::of(relayed.ip()));
        self.state = State::Allocated(Allocation {
            relayed,
            expires: since + lifetime,
            refresh_at: refresh_at(self.now, lifetime),
            unanswered: 0,
            upkeep_at: self.now + UPKEEP_EVERY,
        });
        self.events.push_back(ClientEvent::Allocated {
            relayed,
            mapped: message.xor_address(kind::XOR_MAPPED_ADDRESS),
            lifetime,
        });
    }

    fn handle_refreshed(&mut self, since: Instant, message: &Message<'_>) {
        let now = self.now;
        let State::Allocated(allocation) = &mut self.state else {
            return;
        };
        let Some(lifetime) = message.number(kind::LIFETIME) else {
            return self.end(TurnError::Protocol("a refresh without a life"));
        };
        let lifetime = Duration::from_secs(u64::from(lifetime));
        allocation.unanswered = 0;
        allocation.expires = since + lifetime;
        allocation.refresh_at = refresh_at(now, lifetime);
    }

    /// Nothing better than this refusal has come in time.
    pub(super) fn handle_refused(&mut self, transaction: Transaction, refusal: &[u8]) {
        if let Ok(message) = Message::parse(refusal) {
            self.handle_error(transaction, &message);
        }
    }

    fn handle_error(&mut self, transaction: Transaction, message: &Message<'_>) {
        let Some((number, words)) = message.error() else {
            return self.end(TurnError::Protocol("an error without a code"));
        };
        let is_signed = transaction.key.is_some();
        let may_try_again = transaction.stale < STALE_MAX;
        match number {
            code::UNAUTHENTICATED if !is_signed || self.auth.is_other_realm(message) => {
                self.handle_challenge(transaction, message);
            }
            code::STALE_NONCE => self.handle_challenge(transaction, message),
            code::UNAUTHENTICATED | code::WRONG_CREDENTIALS
                if may_try_again && self.auth.can_differ_from(transaction.generation) =>
            {
                self.ask(transaction.asked, transaction.stale + 1);
            }
            code::TRY_ALTERNATE => {
                self.handle_alternate(&transaction, message.address(kind::ALTERNATE_SERVER));
            }
            _ => self.handle_refusal(
                transaction,
                TurnError::of_answer(number, Reason::new(words)),
            ),
        }
    }

    /// Signs the request as the server wants it and asks again, at once.
    fn handle_challenge(&mut self, transaction: Transaction, message: &Message<'_>) {
        if transaction.stale >= STALE_MAX {
            return self.end(TurnError::Protocol("it wants another nonce every time"));
        }
        match self.auth.handle_challenge(message) {
            Challenge::Answerable => self.ask(transaction.asked, transaction.stale + 1),
            Challenge::NoCredentials => self.end(TurnError::CredentialsMissing),
            Challenge::Unusable => {
                self.end(TurnError::Protocol(
                    "realm, nonce or user name are unusable",
                ));
            }
        }
    }

    /// Goes to the other server, if it can be reached from here and none was named before.
    fn handle_alternate(&mut self, transaction: &Transaction, alternate: Option<SocketAddr>) {
        let Some(alternate) = alternate else {
            return self.end(TurnError::Protocol(
                "an alternate server without an address",
            ));
        };
        let error = TurnError::Alternate(alternate);
        match (&mut self.state, &mut self.via) {
            (State::Allocating(allocating), Via::Datagrams { server })
                if transaction.asked == Asked::Allocate
                    && !allocating.is_alternate
                    && alternate.is_ipv4() == server.is_ipv4() =>
            {
                allocating.is_alternate = true;
                allocating.until = self.now + ANSWER_WITHIN;
                *server = alternate;
                self.auth.forget();
                self.ask(Asked::Allocate, 0);
            }
            _ => self.end(error),
        }
    }

    /// The server refuses for good, as far as this request goes.
    fn handle_refusal(&mut self, transaction: Transaction, error: TurnError) {
        let concerns_all = matches!(
            error,
            TurnError::Mismatch(_) | TurnError::CredentialsRefused { .. }
        );
        match transaction.asked {
            Asked::Allocate => self.handle_not_allocated(error),
            Asked::Release(Then::Nothing) => self.state = State::Over,
            // It was somebody else's, or it is gone already.
            Asked::Release(Then::Allocate) => {
                self.go_back();
                self.ask(Asked::Allocate, 0);
            }
            _ if concerns_all => self.end(error),
            Asked::Refresh => self.handle_not_refreshed(error),
            Asked::Permissions(ips) => self.handle_not_permitted(&ips, error),
            Asked::Channel { peer, .. } => {
                self.peers.handle_not_bound(peer);
                if error.code() == Some(code::FORBIDDEN) {
                    self.handle_not_permitted(&[peer.ip()], error);
                }
            }
        }
    }

    fn handle_not_allocated(&mut self, error: TurnError) {
        match (&mut self.state, &error) {
            // Asked once: what is asked for then is IPv6 alone.
            (State::Allocating(_), error)
                if self.family == RelayFamily::Common
                    && error.code() == Some(code::ADDRESS_FAMILY_NOT_SUPPORTED) =>
            {
                self.settle_family(RelayFamily::V6);
                self.ask(Asked::Allocate, 0);
            }
            // An earlier client from this very address has left one: it goes first.
            (State::Allocating(allocating), TurnError::Mismatch(_))
                if !allocating.has_released && self.auth.can_sign() =>
            {
                allocating.has_released = true;
                self.ask(Asked::Release(Then::Allocate), 0);
            }
            (State::Allocating(allocating), TurnError::Mismatch(_))
                if allocating.has_released && self.now + ALLOCATE_AGAIN < allocating.until =>
            {
                allocating.again_at = Some(self.now + ALLOCATE_AGAIN);
            }
            _ => self.end(error),
        }
    }

    /// An earlier client's name may be the one that the server holds this address to.
    fn go_back(&mut self) {
        let State::Allocating(allocating) = &mut self.state else {
            return;
        };
        let earlier = allocating.earlier.take();
        if let Some(earlier) = earlier.filter(|e| self.auth.credentials() != Some(e)) {
            allocating.has_released = false;
            allocating.has_gone_back = true;
            self.auth.go_back_to(earlier);
        }
    }

    /// A server in need may take it later, while the allocation lasts.
    fn handle_not_refreshed(&mut self, error: TurnError) {
        let now = self.now;
        match &mut self.state {
            State::Allocated(allocation) if error.code().is_some_and(|code| code >= 486) => {
                allocation.unanswered = 0;
                allocation.refresh_at = now + REFRESH_AGAIN;
            }
            _ => self.end(error),
        }
    }

    fn handle_not_permitted(&mut self, ips: &[IpAddr], error: TurnError) {
        let Some(ip) = self.peers.handle_refused(self.now, ips) else {
            return;
        };
        self.counters.dropped_refused += self.peers.take_waiting(ip).len() as u64;
        self.events
            .push_back(ClientEvent::PeerRefused { ip, error });
    }

    /// No answer came in time.
    pub(super) fn handle_unanswered(&mut self, transaction: Transaction) {
        match transaction.asked {
            Asked::Allocate | Asked::Release(Then::Allocate) => {
                self.end(TurnError::Timeout(ANSWER_WITHIN));
            }
            Asked::Release(Then::Nothing) => self.state = State::Over,
            Asked::Refresh => self.handle_refresh_unanswered(),
            Asked::Permissions(ips) => self.peers.handle_unanswered(&ips),
            Asked::Channel { peer, .. } => self.peers.handle_not_bound(peer),
        }
    }

    fn handle_refresh_unanswered(&mut self) {
        let State::Allocated(allocation) = &mut self.state else {
            return;
        };
        allocation.unanswered += 1;
        let silence = ANSWER_WITHIN * allocation.unanswered;
        if allocation.unanswered >= REFRESHES_UNANSWERED_MAX {
            self.end(TurnError::Timeout(silence));
        } else {
            self.ask(Asked::Refresh, 0);
        }
    }
}

/// How far an answer is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// It is signed like the request, or the request was not.
    Full,
    /// A refusal that nobody has signed: while nothing better comes.
    InTime,
    /// Not at all: the signature is wrong, or a good answer has none.
    None,
}

/// RFC 8489 §9.2.5, with more trust in refusals: servers do not sign all of
/// them, and only who sees the request can make one up.
fn belief(open: &Transaction, message: &Message<'_>) -> Belief {
    match (&open.key, message.integrity(), message.class()) {
        (None, ..) => Belief::Full,
        (Some(_), None, Class::Error) => Belief::InTime,
        (Some(_), None, _) => Belief::None,
        (Some(key), Some(_), _) if message.verify(key) => Belief::Full,
        (Some(_), Some(_), _) => Belief::None,
    }
}
