//! The directory: whose a name is, what proves it, which life of an agent is
//! the newest, what it can do, whom it wants to hear of and whether it is there.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Instant;

use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{
    INTRODUCED_MAX_AGENTS, INTRODUCED_MAX_BYTES, InstanceId, MemberRecord, PeerRules, RULES_MAX,
    check_skills,
};
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_proto::{AgentId, Code, Fault, Incarnation, InviteId, Name, Role};

use super::rate::Bucket;
use super::{
    AGENTS_MAX, ALL_SKILLS_MAX_BYTES, ConnId, LOGIN_EVERY, LOGINS_BURST, Query, SAYING_EVERY,
    SAYING_KIB_EVERY, SAYINGS_BURST, StoredAgent, VerifiedLogin,
};

/// What a record adds to its skills, certificate and roles, bytes of JSON at
/// most: name, id, incarnation, keys.
const RECORD_BYTES: usize = 256;

#[derive(Debug)]
struct Agent {
    stored: StoredAgent,
    /// What its skills and rules take, bytes of JSON.
    said_bytes: usize,
    /// Whether the binding of the name has reached the disk.
    durable: bool,
    /// Its papers are new since it was last introduced.
    has_news: bool,
}

impl Agent {
    fn new(stored: StoredAgent, durable: bool) -> Self {
        let said_bytes = check_skills(&stored.skills).unwrap_or_default() + size_of(&stored.rules);
        Self {
            stored,
            said_bytes,
            durable,
            has_news: true,
        }
    }

    /// What its papers take, bytes of JSON at most, and who it is.
    fn papers_bytes(&self) -> usize {
        let StoredAgent {
            roles,
            certificate,
            sealing,
            ..
        } = &self.stored;
        let roles: usize = roles.iter().map(|role| role.as_str().len() + 3).sum();
        roles + certificate.as_str().len() + sealing.as_str().len() + RECORD_BYTES
    }

    /// What its record takes, bytes of JSON at most.
    fn record_bytes(&self) -> usize {
        self.said_bytes + self.papers_bytes()
    }
}

/// The newest life of an agent, under whichever of its names.
#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    /// Every key that it had, the first one first.
    keys: Vec<AgentId>,
    /// Under which name it was seen last.
    name: Name,
    online: Option<Online>,
    logins: Option<Bucket>,
    sayings: Option<Bucket>,
}

impl Life {
    fn new(agent: &StoredAgent) -> Self {
        Self {
            incarnation: agent.incarnation,
            keys: agent.keys.clone(),
            name: agent.name.clone(),
            online: None,
            logins: None,
            sayings: None,
        }
    }
}

/// Who speaks for an agent.
#[derive(Debug, Clone)]
pub(super) struct Online {
    pub(super) conn: ConnId,
    pub(super) name: Name,
    pub(super) instance: InstanceId,
}

/// All agents that are bound to a name.
#[derive(Debug, Default)]
pub(super) struct Agents {
    by_name: BTreeMap<Name, Agent>,
    lives: BTreeMap<AgentId, Life>,
    online: usize,
    /// What the skills and rules of all agents take.
    said_bytes: usize,
}

/// The skills and rules of all agents together would pass [`ALL_SKILLS_MAX_BYTES`].
#[derive(Debug)]
pub(super) struct NoRoom;

/// A record as agents are introduced: what they can do is asked for by who needs it.
pub(super) fn without_skills(mut record: MemberRecord) -> MemberRecord {
    record.agent.skills = Vec::new();
    record
}

/// Bytes of JSON that rules take, about.
pub(super) fn size_of(rules: &PeerRules) -> usize {
    let names = rules
        .deny_names
        .iter()
        .chain(rules.allow_names.iter().flatten());
    let roles = rules.deny_roles.iter().chain(&rules.allow_roles);
    let names: usize = names.map(|name| name.as_str().len() + 3).sum();
    let roles: usize = roles.map(|role| role.as_str().len() + 3).sum();
    names + roles
}

