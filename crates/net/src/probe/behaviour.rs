//! What a NAT does to UDP, found out by RFC 5780: to whom it gives which mapped
//! address (§4.3), and whom it lets in (§4.4).
//!
//! Two sockets ask. The first asks the server's addresses one after the other and
//! compares what they see. The second asks one address alone and has it answer
//! from the others: whatever of that arrives, the NAT lets in from strangers. A server
//! with one address leaves only a comparison with a second server, and of the filter nothing.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::binding::{Answer, Ask, Examination, Lane, Silence};
use crate::stun::binding::AnswerFrom;

#[cfg(test)]
mod tests;

/// To whom a NAT gives the same mapped address (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// There is no NAT: servers see this host's own address.
    None,
    /// The same to everybody (a cone NAT).
    EndpointIndependent,
    /// One for each address.
    AddressDependent,
    /// One for each address and port (a symmetric NAT).
    AddressAndPortDependent,
    /// One for each address, at least: two servers saw different ones.
    Dependent,
}

/// From whom a NAT or a firewall lets in what comes to a mapped address (RFC 4787 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtering {
    /// From everybody.
    EndpointIndependent,
    /// From the addresses that were sent to.
    AddressDependent,
    /// From the addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// What is known of the NATs and firewalls between this host and the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nat {
    /// This host's address as the first server sees it; `None` when it did not answer.
    pub mapped: Option<SocketAddr>,
    /// `None` where it cannot be known.
    pub mapping: Option<Mapping>,
    /// `None` where it cannot be known.
    pub filtering: Option<Filtering>,
    /// Whether the server has a second address, which both need.
    pub has_other: bool,
}

/// The questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// What the server sees (§4.2).
    Plain,
    /// What another server sees.
    SecondServer,
    /// What the server's other address sees, at the same port (§4.3, test II).
    OtherAddress,
    /// What it sees at the other port (§4.3, test III).
    OtherAddressAndPort,
    /// Whether an answer from the other address and port arrives (§4.4, test II).
    FromOtherAddress,
    /// Whether an answer from the other port arrives (§4.4, test III).
    FromOtherPort,
}

const TESTS: [Test; 6] = [
    Test::Plain,
    Test::SecondServer,
    Test::OtherAddress,
    Test::OtherAddressAndPort,
    Test::FromOtherAddress,
    Test::FromOtherPort,
];

/// What came of a question.
type Said = Result<Answer, Silence>;

/// One examination of the way to a server.
#[derive(Debug)]
pub struct Behaviour {
    server: SocketAddr,
    second: Option<SocketAddr>,
    own: Vec<IpAddr>,
    port: u16,
    asked: [bool; TESTS.len()],
    said: [Option<Said>; TESTS.len()],
}

impl Behaviour {
    /// Examines the way to `server`; `second` is another STUN server at another IP address, of
    /// use where the first has only one. `own` are this host's addresses and `port` the
    /// port of the first socket, by which is seen that there is no NAT.
    pub const fn new(
        server: SocketAddr,
        second: Option<SocketAddr>,
        own: Vec<IpAddr>,
        port: u16,
    ) -> Self {
        Self {
            server,
            second,
            own,
            port,
            asked: [false; TESTS.len()],
            said: [None; TESTS.len()],
        }
    }

    /// What is known so far.
    pub fn nat(&self) -> Nat {
        Nat {
            mapped: self.mapped(Test::Plain),
            mapping: self.mapping(),
            filtering: self.filtering(),
            has_other: self.other().is_some(),
        }
    }

    fn said(&self, test: Test) -> Option<Said> {
        self.said[test as usize]
    }

    fn mapped(&self, test: Test) -> Option<SocketAddr> {
        Some(self.said(test)?.ok()?.mapped)
    }

    /// The server's second address, when it is one that tells something.
    fn other(&self) -> Option<SocketAddr> {
        let other = self.said(Test::Plain)?.ok()?.other?;
        let is_other = other.ip() != self.server.ip() && other.port() != self.server.port();
        (is_other && other.is_ipv4() == self.server.is_ipv4()).then_some(other)
    }

