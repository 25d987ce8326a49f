//! Calls: answered once, and what becomes of them when a peer restarts.

use super::*;

#[test]
fn a_call_is_answered_over_a_link_that_is_made_for_it() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let call = lab.called(1).expect("the call arrives");
    assert_eq!(lab.answer(0, id), None);
    lab.reply(1, call);
    assert_eq!(lab.answer(0, id), Some(Ok(Payload::json("43"))));
}

#[test]
fn a_skill_that_nobody_offers_is_told_at_once() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "subtract", false);
    let fault = lab
        .answer(0, id)
        .expect("an answer")
        .expect_err("no such skill");
    assert_eq!(fault.code, Code::UnknownSkill);
    assert_eq!(fault.executed, Some(Executed::No));
}

#[test]
fn a_call_fails_as_lost_when_the_peer_restarts_and_an_idempotent_one_is_repeated() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let once = lab.call(0, "b", "add", false);
    let again = lab.call(0, "b", "add", true);
    assert!(lab.called(1).is_some() && lab.called(1).is_some());
    lab.restart(1);
    lab.offer_skill(1, "add");
    lab.pass(2 * SECOND);
    let fault = lab.answer(0, once).expect("an answer").expect_err("lost");
    assert_eq!(
        (fault.code, fault.executed),
        (Code::PeerLost, Some(Executed::Unknown))
    );
    let call = lab.called(1).expect("the idempotent call comes again");
    lab.reply(1, call);
    assert_eq!(lab.answer(0, again), Some(Ok(Payload::json("43"))));
}

#[test]
fn a_skill_and_the_inbox_have_one_owner() {
    let mut lab = Lab::new(&["a"]);
    let other = ClientId(2);
    lab.hosts[0].mesh.add_client(lab.now, other);
    lab.offer_skill(0, "add");
    let claim = lab.id();
    lab.command(0, Command::ClaimInbox { id: claim });
    let spec = SkillSpec {
        name: "add".parse().expect("a name"),
        description: None,
        schema: None,
        idempotent: false,
    };
    let now = lab.now;
    for command in [
        Command::OfferSkill { id: claim, spec },
        Command::ClaimInbox { id: claim },
    ] {
        lab.hosts[0].mesh.handle_command(now, other, command);
        let (to, event) = lab.hosts[0].mesh.poll_event().expect("an answer");
        let Event::Done { outcome, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(
            (to, outcome.expect_err("owned").code),
            (other, Code::AlreadyOwned)
        );
    }
}

#[test]
fn a_call_that_was_withdrawn_does_not_come_again_when_the_peer_restarts() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let first = lab.call(0, "b", "add", false);
    assert!(lab.called(1).is_some());
    // What is sent now is lost, and so is its withdrawal.
    for host in &mut lab.hosts {
        host.links.clear();
    }
    let id = lab.call(0, "b", "add", false);
    for id in [first, id] {
        lab.command(0, Command::Cancel { id });
        assert!(matches!(lab.answer(0, id), Some(Err(_))));
    }
    lab.restart(1);
    lab.offer_skill(1, "add");
    lab.pass(5 * SECOND);
    assert_eq!(lab.called(1), None);
}

#[test]
fn a_call_that_arrives_after_its_deadline_enters_no_handler() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    lab.call(0, "b", "add", false);
    assert!(lab.called(1).is_some());
    let now = lab.now;
    let key = *lab.hosts[1].mesh.by_name.values().next().expect("a peer");
    let mut envelope = Envelope::new(Kind::CapabilityCall, lab.id(), Payload::json("42"));
    envelope.skill = Some("add".parse().expect("a name"));
    let late = Arrived {
        peer: key,
        incarnation: Incarnation::new(1),
        stream: Stream::Tasks,
        seq: 2,
        envelope,
        expires: now,
        redelivered: false,
        path: waymesh_proto::link::Path::Direct,
    };
    lab.hosts[1].mesh.dispatch(now, late);
    lab.run();
    assert_eq!(lab.called(1), None);
    assert_eq!(lab.hosts[1].mesh.counters().expired_in, 1);
}

#[test]
fn a_repeated_call_that_fails_may_have_run_before_the_peer_restarted() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", true);
    assert!(lab.called(1).is_some());
    lab.restart(1);
    lab.pass(5 * SECOND);
    // The new life does not offer the skill.
    let fault = lab.answer(0, id).expect("an answer").expect_err("no skill");
    assert_eq!(fault.code, Code::UnknownSkill);
    assert_eq!(fault.executed, Some(Executed::Unknown));
}

#[test]
fn a_call_that_a_handler_had_when_its_peer_restarted_fails_before_its_deadline() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    // The call is taken and acknowledged: nothing waits to be sent any more.
    lab.pass(SECOND);
    lab.restart(1);
    lab.pass(5 * SECOND);
    let fault = lab.answer(0, id).expect("an answer").expect_err("lost");
    assert_eq!(fault.code, Code::PeerLost);
}
