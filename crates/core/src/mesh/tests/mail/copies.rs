//! What the mailbox and the links may both have, and lives that overlap:
//! cases that the simulated world has found.

use super::*;
use crate::outbound::Verdict;
use waymesh_proto::limits::MESSAGE_MAX_BYTES;

fn mailed(lab: &Lab, bytes: usize) -> Vec<u8> {
    let items = lab.mailbox.items.iter();
    let frames = items.map(|item| item.post.frame.clone());
    frames
        .into_iter()
        .find(|frame| frame.len() > bytes)
        .expect("an item of that size")
}

/// Gives host 1 an item of host 0 as the registry would.
fn push_to_1(lab: &mut Lab, to_incarnation: Option<u64>, frame: Vec<u8>) {
    let opened = Opened {
        item: ItemId::from_bytes([9; 16]),
        from: member(&lab.hosts[0].record),
        from_incarnation: lab.hosts[0].record.incarnation,
        to_incarnation: to_incarnation.map(Incarnation::new),
        dwell: Duration::ZERO,
        again: false,
        frame,
    };
    let now = lab.now;
    lab.hosts[1]
        .mesh
        .handle_registry(now, RegistryEvent::Item(opened));
    lab.run();
}

#[test]
fn acknowledgements_of_an_earlier_life_are_posted_as_such() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.claim(0);
    lab.send(1, "a", Class::Control, 1);
    let messages = lab.messages(0);
    // The registry knows of a newer life of b before b has written in it.
    let mut record = lab.hosts[1].record.clone();
    record.incarnation = Incarnation::new(7);
    lab.hosts[0].mesh.handle_registry(lab.now, told(record));
    lab.consume(0, messages[0].3);
    lab.set_online(1, false);
    lab.send(0, "b", Class::Control, 900);
    let item = lab.mailbox.items.last().expect("an item");
    assert_eq!(item.post.to_incarnation, Some(Incarnation::new(1)));
}

#[test]
fn what_an_earlier_life_was_written_to_comes_marked() {
    for (to, marked) in [(None, false), (Some(1), false), (Some(0), true)] {
        let mut lab = Lab::without_links(&["a", "b"]);
        lab.claim(1);
        lab.send(1, "a", Class::Events, 1);
        lab.set_online(1, false);
        lab.send(0, "b", Class::Control, 400);
        let frame = mailed(&lab, 400);
        push_to_1(&mut lab, to, frame);
        let messages = lab.messages(1);
        assert_eq!(messages.iter().map(|m| m.2).collect::<Vec<_>>(), [marked]);
    }
}

#[test]
fn a_call_that_a_link_has_taken_may_have_run_when_its_time_is_over() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.claim(1);
    // The link is there before the stream of calls is.
    lab.send(0, "b", Class::Control, 1);
    let id = lab.call(0, "b", "add", false);
    let key = *lab.hosts[0].mesh.peers.keys().next().expect("a peer");
    let streams = &lab.hosts[0].mesh.peers[&key].streams;
    let sent = streams.was_sent(Stream::Tasks, 1, None);
    assert!(sent.is_none_or(|sent| sent), "{id}");
}

#[test]
fn a_call_in_the_mailbox_may_be_collected_when_its_time_is_over() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    let id = lab.call(0, "b", "add", false);
    lab.pass(60 * SECOND);
    let fault = lab.answer(0, id).expect("an end").expect_err("no answer");
    assert_eq!(fault.executed, Some(Executed::Unknown));
}

#[test]
fn of_what_a_revoked_peer_may_have_nobody_says_that_it_has_not() {
    let mut lab = Lab::without_links(&["a", "b"]);
    let sent = lab.send(0, "b", Class::Control, 5);
    let call = lab.call(0, "b", "add", false);
    let ids = vec![lab.hosts[1].record.agent_id];
    let revocations = Vec::new();
    let event = RegistryEvent::Revoked { ids, revocations };
    lab.hosts[0].mesh.handle_registry(lab.now, event);
    lab.run();
    assert_eq!(lab.states(0, sent).last(), Some(&SendState::Unconfirmed));
    if let Some(answer) = lab.answer(0, call) {
        let fault = answer.expect_err("revoked");
        assert!(fault.code != Code::Revoked || fault.executed == Some(Executed::Unknown));
    }
}

