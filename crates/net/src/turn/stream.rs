//! A TCP or TLS connection to a TURN server, through the proxy that the
//! environment names: one task, which cuts what arrives into messages and pads
//! what leaves (RFC 8656 §12.5).
//!
//! ```text
//!  send ──▶ queue ──▶ task ──▶ [TLS] ──▶ [CONNECT] ──▶ TCP
//!  poll ◀── queue ◀── task ◀──      wake.notify_one() whenever there is something to poll
//! ```
//!
//! Payloads that find the queue to the server full are dropped and counted,
//! as UDP would; requests never. What arrives waits in TCP until it is taken.
//! The connection ends with its [`Stream`], which tries nothing again.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::timeout;
use waymesh_proto::ice::IceUrl;

use super::framing::{CHANNELS, Decoder, padding};
use super::message::{Class, Method, type_of};
use crate::control::{ConnectError, Io, ProxyEnvironment, RelayDialError, TlsTrust, dial_relay};

/// How long name, TCP, proxy and TLS may take together. Chosen: five round trips
/// of 300 ms and a lost packet in each direction.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(6);

/// Messages on their way to the server, requests and payloads. When only
/// [`REQUESTS_RESERVED`] places are left, payloads are dropped and counted. Chosen: some
/// hundred kilobytes, more than TCP has in flight on most ways.
pub const TO_SERVER_CAP: usize = 320;

/// Places in the queue to the server that are for requests alone: more than a client has open.
pub const REQUESTS_RESERVED: usize = 64;

/// Messages of the server that nobody has taken yet. When it is full the task
/// stops reading, and the server has to wait. Chosen.
pub const FROM_SERVER_CAP: usize = 256;

/// Bytes that are written, or read, at once. Chosen: some TLS records.
const AT_ONCE_BYTES: usize = 64 * 1024;

/// What a stream has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// It is open: a client may begin.
    Connected,
    /// A message of the server, without padding.
    Message(Vec<u8>),
    /// It is over, or never was. Nothing more comes.
    Closed(StreamError),
}

/// Why there is no stream, or none any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The settings do not lead to the server: correct them.
    #[error("{0}")]
    Settings(String),
    /// Nothing answered in time; another transport may.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The name does not resolve, the host is unreachable or refuses.
    #[error("no connection: {0}")]
    Refused(String),
    /// The proxy does not connect; check it.
    #[error("the proxy {proxy} does not connect: {why}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// What it said or did.
        why: String,
    },
    /// The certificate is not trusted: TLS is intercepted, or the server is another.
    #[error("{0}")]
    UntrustedTls(String),
    /// TLS failed otherwise.
    #[error("no TLS connection: {0}")]
    Tls(String),
    /// The server has closed the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// What answers there is no TURN server.
    #[error("no TURN server answers there")]
    NotTurn,
}

impl From<RelayDialError> for StreamError {
    fn from(error: RelayDialError) -> Self {
        match error {
            RelayDialError::Target(error) => Self::Settings(error.to_string()),
            RelayDialError::Connect(ConnectError::Io(e)) => Self::Refused(e.to_string()),
            RelayDialError::Connect(ConnectError::Proxy { proxy, why }) => {
                Self::Proxy { proxy, why }
            }
            RelayDialError::Connect(ConnectError::UntrustedTls(distrust)) => {
                Self::UntrustedTls(distrust.to_string())
            }
            RelayDialError::Connect(ConnectError::Tls(e)) => Self::Tls(e.to_string()),
            RelayDialError::Connect(error) => Self::Refused(error.to_string()),
        }
    }
}

/// One connection to a TURN server, or the attempt at one.
#[derive(Debug)]
pub struct Stream {
    to_server: Sender<Vec<u8>>,
    from_server: Receiver<StreamEvent>,
    dropped: u64,
    /// Ends with the stream.
    _task: JoinSet<()>,
}

