//! The work of the demo: parts of a text, counted by the workers and put together.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use waymesh_node::skills::wordcount::WordCount;
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::{Name, SkillName};
use waymesh_proto::ipc::Verb;
use waymesh_proto::{Code, Fault, Priority};

use super::report::Delegation;
use super::stage::Actor;
use crate::output::{Output, millis};
use crate::sidecar::Answer;

/// What the workers do.
pub(super) const SKILL: &str = "wordcount";

/// Parts that one worker has at a time. Chosen: while it counts one, the next ones are
/// on their way.
const IN_FLIGHT_A_WORKER: usize = 4;

/// What all delegations together came to.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) counted: WordCount,
    pub(super) delegations: usize,
    pub(super) not_direct: usize,
}

/// Delegates the parts to the workers in turn and merges what they answer.
pub(super) async fn delegate(
    coordinator: &mut Actor,
    workers: &[Actor],
    parts: &[&str],
    limit: Duration,
    out: Output,
) -> Result<Work, Fault> {
    let skill = skill()?;
    let spinner = out.progress("delegating");
    let mut waiting = parts.iter().enumerate();
    let mut open = HashMap::new();
    let mut work = Work::default();
    loop {
        while open.len() < workers.len() * IN_FLIGHT_A_WORKER
            && let Some((number, text)) = waiting.next()
        {
            let worker = &workers[number % workers.len()].name;
            let verb = call(worker, &skill, text, limit);
            let id = coordinator.sidecar.start_call(verb).await?;
            open.insert(id, (number + 1, worker, text.len()));
        }
        if open.is_empty() {
            break;
        }
        let (id, answer) = coordinator.sidecar.next_answer(limit).await?;
        let Some((part, worker, bytes)) = open.remove(&id) else {
            continue;
        };
        let (delegation, counted) = read(part, worker, bytes, &answer)?;
        work.add(&delegation, counted);
        spinner.suspend(|| out.tell(&delegation));
    }
    spinner.finish_and_clear();
    Ok(work)
}

impl Work {
    fn add(&mut self, delegation: &Delegation, counted: WordCount) {
        self.counted.merge(counted);
        self.delegations += 1;
        self.not_direct += usize::from(!delegation.is_direct());
    }
}

/// The skill's name as the node takes it.
pub(super) fn skill() -> Result<SkillName, Fault> {
    SKILL
        .parse()
        .map_err(|error| Fault::new(Code::Internal, format!("{error}")))
}

/// A call that counts the words of a text.
pub(super) fn call(worker: &Name, skill: &SkillName, text: &str, limit: Duration) -> Verb {
    Verb::Call {
        to: worker.clone(),
        skill: skill.clone(),
        payload: Payload::json(json!({ "text": text }).to_string()),
        timeout: limit,
        idempotent: true,
        priority: Priority::Normal,
    }
}

fn read(
    part: usize,
    worker: &Name,
    bytes: usize,
    answer: &Answer,
) -> Result<(Delegation, WordCount), Fault> {
    let counted: WordCount = serde_json::from_slice(&answer.payload.bytes).map_err(|error| {
        Fault::new(
            Code::BadRequest,
            format!("{worker} answered something else than a count: {error}"),
        )
    })?;
    let delegation = Delegation {
        event: "delegation",
        part,
        worker: worker.clone(),
        skill: SKILL,
        bytes,
        words: counted.words,
        path: answer.route.path,
        request_path: answer.route.request_path,
        elapsed_ms: millis(answer.route.elapsed),
    };
    Ok((delegation, counted))
}
