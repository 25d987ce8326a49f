//! A peer that logs in and makes links as it should, and then does what a test wants.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waymesh_net::control::{ControlSocket, Received};
use waymesh_net::webrtc::{Endpoint, EndpointConfig};
use waymesh_proto::class::Class;
use waymesh_proto::control::{Challenge, ClientMessage, InstanceId, Nonce, Origin, ServerMessage};
use waymesh_proto::ids::{AgentId, Incarnation, LinkId, MeshId, Name, SessionId};
use waymesh_proto::link::{LinkCommand, LinkEvent};
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_registry::Registry;
use waymesh_trust::login::{self, Who};
use waymesh_trust::{Keypair, signal};

use super::PATIENCE;

pub(crate) struct Rogue {
    pub(crate) keypair: Keypair,
    incarnation: Incarnation,
    mesh: MeshId,
    socket: ControlSocket,
    endpoint: Endpoint,
    /// The offer that is being answered.
    offer: Option<SignalBody>,
    links: u64,
}

/// What a rogue gets to see.
#[derive(Debug)]
pub(crate) enum Seen {
    Signal(Signal),
    Link(LinkEvent),
}

impl Rogue {
    pub(crate) async fn log_in(registry: &Registry, name: Name) -> Self {
        let keypair = Keypair::from_seed(&[66; 32]);
        let origin: Origin = registry.url().parse().expect("an origin");
        let mut socket = ControlSocket::connect(&origin.control_url(), PATIENCE)
            .await
            .expect("a connection");
        let challenge = match heard(&mut socket).await {
            ServerMessage::Challenge(challenge) => challenge,
            other => panic!("{other:?}"),
        };
        let Challenge { mesh, .. } = challenge;
        let incarnation = Incarnation::new(1);
        let who = Who {
            name,
            incarnation,
            instance: InstanceId::from_bytes([66; 16]),
        };
        let nonce = Nonce::from_bytes([66; 32]);
        let (login, _) = login::answer(&keypair, &who, &origin, &challenge, None, nonce)
            .expect("no pin, no refusal");
        tell(&mut socket, &ClientMessage::Login(login)).await;
        match heard(&mut socket).await {
            ServerMessage::Welcome(_) => {}
            other => panic!("{other:?}"),
        }
        let config = EndpointConfig {
            loopback_only: true,
            ..EndpointConfig::default()
        };
        Self {
            keypair,
            incarnation,
            mesh,
            socket,
            endpoint: Endpoint::bind(config).expect("a port"),
            offer: None,
            links: 0,
        }
    }

    /// A signal as an honest peer would sign it.
    pub(crate) fn sign(
        &self,
        (to, to_incarnation): (AgentId, Incarnation),
        session: u8,
        signal: Signal,
    ) -> SignedSignal {
        let session = SessionId::from_bytes([session; 16]);
        self.sign_in(session, to, to_incarnation, signal)
    }

    fn sign_in(
        &self,
        session: SessionId,
        to: AgentId,
        to_incarnation: Incarnation,
        signal: Signal,
    ) -> SignedSignal {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let body = SignalBody {
            mesh: self.mesh,
            from: self.keypair.agent_id(),
            from_incarnation: self.incarnation,
            to,
            to_incarnation,
            session,
            seq: 0,
            issued_ms: since.expect("after 1970").as_millis() as u64,
            signal,
        };
        signal::sign(&self.keypair, &body)
    }

    /// Sends a signal through the registry, whatever it is.
    pub(crate) async fn say(&mut self, signal: SignedSignal) {
        tell(&mut self.socket, &ClientMessage::Signal { signal }).await;
    }

    /// An offer that describes a link that could be made.
    pub(crate) fn offer(&mut self) -> Signal {
        let link = self.new_link();
        self.endpoint
            .handle_command(Instant::now(), LinkCommand::Offer { link });
        while let Some(event) = self.endpoint.poll_event() {
            if let LinkEvent::Offered { sdp, .. } = event {
                return Signal::Offer { sdp };
            }
        }
        panic!("no offer")
    }

    /// Sends bytes on a channel, whatever they are.
    pub(crate) fn send(&mut self, link: LinkId, bytes: &[u8]) {
        self.endpoint
            .send(Instant::now(), link, Class::Tasks, bytes)
            .expect("an idle link has room");
        self.endpoint.flush();
    }

    /// Answers offers until `pick` finds what the test waits for. Between calls
    /// of this nothing is read or answered.
    pub(crate) async fn until<T>(&mut self, pick: impl Fn(&Seen) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = pick(&self.next().await) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .expect("it is seen in time")
    }

    async fn next(&mut self) -> Seen {
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                match event {
                    LinkEvent::Answered { sdp, .. } => self.answer(sdp).await,
                    event => return Seen::Link(event),
                }
            }
            self.endpoint.flush();
            let deadline = self.endpoint.poll_timeout().unwrap_or_else(far);
            tokio::select! {
                received = self.socket.receive() => {
                    let received = received.expect("the registry lives");
                    if let Some(signal) = self.hear(received) {
                        return Seen::Signal(signal);
                    }
                }
                _ = self.endpoint.readable() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            let now = Instant::now();
            while self.endpoint.receive(now).expect("the socket lives") {}
            self.endpoint.handle_timeout(now);
        }
    }

    fn hear(&mut self, received: Received) -> Option<Signal> {
        let Received::Text(text) = received else {
            return None;
        };
        let message = ServerMessage::decode(text.as_bytes()).expect("a message");
        let ServerMessage::Signal { signal, .. } = message else {
            return None;
        };
        let body = signal.decode_body().expect("a body");
        if let Signal::Offer { sdp } = &body.signal {
            let (link, sdp) = (self.new_link(), sdp.clone());
            self.offer = Some(body.clone());
            self.endpoint
                .handle_command(Instant::now(), LinkCommand::Accept { link, sdp });
        }
        Some(body.signal)
    }

    async fn answer(&mut self, sdp: String) {
        let offer = self.offer.take().expect("an offer");
        let Signal::Offer { sdp: offered } = &offer.signal else {
            return;
        };
        let offer_hash = signal::offer_hash(offered);
        let answer = Signal::Answer { sdp, offer_hash };
        let signed = self.sign_in(offer.session, offer.from, offer.from_incarnation, answer);
        self.say(signed).await;
    }

    fn new_link(&mut self) -> LinkId {
        self.links += 1;
        LinkId::new(self.links)
    }
}

fn far() -> Instant {
    Instant::now() + PATIENCE
}

async fn tell(socket: &mut ControlSocket, message: &ClientMessage) {
    socket
        .send(message.encode(), PATIENCE)
        .await
        .expect("the registry reads");
}

async fn heard(socket: &mut ControlSocket) -> ServerMessage {
    loop {
        if let Received::Text(text) = socket.receive().await.expect("the registry lives") {
            return ServerMessage::decode(text.as_bytes()).expect("a message");
        }
    }
}
