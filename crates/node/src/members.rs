//! What this node knows of the other members of its mesh.
//!
//! A certificate proves who somebody is; three memories say whether that still
//! counts: who was revoked, which keys an identity has had, and the newest key
//! to seal messages with. The registry's link asks before core hears of
//! anybody, and the driver when a peer passes a revocation on, so it is shared
//! between the two.

mod acquaintances;
mod distrust;
mod histories;
mod lives;
mod revocations;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use waymesh_core::app::{Member, RegistryEvent};
use waymesh_proto::control::{MemberRecord, MeshKey};
use waymesh_proto::ids::AgentId;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::mailbox::Item;
use waymesh_proto::membership::Revocation;
use waymesh_proto::signaling::{SignalBody, SignedSignal};
use waymesh_proto::{Code, Fault};
use waymesh_trust::certificate::{Cache, Verified};
use waymesh_trust::revocation::{RevocationError, Target};
use waymesh_trust::sealing::{self, Opened, SealError, SealTo, SealingKey};
use waymesh_trust::{directory, signal};

use crate::home::{Home, HomeError};
use acquaintances::Acquaintances;
pub(crate) use distrust::Distrust;
use histories::{Histories, Then};
use lives::Lives;
use revocations::Revocations;

/// What is known of the members of one mesh.
#[derive(Debug)]
pub(crate) struct Members {
    me: AgentId,
    mesh: OnceLock<MeshKey>,
    revocations: Revocations,
    histories: Histories,
    lives: Lives,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    cache: Cache,
    known: Acquaintances,
    /// This node's own membership.
    own: Option<Verified>,
}