/// Whether an agent may tell these rules.
pub(super) fn check_rules(rules: &PeerRules) -> Result<(), Fault> {
    let allowed = rules.allow_names.as_ref().map_or(0, Vec::len) + rules.allow_roles.len();
    let all = rules.deny_names.len() + rules.deny_roles.len() + allowed;
    if all > RULES_MAX {
        let text = format!("{all} names and roles in rules are more than {RULES_MAX}");
        return Err(Fault::new(Code::TooLarge, text));
    }
    Ok(())
}

impl Agents {
    pub(super) fn new(stored: impl IntoIterator<Item = StoredAgent>) -> Self {
        let mut agents = Self::default();
        for agent in stored {
            let life = agents.lives.entry(agent.agent_id);
            let life = life.or_insert_with(|| Life::new(&agent));
            if agent.incarnation > life.incarnation {
                life.incarnation = agent.incarnation;
                life.name = agent.name.clone();
            }
            if agent.keys.len() > life.keys.len() {
                life.keys.clone_from(&agent.keys);
            }
            agents.insert(agent, true);
        }
        for agent in agents.by_name.values_mut() {
            agent.has_news = false;
        }
        agents
    }

    fn insert(&mut self, stored: StoredAgent, durable: bool) {
        let agent = Agent::new(stored, durable);
        self.said_bytes += agent.said_bytes;
        let name = agent.stored.name.clone();
        if let Some(old) = self.by_name.insert(name, agent) {
            self.said_bytes -= old.said_bytes;
        }
    }

    fn remove(&mut self, name: &Name) {
        if let Some(old) = self.by_name.remove(name) {
            self.said_bytes -= old.said_bytes;
        }
    }

    pub(super) const fn online_count(&self) -> usize {
        self.online
    }

