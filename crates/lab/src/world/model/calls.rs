//! Calls: what the caller was told, and which handlers were entered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use waymesh_core::app::{ClientId, InboundId};
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::MessageId;

use super::super::report::{Checked, Counts, Invariant, Violation, hold};
use super::super::workload::{Skill, reply};
use super::{Life, Lives, SLACK};

/// How long after the healing a caller may need to find out that the life that
/// worked on its call is over: attempts at a link, and a pause between them.
const LOSS_BOUND: Duration = Duration::from_secs(20);

/// One call.
#[derive(Debug)]
pub struct CallRecord {
    /// Who calls.
    pub from: Life,
    /// The client that waits.
    pub client: ClientId,
    /// Which host is called.
    pub to: usize,
    /// Which skill.
    pub skill: Skill,
    /// Whether it may be repeated.
    pub idempotent: bool,
    /// When it began.
    pub started: Instant,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether it was withdrawn, and when.
    pub cancelled: Option<Instant>,
    /// When it ended and with what error.
    pub ended: Option<(Instant, Option<Code>)>,
    /// The client left: nobody is told any more.
    pub unwatched: bool,
    not_executed: bool,
    entered: Vec<u32>,
}

/// A call in the hands of a handler.
#[derive(Debug)]
struct Work {
    id: MessageId,
    server: ClientId,
    deadline: Instant,
    replied: Option<Instant>,
    released: bool,
}

/// All calls.
#[derive(Debug, Default)]
pub struct Calls {
    all: BTreeMap<MessageId, CallRecord>,
    works: BTreeMap<(Life, InboundId), Work>,
    /// The registry is hostile: what only it can know may be false.
    pub is_doubtful: bool,
}

/// What excuses an error that would be wrong else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Excuse {
    /// Skills of the called host came and went.
    pub skills_came_and_went: bool,
    /// Papers or policies of the two explain the error.
    pub may_refuse: bool,
    /// The two cannot have a link, which alone shows a new life at once.
    pub has_no_link: bool,
}

impl CallRecord {
    /// A call that a client is about to make.
    pub fn new(
        from: Life,
        client: ClientId,
        to: usize,
        skill: Skill,
        idempotent: bool,
        started: Instant,
        timeout: Duration,
    ) -> Self {
        Self {
            from,
            client,
            to,
            skill,
            idempotent,
            started,
            timeout,
            cancelled: None,
            ended: None,
            unwatched: false,
            not_executed: false,
            entered: Vec::new(),
        }
    }

    fn deadline(&self) -> Instant {
        self.started + self.timeout
    }
}

impl Calls {
    /// A client calls.
    pub fn handle_called(&mut self, id: MessageId, call: CallRecord) {
        self.all.insert(id, call);
    }

    /// A client left: its calls are withdrawn and nobody is told.
    pub fn handle_client_gone(&mut self, client: ClientId) {
        for call in self.all.values_mut().filter(|call| call.client == client) {
            call.unwatched = true;
        }
        for work in self.works.values_mut().filter(|work| work.server == client) {
            work.released = true;
        }
    }

    /// The open calls of a life.
    pub fn open_of(&self, from: Life) -> Vec<MessageId> {
        let open = self
            .all
            .iter()
            .filter(|(_, call)| call.from == from && call.ended.is_none() && !call.unwatched);
        open.map(|(id, _)| *id).collect()
    }

    /// A client withdraws its call.
    pub fn handle_cancelled(&mut self, now: Instant, id: MessageId) {
        if let Some(call) = self.all.get_mut(&id) {
            call.cancelled = Some(now);
        }
    }

    /// A handler was entered.
    pub fn handle_entered(
        &mut self,
        now: Instant,
        id: MessageId,
        at: Life,
        server: ClientId,
        (inbound, redelivered): (InboundId, bool),
        remaining: Duration,
    ) -> Checked {
        let Some(call) = self.all.get_mut(&id) else {
            return Err(Violation::new(
                Invariant::Integrity,
                format!("a handler was entered for {id}, which nobody called"),
            ));
        };
        hold!(
            call.to == at.host,
            Integrity,
            "{id} was for host {} and came to {}",
            call.to,
            at.host
        );
        hold!(
            remaining <= call.timeout,
            Integrity,
            "{id} has {remaining:?} left of {:?}",
            call.timeout
        );
        hold!(
            !call.not_executed || self.is_doubtful,
            NotExecutedIsTrue,
            "{id} entered a handler after its caller was told that it does not"
        );
        hold!(
            !call.entered.contains(&at.number)
                && (call.idempotent || redelivered || call.entered.is_empty() || self.is_doubtful),
            EnteredOnce,
            "{id} (idempotent: {}) entered a handler in life {} (marked: {redelivered}) after {:?}",
            call.idempotent,
            at.number,
            call.entered
        );
        call.entered.push(at.number);
        let deadline = now + remaining;
        self.works.insert(
            (at, inbound),
            Work {
                id,
                server,
                deadline,
                replied: None,
                released: false,
            },
        );
        Ok(())
    }

