//! Random histories of the mailboxes: nothing is lost, nothing is given twice
//! on one connection unless it was put off, and everything comes in order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use waymesh_proto::control::{Outcome, PostedState, Settle};
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, Note};
use waymesh_proto::{Class, ItemId, KeyId};

use super::*;

const AGENTS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    Connect {
        agent: u8,
    },
    Leave {
        agent: u8,
    },
    Post {
        from: u8,
        to: u8,
        item: u8,
        keep: Keep,
        life_ms: u64,
    },
    Settle {
        agent: u8,
        from: u8,
        item: u8,
        outcome: Outcome,
    },
    Resume {
        agent: u8,
    },
    Withdraw {
        agent: u8,
        item: u8,
    },
    Pass {
        ms: u64,
    },
    Disk {
        works: bool,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let agent = || 0..AGENTS;
    let item = || 0u8..8;
    let keep = prop_oneof![
        4 => Just(Keep::Store),
        1 => Just(Keep::Replace),
        1 => Just(Keep::Forward),
    ];
    let outcome = prop_oneof![
        3 => Just(Outcome::Taken),
        2 => Just(Outcome::Kept),
        2 => Just(Outcome::Later),
        1 => Just(Outcome::Unreadable),
        1 => Just(Outcome::Denied),
    ];
    prop_oneof![
        3 => agent().prop_map(|agent| Step::Connect { agent }),
        1 => agent().prop_map(|agent| Step::Leave { agent }),
        8 => (agent(), agent(), item(), keep, 1u64..20_000).prop_map(|(from, to, item, keep, life_ms)| Step::Post { from, to, item, keep, life_ms }),
        6 => (agent(), agent(), item(), outcome).prop_map(|(agent, from, item, outcome)| Step::Settle { agent, from, item, outcome }),
        1 => agent().prop_map(|agent| Step::Resume { agent }),
        1 => (agent(), item()).prop_map(|(agent, item)| Step::Withdraw { agent, item }),
        2 => (0u64..4_000).prop_map(|ms| Step::Pass { ms }),
        4 => prop::bool::weighted(0.8).prop_map(|works| Step::Disk { works }),
        1 => Just(Step::Restart),
    ]
}

/// One accepted item: its bytes name it, whatever its id.
#[derive(Debug, Clone)]
struct Copy {
    seq: ItemSeq,
    key: (AgentId, ItemId),
    to: u8,
    keep: Keep,
    is_durable: bool,
    is_unreadable: bool,
    pushed_on: BTreeSet<u64>,
}

/// What one connection was pushed.
#[derive(Debug, Default)]
struct View {
    pushes: BTreeMap<u32, usize>,
    /// How often each was put off.
    put_off: BTreeMap<u32, usize>,
    last_first_push: u32,
}

struct History {
    bench: Bench,
    next_conn: u64,
    next_copy: u32,
    online: BTreeMap<u8, u64>,
    held: BTreeMap<u32, Copy>,
    views: BTreeMap<u64, View>,
    /// Posts that wait for their answer.
    unanswered: BTreeSet<(u64, ItemId)>,
}

fn item_id(item: u8) -> ItemId {
    ItemId::from_bytes([item; 16])
}

/// The number that the bytes of an item name it by.
fn copy_of(item: &Item) -> u32 {
    let bytes = item.sealed.first_chunk().expect("four bytes");
    u32::from_be_bytes(*bytes)
}

