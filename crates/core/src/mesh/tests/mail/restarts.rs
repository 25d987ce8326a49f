//! What comes again, and what does not, when a side has a new life.

use super::*;

#[test]
fn after_a_restart_only_what_was_not_acknowledged_comes_again_and_is_marked() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    for bytes in 1..=4 {
        lab.send(0, "b", Class::Control, bytes);
    }
    let messages = lab.messages(1);
    lab.consume(1, messages[0].3);
    lab.consume(1, messages[1].3);
    // The sender is gone: nobody tells the new life what is settled.
    lab.hosts[0].record.online = false;
    lab.revive(1);
    lab.push();
    lab.run();
    let messages = lab.messages(1);
    let seen: Vec<(usize, bool)> = messages.iter().map(|m| (m.0, m.2)).collect();
    assert_eq!(seen, [(3, true), (4, true)]);
}

#[test]
fn what_is_acknowledged_while_the_registry_is_away_does_not_come_again_after_a_restart() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(1);
    for bytes in 1..=3 {
        lab.send(0, "b", Class::Control, bytes);
    }
    let messages = lab.messages(1);
    lab.consume(1, messages[0].3);
    lab.hosts[1]
        .mesh
        .handle_registry(lab.now, RegistryEvent::Disconnected);
    lab.consume(1, messages[1].3);
    lab.hosts[0].record.online = false;
    lab.revive(1);
    lab.push();
    lab.run();
    let seen: Vec<usize> = lab.messages(1).iter().map(|m| m.0).collect();
    assert_eq!(seen, [3]);
}

#[test]
fn messages_of_a_sender_that_restarted_are_delivered_all_the_same() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.send(0, "b", Class::Control, 1);
    lab.set_online(1, false);
    lab.send(0, "b", Class::Control, 2);
    lab.restart(0);
    lab.send(0, "b", Class::Control, 3);
    lab.claim(1);
    lab.set_online(1, true);
    let lengths: Vec<usize> = lab.messages(1).iter().map(|m| m.0).collect();
    assert_eq!(lengths, [1, 2, 3]);
}

#[test]
fn a_call_that_waits_in_the_mailbox_is_run_by_the_life_that_comes() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    lab.pass(5 * SECOND);
    let id = lab.call(0, "b", "add", false);
    lab.restart(1);
    lab.offer_skill(1, "add");
    lab.set_online(1, true);
    let call = lab.called(1).expect("the call arrives");
    lab.reply(1, call);
    lab.pass(SECOND / 10);
    assert_eq!(lab.answer(0, id), Some(Ok(Payload::json("43"))));
}

#[test]
fn a_call_that_a_former_life_may_have_run_is_lost_and_says_so() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    assert!(lab.called(1).is_some());
    lab.restart(1);
    lab.claim(1);
    // The new life writes, which proves that it is one.
    lab.send(1, "a", Class::Control, 1);
    lab.pass(SECOND);
    let fault = lab.answer(0, id).expect("an answer").expect_err("lost");
    assert_eq!(
        (fault.code, fault.executed),
        (Code::PeerLost, Some(Executed::Unknown))
    );
}

#[test]
fn what_a_link_delivers_while_the_registry_is_away_is_marked() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.send(0, "b", Class::Events, 1);
    lab.claim(1);
    lab.pass(SECOND);
    let now = lab.now;
    lab.hosts[1]
        .mesh
        .handle_registry(now, RegistryEvent::Disconnected);
    lab.mailbox.marks.clear();
    lab.send(0, "b", Class::Control, 5);
    let messages = lab.messages(1);
    let last = messages.last().expect("the message");
    lab.consume(1, last.3);
    let consumed = |mark: &Mark| mark.stream == Stream::Control && mark.consumed.contains(1);
    assert!(lab.mailbox.marks.iter().any(consumed));
}
