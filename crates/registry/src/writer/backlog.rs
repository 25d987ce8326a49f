//! What waits for the disk, without what need not be written any more.
//!
//! Its size is bounded: items by the rules
//! ([`waymesh_core::registry::UNWRITTEN_MAX_ITEMS`]), agents by the number of
//! names, since a newer state takes the place of an older one, loads by the
//! push windows, and everything else by what is remembered at all.

use std::collections::{BTreeMap, VecDeque};

use waymesh_core::registry::{ConnId, ItemSeq, Ticket, Write};
use waymesh_proto::Name;

/// Writes that belong together, and who waits for them.
#[derive(Debug)]
struct Group {
    writes: Vec<Write>,
    ticket: Option<Ticket>,
}

/// Everything that was handed over and not taken.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    groups: Vec<Group>,
    /// Where the item waits, alone in its group.
    items: BTreeMap<ItemSeq, usize>,
    /// Where the last word on a name waits, if nobody waits for it.
    agents: BTreeMap<Name, usize>,
    loads: VecDeque<(ConnId, ItemSeq)>,
}

/// What the thread does next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// All that is to be written, in order.
    pub(super) writes: Vec<Write>,
    /// Which of them nobody waits for.
    unawaited: Vec<usize>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) loads: Vec<(ConnId, ItemSeq)>,
}

impl Batch {
    /// The writes that nobody waits for.
    pub(super) fn unawaited(&self) -> impl Iterator<Item = &Write> {
        self.unawaited.iter().filter_map(|at| self.writes.get(*at))
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.loads.is_empty()
    }

    pub(super) fn load(&mut self, conn: ConnId, seq: ItemSeq) {
        self.loads.push_back((conn, seq));
    }

    pub(super) fn store(&mut self, writes: Vec<Write>, ticket: Option<Ticket>) {
        let at = self.groups.len();
        let is_awaited = ticket.is_some();
        let mut kept = Vec::with_capacity(writes.len());
        for write in writes {
            kept.extend(self.merge(at, write, is_awaited));
        }
        let writes = kept;
        if is_awaited || !writes.is_empty() {
            self.groups.push(Group { writes, ticket });
        }
    }

    /// Lets a write change what waits already; gives it back if it must wait too.
    fn merge(&mut self, at: usize, write: Write, is_awaited: bool) -> Option<Write> {
        match write {
            Write::Item { stored, item } => {
                self.items.insert(stored.seq, at);
                return Some(Write::Item { stored, item });
            }
            Write::Pushed(seq) => {
                let group = self.items.get(&seq).and_then(|at| self.groups.get_mut(*at));
                if let Some(Write::Item { stored, .. }) = group.and_then(|g| g.writes.first_mut()) {
                    stored.pushed = true;
                    return None;
                }
            }
            Write::ForgetItem { seq, .. } => {
                if let Some(group) = self
                    .items
                    .remove(&seq)
                    .and_then(|at| self.groups.get_mut(at))
                {
                    // It was never written, and nobody asks about it any more.
                    group.writes.clear();
                    group.ticket = None;
                    return None;
                }
            }
            Write::Agent(agent) if !is_awaited => {
                if let Some(group) = self.agents.get(&agent.name).map(|at| &mut self.groups[*at]) {
                    group.writes = vec![Write::Agent(agent)];
                    return None;
                }
                self.agents.insert(agent.name.clone(), at);
                return Some(Write::Agent(agent));
            }
            Write::Agent(agent) => {
                self.agents.remove(&agent.name);
                return Some(Write::Agent(agent));
            }
            Write::ForgetAgent(name) => {
                self.agents.remove(&name);
                return Some(Write::ForgetAgent(name));
            }
            _ => {}
        }
        Some(write)
    }

    /// Everything that is to be written, and so many loads.
    pub(super) fn take(&mut self, loads: usize) -> Batch {
        self.items.clear();
        self.agents.clear();
        let mut batch = Batch {
            loads: self.loads.drain(..loads.min(self.loads.len())).collect(),
            ..Batch::default()
        };
        for group in self.groups.drain(..) {
            if group.ticket.is_none() {
                let first = batch.writes.len();
                batch.unawaited.extend(first..first + group.writes.len());
            }
            batch.writes.extend(group.writes);
            batch.tickets.extend(group.ticket);
        }
        batch
    }
}
