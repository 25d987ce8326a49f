//! A program that sends to every receiver, so much at a time, until its node dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use waymesh_proto::Priority;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Event, Follow, RequestId, Verb, Wait};

use super::ledger::Ledger;
use super::letter::{Actor, Letter, Life};
use crate::stage::Program;

/// Messages to one receiver without a last state. Chosen: below the share of a mailbox
/// and what a node queues, so that a message is refused only when something is wrong.
const WINDOW: usize = 96;

/// How long a message may take: longer than a run.
const TTL: Duration = Duration::from_secs(24 * 3_600);

/// How often a sender that hears nothing looks whether the run is over.
const LOOK: Duration = Duration::from_millis(100);

/// One life of a sender.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) me: Actor,
    pub(crate) life: Life,
    /// One a receiver.
    pub(crate) lines: Vec<Line>,
}

/// What a sender knows of one receiver.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) to: Name,
    /// The number of the next message, over all lives.
    pub(crate) next: u64,
    open: usize,
}

impl Line {
    pub(crate) const fn new(to: Name) -> Self {
        Self {
            to,
            next: 0,
            open: 0,
        }
    }
}

impl Sender {
    /// Sends until the node dies or all is over; gives back where the next life goes on.
    pub(crate) fn live(mut self, program: Program) -> Vec<Line> {
        for line in &mut self.lines {
            line.open = 0;
        }
        // It ends as soon as the node is killed.
        let _ = self.send_and_hear(program);
        self.lines
    }

    fn send_and_hear(&mut self, mut program: Program) -> io::Result<()> {
        loop {
            if !self.ledger.is_ending() {
                self.fill(&mut program)?;
            }
            if let Some(event) = program.ear.hear(LOOK)? {
                self.handle(event);
            } else if self.ledger.is_ending() && self.lines.iter().all(|line| line.open == 0) {
                return Ok(());
            }
        }
    }

    fn fill(&mut self, program: &mut Program) -> io::Result<()> {
        for at in 0..self.lines.len() {
            while self.lines[at].open < WINDOW {
                self.send(program, at)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, program: &mut Program, at: usize) -> io::Result<()> {
        let line = &mut self.lines[at];
        let letter = Letter {
            from: self.me,
            to: Actor::try_from(at).unwrap_or(Actor::MAX),
            number: line.next,
            life: self.life,
        };
        line.next += 1;
        line.open += 1;
        self.ledger.sending(letter);
        let verb = Verb::Send {
            to: line.to.clone(),
            payload: letter.payload(),
            class: letter.class(),
            priority: Priority::Normal,
            ttl: TTL,
            wait: Wait::Delivered,
            follow: Follow::States,
        };
        program.mouth.tell(letter.request(), verb)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::State { id, outcome, .. } => {
                let code = outcome.error.map(|fault| fault.code);
                if let Some(letter) = self.letter(id.as_ref()) {
                    self.ledger.told(letter, outcome.state, code);
                    if outcome.state.is_final() {
                        self.lines[usize::from(letter.to)].open -= 1;
                    }
                }
            }
            Event::Error { id, fault } => {
                let what = self.letter(id.as_ref()).map(Letter::text);
                self.ledger
                    .violated(format!("{what:?}: {}: {fault}", fault.code));
            }
            _ => {}
        }
    }

    fn letter(&self, id: Option<&RequestId>) -> Option<Letter> {
        let letter: Option<Letter> = id.and_then(|id| id.as_str().parse().ok());
        if letter.is_none() {
            self.ledger
                .violated(format!("an answer to {id:?}, which nobody asked"));
        }
        letter
    }
}
