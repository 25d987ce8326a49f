//! Binding: what address a client comes from (RFC 8489 §3), and with a second
//! address of the server how its NAT behaves (RFC 5780).

use std::net::SocketAddr;

use super::answers::unknown_attributes;
use super::{Ends, Now, Server, Via};
use crate::turn::message::{Message, Writer, code, kind};

/// Two addresses of the server that differ in IP address and port; it must be
/// listening, by UDP, on both ports of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternate {
    primary: SocketAddr,
    other: SocketAddr,
}

/// What a request may carry: credentials are not looked at.
const KNOWN: &[u16] = &[
    kind::USERNAME,
    kind::REALM,
    kind::NONCE,
    kind::USERHASH,
    kind::PASSWORD_ALGORITHM,
    kind::MESSAGE_INTEGRITY,
    kind::MESSAGE_INTEGRITY_SHA256,
    kind::PADDING,
];

/// "Change IP" and "change port" in CHANGE-REQUEST (RFC 5780 §7.2).
const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;

impl Alternate {
    /// The two; `None` unless they are of one family and differ in both.
    pub fn new(primary: SocketAddr, other: SocketAddr) -> Option<Self> {
        let fit = primary.is_ipv4() == other.is_ipv4()
            && primary.ip() != other.ip()
            && primary.port() != other.port()
            && !primary.ip().is_unspecified()
            && !other.ip().is_unspecified();
        fit.then_some(Self { primary, other })
    }

    /// The address that differs from this one, which is one of the four, in what is asked.
    fn changed(self, from: SocketAddr, change: u32) -> Option<SocketAddr> {
        let turn = |is_other, wanted| {
            if is_other == wanted {
                self.primary
            } else {
                self.other
            }
        };
        let other_ip = from.ip() == self.other.ip();
        let other_port = from.port() == self.other.port();
        let known = (other_ip || from.ip() == self.primary.ip())
            && (other_port || from.port() == self.primary.port());
        let ip = turn(other_ip, change & CHANGE_IP != 0).ip();
        let port = turn(other_port, change & CHANGE_PORT != 0).port();
        known.then_some(SocketAddr::new(ip, port))
    }
}

impl Server {
    pub(super) fn handle_binding(&mut self, now: Now, ends: &Ends, request: &Message<'_>) {
        let alternate = self.alternate.filter(|_| ends.via == Via::Udp);
        let other = alternate.and_then(|a| a.changed(ends.local, CHANGE_IP | CHANGE_PORT));
        let change = request
            .number(kind::CHANGE_REQUEST)
            .filter(|_| other.is_some());
        if !self.by_client.contains_key(ends) && !self.admit(now, ends, request) {
            self.counters.dropped_strangers += 1;
            return;
        }
        let known = match change {
            Some(_) => [KNOWN, &[kind::CHANGE_REQUEST]].concat(),
            None => KNOWN.to_vec(),
        };
        if let Some(unknown) = unknown_attributes(request, &known) {
            let mut writer = Writer::error(request, code::UNKNOWN_ATTRIBUTE);
            writer.put(kind::UNKNOWN_ATTRIBUTES, &unknown);
            return self.answer(*ends, writer.finish());
        }
        self.counters.bindings += 1;
        let mut from = *ends;
        let mut writer = Writer::success(request);
        writer.put_xor_address(kind::XOR_MAPPED_ADDRESS, ends.remote);
        if let (Some(alternate), Some(other)) = (alternate, other) {
            from.local = alternate
                .changed(ends.local, change.unwrap_or(0))
                .unwrap_or(ends.local);
            writer
                .put_address(kind::RESPONSE_ORIGIN, from.local)
                .put_address(kind::OTHER_ADDRESS, other);
        }
        self.answer(from, writer.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_four_addresses_knows_the_others() {
        let at = |text: &str| text.parse::<SocketAddr>().expect(text);
        let (primary, other) = (at("192.0.2.1:3478"), at("192.0.2.2:3479"));
        let alternate = Alternate::new(primary, other).expect("they differ");
        for (from, change, to) in [
            (primary, 0, "192.0.2.1:3478"),
            (primary, CHANGE_PORT, "192.0.2.1:3479"),
            (primary, CHANGE_IP, "192.0.2.2:3478"),
            (primary, CHANGE_IP | CHANGE_PORT, "192.0.2.2:3479"),
            (other, CHANGE_IP | CHANGE_PORT, "192.0.2.1:3478"),
            (
                at("192.0.2.2:3478"),
                CHANGE_IP | CHANGE_PORT,
                "192.0.2.1:3479",
            ),
        ] {
            assert_eq!(
                alternate.changed(from, change),
                Some(at(to)),
                "{from} {change}"
            );
        }
        assert_eq!(alternate.changed(at("192.0.2.3:3478"), 0), None);
        assert_eq!(Alternate::new(primary, at("192.0.2.2:3478")), None);
        assert_eq!(Alternate::new(primary, at("192.0.2.1:3479")), None);
        assert_eq!(Alternate::new(primary, at("[::1]:3479")), None);
    }
}
