//! A program beside a node: requests out, events in, over the node's socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use waymesh_proto::ipc::{Decoder, Event, READ_BYTES, Request, RequestId, Verb};

/// Both halves of a connection to a node.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) mouth: Mouth,
    pub(crate) ear: Ear,
}

/// How long a node may take to answer what it can answer at once, and how long a program
/// waits for what must come. Chosen far above what is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// The half that asks.
#[derive(Debug)]
pub(crate) struct Mouth {
    stream: UnixStream,
    line: Vec<u8>,
}

/// The half that hears.
#[derive(Debug)]
pub(crate) struct Ear {
    stream: UnixStream,
    decoder: Decoder<Event>,
}

impl Program {
    /// Connects to a node's socket.
    pub(crate) fn attach(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        Ok(Self {
            mouth: Mouth {
                stream: stream.try_clone()?,
                line: Vec::new(),
            },
            ear: Ear {
                stream,
                decoder: Decoder::default(),
            },
        })
    }

    /// Asks, and waits for the answer; what else comes meanwhile is left out.
    ///
    /// # Errors
    ///
    /// When the answer is an error, or does not come in time.
    pub(crate) fn ask(&mut self, id: u64, verb: Verb) -> Result<Event> {
        let id = RequestId::from(id);
        self.mouth.tell(Some(id.clone()), verb)?;
        match self.until(|event| event.id() == Some(&id) && event.is_last())? {
            Event::Error { fault, .. } => Err(anyhow!(fault)),
            answer => Ok(answer),
        }
    }

    /// Waits for an event; what else comes meanwhile is left out.
    pub(crate) fn until(&mut self, mut is_it: impl FnMut(&Event) -> bool) -> Result<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "what was waited for has not come");
            match self.ear.hear(left)? {
                Some(event) if is_it(&event) => return Ok(event),
                _ => {}
            }
        }
    }
}

impl Mouth {
    /// Ends the connection, also for the half that hears.
    pub(crate) fn hang_up(&self) {
        // It may have ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends one request; without an id only bad news comes back.
    pub(crate) fn tell(&mut self, id: Option<RequestId>, verb: Verb) -> io::Result<()> {
        self.line.clear();
        Request { id, verb }.encode(&mut self.line);
        self.stream.write_all(&self.line)
    }
}

impl Ear {
    /// The next event; `None` when nothing came in time.
    ///
    /// # Errors
    ///
    /// When the node has ended, or says what is no event.
    pub(crate) fn hear(&mut self, limit: Duration) -> io::Result<Option<Event>> {
        loop {
            match self.decoder.poll() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(rejected) => return Err(io::Error::other(rejected.fault)),
            }
            self.stream.set_read_timeout(Some(limit))?;
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.decoder.room().extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
