//! Items of the mailbox: what the registry was given, what its disk has had,
//! and whether it had a reason to forget.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_core::app::Mark;
use waymesh_core::registry::Gone;
use waymesh_proto::class::Stream;
use waymesh_proto::control::Outcome;
use waymesh_proto::envelope::{Envelope, Kind};
use waymesh_proto::frame::{FrameReader, Section};
use waymesh_proto::ids::{ItemId, MessageId};
use waymesh_proto::mailbox::Keep;
use waymesh_proto::seqset::SeqSet;

use super::super::host::{host_of, life_number};
use super::super::report::{Checked, Invariant, Violation, hold};
use super::super::seals::Seal;
use super::Life;

/// What names an item: the host of its sender, and the id.
pub type MailKey = (usize, ItemId);

/// A stream of a sender's life, as marks name it.
type MarkKey = (Life, Stream);

/// Lives travel in whole milliseconds, and so does the time in the mailbox.
const ROUNDING: Duration = Duration::from_millis(5);

/// A message in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside {
    /// The message.
    pub id: MessageId,
    /// Whether it is for the inbox, and no call, answer or cancel.
    pub is_letter: bool,
    stream: Stream,
    seq: u64,
}

/// One item.
#[derive(Debug)]
pub struct Mail {
    /// Who posted it.
    pub from: Life,
    /// For which host.
    pub to: usize,
    /// What the registry is to do with it.
    pub keep: Keep,
    /// The message in it, if it carries one.
    pub inside: Option<Inside>,
    /// When it was posted first.
    pub posted: Instant,
    /// When its life ends.
    pub expires: Instant,
    /// Whether the registry's disk has had it.
    pub is_durable: bool,
    /// Why the registry has forgotten it.
    pub gone: Option<Gone>,
    /// Whether the registry says that it will not be delivered.
    pub is_returned: bool,
    /// The life of the receiver that its sender was in touch with.
    meant: Option<u32>,
    withdrawn: bool,
    said: Vec<Outcome>,
    /// Lives and connections of the receiver that it was pushed to.
    pushed: BTreeSet<(u32, u64)>,
}

/// All items.
#[derive(Debug, Default)]
pub struct Mails {
    all: BTreeMap<MailKey, Mail>,
    by_message: BTreeMap<MessageId, MailKey>,
}

impl Mails {
    /// A node posts an item, maybe once more.
    pub(in super::super) fn handle_posted(&mut self, now: Instant, seal: &Seal) {
        let header = &seal.header;
        let key = (seal.from.host, header.item);
        let expires = now + Duration::from_millis(header.life_ms);
        if let Some(known) = self.all.get_mut(&key) {
            // What was forgotten or given back may be posted anew.
            known.expires = known.expires.max(expires);
            known.withdrawn = false;
            known.meant = known.meant.min(seal.to_incarnation.map(life_number));
            known.gone = None;
            return;
        }
        let inside = message_in(&seal.frame);
        if let Some(inside) = inside {
            self.by_message.insert(inside.id, key);
        }
        let mail = Mail {
            from: seal.from,
            to: host_of(header.to),
            keep: header.keep,
            inside,
            posted: now,
            expires,
            is_durable: false,
            gone: None,
            is_returned: false,
            meant: seal.to_incarnation.map(life_number),
            withdrawn: false,
            said: Vec::new(),
            pushed: BTreeSet::new(),
        };
        self.all.insert(key, mail);
    }

    /// The registry's disk has an item.
    pub fn handle_durable(&mut self, key: MailKey) {
        if let Some(mail) = self.all.get_mut(&key) {
            mail.is_durable = true;
        }
    }

    /// Whether the registry's disk has had an item, or one in its place.
    pub fn was_durable(&self, key: MailKey) -> bool {
        let mail = self.all.get(&key);
        mail.is_some_and(|mail| mail.is_durable || mail.keep == Keep::Replace)
    }

    /// The registry pushes an item on a connection.
    pub fn handle_pushed(&mut self, key: MailKey, at: Life, conn: u64) {
        if let Some(mail) = self.all.get_mut(&key) {
            mail.pushed.insert((at.number, conn));
        }
    }

    /// Whether the registry gave a message back.
    pub fn was_returned(&self, id: &MessageId) -> bool {
        let mail = self.by_message.get(id).and_then(|key| self.all.get(key));
        mail.is_some_and(|mail| mail.is_returned)
    }

    /// A receiver says what became of an item.
    pub fn handle_said(&mut self, key: MailKey, outcome: Outcome) {
        if let Some(mail) = self.all.get_mut(&key) {
            mail.said.push(outcome);
        }
    }

    /// A sender does not need an item delivered any more.
    pub fn handle_withdrawn(&mut self, key: MailKey) {
        if let Some(mail) = self.all.get_mut(&key) {
            mail.withdrawn = true;
        }
    }

