//! The directory: whose a name is, which life of an agent is the newest, what
//! it can do and whether it is there.

use std::collections::BTreeMap;
use std::ops::Bound;

use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{InstanceId, check_skills};
use waymesh_proto::{AgentId, Code, Fault, Incarnation, Name};

use super::{AGENTS_MAX, ALL_SKILLS_MAX_BYTES, ConnId, Page, Query, StoredAgent, VerifiedLogin};

/// What a record adds to its skills, bytes of JSON at most: name, id, incarnation, keys.
const RECORD_BYTES: usize = 256;

#[derive(Debug)]
struct Agent {
    stored: StoredAgent,
    skills_bytes: usize,
    /// Whether the binding of the name has reached the disk.
    durable: bool,
}

/// The newest life of an agent, under whichever of its names.
#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    online: Option<Online>,
}

/// Who speaks for an agent.
#[derive(Debug, Clone)]
pub(super) struct Online {
    pub(super) conn: ConnId,
    pub(super) name: Name,
    pub(super) instance: InstanceId,
}

/// All agents that were ever bound to a name.
#[derive(Debug, Default)]
pub(super) struct Agents {
    by_name: BTreeMap<Name, Agent>,
    lives: BTreeMap<AgentId, Life>,
    online: usize,
    /// What the skills of all agents take.
    skills_bytes: usize,
}

/// The skills of all agents together would pass [`ALL_SKILLS_MAX_BYTES`].
#[derive(Debug)]
pub(super) struct NoRoomForSkills;

impl Agents {
    pub(super) fn new(stored: impl IntoIterator<Item = StoredAgent>) -> Self {
        let mut agents = Self::default();
        for agent in stored {
            let life = agents.lives.entry(agent.agent_id).or_insert(Life {
                incarnation: agent.incarnation,
                online: None,
            });
            life.incarnation = life.incarnation.max(agent.incarnation);
            agents.insert(agent, true);
        }
        agents
    }

    fn insert(&mut self, stored: StoredAgent, durable: bool) {
        let skills_bytes = check_skills(&stored.skills).unwrap_or_default();
        let agent = Agent {
            stored,
            skills_bytes,
            durable,
        };
        self.skills_bytes += skills_bytes;
        self.by_name.insert(agent.stored.name.clone(), agent);
    }

    pub(super) const fn online_count(&self) -> usize {
        self.online
    }

    /// Whether the agent may have the name.
    pub(super) fn check_name(&self, login: &VerifiedLogin) -> Result<(), Fault> {
        match self.by_name.get(&login.name) {
            Some(agent) if agent.stored.agent_id != login.agent_id => Err(Fault::new(
                Code::NameTaken,
                format!("the name {} belongs to another key", login.name),
            )
            .with_hint("choose another name, or use the data directory that first took it")),
            None if self.by_name.len() >= AGENTS_MAX => Err(Fault::new(
                Code::RateLimited,
                "the registry knows as many agents as it can",
            )),
            _ => Ok(()),
        }
    }

    /// Whether no newer life of the agent is known.
    pub(super) fn check_life(&self, login: &VerifiedLogin) -> Result<(), Fault> {
        let Some(life) = self.lives.get(&login.agent_id) else {
            return Ok(());
        };
        let is_older = login.incarnation < life.incarnation;
        let is_copy = login.incarnation == life.incarnation
            && life
                .online
                .as_ref()
                .is_some_and(|o| o.instance != login.instance);
        if is_older || is_copy {
            return Err(Fault::new(
                Code::IdentityInUse,
                format!(
                    "another process has logged in as {} with incarnation {}; this one has {}",
                    login.name, life.incarnation, login.incarnation
                ),
            )
            .with_hint("give every node a data directory of its own"));
        }
        Ok(())
    }

    /// Whether the name is bound and the binding durable.
    pub(super) fn is_bound(&self, name: &Name) -> bool {
        self.by_name.get(name).is_some_and(|a| a.durable)
    }

    /// Keeps the name for the agent until the disk has it.
    pub(super) fn reserve(&mut self, login: &VerifiedLogin) -> StoredAgent {
        let stored = StoredAgent {
            name: login.name.clone(),
            agent_id: login.agent_id,
            incarnation: login.incarnation,
            skills: Vec::new(),
        };
        self.insert(stored.clone(), false);
        stored
    }

    pub(super) fn cancel_reservation(&mut self, name: &Name) {
        if !self.is_bound(name) {
            // A reserved name has no skills yet.
            self.by_name.remove(name);
        }
    }

    pub(super) fn confirm(&mut self, name: &Name) {
        if let Some(agent) = self.by_name.get_mut(name) {
            agent.durable = true;
        }
    }

