//! `waymesh send`: one message to a peer, and what became of it.

use std::time::Duration;

use serde::Serialize;
use waymesh_proto::api::SendState;
use waymesh_proto::ids::{MessageId, Name};
use waymesh_proto::ipc::{Follow, Verb, Wait};
use waymesh_proto::limits::TTL_DEFAULT_MS;
use waymesh_proto::link::Path;
use waymesh_proto::{Class, Fault, Priority};

use super::Context;
use crate::output::{Look, Tell, or_dash, word};
use crate::payload::PayloadArgs;
use crate::sidecar::{Sidecar, Until};
use crate::{Outcome, settings};

const EXAMPLES: &str = "\
Examples:
  waymesh send bob --text 'hello there'
  waymesh send bob --data '{\"temperature\": 21.5}' --class telemetry
  waymesh send bob --data @report.json --class bulk --wait --ttl 1h

It is done as soon as the message is stored in the mailbox of the peer, or delivered.
With --wait it is done when the receiving program has acknowledged it; where no program
reads the messages of the peer, none does, and the message expires. Of the lossy classes
events, telemetry and live no more may be known than that the message was queued.";

/// Send a message to a peer and say what became of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the receiver
    peer: Name,
    #[command(flatten)]
    payload: PayloadArgs,
    /// How it is delivered: control, tasks, bulk, events, telemetry or live
    #[arg(long, default_value = "control", value_parser = class)]
    class: Class,
    /// Wait until the receiving program has it
    #[arg(long)]
    wait: bool,
    /// How long it may take to arrive before it is given up
    #[arg(long, value_name = "TIME", value_parser = settings::duration, default_value = "300s")]
    ttl: Duration,
}

const _: () = assert!(TTL_DEFAULT_MS == 300_000, "the default of --ttl");

#[derive(Debug, Serialize)]
struct Sent {
    ok: bool,
    state: SendState,
    path: Option<Path>,
    id: MessageId,
}

impl Tell for Sent {
    fn text(&self, _: Look) -> String {
        format!(
            "{} ({}), message {}",
            word(&self.state),
            or_dash(self.path.map(|path| word(&path))),
            self.id
        )
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let payload = args.payload.required()?;
    let mut sidecar = Sidecar::of(context).await?;
    let (until, wait) = match args.wait {
        true => (Until::Delivered, Wait::Delivered),
        false => (Until::Stored, Wait::Stored),
    };
    let verb = Verb::Send {
        to: args.peer,
        payload,
        class: args.class,
        priority: Priority::Normal,
        ttl: args.ttl,
        wait,
        follow: Follow::default(),
    };
    let outcome = sidecar.send(verb, until, context.timeout).await?;
    context.out.tell(&Sent {
        ok: true,
        state: outcome.state,
        path: outcome.path,
        id: outcome.message_id,
    });
    Ok(Outcome::Done)
}

fn class(text: &str) -> Result<Class, String> {
    Class::ALL
        .into_iter()
        .find(|class| class.label() == text)
        .ok_or_else(|| "there are control, tasks, bulk, events, telemetry and live".to_owned())
}
