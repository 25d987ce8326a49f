//! The client of a proof: what it finds out from inside a network.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::stun::{self, Change};
use super::{ADDRESSES, Observed, PORTS, TCP_PORTS};
use crate::nat::hello::client_hello;
use crate::nat::theory::{Reach, Udp};
use crate::nat::translator::Dependence::{self, Address, AddressAndPort, Independent};

/// How long an answer may take. Chosen far above a way through the lab without delay.
const PATIENCE: Duration = Duration::from_millis(150);

/// Times that a request is sent until it counts as unanswered.
const TRIES: u32 = 2;

/// What is told to a server that answers anything; the first has the beginning of STUN.
const PLAIN_STUN: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];

/// Finds out what the network of this thread's namespace does.
pub(crate) fn observe() -> Result<Observed> {
    let registry = SocketAddr::from((ADDRESSES[0], TCP_PORTS[0]));
    let (https, turn) = (client_hello(&["http/1.1"]), client_hello(&["stun.turn"]));
    let tcp = |port: usize, text: &[u8]| answers((ADDRESSES[1], TCP_PORTS[port]).into(), text);
    Ok(Observed {
        reach: Reach {
            udp: udp()?,
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
