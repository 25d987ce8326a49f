//! Random histories of logins, closes, watches and silence against a small model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Login { name: u8, key: u8, incarnation: u64 },
    WatchAll { at: usize },
    Resolve { at: usize, name: u8 },
    Skills { at: usize, count: usize },
    Signal { at: usize, to: u8 },
    Close { at: usize },
    Silence,
    BrokenDisk,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0usize..8;
    prop_oneof![
        4 => (0u8..4, 0u8..4, 0u64..4).prop_map(|(name, key, incarnation)| Step::Login { name, key, incarnation }),
        1 => at.clone().prop_map(|at| Step::WatchAll { at }),
        2 => (at.clone(), 0u8..4).prop_map(|(at, name)| Step::Resolve { at, name }),
        2 => (at.clone(), 0usize..3).prop_map(|(at, count)| Step::Skills { at, count }),
        2 => (at.clone(), 0u8..4).prop_map(|(at, to)| Step::Signal { at, to }),
        2 => at.prop_map(|at| Step::Close { at }),
        1 => Just(Step::Silence),
        1 => Just(Step::BrokenDisk),
    ]
}

/// What an onlooker can tell from the effects alone.
#[derive(Default)]
struct Onlooker {
    open: BTreeMap<u64, VerifiedLogin>,
    welcomed: BTreeMap<u64, VerifiedLogin>,
    owners: BTreeMap<Name, AgentId>,
    /// What each watch-all connection was told last of each name.
    views: BTreeMap<u64, BTreeMap<Name, AgentRecord>>,
}

impl Onlooker {
    fn see(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Relay { to, from, .. } => {
                    assert!(self.welcomed.contains_key(&to.0));
                    assert!(self.welcomed.contains_key(&from.0));
                }
                Effect::Welcome { conn } => self.welcome(conn.0),
                Effect::Close { conn, .. } => self.end(conn.0),
                Effect::Send { to, message } => {
                    for conn in to {
                        assert!(
                            self.open.contains_key(&conn.0),
                            "sent to a closed connection"
                        );
                        self.tell(conn.0, message);
                    }
                }
                Effect::AwaitRoom { conn } => assert!(self.open.contains_key(&conn.0)),
                Effect::Ping { conn } => assert!(self.welcomed.contains_key(&conn.0)),
                _ => {}
            }
        }
    }

    fn welcome(&mut self, conn: u64) {
        let login = self.open[&conn].clone();
        let owner = self
            .owners
            .entry(login.name.clone())
            .or_insert(login.agent_id);
        assert_eq!(*owner, login.agent_id, "a name went to another key");
        for other in self.welcomed.values() {
            assert_ne!(other.agent_id, login.agent_id, "two speak for one agent");
        }
        self.welcomed.insert(conn, login);
    }

    fn tell(&mut self, conn: u64, message: &ServerMessage) {
        let view = self.views.get_mut(&conn);
        if let (ServerMessage::Records { agents }, Some(view)) = (message, view) {
            for record in agents {
                view.insert(record.agent.name.clone(), record.agent.clone());
            }
        }
    }

    fn end(&mut self, conn: u64) {
        self.open.remove(&conn);
        self.welcomed.remove(&conn);
        self.views.remove(&conn);
    }
}

struct History {
    bench: Bench,
    onlooker: Onlooker,
    next_conn: u64,
}

impl History {
    fn nth_open(&self, at: usize) -> Option<u64> {
        self.onlooker.open.keys().nth(at).copied()
    }

    fn say(&mut self, at: usize, message: ClientMessage) {
        if let Some(conn) = self.nth_open(at) {
            let effects = self.bench.say(conn, message);
            self.onlooker.see(&effects);
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Login {
                name,
                key,
                incarnation,
            } => {
                let conn = self.next_conn;
                self.next_conn += 1;
                let login = login(&format!("n{name}"), key, incarnation);
                self.onlooker.open.insert(conn, login.clone());
                let effects = self.bench.connect(conn, login);
                self.onlooker.see(&effects);
            }
            Step::WatchAll { at } => {
                if let Some(conn) = self.nth_open(at) {
                    self.onlooker.views.entry(conn).or_default();
                }
                self.say(at, ClientMessage::WatchAll);
            }
            Step::Resolve { at, name } => self.say(at, resolve(&format!("n{name}"))),
            Step::Skills { at, count } => {
                let skills = (0..count).map(|n| skill(&format!("s{n}"))).collect();
                self.say(at, ClientMessage::Skills { skills });
            }
            Step::Signal { at, to } => {
                let from = self
                    .nth_open(at)
                    .map(|conn| self.onlooker.open[&conn].agent_id);
                if let Some(from) = from {
                    let signal = signal(from.as_bytes()[0], to);
                    self.say(at, ClientMessage::Signal { signal });
                }
            }
            Step::Close { at } => {
                if let Some(conn) = self.nth_open(at) {
                    self.onlooker.end(conn);
                    let effects = self.bench.close(conn);
                    self.onlooker.see(&effects);
                }
            }
            Step::Silence => {
                let effects = self.bench.pass(Duration::from_secs(4));
                self.onlooker.see(&effects);
            }
            Step::BrokenDisk => {
                self.bench.outcome = match self.bench.outcome {
                    Some(Ok(())) => Some(Err(Fault::new(Code::Storage, "broken"))),
                    _ => Some(Ok(())),
                };
            }
        }
    }

    /// The directory says what the onlooker saw, and so does every watcher's view.
    fn check(&self) {
        let found = self.bench.found();
        for record in &found {
            let seen = self
                .onlooker
                .welcomed
                .values()
                .any(|l| l.name == record.name && l.incarnation == record.incarnation);
            assert_eq!(record.online, seen, "{record:?}");
        }
        let (open, online) = self.bench.rules.connection_counts();
        assert_eq!(open, self.onlooker.open.len());
        assert_eq!(online, self.onlooker.welcomed.len());
        for view in self.onlooker.views.values() {
            assert_eq!(view.values().cloned().collect::<Vec<_>>(), found);
        }
    }
}

proptest! {
    #[test]
    fn names_presence_and_views_agree_after_every_history(steps in prop::collection::vec(step(), 0..60)) {
        let mut history = History { bench: Bench::new(), onlooker: Onlooker::default(), next_conn: 0 };
        for step in steps {
            history.run(step);
            history.check();
        }
    }
}