    /// The registry tells a sender that an item will not be delivered.
    pub fn handle_returned(&mut self, key: MailKey) {
        if let Some(mail) = self.all.get_mut(&key) {
            mail.is_returned = true;
        }
    }

    /// The registry forgets an item.
    ///
    /// # Errors
    ///
    /// It had no reason to.
    pub fn handle_gone(
        &mut self,
        now: Instant,
        key: MailKey,
        why: Gone,
        is_revoked: impl Fn(usize) -> bool,
    ) -> Checked {
        let Some(mail) = self.all.get_mut(&key) else {
            return Err(Violation::new(
                Invariant::StoredStays,
                format!(
                    "the registry forgets an item of host {} that nobody posted",
                    key.0
                ),
            ));
        };
        let has_reason = match why {
            Gone::Taken => mail.said.contains(&Outcome::Taken),
            Gone::Refused => mail
                .said
                .iter()
                .any(|said| matches!(said, Outcome::Unreadable | Outcome::Denied)),
            Gone::Expired => now + ROUNDING >= mail.expires,
            Gone::Withdrawn => mail.withdrawn,
            Gone::Replaced => mail.keep == Keep::Replace,
            Gone::Revoked => is_revoked(mail.from.host) || is_revoked(mail.to),
            Gone::Damaged => false,
        };
        hold!(
            has_reason,
            StoredStays,
            "the registry forgets an item ({why:?}) without a reason: {mail:?}"
        );
        mail.gone = Some(why);
        Ok(())
    }

    /// Whether a message may have come to an earlier life of its receiver, as far
    /// as this one can know: by mailbox, maybe on a connection that it did not
    /// survive, or over the link that its sender had to the earlier life.
    pub fn was_pushed_before(&self, id: &MessageId, at: Life) -> bool {
        let mail = self.by_message.get(id).and_then(|key| self.all.get(key));
        mail.is_some_and(|mail| {
            mail.pushed.len() > 1 || mail.meant.is_some_and(|meant| meant < at.number)
        })
    }

    /// Whether a message was ever posted.
    pub fn was_posted(&self, id: &MessageId) -> bool {
        self.by_message.contains_key(id)
    }

    /// Whether a receiver denied or could not open an item with the message.
    pub fn was_refused(&self, id: &MessageId) -> bool {
        let mail = self.by_message.get(id).and_then(|key| self.all.get(key));
        mail.is_some_and(|mail| {
            mail.said
                .iter()
                .any(|said| matches!(said, Outcome::Unreadable | Outcome::Denied))
        })
    }

    /// Whether a message lies where these marks say that it is done with.
    pub fn is_marked(&self, id: &MessageId, marks: &KnownMarks) -> bool {
        let mail = self.by_message.get(id).and_then(|key| self.all.get(key));
        let inside = mail.and_then(|mail| Some((mail.from, mail.inside?)));
        inside.is_some_and(|(from, inside)| marks.contains(from, inside.stream, inside.seq))
    }

    /// All items, by their keys.
    pub fn all(&self) -> impl Iterator<Item = (&MailKey, &Mail)> {
        self.all.iter()
    }

    /// One item.
    pub fn get(&self, key: &MailKey) -> Option<&Mail> {
        self.all.get(key)
    }
}

impl Mail {
    /// Whether its receiver could not open it.
    pub fn was_unreadable(&self) -> bool {
        self.said.contains(&Outcome::Unreadable)
    }

    /// Whether its sender has taken it back, or its receiver would not have it.
    pub fn is_unwanted(&self) -> bool {
        let refused = |said: &Outcome| matches!(said, Outcome::Unreadable | Outcome::Denied);
        self.withdrawn || self.said.iter().any(refused)
    }
}

/// The marks that a life of a host began with.
#[derive(Debug, Default)]
pub struct KnownMarks(BTreeMap<MarkKey, SeqSet>);

impl KnownMarks {
    /// Of the marks that core is told.
    pub fn new(marks: &[Mark]) -> Self {
        let entry = |mark: &Mark| {
            let life = Life {
                host: host_of(mark.from),
                number: life_number(mark.incarnation),
            };
            ((life, mark.stream), mark.consumed.clone())
        };
        Self(marks.iter().map(entry).collect())
    }

    fn contains(&self, from: Life, stream: Stream, seq: u64) -> bool {
        let set = self.0.get(&(from, stream));
        set.is_some_and(|set| set.contains(seq))
    }
}

/// The message that a frame of the mailbox carries.
fn message_in(frame: &[u8]) -> Option<Inside> {
    for section in FrameReader::new(frame).ok()? {
        if let Ok(Section::Message(header, envelope)) = section {
            let envelope = Envelope::decode(envelope).ok()?;
            return Some(Inside {
                id: envelope.id,
                is_letter: envelope.kind == Kind::Message,
                stream: header.stream,
                seq: header.seq,
            });
        }
    }
    None
}
