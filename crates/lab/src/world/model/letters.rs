//! Messages: what became of each, as its sender and its receivers were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_core::app::ClientId;
use waymesh_core::inbound::{WINDOW_MAX_BYTES, WINDOW_MAX_MESSAGES};
use waymesh_core::outbound::VERDICT_GRACE;
use waymesh_proto::api::SendState;
use waymesh_proto::class::Class;
use waymesh_proto::error::Fault;
use waymesh_proto::ids::MessageId;

use super::super::report::{Checked, Counts, Invariant, Violation, hold};
use super::super::workload::content;
use super::{Life, Lives, SLACK};

/// Lifetimes travel in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// One message.
#[derive(Debug)]
pub struct Letter {
    /// Who sent it.
    pub from: Life,
    /// The client that waits for what becomes of it.
    pub client: ClientId,
    /// To which host.
    pub to: usize,
    /// In which class.
    pub class: Class,
    /// How many bytes.
    pub bytes: usize,
    /// When it was sent.
    pub sent: Instant,
    /// When its life ends.
    pub expires: Instant,
    /// What it ended as, and when.
    pub ended: Option<(SendState, Instant)>,
    /// The receiver's life that is the first that can have it.
    pub only_for: Option<Life>,
    tag: u64,
    index: usize,
    queued: bool,
    stored: bool,
    /// The client left: nobody is told any more.
    unwatched: bool,
    given: Vec<Given>,
    acked: BTreeSet<u32>,
}

#[derive(Debug)]
struct Given {
    life: u32,
    to: ClientId,
}

/// The messages of one life of a sender to one host in one class.
type StreamKey = (Life, usize, Class);

/// All messages.
#[derive(Debug, Default)]
pub struct Letters {
    all: BTreeMap<MessageId, Letter>,
    streams: BTreeMap<StreamKey, Vec<MessageId>>,
    /// The highest index that a life of a receiver was given.
    highest: BTreeMap<(StreamKey, u32), usize>,
    /// The last index that a reader was given.
    last: BTreeMap<(StreamKey, ClientId), usize>,
    redelivered: u64,
    gaps: u64,
    /// The registry is hostile: what only it can know may be false.
    pub is_doubtful: bool,
}

/// What else is known of a message whose sender is told something.
#[derive(Debug, Clone, Copy, Default)]
pub struct Story {
    /// Papers or policies of the two hosts explain a refusal.
    pub may_refuse: bool,
    /// The registry gave it back, so that it may have been stored again.
    pub came_back: bool,
}

/// What a client was told of one arrival.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The message.
    pub id: MessageId,
    /// Who has got it.
    pub at: Life,
    /// The client that got it.
    pub client: ClientId,
    /// The host that is said to have sent it.
    pub from: usize,
    /// The class that it is said to have come in.
    pub class: Class,
    /// Whether it was marked.
    pub redelivered: bool,
    /// Whether the mailbox may have handed it out before, where nobody has got it.
    pub was_pushed_before: bool,
    /// What it carries.
    pub bytes: &'a [u8],
}

impl Letters {
    /// A client sends; `tag` seeds the content.
    pub fn handle_sent(&mut self, id: MessageId, mut letter: Letter, tag: u64) {
        let stream = self
            .streams
            .entry((letter.from, letter.to, letter.class))
            .or_default();
        letter.tag = tag;
        letter.index = stream.len();
        stream.push(id);
        self.all.insert(id, letter);
    }

    /// A client left: what becomes of its messages is told to nobody.
    pub fn handle_client_gone(&mut self, client: ClientId) {
        for letter in self
            .all
            .values_mut()
            .filter(|letter| letter.client == client)
        {
            letter.unwatched = true;
        }
    }

