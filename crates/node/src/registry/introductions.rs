//! Members that the registry has introduced ahead of need, as it told them:
//! each is verified when somebody writes to it, which most never are.
//!
//! They belong to one connection, so nothing here is from before the last one.

use std::collections::BTreeMap;

use waymesh_proto::control::{INTRODUCED_MAX_AGENTS, INTRODUCED_MAX_BYTES, MemberRecord};
use waymesh_proto::{AgentId, Name};

/// What a record takes beside its papers, bytes at most.
const RECORD_BYTES: usize = 256;

/// What a role takes beside its name: quotes and a comma, bytes.
const ROLE_BYTES: usize = 3;

/// The members that were introduced on a connection: [`INTRODUCED_MAX_AGENTS`] of
/// [`INTRODUCED_MAX_BYTES`] together at most.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    by_name: BTreeMap<Name, Told>,
    bytes: usize,
    /// How many there have ever been.
    told: u64,
}

#[derive(Debug)]
struct Told {
    record: MemberRecord,
    /// The how manieth it was.
    turn: u64,
}

impl Introductions {
    /// Keeps an introduction, without skills, in place of an earlier one of that
    /// name. Gives how many were dropped for it: where there is no room, those
    /// that were told first, and one that is longer than all may be, itself. Who
    /// is written to is looked up all the same.
    pub(super) fn add(&mut self, mut record: MemberRecord) -> u64 {
        record.agent.skills = Vec::new();
        self.forget(&record.agent.name);
        let bytes = size_of(&record);
        if bytes > INTRODUCED_MAX_BYTES {
            return 1;
        }
        let mut dropped = 0;
        while self.by_name.len() >= INTRODUCED_MAX_AGENTS
            || self.bytes + bytes > INTRODUCED_MAX_BYTES
        {
            let first = self.by_name.iter().min_by_key(|(_, told)| told.turn);
            let Some(name) = first.map(|(name, _)| name.clone()) else {
                break;
            };
            self.forget(&name);
            dropped += 1;
        }
        self.bytes += bytes;
        self.told += 1;
        let (name, turn) = (record.agent.name.clone(), self.told);
        self.by_name.insert(name, Told { record, turn });
        dropped
    }

    /// Nobody has a name any more.
    pub(super) fn forget(&mut self, name: &Name) {
        if let Some(old) = self.by_name.remove(name) {
            self.bytes -= size_of(&old.record);
        }
    }

    /// Forgets agents that are no members any more.
    pub(super) fn forget_revoked(&mut self, is_revoked: impl Fn(AgentId) -> bool) {
        let bytes = &mut self.bytes;
        self.by_name.retain(|_, told| {
            let stays = !is_revoked(told.record.agent.agent_id);
            if !stays {
                *bytes -= size_of(&told.record);
            }
            stays
        });
    }

    /// Who has been introduced under a name.
    pub(super) fn of(&self, name: &Name) -> Option<&MemberRecord> {
        self.by_name.get(name).map(|told| &told.record)
    }
}

