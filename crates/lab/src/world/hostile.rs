//! A registry that is not honest: it drops, delays, doubles, tampers with and
//! replays what it passes on, and lies about everything that nobody signs.
//!
//! It cannot forge: whatever trust would find out, the world's nodes find out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use waymesh_proto::control::{MemberRecord, Posted, PostedState, Returned, ServerMessage};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::Incarnation;
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, Note};

use crate::dice::Dice;

use super::host::host_of;
use super::registry::Down;
use super::seals::tampered;
use super::{Due, World};

/// Items that are kept to be replayed.
const VAULT_MAX: usize = 96;

/// How often it does something of its own accord, at most.
const MISCHIEF_EVERY: Duration = Duration::from_millis(250);

/// Something on its way down other than in order: where, how much later, what.
type Distorted = Vec<(u64, Duration, Down)>;

/// How often it does what, in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malice {
    /// Items are not pushed.
    pub drops: u32,
    /// Items are pushed later than others.
    pub delays: u32,
    /// Items are pushed twice.
    pub doubles: u32,
    /// Items come changed, or to somebody else.
    pub tampers: u32,
    /// `again` and the time in the mailbox are false.
    pub notes: u32,
    /// Presence and incarnations are false, or the papers are.
    pub records: u32,
    /// Answers to posts are withheld.
    pub withholds: u32,
    /// Posts are answered with `stored` and thrown away.
    pub swallows: u32,
    /// Items are said not to be delivered, and signals not to be deliverable.
    pub returns: u32,
    /// Items of old are pushed once more.
    pub replays: u32,
}

impl Malice {
    /// Draws how a registry is not honest: a few ways of many.
    pub fn draw(dice: &mut Dice) -> Self {
        let mut some = |most: u64| {
            let often = dice.one_of_thousand(400);
            if often {
                dice.between(20, most) as u32
            } else {
                0
            }
        };
        Self {
            drops: some(500),
            delays: some(600),
            doubles: some(600),
            tampers: some(200),
            notes: some(800),
            records: some(300),
            withholds: some(500),
            swallows: some(300),
            returns: some(200),
            replays: some(900),
        }
    }
}

/// The registry's other face.
#[derive(Debug)]
pub(super) struct Hostile {
    malice: Malice,
    /// Until the world heals.
    pub(super) is_acting: bool,
    vault: VecDeque<(usize, Note, Arc<Item>)>,
}

impl Hostile {
    pub(super) const fn new(malice: Malice) -> Self {
        Self {
            malice,
            is_acting: true,
            vault: VecDeque::new(),
        }
    }

    fn keep(&mut self, to: usize, note: Note, item: &Arc<Item>) {
        if self.vault.len() == VAULT_MAX {
            self.vault.pop_front();
        }
        self.vault.push_back((to, note, Arc::clone(item)));
    }
}

impl World {
    /// How it is not honest now, if it is not.
    fn malice(&self) -> Option<Malice> {
        let hostile = self.office.hostile.as_ref()?;
        hostile.is_acting.then_some(hostile.malice)
    }

    fn rolls(&mut self, times: u32) -> bool {
        let hit = times > 0 && self.dice.one_of_thousand(times);
        self.counts.lies += u64::from(hit);
        hit
    }

    /// What a node is told instead: `Ok` in its turn, `Err` otherwise.
    pub(super) fn distort(&mut self, conn: u64, down: Down) -> Result<Down, Distorted> {
        let Some(malice) = self.malice() else {
            return Ok(down);
        };
        match down {
            Down::Push(note, item) => self.distort_push(conn, note, item, &malice),
            Down::Message(ServerMessage::Posted { .. } | ServerMessage::Revoked { .. })
                if self.rolls(malice.withholds) =>
            {
                Err(Vec::new())
            }
            Down::Message(ServerMessage::Records { agents }) => {
                let agents = agents
                    .into_iter()
                    .map(|record| self.distort_record(record, &malice))
                    .collect();
                Ok(Down::Message(ServerMessage::Records { agents }))
            }
            Down::Message(ServerMessage::Introduced { agents }) => {
                let agents = agents
                    .into_iter()
                    .map(|record| self.distort_record(record, &malice))
                    .collect();
                Ok(Down::Message(ServerMessage::Introduced { agents }))
            }
            Down::Message(ServerMessage::Signal { signal }) if self.rolls(malice.returns) => {
                let message = match signal.decode_body() {
                    Ok(body) => ServerMessage::Undeliverable {
                        to: body.from,
                        session: body.session,
                        code: Code::PeerOffline,
                    },
                    Err(_) => ServerMessage::Signal { signal },
                };
                Ok(Down::Message(message))
            }
            other => Ok(other),
        }
    }

