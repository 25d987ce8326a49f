//! A new key for the same agent.

use std::path::PathBuf;

use serde::Serialize;
use waymesh_node::rotate_identity;
use waymesh_proto::Fault;
use waymesh_proto::ids::AgentId;

use crate::Outcome;
use crate::commands::Context;
use crate::output::{Look, Tell};

#[derive(Debug, Serialize)]
struct Rotated {
    ok: bool,
    agent_id: AgentId,
    key: AgentId,
    rotations: u32,
    data_dir: PathBuf,
}

pub(super) fn run(data_dir: PathBuf, context: &Context) -> Result<Outcome, Fault> {
    let rotated = rotate_identity(&data_dir)?;
    context.out.tell(&Rotated {
        ok: true,
        agent_id: rotated.agent_id,
        key: rotated.key,
        rotations: rotated.rotations,
        data_dir,
    });
    Ok(Outcome::Done)
}

impl Tell for Rotated {
    fn text(&self, _: Look) -> String {
        format!(
            "{} has the new key {}, its {} change; start its node again",
            self.agent_id,
            self.key,
            ordinal(self.rotations),
        )
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
