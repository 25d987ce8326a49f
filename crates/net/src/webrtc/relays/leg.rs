//! One way to one TURN server: a client, and what carries its messages.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use waymesh_proto::ice::IceUrl;
use waymesh_proto::link::LinkProtocol;

use super::super::randomness::seed;
use crate::control::{ProxyEnvironment, TlsTrust};
use crate::turn::client::{
    Client, ClientConfig, ClientCounters, ClientEvent, Credentials, Handled, RelayFamily, Via,
};
use crate::turn::stream::{Stream, StreamEvent};

/// What leads to servers beside the socket of the links.
#[derive(Debug, Default)]
pub(in crate::webrtc) struct Roads {
    /// Whom TLS trusts to vouch for servers.
    pub(in crate::webrtc) tls: TlsTrust,
    pub(in crate::webrtc) proxies: ProxyEnvironment,
    /// Told when a stream has something.
    pub(in crate::webrtc) wake: Arc<Notify>,
}

/// Who this node is to a server.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) credentials: Option<Credentials>,
    /// What an earlier leg to the same address signed with.
    pub(super) earlier: Option<Credentials>,
}

/// Datagrams for servers, and where to.
pub(super) type ToSocket = VecDeque<(SocketAddr, Vec<u8>)>;

/// What legs have counted.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::webrtc) struct Tally {
    pub(in crate::webrtc) clients: ClientCounters,
    /// Messages that a stream did not take.
    pub(in crate::webrtc) streams_full: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.clients += other.clients;
        self.streams_full += other.streams_full;
    }
}

/// One way to one server.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) url: IceUrl,
    /// Where its datagrams went when that was last looked at.
    known_at: Option<SocketAddr>,
    /// This host's end of the way, as far as it is known.
    pub(super) local: Option<SocketAddr>,
    /// `None`: the socket of the links.
    stream: Option<Stream>,
    /// `None` until the stream is open.
    client: Option<Box<Client>>,
    credentials: Option<Credentials>,
    closed: Option<String>,
}

impl Leg {
    /// Asks a server at an address, by the socket of the links.
    pub(super) fn by_socket(
        now: Instant,
        url: IceUrl,
        server: SocketAddr,
        identity: Identity,
    ) -> Self {
        let mut leg = Self::new(url, identity.credentials);
        leg.begin(now, Via::Datagrams { server }, identity.earlier);
        leg.known_at = Some(server);
        leg
    }

    /// Asks a server by a stream of its own.
    pub(super) fn by_stream(url: IceUrl, credentials: Option<Credentials>, roads: &Roads) -> Self {
        let wake = Arc::clone(&roads.wake);
        let stream = Stream::connect(&url, &roads.tls, &roads.proxies, wake);
        Self {
            stream: Some(stream),
            ..Self::new(url, credentials)
        }
    }

    const fn new(url: IceUrl, credentials: Option<Credentials>) -> Self {
        Self {
            url,
            known_at: None,
            local: None,
            stream: None,
            client: None,
            credentials,
            closed: None,
        }
    }

    fn begin(&mut self, now: Instant, via: Via, earlier: Option<Credentials>) {
        let config = ClientConfig {
            via,
            family: RelayFamily::Common,
            credentials: self.credentials.clone(),
            earlier,
            remembered: None,
        };
        self.client = Some(Box::new(Client::new(config, now, seed())));
    }

    /// What carries packets to the server.
    pub(super) const fn protocol(&self) -> LinkProtocol {
        match (&self.stream, self.url.scheme().is_tls()) {
            (None, _) => LinkProtocol::Udp,
            (Some(_), true) => LinkProtocol::Tls,
            (Some(_), false) => LinkProtocol::Tcp,
        }
    }