    fn distort_push(
        &mut self,
        conn: u64,
        note: Note,
        item: Arc<Item>,
        malice: &Malice,
    ) -> Result<Down, Distorted> {
        let to = self.office.conns.get(&conn).map_or(0, |c| c.life.host);
        if let Some(hostile) = &mut self.office.hostile {
            hostile.keep(to, note, &item);
        }
        if self.rolls(malice.drops) {
            return Err(Vec::new());
        }
        let note = self.distort_note(note, malice);
        let mut item = item;
        if self.rolls(malice.tampers) {
            if self.dice.one_of_thousand(500) {
                item = Arc::new(tampered(&item));
            } else {
                let conns: Vec<u64> = self.office.conns.keys().copied().collect();
                let other = *self.dice.pick(&conns);
                return Err(vec![(other, Duration::ZERO, Down::Push(note, item))]);
            }
        }
        let mut all = Vec::new();
        if self.rolls(malice.doubles) {
            let late = self.dice.below(Duration::from_secs(3));
            let again = self.distort_note(note, malice);
            all.push((conn, late, Down::Push(again, Arc::clone(&item))));
        }
        let late = if self.rolls(malice.delays) {
            self.dice.below(Duration::from_secs(2))
        } else {
            Duration::ZERO
        };
        all.push((conn, late, Down::Push(note, item)));
        Err(all)
    }

    fn distort_note(&mut self, note: Note, malice: &Malice) -> Note {
        if !self.rolls(malice.notes) {
            return note;
        }
        let dwell_ms = *self.dice.pick(&[0, 1, note.dwell_ms / 2, 5_000, 1 << 40]);
        Note {
            again: self.dice.one_of_thousand(500),
            dwell_ms,
        }
    }

    fn distort_record(&mut self, mut record: MemberRecord, malice: &Malice) -> MemberRecord {
        if !self.rolls(malice.records) {
            return record;
        }
        let agent = &mut record.agent;
        match self.dice.number_below(10) {
            0..=3 => agent.online = !agent.online,
            4..=6 => {
                let number = agent.incarnation.number();
                let lie = *self.dice.pick(&[number - 1, number + 1]);
                agent.incarnation = Incarnation::new(lie);
            }
            7..=8 => {
                let minted = format!(
                    "m.{}.1.9999999999999.9999999999999",
                    host_of(agent.agent_id)
                );
                record.certificate = minted.parse().expect("a text of the right letters");
            }
            _ => {
                let foreign = (host_of(agent.agent_id) + 1) % self.hosts.len();
                record.sealing = super::papers::sealing_statement(foreign, 0);
            }
        }
        record
    }

    /// Whether a post is thrown away; its sender may be told that it is stored,
    /// or that it came back.
    pub(super) fn swallow(&mut self, conn: u64, item: &Arc<Item>) -> bool {
        let (Some(malice), Ok(header)) = (self.malice(), ItemHeader::decode(&item.header)) else {
            return false;
        };
        let (id, keep) = (header.item, header.keep);
        if self.rolls(malice.returns) {
            let late = self.dice.below(Duration::from_secs(2));
            let code = *self
                .dice
                .pick(&[Code::Expired, Code::Unreadable, Code::Unauthorized]);
            let items = vec![Returned { item: id, code }];
            let down = Down::Message(ServerMessage::Returned { items });
            self.later(self.now + late, Due::Down { conn, down });
        }
        if keep == Keep::Forward || !self.rolls(malice.swallows) {
            return false;
        }
        let state = if self.dice.one_of_thousand(900) {
            PostedState::Stored
        } else {
            let error = Fault::new(Code::Unauthorized, "so says the registry");
            PostedState::Refused { error }
        };
        let items = vec![Posted { item: id, state }];
        self.send_down(conn, Down::Message(ServerMessage::Posted { items }));
        true
    }

    /// It does something of its own accord.
    pub(super) fn do_mischief(&mut self) {
        let Some(malice) = self.malice() else {
            return;
        };
        let next = self.dice.below(MISCHIEF_EVERY);
        self.later(self.now + next, Due::Mischief);
        if !self.rolls(malice.replays) {
            return;
        }
        let vault = self.office.hostile.as_ref().map(|hostile| &hostile.vault);
        let kept: Vec<_> = vault.into_iter().flatten().cloned().collect();
        if kept.is_empty() {
            return;
        }
        let (to, note, item) = self.dice.pick(&kept).clone();
        if let Some(conn) = self.hosts[to].session.conn {
            let note = self.distort_note(note, &malice);
            self.later(
                self.now,
                Due::Down {
                    conn,
                    down: Down::Push(note, item),
                },
            );
        }
    }
}
