//! Raw TCP with `TCP_NODELAY`: four bytes of length, then the message.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{answer, check_report, op, payload};
use crate::child::Child;
use crate::error::BenchError;
use crate::role::{Role, announce};
use crate::settings::Settings;

/// Bytes that a side collects before it bothers the kernel, when it sends a row.
const BUFFER_BYTES: usize = 64 * 1024;

struct Framed {
    read: BufReader<OwnedReadHalf>,
    write: BufWriter<OwnedWriteHalf>,
    message: Vec<u8>,
}

impl Framed {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self {
            read: BufReader::with_capacity(BUFFER_BYTES, read),
            write: BufWriter::with_capacity(BUFFER_BYTES, write),
            message: Vec::new(),
        })
    }

    async fn feed(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        self.write.write_all(&length.to_be_bytes()).await?;
        self.write.write_all(message).await
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.feed(message).await?;
        self.write.flush().await
    }

    async fn recv(&mut self) -> io::Result<&[u8]> {
        let length = self.read.read_u32().await? as usize;
        self.message.resize(length, 0);
        self.read.read_exact(&mut self.message).await?;
        Ok(&self.message)
    }
}

/// The measuring side.
pub(crate) struct Near {
    framed: Framed,
    _far: Child,
}

impl Near {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, BenchError> {
        let (far, address) = Child::start(settings, &Role::Tcp).await?;
        let stream = TcpStream::connect(&address)
            .await
            .map_err(BenchError::io("connecting over TCP"))?;
        Ok(Self {
            framed: Framed::new(stream).map_err(BenchError::io("connecting over TCP"))?,
            _far: far,
        })
    }

    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        let run = async {
            self.framed.send(message).await?;
            self.framed.recv().await
        };
        run.await
            .map(drop)
            .map_err(BenchError::io("a TCP round trip"))
    }

    pub(crate) async fn one_way(&mut self, size: u32, count: u32) -> Result<(), BenchError> {
        let message = payload(op::COUNT, size);
        let run = async {
            for _ in 0..count {
                self.framed.feed(&message).await?;
            }
            self.framed.send(&[op::REPORT]).await?;
            self.framed.recv().await
        };
        let report = run.await.map_err(BenchError::io("sending over TCP"))?;
        check_report("TCP", report, count)
    }
}

/// The answering side: one connection after the other.
pub(crate) async fn serve() -> Result<(), BenchError> {
    let what = "the TCP echo";
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(BenchError::io(what))?;
    announce(listener.local_addr().map_err(BenchError::io(what))?)?;
    loop {
        let (stream, _) = listener.accept().await.map_err(BenchError::io(what))?;
        let mut framed = Framed::new(stream).map_err(BenchError::io(what))?;
        let mut counted = 0;
        while let Ok(message) = framed.recv().await {
            if let Some(reply) = answer(message, &mut counted) {
                framed.send(&reply).await.map_err(BenchError::io(what))?;
            }
        }
    }
}