    /// A sender was told of a message.
    pub fn handle_state(
        &mut self,
        now: Instant,
        id: MessageId,
        state: SendState,
        fault: Option<&Fault>,
        Story {
            may_refuse,
            came_back,
        }: Story,
    ) -> Checked {
        let Some(letter) = self.all.get_mut(&id) else {
            return Err(Violation::new(
                Invariant::OneFinalState,
                format!("{state:?} of {id}, which nobody sent"),
            ));
        };
        hold!(
            !letter.unwatched,
            OneFinalState,
            "{state:?} of {id} was told to a client that left"
        );
        hold!(
            letter.ended.is_none(),
            OneFinalState,
            "{id} was {:?} and is {state:?} now",
            letter.ended
        );
        if !state.is_final() {
            let first = match state {
                SendState::Stored => !std::mem::replace(&mut letter.stored, true) || came_back,
                _ => !std::mem::replace(&mut letter.queued, true) && !letter.stored,
            };
            hold!(
                first && letter.queued,
                OneFinalState,
                "{id} is {state:?} for the second time, or too early"
            );
            return Ok(());
        }
        hold!(
            letter.class.is_reliable() || !letter.queued,
            OneFinalState,
            "{id} of a lossy class was told {state:?}"
        );
        hold!(
            now <= letter.latest_end(),
            EndsInTime,
            "{id} became {state:?} too late"
        );
        let got = !letter.acked.is_empty();
        match state {
            SendState::Delivered => {
                hold!(
                    got,
                    DeliveredIsTrue,
                    "{id} in {:?} is told as delivered, but no application acknowledged it",
                    letter.class
                );
            }
            SendState::Expired | SendState::Refused => {
                let at_once = now == letter.sent;
                hold!(
                    state == SendState::Expired || at_once || may_refuse || self.is_doubtful,
                    RefusedIsTrue,
                    "{id} in {:?} is refused without a cause: {fault:?}",
                    letter.class
                );
                hold!(
                    !got || self.is_doubtful,
                    NotDeliveredIsTrue,
                    "{id} in {:?} is told as {state:?} ({fault:?}), but an application acknowledged it",
                    letter.class
                );
            }
            SendState::Queued | SendState::Stored | SendState::Unconfirmed => {}
        }
        letter.ended = Some((state, now));
        Ok(())
    }

    /// An application got a message.
    pub fn handle_given(&mut self, now: Instant, lives: &Lives, arrival: &Arrival<'_>) -> Checked {
        let (id, at) = (arrival.id, arrival.at);
        let Some(letter) = self.all.get(&id) else {
            return Err(Violation::new(
                Invariant::Integrity,
                format!("{id} arrived and nobody sent it"),
            ));
        };
        hold!(
            letter.to == at.host
                && letter.from.host == arrival.from
                && letter.class == arrival.class,
            Integrity,
            "{id} arrived as another: {arrival:?} instead of {letter:?}"
        );
        hold!(
            arrival.bytes == content(letter.tag, letter.bytes),
            Integrity,
            "the content of {id} changed on the way"
        );
        self.check_once(letter, arrival)?;
        self.check_mark(letter, arrival)?;
        if letter.class.is_ordered() {
            self.check_order(now, lives, arrival)?;
        }
        self.redelivered += u64::from(arrival.redelivered);
        let Some(letter) = self.all.get_mut(&id) else {
            return Ok(());
        };
        letter.given.push(Given {
            life: at.number,
            to: arrival.client,
        });
        Ok(())
    }

    fn check_once(&self, letter: &Letter, arrival: &Arrival<'_>) -> Checked {
        let (id, at) = (arrival.id, arrival.at);
        let twice = letter
            .given
            .iter()
            .any(|g| g.life == at.number && g.to == arrival.client);
        hold!(
            !twice,
            AtMostOnce,
            "{id} in {:?} came to the same reader twice",
            letter.class
        );
        hold!(
            !letter.acked.contains(&at.number),
            AtMostOnce,
            "{id} in {:?} came again after this life had acknowledged it",
            letter.class
        );
        Ok(())
    }

    fn check_mark(&self, letter: &Letter, arrival: &Arrival<'_>) -> Checked {
        let (id, at) = (arrival.id, arrival.at);
        if self.is_doubtful {
            return Ok(());
        }
        let earlier = !letter.given.is_empty();
        if earlier {
            hold!(
                arrival.redelivered || !letter.class.is_reliable(),
                RedeliveredIsSet,
                "{id} in {:?} came again without its mark",
                letter.class
            );
        } else if letter.only_for == Some(at) && !arrival.was_pushed_before {
            hold!(
                !arrival.redelivered,
                RedeliveredIsTrue,
                "{id} is marked, but no earlier life of the receiver can have had it"
            );
        }
        Ok(())
    }

