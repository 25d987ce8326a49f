//! One control WebSocket: bytes in, decoded messages to the driver; what the
//! driver queues, out.
//!
//! It checks the login, because that needs the keys; everything else is for
//! the rules to judge.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use waymesh_core::registry::{ConnId, VerifiedLogin};
use waymesh_proto::control::{ClientMessage, Nonce, Origin, ServerMessage};
use waymesh_proto::{Code, Fault, MeshId};
use waymesh_trust::Keypair;
use waymesh_trust::login::Gate;

use crate::carrier::{Incoming, Outlet, Visitor};
use crate::driver::Input;
use crate::outbox::{Out, Queue, outbox};

/// Largest WebSocket message that is still read, bytes: twice what is allowed,
/// so that most senders of too large ones can be told why and stay connected.
pub(crate) const READ_MAX_BYTES: usize = 2 * waymesh_proto::control::CONTROL_MAX_BYTES;

/// How long one message may take to leave; after it the other side is gone. Chosen.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closing connection may take to read what it was sent last. Chosen.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What every connection of one registry shares.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The registry's own key.
    pub(crate) keypair: Keypair,
    /// The mesh that it serves; set at start, or once for ever by [`Order::Found`].
    pub(crate) mesh: OnceLock<MeshKey>,
}

/// Serves one connection until either side ends it, over whatever carries it.
pub(crate) async fn serve(
    incoming: impl Incoming,
    outlet: impl Outlet,
    visitor: Visitor,
    identity: Arc<Identity>,
    driver: mpsc::Sender<Input>,
) {
    let (outbox, mut queue, cut) = outbox();
    if driver
        .send(Input::Connected { conn, outbox })
        .await
        .is_err()
    {
        return;
    }
    let gate = Gate {
        keypair: &identity.keypair,
        mesh: identity.mesh,
        origins: &visitor.origins,
        nonce: Nonce::from_bytes(rand::random()),
    };
    let (mut sink, mut stream) = socket.split();
    let challenge = ServerMessage::Challenge(gate.challenge()).encode();
    let ending = tokio::select! {
        ending = read(&mut stream, conn, &gate, &driver) => ending,
        ending = write(&mut sink, challenge.into(), &mut queue, conn, &driver) => ending,
        Ok(()) = cut => Ending::Gone,
    };
    if ending == Ending::Farewell {
        // Whoever closes with unread bytes resets the connection, and the last
        // message with its reason may be lost: so read to the end.
        let rest = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = timeout(CLOSE_TIMEOUT, rest).await;
    }
    let _ = driver.send(Input::Closed { conn }).await;
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The other side is gone, or cut off.
    Gone,
    /// This side has sent its last message and a close frame.
    Farewell,
}

async fn read(
    stream: &mut SplitStream<WebSocket>,
    conn: ConnId,
    gate: &Gate<'_>,
    driver: &mpsc::Sender<Input>,
) -> Ending {
    let mut expects_login = true;
    while let Some(received) = stream.next().await {
        let input = match received {
            Ok(Message::Text(text)) => {
                let expects = std::mem::replace(&mut expects_login, false);
                input_of(conn, text.as_bytes(), expects.then_some(gate))
            }
            Ok(Message::Binary(_)) => Input::Malformed {
                conn,
                fault: Fault::new(Code::BadRequest, "control messages are text frames"),
            },
            Ok(Message::Ping(_) | Message::Pong(_)) => Input::Heard { conn },
            Ok(Message::Close(_)) => break,
            Err(error) => match fault_of(error) {
                Some(fault) => Input::Refused { conn, fault },
                None => break,
            },
        };
        let is_end = matches!(input, Input::Refused { .. });
        if driver.send(input).await.is_err() {
            break;
        }
        if is_end {
            // The driver has the reason sent and closes.
            std::future::pending::<()>().await;
        }
    }
    Ending::Gone
}

fn input_of(conn: ConnId, bytes: &[u8], gate: Option<&Gate<'_>>) -> Input {
    match (ClientMessage::decode(bytes), gate) {
        (Ok(ClientMessage::Login(login)), Some(gate)) => match gate.verify(&login) {
            Ok(welcome) => Input::Login {
                conn,
                login: VerifiedLogin::from(&login),
                welcome: ServerMessage::Welcome(welcome).encode().into(),
            },
            Err(error) => Input::Refused {
                conn,
                fault: error.fault(),
            },
        },
        (Ok(message), _) => Input::Message { conn, message },
        (Err(error), _) => Input::Malformed {
            conn,
            fault: error.fault(),
        },
    }
}

/// What to tell a connection whose stream is broken; `None` when nobody would hear it.
fn fault_of(error: axum::Error) -> Option<Fault> {
    let error = error.into_inner().downcast::<WsError>().ok()?;
    match *error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => Some(Fault::new(
            Code::TooLarge,
            format!("the message of {size} bytes is larger than {max_size}"),
        )),
        WsError::Utf8(_) => Some(Fault::new(Code::NotUtf8, "the message is not UTF-8")),
        WsError::Protocol(error) => Some(Fault::new(Code::BadRequest, error.to_string())),
        _ => None,
    }
}

async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    first: Utf8Bytes,
    queue: &mut Queue,
    conn: ConnId,
    driver: &mpsc::Sender<Input>,
) -> Ending {
    let mut next = Some(Out::Text(first));
    while let Some(out) = next {
        if queue.has_awaited_room() && driver.send(Input::Room { conn }).await.is_err() {
            return Ending::Gone;
        }
        let message = match out {
            Out::Text(text) => Message::Text(text),
            Out::Ping => Message::Ping(Default::default()),
        };
        match timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => next = queue.next().await,
            Ok(Err(_)) | Err(_) => return Ending::Gone,
        }
    }
    match timeout(CLOSE_TIMEOUT, sink.send(Message::Close(None))).await {
        Ok(Ok(())) => Ending::Farewell,
        Ok(Err(_)) | Err(_) => Ending::Gone,
    }
}
