//! Asks STUN servers over UDP what an [`Examination`] wants to know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use tokio::time::sleep_until;

use super::binding::{Answer, Ask, Examination, Lane, Silence};
use crate::stun::binding::{Binding, BindingError, Question};
use crate::udp::{Burst, ReceiveBuffer, Socket, Wanted};

#[cfg(test)]
mod tests;

/// How long a question waits for its answer. Chosen: the fourth time that it is sent is
/// after 1.05 s, so three losses and a round trip of half a second are borne.
pub const QUESTION_LIMIT: Duration = Duration::from_millis(1_600);

/// Asked of the kernel for each direction, bytes: an examination has fewer than a hundred
/// datagrams of at most 2,048 bytes on the way.
const KERNEL_BUFFER_BYTES: usize = 256 * 1024;

/// The two sockets that questions are asked from. What they send is not cut up on the way.
#[derive(Debug)]
pub struct Lanes {
    first: Socket,
    second: Socket,
}

/// A question that waits for its answer.
struct Waiting<K> {
    ask: Ask<K>,
    binding: Binding,
    ends: Instant,
}

impl Lanes {
    /// Opens two sockets for servers of this one's IP family.
    ///
    /// # Errors
    /// The system's: the host has no such family.
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            first: open(server)?,
            second: open(server)?,
        })
    }

    /// The port of the first socket.
    ///
    /// # Errors
    /// The system's.
    pub fn port(&self) -> io::Result<u16> {
        self.first.port()
    }

    /// Asks until nothing is left to ask: at most [`QUESTION_LIMIT`] for each question that
    /// waits for the answer to another. Cancel safe: what was not answered stays unknown.
    pub async fn examine<E: Examination>(&self, examination: &mut E) {
        let mut waiting: Vec<Waiting<E::Key>> = Vec::new();
        let mut received = ReceiveBuffer::new();
        loop {
            let now = Instant::now();
            while let Some(ask) = examination.poll_ask() {
                waiting.push(Waiting::new(ask, now));
            }
            waiting.retain_mut(|waiting| self.goes_on(waiting, now, examination));
            let Some(due) = waiting.iter().map(Waiting::due).min() else {
                match examination.poll_ask() {
                    Some(ask) => waiting.push(Waiting::new(ask, now)),
                    None => return,
                }
                continue;
            };
            let read = tokio::select! {
                ready = self.first.ready(Wanted::Read) => ready.and_then(|()| self.first.receive(&mut received)),
                ready = self.second.ready(Wanted::Read) => ready.and_then(|()| self.second.receive(&mut received)),
                () = sleep_until(due.into()) => continue,
            };
            // What the system says of an earlier datagram is no answer.
            if read.is_err() {
                continue;
            }
            let now = Instant::now();
            for heard in received.datagrams() {
                waiting.retain_mut(|waiting| {
                    !waiting.takes(now, heard.bytes, heard.source, examination)
                });
            }
        }
    }

    /// Sends what is due of a question; false when it is over.
    fn goes_on<E: Examination>(
        &self,
        waiting: &mut Waiting<E::Key>,
        now: Instant,
        examination: &mut E,
    ) -> bool {
        waiting.binding.handle_timeout(now);
        let silence = match waiting.binding.poll_transmit() {
            _ if now >= waiting.ends => Silence::Nothing,
            None => return true,
            Some(request) => match self.send(&waiting.ask, &request) {
                Ok(()) => return true,
                Err(error) => {
                    tracing::debug!(%error, key = ?waiting.ask.key, "a question cannot be sent");
                    Silence::Unsent
                }
            },
        };
        examination.handle_silence(waiting.ask.key, silence);
        false
    }

    /// Sends now or fails: a socket that is full for some small datagrams is broken.
    fn send<K>(&self, ask: &Ask<K>, bytes: &[u8]) -> io::Result<()> {
        let socket = match ask.lane {
            Lane::First => &self.first,
            Lane::Second => &self.second,
        };
        // Past the runtime, which does not know a socket to be writable before its first use.
        socket.send_now(&Burst {
            source: any(ask.to),
            destination: ask.to,
            segment_size: bytes.len(),
            contents: bytes,
        })
    }
}

impl<K: Copy> Waiting<K> {
    fn new(ask: Ask<K>, now: Instant) -> Self {
        let question = Question {
            answer_from: ask.answer_from,
            padding: ask.padding,
        };
        Self {
            ask,
            binding: Binding::new(question, now, seed()),
            ends: now + QUESTION_LIMIT,
        }
    }

    fn due(&self) -> Instant {
        let due = self.binding.poll_timeout().unwrap_or(self.ends);
        due.min(self.ends)
    }

    /// Whether a datagram is what was waited for; it is told then.
    fn takes<E: Examination<Key = K>>(
        &mut self,
        now: Instant,
        datagram: &[u8],
        from: SocketAddr,
        examination: &mut E,
    ) -> bool {
        if !self.binding.handle_datagram(now, datagram) {
            return false;
        }
        let key = self.ask.key;
        match self.binding.poll_outcome() {
            Some(Ok(answer)) => examination.handle_answer(
                key,
                Answer {
                    from,
                    mapped: answer.mapped,
                    other: answer.other,
                },
            ),
            Some(Err(BindingError::Refused(code))) => {
                examination.handle_silence(key, Silence::Refused(code));
            }
            Some(Err(_)) => examination.handle_silence(key, Silence::Nothing),
            None => return false,
        }
        true
    }
}

/// Makes a transaction id that nobody guesses.
pub(super) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .expect("the system has randomness");
    seed
}

/// Of a server's family, and not fragmented: that flag is set on every [`Socket`].
fn open(server: SocketAddr) -> io::Result<Socket> {
    Socket::open(any(server), KERNEL_BUFFER_BYTES)
}

/// Any address and port of a server's family.
fn any(server: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}
