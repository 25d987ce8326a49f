//! Behaviour of the mailboxes, sentence by sentence; `tests/conservation.rs`
//! checks them against random histories.

mod limits;
mod pushes;

use waymesh_proto::control::{Outcome, Posted, PostedState, Returned, Settle};
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, Note};
use waymesh_proto::{Class, ItemId, KeyId};

use super::*;

/// What a test posts unless it says otherwise: from agent 1 to agent 2.
pub(super) fn header(item: u8) -> ItemHeader {
    ItemHeader {
        item: ItemId::from_bytes([item; 16]),
        from: id(1),
        to: id(2),
        class: Class::Tasks,
        keep: Keep::Store,
        life_ms: 60_000,
        key: KeyId::from_bytes([0; 16]),
    }
}

pub(super) fn sealed(header: &ItemHeader, bytes: usize) -> Arc<Item> {
    Arc::new(Item {
        header: header.encode(),
        sealed: vec![header.item.as_bytes()[0]; bytes],
    })
}

/// What is told of items, and pushed, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Pushed(u64, u8, Note),
    Stored(u64, u8),
    Forwarded(u64, u8),
    Refused(u64, u8, Code),
    Returned(u64, u8, Code),
}

fn number(item: ItemId) -> u8 {
    item.as_bytes()[0]
}

pub(super) fn seen(effects: &[Effect]) -> Vec<Seen> {
    let mut all = Vec::new();
    for effect in effects {
        match effect {
            Effect::Push { conn, note, item } => {
                let header = ItemHeader::decode(&item.header).expect("a header");
                all.push(Seen::Pushed(conn.0, number(header.item), *note));
            }
            Effect::Forward { to, note, item, .. } => {
                let header = ItemHeader::decode(&item.header).expect("a header");
                all.push(Seen::Pushed(to.0, number(header.item), *note));
            }
            Effect::Send { to, message } => all.extend(told_of_items(to[0].0, message)),
            _ => {}
        }
    }
    all
}

fn told_of_items(conn: u64, message: &ServerMessage) -> Vec<Seen> {
    match message {
        ServerMessage::Posted { items } => {
            let posted = items.iter().map(|Posted { item, state }| match state {
                PostedState::Stored => Seen::Stored(conn, number(*item)),
                PostedState::Forwarded => Seen::Forwarded(conn, number(*item)),
                PostedState::Refused { error } => Seen::Refused(conn, number(*item), error.code),
            });
            posted.collect()
        }
        ServerMessage::Returned { items } => {
            let returned = items.iter();
            let seen =
                returned.map(|Returned { item, code }| Seen::Returned(conn, number(*item), *code));
            seen.collect()
        }
        _ => Vec::new(),
    }
}

/// A note of an item that has just come.
pub(super) const FRESH: Note = Note {
    again: false,
    dwell_ms: 0,
};

impl Bench {
    /// Agents 1 and 2 on connections 1 and 2.
    pub(super) fn pair() -> Self {
        let mut bench = Self::new();
        bench.connect(1, login("a", 1, 1));
        bench.connect(2, login("b", 2, 1));
        bench
    }

    pub(super) fn post(&mut self, conn: u64, header: &ItemHeader) -> Vec<Seen> {
        let item = sealed(header, 100);
        self.rules.handle_post(self.now, ConnId(conn), item);
        seen(&self.effects())
    }

    /// The receiver on this connection answers items of agent 1.
    pub(super) fn settle(&mut self, conn: u64, items: &[u8], outcome: Outcome) -> Vec<Seen> {
        let settle = |item: &u8| Settle {
            item: ItemId::from_bytes([*item; 16]),
            from: id(1),
            outcome,
        };
        let items = items.iter().map(settle).collect();
        seen(&self.say(conn, ClientMessage::Settled { items }))
    }

    fn items(&self) -> usize {
        self.rules.mailbox_level().items
    }
}

#[test]
fn an_item_is_pushed_without_waiting_for_the_disk_and_stored_is_told_when_it_is_durable() {
    let mut bench = Bench::pair();
    bench.outcome = None;
    assert_eq!(bench.post(1, &header(7)), [Seen::Pushed(2, 7, FRESH)]);
    assert_eq!(bench.rules.mailbox_level().unwritten, 1);
    let effects = bench.answer_all(Ok(()));
    assert_eq!(seen(&effects), [Seen::Stored(1, 7)]);
    assert_eq!(bench.rules.mailbox_level().unwritten, 0);
    assert_eq!(bench.settle(2, &[7], Outcome::Taken), []);
    assert_eq!((bench.items(), bench.disk.stored().items.len()), (0, 0));
}

