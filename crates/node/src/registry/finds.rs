//! Questions to the registry that wait for their answer.
//!
//! An answer comes in parts, and a registry may be slow, silent or endless; so
//! every question ends in time and in bounded memory, and ends once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use waymesh_core::registry::AGENTS_MAX;
use waymesh_proto::api::AgentRecord;
use waymesh_proto::{Code, Fault, MessageId};

/// Finds that may wait for their answer; one more is refused with `queue_full`. Chosen.
const OPEN_FINDS_MAX: usize = 256;

/// How long the registry may take with the whole answer; then the find fails
/// with `registry_unreachable`. Chosen: as long as it may be silent.
pub(super) const FIND_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of messages that one answer may have; a larger one fails with
/// `too_large`. Chosen: half of the largest event of the IPC protocol.
const FIND_MAX_BYTES: usize = 8 * 1024 * 1024;

/// What became of a find.
pub(super) type Outcome = Result<Vec<AgentRecord>, Fault>;

#[derive(Debug)]
struct Find {
    ends: Instant,
    agents: Vec<AgentRecord>,
    bytes: usize,
}

/// The open finds.
#[derive(Debug, Default)]
pub(super) struct Finds(BTreeMap<MessageId, Find>);

impl Finds {
    /// A find is asked.
    ///
    /// # Errors
    /// `queue_full`; it may not be asked.
    pub(super) fn ask(&mut self, now: Instant, id: MessageId) -> Result<(), Fault> {
        if self.0.len() >= OPEN_FINDS_MAX {
            let message = "too many questions to the registry are open";
            return Err(Fault::new(Code::QueueFull, message));
        }
        let find = Find {
            ends: now + FIND_TIMEOUT,
            agents: Vec::new(),
            bytes: 0,
        };
        self.0.insert(id, find);
        Ok(())
    }

    /// A part of an answer has come, in a message of so many bytes; gives what
    /// became of the find if that ends it.
    pub(super) fn handle_part(
        &mut self,
        id: MessageId,
        agents: Vec<AgentRecord>,
        bytes: usize,
        more: bool,
    ) -> Option<Outcome> {
        let find = self.0.get_mut(&id)?;
        find.bytes += bytes;
        let is_too_large =
            find.bytes > FIND_MAX_BYTES || find.agents.len() + agents.len() > AGENTS_MAX;
        if is_too_large {
            self.0.remove(&id);
            let fault = Fault::new(Code::TooLarge, "the registry's answer is too large")
                .with_hint("ask for a name or for a skill");
            return Some(Err(fault));
        }
        find.agents.extend(agents);
        if more {
            return None;
        }
        self.0.remove(&id).map(|find| Ok(find.agents))
    }

    /// Waits until [`Finds::expire`] has something to take. Cancel safe.
    pub(super) async fn wait(&self) {
        match self.poll_timeout() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().map(|find| find.ends).min()
    }

    /// Takes the finds whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<MessageId> {
        let expired = self.0.extract_if(.., |_, find| find.ends <= now);
        expired.map(|(id, _)| id).collect()
    }

    /// Takes all, because the connection has ended.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = MessageId> + use<> {
        std::mem::take(&mut self.0).into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_proto::{AgentId, Incarnation};

    fn id(n: usize) -> MessageId {
        MessageId::from_bytes((n as u128).to_be_bytes())
    }

    fn agents(count: usize) -> Vec<AgentRecord> {
        let agent = AgentRecord {
            name: "a".parse().expect("a name"),
            agent_id: AgentId::from_bytes([1; 32]),
            incarnation: Incarnation::new(1),
            online: true,
            roles: Vec::new(),
            skills: Vec::new(),
        };
        vec![agent; count]
    }

    fn code(outcome: Option<Outcome>) -> Option<Code> {
        outcome?.err().map(|fault| fault.code)
    }

    #[test]
    fn as_many_finds_as_the_limit_are_open_and_one_more_is_refused() {
        let (mut finds, now) = (Finds::default(), Instant::now());
        for n in 0..OPEN_FINDS_MAX {
            assert_eq!(finds.ask(now, id(n)), Ok(()));
        }
        let refused = finds.ask(now, id(OPEN_FINDS_MAX));
        assert_eq!(refused.map_err(|fault| fault.code), Err(Code::QueueFull));
    }

    #[test]
    fn an_answer_of_as_many_agents_as_the_limit_is_taken_and_one_more_is_too_large() {
        let (mut finds, now) = (Finds::default(), Instant::now());
        for (extra, expected) in [(0, None), (1, Some(Code::TooLarge))] {
            finds.ask(now, id(1)).expect("room");
            assert_eq!(finds.handle_part(id(1), agents(AGENTS_MAX), 1, true), None);
            let last = finds.handle_part(id(1), agents(extra), 1, false);
            assert!(last.is_some());
            assert_eq!(code(last), expected);
        }
    }

    #[test]
    fn an_answer_of_as_many_bytes_as_the_limit_is_taken_and_one_more_is_too_large() {
        let (mut finds, now) = (Finds::default(), Instant::now());
        finds.ask(now, id(1)).expect("room");
        let most = finds.handle_part(id(1), agents(1), FIND_MAX_BYTES, true);
        assert_eq!(most, None);
        let more = finds.handle_part(id(1), Vec::new(), 1, true);
        assert_eq!(code(more), Some(Code::TooLarge));
        assert_eq!(finds.handle_part(id(1), Vec::new(), 1, false), None);
    }

    #[test]
    fn a_find_without_the_end_of_its_answer_expires() {
        let (mut finds, now) = (Finds::default(), Instant::now());
        finds.ask(now, id(1)).expect("room");
        finds.handle_part(id(1), agents(1), 1, true);
        let ends = finds.poll_timeout().expect("a time");
        assert_eq!(finds.expire(ends - Duration::from_millis(1)), []);
        assert_eq!(finds.expire(ends), [id(1)]);
        assert_eq!(finds.poll_timeout(), None);
    }
}