#[test]
fn a_peer_that_cannot_open_its_items_is_not_flooded_with_them() {
    let mut lab = Lab::without_links(&["a", "b"]);
    let id = lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    lab.send(0, "b", Class::Control, 5);
    let before = lab.mailbox.posts;
    for _ in 0..200 {
        let Some(item) = lab.mailbox.items.pop() else {
            lab.pass(SECOND / 20);
            continue;
        };
        let (item, code) = (item.post.item, Code::Unreadable);
        let event = RegistryEvent::Returned { item, code };
        lab.hosts[0].mesh.handle_registry(lab.now, event);
        let record = lab.hosts[1].record.clone();
        lab.hosts[0].mesh.handle_registry(lab.now, told(record));
        lab.run();
    }
    let posts = lab.mailbox.posts - before;
    assert!((2..20).contains(&posts), "{posts} posts of {id}");
}

#[test]
fn what_was_refused_is_not_marked_as_consumed() {
    use crate::inbound::Inbound;
    use waymesh_proto::frame::Header;
    let now = Instant::now();
    let mut inbound = Inbound::new(Stream::Tasks);
    for seq in 1..=2 {
        let header = Header {
            stream: Stream::Tasks,
            redelivered: false,
            seq,
            previous: 0,
            lowest: 1,
            life_ms: 1_000,
            wait_ms: 0,
        };
        inbound.handle_message(now, &header, b"x").expect("room");
    }
    inbound.consume(now, 1);
    inbound.refuse(now, 2, Code::Expired);
    assert!(inbound.done().contains(1));
    assert!(!inbound.done().contains(2));
}

#[test]
fn what_was_handed_to_a_connection_and_not_stored_is_posted_again() {
    use crate::outbound::{Copy, Outbound, Scope};
    let now = Instant::now();
    let mut outbound = Outbound::new(Stream::Control);
    let id = MessageId::from_bytes([1; 16]);
    outbound.push(id, vec![0; 9], Priority::Normal, now, now + SECOND);
    let item = ItemId::from_bytes([2; 16]);
    assert!(outbound.next_letter(now, Scope::All).is_some());
    outbound.handle_posting(1, item, None);
    outbound.handle_unhanded();
    assert_eq!(
        outbound.next_letter(now, Scope::All),
        None,
        "nobody has answered yet"
    );
    outbound.handle_handed(1);
    outbound.handle_unhanded();
    let again = outbound
        .next_letter(now, Scope::All)
        .expect("it is posted again");
    assert_eq!(again.item, Some(item));
    // Not when its life is over: an earlier copy may have been delivered.
    outbound.handle_posting(1, item, None);
    outbound.handle_lost(1);
    assert_eq!(outbound.next_letter(now + 2 * SECOND, Scope::All), None);
    let ending = outbound.handle_undelivered(1, Verdict::Expired);
    let verdict = ending.map(|ending| ending.verdict);
    assert_eq!(verdict, Some(Verdict::Unconfirmed));
    assert_eq!(outbound.take_closed(), [(item, Copy::Collected)]);
}

/// The receiver's link seems dead, so that it acknowledges by mailbox. Then the
/// link works again.
#[test]
fn what_was_acknowledged_by_mailbox_in_a_doubt_is_acknowledged_on_the_link_after_it() {
    let mut lab = Lab::linked();
    let id = lab.send(0, "b", Class::Control, 20);
    let message = lab.messages(1).first().map(|message| message.3);
    let cut = lab.cut();
    lab.links_work = false;
    lab.send(1, "a", Class::Control, 20);
    lab.pass(SECOND);
    let consumed = Command::Consumed {
        message: message.expect("it arrived"),
    };
    // The registry swallows what is posted from here on.
    lab.command(1, consumed);
    lab.pass(SECOND / 4);
    lab.mend(cut);
    lab.pass(SECOND / 2);
    assert_eq!(lab.states(0, id).last(), Some(&SendState::Delivered));
}

