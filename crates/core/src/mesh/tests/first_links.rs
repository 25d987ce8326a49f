//! How a first link is made, and messages over it.

use super::*;

#[test]
fn an_unknown_peer_is_waited_for_and_then_named() {
    let mut lab = Lab::new(&["a"]);
    let id = lab.call(0, "nobody", "add", false);
    assert_eq!(lab.answer(0, id), None);
    lab.pass(31 * SECOND);
    let fault = lab.answer(0, id).expect("an answer").expect_err("nobody");
    assert_eq!(fault.code, Code::UnknownPeer);
}

#[test]
fn both_sides_offering_at_the_same_moment_end_with_one_link() {
    let mut lab = Lab::new(&["a", "b"]);
    for (at, to) in [(0, "b"), (1, "a")] {
        let id = lab.id();
        let to = to.parse().expect("a name");
        let now = lab.now;
        let command = Command::Connect {
            id,
            to,
            timeout: SECOND,
        };
        lab.hosts[at].mesh.handle_command(now, CLIENT, command);
        // Both learn of each other before either hears the other's offer.
        while let Some(command) = lab.hosts[at].mesh.poll_registry_command() {
            lab.registry(at, command);
        }
        while let Some(command) = lab.hosts[at].mesh.poll_link_command() {
            lab.link(at, command);
        }
    }
    lab.run();
    for host in &lab.hosts {
        assert_eq!(host.links.len(), 1);
        assert!(host.events.iter().any(|e| matches!(
            e,
            Event::Done {
                outcome: Ok(()),
                ..
            }
        )));
    }
}

#[test]
fn an_offer_that_comes_again_is_counted_and_leaves_nothing() {
    let mut lab = Lab::new(&["a", "b"]);
    let (a, b) = (lab.hosts[0].record.clone(), lab.hosts[1].record.clone());
    let body = SignalBody {
        mesh: MeshId::from_bytes([0; 16]),
        from: b.agent_id,
        from_incarnation: b.incarnation,
        to: a.agent_id,
        to_incarnation: a.incarnation,
        session: SessionId::from_bytes([7; 16]),
        seq: 0,
        issued_ms: 0,
        signal: Signal::Offer { sdp: "x".into() },
    };
    for _ in 0..3 {
        let event = RegistryEvent::Signal {
            from: member(&b),
            body: body.clone(),
        };
        let now = lab.now;
        lab.hosts[0].mesh.handle_registry(now, event);
    }
    assert_eq!(lab.hosts[0].mesh.counters().replayed_offers, 2);
    assert_eq!(lab.hosts[0].mesh.by_link.len(), 1);
}

#[test]
fn a_message_is_delivered_when_the_application_has_acknowledged_it() {
    let mut lab = Lab::new(&["a", "b"]);
    let id = lab.send(0, "b", Class::Control, 300_000);
    lab.pass(SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    let claim = lab.id();
    lab.command(1, Command::ClaimInbox { id: claim });
    let message = lab.hosts[1].events.iter().find_map(|event| match event {
        Event::Message {
            inbound, payload, ..
        } => Some(((*inbound)?, payload.bytes.len())),
        _ => None,
    });
    let (message, bytes) = message.expect("the message");
    assert_eq!(bytes, 300_000);
    lab.pass(SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    lab.command(1, Command::Consumed { message });
    lab.pass(SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued, SendState::Delivered]);
}

#[test]
fn nothing_is_lost_when_a_link_dies_with_messages_on_it() {
    let mut lab = Lab::new(&["a", "b"]);
    let claim = lab.id();
    lab.command(1, Command::ClaimInbox { id: claim });
    lab.send(0, "b", Class::Control, 10);
    for host in &mut lab.hosts {
        host.links.clear();
    }
    for _ in 0..20 {
        lab.send(0, "b", Class::Control, 30_000);
    }
    lab.pass(10 * SECOND);
    let arrived = lab.hosts[1]
        .events
        .iter()
        .filter(|e| matches!(e, Event::Message { .. }));
    assert_eq!(arrived.count(), 21);
    assert!(
        lab.hosts[0]
            .events
            .iter()
            .any(|e| matches!(e, Event::PathChanged { .. }))
    );
}

#[test]
fn a_message_that_the_peer_had_not_acknowledged_comes_again_marked_after_its_restart() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.send(0, "b", Class::Control, 10);
    lab.pass(SECOND);
    lab.restart(1);
    let claim = lab.id();
    lab.command(1, Command::ClaimInbox { id: claim });
    lab.pass(5 * SECOND);
    let marks: Vec<bool> = lab.hosts[1]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Message { redelivered, .. } => Some(*redelivered),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [true]);
}

#[test]
fn a_name_that_answers_with_another_key_is_refused() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.call(0, "b", "add", false);
    let mut other = record("b", 9);
    other.agent_id = AgentId::from_bytes([9; 32]);
    let now = lab.now;
    lab.restart(1);
    lab.hosts[0].mesh.handle_registry(now, told(other));
    lab.hosts[1].record.online = false;
    lab.pass(5 * SECOND);
    assert!(lab.hosts[0].mesh.counters().stale_signals > 0);
}

#[test]
fn a_full_mesh_becomes_whole_although_the_first_offer_is_lost() {
    let mut lab = Lab::new(&["a", "b"]);
    let now = lab.now;
    for at in 0..2 {
        let other = lab.hosts[1 - at].record.clone();
        let host = &mut lab.hosts[at];
        host.mesh.config.topology = Topology::FullMesh;
        host.mesh.handle_registry(now, told(other));
    }
    while let Some(command) = lab.hosts[1].mesh.poll_link_command() {
        lab.link(1, command);
    }
    while lab.hosts[1].mesh.poll_registry_command().is_some() {}
    // The other side's turn is lost as well.
    lab.now += SECOND;
    lab.hosts[0].mesh.handle_timeout(lab.now);
    while let Some(command) = lab.hosts[0].mesh.poll_link_command() {
        lab.link(0, command);
    }
    while lab.hosts[0].mesh.poll_registry_command().is_some() {}
    lab.pass(10 * SECOND);
    assert!(lab.hosts.iter().all(|host| host.links.len() == 1));
}
