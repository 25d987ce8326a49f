//! A peer that logs in and makes links as it should, and then does what a test wants.

use std::time::Instant;

use waymesh_net::control::{
    Carrier, CarrierChoice, ControlSocket, Message, ProxyEnvironment, Received, Target, TlsTrust,
};
use waymesh_net::webrtc::{Endpoint, EndpointConfig};
use waymesh_proto::class::Class;
use waymesh_proto::control::{ClientMessage, InstanceId, Nonce, ServerMessage};
use waymesh_proto::ids::{AgentId, Incarnation, LinkId, Name, SessionId};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::link::{LinkCommand, LinkEvent};
use waymesh_proto::membership::Certificate;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_registry::Registry;
use waymesh_trust::certificate::{self, Member};
use waymesh_trust::login::{self, Who};
use waymesh_trust::sealing::SealingKey;
use waymesh_trust::{Keypair, mesh_id, signal};

use super::{PATIENCE, mesh, now_ms};

pub(crate) struct Rogue {
    pub(crate) keypair: Keypair,
    incarnation: Incarnation,
    certificate: Certificate,
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
        let now_ms = now_ms();
        let member = Member {
            name: name.clone(),
            agent_id: keypair.agent_id(),
            rotations: Vec::new(),
            roles: Vec::new(),
            registry: registry.key(),
            issued_ms: now_ms,
            expires_ms: now_ms + CERTIFICATE_LIFE_MS,
            renew_until_ms: now_ms + CERTIFICATE_LIFE_MS,
        };
        let certificate = certificate::issue(&mesh(), &member).expect("a certificate");
        let origin = registry.url().clone();
        let (trust, proxies) = (TlsTrust::default(), ProxyEnvironment::default());
        let target = Target::new(origin.clone(), &trust, &proxies).expect("a target");
        let choice = CarrierChoice::Only(Carrier::WebSocket);
        let mut socket = ControlSocket::connect(&target, choice, PATIENCE)
            .await
            .expect("a connection");
        let challenge = match heard(&mut socket).await {
            ServerMessage::Challenge(challenge) => challenge,
            other => panic!("{other:?}"),
        };
        let incarnation = Incarnation::new(1);
        let sealing = SealingKey::from_seed(&[66; 32], now_ms + CERTIFICATE_LIFE_MS);
        let who = Who {
            name,
            agent_id: keypair.agent_id(),
            incarnation,
            instance: InstanceId::from_bytes([66; 16]),
            certificate: certificate.clone(),
            sealing: sealing.statement(&keypair, keypair.agent_id(), &mesh().mesh_key(), now_ms),
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
            certificate,
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
        let body = SignalBody {
            mesh: mesh_id(&mesh().mesh_key()),
            from: self.keypair.agent_id(),
            from_incarnation: self.incarnation,
            to,
            to_incarnation,
            session,
            seq: 0,
            issued_ms: now_ms(),
            signal,
        };
        signal::sign(&self.keypair, &self.certificate, &body)
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
        .send(Message::Text(message.encode()), PATIENCE)
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
