//! The first words of a connection: the registry's challenge, and what is
//! answered to it one by one.

use std::time::{Duration, Instant};

use waymesh_net::control::{
    Carrier, CarrierChoice, ControlSocket, Message, ReceiveError, Received, Target,
};
use waymesh_proto::control::{CONTROL_VERSION, Challenge, ClientMessage, ServerMessage};

use super::trouble::Trouble;

/// How long the connection to the registry may take with each carrier. Chosen.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long each step of the login may take; the registry allows as much.
pub(super) const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the registry may take to read one message. Chosen.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long the WebSocket is tried first again, where only long-poll
/// passed before: the network may be another one by now. Chosen.
const WEBSOCKET_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Which carrier has passed of late.
#[derive(Debug, Default)]
pub(super) struct Passed {
    poll_since: Option<Instant>,
}

impl Passed {
    fn choice(&mut self, now: Instant) -> CarrierChoice {
        let recent = |since: &Instant| now.duration_since(*since) < WEBSOCKET_AGAIN_AFTER;
        self.poll_since = self.poll_since.filter(recent);
        let first = match self.poll_since {
            Some(_) => Carrier::Poll,
            None => Carrier::WebSocket,
        };
        CarrierChoice::Auto { first }
    }

    fn handle_connected(&mut self, now: Instant, carrier: Carrier) {
        match carrier {
            Carrier::Poll => _ = self.poll_since.get_or_insert(now),
            Carrier::WebSocket => self.poll_since = None,
        }
    }
}

/// A connection before anybody is logged in.
#[derive(Debug)]
pub(super) struct Dialog(ControlSocket);

impl Dialog {
    /// Connects and hears the challenge.
    pub(super) async fn open(
        target: &Target,
        passed: &mut Passed,
    ) -> Result<(Self, Challenge), Trouble> {
        let choice = passed.choice(Instant::now());
        let socket = ControlSocket::connect(target, choice, CONNECT_TIMEOUT).await?;
        passed.handle_connected(Instant::now(), socket.carrier());
        let mut dialog = Self(socket);
        match dialog.hear(LOGIN_TIMEOUT).await? {
            ServerMessage::Challenge(challenge) => Ok((dialog, check_version(challenge)?)),
            // One that belongs to no mesh yet has nothing to challenge with.
            ServerMessage::Error { error } => Err(Trouble::Passing(error)),
            _ => Err(out_of_order()),
        }
    }

    /// The registry's TLS key, where it is trusted for no other reason than
    /// that it was shown first.
    pub(super) const fn first_use_key(&self) -> Option<[u8; 32]> {
        self.0.first_use_key()
    }

    /// Says something.
    pub(super) async fn say(&mut self, message: &ClientMessage) -> Result<(), Trouble> {
        let text = Message::Text(message.encode());
        Ok(self.0.send(text, SEND_TIMEOUT).await?)
    }

    /// The next message; `silence` is how long the registry may say nothing at all.
    pub(super) async fn hear(&mut self, silence: Duration) -> Result<ServerMessage, Trouble> {
        loop {
            let received = tokio::time::timeout(silence, self.0.receive()).await;
            match received {
                Ok(Ok(Received::Text(text))) => {
                    return ServerMessage::decode(text.as_bytes()).map_err(Trouble::passing);
                }
                Ok(Ok(Received::Alive)) => {}
                Ok(Ok(Received::Binary(_))) => return Err(out_of_order()),
                Ok(Err(ReceiveError::Refused(error))) => {
                    return Ok(ServerMessage::Error { error });
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Trouble::passing("the registry does not answer the login")),
            }
        }
    }

    /// The connection, after the login.
    pub(super) fn into_socket(self) -> ControlSocket {
        self.0
    }

    /// Says good-bye.
    pub(super) async fn close(self) {
        self.0.close().await;
    }
}

/// What it means that the other side says something that is not its turn.
pub(super) fn out_of_order() -> Trouble {
    Trouble::passing("the other side does not follow the login")
}

fn check_version(challenge: Challenge) -> Result<Challenge, Trouble> {
    if challenge.version == CONTROL_VERSION {
        return Ok(challenge);
    }
    Err(Trouble::passing(format_args!(
        "the registry speaks version {} of the protocol, this node version {CONTROL_VERSION}",
        challenge.version
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(passed: &mut Passed, now: Instant) -> Carrier {
        match passed.choice(now) {
            CarrierChoice::Auto { first } => first,
            CarrierChoice::Only(only) => panic!("only {only}"),
        }
    }

    #[test]
    fn what_passed_is_tried_first_and_the_websocket_again_after_a_while() {
        let (mut passed, now) = (Passed::default(), Instant::now());
        assert_eq!(first(&mut passed, now), Carrier::WebSocket);
        passed.handle_connected(now, Carrier::Poll);
        let soon = now + WEBSOCKET_AGAIN_AFTER - Duration::from_millis(1);
        assert_eq!(first(&mut passed, soon), Carrier::Poll);
        assert_eq!(
            first(&mut passed, now + WEBSOCKET_AGAIN_AFTER),
            Carrier::WebSocket
        );
        passed.handle_connected(now, Carrier::Poll);
        passed.handle_connected(now, Carrier::WebSocket);
        assert_eq!(first(&mut passed, now), Carrier::WebSocket);
    }
}
