//! How large a datagram may be on the way to a STUN server: requests of several sizes, none
//! of which may be cut up on the way, and which of them are answered.

use std::net::SocketAddr;

use super::binding::{Answer, Ask, Examination, Lane, Silence};
use crate::stun::binding::AnswerFrom;

/// What an IP header and UDP's take, bytes (RFC 791, RFC 8200, RFC 768).
const IPV4_HEADERS_BYTES: usize = 28;
const IPV6_HEADERS_BYTES: usize = 48;

/// What a Binding request has beside PADDING's value, bytes: its header, PADDING's, FINGERPRINT.
const REQUEST_BYTES: usize = 20 + 4 + 8;

/// The MTUs that are tried, bytes: what a tunnel in a tunnel leaves (1,232), the least of IPv6
/// (1,280, RFC 8200 §5), of tunnels (1,400, 1,420), PPPoE (1,492) and Ethernet (1,500).
pub const MTUS: [usize; 6] = [1_232, 1_280, 1_400, 1_420, 1_492, 1_500];

/// The MTU that links need, bytes: datagrams of 1,200 bytes over either family.
pub const MTU_NEEDED: usize = 1_248;

/// One examination of the way to a server.
#[derive(Debug)]
pub struct Sizes {
    server: SocketAddr,
    next: usize,
    passed: Vec<usize>,
    silent: Vec<usize>,
}

impl Sizes {
    /// Examines the way to a server that answers small requests.
    pub const fn new(server: SocketAddr) -> Self {
        Self {
            server,
            next: 0,
            passed: Vec::new(),
            silent: Vec::new(),
        }
    }

    /// The largest MTU that has passed.
    pub fn largest(&self) -> Option<usize> {
        self.passed.iter().copied().max()
    }

    /// The smallest MTU larger than any that passed, which did not: the true one is below.
    pub fn bound(&self) -> Option<usize> {
        let largest = self.largest().unwrap_or(0);
        let above = self.silent.iter().copied().filter(|mtu| *mtu > largest);
        above.min()
    }

    const fn headers(&self) -> usize {
        match self.server {
            SocketAddr::V4(_) => IPV4_HEADERS_BYTES + REQUEST_BYTES,
            SocketAddr::V6(_) => IPV6_HEADERS_BYTES + REQUEST_BYTES,
        }
    }
}

impl Examination for Sizes {
    /// The MTU that is asked about.
    type Key = usize;

    fn poll_ask(&mut self) -> Option<Ask<usize>> {
        let mtu = *MTUS.get(self.next)?;
        self.next += 1;
        Some(Ask {
            key: mtu,
            lane: Lane::First,
            to: self.server,
            answer_from: AnswerFrom::There,
            padding: mtu - self.headers(),
        })
    }

    fn handle_answer(&mut self, mtu: usize, _: Answer) {
        self.passed.push(mtu);
    }

    fn handle_silence(&mut self, mtu: usize, silence: Silence) {
        match silence {
            // It arrived, whatever the server thinks of it.
            Silence::Refused(_) => self.passed.push(mtu),
            Silence::Nothing | Silence::Unsent => self.silent.push(mtu),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stun::binding::{Binding, Question};

    /// What a way with this MTU leaves of the requests.
    fn examined(server: SocketAddr, way: usize) -> (Option<usize>, Option<usize>) {
        let mut sizes = Sizes::new(server);
        let answer = Answer {
            from: server,
            mapped: server,
            other: None,
        };
        while let Some(ask) = sizes.poll_ask() {
            let question = Question {
                padding: ask.padding,
                ..Question::default()
            };
            let request = Binding::new(question, Instant::now(), [7; 32]).poll_transmit();
            let payload = request.expect("a request").len();
            let headers = sizes.headers() - REQUEST_BYTES;
            assert_eq!(payload + headers, ask.key);
            let packet = ask.padding + sizes.headers();
            assert_eq!(packet, ask.key);
            match packet <= way {
                true => sizes.handle_answer(ask.key, answer),
                false => sizes.handle_silence(ask.key, Silence::Nothing),
            }
        }
        (sizes.largest(), sizes.bound())
    }

    #[test]
    fn the_largest_that_passes_and_the_first_that_does_not_are_told() {
        for server in [
            SocketAddr::from(([192, 0, 2, 1], 3478)),
            "[2001:db8::1]:3478".parse().expect("an address"),
        ] {
            assert_eq!(examined(server, 9_000), (Some(1_500), None));
            assert_eq!(examined(server, 1_499), (Some(1_492), Some(1_500)));
            assert_eq!(examined(server, 1_280), (Some(1_280), Some(1_400)));
            assert_eq!(examined(server, 500), (None, Some(1_232)));
        }
    }

    #[test]
    fn a_refusal_has_arrived() {
        let mut sizes = Sizes::new(([192, 0, 2, 1], 1).into());
        sizes.handle_silence(1_400, Silence::Refused(420));
        assert_eq!(sizes.largest(), Some(1_400));
    }
}
