//! Peers that are denied or revoked, and memberships that end while something is under way.

use super::*;

/// A link that is being made while the membership of the first host ends.
fn ends_during_an_attempt(end: impl Fn(&mut Lab)) -> Lab {
    let mut lab = Lab::new(&["a", "b"]);
    lab.is_slow = true;
    lab.send(0, "b", Class::Control, 10);
    assert_eq!(lab.slow.len(), 1, "an attempt is under way");
    end(&mut lab);
    lab.come_up();
    lab
}

#[test]
fn no_link_comes_up_after_the_own_certificate_has_ended() {
    let lab = ends_during_an_attempt(|lab| {
        let expires = lab.now + SECOND;
        let membership = RegistryEvent::Membership { expires };
        lab.hosts[0].mesh.handle_registry(lab.now, membership);
        lab.pass(2 * SECOND);
    });
    assert!(lab.peer(0).link.is_none());
}

#[test]
fn no_link_comes_up_after_this_node_was_revoked() {
    let lab = ends_during_an_attempt(|lab| {
        let ids = vec![lab.hosts[0].record.agent_id];
        let revocations = Vec::new();
        let revoked = RegistryEvent::Revoked { ids, revocations };
        lab.hosts[0].mesh.handle_registry(lab.now, revoked);
        lab.run();
    });
    assert!(lab.peer(0).link.is_none());
}

#[test]
fn no_offer_is_answered_after_the_own_membership_has_ended() {
    let mut lab = Lab::new(&["a", "b"]);
    let expires = lab.now + SECOND;
    let membership = RegistryEvent::Membership { expires };
    lab.hosts[0].mesh.handle_registry(lab.now, membership);
    lab.pass(2 * SECOND);
    lab.send(1, "a", Class::Control, 10);
    assert_eq!(lab.hosts[0].mesh.counters().offers_unanswered, 1);
    assert!(lab.hosts[0].mesh.by_link.is_empty());
    // Whoever is a member again takes the next one.
    let expires = lab.now + 100 * SECOND;
    let membership = RegistryEvent::Membership { expires };
    lab.hosts[0].mesh.handle_registry(lab.now, membership);
    lab.pass(20 * SECOND);
    assert!(lab.peer(0).link.is_some());
}

#[test]
fn a_client_that_comes_late_is_told_of_the_end_as_well() {
    let mut lab = Lab::new(&["a"]);
    let late = ClientId(7);
    let told = |lab: &mut Lab| {
        let mut told = None;
        while let Some((client, event)) = lab.hosts[0].mesh.poll_event() {
            if let (true, Event::CertificateExpiring { remaining }) = (client == late, event) {
                told = Some(remaining);
            }
        }
        told
    };
    lab.hosts[0].mesh.add_client(lab.now, late);
    assert_eq!(told(&mut lab), None);
    lab.hosts[0].mesh.remove_client(lab.now, late);
    let expires = lab.now + EXPIRY_NOTICE;
    let membership = RegistryEvent::Membership { expires };
    lab.hosts[0].mesh.handle_registry(lab.now, membership);
    lab.now += SECOND;
    lab.hosts[0].mesh.add_client(lab.now, late);
    assert_eq!(told(&mut lab), Some(EXPIRY_NOTICE - SECOND));
    lab.hosts[0].mesh.remove_client(expires, late);
    lab.hosts[0].mesh.add_client(expires, late);
    assert_eq!(told(&mut lab), None, "it has ended");
}

#[test]
fn a_peer_that_the_policy_denies_gets_neither_link_nor_mailbox_nor_skill() {
    let deny = |rule: &str| Policy {
        allow: Vec::new(),
        deny: vec![rule.parse().expect("a rule")],
    };
    for links_work in [true, false] {
        let mut lab = Lab::with_mailbox(&["a", "b"]);
        lab.links_work = links_work;
        lab.hosts[1].mesh.config.policy = deny("a");
        lab.offer_skill(1, "add");
        let id = lab.call(0, "b", "add", false);
        assert_eq!(lab.called(1), None);
        lab.pass(SECOND);
        if links_work {
            let fault = lab.answer(0, id).expect("an answer").expect_err("denied");
            assert_eq!(
                (fault.code, fault.executed),
                (Code::Unauthorized, Some(Executed::No))
            );
        }
        assert!(lab.hosts[1].mesh.counters().mail_denied > 0);
    }
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.hosts[1].mesh.config.policy = deny("a/add");
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    lab.pass(SECOND);
    assert_eq!(lab.called(1), None);
    let fault = lab.answer(0, id).expect("an answer").expect_err("denied");
    assert_eq!(fault.code, Code::Unauthorized);
}

