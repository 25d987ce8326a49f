//! The keys that identities have had: whoever holds an old one can make
//! another chain of rotations, but cannot make this node forget the one that
//! it has seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waymesh_core::mesh::PEERS_MAX;
use waymesh_proto::ids::AgentId;
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
    /// When the present one was first seen, Unix time in milliseconds.
    since_ms: u64,
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
    /// remembers them.
    ///
    /// # Errors
    /// [`Distrust::OtherKeys`].
    pub(super) fn check(&self, member: &Verified, now_ms: u64) -> Result<(), Distrust> {
        let seen = self.0.read(|known| {
            let history = known.get(&member.agent_id)?;
            Some((goes_on(&history.keys, &member.keys), history.keys.len()))
        });
        match seen {
            Some((false, _)) => {
                let name = member.name.clone();
                return Err(Distrust::OtherKeys { name });
            }
            Some((true, count)) if count == member.keys.len() => {}
            None if member.keys.len() == 1 => {}
            _ => self.remember(member, now_ms),
        }
        Ok(())
    }

    /// Whether these were the member's keys at a time before it was seen to have others.
    pub(super) fn was_so(&self, member: &Verified, then_ms: u64) -> bool {
        self.0.read(|known| {
            known.get(&member.agent_id).is_some_and(|history| {
                goes_on(&member.keys, &history.keys) && then_ms <= history.since_ms
            })
        })
    }

    fn remember(&self, member: &Verified, now_ms: u64) {
        let history = History {
            keys: member.keys.clone(),
            since_ms: now_ms,
        };
        self.0.change(|known| {
            if known.len() >= HISTORIES_MAX && !known.contains_key(&member.agent_id) {
                tracing::warn!("too many members have changed their keys to remember another");
                return false;
            }
            known.insert(member.agent_id, history);
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
            assert_eq!(histories.check(&member(n, 2), 1), Ok(()));
        }
        let remembered = |n| histories.check(&member(n, 1), 2).is_err();
        assert!(remembered(0) && remembered(HISTORIES_MAX - 1));
        assert!(!remembered(HISTORIES_MAX));
        // Who is remembered may go on changing its key.
        assert_eq!(histories.check(&member(0, 3), 3), Ok(()));
        assert!(histories.check(&member(0, 2), 4).is_err());
        histories.close().await;
    }
}
