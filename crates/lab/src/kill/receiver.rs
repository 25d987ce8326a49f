//! A program that takes what comes, acknowledges it in irregular groups, and lives as long
//! as its node.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use waymesh_lab::dice::Dice;
use waymesh_proto::ipc::{Attach, Event, RequestId, Verb};

use super::ledger::Ledger;
use super::letter::{Letter, Life};
use crate::stage::Program;

/// Most messages that it holds without acknowledging them. Chosen: a kill finds some.
const HELD_MAX: u64 = 24;

/// How long it holds them when no more come.
const HELD_FOR: Duration = Duration::from_millis(20);

/// The id of the only request that is answered.
const ATTACH: u64 = 1;

/// One life of a receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) life: Life,
    pub(crate) dice: Dice,
}

impl Receiver {
    /// Takes messages until the node dies.
    pub(crate) fn live(mut self, program: Program) {
        // It ends only because the node is killed.
        let _ = self.take(program);
    }

    fn take(&mut self, mut program: Program) -> io::Result<()> {
        let attach = Verb::Attach(Attach::Own);
        program.mouth.tell(Some(RequestId::from(ATTACH)), attach)?;
        let mut held = Vec::new();
        let mut most = self.dice.between(1, HELD_MAX);
        loop {
            let limit = if held.is_empty() {
                Duration::from_secs(1)
            } else {
                HELD_FOR
            };
            let event = program.ear.hear(limit)?;
            let is_quiet = event.is_none();
            held.extend(event.and_then(|event| self.handle(event)));
            if is_quiet || held.len() as u64 >= most {
                for (delivery, letter) in held.drain(..) {
                    self.ledger.acknowledging(letter);
                    program.mouth.tell(None, Verb::Ack { delivery })?;
                }
                most = self.dice.between(1, HELD_MAX);
            }
        }
    }

    /// What is to be acknowledged.
    fn handle(&self, event: Event) -> Option<(u64, Letter)> {
        match event {
            Event::Message {
                delivery,
                from,
                redelivered,
                payload,
                ..
            } => {
                let letter = Letter::read(&payload);
                match (letter, delivery) {
                    (Some(letter), Some(delivery)) => {
                        self.ledger.given(letter, self.life, redelivered);
                        return Some((delivery, letter));
                    }
                    _ => self
                        .ledger
                        .violated(format!("{from}: a message that is not whole")),
                }
            }
            Event::Gap { missing, .. } => self.ledger.gap(missing),
            Event::Error { fault, .. } => self
                .ledger
                .violated(format!("a receiver: {}: {fault}", fault.code)),
            _ => {}
        }
        None
    }
}