    fn check_order(&mut self, now: Instant, lives: &Lives, arrival: &Arrival<'_>) -> Checked {
        let (id, at) = (arrival.id, arrival.at);
        let Some(letter) = self.all.get(&id) else {
            return Ok(());
        };
        let stream = (letter.from, letter.to, letter.class);
        let last = self.last.insert((stream, arrival.client), letter.index);
        hold!(
            last.is_none_or(|last| last < letter.index),
            Order,
            "{id} is number {} in {:?} and came after number {last:?}",
            letter.index,
            letter.class
        );
        let again = letter.given.iter().any(|g| g.life == at.number);
        if again {
            return Ok(());
        }
        let highest = self.highest.get(&(stream, at.number)).copied();
        hold!(
            highest.is_none_or(|highest| highest < letter.index),
            Order,
            "{id} is number {} in {:?} and came after number {highest:?}",
            letter.index,
            letter.class
        );
        if letter.class.is_reliable() && lives.is_alive(letter.from) && !self.is_doubtful {
            let skipped = highest.map_or(0, |highest| highest + 1)..letter.index;
            let ids = self
                .streams
                .get(&stream)
                .and_then(|ids| ids.get(skipped))
                .unwrap_or_default();
            for skipped in ids {
                let older = &self.all[skipped];
                let lives_on = older.queued
                    && !older.unwatched
                    && older.ended.is_none()
                    // An earlier life that has it may have left its mark.
                    && older.acked.is_empty()
                    && older.expires > now + ROUNDING;
                hold!(
                    !lives_on,
                    Overtaken,
                    "{id} (number {}) overtook {skipped} (number {}) in {:?}, which lives for another {:?}",
                    letter.index,
                    older.index,
                    letter.class,
                    older.expires - now
                );
            }
        }
        self.highest.insert((stream, at.number), letter.index);
        Ok(())
    }

    /// An application acknowledged a message.
    pub fn handle_acked(&mut self, id: MessageId, at: Life) {
        if let Some(letter) = self.all.get_mut(&id) {
            letter.acked.insert(at.number);
        }
    }

    /// A reader was told that messages were skipped.
    pub fn handle_gap(&mut self, missing: u64) -> Checked {
        hold!(missing > 0, Overtaken, "a gap of nothing was told");
        self.gaps += 1;
        Ok(())
    }

    /// What must hold a while after everything is well: `arrives` says whether
    /// what one host sends is acknowledged by the other. What lives longer than
    /// `bound` is delivered, and what waited for the world to be well has ended
    /// within `back`.
    pub fn check_settled(
        &self,
        now: Instant,
        well_since: Instant,
        (bound, back): (Duration, Duration),
        lives: &Lives,
        arrives: impl Fn(usize, usize) -> bool,
    ) -> Checked {
        for (id, letter) in &self.all {
            if !letter.is_watched(lives) {
                continue;
            }
            hold!(
                letter.ended.is_some() || now <= letter.latest_end(),
                EndsInTime,
                "nobody was told what became of {id} in {:?}",
                letter.class
            );
            let lived_long_enough =
                letter.expires > well_since + bound && letter.sent + bound < now;
            let can_arrive =
                lives.current(letter.to).is_some() && arrives(letter.from.host, letter.to);
            // Whatever a hostile registry made its sender believe, it was told.
            let gave_up =
                self.is_doubtful && (letter.ended.is_some() || self.waits_for_another(id));
            let delivered = matches!(letter.ended, Some((SendState::Delivered, _)));
            hold!(
                delivered || !lived_long_enough || !can_arrive || !letter.queued || gave_up,
                Delivered,
                "{id} of {} bytes from {:?} to {} in {:?} is {:?} although everything is well; given {:?}",
                letter.bytes,
                letter.from,
                letter.to,
                letter.class,
                letter.ended,
                letter.given
            );
            let late = letter.ended.is_some_and(|(_, at)| at > well_since + back);
            // What a hostile registry said was stored waits for the next link.
            let believed = self.is_doubtful && letter.stored;
            let waited = letter.sent < well_since && letter.queued && letter.class.is_reliable();
            let waited = waited && !believed;
            hold!(
                !late || !waited || !lived_long_enough || !can_arrive,
                TrafficReturns,
                "{id} from {:?} to {} in {:?} waited until {:?} after everything was well",
                letter.from,
                letter.to,
                letter.class,
                letter.ended.map(|(_, at)| at - well_since)
            );
        }
        Ok(())
    }