    fn mapping(&self) -> Option<Mapping> {
        let plain = self.mapped(Test::Plain)?;
        if plain.port() == self.port && self.own.contains(&plain.ip()) {
            return Some(Mapping::None);
        }
        let Some(other) = self.mapped(Test::OtherAddress) else {
            return self.mapping_by_second(plain);
        };
        if other == plain {
            return Some(Mapping::EndpointIndependent);
        }
        let both = self.mapped(Test::OtherAddressAndPort)?;
        Some(if both == other {
            Mapping::AddressDependent
        } else {
            Mapping::AddressAndPortDependent
        })
    }

    /// What two servers tell. With the same address, at another port, equality says nothing.
    fn mapping_by_second(&self, plain: SocketAddr) -> Option<Mapping> {
        let second = self.mapped(Test::SecondServer)?;
        let is_elsewhere = self.second.is_some_and(|s| s.ip() != self.server.ip());
        match second == plain {
            true if is_elsewhere => Some(Mapping::EndpointIndependent),
            true => None,
            false => Some(Mapping::Dependent),
        }
    }

    fn filtering(&self) -> Option<Filtering> {
        let other = self.other()?;
        let came_from = |test| Some(self.said(test)?.ok()?.from);
        let other_port = SocketAddr::new(self.server.ip(), other.port());
        // An answer from elsewhere: the server does not do what it was asked to.
        match (
            came_from(Test::FromOtherAddress),
            came_from(Test::FromOtherPort),
        ) {
            (Some(from), _) if from == other => Some(Filtering::EndpointIndependent),
            (None, Some(from)) if from == other_port && self.is_silent(Test::FromOtherAddress) => {
                Some(Filtering::AddressDependent)
            }
            // Silence tells something only of addresses that do answer.
            (None, None)
                if self.is_silent(Test::FromOtherAddress)
                    && self.is_silent(Test::FromOtherPort)
                    && self.mapped(Test::OtherAddressAndPort).is_some() =>
            {
                Some(Filtering::AddressAndPortDependent)
            }
            _ => None,
        }
    }

    fn is_silent(&self, test: Test) -> bool {
        self.said(test) == Some(Err(Silence::Nothing))
    }

    fn ask(&self, test: Test) -> Option<Ask<Test>> {
        let other = self.other();
        let with_port = |port: Option<u16>| Some(SocketAddr::new(other?.ip(), port?));
        let (lane, to, answer_from) = match test {
            Test::Plain => (Lane::First, Some(self.server), AnswerFrom::There),
            Test::SecondServer => (Lane::First, self.second, AnswerFrom::There),
            Test::OtherAddress => {
                let to = with_port(Some(self.server.port()));
                (Lane::First, to, AnswerFrom::There)
            }
            Test::OtherAddressAndPort => (Lane::First, other, AnswerFrom::There),
            Test::FromOtherAddress => {
                let to = other.map(|_| self.server);
                (Lane::Second, to, AnswerFrom::OtherAddressAndPort)
            }
            Test::FromOtherPort => {
                let to = other.map(|_| self.server);
                (Lane::Second, to, AnswerFrom::OtherPort)
            }
        };
        Some(Ask {
            key: test,
            lane,
            to: to?,
            answer_from,
            padding: 0,
        })
    }
}

impl Examination for Behaviour {
    type Key = Test;

    fn poll_ask(&mut self) -> Option<Ask<Test>> {
        let open = TESTS.into_iter().filter(|test| !self.asked[*test as usize]);
        let ask = open.filter_map(|test| self.ask(test)).next()?;
        self.asked[ask.key as usize] = true;
        Some(ask)
    }

    fn handle_answer(&mut self, key: Test, answer: Answer) {
        self.said[key as usize] = Some(Ok(answer));
    }

    fn handle_silence(&mut self, key: Test, silence: Silence) {
        self.said[key as usize] = Some(Err(silence));
    }
}
