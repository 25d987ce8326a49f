//! How far a connection to a registry gets: name, TCP, TLS, the proxy, the two carriers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::control::{
    Carrier, CarrierChoice, ConnectError, ControlSocket, Meter, ReceiveError, Received, Target,
    dial,
};

/// The addresses of a host; none of them is asked anything.
///
/// # Errors
/// The resolver's, or `TimedOut`: some resolvers take their time over a name that nobody has.
pub async fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(limit, lookup_host((host, port))).await;
    let mut addresses: Vec<_> = found.map_err(|_| late())??.collect();
    addresses.dedup();
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        false => Ok(addresses),
    }
}

/// Connects by TCP, to all addresses at once, and closes again; gives the first that answers.
///
/// # Errors
/// The last address's, or `TimedOut`.
pub async fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<SocketAddr> {
    let mut attempts = tokio::task::JoinSet::new();
    for address in addresses.iter().copied() {
        attempts.spawn(async move { TcpStream::connect(address).await.map(|_| address) });
    }
    let first = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no address");
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(address)) => return Ok(address),
                Ok(Err(error)) => last = error,
                Err(ended) => last = io::Error::other(ended),
            }
        }
        Err(last)
    };
    timeout(limit, first).await.map_err(|_| late())?
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Makes the byte stream that the control connection runs on: TCP, the proxy's tunnel where
/// there is one, TLS where the URL has it, judged as the [`Target`] says.
///
/// # Errors
/// As a connection fails.
pub async fn reach(target: &Target, limit: Duration) -> Result<(), ConnectError> {
    let dialed = timeout(limit, Box::pin(dial(target.way(), &Meter::default()))).await;
    dialed.map_err(|_| over(target, limit))?.map(drop)
}

/// Connects by one carrier and waits for the registry's first word: some middle boxes let a
/// WebSocket begin and then carry nothing.
///
/// # Errors
/// As a connection fails. [`ConnectError::Refused`] is a registry's word: the carrier passes.
pub async fn carry(target: &Target, carrier: Carrier, limit: Duration) -> Result<(), ConnectError> {
    let choice = CarrierChoice::Only(carrier);
    let heard = async {
        let mut socket = ControlSocket::connect(target, choice, limit).await?;
        loop {
            match socket.receive().await {
                Ok(Received::Alive) => {}
                Ok(_) => break,
                Err(ReceiveError::Refused(fault)) => return Err(ConnectError::Refused(fault)),
                Err(error) => return Err(ConnectError::Handshake(error.to_string())),
            }
        }
        socket.close().await;
        Ok(())
    };
    let heard = timeout(limit, Box::pin(heard)).await;
    heard.map_err(|_| over(target, limit))?
}

fn over(target: &Target, limit: Duration) -> ConnectError {
    ConnectError::Timeout {
        limit,
        proxy: target.proxy().map(str::to_owned),
    }
}
