//! What to change for a better path, from what was found.

use waymesh_net::probe::behaviour::Mapping;
use waymesh_net::probe::verdict::Facts;

use super::checks::{Findings, State};
use super::subject::Subject;

/// What would help, the most helpful first.
pub(super) fn advice(subject: &Subject, found: &Findings, facts: &Facts) -> Vec<String> {
    let mut advice = Vec::new();
    let server = found.nat.found.as_ref().map(|nat| nat.server.ip());
    if server.is_some_and(|ip| ip.is_loopback() || found.local_addresses.contains(&ip)) {
        advice.push(
            "a STUN server on this machine says nothing of the network around it: what UDP, NAT and \
             MTU show here holds between agents of this machine"
                .to_owned(),
        );
    }
    if let Some(registry) = &subject.registry {
        let (host, port) = (&registry.host, registry.port);
        if found.dns.state == State::Failed {
            advice.push(format!(
                "check the name {host} in --registry, and this host's DNS"
            ));
        } else if found.tcp.state == State::Failed && found.proxy.state != State::Passed {
            advice.push(format!(
                "check that `waymesh registry` runs at {host}, and let TCP out to its port {port}, \
                 or name a proxy in HTTPS_PROXY"
            ));
        }
        if found.proxy.state == State::Failed {
            advice.push(format!(
                "check the proxy in HTTPS_PROXY, or name {host} in NO_PROXY"
            ));
        }
        if let Some(tls) = &found.tls.found {
            if tls.intercepted {
                let by = tls.issuer.as_deref().unwrap_or("somebody unnamed");
                advice.push(format!(
                    "TLS is opened on the way by {by}: if that is to be trusted, give its authority's \
                     certificate with --ca FILE, here and to waymesh node"
                ));
            } else if found.tls.state == State::Unknown {
                advice.push(
                    "whose TLS key it is cannot be told without its pin: use the --data-dir of a \
                     member, or give the authority with --ca FILE"
                        .to_owned(),
                );
            }
        }
        if found.websocket.state == State::Failed && found.long_poll.is_passed() {
            advice.push(
                "something on the way stops WebSockets: long-poll is used, at one more round trip; \
                 let the proxy pass `Upgrade: websocket`"
                    .to_owned(),
            );
        }
    }
    udp(subject, found, facts, &mut advice);
    advice
}

fn udp(subject: &Subject, found: &Findings, facts: &Facts, advice: &mut Vec<String>) {
    let servers: Vec<_> = subject
        .stun
        .iter()
        .map(|server| format!("{}:{}", server.url.host(), server.url.port()))
        .collect();
    if facts.registry == Some(false) {
        return;
    }
    if found.udp.state == State::Failed {
        advice.push(format!(
            "let UDP out to {}, and to peers: without it links are relayed by TCP or not made",
            servers.join(", ")
        ));
    }
    if facts.udp == Some(true) && (facts.mapping.is_none() || facts.filtering.is_none()) {
        advice.push(
            "to know what the NAT does, start the registry with --turn-other and a second address, \
             or name a second STUN server with --stun-url"
                .to_owned(),
        );
    }
    let is_symmetric = facts
        .mapping
        .is_some_and(|mapping| !matches!(mapping, Mapping::None | Mapping::EndpointIndependent));
    if is_symmetric {
        advice.push(
            "a NAT with one mapping for everybody (RFC 4787), or IPv6 here and at the peer, gives direct \
             links"
                .to_owned(),
        );
    }
    if facts.relay == Some(false) {
        advice.push(
            "no TURN server is reached: let TCP out to the registry's port, or name a TURN server with \
             --turn-url"
                .to_owned(),
        );
    }
    if found.mtu.state == State::Failed {
        advice.push(
            "large datagrams are lost on the way: links need packets of 1,248 bytes; raise the MTU of \
             the tunnel"
                .to_owned(),
        );
    }
}
