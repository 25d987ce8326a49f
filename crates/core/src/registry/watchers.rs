//! Who wants to hear of which agents.

use std::collections::{BTreeMap, BTreeSet};

use waymesh_proto::Name;

use super::{ConnId, WATCHED_NAMES_MAX};

/// The watching connections. Invariant: `by_name` and `by_conn` mirror each other.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: BTreeSet<ConnId>,
    /// Those that want to know everybody ahead of need.
    introduced: BTreeSet<ConnId>,
    by_name: BTreeMap<Name, BTreeSet<ConnId>>,
    by_conn: BTreeMap<ConnId, BTreeSet<Name>>,
}

/// The connection watches [`WATCHED_NAMES_MAX`] names already.
#[derive(Debug)]
pub(super) struct TooManyNames;

impl Watchers {
    pub(super) fn watch_all(&mut self, conn: ConnId) {
        self.all.insert(conn);
    }

    /// The connection hears of everybody's papers as long as there are few.
    pub(super) fn introduce(&mut self, conn: ConnId) {
        self.introduced.insert(conn);
    }

    /// Whom everybody is introduced to.
    pub(super) const fn introduced(&self) -> &BTreeSet<ConnId> {
        &self.introduced
    }

    /// There are too many to introduce everybody to everybody.
    pub(super) fn end_introductions(&mut self) {
        self.introduced.clear();
    }

    pub(super) fn watch(&mut self, conn: ConnId, name: &Name) -> Result<(), TooManyNames> {
        let names = self.by_conn.entry(conn).or_default();
        if names.len() >= WATCHED_NAMES_MAX && !names.contains(name) {
            return Err(TooManyNames);
        }
        names.insert(name.clone());
        self.by_name.entry(name.clone()).or_default().insert(conn);
        Ok(())
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.all.remove(&conn);
        self.introduced.remove(&conn);
        for name in self.by_conn.remove(&conn).unwrap_or_default() {
            if let Some(conns) = self.by_name.get_mut(&name) {
                conns.remove(&conn);
                if conns.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
    }

    /// Whoever wants to hear of this name, each once.
    pub(super) fn of(&self, name: &Name) -> Vec<ConnId> {
        match self.by_name.get(name) {
            Some(named) => self.all.union(named).copied().collect(),
            None => self.all.iter().copied().collect(),
        }
    }
}