#[test]
fn an_item_for_somebody_who_is_away_waits_for_the_next_login() {
    let mut bench = Bench::pair();
    bench.close(2);
    assert_eq!(bench.post(1, &header(7)), [Seen::Stored(1, 7)]);
    bench.now += Duration::from_millis(250);
    let pushed = seen(&bench.connect(3, login("b", 2, 1)));
    let note = Note {
        again: false,
        dwell_ms: 250,
    };
    assert_eq!(pushed, [Seen::Pushed(3, 7, note)]);
}

#[test]
fn an_item_that_is_taken_before_it_was_written_need_not_be_written() {
    let mut bench = Bench::pair();
    bench.outcome = None;
    bench.post(1, &header(7));
    assert_eq!(
        bench.settle(2, &[7], Outcome::Taken),
        [Seen::Forwarded(1, 7)]
    );
    assert!(bench.waiting.is_empty(), "it is written all the same");
    assert_eq!(bench.items(), 0);
}

#[test]
fn a_full_disk_refuses_an_item_that_nobody_has_and_later_ones_pass() {
    let mut bench = Bench::pair();
    bench.close(2);
    bench.outcome = Some(Err(Fault::new(Code::Storage, "the disk is full")));
    assert_eq!(
        bench.post(1, &header(7)),
        [Seen::Refused(1, 7, Code::Storage)]
    );
    assert_eq!(bench.rules.mailbox_level(), MailboxLevel::default());
    bench.outcome = Some(Ok(()));
    assert_eq!(bench.post(1, &header(7)), [Seen::Stored(1, 7)]);
}

#[test]
fn an_item_that_was_handed_on_and_could_not_be_stored_is_forwarded() {
    let mut bench = Bench::pair();
    bench.outcome = None;
    bench.post(1, &header(7));
    bench.post(1, &header(8));
    bench.settle(2, &[8], Outcome::Later);
    let full = Fault::new(Code::Storage, "the disk is full");
    let effects = bench.answer_all(Err(full));
    assert_eq!(
        seen(&effects),
        [Seen::Forwarded(1, 7), Seen::Refused(1, 8, Code::Storage)]
    );
    assert_eq!(bench.items(), 0);
    assert_eq!(bench.settle(2, &[7], Outcome::Taken), []);
}

#[test]
fn the_same_item_is_stored_and_pushed_once_however_often_it_is_posted() {
    let mut bench = Bench::pair();
    bench.outcome = None;
    bench.post(1, &header(7));
    assert_eq!(bench.post(1, &header(7)), []);
    // The sender comes back and has not heard what became of it.
    bench.connect(3, login("a", 1, 1));
    assert_eq!(bench.post(3, &header(7)), []);
    let effects = bench.answer_all(Ok(()));
    assert_eq!(seen(&effects), [Seen::Stored(3, 7)]);
    assert_eq!(bench.post(3, &header(7)), [Seen::Stored(3, 7)]);
    assert_eq!(bench.items(), 1);
}

#[test]
fn ids_are_of_their_sender_only() {
    let mut bench = Bench::pair();
    bench.connect(3, login("c", 3, 1));
    bench.post(1, &header(7));
    let other = ItemHeader {
        from: id(3),
        ..header(7)
    };
    let expected = [Seen::Pushed(2, 7, FRESH), Seen::Stored(3, 7)];
    assert_eq!(bench.post(3, &other), expected);
    assert_eq!(bench.items(), 2);
}

#[test]
fn a_replaceable_item_takes_the_place_of_the_last_one_and_goes_before_others() {
    let mut bench = Bench::pair();
    bench.close(2);
    let ack = |item| ItemHeader {
        keep: Keep::Replace,
        ..header(item)
    };
    bench.post(1, &header(1));
    bench.post(1, &ack(2));
    bench.post(1, &ack(3));
    assert_eq!(bench.items(), 2);
    let pushed = seen(&bench.connect(3, login("b", 2, 1)));
    let expected = [Seen::Pushed(3, 3, FRESH), Seen::Pushed(3, 1, FRESH)];
    assert_eq!(pushed, expected);
}

#[test]
fn what_was_replaced_before_it_was_written_has_the_fate_of_what_replaced_it() {
    let mut bench = Bench::pair();
    bench.close(2);
    bench.outcome = None;
    for item in [2, 3] {
        let keep = Keep::Replace;
        bench.post(
            1,
            &ItemHeader {
                keep,
                ..header(item)
            },
        );
    }
    let effects = bench.answer_all(Ok(()));
    assert_eq!(seen(&effects), [Seen::Stored(1, 2), Seen::Stored(1, 3)]);
}

