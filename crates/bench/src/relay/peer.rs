//! The peers beyond a relay: one that sends everything back, one that counts.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::channel::{is_silence, local_socket};
use crate::error::BenchError;

/// The largest datagram here, bytes.
const DATAGRAM_MAX_BYTES: usize = 2_048;

/// Datagrams after which a counting peer says how many it has. Chosen: seldom
/// enough to cost nothing, often enough that the sender does not stand still.
pub(crate) const REPORT_EVERY: u64 = 8;

/// A peer on a thread of its own, which ends with this.
struct Peer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Gives each datagram to `hear`, with the socket to answer by and who sent it.
    fn start(
        mut hear: impl FnMut(&UdpSocket, &[u8], SocketAddr) + Send + 'static,
    ) -> Result<Self, BenchError> {
        let socket = local_socket()?;
        let address = socket
            .local_addr()
            .map_err(BenchError::io("binding a UDP socket"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; DATAGRAM_MAX_BYTES];
            while !stopped.load(Ordering::Relaxed) {
                match socket.recv_from(&mut bytes) {
                    Ok((length, from)) => hear(&socket, &bytes[..length], from),
                    Err(error) if is_silence(&error) => {}
                    Err(_) => break,
                }
            }
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A peer that sends everything back.
pub(crate) struct Echo(Peer);

impl Echo {
    pub(crate) fn start() -> Result<Self, BenchError> {
        let peer = Peer::start(|socket, bytes, from| {
            // What is lost shows as a round trip that does not end.
            let _ = socket.send_to(bytes, from);
        })?;
        Ok(Self(peer))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A peer that counts, and says directly how many it has.
pub(crate) struct Sink {
    peer: Peer,
    reports: UdpSocket,
}

impl Sink {
    pub(crate) fn start() -> Result<Self, BenchError> {
        let reports = local_socket()?;
        let to = reports
            .local_addr()
            .map_err(BenchError::io("binding a UDP socket"))?;
        let mut count = 0_u64;
        let peer = Peer::start(move |socket, _, _| {
            count += 1;
            if count.is_multiple_of(REPORT_EVERY) {
                // A later one says more.
                let _ = socket.send_to(&count.to_be_bytes(), to);
            }
        })?;
        Ok(Self { peer, reports })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// Waits for the next word on how many have arrived in all; `None` when
    /// nothing is heard for a while.
    pub(crate) fn next_report(&self) -> Result<Option<u64>, BenchError> {
        let mut bytes = [0; 8];
        match self.reports.recv(&mut bytes) {
            Ok(_) => Ok(Some(u64::from_be_bytes(bytes))),
            Err(error) if is_silence(&error) => Ok(None),
            Err(error) => Err(BenchError::io("hearing of a peer")(error)),
        }
    }
}
