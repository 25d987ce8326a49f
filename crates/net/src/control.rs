//! A node's end of the control connection: messages out and in, over a
//! WebSocket or, where none passes, by HTTP long-poll.
//!
//! ```text
//!  session ──Message──▶ ControlSender   ─┬─ WebSocket ───┬─▶ [TLS] ─▶ [CONNECT] ─▶ TCP
//!          ◀─Received── ControlReceiver ─┴─ long-poll ×2 ─┘
//! ```
//!
//! It knows nothing of what the messages say, keeps no state beyond the
//! connection, and never tries again. Whom TLS trusts, which proxy is on the
//! way and who proves the possession of the key is said by a [`Target`].
//! [`http`] asks a registry single things over the same streams.
//!
//! **No deadlock.** Two sides that both wait until the other reads wait for
//! ever. So a program that sends more than the messages of a login splits the
//! socket and polls both halves at the same time, in two tasks or in two
//! branches of one `select!`: the halves share no lock, and neither waits for
//! the other. A branch that awaits a send while nobody receives is the mistake
//! to avoid. What is received must then not wait for what is sent either: put
//! answers into a bounded queue to the sender's branch, and end the connection
//! when that is full.

mod dial;
mod error;
mod first_use;
pub mod http;
mod issuer;
mod meter;
mod poll;
mod proxy;
mod relay;
mod target;
mod tls;
mod websocket;

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use waymesh_proto::control::CONTROL_MAX_BYTES;

pub(crate) use dial::{Io, dial};
pub use error::{ConnectError, Distrust, ReceiveError, RequestError, SendError, TargetError};
pub(crate) use meter::Meter;
pub use proxy::ProxyEnvironment;
pub(crate) use relay::{RelayDialError, dial_relay};
pub use target::{ProofRequest, Prover, Target};
pub use tls::TlsTrust;

/// How long the good-bye of [`ControlSender::close`] may take. Chosen.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// One WebSocket (RFC 6455).
    WebSocket,
    /// HTTP requests that the registry answers late.
    Poll,
}

impl Carrier {
    const fn other(self) -> Self {
        match self {
            Self::WebSocket => Self::Poll,
            Self::Poll => Self::WebSocket,
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "websocket",
            Self::Poll => "poll",
        })
    }
}

/// Which carriers to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarrierChoice {
    /// Whichever passes, beginning with this one: give [`Carrier::WebSocket`]
    /// at first, then the one that has worked, and from time to time the
    /// WebSocket again, since the network may be another one by then.
    Auto {
        /// Tried first.
        first: Carrier,
    },
    /// This one or none.
    Only(Carrier),
}

/// What is sent. At most [`CONTROL_MAX_BYTES`] each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A control message.
    Text(String),
    /// A mailbox message.
    Binary(Vec<u8>),
}

impl Message {
    const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A control message.
    Text(String),
    /// A mailbox message.
    Binary(Vec<u8>),
    /// A ping, an answer without messages, or bytes of a message that is not
    /// whole yet: the other side is alive.
    Alive,
}

/// An open connection, both halves of it.
#[derive(Debug)]
pub struct ControlSocket {
    carrier: Carrier,
    first_use_key: Option<[u8; 32]>,
    sender: ControlSender,
    receiver: ControlReceiver,
}

/// The half that sends.
#[derive(Debug)]
pub struct ControlSender(Sender);

/// The half that receives.
#[derive(Debug)]
pub struct ControlReceiver {
    /// What [`ControlSocket::connect`] has received already.
    first: Option<Received>,
    receiver: Receiver,
}

#[derive(Debug)]
enum Sender {
    WebSocket(websocket::Sender),
    Poll(Box<poll::Sender>),
}

#[derive(Debug)]
enum Receiver {
    WebSocket(websocket::Receiver),
    Poll(Box<poll::Receiver>),
}

