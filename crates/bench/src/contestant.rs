//! Who takes part, and the two things that each can do: a round trip, and a row
//! of messages one way that ends when the receiver has said that it has them all.

pub(crate) mod grpc;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod waymesh;
pub(crate) mod websocket;

use serde::Serialize;

use crate::error::BenchError;
use crate::settings::Settings;

/// Who takes part. Only waymesh encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contestant {
    /// Raw UDP: the floor of the machine.
    Udp,
    /// Raw TCP with `TCP_NODELAY`, a length before each message.
    Tcp,
    /// A WebSocket (tokio-tungstenite).
    Websocket,
    /// A gRPC call (tonic).
    GrpcUnary,
    /// A gRPC stream in both directions (tonic).
    GrpcBidi,
    /// Two waymesh nodes, encrypted and acknowledged.
    Waymesh,
    /// coturn, a TURN server; it takes part in relaying only.
    Coturn,
}

impl Contestant {
    /// All that carry messages by themselves, in the order of a table.
    pub const ALL: [Self; 6] = [
        Self::Udp,
        Self::Tcp,
        Self::Websocket,
        Self::GrpcUnary,
        Self::GrpcBidi,
        Self::Waymesh,
    ];

    /// A word or two for a table.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Websocket => "WebSocket",
            Self::GrpcUnary => "gRPC unary",
            Self::GrpcBidi => "gRPC bidi stream",
            Self::Waymesh => "waymesh",
            Self::Coturn => "coturn",
        }
    }
}

/// The first byte of a rival's message says what its receiver does with it.
pub(crate) mod op {
    /// Send it back.
    pub(crate) const ECHO: u8 = 0;
    /// Count it.
    pub(crate) const COUNT: u8 = 1;
    /// Answer with how many were counted, eight bytes in network order, and start over.
    pub(crate) const REPORT: u8 = 2;
}

/// What a rival's receiver answers to a message, if anything.
pub(crate) fn answer(message: &[u8], counted: &mut u64) -> Option<Vec<u8>> {
    match message.first() {
        Some(&op::COUNT) => {
            *counted += 1;
            None
        }
        Some(&op::REPORT) => Some(std::mem::take(counted).to_be_bytes().to_vec()),
        _ => Some(message.to_vec()),
    }
}

/// Checks a receiver's answer to [`op::REPORT`].
pub(crate) fn check_report(
    contestant: &'static str,
    report: &[u8],
    sent: u32,
) -> Result<(), BenchError> {
    if report == u64::from(sent).to_be_bytes() {
        return Ok(());
    }
    Err(BenchError::contestant(
        contestant,
        format!("sent {sent} messages, but the receiver reports {report:?}"),
    ))
}

/// A payload whose first byte is an [`op`].
pub(crate) fn payload(first: u8, size: u32) -> Vec<u8> {
    let mut bytes = vec![b'x'; size as usize];
    bytes[0] = first;
    bytes
}

/// One contestant's connection to its far side.
pub(crate) enum Connection {
    Udp(udp::Near),
    Tcp(tcp::Near),
    Websocket(websocket::Near),
    GrpcUnary(grpc::UnaryNear),
    GrpcBidi(grpc::BidiNear),
    Waymesh(Box<waymesh::Near>),
}

impl Connection {
    /// Starts the far side and connects to it.
    pub(crate) async fn open(who: Contestant, settings: &Settings) -> Result<Self, BenchError> {
        Ok(match who {
            Contestant::Udp => Self::Udp(udp::Near::open(settings).await?),
            Contestant::Tcp => Self::Tcp(tcp::Near::open(settings).await?),
            Contestant::Websocket => Self::Websocket(websocket::Near::open(settings).await?),
            Contestant::GrpcUnary => Self::GrpcUnary(grpc::UnaryNear::open(settings).await?),
            Contestant::GrpcBidi => Self::GrpcBidi(grpc::BidiNear::open(settings).await?),
            Contestant::Waymesh => Self::Waymesh(Box::new(waymesh::Near::open(settings).await?)),
            Contestant::Coturn => return Err(BenchError::contestant("coturn", "only relays")),
        })
    }

    /// Sends a message and waits for its echo.
    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        match self {
            Self::Udp(near) => near.round_trip(message).await,
            Self::Tcp(near) => near.round_trip(message).await,
            Self::Websocket(near) => near.round_trip(message).await,
            Self::GrpcUnary(near) => near.round_trip(message).await,
            Self::GrpcBidi(near) => near.round_trip(message).await,
            Self::Waymesh(near) => near.round_trip(message).await,
        }
    }

    /// The processes of the sending and the receiving waymesh node, once they run.
    pub(crate) fn waymesh_pids(&self) -> Result<Option<(u32, u32)>, BenchError> {
        match self {
            Self::Waymesh(near) => near.one_way_pids(),
            _ => Ok(None),
        }
    }

    /// Sends so many messages of a size and waits until the receiver has said that it
    /// has all of them.
    pub(crate) async fn one_way(&mut self, size: u32, count: u32) -> Result<(), BenchError> {
        match self {
            Self::Udp(_) => Err(BenchError::contestant("UDP", "loses messages one way")),
            Self::Tcp(near) => near.one_way(size, count).await,
            Self::Websocket(near) => near.one_way(size, count).await,
            Self::GrpcUnary(near) => near.one_way(size, count).await,
            Self::GrpcBidi(near) => near.one_way(size, count).await,
            Self::Waymesh(near) => near.one_way(size, count).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_echoes_counts_and_reports() {
        let mut counted = 0;
        assert_eq!(
            answer(&payload(op::ECHO, 3), &mut counted),
            Some(vec![op::ECHO, b'x', b'x'])
        );
        assert_eq!(answer(&payload(op::COUNT, 3), &mut counted), None);
        assert_eq!(answer(&payload(op::COUNT, 3), &mut counted), None);
        let report = answer(&[op::REPORT], &mut counted).expect("a report");
        assert!(check_report("x", &report, 2).is_ok());
        assert!(check_report("x", &report, 3).is_err());
        assert_eq!(counted, 0);
    }
}
