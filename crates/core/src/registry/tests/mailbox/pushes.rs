//! What is pushed again, what waits, and in which order.

use super::*;

fn pushed(effects: &[Seen]) -> Vec<u8> {
    let pushed = effects.iter().filter_map(|seen| match seen {
        Seen::Pushed(_, item, _) => Some(*item),
        _ => None,
    });
    pushed.collect()
}

#[test]
fn what_is_not_settled_is_pushed_again_on_the_next_connection_and_says_so() {
    let mut bench = Bench::pair();
    for item in [1, 2, 3] {
        bench.post(1, &header(item));
    }
    bench.settle(2, &[2], Outcome::Taken);
    bench.settle(2, &[3], Outcome::Kept);
    let again = Note {
        again: true,
        dwell_ms: 0,
    };
    let effects = seen(&bench.connect(3, login("b", 2, 2)));
    let expected = [Seen::Pushed(3, 1, again), Seen::Pushed(3, 3, again)];
    assert_eq!(effects, expected);
}

#[test]
fn whether_an_item_was_pushed_is_remembered_over_a_restart() {
    let mut bench = Bench::pair();
    bench.post(1, &header(1));
    bench.close(2);
    bench.post(1, &header(2));
    bench.restart();
    let effects = seen(&bench.connect(2, login("b", 2, 1)));
    let notes: Vec<_> = effects
        .iter()
        .map(|seen| match seen {
            Seen::Pushed(_, item, note) => (*item, note.again),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(notes, [(1, true), (2, false)]);
}

#[test]
fn what_was_put_off_comes_again_after_a_resume_as_what_it_was_and_not_before() {
    let mut bench = Bench::pair();
    for item in [1, 2] {
        bench.post(1, &header(item));
    }
    bench.settle(2, &[1, 2], Outcome::Later);
    assert_eq!(pushed(&bench.post(1, &header(3))), [3]);
    let effects = seen(&bench.say(2, ClientMessage::Resume));
    let expected = [Seen::Pushed(2, 1, FRESH), Seen::Pushed(2, 2, FRESH)];
    assert_eq!(effects, expected);
    assert_eq!(seen(&bench.say(2, ClientMessage::Resume)), []);
}

#[test]
fn one_item_that_is_put_off_again_holds_back_all_that_were_put_off_before() {
    let mut bench = Bench::pair();
    let count = u8::try_from(PUSH_WINDOW_ITEMS).expect("small") + 20;
    for item in 0..count {
        bench.post(1, &header(item));
        bench.settle(2, &[item], Outcome::Later);
    }
    let first = pushed(&seen(&bench.say(2, ClientMessage::Resume)));
    assert_eq!(first.len(), PUSH_WINDOW_ITEMS);
    assert_eq!(bench.settle(2, &first[..1], Outcome::Later), []);
    let more = bench.settle(2, &first[1..], Outcome::Taken);
    assert_eq!(more, []);
    let rest = pushed(&seen(&bench.say(2, ClientMessage::Resume)));
    assert_eq!(rest.len(), 21);
}

#[test]
fn a_window_of_items_is_pushed_and_one_more_waits_until_one_is_settled() {
    let mut bench = Bench::pair();
    let window = u8::try_from(PUSH_WINDOW_ITEMS).expect("small");
    for item in 0..window {
        assert_eq!(pushed(&bench.post(1, &header(item))), [item]);
    }
    assert_eq!(pushed(&bench.post(1, &header(window))), [0; 0]);
    assert_eq!(pushed(&bench.settle(2, &[3], Outcome::Kept)), [window]);
}

#[test]
fn a_window_of_bytes_is_pushed_and_one_more_waits_until_some_are_settled() {
    let mut bench = Bench::pair();
    let half = |item: u8, more: usize| {
        let header = header(item);
        sealed(
            &header,
            PUSH_WINDOW_BYTES / 2 - header.encode().len() + more,
        )
    };
    let mut post = |item: Arc<Item>| {
        bench.rules.handle_post(bench.now, ConnId(1), item);
        pushed(&seen(&bench.effects()))
    };
    assert_eq!(post(half(1, 0)), [1]);
    assert_eq!(post(half(2, 0)), [2]);
    assert_eq!(post(sealed(&header(3), 1)), [0; 0]);
    assert_eq!(pushed(&bench.settle(2, &[1], Outcome::Taken)), [3]);
}

#[test]
fn items_wait_behind_earlier_ones_that_have_to_be_read_first() {
    let mut bench = Bench::pair();
    bench.close(2);
    bench.post(1, &header(1));
    bench.open(3);
    bench
        .rules
        .handle_login(bench.now, ConnId(3), login("b", 2, 1));
    let mut loads = Vec::new();
    let item = sealed(&header(2), 1);
    bench.rules.handle_post(bench.now, ConnId(1), item);
    while let Some(effect) = bench.rules.poll_effect() {
        match effect {
            Effect::Load { conn, seq } => loads.push((conn, seq)),
            Effect::Push { .. } => panic!("it has overtaken"),
            Effect::Store { writes, ticket } => bench.store(writes, ticket),
            _ => {}
        }
    }
    for (conn, seq) in loads {
        let item = bench.disk.item(seq);
        bench.rules.handle_loaded(bench.now, conn, seq, item);
    }
    assert_eq!(pushed(&seen(&bench.effects())), [1, 2]);
}

#[test]
fn an_item_that_is_settled_while_it_is_read_is_not_pushed_any_more() {
    let mut bench = Bench::pair();
    bench.post(1, &header(7));
    bench.open(3);
    bench
        .rules
        .handle_login(bench.now, ConnId(3), login("b", 2, 1));
    let mut load = None;
    while let Some(effect) = bench.rules.poll_effect() {
        if let Effect::Load { conn, seq } = effect {
            load = Some((conn, seq));
        }
    }
    let (conn, seq) = load.expect("a load");
    let item = bench.disk.item(seq);
    assert_eq!(bench.settle(3, &[7], Outcome::Taken), []);
    bench.rules.handle_loaded(bench.now, conn, seq, item);
    assert_eq!(seen(&bench.effects()), []);
}

#[test]
fn as_many_settled_items_as_the_limit_are_heard_and_one_more_is_too_large() {
    let mut bench = Bench::pair();
    let settled = |count: usize| {
        let settle = Settle {
            item: ItemId::from_bytes([0; 16]),
            from: id(1),
            outcome: Outcome::Taken,
        };
        ClientMessage::Settled {
            items: vec![settle; count],
        }
    };
    let limit = waymesh_proto::control::SETTLED_MAX;
    assert_eq!(error_of(&bench.say(2, settled(limit)), 2), None);
    let effects = bench.say(2, settled(limit + 1));
    assert_eq!(error_of(&effects, 2), Some(Code::TooLarge));
}