#[test]
fn an_item_that_is_not_to_be_stored_is_handed_on_or_refused() {
    let mut bench = Bench::pair();
    let live = ItemHeader {
        keep: Keep::Forward,
        ..header(7)
    };
    assert_eq!(bench.post(1, &live), [Seen::Pushed(2, 7, FRESH)]);
    assert_eq!(bench.items(), 0);
    bench.close(2);
    assert_eq!(
        bench.post(1, &live),
        [Seen::Refused(1, 7, Code::PeerOffline)]
    );
}

#[test]
fn an_item_whose_life_ends_unseen_goes_back_and_one_that_was_pushed_goes_silently() {
    let mut bench = Bench::pair();
    // No ping is due when the items are.
    bench.pass(Duration::from_secs(1));
    bench.post(1, &header(1));
    bench.close(2);
    bench.post(1, &header(2));
    let due = bench.now + Duration::from_secs(60);
    let dues = bench.pass_alive(Duration::from_millis(59_999), &[1]);
    assert_eq!(seen(&dues), []);
    assert_eq!(bench.rules.poll_timeout(), Some((due, Due::Item)));
    let effects = bench.pass_alive(Duration::from_millis(1), &[1]);
    assert_eq!(seen(&effects), [Seen::Returned(1, 2, Code::Expired)]);
    assert_eq!((bench.items(), bench.disk.stored().items.len()), (0, 0));
}

#[test]
fn an_item_without_life_and_one_to_a_stranger_are_refused() {
    let mut bench = Bench::pair();
    let dead = ItemHeader {
        life_ms: 0,
        ..header(1)
    };
    assert_eq!(bench.post(1, &dead), [Seen::Refused(1, 1, Code::Expired)]);
    let stray = ItemHeader {
        to: id(9),
        ..header(2)
    };
    assert_eq!(
        bench.post(1, &stray),
        [Seen::Refused(1, 2, Code::UnknownPeer)]
    );
}

#[test]
fn an_item_in_the_name_of_another_agent_is_not_accepted() {
    let mut bench = Bench::pair();
    let item = sealed(&header(7), 1);
    bench.rules.handle_post(bench.now, ConnId(2), item);
    let effects = bench.effects();
    assert_eq!(error_of(&effects, 2), Some(Code::Unauthorized));
    assert_eq!(bench.items(), 0);
}

#[test]
fn a_post_before_the_login_is_refused() {
    let mut bench = Bench::new();
    bench.open(1);
    let item = sealed(&header(7), 1);
    bench.rules.handle_post(bench.now, ConnId(1), item);
    let effects = bench.effects();
    assert_eq!(error_of(&effects, 1), Some(Code::Unauthorized));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Refused));
}

#[test]
fn an_item_of_a_sender_that_the_receiver_denies_is_refused_also_while_that_is_away() {
    let mut bench = Bench::new();
    let guest = VerifiedLogin {
        roles: vec!["guest".parse().expect("a role")],
        ..login("a", 1, 1)
    };
    bench.connect(1, guest);
    bench.connect(2, login("b", 2, 1));
    let rules = PeerRules {
        deny_roles: vec!["guest".parse().expect("a role")],
        ..PeerRules::default()
    };
    bench.say(2, ClientMessage::Rules(rules));
    bench.close(2);
    assert_eq!(
        bench.post(1, &header(7)),
        [Seen::Refused(1, 7, Code::Unauthorized)]
    );
    // The rules are of one life; the next one tells its own.
    bench.connect(3, login("b", 2, 2));
    let expected = [Seen::Pushed(3, 7, FRESH), Seen::Stored(1, 7)];
    assert_eq!(bench.post(1, &header(7)), expected);
}

#[test]
fn an_item_that_its_receiver_cannot_open_or_does_not_want_goes_back_to_its_sender() {
    let mut bench = Bench::pair();
    bench.post(1, &header(1));
    bench.post(1, &header(2));
    assert_eq!(
        bench.settle(2, &[1], Outcome::Unreadable),
        [Seen::Returned(1, 1, Code::Unreadable)]
    );
    assert_eq!(
        bench.settle(2, &[2], Outcome::Denied),
        [Seen::Returned(1, 2, Code::Unauthorized)]
    );
    // Whoever has heard that it cannot be opened says so.
    assert_eq!(bench.items(), 1);
    let item = ItemId::from_bytes([1; 16]);
    bench.say(1, ClientMessage::Withdraw { item });
    assert_eq!(bench.items(), 0);
}

