//! What a node says to the registry.

use serde::{Deserialize, Serialize};

use super::decode::{DecodeError, decode};
use super::keys::{InstanceId, MeshKey, Nonce, Signature};
use super::origin::Origin;
use super::pairing::PairingCode;
use crate::api::SkillSpec;
use crate::error::{Code, Fault};
use crate::ids::{AgentId, Incarnation, ItemId, MessageId, Name, Role, SkillName};
use crate::limits::{SKILL_MAX_BYTES, SKILLS_MAX, SKILLS_MAX_BYTES};
use crate::membership::{Certificate, Delegation, JoinRequest, SealingStatement};
use crate::signaling::SignedSignal;

/// A message from a node to the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// The answer to the challenge; the first message, and never again.
    Login(Login),
    /// In place of a login, by a node that is no member: asks to become one.
    /// Answered by `pending`, or by an error; `approved` follows when an admin has agreed.
    Join(Join),
    /// The key that messages to this agent are to be sealed with from now on.
    Sealing {
        /// Signed by the agent.
        statement: SealingStatement,
    },
    /// Which peers this agent does not want to hear of; replaces what was said before.
    Rules(PeerRules),
    /// What became of pushed items. At most [`crate::control::SETTLED_MAX`] at once.
    Settled {
        /// The items.
        items: Vec<Settle>,
    },
    /// The credentials of a TURN server were refused: answered by `ice_servers`.
    IceServers,
    /// Room again: items that were put off may be pushed again.
    Resume,
    /// An own item that nobody needs any more is not to be delivered.
    Withdraw {
        /// The item.
        item: ItemId,
    },
    /// All skills of this agent, in place of those published before.
    Skills {
        /// At most [`SKILLS_MAX`], each name once.
        skills: Vec<SkillSpec>,
    },
    /// Answered by `records` or `unknown`, and by `records` at every change from now on.
    Resolve {
        /// The agent that is looked for.
        name: Name,
    },
    /// Answered by `records` of all agents, and by `records` at every change from now on.
    WatchAll,
    /// Answered by one or more `found` with the same id.
    Find {
        /// Comes back with the answer.
        id: MessageId,
        /// Only this name.
        #[serde(default)]
        name: Option<Name>,
        /// Only agents with this skill.
        #[serde(default)]
        skill: Option<SkillName>,
    },
    /// Passed on to the receiver that the signal's body names, else `undeliverable`.
    Signal {
        /// The signal as its sender signed it.
        signal: SignedSignal,
    },
}

/// The answer to a challenge: who logs in, and the proof of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The mesh that the challenge named.
    pub mesh: MeshKey,
    /// The origin of the URL that the node connected to.
    pub origin: Origin,
    /// The node's own nonce.
    pub nonce: Nonce,
    /// The name that the agent wants.
    pub name: Name,
    /// The agent's identity.
    pub agent_id: AgentId,
    /// The node's incarnation.
    pub incarnation: Incarnation,
    /// The node's process.
    pub instance: InstanceId,
    /// What proves that the agent is a member, and under which name.
    pub certificate: Certificate,
    /// The key to seal messages to the agent with.
    pub sealing: SealingStatement,
    /// The signature of the certificate's key over the login statement (`spec/control.md`).
    pub sig: Signature,
    /// Whether the node wants to be told of others ahead of need, by `introduced`;
    /// not covered by the signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub introduce: bool,
}

/// A node that is no member asks to become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Who asks, for which name, signed by the node's key.
    pub request: JoinRequest,
    /// The six digits that an admin has given out.
    #[serde(default)]
    pub code: Option<PairingCode>,
    /// The delegation of the invite that it has, whose key has signed the request too.
    #[serde(default)]
    pub invite: Option<Delegation>,
}

/// What a receiver says of an item that was pushed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done with: delete it.
    Taken,
    /// The node has it, the application not yet: store on, push no more on this connection.
    Kept,
    /// There is no room now: store on, push again after `resume`.
    Later,
    /// It cannot be opened: delete it and tell its sender.
    Unreadable,
    /// The receiver's policy forbids it: delete it and tell its sender.
    Denied,
}

/// One item and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The item.
    pub item: ItemId,
    /// Its sender, whose choice the id was.
    pub from: AgentId,
    /// What became of it.
    pub outcome: Outcome,
}

/// The part of a receiver's policy that concerns whole peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRules {
    /// Names that may not reach it.
    #[serde(default)]
    pub deny_names: Vec<Name>,
    /// Roles that may not reach it.
    #[serde(default)]
    pub deny_roles: Vec<Role>,
    /// Unless `None`, only these names and the roles below may reach it.
    #[serde(default)]
    pub allow_names: Option<Vec<Name>>,
    /// Roles that may reach it when `allow_names` is there.
    #[serde(default)]
    pub allow_roles: Vec<Role>,
}

impl ClientMessage {
    const KNOWN: &[&str] = &[
        "login",
        "join",
        "sealing",
        "rules",
        "settled",
        "ice_servers",
        "resume",
        "withdraw",
        "skills",
        "resolve",
        "watch_all",
        "find",
        "signal",
    ];

    /// Decodes a text frame.
    ///
    /// # Errors
    /// A [`DecodeError`], whose code the node is told. A connection lives on after it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, Self::KNOWN)
    }

    /// The text frame.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("control messages have string keys only")
    }
}

/// Why skills cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkillsError {
    /// More than [`SKILLS_MAX`]; publish fewer.
    #[error("{0} skills are more than {SKILLS_MAX}")]
    TooMany(usize),
    /// One is larger than [`SKILL_MAX_BYTES`]; shorten its description or schema.
    #[error("the skill {name} of {len} bytes is larger than {SKILL_MAX_BYTES}")]
    TooLarge {
        /// The skill.
        name: SkillName,
        /// Its size, bytes of JSON.
        len: usize,
    },
    /// All together are larger than [`SKILLS_MAX_BYTES`].
    #[error("the skills of {0} bytes together are larger than {SKILLS_MAX_BYTES}")]
    AllTooLarge(usize),
    /// Two have the same name.
    #[error("the skill {0} is there twice")]
    Twice(SkillName),
}

impl SkillsError {
    /// The code that the publisher is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Twice(_) => Code::BadRequest,
            Self::TooMany(_) | Self::TooLarge { .. } | Self::AllTooLarge(_) => Code::TooLarge,
        }
    }

    /// The error that the publisher is told.
    pub fn fault(&self) -> Fault {
        Fault::new(self.code(), self.to_string())
    }
}

/// Checks the skills of one agent against the limits and gives their size in bytes of JSON.
///
/// # Errors
/// The first limit that is passed.
pub fn check_skills(skills: &[SkillSpec]) -> Result<usize, SkillsError> {
    if skills.len() > SKILLS_MAX {
        return Err(SkillsError::TooMany(skills.len()));
    }
    let mut names = std::collections::BTreeSet::new();
    let mut all = 0;
    for skill in skills {
        let len = serde_json::to_vec(skill).map_or(usize::MAX, |json| json.len());
        if len > SKILL_MAX_BYTES {
            let name = skill.name.clone();
            return Err(SkillsError::TooLarge { name, len });
        }
        if !names.insert(&skill.name) {
            return Err(SkillsError::Twice(skill.name.clone()));
        }
        all += len;
    }
    if all > SKILLS_MAX_BYTES {
        return Err(SkillsError::AllTooLarge(all));
    }
    Ok(all)
}
