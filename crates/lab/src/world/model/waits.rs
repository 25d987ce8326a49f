//! Connects, pings, finds and claims: each is answered once and in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use waymesh_core::app::ClientId;
use waymesh_proto::ids::MessageId;

use super::super::report::{Checked, Invariant, Violation, hold};
use super::{Life, Lives, SLACK};

#[derive(Debug)]
struct Wait {
    by: Life,
    client: ClientId,
    deadline: Instant,
    answered: Option<bool>,
}

/// All that clients wait for besides messages and calls.
#[derive(Debug, Default)]
pub struct Waits {
    all: BTreeMap<MessageId, Wait>,
}

impl Waits {
    /// A client asks.
    pub fn handle_asked(
        &mut self,
        now: Instant,
        id: MessageId,
        by: Life,
        client: ClientId,
        timeout: Duration,
    ) {
        let deadline = now + timeout;
        self.all.insert(
            id,
            Wait {
                by,
                client,
                deadline,
                answered: None,
            },
        );
    }

    /// A client left: it is told nothing more.
    pub fn handle_client_gone(&mut self, client: ClientId) {
        self.all
            .retain(|_, wait| wait.client != client || wait.answered.is_some());
    }

    /// A client was answered.
    pub fn handle_answer(&mut self, now: Instant, id: MessageId, good: bool) -> Checked {
        let Some(wait) = self.all.get_mut(&id) else {
            return Err(Violation::new(
                Invariant::AnsweredOnce,
                format!("an answer to {id}, which nobody asked"),
            ));
        };
        hold!(
            wait.answered.is_none(),
            AnsweredOnce,
            "{id} was answered twice"
        );
        hold!(
            now <= wait.deadline + SLACK,
            AnsweredOnce,
            "{id} was answered too late"
        );
        wait.answered = Some(good);
        Ok(())
    }

    /// Whether the answer has come and was good.
    pub fn is_good(&self, id: &MessageId) -> bool {
        self.all
            .get(id)
            .and_then(|wait| wait.answered)
            .unwrap_or(false)
    }

    /// What must hold at any time, and is looked at once the world is well.
    pub fn check_settled(&self, now: Instant, lives: &Lives) -> Checked {
        for (id, wait) in &self.all {
            let open = wait.answered.is_none() && lives.is_alive(wait.by);
            hold!(
                !open || now <= wait.deadline + SLACK,
                AnsweredOnce,
                "{id} was never answered"
            );
        }
        Ok(())
    }
}