#[test]
fn a_revoked_peer_loses_its_link_at_once_and_others_hear_of_it() {
    let mut lab = Lab::with_mailbox(&["a", "b", "c"]);
    lab.offer_skill(1, "add");
    lab.offer_skill(2, "add");
    lab.call(0, "b", "add", false);
    lab.call(0, "c", "add", false);
    lab.pass(SECOND);
    let revoked = lab.hosts[1].record.agent_id;
    let revocations = vec!["revocation".parse().expect("a text")];
    let event = RegistryEvent::Revoked {
        ids: vec![revoked],
        revocations,
    };
    lab.hosts[0].mesh.handle_registry(lab.now, event);
    lab.run();
    let id = lab.call(0, "b", "add", false);
    let fault = lab.answer(0, id).expect("an answer").expect_err("revoked");
    assert_eq!(fault.code, Code::Revoked);
    assert!(lab.hosts[2].mesh.poll_heard_revocation().is_some());
    assert!(lab.hosts[2].mesh.poll_heard_revocation().is_none());
}

#[test]
fn the_name_of_a_revoked_peer_is_free_for_another_and_of_nobody_else() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.offer_skill(1, "add");
    lab.call(0, "b", "add", false);
    let mut other = record("b", 9);
    other.agent_id = AgentId::from_bytes([66; 32]);
    let (now, a) = (lab.now, &mut lab.hosts[0].mesh);
    a.handle_registry(now, told(other.clone()));
    let known = a.by_name[&other.name];
    assert_ne!(a.peers[&known].id, Some(other.agent_id));
    let ids = vec![lab.hosts[1].record.agent_id];
    let revocations = Vec::new();
    let event = RegistryEvent::Revoked { ids, revocations };
    let a = &mut lab.hosts[0].mesh;
    a.handle_registry(now, event);
    a.handle_registry(now, told(other.clone()));
    let known = a.by_name[&other.name];
    assert_eq!(a.peers[&known].id, Some(other.agent_id));
    assert_eq!(a.peers[&known].distrust, None);
    assert_eq!(a.pins[&other.name], other.agent_id);
}

#[test]
fn what_a_revoked_former_holder_of_a_name_has_sent_costs_its_new_owner_nothing() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.links_work = false;
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let distrusted = |id| RegistryEvent::Distrusted {
        name: "b".parse().expect("a name"),
        id: Some(id),
        fault: Fault::new(Code::Revoked, "revoked"),
    };
    let (now, b) = (lab.now, lab.hosts[1].record.agent_id);
    let a = &mut lab.hosts[0].mesh;
    a.handle_registry(now, distrusted(AgentId::from_bytes([66; 32])));
    lab.run();
    assert!(lab.answer(0, id).is_none());
    let a = &mut lab.hosts[0].mesh;
    assert_eq!(a.peers[&a.by_id[&b]].distrust, None);
    a.handle_registry(now, distrusted(b));
    lab.run();
    let a = &lab.hosts[0].mesh;
    assert!(a.peers[&a.by_id[&b]].distrust.is_some());
}

#[test]
fn links_end_with_the_certificate_and_the_end_is_announced() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.offer_skill(1, "add");
    lab.call(0, "b", "add", false);
    lab.pass(SECOND);
    let expires = lab.now + EXPIRY_NOTICE + 60 * SECOND;
    lab.hosts[0]
        .mesh
        .handle_registry(lab.now, RegistryEvent::Membership { expires });
    lab.run();
    let announced = |lab: &Lab| {
        lab.hosts[0]
            .events
            .iter()
            .any(|e| matches!(e, Event::CertificateExpiring { .. }))
    };
    assert!(!announced(&lab));
    lab.pass(61 * SECOND);
    assert!(announced(&lab));
    assert!(lab.hosts[0].mesh.peers.values().all(|p| p.link.is_some()));
    lab.now = expires;
    lab.hosts[0].mesh.handle_timeout(lab.now);
    lab.run();
    assert!(lab.hosts[0].mesh.peers.values().all(|p| p.link.is_none()));
}