impl ControlSocket {
    /// Connects. With [`CarrierChoice::Auto`] the connection has also brought
    /// the registry's first message, because some middle boxes let a WebSocket
    /// begin and then carry nothing. A refusal by the registry itself, a
    /// certificate that is not trusted and a proxy that does not connect are
    /// final for all carriers.
    ///
    /// # Errors
    /// A [`ConnectError`], after `limit` for each carrier that is tried.
    pub async fn connect(
        target: &Target,
        choice: CarrierChoice,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        // Boxed: the handshakes' futures are large.
        match choice {
            CarrierChoice::Only(carrier) => Box::pin(Self::only(target, carrier, limit)).await,
            CarrierChoice::Auto { first } => Box::pin(Self::auto(target, first, limit)).await,
        }
    }

    async fn only(
        target: &Target,
        carrier: Carrier,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let opened = Self::open(target, carrier, Deadline::after(limit)).await;
        opened.map_err(|error| match error {
            NotConnected::Failed(error) | NotConnected::NotPassed(error) => error,
        })
    }

    async fn auto(target: &Target, first: Carrier, limit: Duration) -> Result<Self, ConnectError> {
        let mut reasons = Vec::new();
        for carrier in [first, first.other()] {
            match Self::open_until_heard(target, carrier, Deadline::after(limit)).await {
                Ok(socket) => return Ok(socket),
                Err(NotConnected::Failed(error)) => return Err(error),
                Err(NotConnected::NotPassed(error)) => {
                    tracing::debug!(%carrier, %error, "the control connection does not pass");
                    reasons.push(format!("{carrier}: {error}"));
                }
            }
        }
        Err(ConnectError::Handshake(reasons.join("; ")))
    }

    async fn open(
        target: &Target,
        carrier: Carrier,
        deadline: Deadline,
    ) -> Result<Self, NotConnected> {
        let target = &target.anew();
        let (sender, receiver) = match carrier {
            Carrier::WebSocket => {
                let (sender, receiver) = websocket::connect(target, deadline).await?;
                (Sender::WebSocket(sender), Receiver::WebSocket(receiver))
            }
            Carrier::Poll => {
                let (sender, receiver) = poll::connect(target, deadline).await?;
                let sender = Sender::Poll(Box::new(sender));
                (sender, Receiver::Poll(Box::new(receiver)))
            }
        };
        let first = None;
        Ok(Self {
            carrier,
            first_use_key: target.first_use_key(),
            sender: ControlSender(sender),
            receiver: ControlReceiver { first, receiver },
        })
    }

    async fn open_until_heard(
        target: &Target,
        carrier: Carrier,
        deadline: Deadline,
    ) -> Result<Self, NotConnected> {
        let mut socket = Self::open(target, carrier, deadline).await?;
        loop {
            match deadline.limit(target, socket.receive()).await {
                Ok(Ok(Received::Alive)) => {}
                Ok(Ok(message)) => {
                    socket.receiver.first = Some(message);
                    return Ok(socket);
                }
                Ok(Err(ReceiveError::Refused(fault))) => {
                    return Err(NotConnected::Failed(ConnectError::Refused(fault)));
                }
                Ok(Err(error)) => {
                    let error = ConnectError::Handshake(error.to_string());
                    return Err(NotConnected::NotPassed(error));
                }
                Err(error) => return Err(NotConnected::NotPassed(error)),
            }
        }
    }

    /// What carries the messages.
    pub const fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// The SHA-256 of the registry's TLS key (SPKI) where it is trusted on first
    /// use alone ([`TlsTrust::with_first_use`]): whoever stands between may have
    /// shown it. `None` where an authority vouches for the certificate, a pin
    /// does, or there is no TLS.
    pub const fn first_use_key(&self) -> Option<[u8; 32]> {
        self.first_use_key
    }

    /// [`ControlSender::send`], while nothing is received: for the messages of
    /// a login, which are answered one by one.
    ///
    /// # Errors
    /// A [`SendError`], after `limit` at the latest.
    pub async fn send(&mut self, message: Message, limit: Duration) -> Result<(), SendError> {
        self.sender.send(message, limit).await
    }

