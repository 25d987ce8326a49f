//! Who may reach this agent: one function, asked before a link is made, when
//! an item of the mailbox is opened, and before a message is dispatched.
//!
//! A rule names a peer (by name, by role, or anybody) and maybe one skill. A
//! `deny` always wins. Where there is any `allow`, whatever none of them
//! names is denied.

use std::fmt;
use std::str::FromStr;

use waymesh_proto::control::PeerRules;
use waymesh_proto::ids::{IdError, Name, Role, SkillName};

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Every member.
    Anybody,
    /// The member of this name.
    Name(Name),
    /// Members with this role.
    Role(Role),
}

/// One line of a policy, written `SUBJECT` or `SUBJECT/SKILL`, where the
/// subject is a name, `role:ROLE` or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about.
    pub subject: Subject,
    /// Only this skill; `None` is everything: links, messages and all skills.
    pub skill: Option<SkillName>,
}

/// A text that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rule: {source}")]
pub struct RuleError {
    text: String,
    source: IdError,
}

/// What a receiver lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What is let through although not everything is. Empty: everything.
    pub allow: Vec<Rule>,
    /// What is never let through.
    pub deny: Vec<Rule>,
}

/// What a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// To be heard at all: a link, an item in the mailbox.
    Contact,
    /// To put a message into the inbox.
    Message,
    /// To call a skill.
    Skill(&'a SkillName),
}

impl Policy {
    /// Whether a member may do this.
    pub fn permits(&self, name: &Name, roles: &[Role], request: Request<'_>) -> bool {
        let is_about = |rule: &Rule| match &rule.subject {
            Subject::Anybody => true,
            Subject::Name(subject) => subject == name,
            Subject::Role(role) => roles.contains(role),
        };
        let denies = |rule: &Rule| match (&rule.skill, request) {
            (None, _) => true,
            (Some(denied), Request::Skill(skill)) => denied == skill,
            (Some(_), Request::Contact | Request::Message) => false,
        };
        let allows = |rule: &Rule| match (&rule.skill, request) {
            (None, _) | (Some(_), Request::Contact) => true,
            (Some(allowed), Request::Skill(skill)) => allowed == skill,
            (Some(_), Request::Message) => false,
        };
        let denied = self.deny.iter().any(|rule| is_about(rule) && denies(rule));
        let listed = self.allow.iter().any(|rule| is_about(rule) && allows(rule));
        !denied && (self.allow.is_empty() || listed)
    }

    /// What of it the registry is told, so that a denied peer does not even get there.
    pub fn peer_rules(&self) -> PeerRules {
        let mut rules = PeerRules::default();
        for rule in self.deny.iter().filter(|rule| rule.skill.is_none()) {
            match &rule.subject {
                Subject::Name(name) => rules.deny_names.push(name.clone()),
                Subject::Role(role) => rules.deny_roles.push(role.clone()),
                // Denying everybody is an empty list of those who are allowed.
                Subject::Anybody => rules.allow_names = Some(Vec::new()),
            }
        }
        let deny_all = rules.allow_names.is_some();
        let allow_all = self.allow.iter().any(|r| r.subject == Subject::Anybody);
        if !deny_all && !self.allow.is_empty() && !allow_all {
            let names = rules.allow_names.insert(Vec::new());
            for rule in &self.allow {
                match &rule.subject {
                    Subject::Name(name) => names.push(name.clone()),
                    Subject::Role(role) => rules.allow_roles.push(role.clone()),
                    Subject::Anybody => {}
                }
            }
        }
        rules
    }
}

