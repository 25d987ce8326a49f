//! Clients that wait for what the network gives: each is answered when no server is waited
//! for any more, or when its time is over.

use std::time::{Duration, Instant};

use waymesh_core::app::ClientId;
use waymesh_proto::ids::MessageId;

/// Examinations that are open at a time; one more is answered at once with what is known.
/// Chosen: people ask for them, one by one.
const EXAMINATIONS_MAX: usize = 64;

/// The open ones.
#[derive(Debug, Default)]
pub(crate) struct Examinations {
    open: Vec<Examination>,
}

/// One that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Examination {
    pub(crate) client: ClientId,
    pub(crate) id: MessageId,
    until: Instant,
}

/// Whether servers are still waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    Waited,
    Settled,
}

impl Examinations {
    /// Notes one that is to be answered after `timeout` at the latest.
    pub(crate) fn add(&mut self, now: Instant, client: ClientId, id: MessageId, timeout: Duration) {
        let has_room = self.open.len() < EXAMINATIONS_MAX;
        let until = if has_room { now + timeout } else { now };
        self.open.push(Examination { client, id, until });
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// When one is over, whatever servers say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.open.iter().map(|examination| examination.until).min()
    }

    /// Takes those that are over.
    pub(crate) fn take_over(&mut self, now: Instant, servers: Servers) -> Vec<Examination> {
        let is_over =
            |examination: &mut Examination| servers == Servers::Settled || examination.until <= now;
        self.open.extract_if(.., is_over).collect()
    }

    /// The client is gone.
    pub(crate) fn forget(&mut self, client: ClientId) {
        self.open.retain(|examination| examination.client != client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(n: u8) -> MessageId {
        MessageId::new(0, [n; 10])
    }

    fn ids(over: &[Examination]) -> Vec<MessageId> {
        over.iter().map(|examination| examination.id).collect()
    }

    #[test]
    fn an_examination_is_over_when_the_servers_are_settled_or_its_time_is() {
        let now = Instant::now();
        let mut open = Examinations::default();
        open.add(now, ClientId(1), id(1), SECOND);
        open.add(now, ClientId(2), id(2), 2 * SECOND);
        assert_eq!(open.poll_timeout(), Some(now + SECOND));
        assert!(open.take_over(now, Servers::Waited).is_empty());
        assert_eq!(ids(&open.take_over(now + SECOND, Servers::Waited)), [id(1)]);
        assert_eq!(
            ids(&open.take_over(now + SECOND, Servers::Settled)),
            [id(2)]
        );
        assert!(open.is_empty() && open.poll_timeout().is_none());
    }

    #[test]
    fn as_many_as_the_limit_wait_and_one_more_is_over_at_once() {
        let now = Instant::now();
        let mut open = Examinations::default();
        for _ in 0..EXAMINATIONS_MAX {
            open.add(now, ClientId(1), id(1), SECOND);
        }
        assert!(open.take_over(now, Servers::Waited).is_empty());
        open.add(now, ClientId(1), id(2), SECOND);
        assert_eq!(ids(&open.take_over(now, Servers::Waited)), [id(2)]);
    }

    #[test]
    fn who_is_gone_is_told_nothing() {
        let now = Instant::now();
        let mut open = Examinations::default();
        open.add(now, ClientId(1), id(1), SECOND);
        open.add(now, ClientId(2), id(2), SECOND);
        open.forget(ClientId(1));
        assert_eq!(ids(&open.take_over(now, Servers::Settled)), [id(2)]);
    }
}
