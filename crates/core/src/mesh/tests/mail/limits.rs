//! What the mailbox will not take, what expires in it, and how much a node takes out.

use super::*;

#[test]
fn nothing_waits_long_for_a_message_that_expired_while_the_receiver_was_away() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    lab.send(0, "b", Class::Control, 1);
    let first = lab.messages(1)[0].3;
    lab.set_online(1, false);
    let id = lab.id();
    let command = Command::Send {
        id,
        to: "b".parse().expect("a name"),
        class: Class::Control,
        priority: Priority::Normal,
        ttl: SECOND,
        storing: Storing::default(),
        payload: Payload::json("12"),
    };
    lab.command(0, command);
    lab.send(0, "b", Class::Control, 3);
    lab.consume(1, first);
    lab.pass(5 * SECOND);
    assert!(lab.mailbox.items.iter().all(|i| i.post.life_ms != 1_000));
    lab.revive(1);
    lab.set_online(1, true);
    lab.pass(SECOND);
    let lengths: Vec<usize> = lab.messages(1).iter().map(|m| m.0).collect();
    assert_eq!(lengths, [3]);
}

#[test]
fn posts_that_nobody_answered_go_again_under_the_same_id() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.mailbox.works = false;
    lab.claim(1);
    let id = lab.send(0, "b", Class::Control, 5);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    lab.hosts[0]
        .mesh
        .handle_registry(lab.now, RegistryEvent::Disconnected);
    lab.mailbox.works = true;
    lab.hosts[0]
        .mesh
        .handle_registry(lab.now, RegistryEvent::Connected);
    lab.run();
    assert_eq!(lab.states(0, id).last(), Some(&SendState::Stored));
    assert_eq!(lab.messages(1).len(), 1);
}

#[test]
fn a_full_mailbox_is_tried_again_and_the_reason_is_told() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.mailbox.refuses = Some(Code::MailboxFull);
    let id = lab.send(0, "b", Class::Control, 5);
    lab.pass(5 * SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    assert!(
        (3..50).contains(&lab.mailbox.posts),
        "{}",
        lab.mailbox.posts
    );
    lab.mailbox.refuses = None;
    lab.pass(20 * SECOND);
    assert_eq!(lab.states(0, id), [SendState::Queued, SendState::Stored]);
}

#[test]
fn what_nobody_collects_expires_on_the_registrys_word_and_is_unconfirmed_without() {
    for (told, expected) in [(true, SendState::Expired), (false, SendState::Unconfirmed)] {
        let mut lab = Lab::without_links(&["a", "b"]);
        lab.send(0, "b", Class::Events, 1);
        lab.set_online(1, false);
        let id = lab.send(0, "b", Class::Control, 5);
        lab.pass(60 * SECOND);
        if told {
            let item = lab.mailbox.items.last().expect("an item").post.item;
            let code = Code::Expired;
            let event = RegistryEvent::Returned { item, code };
            lab.hosts[0].mesh.handle_registry(lab.now, event);
        }
        lab.pass(10 * SECOND);
        assert_eq!(lab.states(0, id).last(), Some(&expected));
    }
}

#[test]
fn an_application_that_never_attaches_bounds_what_the_node_takes_from_the_mailbox() {
    let mut lab = Lab::without_links(&["a", "b"]);
    for _ in 0..8 {
        lab.send(0, "b", Class::Control, 400_000);
    }
    lab.pass(SECOND);
    let put_off = |lab: &Lab| {
        lab.mailbox
            .items
            .iter()
            .filter(|i| i.outcome == Some(Outcome::Later))
            .count()
    };
    assert!(put_off(&lab) >= 5, "{}", put_off(&lab));
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let call = lab.called(1).expect("a call is not held up");
    lab.reply(1, call);
    assert!(lab.answer(0, id).is_some());
    lab.claim(1);
    let mut seen = 0;
    for _ in 0..20 {
        for message in lab.messages(1) {
            seen += 1;
            lab.consume(1, message.3);
        }
        lab.pass(SECOND / 100);
    }
    assert_eq!((seen, put_off(&lab)), (8, 0));
}

#[test]
fn what_others_wait_for_is_let_in_although_they_fill_the_window() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    for bytes in [100_000, 400_000, 400_000, 200_000, 400_000] {
        lab.send(0, "b", Class::Control, bytes);
    }
    // The first comes last, as when it was put off and the others were not.
    let items = lab.mailbox.items.clone();
    let mut late = Lab::without_links(&["a", "b"]);
    late.claim(1);
    let order = [1, 2, 3, 4, 0].map(|at| items[at].clone());
    for item in order {
        let from = &late.hosts[0].record;
        let opened = Opened {
            item: item.post.item,
            from: member(from),
            from_incarnation: item.life,
            to_incarnation: None,
            dwell: Duration::ZERO,
            again: false,
            frame: item.post.frame,
        };
        let now = late.now;
        late.hosts[1]
            .mesh
            .handle_registry(now, RegistryEvent::Item(opened));
    }
    late.run();
    let lengths: Vec<usize> = late.messages(1).iter().map(|m| m.0).collect();
    // As much as an owner has in hand at a time.
    assert_eq!(lengths, [100_000, 400_000, 400_000]);
}

#[test]
fn lossy_messages_are_forwarded_to_who_is_there_and_never_stored() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    lab.send(0, "b", Class::Telemetry, 3);
    assert_eq!(lab.messages(1).len(), 1);
    lab.set_online(1, false);
    lab.send(0, "b", Class::Telemetry, 3);
    assert!(
        lab.mailbox
            .items
            .iter()
            .all(|i| i.post.class != Class::Telemetry || i.pushed)
    );
    assert_eq!(lab.hosts[0].mesh.counters().lossy_dropped_out, 1);
}

#[test]
fn a_node_that_makes_no_links_is_reached_by_mailbox_and_says_why() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.hosts[1].mesh.config.topology = Topology::MailboxOnly;
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let call = lab.called(1).expect("the call arrives");
    lab.pass(SECOND);
    lab.reply(1, call);
    lab.pass(SECOND);
    assert!(lab.answer(0, id).is_some_and(|outcome| outcome.is_ok()));
    let status = lab.hosts[0].mesh.peers.values().next().map(|p| p.status());
    let reason = status.expect("a peer").reason;
    assert!(reason.contains("mailbox_only"), "{reason}");
}
