//! The newest life that each member was heard as, and under which of its keys:
//! what it has signed counts, not what a registry says.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymesh_core::mesh::PEERS_MAX;
use waymesh_proto::ids::Incarnation;
use waymesh_trust::certificate::Verified;

use crate::book::Book;
use crate::home::{Home, HomeError};

use super::AgentId;

const FILE: &str = "lives.json";

/// Members whose lives are remembered; of one more nothing is, which costs it
/// what it has written just before it changes its key. As many as core knows peers.
const LIVES_MAX: usize = PEERS_MAX;

/// How many keys a member had, and its newest life then.
type Heard = (usize, Incarnation);

#[derive(Debug)]
pub(super) struct Lives(Book<BTreeMap<AgentId, Heard>>);

impl Lives {
    pub(super) fn open(home: Arc<Home>) -> Result<Self, HomeError> {
        Book::open(home, FILE).map(Self)
    }

    pub(super) async fn close(self) {
        self.0.close().await;
    }

    /// A member has signed something as this life.
    pub(super) fn hear(&self, member: &Verified, life: Incarnation) {
        let (id, heard) = (member.agent_id, (member.keys.len(), life));
        self.0.change(|known| {
            let is_new = match known.get(&id) {
                Some(newest) => *newest < heard,
                None => known.len() < LIVES_MAX,
            };
            if is_new {
                known.insert(id, heard);
            }
            is_new
        });
    }

    /// The newest life of a member while it had so many keys.
    pub(super) fn under(&self, id: &AgentId, keys: usize) -> Option<Incarnation> {
        let (had, life) = self.0.read(|known| known.get(id).copied())?;
        (had == keys).then_some(life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::example_member;

    #[tokio::test]
    async fn as_many_lives_as_the_limit_are_remembered_and_none_is_given_up_for_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        let lives = Lives::open(home).expect("lives");
        let member = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            Verified {
                agent_id: AgentId::from_bytes(bytes),
                ..example_member()
            }
        };
        for n in 0..=LIVES_MAX {
            lives.hear(&member(n), Incarnation::new(1));
        }
        lives.hear(&member(0), Incarnation::new(2));
        let newest = |n| lives.under(&member(n).agent_id, 1);
        assert_eq!(newest(0), Some(Incarnation::new(2)));
        assert_eq!(newest(LIVES_MAX - 1), Some(Incarnation::new(1)));
        assert_eq!(newest(LIVES_MAX), None);
        lives.close().await;
    }
}