impl Stream {
    /// Begins to connect to a `turn:…?transport=tcp` or `turns:` server, within
    /// a tokio runtime. `wake` is notified whenever [`Stream::poll`] has
    /// something; several streams may share one.
    ///
    /// Trusted is the pinned key of `trust` as well as whatever its authorities
    /// or the system's vouch for: what is relayed is protected end to end.
    pub fn connect(
        url: &IceUrl,
        trust: &TlsTrust,
        proxies: &ProxyEnvironment,
        wake: Arc<Notify>,
    ) -> Self {
        let (to_server, outgoing) = channel(TO_SERVER_CAP);
        let (incoming, from_server) = channel(FROM_SERVER_CAP);
        let (url, trust, proxies) = (url.clone(), trust.clone(), proxies.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let events = Events { incoming, wake };
            let closed = match connect(&url, &trust, &proxies).await {
                Ok(io) => serve(io, outgoing, &events).await,
                Err(error) => error,
            };
            events.tell(StreamEvent::Closed(closed)).await;
        });
        Self {
            to_server,
            from_server,
            dropped: 0,
            _task: task,
        }
    }

    /// Takes what has happened.
    pub fn poll(&mut self) -> Option<StreamEvent> {
        self.from_server.try_recv().ok()
    }

    /// Sends one message; padding is added. A payload is dropped and counted
    /// when the queue is full; of a request that happens only when the server
    /// does not read, and the request then goes unanswered.
    pub fn send(&mut self, message: Vec<u8>) {
        let full = is_payload(&message) && self.to_server.capacity() <= REQUESTS_RESERVED;
        if full || self.to_server.try_send(message).is_err() {
            self.dropped += 1;
        }
    }

    /// Messages that were dropped: the queue was full, or the stream over.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Whether it is ChannelData or a Send indication, which may get lost.
fn is_payload(message: &[u8]) -> bool {
    let Some(word) = message.first_chunk().map(|word| u16::from_be_bytes(*word)) else {
        return false;
    };
    CHANNELS.contains(&word) || word == type_of(Class::Indication, Method::Send.number())
}

/// The way from the task to the [`Stream`].
struct Events {
    incoming: Sender<StreamEvent>,
    wake: Arc<Notify>,
}

impl Events {
    /// Waits while nobody takes; false when nobody will.
    async fn tell(&self, event: StreamEvent) -> bool {
        let told = self.incoming.send(event).await.is_ok();
        self.wake.notify_one();
        told
    }
}

async fn connect(
    url: &IceUrl,
    trust: &TlsTrust,
    proxies: &ProxyEnvironment,
) -> Result<Io, StreamError> {
    let dialed = timeout(CONNECT_WITHIN, Box::pin(dial_relay(url, trust, proxies))).await;
    let dialed = dialed.map_err(|_| StreamError::Timeout(CONNECT_WITHIN))?;
    Ok(dialed?)
}

/// Reads and writes at the same time, so that neither waits for the other.
async fn serve(io: Io, outgoing: Receiver<Vec<u8>>, events: &Events) -> StreamError {
    events.tell(StreamEvent::Connected).await;
    let (reader, writer) = split(io);
    tokio::select! {
        ended = read(reader, events) => ended,
        ended = write(writer, outgoing) => ended,
    }
}

async fn read(mut io: impl AsyncRead + Unpin, events: &Events) -> StreamError {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; AT_ONCE_BYTES];
    let mut is_turn = false;
    loop {
        match io.read(&mut buffer).await {
            Ok(0) => return StreamError::Closed,
            // The first answer is STUN; "HTTP" would pass for ChannelData.
            Ok(_) if !is_turn && buffer[0] >= 0x40 => return StreamError::NotTurn,
            Ok(count) => decoder.extend(&buffer[..count]),
            Err(error) => return StreamError::Broken(error.to_string()),
        }
        is_turn = true;
        loop {
            let message = match decoder.poll() {
                Ok(Some(message)) => message.to_vec(),
                Ok(None) => break,
                Err(_) => return StreamError::NotTurn,
            };
            if !events.tell(StreamEvent::Message(message)).await {
                return StreamError::Closed;
            }
        }
    }
}

async fn write(mut io: impl AsyncWrite + Unpin, mut outgoing: Receiver<Vec<u8>>) -> StreamError {
    let mut buffer = Vec::new();
    while let Some(first) = outgoing.recv().await {
        put(&mut buffer, &first);
        while buffer.len() < AT_ONCE_BYTES {
            match outgoing.try_recv() {
                Ok(message) => put(&mut buffer, &message),
                Err(_) => break,
            }
        }
        let written = async {
            io.write_all(&buffer).await?;
            io.flush().await
        };
        if let Err(error) = written.await {
            return StreamError::Broken(error.to_string());
        }
        buffer.clear();
    }
    StreamError::Closed
}

fn put(buffer: &mut Vec<u8>, message: &[u8]) {
    buffer.extend_from_slice(message);
    buffer.extend_from_slice(padding(message.len()));
}

#[cfg(test)]
mod tests;