    /// Where datagrams of the server come from; `None` by a stream.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.client.as_ref().and_then(|client| client.server())
    }

    /// Whether its server has sent it to another one since [`Leg::stay`].
    pub(super) fn has_moved(&self) -> bool {
        self.server() != self.known_at
    }

    /// Where it is now is its own.
    pub(super) fn stay(&mut self) {
        self.known_at = self.server();
    }

    /// What it has counted.
    pub(super) fn tally(&self) -> Tally {
        let client = self.client.as_ref();
        Tally {
            clients: client.map(|client| client.counters()).unwrap_or_default(),
            streams_full: self.stream.as_ref().map_or(0, Stream::dropped),
        }
    }

    /// The relayed address, while there is an allocation.
    pub(super) fn relayed(&self) -> Option<SocketAddr> {
        self.client.as_ref().and_then(|client| client.relayed())
    }

    /// Since when the server has not answered whether the allocation is there.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.client
            .as_ref()
            .and_then(|client| client.silent_since())
    }

    /// This host's end, or any address where it is not known.
    pub(super) fn base(&self) -> SocketAddr {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.local.unwrap_or(any)
    }

    /// The next requests are signed with these.
    pub(super) fn set_credentials(&mut self, credentials: &Credentials) {
        self.credentials = Some(credentials.clone());
        if let Some(client) = &mut self.client {
            client.set_credentials(credentials.clone());
        }
    }

    /// What the latest requests were signed with.
    pub(super) fn signs_with(&self) -> Option<Credentials> {
        let client = self.client.as_ref()?;
        client.credentials().cloned()
    }

    /// Takes a datagram of the server, which came to `local`.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        bytes: &[u8],
    ) -> Handled {
        let Some(client) = &mut self.client else {
            return Handled::NotMine;
        };
        let handled = client.handle_datagram(now, bytes);
        if handled == Handled::Taken {
            self.local = Some(local);
        }
        handled
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(client) = &mut self.client {
            client.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.client
            .as_ref()
            .and_then(|client| client.poll_timeout())
    }

    /// Lets a peer in.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) {
        if let Some(client) = &mut self.client {
            client.permit(now, ip);
        }
    }

    /// Sends to a peer.
    pub(super) fn send(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        if let Some(client) = &mut self.client {
            client.send(now, peer, bytes);
        }
    }

    /// Asks whether the allocation is still there.
    pub(super) fn probe(&mut self, now: Instant) {
        if let Some(client) = &mut self.client {
            client.probe(now);
        }
    }

    /// Gives the allocation back, without waiting for the answer.
    pub(super) fn close(&mut self, now: Instant, to_socket: &mut ToSocket) {
        if let Some(client) = &mut self.client {
            client.close(now);
        }
        self.pass_on(to_socket);
    }

    /// Takes what a stream has brought.
    pub(super) fn hear_stream(&mut self, now: Instant) {
        while let Some(event) = self.stream.as_mut().and_then(Stream::poll) {
            match event {
                StreamEvent::Connected => self.begin(now, Via::Stream, None),
                StreamEvent::Message(bytes) => {
                    if let Some(client) = &mut self.client {
                        client.handle_datagram(now, &bytes);
                    }
                }
                StreamEvent::Closed(error) => self.closed = Some(error.to_string()),
            }
        }
    }

    /// Passes messages on to the server.
    pub(super) fn pass_on(&mut self, to_socket: &mut ToSocket) {
        let Some(client) = &mut self.client else {
            return;
        };
        while let Some(message) = client.poll_transmit() {
            match (&mut self.stream, client.server()) {
                (Some(stream), _) => stream.send(message),
                (None, Some(server)) => to_socket.push_back((server, message)),
                (None, None) => {}
            }
        }
    }

    /// What became of the client.
    pub(super) fn poll_event(&mut self) -> Option<ClientEvent> {
        self.client.as_mut()?.poll_event()
    }

    /// Why the stream is over, once.
    pub(super) fn take_closed(&mut self) -> Option<String> {
        self.closed.take()
    }
}