    /// The connection speaks for the agent from now on. Says whether this is a
    /// life that was not known; its skills are those that it will publish.
    pub(super) fn set_online(&mut self, conn: ConnId, login: &VerifiedLogin) -> bool {
        let online = Online {
            conn,
            name: login.name.clone(),
            instance: login.instance,
        };
        let life = self.lives.entry(login.agent_id).or_insert(Life {
            incarnation: login.incarnation,
            online: None,
        });
        life.incarnation = login.incarnation;
        if life.online.replace(online).is_none() {
            self.online += 1;
        }
        let Some(agent) = self.by_name.get_mut(&login.name) else {
            return false;
        };
        let is_new = agent.stored.incarnation != login.incarnation;
        if is_new {
            agent.stored.incarnation = login.incarnation;
            agent.stored.skills.clear();
            self.skills_bytes -= std::mem::take(&mut agent.skills_bytes);
        }
        is_new
    }

    /// Nobody speaks for the agent any more; gives who did.
    pub(super) fn set_offline(&mut self, id: &AgentId) -> Option<Online> {
        let old = self.lives.get_mut(id)?.online.take()?;
        self.online -= 1;
        Some(old)
    }

    pub(super) fn is_spoken_for_by(&self, id: &AgentId, conn: ConnId) -> bool {
        self.connection_of(id) == Some(conn)
    }

    pub(super) fn connection_of(&self, id: &AgentId) -> Option<ConnId> {
        Some(self.lives.get(id)?.online.as_ref()?.conn)
    }

    /// Replaces the skills of an agent; says whether that changes anything.
    pub(super) fn set_skills(
        &mut self,
        name: &Name,
        skills: Vec<SkillSpec>,
        bytes: usize,
    ) -> Result<bool, NoRoomForSkills> {
        let Some(agent) = self.by_name.get_mut(name) else {
            return Ok(false);
        };
        if agent.stored.skills == skills {
            return Ok(false);
        }
        let all = self.skills_bytes - agent.skills_bytes + bytes;
        if all > ALL_SKILLS_MAX_BYTES && bytes > agent.skills_bytes {
            return Err(NoRoomForSkills);
        }
        self.skills_bytes = all;
        agent.skills_bytes = bytes;
        agent.stored.skills = skills;
        Ok(true)
    }

    pub(super) fn stored(&self, name: &Name) -> Option<StoredAgent> {
        self.by_name.get(name).map(|a| a.stored.clone())
    }

    pub(super) fn record(&self, name: &Name) -> Option<AgentRecord> {
        let agent = self.by_name.get(name).filter(|a| a.durable)?;
        Some(self.record_of(agent))
    }

    fn record_of(&self, agent: &Agent) -> AgentRecord {
        let stored = &agent.stored;
        let online = self
            .lives
            .get(&stored.agent_id)
            .and_then(|life| life.online.as_ref())
            .is_some_and(|online| online.name == stored.name);
        AgentRecord {
            name: stored.name.clone(),
            agent_id: stored.agent_id,
            incarnation: stored.incarnation,
            online,
            skills: stored.skills.clone(),
        }
    }

    /// The agents that fit, as many as `limit` and `max_bytes` of JSON allow, but one at least.
    pub(super) fn page(&self, query: &Query, limit: usize, max_bytes: usize) -> Page {
        let mut page = Page::default();
        let mut room = max_bytes;
        for agent in self.fitting(query) {
            let bytes = agent.skills_bytes + RECORD_BYTES;
            let last = page.agents.last().map(|last| last.name.clone());
            if last.is_some() && (page.agents.len() >= limit || bytes > room) {
                page.next = last;
                break;
            }
            room = room.saturating_sub(bytes);
            page.agents.push(self.record_of(agent));
        }
        page
    }

    /// Of one name there is one agent, whatever it is to sort after.
    fn fitting<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Agent> {
        let has_skill = |agent: &&Agent| {
            let mut skills = agent.stored.skills.iter();
            let wanted = query.skill.as_ref();
            wanted.is_none_or(|wanted| skills.any(|skill| skill.name == *wanted))
        };
        let after = query.after.as_ref();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let one = query.name.as_ref().and_then(|name| self.by_name.get(name));
        let all = query.name.is_none().then(|| {
            let rest = self.by_name.range::<Name, _>((from, Bound::Unbounded));
            rest.map(|(_, agent)| agent)
        });
        one.into_iter()
            .chain(all.into_iter().flatten())
            .filter(|agent| agent.durable)
            .filter(has_skill)
    }
}
