//! What can be measured, and the run of all that was asked for.

mod first_answer;
mod idle;
mod joins;
mod mailbox;
mod memory;
mod mesh;
mod one_way;
mod relay;
mod rtt;
mod sealing;
mod setup;
mod stored;

use std::str::FromStr;

use serde::Serialize;

use crate::error::BenchError;
use crate::figure::Figure;
use crate::settings::Settings;

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Round trip of 256 bytes, every contestant.
    Rtt,
    /// Messages and bytes a second one way, reliable and ordered.
    OneWay,
    /// From the first wish for a link to open channels on both sides.
    Setup,
    /// Memory of a link, on each side.
    Memory,
    /// Memory and processor time of a node that has nothing to do.
    Idle,
    /// Nodes that start at the same moment, until each is linked with each.
    Mesh,
    /// The first answer of a peer never spoken to, and when a link carries the traffic.
    FirstAnswer,
    /// By mailbox, to a receiver that is connected: until it has a message, until that is stored.
    Mailbox,
    /// Messages a second that become durable for a receiver that is away.
    Stored,
    /// Time to seal and to open a message.
    Sealing,
    /// Very many nodes that join at the same moment, and what they cost their registry.
    Joins,
    /// Datagrams through TURN servers: ours, and coturn where it is installed.
    Relay,
}

impl Measure {
    /// What concerns links.
    pub const LINK: [Self; 6] = [
        Self::Rtt,
        Self::OneWay,
        Self::Setup,
        Self::Memory,
        Self::Idle,
        Self::Mesh,
    ];

    /// What concerns the mailbox.
    pub const MAILBOX: [Self; 4] = [
        Self::FirstAnswer,
        Self::Mailbox,
        Self::Stored,
        Self::Sealing,
    ];

    /// What concerns the registry.
    pub const REGISTRY: [Self; 1] = [Self::Joins];

    /// What concerns relaying.
    pub const RELAY: [Self; 1] = [Self::Relay];

    /// The name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::OneWay => "one_way",
            Self::Setup => "setup",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Mesh => "mesh",
            Self::FirstAnswer => "first_answer",
            Self::Mailbox => "mailbox",
            Self::Stored => "stored",
            Self::Sealing => "sealing",
            Self::Joins => "joins",
            Self::Relay => "relay",
        }
    }
}

/// A name that is not that of a measure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such measure; of links there are rtt, one_way, setup, memory, idle and mesh, of the \
     mailbox first_answer, mailbox, stored and sealing, of the registry joins, of relays relay"
)]
pub struct UnknownMeasure;

impl FromStr for Measure {
    type Err = UnknownMeasure;

    fn from_str(text: &str) -> Result<Self, UnknownMeasure> {
        [
            &Self::LINK[..],
            &Self::MAILBOX,
            &Self::REGISTRY,
            &Self::RELAY,
        ]
        .concat()
        .into_iter()
        .find(|measure| measure.name() == text)
        .ok_or(UnknownMeasure)
    }
}

/// Measures what the settings ask for and hands each figure out as soon as it is known.
///
/// # Errors
///
/// [`BenchError`] of the first measure that cannot be finished; figures handed out
/// before are good.
pub async fn run(settings: &Settings, mut each: impl FnMut(&Figure)) -> Result<(), BenchError> {
    for measure in &settings.measures {
        let figures = match measure {
            Measure::Rtt => rtt::run(settings).await?,
            Measure::OneWay => one_way::run(settings).await?,
            Measure::Setup => setup::run(settings).await?,
            Measure::Memory => memory::run(settings).await?,
            Measure::Idle => idle::run(settings).await?,
            Measure::Mesh => mesh::run(settings).await?,
            Measure::FirstAnswer => first_answer::run(settings).await?,
            Measure::Mailbox => mailbox::run(settings).await?,
            Measure::Stored => stored::run(settings).await?,
            Measure::Sealing => sealing::run(settings)?,
            Measure::Joins => joins::run(settings).await?,
            Measure::Relay => relay::run(settings).await?,
        };
        figures.iter().for_each(&mut each);
    }
    Ok(())
}
