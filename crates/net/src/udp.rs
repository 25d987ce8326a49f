//! A UDP socket that is read and written in batches; a node has one for all its
//! peers, opened for both IP families where the host has both.
//!
//! Addresses outside this file are canonical: an IPv4 peer on the dual-stack
//! socket is seen as IPv4, never as `::ffff:…`.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Asked of the kernel for each direction, bytes: a dropped burst costs SCTP a
/// second (its least RTO), so bursts of some links must fit. The kernel may
/// give less (`net.core.rmem_max`).
const KERNEL_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Receive buffers given to one system call. With GRO each holds up to 64
/// datagrams, so that more buffers bring nothing but memory.
const RECEIVE_SLOTS: usize = 4;

/// Size of one receive buffer: the largest UDP payload, which GRO may fill.
const RECEIVE_SLOT_BYTES: usize = 64 * 1024;

/// A UDP socket with batched input and output.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    dual_stack: bool,
}

/// What a socket is to be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To be read.
    Read,
    /// To be read or written: something waits that it has not taken.
    ReadOrWrite,
}

/// A run of datagrams for one destination, all of one size but the last.
#[derive(Debug)]
pub struct Burst<'a> {
    /// The address that they are sent from; the kernel chooses when it is unspecified.
    pub source: SocketAddr,
    /// The address that they are sent to.
    pub destination: SocketAddr,
    /// Bytes of each but the last, which may be shorter.
    pub segment_size: usize,
    /// Their payloads, one behind the other.
    pub contents: &'a [u8],
}

/// Buffers for one batched read, reused from read to read.
#[derive(Debug)]
pub struct ReceiveBuffer {
    bytes: Box<[u8]>,
    meta: [RecvMeta; RECEIVE_SLOTS],
    filled: usize,
}

/// One received datagram.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Who has sent it.
    pub source: SocketAddr,
    /// The address that it was sent to, when the kernel told.
    pub local_ip: Option<IpAddr>,
    /// Its payload.
    pub bytes: &'a [u8],
}

impl Socket {
    /// Binds to `ip` and `port`; without `ip`, to all addresses of both families where there are two.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn bind(ip: Option<IpAddr>, port: u16) -> io::Result<Self> {
        let open = |address| Self::open(address, KERNEL_BUFFER_BYTES);
        match ip {
            Some(ip) => open(SocketAddr::new(ip, port)),
            None => open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
                .or_else(|_| open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))),
        }
    }

    /// Binds to an address and asks the kernel for buffers of this size. An
    /// unspecified IPv6 address takes both families.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(address: SocketAddr, buffer_bytes: usize) -> io::Result<Self> {
        let raw = RawSocket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        let dual_stack = address.is_ipv6();
        if dual_stack {
            raw.set_only_v6(false)?;
        }
        raw.set_nonblocking(true)?;
        raw.bind(&address.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&raw))?;
        for result in [
            raw.set_recv_buffer_size(buffer_bytes),
            raw.set_send_buffer_size(buffer_bytes),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, "the kernel keeps its own socket buffer size");
            }
        }
        let io = UdpSocket::from_std(raw.into())?;
        Ok(Self {
            io,
            state,
            dual_stack,
        })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The port that peers send to.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.io.local_addr()?.port())
    }

    /// Whether the socket carries IPv6 too.
    pub const fn carries_v6(&self) -> bool {
        self.dual_stack
    }

    /// Most datagrams in one [`Burst`].
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Waits until what is wanted may succeed. Cancel safe.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn ready(&self, wanted: Wanted) -> io::Result<()> {
        let interest = match wanted {
            Wanted::Read => Interest::READABLE,
            Wanted::ReadOrWrite => Interest::READABLE | Interest::WRITABLE,
        };
        self.io.ready(interest).await.map(|_| ())
    }

    /// Reads one batch; [`io::ErrorKind::WouldBlock`] when nothing waits.
    ///
    /// # Errors
    /// Those of the kernel; some are reports about earlier datagrams.
    pub fn receive(&self, into: &mut ReceiveBuffer) -> io::Result<()> {
        into.filled = 0;
        let ReceiveBuffer {
            bytes,
            meta,
            filled,
        } = into;
        let mut slots = bytes.chunks_exact_mut(RECEIVE_SLOT_BYTES);
        let mut slots: [IoSliceMut<'_>; RECEIVE_SLOTS] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let result = self.io.try_io(Interest::READABLE, || {
            *filled = self
                .state
                .recv(UdpSockRef::from(&self.io), &mut slots, meta)?;
            // Slots left over: nothing more waits. Tokio learns it without another call;
            // what arrives from now on is a new event.
            match *filled {
                RECEIVE_SLOTS => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match result {
            Err(_) if *filled > 0 => Ok(()),
            other => other,
        }
    }

    /// Writes one burst; [`io::ErrorKind::WouldBlock`] when the kernel's buffer is full.
    /// [`Socket::ready`] tells when it is worth another try.
    ///
    /// # Errors
    /// Those of the kernel; some are reports about earlier datagrams.
    pub fn send(&self, burst: &Burst<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.send_now(burst))
    }

    /// The same for somebody who will not wait for room: the kernel is asked
    /// even if the runtime has not heard of the socket yet.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send_now(&self, burst: &Burst<'_>) -> io::Result<()> {
        let segments = burst.contents.len().div_ceil(burst.segment_size.max(1));
        if segments > self.max_segments() {
            return self.send_one_by_one(burst);
        }
        self.send_raw(
            burst,
            (segments > 1).then_some(burst.segment_size),
            burst.contents,
        )
    }

    /// The way out when the kernel or the driver turned out to have no GSO.
    ///
    /// When the socket fills up in the middle the rest of the burst is lost,
    /// as on any network; this happens at most once, while GSO is being found missing.
    fn send_one_by_one(&self, burst: &Burst<'_>) -> io::Result<()> {
        let mut datagrams = burst.contents.chunks(burst.segment_size.max(1));
        if let Some(first) = datagrams.next() {
            self.send_raw(burst, None, first)?;
        }
        for datagram in datagrams {
            if self.send_raw(burst, None, datagram).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn send_raw(
        &self,
        burst: &Burst<'_>,
        segment_size: Option<usize>,
        contents: &[u8],
    ) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: self.outward(burst.destination),
            ecn: None,
            contents,
            segment_size,
            src_ip: (!burst.source.ip().is_unspecified()).then(|| burst.source.ip()),
        };
        self.state.try_send(UdpSockRef::from(&self.io), &transmit)
    }

    /// The form of an address that this socket's family takes.
    fn outward(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.dual_stack => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBuffer {
    /// Buffers that hold nothing.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; RECEIVE_SLOTS * RECEIVE_SLOT_BYTES].into(),
            meta: [RecvMeta::default(); RECEIVE_SLOTS],
            filled: 0,
        }
    }

    /// The datagrams of the last read, each GRO segment by itself.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let slots = self.bytes.chunks_exact(RECEIVE_SLOT_BYTES);
        self.meta
            .iter()
            .zip(slots)
            .take(self.filled)
            .flat_map(|(meta, slot)| {
                let source = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
                let local_ip = meta.dst_ip.map(|ip| ip.to_canonical());
                slot[..meta.len.min(slot.len())]
                    .chunks(meta.stride.max(1))
                    .map(move |bytes| Datagram {
                        source,
                        local_ip,
                        bytes,
                    })
            })
    }

    /// Whether the last read filled every buffer, so that more may wait.
    pub fn is_full(&self) -> bool {
        self.filled == RECEIVE_SLOTS
    }
}