#[test]
fn pieces_of_a_message_do_not_keep_the_whole_out() {
    use crate::inbound::{Inbound, WINDOW_MAX_BYTES};
    use waymesh_proto::frame::{Header, Piece};
    let now = Instant::now();
    let header = |seq| Header {
        stream: Stream::Bulk,
        redelivered: false,
        seq,
        previous: seq - 1,
        lowest: 1,
        life_ms: 1_000,
        wait_ms: 1_000,
    };
    let mut inbound = Inbound::new(Stream::Bulk);
    let piece = Piece {
        total: WINDOW_MAX_BYTES,
        offset: 0,
        bytes: b"x",
    };
    inbound.handle_chunk(now, &header(1), &piece).expect("room");
    assert!(inbound.has_room(&header(1), WINDOW_MAX_BYTES as usize));
    assert!(!inbound.has_room(&header(2), 1));
}

#[test]
fn what_was_put_off_comes_when_what_stood_in_its_way_is_given_up() {
    use waymesh_proto::frame::{FrameWriter, Header, Piece, Section};
    let mut lab = Lab::linked();
    lab.mailbox.works = true;
    let header = Header {
        stream: Stream::Bulk,
        redelivered: false,
        seq: 1,
        previous: 0,
        lowest: 1,
        life_ms: 60_000,
        wait_ms: 0,
    };
    let bytes = vec![0; 100];
    let mut writer = FrameWriter::default();
    writer.put(&Section::Chunk(
        header,
        Piece {
            total: 1024 * 1024,
            offset: 0,
            bytes: &bytes,
        },
    ));
    let (now, link) = (lab.now, lab.links_in_use(1)[0].0);
    let frame = LinkEvent::Frame {
        link,
        class: Class::Bulk,
        bytes: writer.into_bytes(),
    };
    lab.hosts[1].mesh.handle_link(now, frame);
    let mut writer = FrameWriter::default();
    let second = Header {
        seq: 2,
        previous: 1,
        wait_ms: 1,
        ..header
    };
    writer.put(&Section::Message(second, &bytes));
    let resumed = |lab: &mut Lab| {
        let mut resumed = false;
        while let Some(command) = lab.hosts[1].mesh.poll_registry_command() {
            resumed |= matches!(command, RegistryCommand::Resume);
        }
        resumed
    };
    let opened = Opened {
        item: ItemId::from_bytes([9; 16]),
        from: member(&lab.hosts[0].record),
        from_incarnation: lab.hosts[0].record.incarnation,
        to_incarnation: None,
        dwell: Duration::ZERO,
        again: false,
        frame: writer.into_bytes(),
    };
    let b = &mut lab.hosts[1].mesh;
    b.handle_registry(now, RegistryEvent::Item(opened));
    assert!(b.put_off, "the pieces of the first fill the window");
    assert!(!resumed(&mut lab));
    // The life that sent the pieces is over.
    let mut writer = FrameWriter::default();
    writer.put(&Section::Echo(1));
    let opened = Opened {
        item: ItemId::from_bytes([8; 16]),
        from: member(&lab.hosts[0].record),
        from_incarnation: Incarnation::new(2),
        to_incarnation: None,
        dwell: Duration::ZERO,
        again: false,
        frame: writer.into_bytes(),
    };
    let b = &mut lab.hosts[1].mesh;
    b.handle_registry(now, RegistryEvent::Item(opened));
    assert!(resumed(&mut lab));
}

/// Whether host 1 tells the registry that it has room.
fn has_resumed(lab: &mut Lab) -> bool {
    let b = &mut lab.hosts[1].mesh;
    let mut commands = std::iter::from_fn(|| b.poll_registry_command());
    commands.any(|command| matches!(command, RegistryCommand::Resume))
}