    /// Whether a life has messages that nobody knows the end of.
    pub fn has_open(&self, from: Life) -> bool {
        let open = |letter: &Letter| {
            letter.from == from && letter.class.is_reliable() && letter.ended.is_none()
        };
        self.all.values().any(open)
    }

    /// Whether messages to a host may wait there or elsewhere.
    pub fn has_open_to(&self, to: usize) -> bool {
        self.all
            .values()
            .any(|letter| letter.to == to && letter.class.is_reliable() && letter.ended.is_none())
    }

    /// Whether what a life sent to a host in a class, and what has not ended,
    /// may fill the window of the class.
    pub fn may_block(&self, from: Life, to: usize, class: Class) -> bool {
        let ids = self.streams.get(&(from, to, class));
        let open = ids
            .into_iter()
            .flatten()
            .map(|id| &self.all[id])
            .filter(|letter| letter.ended.is_none());
        let (count, bytes) = open.fold((0, 0), |(count, bytes), letter| {
            (count + 1, bytes + letter.bytes)
        });
        count as u64 >= WINDOW_MAX_MESSAGES / 2 || bytes as u64 >= WINDOW_MAX_BYTES / 2
    }

    /// Whether an application has acknowledged the message in any life.
    pub fn was_acked(&self, id: &MessageId) -> bool {
        self.all
            .get(id)
            .is_some_and(|letter| !letter.acked.is_empty())
    }

    /// Whether a message of an ordered class waits for an earlier one, which
    /// may have died with its sender: not for ever, but for the life of that.
    pub fn waits_for_another(&self, id: &MessageId) -> bool {
        let Some(letter) = self.all.get(id).filter(|l| l.class.is_ordered()) else {
            return false;
        };
        let stream = (letter.from, letter.to, letter.class);
        let earlier = self.streams.get(&stream).into_iter().flatten();
        let earlier = earlier.take(letter.index);
        earlier.map(|id| &self.all[id]).any(|l| l.acked.is_empty())
    }

    /// The message.
    pub fn get(&self, id: &MessageId) -> Option<&Letter> {
        self.all.get(id)
    }

    /// Whether the message ended as delivered.
    pub fn is_delivered(&self, id: &MessageId) -> bool {
        matches!(
            self.all.get(id).and_then(|l| l.ended),
            Some((SendState::Delivered, _))
        )
    }

    /// Sent is what has ended, what is queued and what died with its node.
    pub fn check_conserved(&self, lives: &Lives) -> Checked {
        for (id, letter) in &self.all {
            let told = letter.queued
                || letter.ended.is_some()
                || letter.unwatched
                || !lives.is_alive(letter.from);
            hold!(
                told,
                Conservation,
                "{id} was sent and its sender heard nothing at all"
            );
        }
        Ok(())
    }

    /// Adds what happened to the counts.
    pub fn count(&self, counts: &mut Counts) {
        counts.sent += self.all.len() as u64;
        counts.redelivered += self.redelivered;
        counts.gaps += self.gaps;
        for letter in self.all.values() {
            match letter.ended {
                Some((SendState::Delivered, _)) => counts.delivered += 1,
                Some((SendState::Expired, _)) => counts.expired += 1,
                Some((SendState::Refused, _)) => counts.refused += 1,
                Some((SendState::Unconfirmed, _)) => counts.unconfirmed += 1,
                Some((SendState::Queued | SendState::Stored, _)) | None => {}
            }
            counts.told_stored += u64::from(letter.stored);
        }
    }
}

impl Letter {
    /// A message that a client is about to send.
    pub fn new(
        from: Life,
        client: ClientId,
        to: usize,
        (class, bytes): (Class, usize),
        sent: Instant,
        ttl: Duration,
    ) -> Self {
        Self {
            from,
            client,
            to,
            class,
            bytes,
            sent,
            expires: sent + ttl,
            ended: None,
            only_for: None,
            tag: 0,
            index: 0,
            queued: false,
            stored: false,
            unwatched: false,
            given: Vec::new(),
            acked: BTreeSet::new(),
        }
    }

    fn latest_end(&self) -> Instant {
        self.expires + VERDICT_GRACE + SLACK
    }

    fn is_watched(&self, lives: &Lives) -> bool {
        self.class.is_reliable() && !self.unwatched && lives.is_alive(self.from)
    }
}