    /// The skill of a call.
    pub fn skill_of(&self, id: &MessageId) -> Option<Skill> {
        self.all.get(id).map(|call| call.skill)
    }

    /// Who called it.
    pub fn caller_of(&self, id: &MessageId) -> Option<Life> {
        self.all.get(id).map(|call| call.from)
    }

    /// The host that is called.
    pub fn target_of(&self, id: &MessageId) -> Option<usize> {
        self.all.get(id).map(|call| call.to)
    }

    /// A handler answers.
    pub fn handle_replied(&mut self, now: Instant, at: Life, inbound: InboundId) {
        if let Some(work) = self.works.get_mut(&(at, inbound)) {
            work.replied = Some(now);
        }
    }

    /// A handler was told that nobody waits.
    pub fn handle_released(
        &mut self,
        now: Instant,
        at: Life,
        inbound: InboundId,
        reason: &Fault,
        lives: &Lives,
    ) -> Checked {
        let Some(work) = self.works.get_mut(&(at, inbound)) else {
            return Err(Violation::new(
                Invariant::CancelArrives,
                format!("{at:?} was told to cancel {inbound:?}, which it does not work on"),
            ));
        };
        // One that was told just before it answered could not know.
        let answered = work.replied.is_some_and(|at| at < now);
        hold!(
            !answered && !work.released,
            CancelArrives,
            "the handler of {} was told of its end a second time",
            work.id
        );
        work.released = true;
        let Some(call) = self.all.get(&work.id) else {
            return Ok(());
        };
        let gone = call.unwatched || !lives.is_alive(call.from);
        let (ok, why) = match reason.code {
            Code::Cancelled => (
                call.cancelled.is_some() || call.ended.is_some() || gone,
                "nobody cancelled it",
            ),
            Code::Timeout => (now + SLACK >= work.deadline, "it is too early"),
            Code::PeerLost => (!lives.is_alive(call.from), "the caller lives"),
            _ => (false, "that is no reason"),
        };
        hold!(
            ok,
            FaultIsTrue,
            "the handler of {} was told {reason:?}: {why}",
            work.id
        );
        Ok(())
    }

