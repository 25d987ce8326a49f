//! The client of a proof: what it finds out from inside a network.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stun::{self, Change};
use super::{ADDRESSES, Layers, Nats, Observed, PORTS, TCP_PORTS};
use crate::nat::hello::client_hello;
use crate::nat::theory::{Reach, Udp};
use crate::nat::translator::Dependence::{self, Address, AddressAndPort, Independent};
use crate::nat::translator::Hairpin;

/// How long an answer may take. Chosen far above a way through the lab without delay.
const PATIENCE: Duration = Duration::from_millis(150);

/// Times that a request is sent until it counts as unanswered.
const TRIES: u32 = 2;

/// What is told to a server that answers anything; the first has the beginning of STUN.
const PLAIN_STUN: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];

/// Finds out what the network of this thread's namespace does; `carried` is the address that
/// a NAT at home would have towards a carrier's.
pub(crate) fn observe(carried: Ipv4Addr) -> Result<Observed> {
    let registry = SocketAddr::from((ADDRESSES[0], TCP_PORTS[0]));
    let (https, turn) = (client_hello(&["http/1.1"]), client_hello(&["stun.turn"]));
    let tcp = |port: usize, text: &[u8]| answers((ADDRESSES[1], TCP_PORTS[port]).into(), text);
    let udp = udp()?;
    Ok(Observed {
        nats: udp.map(|_| nats(carried)).transpose()?,
        reach: Reach {
            udp,
            any_tcp: tcp(1, &PLAIN_STUN),
            https_port: tcp(0, &PLAIN_STUN),
            turn_in_tls: answers(registry, &turn),
        },
        https_to_registry: answers(registry, &https),
    })
}

/// Whether a STUN server answers, seen from this thread's namespace.
pub(crate) fn is_there(server: SocketAddr) -> Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok(ask(&socket, server, Change::Nothing)?.is_some())
}

/// Whether a server that sends back what comes does so.
fn answers(server: SocketAddr, text: &[u8]) -> bool {
    let told = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(text)?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        Ok(back == text)
    };
    told().unwrap_or(false)
}

/// How UDP is mapped and filtered; `None` when nothing is answered.
fn udp() -> Result<Option<Udp>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let server = |address: usize, port: usize| (ADDRESSES[address], PORTS[port]).into();
    let seen_by = |server| ask(&socket, server, Change::Nothing);
    let Some(first) = seen_by(server(0, 0))? else {
        return Ok(None);
    };
    let (other_port, other_address) = (seen_by(server(0, 1))?, seen_by(server(1, 0))?);
    let mapping = if other_address == Some(first) && other_port == Some(first) {
        Independent
    } else if other_port == Some(first) {
        Address
    } else {
        AddressAndPort
    };
    let filtering = filtering(server(0, 0))?;
    Ok(Some(Udp { mapping, filtering }))
}

/// Whether there are NATs, and what becomes of packets for their outside addresses.
fn nats(carried: Ipv4Addr) -> Result<Nats> {
    let inside = [UdpSocket::bind(own()?)?, UdpSocket::bind(own()?)?];
    let server = (ADDRESSES[0], PORTS[0]).into();
    let mut outside = Vec::new();
    for socket in &inside {
        let seen = ask(socket, server, Change::Nothing)?;
        outside.push(seen.context("a STUN server fell silent")?);
    }
    let own = [inside[0].local_addr()?, inside[1].local_addr()?];
    // A NAT at home keeps ports.
    let at_home = own.map(|own| SocketAddr::new(carried.into(), own.port()));
    Ok(Nats {
        layers: if outside == own {
            Layers::None
        } else if meet(&inside, at_home)? {
            Layers::Two
        } else {
            Layers::One
        },
        hairpin: if meet(&inside, [outside[0], outside[1]])? {
            Hairpin::Yes
        } else {
            Hairpin::No
        },
    })
}

/// The address that this host has itself, with any port.
fn own() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Nothing is sent: it is looked which address would be used.
    socket.connect((ADDRESSES[0], PORTS[0]))?;
    Ok(SocketAddr::new(socket.local_addr()?.ip(), 0))
}

/// Whether what the first sends to the other's address arrives, after the other has sent to
/// the first one's.
fn meet([first, other]: &[UdpSocket; 2], [of_first, of_other]: [SocketAddr; 2]) -> Result<bool> {
    for _ in 0..TRIES {
        let text: [u8; 12] = rand::random();
        // A network may tell that it lets nothing out.
        let _ = (
            other.send_to(&text, of_first),
            first.send_to(&text, of_other),
        );
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            other.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut bytes = [0; 64];
            if let Ok((12, _)) = other.recv_from(&mut bytes)
                && bytes[..12] == text
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Who is let in to a socket that spoke to one address and port alone (RFC 5780 §4.4).
fn filtering(server: SocketAddr) -> Result<Dependence> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    ask(&socket, server, Change::Nothing)?;
    if ask(&socket, server, Change::AddressAndPort)?.is_some() {
        Ok(Independent)
    } else if ask(&socket, server, Change::Port)?.is_some() {
        Ok(Address)
    } else {
        Ok(AddressAndPort)
    }
}

/// Asks where this socket is seen; `None` when no answer comes.
fn ask(socket: &UdpSocket, server: SocketAddr, change: Change) -> Result<Option<SocketAddr>> {
    let mine = rand::random();
    for _ in 0..TRIES {
        if socket
            .send_to(&stun::request(&mine, change), server)
            .is_err()
        {
            // A network that tells that it lets nothing out.
            return Ok(None);
        }
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut bytes = [0; 1_500];
            let Ok((length, _)) = socket.recv_from(&mut bytes) else {
                continue;
            };
            match stun::read_response(&bytes[..length]) {
                Some((theirs, seen)) if theirs == mine => return Ok(Some(seen)),
                _ => {}
            }
        }
    }
    Ok(None)
}
