//! Members that the registry has introduced ahead of need, as it told them:
//! each is verified when somebody writes to it, which most never are.
//!
//! They belong to one connection, so nothing here is from before the last one.

use std::collections::BTreeMap;

use waymesh_proto::Name;
use waymesh_proto::control::{INTRODUCED_MAX_AGENTS, INTRODUCED_MAX_BYTES, MemberRecord};

/// What a record takes beside its papers, bytes at most.
const RECORD_BYTES: usize = 256;

/// There are as many introductions as a registry makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The members that were introduced on a connection.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    by_name: BTreeMap<Name, MemberRecord>,
    bytes: usize,
}

impl Introductions {
    /// Keeps an introduction, in place of an earlier one of that name.
    ///
    /// # Errors
    /// [`TooMany`] past [`INTRODUCED_MAX_AGENTS`] or [`INTRODUCED_MAX_BYTES`]; who
    /// is written to is looked up all the same.
    pub(super) fn add(&mut self, record: MemberRecord) -> Result<(), TooMany> {
        let name = record.agent.name.clone();
        if let Some(old) = self.by_name.remove(&name) {
            self.bytes -= size_of(&old);
        }
        let bytes = self.bytes + size_of(&record);
        if self.by_name.len() >= INTRODUCED_MAX_AGENTS || bytes > INTRODUCED_MAX_BYTES {
            return Err(TooMany);
        }
        self.bytes = bytes;
        self.by_name.insert(name, record);
        Ok(())
    }

    /// Who has been introduced under a name.
    pub(super) fn of(&self, name: &Name) -> Option<&MemberRecord> {
        self.by_name.get(name)
    }
}

fn size_of(record: &MemberRecord) -> usize {
    record.certificate.as_str().len() + record.sealing.as_str().len() + RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::api::AgentRecord;
    use waymesh_proto::{AgentId, Incarnation};

    fn record(n: usize, certificate_bytes: usize) -> MemberRecord {
        let third = "c".repeat(certificate_bytes - 4);
        MemberRecord {
            agent: AgentRecord {
                name: format!("agent-{n}").parse().expect("a name"),
                agent_id: AgentId::from_bytes([1; 32]),
                incarnation: Incarnation::new(1),
                online: true,
                roles: Vec::new(),
                skills: Vec::new(),
            },
            certificate: format!("a.b.{third}").parse().expect("a certificate"),
            sealing: "a.b.c".parse().expect("a statement"),
        }
    }

    #[test]
    fn as_many_members_as_the_limit_are_kept_and_one_more_is_not_but_may_change() {
        let mut introductions = Introductions::default();
        for n in 0..INTRODUCED_MAX_AGENTS {
            assert_eq!(introductions.add(record(n, 100)), Ok(()));
        }
        let more = record(INTRODUCED_MAX_AGENTS, 100);
        assert_eq!(introductions.add(more.clone()), Err(TooMany));
        assert_eq!(introductions.of(&more.agent.name), None);
        let changed = record(0, 200);
        assert_eq!(introductions.add(changed.clone()), Ok(()));
        assert_eq!(introductions.of(&changed.agent.name), Some(&changed));
    }

    #[test]
    fn as_many_bytes_as_the_limit_are_kept_and_one_more_is_not() {
        let each = INTRODUCED_MAX_BYTES / 64;
        let papers = each - RECORD_BYTES - "a.b.c".len();
        for (more, kept) in [(0, Ok(())), (1, Err(TooMany))] {
            let mut introductions = Introductions::default();
            for n in 1..64 {
                assert_eq!(introductions.add(record(n, papers)), Ok(()));
            }
            assert_eq!(introductions.add(record(0, papers + more)), kept);
        }
    }

    #[test]
    fn what_was_told_of_a_name_last_counts_even_where_it_cannot_be_kept() {
        let each = INTRODUCED_MAX_BYTES / 64;
        let papers = each - RECORD_BYTES - "a.b.c".len();
        let mut introductions = Introductions::default();
        for n in 0..64 {
            assert_eq!(introductions.add(record(n, papers)), Ok(()));
        }
        let longer = record(0, papers + 1);
        assert_eq!(introductions.add(longer.clone()), Err(TooMany));
        assert_eq!(introductions.of(&longer.agent.name), None);
        assert_eq!(introductions.add(record(0, papers)), Ok(()));
    }
}
