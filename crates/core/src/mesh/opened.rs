//! The mailbox path, incoming: items that were pushed, opened and verified.
//!
//! Each is answered: taken, kept until the application has it, put off when
//! there is no room, or denied. What an application has consumed is marked, so
//! that it does not come again when the registry did not hear of it.

use std::time::{Duration, Instant};

use waymesh_proto::class::Stream;
use waymesh_proto::control::Outcome;
use waymesh_proto::envelope::{Envelope, Kind};
use waymesh_proto::error::Executed;
use waymesh_proto::frame::{FrameReader, Header, Section};
use waymesh_proto::ids::{AgentId, Incarnation, ItemId};
use waymesh_proto::limits::{NODE_INBOX_MAX_BYTES, TTL_MAX_MS};

use super::{Mesh, faults};
use crate::app::{Mark, Member, Opened, RegistryCommand};
use crate::peer::PeerKey;
use crate::policy::Request;
use crate::streams::Receipt;

/// How long the peer that wrote first is left to make the link. Chosen: an
/// offer is with it, or on its heels.
const HEAD_START: Duration = Duration::from_millis(500);

impl Mesh {
    pub(super) fn handle_item(&mut self, now: Instant, opened: Opened) {
        let (item, from) = (opened.item, opened.from.id);
        let Some(key) = self.admit_sender(now, &opened.from) else {
            self.counters.mail_denied += 1;
            return self.answer_item(item, from, Outcome::Denied, None);
        };
        let life = opened.from_incarnation;
        self.note_sender(now, key, life);
        let taken = self.take_frame(now, key, &opened);
        let (outcome, done) = match taken {
            Some((stream, seq, Receipt::Waits)) => {
                let peer = self.peers.get_mut(&key);
                let other = peer.and_then(|peer| peer.mail.hold(life, stream, seq, item));
                if let Some(other) = other {
                    self.answer_item(other, from, Outcome::Taken, None);
                }
                (Outcome::Kept, None)
            }
            Some((_, _, Receipt::NoRoom)) => {
                self.put_off = true;
                (Outcome::Later, None)
            }
            Some((stream, _, Receipt::Done | Receipt::DoneBefore)) => {
                (Outcome::Taken, Some(stream))
            }
            None => (Outcome::Taken, None),
        };
        let mark = done.and_then(|stream| self.mark(key, life, stream));
        self.answer_item(item, from, outcome, mark);
        self.settle(now, key);
    }

    /// The peer that a member is, if it may be heard.
    fn admit_sender(&mut self, now: Instant, from: &Member) -> Option<PeerKey> {
        let permitted = self
            .config
            .policy
            .permits(&from.name, &from.roles, Request::Contact);
        if !permitted || from.id == self.config.agent_id {
            return None;
        }
        let key = self.known_member(now, from)?;
        let peer = self.peers.get_mut(&key)?;
        peer.mail.can_seal = true;
        Some(key)
    }