#[test]
fn what_was_put_off_comes_although_more_came_in_than_went_in_one_event() {
    use waymesh_proto::frame::{FrameWriter, Header, Piece, Section};
    let mut lab = Lab::linked();
    let header = Header {
        stream: Stream::Bulk,
        redelivered: false,
        seq: 1,
        previous: 0,
        lowest: 1,
        life_ms: 60_000,
        wait_ms: 0,
    };
    let (now, link) = (lab.now, lab.links_in_use(1)[0].0);
    let (total, offset, bytes) = (100, 0, &b"x"[..]);
    let piece = Piece {
        total,
        offset,
        bytes,
    };
    let mut writer = FrameWriter::default();
    writer.put(&Section::Chunk(header, piece));
    let frame = LinkEvent::Frame {
        link,
        class: Class::Bulk,
        bytes: writer.into_bytes(),
    };
    let opened = |lab: &Lab, life, header: Header, envelope: &[u8]| {
        let mut writer = FrameWriter::default();
        writer.put(&Section::Message(header, envelope));
        RegistryEvent::Item(Opened {
            item: ItemId::from_bytes([life; 16]),
            from: member(&lab.hosts[0].record),
            from_incarnation: Incarnation::new(life.into()),
            to_incarnation: None,
            dwell: Duration::ZERO,
            again: false,
            frame: writer.into_bytes(),
        })
    };
    let large = Header {
        seq: 2,
        previous: 1,
        ..header
    };
    let large = opened(&lab, 1, large, &vec![0; MESSAGE_MAX_BYTES]);
    let payload = Payload::json(vec![b'1'; 16 * 1024]);
    let next = Envelope::new(Kind::Message, lab.id(), payload).encode();
    let next = opened(&lab, 2, header, &next);
    lab.hosts[1].mesh.handle_link(now, frame);
    lab.hosts[1].mesh.handle_registry(now, large);
    assert!(!has_resumed(&mut lab), "the piece leaves too little room");
    let (_, before) = lab.hosts[1].mesh.backlog();
    lab.hosts[1].mesh.handle_registry(now, next);
    let (_, after) = lab.hosts[1].mesh.backlog();
    assert!(after > before, "{after} bytes after {before}");
    assert!(has_resumed(&mut lab));
}

#[test]
fn room_is_told_of_whosever_message_made_it() {
    let mut lab = Lab::linked();
    let now = lab.now;
    let b = &mut lab.hosts[1].mesh;
    let peer = *b.by_name.values().next().expect("a peer");
    b.put_off = true;
    let dropped = Arrived {
        peer,
        incarnation: Incarnation::new(1),
        stream: Stream::Control,
        seq: 1,
        envelope: Envelope::new(
            Kind::Message,
            MessageId::new(9, [0; 10]),
            Payload::json("1"),
        ),
        expires: now + SECOND,
        redelivered: false,
        path: Path::Direct,
    };
    assert!(b.backlog().1 > 0);
    // As where another peer's message takes its place.
    b.consume(now, &dropped);
    assert_eq!(b.backlog().1, 0);
    assert!(has_resumed(&mut lab));
}

/// The registry hands a call to a life of which its caller did not know, and
/// whose acknowledgement nobody has; then once more to the life after it.
#[test]
fn a_caller_hears_of_the_end_of_a_life_that_it_did_not_know_to_have_the_call() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.offer_skill(1, "add");
    lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    let id = lab.call(0, "b", "add", false);
    let item = lab.mailbox.items.iter().find(|i| !i.pushed);
    let frame = item.expect("the call").post.frame.clone();
    lab.mailbox.works = false;
    push_to_1(&mut lab, None, frame.clone());
    assert!(lab.called(1).is_some());
    lab.mailbox.works = true;
    lab.mailbox.items.clear();
    lab.revive(1);
    assert_eq!(lab.answer(0, id), None);
    push_to_1(&mut lab, None, frame);
    lab.pass(SECOND);
    let fault = lab.answer(0, id).expect("an end").expect_err("lost");
    assert_eq!(fault.code, Code::PeerLost);
    assert_eq!(fault.executed, Some(Executed::Unknown));
}