    /// Whether the agent may have the name.
    pub(super) fn check_owner(&self, name: &Name, id: &AgentId) -> Result<(), Fault> {
        match self.by_name.get(name) {
            Some(agent) if agent.stored.agent_id != *id => Err(Fault::new(
                Code::NameTaken,
                format!("the name {name} belongs to another key"),
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

    /// Whether the agent's keys are those that were seen before, or go on from
    /// them: the holder of an old key can make another future, but not an unseen past.
    pub(super) fn check_keys(&self, id: &AgentId, keys: &[AgentId]) -> Result<(), Fault> {
        let life = self.lives.get(id);
        if life.is_none_or(|life| keys.starts_with(&life.keys)) {
            return Ok(());
        }
        let text = "the agent has changed its key since, or in another way";
        Err(Fault::new(Code::IdentityChanged, text).with_hint(
            "use the newest copy of its data directory; if somebody else has changed the key, revoke the agent",
        ))
    }

    /// Counts one login; says whether the agent may log in so soon again.
    pub(super) fn pay_login(&mut self, now: Instant, id: &AgentId) -> bool {
        let Some(life) = self.lives.get_mut(id) else {
            return true;
        };
        let bucket = life.logins.get_or_insert(Bucket::full(now));
        bucket.pay(now, LOGIN_EVERY, LOGIN_EVERY * LOGINS_BURST)
    }

    /// Counts what an agent says of itself, of so many bytes; says whether it may so soon again.
    pub(super) fn pay_saying(&mut self, now: Instant, id: &AgentId, bytes: usize) -> bool {
        let Some(life) = self.lives.get_mut(id) else {
            return true;
        };
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let cost = SAYING_EVERY + SAYING_KIB_EVERY.saturating_mul(kib);
        let bucket = life.sayings.get_or_insert(Bucket::full(now));
        bucket.pay(now, cost, SAYINGS_BURST)
    }

    /// Whether the agent has another name by this invite, which admits members and not names.
    pub(super) fn has_other_name_by(&self, invite: &InviteId, login: &VerifiedLogin) -> bool {
        self.by_name.values().any(|agent| {
            let StoredAgent {
                name,
                agent_id,
                invite: by,
                ..
            } = &agent.stored;
            *agent_id == login.agent_id && by.as_ref() == Some(invite) && *name != login.name
        })
    }

    /// Whether the name is bound and the binding durable.
    pub(super) fn is_bound(&self, name: &Name) -> bool {
        self.by_name.get(name).is_some_and(|a| a.durable)
    }

    /// Keeps the name for the agent until the disk has it.
    pub(super) fn reserve(&mut self, login: &VerifiedLogin) -> StoredAgent {
        let stored = StoredAgent::new(login);
        self.insert(stored.clone(), false);
        stored
    }

    pub(super) fn cancel_reservation(&mut self, name: &Name) {
        if !self.is_bound(name) {
            self.remove(name);
        }
    }

    /// The disk has the binding; somebody else's failure may have cancelled it meanwhile.
    pub(super) fn confirm(&mut self, agent: &StoredAgent) {
        match self.by_name.get_mut(&agent.name) {
            Some(agent) => agent.durable = true,
            None => self.insert(agent.clone(), true),
        }
    }

    /// The connection speaks for the agent from now on. Says whether there is
    /// anything new to store of it; a life that was not known has no skills
    /// and rules until it tells them.
    pub(super) fn set_online(&mut self, conn: ConnId, login: &VerifiedLogin) -> bool {
        let online = Online {
            conn,
            name: login.name.clone(),
            instance: login.instance,
        };
        let life = self.lives.entry(login.agent_id);
        let life = life.or_insert_with(|| Life::new(&StoredAgent::new(login)));
        life.incarnation = login.incarnation;
        life.keys.clone_from(&login.keys);
        life.name = login.name.clone();
        if life.online.replace(online).is_none() {
            self.online += 1;
        }
        let Some(agent) = self.by_name.get_mut(&login.name) else {
            return false;
        };
        let is_new = agent.stored.differs_from(login);
        agent.has_news |=
            agent.stored.certificate != login.certificate || agent.stored.sealing != login.sealing;
        let mut stored = StoredAgent::new(login);
        if agent.stored.incarnation == login.incarnation {
            stored.skills = std::mem::take(&mut agent.stored.skills);
            stored.rules = std::mem::take(&mut agent.stored.rules);
        } else {
            self.said_bytes -= std::mem::take(&mut agent.said_bytes);
        }
        agent.stored = stored;
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
    ) -> Result<bool, NoRoom> {
        let Some(agent) = self.by_name.get_mut(name) else {
            return Ok(false);
        };
        if agent.stored.skills == skills {
            return Ok(false);
        }
        let said = bytes + size_of(&agent.stored.rules);
        self.said_bytes = make_room(self.said_bytes, &mut agent.said_bytes, said)?;
        agent.stored.skills = skills;
        Ok(true)
    }

    /// Replaces the rules of an agent; says whether that changes anything.
    pub(super) fn set_rules(&mut self, name: &Name, rules: PeerRules) -> Result<bool, NoRoom> {
        let Some(agent) = self.by_name.get_mut(name) else {
            return Ok(false);
        };
        if agent.stored.rules == rules {
            return Ok(false);
        }
        let said = agent.said_bytes - size_of(&agent.stored.rules) + size_of(&rules);
        self.said_bytes = make_room(self.said_bytes, &mut agent.said_bytes, said)?;
        agent.stored.rules = rules;
        Ok(true)
    }

    /// Replaces the sealing key of an agent; says whether that changes anything.
    pub(super) fn set_sealing(&mut self, name: &Name, sealing: SealingStatement) -> bool {
        let agent = self.by_name.get_mut(name);
        agent.is_some_and(|agent| {
            let old = std::mem::replace(&mut agent.stored.sealing, sealing);
            let is_new = old != agent.stored.sealing;
            agent.has_news |= is_new;
            is_new
        })
    }

    /// Replaces the certificate of an agent.
    pub(super) fn set_certificate(&mut self, name: &Name, certificate: Certificate) {
        if let Some(agent) = self.by_name.get_mut(name) {
            agent.has_news |= agent.stored.certificate != certificate;
            agent.stored.certificate = certificate;
        }
    }

    /// Whether there are so few agents that each may be introduced to all others.
    pub(super) fn are_few(&self) -> bool {
        let papers = self.by_name.values().map(Agent::papers_bytes);
        self.by_name.len() <= INTRODUCED_MAX_AGENTS && papers.sum::<usize>() <= INTRODUCED_MAX_BYTES
    }

    /// An agent as it is introduced, if its papers are new since the last time.
    pub(super) fn take_news(&mut self, name: &Name) -> Option<MemberRecord> {
        let agent = self.by_name.get_mut(name).filter(|agent| agent.durable)?;
        std::mem::take(&mut agent.has_news).then_some(())?;
        self.record(name).map(without_skills)
    }

    /// Forgets an agent that is no member any more; gives the names that are free now.
    pub(super) fn expel(&mut self, id: &AgentId) -> Vec<Name> {
        let named = self.by_name.values().map(|agent| &agent.stored);
        let its = named.filter(|stored| stored.agent_id == *id);
        let names: Vec<Name> = its.map(|stored| stored.name.clone()).collect();
        for name in &names {
            self.remove(name);
        }
        if self
            .lives
            .remove(id)
            .is_some_and(|life| life.online.is_some())
        {
            self.online -= 1;
        }
        names
    }

    /// The agents that an invite has admitted by itself.
    pub(super) fn admitted_by(&self, invite: &InviteId) -> Vec<AgentId> {
        let stored = self.by_name.values().map(|agent| &agent.stored);
        let its = stored.filter(|stored| stored.invite == Some(*invite));
        its.map(|stored| stored.agent_id).collect()
    }

    /// Whom an agent wants to hear of; `None` when it is no member.
    pub(super) fn rules(&self, id: &AgentId) -> Option<&PeerRules> {
        let name = &self.lives.get(id)?.name;
        self.by_name.get(name).map(|agent| &agent.stored.rules)
    }

    /// What an agent may be trusted with.
    pub(super) fn roles(&self, name: &Name) -> &[Role] {
        self.by_name
            .get(name)
            .map_or(&[], |agent| &agent.stored.roles)
    }

    pub(super) fn stored(&self, name: &Name) -> Option<StoredAgent> {
        self.by_name.get(name).map(|a| a.stored.clone())
    }

    pub(super) fn record(&self, name: &Name) -> Option<MemberRecord> {
        let agent = self.by_name.get(name).filter(|a| a.durable)?;
        Some(self.record_of(agent))
    }

    fn record_of(&self, agent: &Agent) -> MemberRecord {
        let stored = &agent.stored;
        let online = self
            .lives
            .get(&stored.agent_id)
            .and_then(|life| life.online.as_ref())
            .is_some_and(|online| online.name == stored.name);
        MemberRecord {
            agent: AgentRecord {
                name: stored.name.clone(),
                agent_id: stored.agent_id,
                incarnation: stored.incarnation,
                online,
                roles: stored.roles.clone(),
                skills: stored.skills.clone(),
            },
            certificate: stored.certificate.clone(),
            sealing: stored.sealing.clone(),
        }
    }

    /// The agents that fit, as many as `limit` and `max_bytes` of JSON allow,
    /// but one at least, and the name after which others follow.
    pub(super) fn page(
        &self,
        query: &Query,
        limit: usize,
        max_bytes: usize,
    ) -> (Vec<MemberRecord>, Option<Name>) {
        let mut page: Vec<MemberRecord> = Vec::new();
        let mut room = max_bytes;
        for agent in self.fitting(query) {
            let bytes = agent.record_bytes();
            if let Some(last) = page.last()
                && (page.len() >= limit || bytes > room)
            {
                let next = last.agent.name.clone();
                return (page, Some(next));
            }
            room = room.saturating_sub(bytes);
            page.push(self.record_of(agent));
        }
        (page, None)
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

/// What all agents say when one of them says `new` bytes in place of `old`.
fn make_room(all: usize, old: &mut usize, new: usize) -> Result<usize, NoRoom> {
    let sum = all - *old + new;
    if sum > ALL_SKILLS_MAX_BYTES && new > *old {
        return Err(NoRoom);
    }
    *old = new;
    Ok(sum)
}