impl History {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.loads = Some(Vec::new());
        let mut history = Self {
            bench,
            next_conn: 0,
            next_copy: 1,
            online: BTreeMap::new(),
            held: BTreeMap::new(),
            views: BTreeMap::new(),
            unanswered: BTreeSet::new(),
        };
        for agent in 0..AGENTS {
            history.connect(agent);
        }
        history.bench.outcome = None;
        history
    }

    fn connect(&mut self, agent: u8) {
        let conn = self.next_conn;
        self.next_conn += 1;
        // Slowly enough for the limit of logins.
        self.bench.now += LOGIN_EVERY;
        if let Some(old) = self.online.insert(agent, conn) {
            self.forget(old);
        }
        self.views.insert(conn, View::default());
        let effects = self
            .bench
            .connect(conn, login(&format!("n{agent}"), agent, 1));
        self.see(&effects);
    }

    fn forget(&mut self, conn: u64) {
        self.views.remove(&conn);
        self.unanswered.retain(|(c, _)| *c != conn);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Connect { agent } => self.connect(agent),
            Step::Leave { agent } => {
                if let Some(conn) = self.online.remove(&agent) {
                    self.forget(conn);
                    let effects = self.bench.close(conn);
                    self.see(&effects);
                }
            }
            Step::Post {
                from,
                to,
                item,
                keep,
                life_ms,
            } => self.post(from, to, item, keep, life_ms),
            Step::Settle {
                agent,
                from,
                item,
                outcome,
            } => self.settle(agent, from, item, outcome),
            Step::Resume { agent } => self.say(agent, ClientMessage::Resume),
            Step::Withdraw { agent, item } => {
                let item = item_id(item);
                self.say(agent, ClientMessage::Withdraw { item });
            }
            Step::Pass { ms } => {
                let conns: Vec<u64> = self.online.values().copied().collect();
                let time = Duration::from_millis(ms);
                let effects = self.bench.pass_alive(time, &conns);
                self.see(&effects);
            }
            Step::Disk { works } => self.disk(works),
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn say(&mut self, agent: u8, message: ClientMessage) {
        if let Some(conn) = self.online.get(&agent) {
            let effects = self.bench.say(*conn, message);
            self.see(&effects);
        }
    }

    fn post(&mut self, from: u8, to: u8, item: u8, keep: Keep, life_ms: u64) {
        let Some(conn) = self.online.get(&from).copied() else {
            return;
        };
        let header = ItemHeader {
            item: item_id(item),
            from: id(from),
            to: id(to),
            class: Class::Tasks,
            keep,
            life_ms,
            key: KeyId::from_bytes([0; 16]),
        };
        let item = Item {
            header: header.encode(),
            sealed: self.next_copy.to_be_bytes().to_vec(),
        };
        self.next_copy += 1;
        self.unanswered.insert((conn, header.item));
        self.bench
            .rules
            .handle_post(self.bench.now, ConnId(conn), Arc::new(item));
        let effects = self.bench.effects();
        self.see(&effects);
    }

    fn settle(&mut self, agent: u8, from: u8, item: u8, outcome: Outcome) {
        let Some(conn) = self.online.get(&agent).copied() else {
            return;
        };
        let settle = Settle {
            item: item_id(item),
            from: id(from),
            outcome,
        };
        if outcome == Outcome::Later
            && let Some(view) = self.views.get_mut(&conn)
        {
            let meant = |copy: &Copy| copy.key == (settle.from, settle.item);
            for (number, _) in self.held.iter().filter(|(_, copy)| meant(copy)) {
                *view.put_off.entry(*number).or_default() += 1;
            }
        }
        if outcome == Outcome::Unreadable {
            let mut copies = self.held.values_mut();
            let meant = |copy: &&mut Copy| copy.key == (id(from), item_id(item));
            if let Some(copy) = copies.find(meant).filter(|copy| copy.to == agent) {
                copy.is_unreadable = true;
            }
        }
        let items = vec![settle];
        self.say(agent, ClientMessage::Settled { items });
    }

    fn disk(&mut self, works: bool) {
        let full = Fault::new(Code::Storage, "the disk is full");
        let outcome = if works { Ok(()) } else { Err(full) };
        let seqs: Vec<ItemSeq> = self
            .bench
            .waiting
            .iter()
            .flat_map(|(writes, _)| writes)
            .filter_map(|write| match write {
                Write::Item { stored, .. } => Some(stored.seq),
                _ => None,
            })
            .collect();
        for seq in seqs {
            if works {
                let mut copies = self.held.values_mut();
                if let Some(copy) = copies.find(|copy| copy.seq == seq) {
                    copy.is_durable = true;
                }
            } else {
                self.held.retain(|_, copy| copy.seq != seq);
            }
        }
        let effects = self.bench.work(outcome);
        self.see(&effects);
        assert_eq!(self.unanswered, BTreeSet::new(), "nobody answers");
    }

    fn restart(&mut self) {
        self.bench.restart();
        self.held.retain(|_, copy| copy.is_durable);
        for copy in self.held.values_mut() {
            copy.is_unreadable = false;
        }
        self.online.clear();
        self.views.clear();
        self.unanswered.clear();
    }

    fn see(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Store { writes, .. } => {
                    for write in writes {
                        self.see_write(write);
                    }
                }
                Effect::Push { conn, note, item } => self.see_push(conn.0, *note, item),
                Effect::Forward {
                    to,
                    from,
                    forwarded,
                    ..
                } => {
                    assert!(self.views.contains_key(&to.0));
                    self.see_message(from.0, forwarded);
                }
                Effect::Send { to, message } => {
                    for conn in to {
                        self.see_message(conn.0, message);
                    }
                }
                _ => {}
            }
        }
    }

    fn see_write(&mut self, write: &Write) {
        match write {
            Write::Item { stored, item } => {
                let copy = Copy {
                    seq: stored.seq,
                    key: (stored.header.from, stored.header.item),
                    to: stored.header.to.as_bytes()[0],
                    keep: stored.header.keep,
                    is_durable: false,
                    is_unreadable: false,
                    pushed_on: BTreeSet::new(),
                };
                let old = self.held.insert(copy_of(item), copy);
                assert!(old.is_none(), "accepted twice");
            }
            Write::ForgetItem { seq, .. } => {
                let before = self.held.len();
                self.held.retain(|_, copy| copy.seq != *seq);
                assert_eq!(self.held.len() + 1, before, "{seq:?} goes twice");
            }
            _ => {}
        }
    }

    fn see_push(&mut self, conn: u64, note: Note, item: &Item) {
        let number = copy_of(item);
        let view = self.views.get_mut(&conn).expect("pushed to nobody");
        let copy = self.held.get_mut(&number).expect("pushed what is gone");
        assert_eq!(self.online.get(&copy.to), Some(&conn), "to a wrong agent");
        assert!(!copy.is_unreadable, "pushed to whoever cannot open it");
        let pushes = view.pushes.entry(number).or_default();
        *pushes += 1;
        let may = 1 + view.put_off.get(&number).copied().unwrap_or_default();
        assert!(*pushes <= may, "pushed again on the same connection");
        if *pushes == 1 && may == 1 && copy.keep == Keep::Store {
            assert!(number > view.last_first_push, "out of order");
            view.last_first_push = number;
        }
        let before = copy.pushed_on.iter().any(|other| *other != conn);
        assert_eq!(
            note.again, before,
            "{number} on {conn}: {:?}",
            copy.pushed_on
        );
        copy.pushed_on.insert(conn);
    }

    fn see_message(&mut self, conn: u64, message: &ServerMessage) {
        assert!(
            self.views.contains_key(&conn),
            "told on a closed connection"
        );
        if let ServerMessage::Posted { items } = message {
            for posted in items {
                self.unanswered.remove(&(conn, posted.item));
                if posted.state == PostedState::Stored {
                    let stored = self.bench.disk.stored().items;
                    // What was replaced is durable in what is in its place.
                    let is_there = |item: &StoredItem| {
                        item.header.item == posted.item || item.header.keep == Keep::Replace
                    };
                    assert!(stored.iter().any(is_there), "not stored at all");
                }
            }
        }
    }

    /// The rules hold exactly what was accepted and has not gone.
    fn check(&self) {
        assert_eq!(self.bench.rules.mailbox_level().items, self.held.len());
    }

    /// Whoever comes is given everything that waits for it.
    fn finish(mut self) {
        self.disk(true);
        for agent in 0..AGENTS {
            self.connect(agent);
        }
        self.disk(true);
        for copy in self.held.values() {
            let conn = self.online[&copy.to];
            let is_pushed = copy.is_unreadable || copy.pushed_on.contains(&conn);
            assert!(is_pushed, "never pushed: {copy:?}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_nor_given_twice_in_any_history(steps in prop::collection::vec(step(), 0..120)) {
        let mut history = History::new();
        for step in steps {
            history.run(step);
        }
        history.finish();
    }
}