    /// A life of the peer has written: a newer one than was known replaces that.
    fn note_sender(&mut self, now: Instant, key: PeerKey, life: Incarnation) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.streams.peer().is_some_and(|known| life < known) {
            return;
        }
        let offers_soon = peer.sessions.is_trying() || peer.mail.first_until.is_some();
        if peer.link.is_none() && !offers_soon {
            // From the first letter on: who keeps writing without a link needs help.
            peer.mail.yields_until.get_or_insert(now + HEAD_START);
        }
        self.note_signed_incarnation(now, key, life);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.streams.meet(life) {
            self.handle_restarted(now, key);
        }
        self.note_mail(key);
    }

    /// Takes what a frame says. Gives what became of the message in it.
    fn take_frame(
        &mut self,
        now: Instant,
        key: PeerKey,
        opened: &Opened,
    ) -> Option<(Stream, u64, Receipt)> {
        let mut message = None;
        let Ok(reader) = FrameReader::new(&opened.frame) else {
            self.counters.bad_frames += 1;
            return None;
        };
        for section in reader {
            match section {
                Ok(Section::Message(header, envelope)) if message.is_none() => {
                    let me = self.config.incarnation;
                    message = Some((aged(header, opened, me), envelope));
                }
                Ok(section @ (Section::Ack(_) | Section::Refused { .. })) => {
                    self.take_acks(now, key, opened, &section);
                }
                Ok(Section::Probe(token)) => self.echo_by_mail(now, key, token),
                Ok(Section::Echo(token)) => self.answer_mail_pings(now, key, token),
                Ok(_) | Err(_) => {
                    self.counters.bad_frames += 1;
                    break;
                }
            }
        }
        let (header, envelope) = message?;
        let peer = self.peers.get_mut(&key)?;
        let full = self.inbox_bytes + envelope.len() as u64 > NODE_INBOX_MAX_BYTES as u64;
        if full && header.stream != Stream::Replies {
            return Some((header.stream, header.seq, Receipt::NoRoom));
        }
        let life = opened.from_incarnation;
        match peer.streams.handle_mail(now, life, &header, envelope) {
            Ok(receipt) => {
                let receipt = match receipt {
                    Receipt::DoneBefore => self.disown(now, (key, life), &header, envelope),
                    Receipt::NoRoom | Receipt::Waits | Receipt::Done => receipt,
                };
                Some((header.stream, header.seq, receipt))
            }
            Err(_) => {
                self.counters.abuses += 1;
                None
            }
        }
    }

    /// A call comes again that an earlier life of this node had taken. The
    /// mailbox may have handed it to that life without the caller's knowing of
    /// which: no answer will come, and the caller hears it here. One that does
    /// not take the answers it has is told when it has taken some.
    fn disown(
        &mut self,
        now: Instant,
        from: (PeerKey, Incarnation),
        header: &Header,
        envelope: &[u8],
    ) -> Receipt {
        let Ok(envelope) = Envelope::decode(envelope) else {
            self.counters.bad_envelopes += 1;
            return Receipt::DoneBefore;
        };
        if envelope.kind != Kind::CapabilityCall {
            return Receipt::DoneBefore;
        }
        if self.owes_too_much(from.0) {
            if let Some(peer) = self.peers.get_mut(&from.0) {
                peer.has_call_put_off = true;
            }
            return Receipt::NoRoom;
        }
        let deadline = now + Duration::from_millis(header.life_ms.min(TTL_MAX_MS));
        let why = "it restarted after it had taken the call";
        let fault = faults::peer_lost(&self.config.name, why, Executed::Unknown);
        self.send_reply(now, from, (envelope.id, deadline), Err(fault));
        Receipt::DoneBefore
    }

    /// Acknowledgements count when both sides mean the same lives.
    fn take_acks(&mut self, now: Instant, key: PeerKey, opened: &Opened, section: &Section<'_>) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let same_lives = opened.to_incarnation == Some(self.config.incarnation)
            && peer.streams.peer() == Some(opened.from_incarnation);
        if same_lives && peer.streams.handle_section(now, section).is_err() {
            self.counters.abuses += 1;
        }
    }

    /// The application has a message, or will not get it: so has the mailbox's copy done its work.
    pub(super) fn release_item(
        &mut self,
        key: PeerKey,
        (life, stream, seq): (Incarnation, Stream, u64),
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (item, from) = (peer.mail.release(life, stream, seq), peer.id);
        match (item, from) {
            (Some(item), Some(from)) => {
                let mark = self.mark(key, life, stream);
                self.answer_item(item, from, Outcome::Taken, mark);
            }
            // A copy may lie in the mailbox that this life never hears of.
            _ if !self.registry_up && stream.class().is_reliable() => {
                let mark = self.mark(key, life, stream);
                let command = mark.map(RegistryCommand::Mark);
                self.registry_commands.extend(command);
            }
            _ => {}
        }
    }

    /// There is room again: what was put off may come.
    pub(super) fn resume_mail(&mut self) {
        if self.registry_up && std::mem::take(&mut self.put_off) {
            self.registry_commands.push_back(RegistryCommand::Resume);
        }
    }

    fn mark(&self, key: PeerKey, life: Incarnation, stream: Stream) -> Option<Mark> {
        let peer = self.peers.get(&key)?;
        Some(Mark {
            from: peer.id?,
            incarnation: life,
            stream,
            consumed: peer.streams.done(life, stream),
        })
    }

    /// A mark is to be written whether the registry is there to hear of it or not.
    fn answer_item(&mut self, item: ItemId, from: AgentId, outcome: Outcome, mark: Option<Mark>) {
        if self.registry_up || mark.is_some() {
            self.registry_commands.push_back(RegistryCommand::Settle {
                item,
                from,
                outcome,
                mark,
            });
        }
    }
}

/// The header as it stands after the time in the mailbox. Whoever wrote to an
/// earlier life may have reached that over a link as well.
fn aged(mut header: Header, opened: &Opened, me: Incarnation) -> Header {
    let dwell = u64::try_from(opened.dwell.as_millis()).unwrap_or(u64::MAX);
    header.life_ms = header.life_ms.saturating_sub(dwell);
    header.wait_ms = header.wait_ms.saturating_sub(dwell);
    let for_earlier = opened.to_incarnation.is_some_and(|life| life < me);
    header.redelivered |= opened.again || for_earlier;
    header
}
