//! The servers of a proof: STUN on two addresses and two ports each, and TCP that answers
//! whatever comes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stun::{self, Change};
use super::{ADDRESSES, PORTS, TCP_PORTS};
use crate::nat::namespace::Namespace;

/// How often it looks whether it is over.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// The running servers; dropped, they stop.
#[derive(Debug)]
pub(crate) struct Server {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The sockets of the servers.
#[derive(Debug)]
struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Server {
    /// Starts the servers in a namespace that has their addresses.
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let sockets = namespace.run(|| Sockets::bind().context("binding the test server"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::Builder::new()
            .name("probe".into())
            .spawn(move || sockets.serve(&over))?;
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has told its panic itself.
            let _ = thread.join();
        }
    }
}

impl Sockets {
    fn bind() -> io::Result<Self> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for address in ADDRESSES {
            for port in PORTS {
                udp.push(UdpSocket::bind((address, port))?);
            }
            for port in TCP_PORTS {
                tcp.push(TcpListener::bind((address, port))?);
            }
        }
        udp.iter()
            .try_for_each(|socket| socket.set_nonblocking(true))?;
        tcp.iter()
            .try_for_each(|socket| socket.set_nonblocking(true))?;
        Ok(Self { udp, tcp })
    }

    fn serve(&self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let udp = self
                .udp
                .iter()
                .map(|socket| PollFd::new(socket, PollFlags::IN));
            let tcp = self
                .tcp
                .iter()
                .map(|socket| PollFd::new(socket, PollFlags::IN));
            let mut all: Vec<_> = udp.chain(tcp).collect();
            // An interrupted wait is followed by the next.
            let _ = poll(&mut all, Some(&LOOK));
            for socket in &self.udp {
                self.answer(socket);
            }
            for listener in &self.tcp {
                if let Ok((stream, _)) = listener.accept() {
                    // It ends by itself, when the client is gone.
                    thread::spawn(move || echo(stream));
                }
            }
        }
    }

    /// Answers the requests at one socket, each from where it asks for.
    fn answer(&self, socket: &UdpSocket) {
        let mut bytes = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let (Some((transaction, change)), SocketAddr::V4(seen)) =
                (stun::read_request(&bytes[..length]), from)
            else {
                continue;
            };
            let own = socket.local_addr().ok();
            if let Some(other) = own.and_then(|own| self.changed(own, change)) {
                // What is lost is asked for again.
                let _ = other.send_to(&stun::response(&transaction, seen), from);
            }
        }
    }

    fn changed(&self, own: SocketAddr, change: Change) -> Option<&UdpSocket> {
        let other_port = PORTS.into_iter().find(|port| *port != own.port())?;
        let other_ip = ADDRESSES
            .map(IpAddr::from)
            .into_iter()
            .find(|ip| *ip != own.ip())?;
        let wanted = match change {
            Change::Nothing => own,
            Change::Port => SocketAddr::new(own.ip(), other_port),
            Change::AddressAndPort => SocketAddr::new(other_ip, other_port),
        };
        self.udp
            .iter()
            .find(|socket| socket.local_addr().is_ok_and(|address| address == wanted))
    }
}

/// Sends back whatever comes.
fn echo(mut stream: impl Read + Write) {
    let mut bytes = [0; 1_024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                if stream.write_all(&bytes[..length]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(_) => return,
        }
    }
}
