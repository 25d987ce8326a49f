//! The built-in skills, for checks and demonstrations.

pub mod wordcount;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use waymesh_core::app::{Command, Event, InboundId};
use waymesh_proto::api::SkillSpec;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::SkillName;

use crate::client::{Client, ClientSender, new_id};

/// A skill that every node can offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Builtin {
    /// Gives back what it got.
    Echo,
    /// Counts the words of a text.
    Wordcount,
    /// Answers after a while.
    Sleep,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Echo, Self::Wordcount, Self::Sleep];

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Wordcount => "wordcount",
            Self::Sleep => "sleep",
        }
    }

    fn spec(self) -> SkillSpec {
        let (description, schema) = match self {
            Self::Echo => ("Gives back what it got.", None),
            Self::Wordcount => (
                "Counts the words of a text; words are what Unicode white space separates.",
                Some(object("text", "string")),
            ),
            Self::Sleep => (
                "Answers after some seconds.",
                Some(object("seconds", "number")),
            ),
        };
        SkillSpec {
            name: self.name().parse().expect("the built-in names are valid"),
            description: Some(description.into()),
            schema,
            idempotent: true,
        }
    }
}

fn object(property: &str, kind: &str) -> serde_json::Value {
    json!({
        "type": "object",
        "properties": {property: {"type": kind}},
        "required": [property],
    })
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No built-in skill has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no built-in skill is called {0}; there are echo, wordcount and sleep")]
pub struct UnknownBuiltin(String);

impl FromStr for Builtin {
    type Err = UnknownBuiltin;

    fn from_str(name: &str) -> Result<Self, UnknownBuiltin> {
        let found = Self::ALL.into_iter().find(|builtin| builtin.name() == name);
        found.ok_or_else(|| UnknownBuiltin(name.into()))
    }
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
struct Nap {
    seconds: f64,
}

/// Serves the skills until the node stops.
pub(crate) async fn serve(client: Client, builtins: BTreeSet<Builtin>) {
    let (sender, mut events) = client.split();
    for builtin in &builtins {
        let command = Command::OfferSkill {
            id: new_id(),
            spec: builtin.spec(),
        };
        if sender.send(command).await.is_err() {
            return;
        }
    }
    // Owned here: naps end with the node. Core bounds how many calls are in hand.
    let mut naps = JoinSet::new();
    while let Some(event) = events.recv().await {
        while naps.try_join_next().is_some() {}
        if let Event::Call {
            call,
            skill,
            payload,
            remaining,
            ..
        } = event
        {
            match answer(&skill, payload) {
                Answer::Now(outcome) => reply(&sender, call, outcome).await,
                Answer::After(nap) => {
                    let sender = sender.clone();
                    naps.spawn(async move {
                        tokio::time::sleep(nap.min(remaining)).await;
                        let slept = json!({"slept": nap.as_secs_f64()});
                        reply(&sender, call, Ok(Payload::json(slept.to_string()))).await;
                    });
                }
            }
        }
    }
}

enum Answer {
    Now(Result<Payload, Fault>),
    After(Duration),
}

fn answer(skill: &SkillName, payload: Payload) -> Answer {
    match skill.as_str().parse() {
        Ok(Builtin::Echo) => Answer::Now(Ok(payload)),
        Ok(Builtin::Wordcount) => Answer::Now(parsed(&payload).and_then(|Text { text }| {
            let counts = wordcount::count(&text).fitting_a_message();
            let json = serde_json::to_vec(&counts);
            json.map(Payload::json)
                .map_err(|error| Fault::new(Code::Internal, error.to_string()))
        })),
        Ok(Builtin::Sleep) => match parsed(&payload) {
            Ok(Nap { seconds }) => match Duration::try_from_secs_f64(seconds) {
                Ok(nap) => Answer::After(nap),
                Err(error) => Answer::Now(Err(Fault::new(
                    Code::InvalidArguments,
                    format!("{seconds} seconds: {error}"),
                ))),
            },
            Err(fault) => Answer::Now(Err(fault)),
        },
        Err(unknown) => Answer::Now(Err(Fault::new(Code::UnknownSkill, unknown.to_string()))),
    }
}

fn parsed<'a, T: Deserialize<'a>>(payload: &'a Payload) -> Result<T, Fault> {
    serde_json::from_slice(&payload.bytes)
        .map_err(|error| Fault::new(Code::InvalidArguments, error.to_string()))
}

async fn reply(sender: &ClientSender, call: InboundId, outcome: Result<Payload, Fault>) {
    // A node that is gone needs no answer.
    let _ = sender.send(Command::Reply { call, outcome }).await;
}
