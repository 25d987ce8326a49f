//! What an examination asks of STUN servers, and what it is told.

use std::net::SocketAddr;

use crate::stun::binding::AnswerFrom;

/// One of two sockets: what one of them has sent must not open a NAT's filter for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The first.
    First,
    /// The second.
    Second,
}

/// A question to a STUN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<K> {
    /// What the examination knows it by.
    pub key: K,
    /// The socket to ask from.
    pub lane: Lane,
    /// Whom to ask.
    pub to: SocketAddr,
    /// From where to answer.
    pub answer_from: AnswerFrom,
    /// How much PADDING the question has, bytes.
    pub padding: usize,
}

/// What a STUN server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// From where the answer came.
    pub from: SocketAddr,
    /// From where the server saw the request come.
    pub mapped: SocketAddr,
    /// The server's other address and port, if it has them.
    pub other: Option<SocketAddr>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// None came, however often it was asked.
    Nothing,
    /// The server refused with this code.
    Refused(u16),
    /// This host could not send it: too large for its interface, or no route.
    Unsent,
}

/// Something that asks STUN servers and makes sense of what they answer.
pub trait Examination {
    /// Tells its questions apart.
    type Key: Copy + PartialEq + std::fmt::Debug;

    /// Takes a question to ask now; its answer or its silence is told once.
    fn poll_ask(&mut self) -> Option<Ask<Self::Key>>;
    /// A question was answered.
    fn handle_answer(&mut self, key: Self::Key, answer: Answer);
    /// A question stays without an answer.
    fn handle_silence(&mut self, key: Self::Key, silence: Silence);
}