    /// [`ControlReceiver::receive`]. Cancel safe.
    ///
    /// # Errors
    /// A [`ReceiveError`], after which nothing more comes.
    pub async fn receive(&mut self) -> Result<Received, ReceiveError> {
        self.receiver.receive().await
    }

    /// The two halves, for a session that sends and receives at the same time.
    pub fn split(self) -> (ControlSender, ControlReceiver) {
        (self.sender, self.receiver)
    }

    /// [`ControlSender::close`].
    pub async fn close(self) {
        self.sender.close().await;
    }
}

impl ControlSender {
    /// Sends one message and waits until it has left. Not cancel safe: a
    /// message whose send was dropped may or may not arrive, and the
    /// connection is of no more use.
    ///
    /// # Errors
    /// A [`SendError`], after `limit` at the latest.
    pub async fn send(&mut self, message: Message, limit: Duration) -> Result<(), SendError> {
        self.send_all(vec![message], limit).await
    }

    /// Sends messages in this order, in as few packets and requests as they fit
    /// into: by long-poll each request is a round trip. Not cancel safe.
    ///
    /// # Errors
    /// A [`SendError`], when one message (by long-poll: one request) takes
    /// longer than `limit`. When any message is too large, none is sent.
    pub async fn send_all(
        &mut self,
        messages: Vec<Message>,
        limit: Duration,
    ) -> Result<(), SendError> {
        let mut lens = messages.iter().map(Message::len);
        if let Some(len) = lens.find(|len| *len > CONTROL_MAX_BYTES) {
            return Err(SendError::TooLarge(len));
        }
        match &mut self.0 {
            Sender::WebSocket(sender) => sender.send_all(messages, limit).await,
            Sender::Poll(sender) => sender.send_all(messages, limit).await,
        }
    }

    /// Says good-bye, if that can be done quickly.
    pub async fn close(self) {
        match self.0 {
            Sender::WebSocket(mut sender) => {
                // Either way the connection ends here.
                let _ = timeout(CLOSE_TIMEOUT, sender.close()).await;
            }
            // The session ends when nobody asks any more.
            Sender::Poll(_) => {}
        }
    }
}

impl ControlReceiver {
    /// Whether the address of this host that the connection began with is gone:
    /// then nothing comes any more, whatever the system still believes.
    pub fn is_stranded(&self) -> bool {
        let meter = match &self.receiver {
            Receiver::WebSocket(receiver) => receiver.meter(),
            Receiver::Poll(receiver) => receiver.meter(),
        };
        let is_gone = |ip: std::net::IpAddr| std::net::UdpSocket::bind((ip, 0)).is_err();
        meter.local().is_some_and(is_gone)
    }

    /// Waits for whatever comes next. Cancel safe. How long silence may last
    /// is for the caller to judge: the registry is heard every
    /// [`PING_INTERVAL_MS`](waymesh_proto::control::PING_INTERVAL_MS).
    ///
    /// # Errors
    /// A [`ReceiveError`], after which nothing more comes.
    pub async fn receive(&mut self) -> Result<Received, ReceiveError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match &mut self.receiver {
            Receiver::WebSocket(receiver) => receiver.receive().await,
            Receiver::Poll(receiver) => receiver.receive().await,
        }
    }
}

/// Why a carrier is of no use.
enum NotConnected {
    /// No other would be either.
    Failed(ConnectError),
    /// The registry, or something on the way, does not let it pass; another may.
    NotPassed(ConnectError),
}

/// When an attempt is over.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        let at = Instant::now() + limit;
        Self { at, limit }
    }

    async fn limit<T>(
        self,
        target: &Target,
        future: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        let in_time = timeout_at(self.at, future).await;
        in_time.map_err(|_| ConnectError::Timeout {
            limit: self.limit,
            proxy: target.proxy().map(str::to_owned),
        })
    }
}