fn size_of(record: &MemberRecord) -> usize {
    let roles = record.agent.roles.iter();
    let roles: usize = roles.map(|role| role.as_str().len() + ROLE_BYTES).sum();
    roles + record.certificate.as_str().len() + record.sealing.as_str().len() + RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::Incarnation;
    use waymesh_proto::api::{AgentRecord, SkillSpec};

    fn record(n: usize, certificate_bytes: usize) -> MemberRecord {
        let third = "c".repeat(certificate_bytes - 4);
        MemberRecord {
            agent: AgentRecord {
                name: name(n),
                agent_id: id(n),
                incarnation: Incarnation::new(1),
                online: true,
                roles: Vec::new(),
                skills: Vec::new(),
            },
            certificate: format!("a.b.{third}").parse().expect("a certificate"),
            sealing: "a.b.c".parse().expect("a statement"),
        }
    }

    fn name(n: usize) -> Name {
        format!("agent-{n}").parse().expect("a name")
    }

    fn id(n: usize) -> AgentId {
        AgentId::from_bytes([u8::try_from(n).expect("few agents"); 32])
    }

    /// Which of the first agents are kept.
    fn kept(introductions: &Introductions, of: usize) -> Vec<usize> {
        let is_kept = |n: &usize| introductions.of(&name(*n)).is_some();
        (0..of).filter(is_kept).collect()
    }

    /// As many as 64 of the same size may have in papers.
    const EACH: usize = INTRODUCED_MAX_BYTES / 64 - RECORD_BYTES - "a.b.c".len();

    #[test]
    fn as_many_members_as_the_limit_are_kept_and_one_more_comes_in_place_of_the_first_told() {
        let mut introductions = Introductions::default();
        for n in 0..INTRODUCED_MAX_AGENTS {
            assert_eq!(introductions.add(record(n, 100)), 0);
        }
        let changed = record(0, 200);
        assert_eq!(introductions.add(changed.clone()), 0);
        assert_eq!(introductions.of(&changed.agent.name), Some(&changed));
        assert_eq!(introductions.add(record(INTRODUCED_MAX_AGENTS, 100)), 1);
        let all = INTRODUCED_MAX_AGENTS + 1;
        let but_the_first: Vec<usize> = (0..all).filter(|n| *n != 1).collect();
        assert_eq!(kept(&introductions, all), but_the_first);
    }

    #[test]
    fn as_many_bytes_as_the_limit_are_kept_and_one_more_drops_what_was_told_first() {
        for (more, dropped) in [(0, 0), (1, 1)] {
            let mut introductions = Introductions::default();
            for n in 1..64 {
                assert_eq!(introductions.add(record(n, EACH)), 0);
            }
            assert_eq!(introductions.add(record(0, EACH + more)), dropped);
            assert_eq!(introductions.of(&name(1)).is_none(), dropped > 0);
            assert!(introductions.of(&name(0)).is_some());
        }
    }

    #[test]
    fn roles_count_and_skills_are_not_kept() {
        let mut introductions = Introductions::default();
        for n in 1..64 {
            assert_eq!(introductions.add(record(n, EACH)), 0);
        }
        let skill = SkillSpec {
            name: "echo".parse().expect("a skill name"),
            description: Some("d".repeat(INTRODUCED_MAX_BYTES)),
            schema: None,
            idempotent: false,
        };
        let mut skilled = record(0, EACH);
        skilled.agent.skills = vec![skill; 2];
        assert_eq!(introductions.add(skilled), 0);
        let of = introductions.of(&name(0)).expect("it is kept");
        assert_eq!(of.agent.skills, []);
        let mut trusted = record(0, EACH - "admin".len() - ROLE_BYTES);
        trusted.agent.roles = vec!["admin".parse().expect("a role")];
        assert_eq!(introductions.add(trusted), 0);
        let mut trusted = record(0, EACH);
        trusted.agent.roles = vec!["admin".parse().expect("a role")];
        assert_eq!(introductions.add(trusted), 1);
    }

    #[test]
    fn what_was_told_of_a_name_last_counts_even_where_it_cannot_be_kept() {
        let one = "admin".len() + ROLE_BYTES;
        let trusted = |n: usize, roles: usize| {
            let papers = INTRODUCED_MAX_BYTES - RECORD_BYTES - "a.b.c".len();
            let role = "admin".parse().expect("a role");
            let mut trusted = record(n, 100 + (papers - 100) % one);
            trusted.agent.roles = vec![role; roles];
            trusted
        };
        let most = (INTRODUCED_MAX_BYTES - size_of(&trusted(0, 0))) / one;
        let mut introductions = Introductions::default();
        assert_eq!(introductions.add(trusted(0, most)), 0);
        assert_eq!(introductions.add(trusted(0, most + 1)), 1);
        assert_eq!(introductions.of(&name(0)), None);
        assert_eq!(introductions.add(trusted(1, most)), 0);
    }

    #[test]
    fn who_is_gone_or_revoked_leaves_room_for_others() {
        let mut introductions = Introductions::default();
        for n in 0..64 {
            assert_eq!(introductions.add(record(n, EACH)), 0);
        }
        introductions.forget(&name(7));
        introductions.forget_revoked(|agent| agent == id(9));
        for n in [70, 71] {
            assert_eq!(introductions.add(record(n, EACH)), 0);
        }
        let gone = [7, 9];
        let others: Vec<usize> = (0..64).filter(|n| !gone.contains(n)).collect();
        assert_eq!(kept(&introductions, 64), others);
        assert_eq!(introductions.add(record(72, EACH)), 1);
    }
}
