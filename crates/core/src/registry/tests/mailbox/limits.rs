//! How much fits, of whom, and how fast.

use waymesh_proto::limits::{MAILBOX_MAX_BYTES, MAILBOX_MAX_ITEMS, MAILBOX_SENDER_PARTS};

use super::*;

/// An item with its own number, from one agent to another.
fn nth(from: u8, n: usize, bytes: usize) -> Arc<Item> {
    let header = ItemHeader {
        item: ItemId::from_bytes((n as u128).to_be_bytes()),
        from: id(from),
        ..header(0)
    };
    let bytes = bytes.saturating_sub(header.encode().len());
    sealed(&header, bytes)
}

impl Bench {
    /// Posts, with enough time in between; gives the refusal's code.
    fn try_post(&mut self, conn: u64, item: Arc<Item>) -> Option<Code> {
        self.now += Duration::from_millis(100);
        self.rules.handle_heard(self.now, ConnId(conn));
        self.rules.handle_post(self.now, ConnId(conn), item);
        self.effects().iter().find_map(|effect| match effect {
            Effect::Send {
                message: ServerMessage::Posted { items },
                ..
            } => match &items[0].state {
                PostedState::Refused { error } => Some(error.code),
                _ => None,
            },
            _ => None,
        })
    }

    /// Senders with the numbers from 10 on, and agent 2, who is away.
    fn crowd(senders: u8) -> Self {
        let mut bench = Self::new();
        bench.connect(2, login("b", 2, 1));
        bench.close(2);
        for sender in 10..10 + senders {
            bench.connect(sender.into(), login(&format!("s{sender}"), sender, 1));
        }
        bench
    }
}

#[test]
fn one_sender_fills_its_share_of_a_mailbox_and_not_one_item_more() {
    let mut bench = Bench::crowd(2);
    let share = MAILBOX_MAX_ITEMS / MAILBOX_SENDER_PARTS;
    for n in 0..share {
        assert_eq!(bench.try_post(10, nth(10, n, 100)), None);
    }
    let more = bench.try_post(10, nth(10, share, 100));
    assert_eq!(more, Some(Code::MailboxFull));
    assert_eq!(bench.try_post(11, nth(11, 0, 100)), None);
}

#[test]
fn what_a_receiver_could_not_open_takes_no_room_of_its_mailbox() {
    let mut bench = Bench::crowd(1);
    bench.connect(2, login("b", 2, 1));
    let share = MAILBOX_MAX_ITEMS / MAILBOX_SENDER_PARTS;
    for n in 0..share {
        bench.try_post(10, nth(10, n, 100));
    }
    let more = bench.try_post(10, nth(10, share, 100));
    assert_eq!(more, Some(Code::MailboxFull));
    let items = vec![Settle {
        item: ItemId::from_bytes(0u128.to_be_bytes()),
        from: id(10),
        outcome: Outcome::Unreadable,
    }];
    // It is told twice, and counts once.
    for _ in 0..2 {
        let items = items.clone();
        bench.say(2, ClientMessage::Settled { items });
    }
    assert_eq!(bench.try_post(10, nth(10, share, 100)), None);
    let more = bench.try_post(10, nth(10, share + 1, 100));
    assert_eq!(more, Some(Code::MailboxFull));
}

#[test]
fn one_sender_fills_its_share_of_bytes_and_not_one_byte_more() {
    let mut bench = Bench::crowd(1);
    let share = MAILBOX_MAX_BYTES / MAILBOX_SENDER_PARTS;
    let large = 1_000_000;
    for n in 0..share / large {
        assert_eq!(bench.try_post(10, nth(10, n, large)), None);
    }
    let rest = share % large;
    let more = bench.try_post(10, nth(10, 900, rest + 1));
    assert_eq!(more, Some(Code::MailboxFull));
    assert_eq!(bench.try_post(10, nth(10, 901, rest)), None);
}

#[test]
fn all_senders_together_fill_a_mailbox_and_not_one_item_more_but_acknowledgements_pass() {
    let mut bench = Bench::crowd(11);
    let share = MAILBOX_MAX_ITEMS / MAILBOX_SENDER_PARTS;
    for sender in 10..20 {
        for n in 0..share {
            assert_eq!(bench.try_post(sender.into(), nth(sender, n, 100)), None);
        }
    }
    let more = bench.try_post(20, nth(20, 0, 100));
    assert_eq!(more, Some(Code::MailboxFull));
    let ack = ItemHeader {
        keep: Keep::Replace,
        from: id(10),
        ..header(0)
    };
    assert_eq!(bench.try_post(10, sealed(&ack, 100)), None);
}

