//! A client of a node's socket, for tools: one request at a time, events in between.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use waymesh_net::local;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ipc::{Decoder, Event, Hello, PROTOCOL, Request, RequestId, Verb};

/// Events that wait while a request is under way; when more come, the oldest go.
/// Chosen; a tool that wants events asks for them with [`IpcClient::event`].
const WAITING_MAX: usize = 1_024;

/// A connection to a running node.
#[derive(Debug)]
pub struct IpcClient {
    stream: UnixStream,
    decoder: Decoder<Event>,
    hello: Hello,
    last_id: u64,
    waiting: VecDeque<Event>,
}

impl IpcClient {
    /// Connects to the socket at `path` and reads the node's `hello`.
    ///
    /// # Errors
    ///
    /// `node_not_running` when nobody answers there, and what the node says
    /// when it refuses the connection.
    pub async fn connect(path: &Path) -> Result<Self, Fault> {
        let stream = local::connect(path)
            .await
            .map_err(|error| absent(path, &error))?;
        let mut decoder = Decoder::default();
        let mut stream = stream;
        let hello = match read(&mut stream, &mut decoder).await? {
            Event::Hello(hello) => hello,
            Event::Error { fault, .. } => return Err(fault),
            _ => return Err(not_a_node(path)),
        };
        if hello.protocol != PROTOCOL {
            return Err(other_version(&hello));
        }
        Ok(Self {
            stream,
            decoder,
            hello,
            last_id: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Who the node is.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Sends a request without waiting; [`IpcClient::event`] tells its answers.
    ///
    /// # Errors
    ///
    /// `node_not_running` when the connection is gone.
    pub async fn submit(&mut self, verb: Verb) -> Result<RequestId, Fault> {
        self.last_id += 1;
        let id = RequestId::from(self.last_id);
        let mut bytes = Vec::new();
        let request = Request {
            id: Some(id.clone()),
            verb,
        };
        request.encode(&mut bytes);
        self.stream.write_all(&bytes).await.map_err(|_| gone())?;
        Ok(id)
    }

    /// Sends a request and waits for its last answer. Other events wait for [`IpcClient::event`].
    ///
    /// Not cancel safe: an answer that comes later is an event of its own.
    ///
    /// # Errors
    ///
    /// What the node answers, or `node_not_running` when the connection is gone.
    pub async fn request(&mut self, verb: Verb) -> Result<Event, Fault> {
        let id = self.submit(verb).await?;
        loop {
            match read(&mut self.stream, &mut self.decoder).await? {
                Event::Error {
                    id: Some(of),
                    fault,
                } if of == id => return Err(fault),
                event if event.id() == Some(&id) && event.is_last() => return Ok(event),
                event => {
                    if self.waiting.len() == WAITING_MAX {
                        self.waiting.pop_front();
                        tracing::debug!("an event was dropped: nobody asked for it in time");
                    }
                    self.waiting.push_back(event);
                }
            }
        }
    }

    /// The next event. Cancel safe.
    ///
    /// # Errors
    ///
    /// `node_not_running` when the connection is gone.
    pub async fn event(&mut self) -> Result<Event, Fault> {
        match self.waiting.pop_front() {
            Some(event) => Ok(event),
            None => read(&mut self.stream, &mut self.decoder).await,
        }
    }
}

async fn read(stream: &mut UnixStream, decoder: &mut Decoder<Event>) -> Result<Event, Fault> {
    loop {
        match decoder.poll() {
            Ok(Some(Event::Unrecognized)) => {}
            Ok(Some(event)) => return Ok(event),
            Err(rejected) => return Err(rejected.fault),
            Ok(None) => match stream.read_buf(decoder.room()).await {
                Ok(0) | Err(_) => return Err(gone()),
                Ok(_) => {}
            },
        }
    }
}

fn absent(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Code::NodeNotRunning,
        format!("no node answers on {}: {error}", path.display()),
    )
    .with_hint("start one with `waymesh node`, or name its folder with --data-dir")
}

fn gone() -> Fault {
    Fault::new(Code::NodeNotRunning, "the node closed the connection")
        .with_hint("look at the node's log, start it again")
}

fn not_a_node(path: &Path) -> Fault {
    Fault::new(
        Code::NodeNotRunning,
        format!("what answers on {} is not a node", path.display()),
    )
    .with_hint("name the data directory of a node")
}

fn other_version(hello: &Hello) -> Fault {
    Fault::new(
        Code::NotSupportedYet,
        format!(
            "the node {} speaks version {} of the protocol, this program {PROTOCOL}",
            hello.version, hello.protocol
        ),
    )
    .with_hint("use a program and a node of the same version")
}
