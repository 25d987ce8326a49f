//! Who was revoked, for ever: kept as the authority's own statements, so that
//! they can be checked again and passed on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use waymesh_proto::control::MeshKey;
use waymesh_proto::ids::AgentId;
use waymesh_proto::membership::Revocation;
use waymesh_trust::certificate::Verified;
use waymesh_trust::revocation::{self, RevocationError, Target};

use crate::book::Book;
use crate::home::{Home, HomeError};

const FILE: &str = "revocations.json";

/// Revocations that are kept; one more makes the oldest go, which is the
/// likeliest to have outlived all certificates. Chosen.
const REVOCATIONS_MAX: usize = 16_384;

/// The revocations of one mesh.
#[derive(Debug)]
pub(super) struct Revocations {
    book: Book<Vec<Revocation>>,
    targets: Mutex<BTreeMap<Target, Revocation>>,
}

impl Revocations {
    pub(super) fn open(home: Arc<Home>) -> Result<Self, HomeError> {
        Ok(Self {
            book: Book::open(home, FILE)?,
            targets: Mutex::default(),
        })
    }

    pub(super) async fn close(self) {
        self.book.close().await;
    }

    /// Believes what earlier lives wrote down; gives it.
    pub(super) fn begin(&self, mesh: &MeshKey) -> Vec<Revocation> {
        let stored = self.book.read(Clone::clone);
        let verified = stored
            .into_iter()
            .filter_map(|known| Some((revocation::verify(&known, mesh).ok()?, known)));
        self.with(|targets| {
            targets.extend(verified);
            targets.values().cloned().collect()
        })
    }

    /// Takes one in; gives what it revokes when that was not known.
    ///
    /// # Errors
    /// It is not of this mesh.
    pub(super) fn add(
        &self,
        revocation: &Revocation,
        mesh: &MeshKey,
    ) -> Result<Option<Target>, RevocationError> {
        let target = revocation::verify(revocation, mesh)?;
        let is_new = self.with(|targets| {
            let is_new = !targets.contains_key(&target);
            targets.entry(target).or_insert_with(|| revocation.clone());
            is_new
        });
        if is_new {
            self.keep(revocation.clone());
        }
        Ok(is_new.then_some(target))
    }

    fn keep(&self, revocation: Revocation) {
        let mut oldest = None;
        self.book.change(|kept| {
            kept.push(revocation);
            if kept.len() > REVOCATIONS_MAX {
                oldest = Some(kept.remove(0));
            }
            true
        });
        if let Some(oldest) = oldest {
            tracing::warn!("more is revoked than can be remembered: the oldest is forgotten");
            self.with(|targets| targets.retain(|_, kept| *kept != oldest));
        }
    }

    /// Whether one of them ends this membership.
    pub(super) fn hit(&self, member: &Verified) -> bool {
        self.with(|targets| {
            let invited = member.invite.map(Target::Invite);
            targets.contains_key(&Target::Member(member.agent_id))
                || invited.is_some_and(|invite| targets.contains_key(&invite))
        })
    }

    /// Whether one of them is of this member.
    pub(super) fn names(&self, id: AgentId) -> bool {
        self.with(|targets| targets.contains_key(&Target::Member(id)))
    }

    fn with<R>(&self, work: impl FnOnce(&mut BTreeMap<Target, Revocation>) -> R) -> R {
        work(&mut self.targets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::ids::AgentId;
    use waymesh_trust::Keypair;

    #[tokio::test]
    async fn as_many_revocations_as_the_limit_are_kept_and_one_more_costs_the_oldest() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        let revocations = Revocations::open(home).expect("revocations");
        let mesh = Keypair::from_seed(&[9; 32]);
        let target = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            Target::Member(AgentId::from_bytes(bytes))
        };
        let add = |n: usize| {
            let revocation = revocation::revoke(&mesh, target(n), 1_000);
            let added = revocations.add(&revocation, &mesh.mesh_key());
            added.expect("of the mesh")
        };
        for n in 0..REVOCATIONS_MAX {
            assert_eq!(add(n), Some(target(n)));
        }
        assert_eq!(add(0), None);
        assert_eq!(add(REVOCATIONS_MAX), Some(target(REVOCATIONS_MAX)));
        assert_eq!(add(1), None);
        assert_eq!(add(0), Some(target(0)));
        revocations.close().await;
    }
}
