//! The skills that clients of this node offer: each has one owner.

use std::time::Instant;

use waymesh_proto::api::SkillSpec;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::SkillName;
use waymesh_proto::limits::{SKILL_MAX_BYTES, SKILLS_MAX, SKILLS_MAX_BYTES};

use super::{Mesh, Skill};
use crate::app::{ClientId, RegistryCommand};

impl Mesh {
    pub(super) fn offer_skill(&mut self, client: ClientId, spec: SkillSpec) -> Result<(), Fault> {
        let known = self.skills.get(&spec.name);
        if known.is_some_and(|skill| skill.owner != client) {
            return Err(Fault::new(
                Code::AlreadyOwned,
                format!("another client of this node offers {}", spec.name),
            )
            .with_hint("give the skill another name, or stop the other client"));
        }
        if known.is_none() && self.skills.len() >= SKILLS_MAX {
            return Err(Fault::new(
                Code::QueueFull,
                format!("an agent offers at most {SKILLS_MAX} skills"),
            ));
        }
        let size = bytes_of(&spec);
        let others = self.skills.values().filter(|s| s.spec.name != spec.name);
        let all = size + others.map(|skill| bytes_of(&skill.spec)).sum::<usize>();
        if size > SKILL_MAX_BYTES || all > SKILLS_MAX_BYTES {
            return Err(Fault::new(
                Code::TooLarge,
                format!(
                    "skill {} takes {size} bytes with its schema, and all skills {all}; \
                     the limits are {SKILL_MAX_BYTES} and {SKILLS_MAX_BYTES}",
                    spec.name
                ),
            ));
        }
        let waiting = self
            .skills
            .remove(&spec.name)
            .map(|skill| skill.waiting)
            .unwrap_or_default();
        let skill = Skill {
            spec: spec.clone(),
            owner: client,
            waiting,
        };
        self.skills.insert(spec.name, skill);
        self.publish_skills();
        Ok(())
    }

    pub(super) fn withdraw_skill(
        &mut self,
        now: Instant,
        client: ClientId,
        name: &SkillName,
    ) -> Result<(), Fault> {
        if self
            .skills
            .get(name)
            .is_none_or(|skill| skill.owner != client)
        {
            return Err(Fault::new(
                Code::UnknownSkill,
                format!("this client does not offer {name}"),
            ));
        }
        self.drop_skill(now, name);
        Ok(())
    }

    pub(super) fn drop_skill(&mut self, now: Instant, name: &SkillName) {
        if let Some(skill) = self.skills.remove(name) {
            for arrived in skill.waiting {
                self.answer_unknown_skill(now, &arrived, name);
            }
            self.publish_skills();
        }
    }

    /// The client that offers a skill.
    pub fn skill_owner(&self, name: &SkillName) -> Option<ClientId> {
        self.skills.get(name).map(|skill| skill.owner)
    }

    pub(super) fn publish_skills(&mut self) {
        if self.registry_up {
            let specs = self
                .skills
                .values()
                .map(|skill| skill.spec.clone())
                .collect();
            self.registry_commands
                .push_back(RegistryCommand::Skills(specs));
        }
    }
}

/// What a skill takes in the registry.
fn bytes_of(spec: &SkillSpec) -> usize {
    serde_json::to_vec(spec).map_or(usize::MAX / SKILLS_MAX, |json| json.len())
}
