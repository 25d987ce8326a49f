//! `waymesh call`: a skill of a peer, and its answer.

use serde::Serialize;
use serde_json::Value;
use waymesh_proto::ids::{MessageId, Name, SkillName};
use waymesh_proto::ipc::Verb;
use waymesh_proto::link::Path;
use waymesh_proto::{Fault, Priority};

use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, millis, or_dash, word};
use crate::payload::{PayloadArgs, as_json};
use crate::sidecar::Sidecar;

const EXAMPLES: &str = "\
Examples:
  waymesh call bob echo --data '{\"hello\": \"bob\"}'
  waymesh call bob wordcount --data '{\"text\": \"one two two\"}'
  waymesh call bob wordcount --data @request.json --timeout 5s --json

waymesh agents lists the skills that there are.";

/// Call a skill of a peer and print its answer
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the peer
    peer: Name,
    /// The skill
    skill: SkillName,
    #[command(flatten)]
    payload: PayloadArgs,
    /// Running it twice does no harm: repeat it when the peer restarts
    #[arg(long)]
    idempotent: bool,
}

#[derive(Debug, Serialize)]
struct Answered {
    ok: bool,
    result: Value,
    path: Option<Path>,
    request_path: Option<Path>,
    elapsed_ms: f64,
    id: Option<MessageId>,
}

impl Tell for Answered {
    /// The result alone in a pipe; a person also learns how it came.
    fn text(&self, look: Look) -> String {
        let result = match &self.result {
            Value::String(text) => text.clone(),
            other => format!("{other:#}"),
        };
        match look {
            Look::Plain => result,
            Look::Terminal => format!(
                "{result}\n({}, {:.2} ms)",
                or_dash(self.path.map(|path| word(&path))),
                self.elapsed_ms
            ),
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let payload = args.payload.or_null()?;
    let mut sidecar = Sidecar::of(context).await?;
    let spinner = context
        .out
        .progress(format!("calling {} of {}", args.skill, args.peer));
    let verb = Verb::Call {
        to: args.peer,
        skill: args.skill,
        payload,
        timeout: context.timeout,
        idempotent: args.idempotent,
        priority: Priority::Normal,
    };
    let answered = sidecar.call(verb, context.timeout).await;
    spinner.finish_and_clear();
    let answer = answered?;
    context.out.tell(&Answered {
        ok: true,
        result: as_json(&answer.payload),
        path: answer.route.path,
        request_path: answer.route.request_path,
        elapsed_ms: millis(answer.route.elapsed),
        id: answer.route.message_id,
    });
    Ok(Outcome::Done)
}
