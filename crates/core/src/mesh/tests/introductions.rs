//! Letters to and from strangers whose papers were at hand.

use super::*;
use waymesh_proto::link::Path;

/// Two strangers; the registry tells their papers and takes its time with records.
fn strangers() -> Lab {
    let mut lab = Lab::new(&["a", "b"]);
    lab.mailbox.works = true;
    lab.is_introduced = true;
    lab
}

/// The record that was looked up, as it stands.
fn tell_record(lab: &mut Lab, at: usize, of: usize) {
    let record = lab.hosts[of].record.clone();
    lab.hosts[at].mesh.handle_registry(lab.now, told(record));
    lab.run();
}

#[test]
fn a_first_call_and_its_answer_need_no_record_of_either() {
    let mut lab = strangers();
    lab.offer_skill(1, "add");
    let id = lab.call(0, "b", "add", false);
    let call = lab.called(1).expect("the call arrives");
    lab.reply(1, call);
    assert_eq!(lab.answer(0, id), Some(Ok(Payload::json("43"))));
    assert!(lab.hosts.iter().all(|host| host.links.is_empty()));
}

#[test]
fn the_record_that_follows_leads_to_a_link_and_to_no_second_copy() {
    let mut lab = strangers();
    let id = lab.id();
    lab.command(1, Command::ClaimInbox { id });
    lab.send(0, "b", Class::Control, 5);
    tell_record(&mut lab, 0, 1);
    lab.pass(SECOND);
    assert!(lab.hosts[0].mesh.peers.values().all(|p| p.link.is_some()));
    let is_message = |event: &&Event| matches!(event, Event::Message { .. });
    let paths = lab.hosts[1].events.iter().filter(is_message);
    let paths: Vec<Path> = paths
        .map(|event| match event {
            Event::Message { path, .. } => *path,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(paths, [Path::Mailbox]);
}

#[test]
fn a_letter_that_was_sealed_to_an_old_key_is_sealed_again_when_the_record_is_here() {
    let mut lab = strangers();
    lab.hosts[1].record.online = false;
    let id = lab.send(0, "b", Class::Control, 5);
    assert_eq!(lab.states(0, id), [SendState::Queued, SendState::Stored]);
    let item = lab.mailbox.take_back().expect("it was posted");
    let code = Code::Unreadable;
    let event = RegistryEvent::Returned { item, code };
    lab.hosts[0].mesh.handle_registry(lab.now, event);
    lab.run();
    lab.pass(SECOND);
    assert_eq!(lab.mailbox.take_back(), None, "the same key would not do");
    tell_record(&mut lab, 0, 1);
    lab.pass(SECOND);
    assert!(lab.mailbox.take_back().is_some());
}

#[test]
fn papers_of_another_than_the_name_has_been_known_for_are_left_to_the_record() {
    let mut lab = strangers();
    lab.hosts[0].mesh.config.pins = Vec::new();
    let name = lab.hosts[1].record.name.clone();
    let other = AgentId::from_bytes([9; 32]);
    lab.hosts[0].mesh.pins.insert(name, other);
    let id = lab.send(0, "b", Class::Control, 5);
    assert_eq!(lab.states(0, id), [SendState::Queued]);
    tell_record(&mut lab, 0, 1);
    assert_eq!(lab.states(0, id).last(), Some(&SendState::Refused));
}

#[test]
fn what_only_a_connected_peer_gets_is_not_dropped_before_its_presence_is_known() {
    let mut lab = strangers();
    let id = lab.id();
    lab.command(1, Command::ClaimInbox { id });
    lab.send(0, "b", Class::Telemetry, 5);
    assert_eq!(lab.hosts[0].mesh.counters().lossy_dropped_out, 0);
    let is_message = |event: &&Event| matches!(event, Event::Message { .. });
    assert_eq!(lab.hosts[1].events.iter().filter(is_message).count(), 1);
}
