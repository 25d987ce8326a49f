//! The mailbox path, with a registry that stores at once and pushes to whoever is online.

mod copies;

use super::*;
use crate::app::{Kept, Mark, Opened, Post};
use crate::policy::Policy;
use waymesh_proto::control::Outcome;
use waymesh_proto::ids::ItemId;
use waymesh_proto::link::Path;
use waymesh_proto::mailbox::Keep;

#[derive(Debug, Clone)]
struct Item {
    from: usize,
    life: Incarnation,
    post: Post,
    since: Instant,
    pushed: bool,
    outcome: Option<Outcome>,
}

/// The items of all hosts.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// What the registry answers to a post, when it is not to store it.
    pub(super) refuses: Option<Code>,
    pub(super) works: bool,
    items: Vec<Item>,
    marks: Vec<Mark>,
    posts: usize,
}

impl Mailbox {
    /// Takes an item out that was not delivered.
    pub(super) fn take_back(&mut self) -> Option<ItemId> {
        self.items.pop().map(|item| item.post.item)
    }
}

impl Lab {
    fn with_mailbox(names: &[&str]) -> Self {
        let mut lab = Self::new(names);
        lab.mailbox.works = true;
        lab
    }

    /// Only the mailbox works.
    fn without_links(names: &[&str]) -> Self {
        let mut lab = Self::with_mailbox(names);
        lab.links_work = false;
        lab
    }

    pub(super) fn post(&mut self, from: usize, post: Post) {
        if !self.mailbox.works {
            return;
        }
        self.mailbox.posts += 1;
        let item = post.item;
        let outcome = match self.mailbox.refuses {
            Some(code) => Err(Fault::new(code, "refused")),
            None if post.keep == Keep::Forward => Ok(Kept::Forwarded),
            None => Ok(Kept::Stored),
        };
        let is_new = !self.mailbox.items.iter().any(|i| i.post.item == item);
        if outcome.is_ok() && is_new {
            self.mailbox.items.push(Item {
                from,
                life: self.hosts[from].record.incarnation,
                post,
                since: self.now,
                pushed: false,
                outcome: None,
            });
        }
        let event = RegistryEvent::Posted { item, outcome };
        self.hosts[from].mesh.handle_registry(self.now, event);
        self.push();
    }

    /// Pushes what was not pushed to whoever is there.
    fn push(&mut self) {
        let due: Vec<Item> = self
            .mailbox
            .items
            .iter()
            .filter(|i| i.outcome.is_none())
            .cloned()
            .collect();
        for item in due {
            let to = self
                .hosts
                .iter()
                .position(|h| h.record.agent_id == item.post.to);
            let Some(to) = to.filter(|to| self.hosts[*to].record.online) else {
                continue;
            };
            if let Some(stored) = self
                .mailbox
                .items
                .iter_mut()
                .find(|i| i.post.item == item.post.item)
            {
                stored.pushed = true;
                stored.outcome = Some(Outcome::Kept);
            }
            let from = &self.hosts[item.from].record;
            let opened = Opened {
                item: item.post.item,
                from: member(from),
                from_incarnation: item.life,
                to_incarnation: item.post.to_incarnation,
                dwell: self.now - item.since,
                again: item.pushed,
                frame: item.post.frame.clone(),
            };
            self.hosts[to]
                .mesh
                .handle_registry(self.now, RegistryEvent::Item(opened));
        }
    }

    pub(super) fn keep(&mut self, mark: Mark) {
        self.mailbox.marks.push(mark);
    }

    pub(super) fn settled(
        &mut self,
        _at: usize,
        item: ItemId,
        outcome: Outcome,
        mark: Option<Mark>,
    ) {
        self.mailbox.marks.extend(mark);
        if let Some(stored) = self.mailbox.items.iter_mut().find(|i| i.post.item == item) {
            stored.outcome = Some(outcome);
        }
        self.mailbox
            .items
            .retain(|i| !matches!(i.outcome, Some(Outcome::Taken | Outcome::Denied)));
    }

    pub(super) fn resume(&mut self, at: usize) {
        let to = self.hosts[at].record.agent_id;
        for item in self.mailbox.items.iter_mut().filter(|i| i.post.to == to) {
            if item.outcome == Some(Outcome::Later) {
                item.outcome = None;
            }
        }
        self.push();
    }

    pub(super) fn withdraw(&mut self, item: ItemId) {
        self.mailbox.items.retain(|i| i.post.item != item);
    }

    fn set_online(&mut self, at: usize, online: bool) {
        self.hosts[at].record.online = online;
        let record = self.hosts[at].record.clone();
        for (other, host) in self.hosts.iter_mut().enumerate() {
            if other != at {
                host.mesh.handle_registry(self.now, told(record.clone()));
            }
        }
        if online {
            self.push();
        }
        self.run();
    }

    /// A new life of a host, which knows what the last one has marked.
    fn revive(&mut self, at: usize) {
        let marks = self.mailbox.marks.clone();
        for item in &mut self.mailbox.items {
            item.outcome = None;
        }
        self.restart(at);
        let record = self.hosts[at].record.clone();
        self.hosts[at] = host_with(record, marks);
        self.hosts[at]
            .mesh
            .handle_registry(self.now, RegistryEvent::Connected);
        self.claim(at);
    }

    fn claim(&mut self, at: usize) {
        let id = self.id();
        self.command(at, Command::ClaimInbox { id });
    }

    /// Takes the messages that reached a host: length, path, whether it is marked redelivered.
    fn messages(&mut self, at: usize) -> Vec<(usize, Path, bool, InboundId)> {
        let events = std::mem::take(&mut self.hosts[at].events);
        let messages = events.into_iter().filter_map(|event| match event {
            Event::Message {
                inbound: Some(inbound),
                path,
                redelivered,
                payload,
                ..
            } => Some((payload.bytes.len(), path, redelivered, inbound)),
            _ => None,
        });
        messages.collect()
    }

    fn consume(&mut self, at: usize, message: InboundId) {
        self.command(at, Command::Consumed { message });
    }
}

fn host_with(record: AgentRecord, marks: Vec<Mark>) -> Host {
    let mut host = host(record, 77);
    let mut config = host.mesh.config.clone();
    config.marks = marks;
    host.mesh = Mesh::new(config, 78);
    host.mesh.add_client(Instant::now(), CLIENT);
    host
}

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
