//! The mailbox of one connection: frames sealed and posted, items opened and
//! given to core.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use waymesh_core::app::{Opened, Post};
use waymesh_core::mesh::POSTS_MAX;
use waymesh_proto::control::Outcome;
use waymesh_proto::ids::{Incarnation, ItemId};
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, ITEM_MAX_BYTES};
use waymesh_proto::mailbox::{Item, ItemHeader, Note, encode_post};
use waymesh_proto::membership::SealingStatement;
use waymesh_proto::{Code, Fault};
use waymesh_trust::sealing::{self, Content, OpenError, SealingKey};

use super::own::Own;
use super::writer::Parts;
use crate::members::{Distrust, Members, member};

/// Frames that wait to be sealed; the session takes no more commands while
/// they are so many. As many as core has on their way.
const WAITING_MAX: usize = POSTS_MAX;

/// Frames that wait to be sealed: each is sealed when there is room to send
/// it, with the newest key of its receiver.
#[derive(Debug, Default)]
pub(super) struct Posts(VecDeque<Post>);

impl Posts {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < WAITING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, post: Post) {
        self.0.push_back(post);
    }

    pub(super) fn pop(&mut self) -> Option<Post> {
        self.0.pop_front()
    }

    /// Takes a frame back that nobody needs any more; false when it has left.
    pub(super) fn withdraw(&mut self, item: ItemId) -> bool {
        let before = self.0.len();
        self.0.retain(|post| post.item != item);
        self.0.len() < before
    }
}

/// Who seals: this node as its receivers are to know it.
#[derive(Debug)]
pub(super) struct Sealer<'a> {
    pub(super) own: &'a Own,
    pub(super) incarnation: Incarnation,
    pub(super) sealing: &'a SealingStatement,
    pub(super) members: &'a Members,
}

impl Sealer<'_> {
    /// Seals a frame and cuts it into messages.
    ///
    /// # Errors
    /// What core is told instead of the registry's answer.
    pub(super) fn seal(&self, post: Post, now_ms: u64) -> Result<Parts, Fault> {
        let seal_to = match self.members.seal_to(&post.to, now_ms) {
            Some(Ok(seal_to)) => seal_to,
            Some(Err(error)) => return Err(error.fault()),
            None => return Err(no_key()),
        };
        let header = ItemHeader {
            item: post.item,
            from: self.own.agent_id(),
            to: post.to,
            class: post.class,
            keep: post.keep,
            life_ms: post.life_ms,
            key: seal_to.id,
        };
        let content = Content {
            from_incarnation: self.incarnation,
            to_incarnation: post.to_incarnation,
            issued_ms: now_ms,
            certificate: self.own.certificate().clone(),
            sealing: self.sealing.clone(),
            frame: post.frame,
        };
        let (mesh, signer) = (self.own.mesh(), &self.own.keypair);
        let item = sealing::seal(&content, &header, mesh, &seal_to, signer)
            .map_err(|error| error.fault())?;
        if item.sealed.len() > ITEM_MAX_BYTES {
            let message = format!(
                "a sealed message of {} bytes is too large",
                item.sealed.len()
            );
            return Err(Fault::new(Code::MessageTooLarge, message));
        }
        Ok(encode_post(&item).collect())
    }
}

fn no_key() -> Fault {
    Fault::new(
        Code::NoSealingKey,
        "the key to seal messages to it with is not known",
    )
    .with_hint("the registry has to know the agent; it is asked again")
}

/// Opens an item that was pushed.
///
/// # Errors
/// It is not for core; [`answer`] says what the registry is told.
pub(super) fn open(
    (note, item): (Note, &Item),
    keys: &[SealingKey],
    members: &Members,
    (now, now_ms): (Instant, u64),
) -> Result<Opened, Distrust> {
    let opened = members.open_item(item, keys, now_ms)?;
    let dwell_ms = believable_dwell(note.dwell_ms, opened.content.issued_ms, now_ms);
    Ok(Opened {
        item: opened.header.item,
        from: member(&opened.sender, now, now_ms),
        from_incarnation: opened.content.from_incarnation,
        to_incarnation: opened.content.to_incarnation,
        dwell: Duration::from_millis(dwell_ms),
        again: note.again,
        frame: opened.content.frame,
    })
}

/// How long an item was on its way. The registry says it, and the sender says
/// when it sealed it; the two may differ by as much as clocks may.
fn believable_dwell(told_ms: u64, issued_ms: u64, now_ms: u64) -> u64 {
    let elapsed_ms = now_ms.saturating_sub(issued_ms);
    let least = elapsed_ms.saturating_sub(CLOCK_LEEWAY_MS);
    told_ms.clamp(least, elapsed_ms.saturating_add(CLOCK_LEEWAY_MS))
}

/// What the registry is told of an item that is not believed: its sender hears of it.
pub(super) const fn answer(distrust: &Distrust) -> Outcome {
    match distrust {
        Distrust::Revoked { .. } | Distrust::OtherKeys { .. } | Distrust::FormerKey { .. } => {
            Outcome::Denied
        }
        Distrust::Item(OpenError::NotForMe) => Outcome::Denied,
        _ => Outcome::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::class::Class;
    use waymesh_proto::ids::AgentId;
    use waymesh_proto::mailbox::Keep;

    fn post(n: usize) -> Post {
        Post {
            item: ItemId::from_bytes((n as u128).to_be_bytes()),
            to: AgentId::from_bytes([2; 32]),
            to_incarnation: None,
            class: Class::Control,
            keep: Keep::Store,
            life_ms: 1,
            frame: Vec::new(),
        }
    }

    #[test]
    fn as_many_frames_as_the_limit_wait_and_then_there_is_no_room() {
        let mut posts = Posts::default();
        for n in 0..WAITING_MAX {
            assert!(posts.has_room());
            posts.push(post(n));
        }
        assert!(!posts.has_room());
        assert!(posts.withdraw(post(3).item));
        assert!(!posts.withdraw(post(3).item));
        assert!(posts.has_room());
    }

    #[test]
    fn the_registry_cannot_say_that_an_item_is_much_older_or_younger_than_it_is() {
        const HOUR_MS: u64 = 3_600_000;
        let now_ms = 1_800_000_000_000;
        let issued_ms = now_ms - HOUR_MS;
        for (told_ms, believed_ms) in [
            (HOUR_MS, HOUR_MS),
            (0, HOUR_MS - CLOCK_LEEWAY_MS),
            (u64::MAX, HOUR_MS + CLOCK_LEEWAY_MS),
        ] {
            assert_eq!(believable_dwell(told_ms, issued_ms, now_ms), believed_ms);
        }
        assert_eq!(believable_dwell(7, now_ms + 1, now_ms), 7);
    }
}
