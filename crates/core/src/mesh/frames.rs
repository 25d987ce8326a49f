//! What goes onto the links next.

use std::time::Instant;

use waymesh_proto::class::Class;
use waymesh_proto::frame::{FrameWriter, Section};
use waymesh_proto::ids::{Incarnation, LinkId};
use waymesh_proto::limits::{FRAME_MAX_BYTES, TOKEN_MAX_BYTES};

use super::Mesh;
use super::members::Revocations;
use crate::peer::{Peer, PeerKey};

/// Least room in which a frame is begun, bytes: all that is not a message fits.
const ROOM_MIN: usize = 8 * 1024;

/// Bytes of a frame that revocations may fill. Chosen: one of the largest fits with what is due.
const GOSSIP_MAX_BYTES: usize = TOKEN_MAX_BYTES + 1024;

/// A frame for net to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// On this link.
    pub link: LinkId,
    /// On this channel.
    pub class: Class,
    /// These bytes.
    pub bytes: Vec<u8>,
}

impl Mesh {
    /// The next frame, peers in turn. `room` gives the bytes that a link takes
    /// now; a peer without room is asked again when its link is writable or
    /// when something else happens to it.
    pub fn poll_frame(&mut self, now: Instant, room: impl Fn(LinkId) -> usize) -> Option<Outgoing> {
        while let Some(key) = self.ready.pop_front() {
            let me = self.config.incarnation;
            let peer = self.peers.get_mut(&key);
            let told = &self.revocations;
            let frame = peer.and_then(|peer| next_frame(peer, (me, told), now, &room));
            if let Some(frame) = frame {
                self.ready.push_back(key);
                return Some(frame);
            }
            self.queued.remove(&key);
            self.refresh(now, key);
        }
        None
    }

    fn refresh(&mut self, now: Instant, key: PeerKey) {
        self.account(key);
        self.set_timer(now, key);
    }
}

fn next_frame(
    peer: &mut Peer,
    (me, revocations): (Incarnation, &Revocations),
    now: Instant,
    room: &impl Fn(LinkId) -> usize,
) -> Option<Outgoing> {
    if let Some(question) = next_question(peer, me, room) {
        return Some(question);
    }
    let link = peer.link.as_mut()?;
    // While the peer may have a newer life, this link is only questioned: what
    // goes out on it now might be neither lost nor answered.
    let doubted = peer.incarnation > Some(link.incarnation);
    let data = peer.streams.next_frame().filter(|_| !doubted);
    let due = !link.said_hello
        || link.owes_word
        || link.has_question()
        || !revocations.after(link.told_revocations).is_empty()
        || peer.streams.ack_due().is_some_and(|due| due <= now);
    if data.is_none() && !due {
        return None;
    }
    let room = room(link.id).min(FRAME_MAX_BYTES);
    let wanted = data.map_or(0, |(_, len)| len).max(ROOM_MIN);
    if room < wanted.min(FRAME_MAX_BYTES) {
        return None;
    }
    let mut writer = FrameWriter::default();
    // What must be small stays small: acknowledgements keep to reliable channels.
    let data = data.filter(|(class, _)| class.is_reliable() || !due);
    let class = data.map_or(Class::Tasks, |(class, _)| class);
    if class.is_reliable() {
        link.put_head(me, &mut writer);
        while writer.len() + TOKEN_MAX_BYTES < GOSSIP_MAX_BYTES
            && let Some(revocation) = revocations.after(link.told_revocations).first()
        {
            link.told_revocations += 1;
            writer.put(&Section::Revoked(revocation.as_str().as_bytes()));
        }
        peer.streams.put_acks(&mut writer);
    }
    if data.is_some() && peer.streams.put_messages(class, &mut writer, room, now) {
        link.liveness.handle_sent(now);
        link.last_used = now;
    }
    (!writer.is_empty()).then(|| Outgoing {
        link: link.id,
        class,
        bytes: writer.into_bytes(),
    })
}

/// What is to be asked or answered on a link that is not in use: nothing else goes there.
fn next_question(
    peer: &mut Peer,
    me: Incarnation,
    room: &impl Fn(LinkId) -> usize,
) -> Option<Outgoing> {
    let trial = peer.trial.as_mut().map(|trial| &mut trial.link);
    let dormant = peer.dormant.as_mut().map(|dormant| &mut dormant.link);
    let mut links = trial.into_iter().chain(dormant);
    let link = links.find(|link| link.has_question() && room(link.id) >= ROOM_MIN)?;
    let mut writer = FrameWriter::default();
    link.put_head(me, &mut writer);
    Some(Outgoing {
        link: link.id,
        class: Class::Tasks,
        bytes: writer.into_bytes(),
    })
}
