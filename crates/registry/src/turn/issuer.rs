//! Who gets which credentials for the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waymesh_net::turn::server::{Mark, RelaySecret};
use waymesh_proto::AgentId;
use waymesh_proto::ice::Credential;

/// Makes the credentials of members. Clones know of the same removals.
///
/// What a member had before it was removed works never again: those who were
/// removed get credentials with a mark ([`Mark`]), which is another one after
/// every removal and every start.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    secret: RelaySecret,
    /// Of everybody who was ever removed: the mesh remembers them for ever, too.
    marks: Arc<Mutex<HashMap<AgentId, Mark>>>,
}

impl Issuer {
    /// `removed` are those whose earlier credentials count no more.
    pub(crate) fn new(secret: RelaySecret, removed: impl IntoIterator<Item = AgentId>) -> Self {
        let marked = removed.into_iter().map(|id| (id, fresh()));
        Self {
            secret,
            marks: Arc::new(Mutex::new(marked.collect())),
        }
    }

    /// User name and password of a member, good until `expires` (since 1970).
    pub(crate) fn issue(&self, member: &AgentId, expires: Duration) -> (String, Credential) {
        let mark = self.marks().get(member).copied();
        match mark {
            Some(mark) => self.secret.issue_marked(member, mark, expires),
            None => self.secret.issue(member, expires),
        }
    }

    /// Gives a member another mark: what it has got until now is not to be taken.
    pub(super) fn remove(&self, member: AgentId) -> Mark {
        let mark = fresh();
        self.marks().insert(member, mark);
        mark
    }

    /// All that are removed, each with what its credentials must carry.
    pub(super) fn removed(&self) -> Vec<(AgentId, Mark)> {
        self.marks().iter().map(|(id, mark)| (*id, *mark)).collect()
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<AgentId, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh() -> Mark {
    Mark::new(rand::random())
}
