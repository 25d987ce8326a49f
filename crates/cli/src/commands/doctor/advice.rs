//! What to change for a better path, from what was found.

use waymesh_net::probe::behaviour::Mapping;
use waymesh_net::probe::verdict::Facts;

use super::checks::{Findings, Reach, State};
use super::subject::{Registry, Subject};
use super::told::Source;

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
    let is_reached = found.websocket.is_passed() || found.long_poll.is_passed();
    if let Some(fault) = &found.route.error
        && !is_reached
    {
        advice.extend(fault.hint.clone());
    }
    if let Some(registry) = &subject.registry {
        way_in(registry, found, &mut advice);
        servers(subject, found, &mut advice);
    }
    udp(found, facts, &mut advice);
    relays(found, facts, &mut advice);
    advice
}

fn way_in(registry: &Registry, found: &Findings, advice: &mut Vec<String>) {
    let (host, port) = (&registry.host, registry.port);
    if found.dns.state == State::Failed && found.proxy.state != State::Passed {
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
            "check the proxy in HTTPS_PROXY and that it connects to {host}:{port} (CONNECT), or \
             name {host} in NO_PROXY"
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
    } else if found.tls.state == State::Failed {
        advice.push(format!(
            "what answers at {host}:{port} speaks no TLS: check that the registry's URL says https \
             rightly"
        ));
    }
    if found.websocket.state == State::Failed && found.long_poll.is_passed() {
        advice.push(
            "something on the way stops WebSockets: long-poll is used, at one more round trip; \
             let the proxy pass `Upgrade: websocket`"
                .to_owned(),
        );
    }
}

/// What keeps the servers from being known, or being tried.
fn servers(subject: &Subject, found: &Findings, advice: &mut Vec<String>) {
    let is_untried = found.turn.iter().any(|turn| turn.reach == Reach::Answered);
    if let Some(fault) = &found.servers.error {
        advice.extend(fault.hint.clone());
    } else if subject.member.is_none() && is_untried {
        advice.push(
            "TURN was reached but not tried: for the whole answer run this with the --data-dir of \
             a member, whose node may run or not"
                .to_owned(),
        );
    }
    let is_told_none = matches!(
        &found.servers.found,
        Some(known) if known.source != Source::Nobody && known.urls == 0
    );
    if is_told_none {
        advice.push(
            "the registry names no STUN or TURN server: start it without --no-turn (on this machine \
             with --relay-allow), or name servers to it with --stun-url and --turn-url"
                .to_owned(),
        );
    }
}

fn udp(found: &Findings, facts: &Facts, advice: &mut Vec<String>) {
    if facts.registry == Some(false) {
        return;
    }
    if let Some(fault) = &found.udp.error {
        advice.extend(fault.hint.clone());
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
    if found.mtu.state == State::Failed {
        advice.push(
            "large datagrams are lost on the way: links need packets of 1,248 bytes; raise the MTU of \
             the tunnel"
                .to_owned(),
        );
    }
}

/// Each reason why a relay gives nothing, once.
fn relays(found: &Findings, facts: &Facts, advice: &mut Vec<String>) {
    if facts.registry == Some(false) || facts.relay == Some(true) {
        return;
    }
    let faults = found
        .turn
        .iter()
        .filter_map(|turn| turn.check.error.as_ref());
    for hint in faults.filter_map(|fault| fault.hint.as_ref()) {
        let hint = format!("for a relay: {hint}");
        if !advice.contains(&hint) {
            advice.push(hint);
        }
    }
}