    /// A caller got its answer.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        id: MessageId,
        outcome: &Result<Payload, Fault>,
        lives: &Lives,
        excuse: Excuse,
    ) -> Checked {
        let Excuse {
            skills_came_and_went,
            may_refuse,
            has_no_link,
        } = excuse;
        let is_doubtful = self.is_doubtful;
        let Some(call) = self.all.get_mut(&id) else {
            return Err(Violation::new(
                Invariant::OneAnswer,
                format!("an answer to {id}, which nobody called"),
            ));
        };
        hold!(
            !call.unwatched,
            OneAnswer,
            "{id} was answered to a client that left"
        );
        hold!(
            call.ended.is_none(),
            OneAnswer,
            "{id} ended as {:?} and again as {outcome:?}",
            call.ended
        );
        hold!(
            now <= call.deadline() + SLACK,
            AnsweredInTime,
            "{id} ended too late with {outcome:?}"
        );
        call.ended = Some((now, outcome.as_ref().err().map(|fault| fault.code)));
        let fault = match outcome {
            Ok(payload) => {
                hold!(
                    !call.entered.is_empty(),
                    AnswerIsTrue,
                    "{id} has a result, but no handler was entered"
                );
                hold!(
                    *payload == reply(id) && call.skill.answers(),
                    AnswerIsTrue,
                    "{id} has a result that no handler gave"
                );
                return Ok(());
            }
            Err(fault) => fault,
        };
        if fault.executed == Some(Executed::No) {
            hold!(
                call.entered.is_empty() || is_doubtful,
                NotExecutedIsTrue,
                "{id} ended with {fault:?}, but its handler was entered"
            );
            call.not_executed = true;
        }
        let died = |number| {
            let worked = Life {
                host: call.to,
                number,
            };
            !lives.is_alive(worked) && (!call.idempotent || lives.current(call.to).is_some())
        };
        let silent = fault.code == Code::Timeout && call.entered.last().copied().is_some_and(died);
        let told_late = lives
            .well_since()
            .is_some_and(|well| now > well + LOSS_BOUND);
        hold!(
            !silent || !told_late || has_no_link || is_doubtful,
            LossIsTold,
            "{id} ran into its deadline, but the life that worked on it was long over"
        );
        let (ok, why) = match fault.code {
            Code::PeerLost => {
                hold!(
                    lives.may_seem_lost(call.to, call.started),
                    PeerLostIsTrue,
                    "{id} ended with {fault:?}, but host {} was there all the time",
                    call.to
                );
                (true, "")
            }
            Code::Cancelled => (call.cancelled.is_some(), "nobody cancelled it"),
            Code::HandlerFailed => (
                call.skill == Skill::Failing && !call.entered.is_empty(),
                "no handler failed",
            ),
            Code::HandlerLost => (
                skills_came_and_went && !call.entered.is_empty(),
                "no handler left",
            ),
            Code::UnknownSkill => (
                call.skill == Skill::Missing || skills_came_and_went,
                "the skill was there all the time",
            ),
            Code::QueueFull | Code::MessageTooLarge => {
                (now == call.started, "that is known at once")
            }
            Code::Timeout
            | Code::LinkFailed
            | Code::UnknownPeer
            | Code::PeerOffline
            | Code::RegistryUnreachable => (now + SLACK >= call.deadline(), "it is too early"),
            _ => (may_refuse || is_doubtful, "that is no reason"),
        };
        hold!(
            ok || may_refuse,
            FaultIsTrue,
            "{id} of {:?} ended with {fault:?}: {why}",
            call.skill
        );
        Ok(())
    }

    /// What must hold at any time, and is looked at once the world is well.
    pub fn check_settled(&self, now: Instant, lives: &Lives) -> Checked {
        for (id, call) in &self.all {
            let open = call.ended.is_none() && !call.unwatched && lives.is_alive(call.from);
            hold!(
                !open || now <= call.deadline() + SLACK,
                AnsweredInTime,
                "{id} of {:?} never ended",
                call.skill
            );
        }
        for ((at, _), work) in &self.works {
            let open = work.replied.is_none() && !work.released && lives.is_alive(*at);
            hold!(
                !open || now <= work.deadline + SLACK,
                CancelArrives,
                "the handler of {} was never told that its time is over",
                work.id
            );
        }
        Ok(())
    }

    /// Whether a handler of this life still works on a call.
    pub fn is_worked_on(&self, id: &MessageId, lives: &Lives) -> bool {
        let mut works = self.works.iter().filter(|(_, work)| work.id == *id);
        works.any(|((at, _), work)| work.replied.is_none() && !work.released && lives.is_alive(*at))
    }

    /// Whether a handler was entered for the call.
    pub fn was_entered(&self, id: &MessageId) -> bool {
        self.all
            .get(id)
            .is_some_and(|call| !call.entered.is_empty())
    }

    /// How the call ended: `None` while it is open, `Some(None)` with a result.
    pub fn ending_of(&self, id: &MessageId) -> Option<Option<Code>> {
        self.all.get(id)?.ended.map(|(_, code)| code)
    }

    /// Whether anybody still waits for, or works on, anything.
    pub fn has_open(&self, lives: &Lives) -> bool {
        let waits = |call: &CallRecord| {
            call.ended.is_none() && !call.unwatched && lives.is_alive(call.from)
        };
        let works = |(at, work): (&(Life, InboundId), &Work)| {
            work.replied.is_none() && !work.released && lives.is_alive(at.0)
        };
        self.all.values().any(waits) || self.works.iter().any(works)
    }

    /// Adds what happened to the counts.
    pub fn count(&self, counts: &mut Counts) {
        counts.calls += self.all.len() as u64;
        for call in self.all.values() {
            match call.ended {
                Some((_, None)) => counts.answered += 1,
                Some((_, Some(Code::PeerLost))) => counts.peer_lost += 1,
                _ => {}
            }
        }
    }
}
