//! The keys that identities have had: whoever holds an old one can make
//! another chain of rotations, but cannot make this node forget the one that
//! it has seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waymesh_core::mesh::PEERS_MAX;
use waymesh_proto::ids::{AgentId, Incarnation};
use waymesh_trust::certificate::Verified;
use waymesh_trust::rotation::goes_on;

use super::Distrust;
use crate::book::Book;
use crate::home::{Home, HomeError};

const FILE: &str = "rotations.json";

/// Identities whose changes of key are remembered; of one more nothing is.
/// Chosen: as many as core knows peers.
const HISTORIES_MAX: usize = PEERS_MAX;

/// The keys that an identity was seen to have.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct History {
    /// From the first, which is the agent id, to the present one.
    keys: Vec<AgentId>,
    /// What is known of earlier keys; at most one a key.
    #[serde(default)]
    past: Vec<Past>,
}

/// What was heard under a key before the next one was seen. Whoever steals the
/// key later can still write under it, but not as a life that came after.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Past {
    /// How many keys there were, this one the last.
    keys: usize,
    /// The newest life that was heard under it.
    life: Incarnation,
    /// When the next key was seen, Unix time in milliseconds.
    until_ms: u64,
}

/// What keys mean that something of an earlier time was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// No earlier ones of the member: they are checked like any.
    Present,
    /// They were the member's, in a life that was heard under them.
    Held,
    /// They were the member's once; nothing says that it has signed this before it changed them.
    Unproved,
}

/// The histories of those who have changed their key. All others have one key,
/// which is their agent id.
#[derive(Debug)]
pub(super) struct Histories(Book<BTreeMap<AgentId, History>>);

impl Histories {
    pub(super) fn open(home: Arc<Home>) -> Result<Self, HomeError> {
        Book::open(home, FILE).map(Self)
    }

    pub(super) async fn close(self) {
        self.0.close().await;
    }

    /// Checks that the member's keys go on from those that were seen, and
    /// remembers them. `life_under` gives the newest life of the member that
    /// was heard while it had so many keys.
    ///
    /// # Errors
    /// [`Distrust::OtherKeys`].
    pub(super) fn check(
        &self,
        member: &Verified,
        life_under: impl FnOnce(usize) -> Option<Incarnation>,
        now_ms: u64,
    ) -> Result<(), Distrust> {
        let seen = self.0.read(|known| {
            let history = known.get(&member.agent_id)?;
            Some((goes_on(&history.keys, &member.keys), history.keys.len()))
        });
        match seen {
            Some((false, _)) => {
                let (name, id) = (member.name.clone(), member.agent_id);
                return Err(Distrust::OtherKeys { name, id });
            }
            Some((true, count)) if count == member.keys.len() => {}
            None if member.keys.len() == 1 => {}
            seen => {
                let keys = seen.map_or(1, |(_, count)| count);
                let past = life_under(keys).map(|life| Past {
                    keys,
                    life,
                    until_ms: now_ms,
                });
                self.remember(member, past);
            }
        }
        Ok(())
    }

    /// What these keys mean that the member shows with something of an earlier time.
    pub(super) fn look_back(&self, member: &Verified, life: Incarnation, then_ms: u64) -> Then {
        self.0.read(|known| {
            let Some(history) = known.get(&member.agent_id) else {
                return Then::Present;
            };
            let count = member.keys.len();
            if count >= history.keys.len() || !goes_on(&member.keys, &history.keys) {
                return Then::Present;
            }
            let held =
                |past: &Past| past.keys == count && life <= past.life && then_ms <= past.until_ms;
            match history.past.iter().any(held) {
                true => Then::Held,
                false => Then::Unproved,
            }
        })
    }

    fn remember(&self, member: &Verified, past: Option<Past>) {
        self.0.change(|known| {
            if known.len() >= HISTORIES_MAX && !known.contains_key(&member.agent_id) {
                tracing::warn!("too many members have changed their keys to remember another");
                return false;
            }
            let history = known.entry(member.agent_id).or_insert_with(|| History {
                keys: Vec::new(),
                past: Vec::new(),
            });
            history.keys.clone_from(&member.keys);
            history.past.extend(past);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::example_member;

    fn member(n: usize, keys: usize) -> Verified {
        let id = |n: usize, key: usize| {
            let mut bytes = [u8::try_from(key).expect("few"); 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            AgentId::from_bytes(bytes)
        };
        let keys: Vec<_> = (0..keys).map(|key| id(n, key)).collect();
        Verified {
            agent_id: keys[0],
            keys,
            ..example_member()
        }
    }

    #[tokio::test]
    async fn as_many_histories_as_the_limit_are_remembered_and_none_is_given_up_for_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        let histories = Histories::open(home).expect("histories");
        for n in 0..=HISTORIES_MAX {
            assert_eq!(histories.check(&member(n, 2), |_| None, 1), Ok(()));
        }
        let remembered = |n| histories.check(&member(n, 1), |_| None, 2).is_err();
        assert!(remembered(0) && remembered(HISTORIES_MAX - 1));
        assert!(!remembered(HISTORIES_MAX));
        // Who is remembered may go on changing its key.
        assert_eq!(histories.check(&member(0, 3), |_| None, 3), Ok(()));
        assert!(histories.check(&member(0, 2), |_| None, 4).is_err());
        histories.close().await;
    }
}