#[test]
fn a_sender_that_was_away_hears_of_what_its_receiver_could_not_open() {
    let mut bench = Bench::pair();
    bench.post(1, &header(1));
    bench.close(1);
    assert_eq!(bench.settle(2, &[1], Outcome::Unreadable), []);
    let returned = |conn| [Seen::Returned(conn, 1, Code::Unreadable)];
    let told = seen(&bench.connect(3, login("a", 1, 1)));
    assert_eq!(told, returned(3));
    // It may not have arrived: it is told until the sender has said that it has.
    bench.close(3);
    assert_eq!(seen(&bench.connect(4, login("a", 1, 1))), returned(4));
    let item = ItemId::from_bytes([1; 16]);
    bench.say(4, ClientMessage::Withdraw { item });
    bench.close(4);
    assert_eq!(seen(&bench.connect(5, login("a", 1, 1))), []);
    assert_eq!(bench.items(), 0);
}

#[test]
fn what_a_receiver_could_not_open_is_not_pushed_to_it_at_its_next_login() {
    for keep in [Keep::Store, Keep::Replace] {
        let mut bench = Bench::pair();
        let header = ItemHeader { keep, ..header(1) };
        bench.post(1, &header);
        bench.settle(2, &[1], Outcome::Unreadable);
        bench.close(2);
        assert_eq!(seen(&bench.connect(3, login("b", 2, 1))), []);
        assert_eq!(bench.items(), 1, "its sender has not said that it knows");
        // Only the run of the registry that was told knows of it.
        bench.restart();
        bench.connect(1, login("a", 1, 1));
        let pushed = seen(&bench.connect(2, login("b", 2, 1)));
        assert!(matches!(pushed[..], [Seen::Pushed(2, 1, _)]), "{pushed:?}");
        let returned = [Seen::Returned(1, 1, Code::Unreadable)];
        assert_eq!(bench.settle(2, &[1], Outcome::Unreadable), returned);
        bench.close(2);
        assert_eq!(seen(&bench.connect(3, login("b", 2, 1))), []);
        let item = ItemId::from_bytes([1; 16]);
        bench.say(1, ClientMessage::Withdraw { item });
        assert_eq!((bench.items(), bench.disk.stored().items.len()), (0, 0));
    }
}

#[test]
fn a_withdrawn_item_is_not_delivered_any_more() {
    let mut bench = Bench::pair();
    bench.close(2);
    bench.post(1, &header(1));
    bench.outcome = None;
    bench.post(1, &header(2));
    let withdraw = |item| ClientMessage::Withdraw {
        item: ItemId::from_bytes([item; 16]),
    };
    assert_eq!(seen(&bench.say(1, withdraw(1))), []);
    assert_eq!(
        seen(&bench.say(1, withdraw(2))),
        [Seen::Refused(1, 2, Code::Cancelled)]
    );
    assert_eq!(seen(&bench.connect(3, login("b", 2, 1))), []);
    assert_eq!((bench.items(), bench.disk.stored().items.len()), (0, 0));
}

#[test]
fn nobody_settles_or_withdraws_the_items_of_others() {
    let mut bench = Bench::pair();
    bench.connect(3, login("c", 3, 1));
    bench.post(1, &header(7));
    assert_eq!(bench.settle(3, &[7], Outcome::Taken), []);
    let item = ItemId::from_bytes([7; 16]);
    bench.say(2, ClientMessage::Withdraw { item });
    assert_eq!(bench.items(), 1);
}

#[test]
fn stored_items_survive_a_restart_with_what_is_left_of_their_lives() {
    let mut bench = Bench::pair();
    bench.close(2);
    bench.post(1, &header(7));
    bench.now += Duration::from_secs(59);
    bench.restart();
    bench.connect(1, login("a", 1, 1));
    let pushed = seen(&bench.connect(2, login("b", 2, 1)));
    let note = Note {
        again: false,
        dwell_ms: 59_000,
    };
    assert_eq!(pushed, [Seen::Pushed(2, 7, note)]);
    bench.pass_alive(Duration::from_secs(1), &[1, 2]);
    assert_eq!(bench.items(), 0);
}

#[test]
fn an_item_that_the_disk_has_lost_goes_back_and_does_not_hold_up_the_next() {
    let mut bench = Bench::pair();
    bench.close(2);
    bench.post(1, &header(1));
    bench.post(1, &header(2));
    let seq = bench.disk.stored().items[0].seq;
    let why = Gone::Damaged;
    bench.disk.write(Write::ForgetItem { seq, why });
    let effects = seen(&bench.connect(3, login("b", 2, 1)));
    let expected = [
        Seen::Pushed(3, 2, FRESH),
        Seen::Returned(1, 1, Code::Storage),
    ];
    assert_eq!(effects, expected);
}
