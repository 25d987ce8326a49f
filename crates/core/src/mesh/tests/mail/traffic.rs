//! What goes by mailbox, and how traffic moves to a link and back.

use super::*;

#[test]
fn a_first_call_is_answered_by_mailbox_when_no_link_can_be_made() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let call = lab.called(1).expect("the call arrives");
    lab.reply(1, call);
    lab.pass(SECOND / 10);
    let answer = lab.hosts[0].events.iter().find_map(|event| match event {
        Event::Answer {
            id: of,
            outcome,
            path,
            request_path,
            ..
        } if *of == id => Some((outcome.is_ok(), *path, *request_path)),
        _ => None,
    });
    let mailbox = Some(Path::Mailbox);
    assert_eq!(answer, Some((true, mailbox, mailbox)));
}

#[test]
fn an_answer_that_outruns_the_callers_offer_does_not_hold_the_link_up() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.id();
    let call = Command::Call {
        id,
        to: "b".parse().expect("a name"),
        skill: "add".parse().expect("a name"),
        priority: Priority::Normal,
        timeout: 30 * SECOND,
        idempotent: false,
        payload: Payload::json("42"),
    };
    lab.hosts[0].mesh.handle_command(lab.now, CLIENT, call);
    lab.run();
    let call = lab.called(1).expect("the call arrives");
    let outcome = Ok(Payload::json("43"));
    let reply = Command::Reply { call, outcome };
    lab.hosts[1].mesh.handle_command(lab.now, CLIENT, reply);
    let connect = Command::Connect {
        id: lab.id(),
        to: "b".parse().expect("a name"),
        timeout: SECOND,
    };
    lab.hosts[0].mesh.handle_command(lab.now, CLIENT, connect);
    lab.run();
    assert!(lab.answer(0, id).is_some(), "the letters are faster");
    lab.pass(2 * links::LETTER_FIRST);
    assert!(lab.hosts[0].mesh.peers.values().all(|p| p.link.is_some()));
}

#[test]
fn a_message_is_stored_then_delivered_and_its_item_is_taken() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    let id = lab.send(0, "b", Class::Control, 5);
    assert_eq!(lab.states(0, id), [SendState::Queued, SendState::Stored]);
    let messages = lab.messages(1);
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].0, messages[0].1), (5, Path::Mailbox));
    lab.consume(1, messages[0].3);
    lab.pass(SECOND / 10);
    assert_eq!(lab.states(0, id).last(), Some(&SendState::Delivered));
    assert!(lab.mailbox.items.is_empty(), "{:?}", lab.mailbox.items);
    assert!(!lab.mailbox.marks.is_empty());
}

#[test]
fn what_was_stored_for_an_absent_peer_comes_in_order_when_it_is_back() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.send(0, "b", Class::Control, 1);
    lab.set_online(1, false);
    for bytes in 2..=20 {
        lab.send(0, "b", Class::Control, bytes);
    }
    lab.pass(10 * SECOND);
    lab.claim(1);
    lab.set_online(1, true);
    let lengths: Vec<usize> = lab.messages(1).iter().map(|m| m.0).collect();
    assert_eq!(lengths, (1..=20).collect::<Vec<_>>());
}

#[test]
fn traffic_moves_to_the_link_without_gap_or_duplicate_and_back_when_it_dies() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    lab.send(0, "b", Class::Control, 1);
    lab.links_work = true;
    lab.pass(40 * SECOND);
    assert!(lab.hosts[0].mesh.peers.values().all(|p| p.link.is_some()));
    lab.send(0, "b", Class::Control, 2);
    let (link, _) = lab.hosts[0].links.pop_first().expect("a link");
    lab.hosts[1].links.clear();
    lab.links_work = false;
    lab.send(0, "b", Class::Control, 3);
    let down = LinkEvent::Down {
        link,
        reason: waymesh_proto::link::DownReason::ClosedByPeer,
    };
    lab.hosts[0].mesh.handle_link(lab.now, down);
    lab.run();
    lab.send(0, "b", Class::Control, 4);
    lab.pass(SECOND);
    let messages = lab.messages(1);
    let lengths: Vec<usize> = messages.iter().map(|m| m.0).collect();
    assert_eq!(lengths, [1, 2, 3, 4]);
    let paths: Vec<Path> = messages.iter().map(|m| m.1).collect();
    assert_eq!(
        paths,
        [Path::Mailbox, Path::Direct, Path::Mailbox, Path::Mailbox]
    );
}

#[test]
fn a_message_that_nobody_takes_over_a_link_is_stored_when_its_sender_asks_for_that() {
    for (storing, expected) in [
        (Storing::UnlessTaken, SendState::Stored),
        (Storing::WithoutLink, SendState::Queued),
    ] {
        let mut lab = Lab::with_mailbox(&["a", "b"]);
        lab.send(0, "b", Class::Events, 1);
        lab.pass(SECOND);
        assert_eq!(lab.hosts[0].links.len(), 1);
        let id = lab.id();
        let command = Command::Send {
            id,
            to: "b".parse().expect("a name"),
            class: Class::Control,
            priority: Priority::Normal,
            ttl: 60 * SECOND,
            storing,
            payload: Payload::json("1"),
        };
        lab.command(0, command);
        lab.pass(SECOND / 4);
        assert_eq!(lab.states(0, id).last(), Some(&SendState::Queued));
        lab.pass(SECOND);
        assert_eq!(lab.states(0, id).last(), Some(&expected));
        lab.claim(1);
        let messages = lab.messages(1);
        let last = messages.last().expect("the message");
        lab.consume(1, last.3);
        lab.pass(SECOND);
        assert_eq!(lab.states(0, id).last(), Some(&SendState::Delivered));
        let stored = |i: &&Item| i.post.class == Class::Control && i.post.keep == Keep::Store;
        assert_eq!(lab.mailbox.items.iter().filter(stored).count(), 0);
    }
}
