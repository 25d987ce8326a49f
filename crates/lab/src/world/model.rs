//! The reference model: what applications did and were told, against DESIGN §3.
//!
//! It knows nothing of frames or links. It is told what clients commanded and
//! what they heard, in the order of time, and says which invariant broke.

pub mod calls;
pub mod letters;
pub mod lives;
pub mod mails;
pub mod members;
pub mod waits;

use std::time::Duration;

pub use calls::{CallRecord, Calls};
pub use letters::{Arrival, Letter, Letters};
pub use lives::{Life, Lives};
pub use mails::{KnownMarks, MailKey, Mails};
pub use members::{Members, Standing};
pub use waits::Waits;

/// What virtual time may add to a deadline: timers fire exactly, so next to nothing.
pub(super) const SLACK: Duration = Duration::from_millis(10);

/// What applications did and were told.
#[derive(Debug)]
pub struct Model {
    /// Who lived when.
    pub lives: Lives,
    /// Messages.
    pub letters: Letters,
    /// Calls.
    pub calls: Calls,
    /// Items of the mailbox.
    pub mails: Mails,
    /// Who may talk to whom.
    pub members: Members,
    /// Everything else that was asked.
    pub waits: Waits,
}

impl Model {
    /// Of a world with so many hosts, in which nothing has happened.
    pub fn new(hosts: usize) -> Self {
        Self {
            lives: Lives::new(hosts),
            letters: Letters::default(),
            calls: Calls::default(),
            mails: Mails::default(),
            members: Members::default(),
            waits: Waits::default(),
        }
    }
}