#[test]
fn a_caller_that_takes_no_answers_hears_of_such_an_end_when_it_takes_them_again() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.offer_skill(1, "add");
    lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    let id = lab.call(0, "b", "add", false);
    let item = lab.mailbox.items.iter().find(|i| !i.pushed);
    let frame = item.expect("the call").post.frame.clone();
    lab.mailbox.works = false;
    push_to_1(&mut lab, None, frame.clone());
    assert!(lab.called(1).is_some());
    lab.mailbox.items.clear();
    lab.revive(1);
    lab.send(1, "a", Class::Events, 1);
    let (now, ends) = (lab.now, lab.now + SECOND);
    let key = *lab.hosts[1].mesh.by_name.values().next().expect("a peer");
    for _ in 0..5 {
        let (id, answer) = (lab.id(), vec![b'1'; MESSAGE_MAX_BYTES]);
        let peer = lab.hosts[1].mesh.peers.get_mut(&key).expect("a peer");
        let (stream, priority) = (Stream::Replies, Priority::Normal);
        peer.streams.push(stream, id, answer, priority, (now, ends));
    }
    let opened = Opened {
        item: ItemId::from_bytes([9; 16]),
        from: member(&lab.hosts[0].record),
        from_incarnation: lab.hosts[0].record.incarnation,
        to_incarnation: None,
        dwell: Duration::ZERO,
        again: true,
        frame,
    };
    let b = &mut lab.hosts[1].mesh;
    b.handle_registry(now, RegistryEvent::Item(opened.clone()));
    let outcomes = |b: &mut Mesh| {
        let commands = std::iter::from_fn(|| b.poll_registry_command());
        let told = commands.filter_map(|command| match command {
            RegistryCommand::Settle { outcome, .. } => Some(Some(outcome)),
            RegistryCommand::Resume => Some(None),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(outcomes(b), [Some(Outcome::Later)]);
    b.handle_timeout(ends);
    assert_eq!(outcomes(b), [None], "what was put off may come");
    lab.now = ends;
    lab.mailbox.works = true;
    let b = &mut lab.hosts[1].mesh;
    b.handle_registry(ends, RegistryEvent::Item(opened));
    lab.pass(20 * SECOND);
    let fault = lab.answer(0, id).expect("an end").expect_err("lost");
    assert_eq!(fault.code, Code::PeerLost);
}

#[test]
fn an_item_that_nobody_could_open_is_taken_back_even_by_a_sender_that_forgot_it() {
    let mut lab = Lab::with_mailbox(&["a", "b"]);
    lab.run();
    let (now, item) = (lab.now, ItemId::from_bytes([5; 16]));
    let code = Code::Unreadable;
    let a = &mut lab.hosts[0].mesh;
    a.handle_registry(now, RegistryEvent::Returned { item, code });
    let taken = RegistryCommand::Withdraw { item };
    assert_eq!(a.poll_registry_command(), Some(taken));
}

/// The item that could not be opened lies in the mailbox until it is withdrawn,
/// and the withdrawal may be lost.
#[test]
fn what_nobody_could_open_is_posted_again_as_another_item() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    lab.send(0, "b", Class::Control, 5);
    let item = lab.mailbox.items.pop().expect("an item").post.item;
    let code = Code::Unreadable;
    let event = RegistryEvent::Returned { item, code };
    lab.hosts[0].mesh.handle_registry(lab.now, event);
    lab.run();
    lab.pass(SECOND);
    let again = lab.mailbox.items.last().expect("it is posted again");
    assert_ne!(again.post.item, item);
}

/// The registry hands a call on, whose acknowledgement never comes; a second copy
/// is stored and given back when its life is over.
#[test]
fn a_call_of_which_a_copy_was_handed_on_may_have_run_although_another_one_expired() {
    let mut lab = Lab::without_links(&["a", "b"]);
    lab.send(0, "b", Class::Events, 1);
    lab.set_online(1, false);
    let id = lab.call(0, "b", "add", false);
    let item = lab.mailbox.items.last().expect("the call").post.item;
    let key = *lab.hosts[0].mesh.peers.keys().next().expect("a peer");
    let peer = lab.hosts[0].mesh.peers.get_mut(&key).expect("the peer");
    peer.streams.handle_lost(Stream::Tasks, 1);
    lab.pass(SECOND);
    let code = Code::Expired;
    let event = RegistryEvent::Returned { item, code };
    lab.hosts[0].mesh.handle_registry(lab.now, event);
    lab.pass(60 * SECOND);
    let fault = lab.answer(0, id).expect("an end").expect_err("no answer");
    assert_eq!(fault.executed, Some(Executed::Unknown));
}
