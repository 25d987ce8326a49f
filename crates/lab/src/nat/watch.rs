//! What nodes say, with the moment it was heard.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use waymesh_proto::ipc::{Event, RequestId, Verb};

use crate::stage::{Mouth, Program};

/// Events that wait to be taken; a node whose events are not taken waits, and gives up at last.
const EVENTS_CAP: usize = 4_096;

/// How long an ear waits before it listens again. Its connection is closed at the end.
const LISTEN: Duration = Duration::from_secs(3_600);

/// How long the ears are given to find out that nobody hears them. Chosen: unnoticed.
const LAST_WORDS: Duration = Duration::from_millis(5);

/// Which of some nodes.
pub(crate) type At = usize;

/// An event and when it was heard.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) at: At,
    pub(crate) moment: Instant,
    pub(crate) event: Event,
}

/// Connections to some nodes, all heard at once.
#[derive(Debug)]
pub(crate) struct Watch {
    mouths: Vec<Mouth>,
    heard: Receiver<Heard>,
    ears: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Listens to these programs; each is known by its place.
    pub(crate) fn new(programs: impl IntoIterator<Item = Program>) -> Self {
        let (tell, heard) = sync_channel(EVENTS_CAP);
        let (mut mouths, mut ears) = (Vec::new(), Vec::new());
        for (at, program) in programs.into_iter().enumerate() {
            let Program { mouth, ear } = program;
            mouths.push(mouth);
            let tell = tell.clone();
            ears.push(thread::spawn(move || listen(at, ear, &tell)));
        }
        Self {
            mouths,
            heard,
            ears,
        }
    }

    /// Asks one of them.
    pub(crate) fn tell(&mut self, at: At, id: impl Into<RequestId>, verb: Verb) -> Result<()> {
        Ok(self.mouths[at].tell(Some(id.into()), verb)?)
    }

    /// Says something that needs no answer.
    pub(crate) fn say(&mut self, at: At, verb: Verb) -> Result<()> {
        Ok(self.mouths[at].tell(None, verb)?)
    }

    /// The next event of anybody; `None` when none came until then.
    pub(crate) fn next(&self, until: Instant) -> Result<Option<Heard>> {
        let left = until.saturating_duration_since(Instant::now());
        match self.heard.recv_timeout(left) {
            Ok(heard) => Ok(Some(heard)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all nodes have ended"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for mouth in &self.mouths {
            mouth.hang_up();
        }
        // Ears that wait to tell something end only when nobody can hear it any more.
        while self.heard.try_recv().is_ok() {}
        for ear in self.ears.drain(..) {
            while !ear.is_finished() && self.heard.recv_timeout(LAST_WORDS).is_ok() {}
            // It has told its panic itself.
            let _ = ear.join();
        }
    }
}

fn listen(at: At, mut ear: crate::stage::Ear, tell: &SyncSender<Heard>) {
    loop {
        match ear.hear(LISTEN) {
            Ok(Some(event)) => {
                let moment = Instant::now();
                if tell.send(Heard { at, moment, event }).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            // The node has ended, or the connection.
            Err(_) => return,
        }
    }
}
