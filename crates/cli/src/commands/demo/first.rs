//! The first words between two agents that never met: through the mailbox at once,
//! while the link is made.

use std::time::Duration;

use waymesh_proto::Fault;

use super::report::FirstAnswer;
use super::stage::Actor;
use super::work::{self, SKILL};
use crate::output::millis;

/// What is asked first.
const WORDS: &str = "one two two";

/// Asks one agent before there is a link to it.
pub(super) async fn ask(
    from: &mut Actor,
    to: &Actor,
    limit: Duration,
) -> Result<FirstAnswer, Fault> {
    let verb = work::call(&to.name, &work::skill()?, WORDS, limit);
    let answer = from.sidecar.call(verb, limit).await?;
    Ok(FirstAnswer {
        event: "first_answer",
        from: from.name.clone(),
        to: to.name.clone(),
        skill: SKILL,
        path: answer.route.path,
        request_path: answer.route.request_path,
        elapsed_ms: millis(answer.route.elapsed),
    })
}