/// Whether rules that a receiver told the registry let a member reach it.
pub fn may_reach(rules: &PeerRules, name: &Name, roles: &[Role]) -> bool {
    let denied =
        rules.deny_names.contains(name) || rules.deny_roles.iter().any(|role| roles.contains(role));
    let allowed = rules.allow_names.as_ref().is_none_or(|names| {
        names.contains(name) || rules.allow_roles.iter().any(|role| roles.contains(role))
    });
    !denied && allowed
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let failed = |source| RuleError {
            text: text.to_owned(),
            source,
        };
        let (subject, skill) = match text.split_once('/') {
            Some((subject, skill)) => (subject, Some(skill)),
            None => (text, None),
        };
        let subject = match subject.strip_prefix("role:") {
            Some(role) => Subject::Role(role.parse().map_err(failed)?),
            None if subject == "*" => Subject::Anybody,
            None => Subject::Name(subject.parse().map_err(failed)?),
        };
        let skill = skill.map(str::parse).transpose().map_err(failed)?;
        Ok(Self { subject, skill })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Anybody => f.write_str("*")?,
            Subject::Name(name) => write!(f, "{name}")?,
            Subject::Role(role) => write!(f, "role:{role}")?,
        }
        match &self.skill {
            Some(skill) => write!(f, "/{skill}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        let rules = |texts: &[&str]| {
            let parse = |text: &&str| text.parse().expect("a rule");
            texts.iter().map(parse).collect()
        };
        Policy {
            allow: rules(allow),
            deny: rules(deny),
        }
    }

    fn asks(policy: &Policy, name: &str, roles: &[&str], skill: Option<&str>) -> bool {
        let name = name.parse().expect("a name");
        let roles: Vec<Role> = roles.iter().map(|r| r.parse().expect("a role")).collect();
        let skill: Option<SkillName> = skill.map(|s| s.parse().expect("a skill"));
        let request = skill.as_ref().map_or(Request::Message, Request::Skill);
        policy.permits(&name, &roles, request)
    }

    #[test]
    fn without_rules_everybody_may_do_everything() {
        assert!(asks(&Policy::default(), "a", &[], None));
        assert!(asks(&Policy::default(), "a", &[], Some("echo")));
    }

    #[test]
    fn a_denial_wins_over_every_allowance() {
        let policy = policy(&["*", "bob"], &["bob", "role:guest/deploy"]);
        assert!(!asks(&policy, "bob", &[], None));
        assert!(asks(&policy, "eve", &["guest"], Some("echo")));
        assert!(!asks(&policy, "eve", &["guest"], Some("deploy")));
    }

    #[test]
    fn who_may_call_one_skill_may_make_contact_but_nothing_else() {
        let policy = policy(&["alice/echo", "role:ops"], &[]);
        assert!(asks(&policy, "alice", &[], Some("echo")));
        assert!(!asks(&policy, "alice", &[], Some("deploy")));
        assert!(!asks(&policy, "alice", &[], None));
        let alice = "alice".parse().expect("a name");
        assert!(policy.permits(&alice, &[], Request::Contact));
        assert!(asks(&policy, "olga", &["ops"], Some("deploy")));
        assert!(!asks(&policy, "mallory", &[], Some("echo")));
    }

    #[test]
    fn a_text_that_is_no_rule_is_refused_with_the_reason() {
        for text in ["", "Alice", "role:", "a/", "a/b/c", "role:x/UPPER"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    proptest! {
        /// The registry never turns away whom the receiver would hear.
        #[test]
        fn the_mirrored_rules_are_the_contact_rules(
            allow in prop::collection::vec("(\\*|[ab]|role:[xy])(/s)?", 0..4),
            deny in prop::collection::vec("(\\*|[ab]|role:[xy])(/s)?", 0..3),
            name in "[abc]",
            roles in prop::collection::vec("[xyz]", 0..2),
        ) {
            let texts = |list: &[String]| list.iter().map(|t| t.parse().expect("a rule")).collect();
            let policy = Policy { allow: texts(&allow), deny: texts(&deny) };
            let name: Name = name.parse().expect("a name");
            let roles: Vec<Role> = roles.iter().map(|r| r.parse().expect("a role")).collect();
            let heard = policy.permits(&name, &roles, Request::Contact);
            prop_assert_eq!(may_reach(&policy.peer_rules(), &name, &roles), heard);
        }

        #[test]
        fn a_rule_reads_back_from_its_text(text in "(\\*|[a-z]{1,9}|role:[a-z.]{1,9})(/[a-z_]{1,9})?") {
            let rule: Rule = text.parse().expect("a rule");
            prop_assert_eq!(rule.to_string(), text);
        }
    }
}
