//! What peers, callers and clients cannot make a node keep or stop.

use super::*;
use crate::mesh::arrivals::WORKS_MAX;
use waymesh_proto::limits::MESSAGE_MAX_BYTES;

#[test]
fn lossy_messages_that_nobody_reads_make_room_and_end_no_link() {
    let mut lab = Lab::new(&["a", "b"]);
    // The first goes by mailbox, while the link is made.
    lab.mailbox.works = true;
    for _ in 0..3_000 {
        lab.send(0, "b", Class::Telemetry, 100);
    }
    lab.pass(SECOND);
    assert_eq!(lab.hosts[1].links.len(), 1);
    let counters = lab.hosts[1].mesh.counters();
    assert_eq!(
        (counters.abuses, counters.lossy_dropped_in),
        (0, 3_000 - 256)
    );
    let (_, waiting) = lab.hosts[1].mesh.backlog();
    assert!(
        waiting < 256 * 300,
        "{waiting} bytes are still accounted for"
    );
}

#[test]
fn a_caller_that_takes_no_answers_gets_no_more_work_done() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    for _ in 0..WORKS_MAX + 40 {
        lab.call(0, "b", "add", false);
        lab.pass(Duration::from_millis(10));
    }
    // From now on the caller acknowledges nothing.
    lab.hosts[0].links.clear();
    let mut entered = 0;
    while let Some(call) = lab.called(1) {
        entered += 1;
        let outcome = Ok(Payload::json(vec![b'1'; MESSAGE_MAX_BYTES]));
        if entered <= 10 {
            lab.command(1, Command::Reply { call, outcome });
        }
    }
    assert!(entered < WORKS_MAX + 10, "{entered} calls were entered");
    let (waiting, _) = lab.hosts[1].mesh.backlog();
    assert!(waiting < 12 * MESSAGE_MAX_BYTES, "{waiting} bytes wait");
}

#[test]
fn a_call_that_waited_is_entered_when_hands_come_free_by_their_deadlines() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    for _ in 0..WORKS_MAX {
        lab.call(0, "b", "add", false);
        lab.pass(Duration::from_millis(10));
    }
    while lab.called(1).is_some() {}
    lab.pass(10 * SECOND);
    let last = lab.call(0, "b", "add", false);
    assert_eq!(lab.called(1), None);
    lab.pass(25 * SECOND);
    let call = lab.called(1).expect("a hand is free");
    lab.reply(1, call);
    assert_eq!(lab.answer(0, last), Some(Ok(Payload::json("43"))));
}

#[test]
fn a_lossy_message_that_fits_no_packet_is_refused_at_once_and_holds_up_nobody() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.id();
    let command = Command::Send {
        id,
        to: "b".parse().expect("a name"),
        class: Class::Telemetry,
        priority: Priority::Normal,
        ttl: SECOND,
        storing: Storing::default(),
        payload: Payload::bytes(&"x".repeat(255), vec![0; LOSSY_MESSAGE_MAX_BYTES]),
    };
    lab.command(0, command);
    assert_eq!(lab.states(0, id), [SendState::Refused]);
    let call = lab.call(0, "b", "add", false);
    let work = lab.called(1).expect("the call");
    lab.reply(1, work);
    assert!(lab.answer(0, call).is_some());
}

#[test]
fn messages_of_a_peers_earlier_lives_take_no_more_room_with_each_life() {
    let mut lab = Lab::new(&["a", "b"]);
    for _ in 0..6 {
        for _ in 0..40 {
            lab.send(1, "a", Class::Control, 20_000);
        }
        lab.pass(SECOND);
        lab.restart(1);
        lab.send(1, "a", Class::Control, 1);
        lab.pass(5 * SECOND);
    }
    assert!(lab.hosts[0].mesh.counters().orphans_dropped > 0);
    let claim = lab.id();
    lab.command(0, Command::ClaimInbox { id: claim });
    let bytes: usize = lab.hosts[0]
        .events
        .iter()
        .map(|event| match event {
            Event::Message { payload, .. } => payload.bytes.len(),
            _ => 0,
        })
        .sum();
    assert!(
        bytes <= 2 * WINDOW_MAX_BYTES as usize,
        "{bytes} bytes were kept"
    );
}

#[test]
fn a_stranger_is_met_only_through_an_offer() {
    let mut lab = Lab::new(&["a"]);
    let stranger = record("stranger", 1);
    let body = SignalBody {
        mesh: MeshId::from_bytes([0; 16]),
        from: stranger.agent_id,
        from_incarnation: stranger.incarnation,
        to: lab.hosts[0].record.agent_id,
        to_incarnation: lab.hosts[0].record.incarnation,
        session: SessionId::from_bytes([1; 16]),
        seq: 0,
        issued_ms: 0,
        signal: Signal::Candidate {
            candidate: "candidate".into(),
        },
    };
    let event = RegistryEvent::Signal {
        from: member(&stranger),
        body,
    };
    let now = lab.now;
    lab.hosts[0].mesh.handle_registry(now, event);
    assert_eq!(lab.hosts[0].mesh.counters().stale_signals, 1);
    assert!(lab.hosts[0].mesh.peers.is_empty());
}

#[test]
fn skills_fit_together_up_to_their_limit_and_one_more_is_refused() {
    use waymesh_proto::limits::{SKILL_MAX_BYTES, SKILLS_MAX_BYTES};
    let mut lab = Lab::new(&["a"]);
    let mut offer = |name: &str, description: usize| {
        let id = lab.id();
        let spec = SkillSpec {
            name: name.parse().expect("a name"),
            description: Some("x".repeat(description)),
            schema: None,
            idempotent: false,
        };
        lab.command(0, Command::OfferSkill { id, spec });
        match lab.hosts[0].events.pop_back() {
            Some(Event::Done { outcome, .. }) => outcome.map_err(|fault| fault.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(offer("large", SKILL_MAX_BYTES), Err(Code::TooLarge));
    for number in 0..SKILLS_MAX_BYTES / SKILL_MAX_BYTES {
        assert_eq!(
            offer(&format!("skill-{number}"), SKILL_MAX_BYTES - 100),
            Ok(())
        );
    }
    assert_eq!(offer("one-more", 2_000), Err(Code::TooLarge));
}
