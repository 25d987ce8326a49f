//! A firewall: what it lets out. What comes back is the NAT's business.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Dropped;
use super::hello::{Glance, Verdict};
use super::packet::{End, Flow, Packet, Protocol, RST, SYN};

/// The port of HTTPS.
pub(crate) const HTTPS: u16 = 443;

/// What may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Everything but UDP.
    NoUdp,
    /// TCP to port 443, whatever runs in it.
    TcpHttps,
    /// TLS to this address and port that does not offer TURN (ALPN `stun.turn`, RFC 7443).
    HttpsTo(SocketAddr),
}

/// A flow that is looked into.
#[derive(Debug)]
struct Watched {
    /// The sequence number of the first byte that was not looked at.
    next: u32,
    glance: Glance,
}

/// A firewall and what it knows of flows.
#[derive(Debug)]
pub(crate) struct Firewall {
    rule: Rule,
    watched: HashMap<(SocketAddr, SocketAddr), Watched>,
}

/// What a firewall does with a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Pass,
    Refuse(Dropped),
    /// The flow is cut: both ends get a reset.
    Reset {
        inside: Packet,
        outside: Packet,
    },
}

impl Firewall {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            watched: HashMap::new(),
        }
    }

    /// Judges a packet that wants out.
    pub(crate) fn handle_outbound(&mut self, packet: &Packet) -> Ruling {
        let flow = packet.flow();
        let passes = match (self.rule, flow) {
            (Rule::NoUdp, flow) => flow.is_none_or(|flow| flow.protocol != Protocol::Udp),
            (Rule::TcpHttps, Some(flow)) => {
                flow.protocol == Protocol::Tcp && flow.target.port() == HTTPS
            }
            (Rule::HttpsTo(only), Some(flow))
                if flow.protocol == Protocol::Tcp && flow.target == only =>
            {
                return self.inspect(packet, flow);
            }
            _ => false,
        };
        if passes {
            Ruling::Pass
        } else {
            Ruling::Refuse(Dropped::Forbidden)
        }
    }

    /// Looks at what a client says first.
    fn inspect(&mut self, packet: &Packet, flow: Flow) -> Ruling {
        let Some(segment) = packet.segment() else {
            return Ruling::Refuse(Dropped::Forbidden);
        };
        let key = (flow.source, flow.target);
        if segment.flags & SYN != 0 {
            let watched = Watched {
                next: segment.sequence.wrapping_add(1),
                glance: Glance::default(),
            };
            self.watched.insert(key, watched);
            return Ruling::Pass;
        }
        let Some(watched) = self.watched.get_mut(&key) else {
            // A flow whose beginning nobody saw.
            return Ruling::Refuse(Dropped::Forbidden);
        };
        let ahead = segment.sequence.wrapping_sub(watched.next);
        let is_new = ahead == 0 && !segment.payload.is_empty();
        if ahead != 0 && ahead < 1 << 31 && !watched.glance.is_over() {
            // It is not known yet what comes before it; the client sends it again.
            return Ruling::Refuse(Dropped::Forbidden);
        }
        if is_new && !watched.glance.is_over() {
            watched.next = watched.next.wrapping_add(segment.payload.len() as u32);
            watched.glance.look(segment.payload);
        }
        if watched.glance.verdict() != Some(Verdict::Refused) {
            return Ruling::Pass;
        }
        match (packet.reset(End::Source), packet.reset(End::Target)) {
            (Some(inside), Some(outside)) if segment.flags & RST == 0 => {
                Ruling::Reset { inside, outside }
            }
            _ => Ruling::Refuse(Dropped::Forbidden),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hello::tests::client_hello;
    use super::*;

    const ACK: u8 = 0x10;

    fn ends() -> [SocketAddr; 3] {
        ["192.168.1.2:5000", "203.0.113.1:443", "203.0.113.2:443"]
            .map(|text| text.parse().expect("an address"))
    }

    fn passes(firewall: &mut Firewall, packet: &Packet) -> bool {
        firewall.handle_outbound(packet) == Ruling::Pass
    }

    #[test]
    fn a_firewall_without_udp_lets_the_rest_out() {
        let [inside, server, _] = ends();
        let mut firewall = Firewall::new(Rule::NoUdp);
        assert!(!passes(
            &mut firewall,
            &Packet::datagram(inside, server, b"")
        ));
        assert!(passes(
            &mut firewall,
            &Packet::tcp(inside, server, (0, SYN), b"")
        ));
        assert!(passes(
            &mut firewall,
            &Packet::echo(inside.ip(), server.ip(), 1)
        ));
    }

    #[test]
    fn only_https_means_the_port_and_tcp() {
        let [inside, server, _] = ends();
        let mut firewall = Firewall::new(Rule::TcpHttps);
        let plain = SocketAddr::new(server.ip(), 80);
        assert!(passes(
            &mut firewall,
            &Packet::tcp(inside, server, (0, SYN), b"")
        ));
        assert!(!passes(
            &mut firewall,
            &Packet::tcp(inside, plain, (0, SYN), b"")
        ));
        assert!(!passes(
            &mut firewall,
            &Packet::datagram(inside, server, b"")
        ));
        assert!(!passes(
            &mut firewall,
            &Packet::echo(inside.ip(), server.ip(), 1)
        ));
    }

    /// Opens a flow and says something in segments of so many bytes.
    fn say(target: SocketAddr, text: &[u8], size: usize) -> Vec<Ruling> {
        let [inside, only, _] = ends();
        let mut firewall = Firewall::new(Rule::HttpsTo(only));
        let mut rulings =
            vec![firewall.handle_outbound(&Packet::tcp(inside, target, (99, SYN), b""))];
        let mut sequence = 100;
        for part in text.chunks(size) {
            let packet = Packet::tcp(inside, target, (sequence, ACK), part);
            rulings.push(firewall.handle_outbound(&packet));
            sequence += part.len() as u32;
        }
        rulings
    }

    #[test]
    fn only_the_registry_means_its_address_and_https_that_is_not_turn() {
        let [_, only, other] = ends();
        let https = client_hello(&["http/1.1"]);
        let turn = client_hello(&["http/1.1", "stun.turn"]);
        for size in [5, 100, 4096] {
            assert!(
                say(only, &https, size)
                    .iter()
                    .all(|ruling| *ruling == Ruling::Pass)
            );
            let cut = say(only, &turn, size);
            assert!(matches!(cut.last(), Some(Ruling::Reset { .. })), "{cut:?}");
        }
        assert_eq!(
            say(other, &https, 4096)[0],
            Ruling::Refuse(Dropped::Forbidden)
        );
        let stun = say(only, &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], 4096);
        assert!(matches!(stun.last(), Some(Ruling::Reset { .. })));
        let http = say(only, b"GET / HTTP/1.1\r\n", 4096);
        assert!(matches!(http.last(), Some(Ruling::Reset { .. })));
    }

    #[test]
    fn what_is_sent_again_or_ahead_deceives_nobody() {
        let [inside, only, _] = ends();
        let turn = client_hello(&["stun.turn"]);
        let mut firewall = Firewall::new(Rule::HttpsTo(only));
        let mut tell = |sequence, flags, text: &[u8]| {
            firewall.handle_outbound(&Packet::tcp(inside, only, (sequence, flags), text))
        };
        assert_eq!(tell(99, SYN, b""), Ruling::Pass);
        assert_eq!(
            tell(110, ACK, &turn[10..]),
            Ruling::Refuse(Dropped::Forbidden)
        );
        assert_eq!(tell(100, ACK, &turn[..10]), Ruling::Pass);
        assert_eq!(tell(100, ACK, &turn[..10]), Ruling::Pass);
        assert!(matches!(tell(110, ACK, &turn[10..]), Ruling::Reset { .. }));
        assert!(matches!(tell(200, ACK, b"more"), Ruling::Reset { .. }));
    }
}
