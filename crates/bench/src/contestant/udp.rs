//! Raw UDP: what the machine's sockets and a process boundary cost.

use tokio::net::UdpSocket;

use crate::child::Child;
use crate::error::BenchError;
use crate::role::{Role, announce};
use crate::settings::Settings;

/// The measuring side.
pub(crate) struct Near {
    socket: UdpSocket,
    buffer: Vec<u8>,
    _far: Child,
}

impl Near {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, BenchError> {
        let (far, address) = Child::start(settings, &Role::Udp).await?;
        let socket = UdpSocket::bind("127.0.0.1:0")
            .await
            .map_err(BenchError::io("binding a UDP socket"))?;
        socket
            .connect(&address)
            .await
            .map_err(BenchError::io("connecting a UDP socket"))?;
        Ok(Self {
            socket,
            buffer: vec![0; 64 * 1024],
            _far: far,
        })
    }

    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        let what = BenchError::io("a UDP round trip");
        let run = async {
            self.socket.send(message).await?;
            self.socket.recv(&mut self.buffer).await
        };
        run.await.map(drop).map_err(what)
    }
}

/// The echoing side; ends with the runtime.
pub(crate) async fn serve() -> Result<(), BenchError> {
    let what = "the UDP echo";
    let socket = UdpSocket::bind("127.0.0.1:0")
        .await
        .map_err(BenchError::io(what))?;
    announce(socket.local_addr().map_err(BenchError::io(what))?)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (len, from) = socket
            .recv_from(&mut buffer)
            .await
            .map_err(BenchError::io(what))?;
        socket
            .send_to(&buffer[..len], from)
            .await
            .map_err(BenchError::io(what))?;
    }
}