impl Members {
    /// Reads what earlier lives learnt. Without a mesh nobody is believed.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub(crate) fn open(home: &Arc<Home>) -> Result<Self, HomeError> {
        Ok(Self {
            me: home.agent_id(),
            mesh: OnceLock::new(),
            revocations: Revocations::open(Arc::clone(home))?,
            histories: Histories::open(Arc::clone(home))?,
            lives: Lives::open(Arc::clone(home))?,
            memory: Mutex::default(),
        })
    }

    /// Says which mesh it is; the first word counts. Gives what earlier lives
    /// knew of revocations in it.
    pub(crate) fn begin(&self, mesh: MeshKey) -> Vec<Revocation> {
        match self.mesh.set(mesh) {
            Ok(()) => self.revocations.begin(&mesh),
            Err(_) => Vec::new(),
        }
    }

    /// Says who this node is itself.
    pub(crate) fn set_own(&self, own: &Verified) {
        self.with(|memory| memory.own = Some(own.clone()));
    }

    /// What this node's membership is, if it has one.
    pub(crate) fn own(&self) -> Option<Verified> {
        self.with(|memory| memory.own.clone())
    }

    /// Waits until everything that was learnt is written.
    pub(crate) async fn close(self) {
        self.revocations.close().await;
        self.histories.close().await;
        self.lives.close().await;
    }

    /// Checks a record of the registry's directory and learns from it; gives
    /// the newest certificate of the member that is known by then.
    ///
    /// # Errors
    /// A [`Distrust`]: core must not hear of it. What is only wrong with the
    /// sealing key is told when something is to be sealed.
    pub(crate) fn meet(
        &self,
        record: &MemberRecord,
        now_ms: u64,
    ) -> Result<Arc<Verified>, Distrust> {
        let mesh = self.mesh()?;
        let entry =
            self.with(|memory| directory::verify(record, mesh, now_ms, &mut memory.cache))?;
        if let Err(error @ (SealError::Forged { .. } | SealError::Malformed { .. })) = entry.sealing
        {
            return Err(error.into());
        }
        self.check(&entry.member, now_ms)?;
        Ok(self.with(|memory| memory.known.meet(entry.member, entry.sealing)))
    }

    /// Checks a signal that the registry passed on; gives the newest
    /// certificate of the sender that is known.
    ///
    /// # Errors
    /// A [`Distrust`]: it is to be dropped.
    pub(crate) fn verify_signal(
        &self,
        signal: &SignedSignal,
        now_ms: u64,
    ) -> Result<(SignalBody, Arc<Verified>), Distrust> {
        let mesh = self.mesh()?;
        let (body, sender) =
            self.with(|memory| signal::verify(signal, &self.me, mesh, now_ms, &mut memory.cache))?;
        self.check(&sender, now_ms)?;
        self.lives.hear(&sender, body.from_incarnation);
        Ok((body, self.with(|memory| memory.known.note(sender))))
    }

    /// Opens an item of the mailbox and learns from it. As the sender's it
    /// gives the newest certificate that is known: the one inside may be as old
    /// as the item.
    ///
    /// # Errors
    /// A [`Distrust`]: it is to be refused.
    pub(crate) fn open_item(
        &self,
        item: &Item,
        keys: &[SealingKey],
        now_ms: u64,
    ) -> Result<Opened, Distrust> {
        let mesh = self.mesh()?;
        let opened = self
            .with(|memory| sealing::open(item, mesh, keys, &self.me, now_ms, &mut memory.cache))?;
        self.check_revoked(&opened.sender)?;
        let (sender, seal_to) = (Arc::clone(&opened.sender), opened.seal_to);
        let life = opened.content.from_incarnation;
        // A letter that was written before the sender changed its key may
        // arrive after everybody knows the new one. The time in it is the
        // writer's word, who may have stolen the old key since; the lives that
        // were heard under that key are not.
        let then = self
            .histories
            .look_back(&sender, life, opened.content.issued_ms);
        match then {
            Then::Held => {}
            Then::Present => self.check_keys(&sender, now_ms)?,
            Then::Unproved => {
                let name = sender.name.clone();
                return Err(Distrust::FormerKey { name });
            }
        }
        self.lives.hear(&sender, life);
        let sender = self.with(|memory| memory.known.meet(sender, Ok(seal_to)));
        Ok(Opened { sender, ..opened })
    }

    /// The key to seal messages to a member with, or why there is none; of
    /// whom was revoked there is none any more.
    pub(crate) fn seal_to(&self, to: &AgentId, now_ms: u64) -> Option<Result<SealTo, Distrust>> {
        let (member, seal_to) =
            self.with(|memory| (memory.known.member(to), memory.known.seal_to(to, now_ms)));
        if let Err(revoked) = self.check_revoked(member.as_deref()?) {
            return Some(Err(revoked));
        }
        seal_to.map(|seal_to| seal_to.map_err(Distrust::from))
    }

    /// Checks a revocation and keeps it; gives what core must hear when it was
    /// not known before.
    ///
    /// # Errors
    /// It is not of this mesh, and means nothing.
    pub(crate) fn handle_revocation(
        &self,
        revocation: &Revocation,
    ) -> Result<Option<RegistryEvent>, RevocationError> {
        let Some(mesh) = self.mesh.get() else {
            return Ok(None);
        };
        let target = self.revocations.add(revocation, mesh)?;
        Ok(target.map(|target| self.revoked(vec![(target, revocation.clone())])))
    }

    /// Checks that this node itself is still a member.
    ///
    /// # Errors
    /// `revoked`.
    pub(crate) fn check_own(&self) -> Result<(), Fault> {
        let own = self.with(|memory| memory.own.clone());
        if own.is_some_and(|own| self.revocations.hit(&own)) {
            return Err(Fault::new(Code::Revoked, "this node was revoked").with_hint(
                "an admin has taken its membership back; to come back, use a new --data-dir and a new invite",
            ));
        }
        Ok(())
    }

    /// Whether a member was revoked itself: its name is free for another.
    pub(crate) fn is_revoked(&self, id: AgentId) -> bool {
        self.revocations.names(id)
    }

    fn revoked(&self, new: Vec<(Target, Revocation)>) -> RegistryEvent {
        let by_invite = |member: &Verified| self.revocations.hit(member);
        let mut ids = self.with(|memory| {
            let mut ids = memory.known.filter(by_invite);
            let own = memory.own.as_ref().filter(|own| by_invite(own));
            ids.extend(own.map(|own| own.agent_id));
            ids
        });
        let named = new.iter().filter_map(|(target, _)| match target {
            Target::Member(id) => Some(*id),
            Target::Invite(_) => None,
        });
        ids.extend(named);
        ids.sort_unstable();
        ids.dedup();
        let revocations = new.into_iter().map(|(_, revocation)| revocation).collect();
        RegistryEvent::Revoked { ids, revocations }
    }

    fn check(&self, member: &Verified, now_ms: u64) -> Result<(), Distrust> {
        self.check_revoked(member)?;
        self.check_keys(member, now_ms)
    }

    fn check_keys(&self, member: &Verified, now_ms: u64) -> Result<(), Distrust> {
        let life_under = |keys| self.lives.under(&member.agent_id, keys);
        self.histories.check(member, life_under, now_ms)
    }

    fn check_revoked(&self, member: &Verified) -> Result<(), Distrust> {
        if self.revocations.hit(member) {
            let (name, id) = (member.name.clone(), member.agent_id);
            return Err(Distrust::Revoked { name, id });
        }
        Ok(())
    }

    fn mesh(&self) -> Result<&MeshKey, Distrust> {
        self.mesh.get().ok_or(Distrust::NoMesh)
    }

    fn with<R>(&self, work: impl FnOnce(&mut Memory) -> R) -> R {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A member as core knows it.
pub(crate) fn member(verified: &Verified, now: Instant, now_ms: u64) -> Member {
    Member {
        name: verified.name.clone(),
        id: verified.agent_id,
        roles: verified.roles.clone(),
        expires: ends(verified, now, now_ms),
    }
}

/// When a membership ends, leeway for clocks included.
pub(crate) fn ends(verified: &Verified, now: Instant, now_ms: u64) -> Instant {
    let end_ms = verified.expires_ms.saturating_add(CLOCK_LEEWAY_MS);
    now + Duration::from_millis(end_ms.saturating_sub(now_ms))
}