#[test]
fn a_replaceable_item_of_the_largest_size_is_stored_and_one_byte_more_is_too_large() {
    let mut bench = Bench::pair();
    let ack = ItemHeader {
        keep: Keep::Replace,
        ..header(1)
    };
    let largest = REPLACEABLE_MAX_BYTES - ack.encode().len();
    let more = bench.try_post(1, sealed(&ack, largest + 1));
    assert_eq!(more, Some(Code::TooLarge));
    assert_eq!(bench.try_post(1, sealed(&ack, largest)), None);
}

#[test]
fn what_waits_for_the_disk_is_bounded_for_one_sender_and_for_all() {
    let mut bench = Bench::crowd(12);
    bench.outcome = None;
    let share = UNWRITTEN_MAX_ITEMS / MAILBOX_SENDER_PARTS;
    for n in 0..share {
        assert_eq!(bench.try_post(10, nth(10, n, 100)), None);
    }
    let more = bench.try_post(10, nth(10, share, 100));
    assert_eq!(more, Some(Code::QueueFull));
    for sender in 11..20 {
        for n in 0..share {
            assert_eq!(bench.try_post(sender.into(), nth(sender, n, 100)), None);
        }
    }
    let left = UNWRITTEN_MAX_ITEMS - 10 * share;
    for n in 0..left {
        assert_eq!(bench.try_post(20, nth(20, n, 100)), None);
    }
    let more = bench.try_post(21, nth(21, 0, 100));
    assert_eq!(more, Some(Code::QueueFull));
    bench.answer_all(Ok(()));
    assert_eq!(bench.try_post(10, nth(10, share, 100)), None);
}

#[test]
fn bytes_that_wait_for_the_disk_are_bounded_for_one_sender() {
    let mut bench = Bench::crowd(1);
    bench.outcome = None;
    let share = UNWRITTEN_MAX_BYTES / MAILBOX_SENDER_PARTS;
    assert_eq!(bench.try_post(10, nth(10, 1, share)), None);
    let elsewhere = ItemHeader {
        from: id(10),
        to: id(10),
        ..header(3)
    };
    let more = bench.try_post(10, sealed(&elsewhere, 100));
    assert_eq!(more, Some(Code::QueueFull));
}

#[test]
fn as_many_posts_as_the_burst_pass_and_one_more_does_not_until_time_has_passed() {
    let mut bench = Bench::pair();
    let post = |bench: &mut Bench, n: usize| {
        let keep = Keep::Forward;
        let item = ItemId::from_bytes((n as u128).to_be_bytes());
        let header = ItemHeader {
            keep,
            item,
            ..header(0)
        };
        bench.post(1, &header).pop()
    };
    let limited =
        |seen: &Option<Seen>| matches!(seen, Some(Seen::Refused(_, _, Code::RateLimited)));
    let burst = POSTS_BURST as usize;
    for n in 0..burst {
        assert!(!limited(&post(&mut bench, n)), "{n}");
    }
    assert!(limited(&post(&mut bench, burst)));
    bench.now += Duration::from_secs(1);
    for n in 0..POSTS_PER_SECOND as usize {
        assert!(!limited(&post(&mut bench, n)), "{n}");
    }
    assert!(limited(&post(&mut bench, 0)));
    assert_eq!(
        bench
            .post(
                2,
                &ItemHeader {
                    from: id(2),
                    to: id(1),
                    ..header(9)
                }
            )
            .len(),
        2
    );
}

#[test]
fn as_many_bytes_as_the_burst_pass_and_more_do_not_until_time_has_passed() {
    let mut bench = Bench::pair();
    let post = |bench: &mut Bench| {
        let header = ItemHeader {
            keep: Keep::Forward,
            ..header(0)
        };
        let item = sealed(&header, 1_000_000 - header.encode().len());
        bench.rules.handle_post(bench.now, ConnId(1), item);
        let last = seen(&bench.effects()).pop();
        matches!(last, Some(Seen::Refused(_, _, Code::RateLimited)))
    };
    for n in 0..POST_BYTES_BURST / 1_000_000 {
        assert!(!post(&mut bench), "{n}");
    }
    assert!(post(&mut bench));
    bench.now += Duration::from_secs(1);
    for n in 0..POST_BYTES_PER_SECOND / 1_000_000 {
        assert!(!post(&mut bench), "{n}");
    }
    assert!(post(&mut bench));
}
