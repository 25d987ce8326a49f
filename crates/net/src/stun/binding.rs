//! One Binding request and its answer (RFC 8489 §3), without socket and clock,
//! with what RFC 5780 adds for finding out what a NAT does.
//!
//! ```text
//!  Binding::new ─▶ poll_transmit ─▶ server ─▶ handle_datagram ─▶ poll_outcome
//!                  handle_timeout ◀─ poll_timeout
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ids::Ids;
use crate::turn::message::{Class, Message, Method, TransactionId, Writer, kind};

/// The pause before the question is sent again, which doubles each time. RFC 8489
/// §6.2.1 says 500 ms where nothing is known of the way; a question more costs
/// nothing, and an address that is found late is of less use. Chosen.
pub const FIRST_PAUSE: Duration = Duration::from_millis(150);

/// How often the question is sent. RFC 8489 §6.2.1 says seven times; the last pause would be long. Chosen.
pub const ATTEMPTS: u32 = 6;

/// Silence after the last attempt, in first pauses: 16 as RFC 8489 §6.2.1 says.
/// All in all 7 s.
const LAST_PAUSE: u32 = 16;

/// Longest PADDING that is asked for, bytes. Chosen: a datagram that does not fit an Ethernet frame.
pub const PADDING_MAX_BYTES: usize = 2_048;

/// From where the server is asked to answer (CHANGE-REQUEST, RFC 5780 §7.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerFrom {
    /// Where the question went.
    #[default]
    There,
    /// Another port of the same address.
    OtherPort,
    /// Another address, same port.
    OtherAddress,
    /// Another address and port.
    OtherAddressAndPort,
}

impl AnswerFrom {
    /// CHANGE-REQUEST: A is 4 (address), B is 2 (port).
    const fn flags(self) -> u32 {
        match self {
            Self::There => 0,
            Self::OtherPort => 2,
            Self::OtherAddress => 4,
            Self::OtherAddressAndPort => 6,
        }
    }
}

/// What is asked. The default asks for one's own address and nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Question {
    /// From where to answer; a server with one address refuses all but the default.
    pub answer_from: AnswerFrom,
    /// Bytes of PADDING (RFC 5780 §7.6), at most [`PADDING_MAX_BYTES`]: whether
    /// fragments pass.
    pub padding: usize,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// This host as the server sees it.
    pub mapped: SocketAddr,
    /// The server's other address and port (OTHER-ADDRESS), if it has one.
    pub other: Option<SocketAddr>,
    /// The address that the server says it has sent from (RESPONSE-ORIGIN).
    pub origin: Option<SocketAddr>,
    /// From the latest request before the answer to the answer: a lower bound of
    /// the round trip where the question was sent several times.
    pub took: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Nothing came back.
    #[error("the STUN server did not answer within {0:?}")]
    Timeout(Duration),
    /// The server refuses the question; 420 is said to [`AnswerFrom`] and PADDING by most.
    #[error("the STUN server refuses ({0})")]
    Refused(u16),
    /// It has answered without an address.
    #[error("the STUN server answers without an address")]
    Unreadable,
}

/// One question on its way.
#[derive(Debug)]
pub struct Binding {
    id: TransactionId,
    bytes: Vec<u8>,
    begun: Instant,
    sent: Instant,
    /// When the next attempt, or the end, is due.
    due: Instant,
    attempts: u32,
    to_send: bool,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Done(Result<Answer, BindingError>),
    Taken,
}

impl Binding {
    /// Asks. `seed` is secret and random, and another one each time: an answer
    /// is believed because nobody else knows what is made of it.
    pub fn new(question: Question, now: Instant, seed: [u8; 32]) -> Self {
        let id = Ids::new(seed).next();
        let mut writer = Writer::new(Class::Request, Method::Binding, id);
        if question.answer_from != AnswerFrom::There {
            writer.put_number(kind::CHANGE_REQUEST, question.answer_from.flags());
        }
        if question.padding > 0 {
            let padding = question.padding.min(PADDING_MAX_BYTES);
            writer.put(kind::PADDING, &vec![0; padding]);
        }
        Self {
            id,
            // On a socket that is shared with other protocols (RFC 8489 §7).
            bytes: writer.finish_with_fingerprint(),
            begun: now,
            sent: now,
            due: now + FIRST_PAUSE,
            attempts: 1,
            to_send: true,
            state: State::Waiting,
        }
    }

    /// Takes in a datagram, of whomever: with [`AnswerFrom`] the answer comes
    /// from elsewhere. False when it is not the answer.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) -> bool {
        if !matches!(bytes.first(), Some(0..=3)) {
            return false;
        }
        let Ok(message) = Message::parse(bytes) else {
            return false;
        };
        let is_answer = matches!(message.class(), Class::Success | Class::Error)
            && message.method() == Some(Method::Binding)
            && message.transaction() == self.id;
        if is_answer && self.state == State::Waiting {
            self.state = State::Done(self.read(now, &message));
        }
        is_answer
    }

    fn read(&self, now: Instant, message: &Message<'_>) -> Result<Answer, BindingError> {
        if message.class() == Class::Error {
            let code = message.error().map_or(0, |(code, _)| code);
            return Err(BindingError::Refused(code));
        }
        // The plain form is what servers of RFC 3489 give.
        let mapped = message
            .xor_address(kind::XOR_MAPPED_ADDRESS)
            .or_else(|| message.address(kind::MAPPED_ADDRESS));
        Ok(Answer {
            mapped: mapped.ok_or(BindingError::Unreadable)?,
            other: message.address(kind::OTHER_ADDRESS),
            origin: message.address(kind::RESPONSE_ORIGIN),
            took: now.saturating_duration_since(self.sent),
        })
    }

    /// The time that [`Binding::poll_timeout`] named has come, or another.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Waiting || now < self.due {
            return;
        }
        if self.attempts >= ATTEMPTS {
            let waited = now.saturating_duration_since(self.begun);
            self.state = State::Done(Err(BindingError::Timeout(waited)));
            return;
        }
        let pause = FIRST_PAUSE
            * if self.attempts + 1 >= ATTEMPTS {
                LAST_PAUSE
            } else {
                1 << self.attempts
            };
        self.attempts += 1;
        self.to_send = true;
        self.sent = now;
        self.due = now + pause;
    }

    /// When [`Binding::handle_timeout`] is to be called; `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.state == State::Waiting).then_some(self.due)
    }

    /// Takes the datagram for the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let waits = self.state == State::Waiting;
        (waits && std::mem::take(&mut self.to_send)).then(|| self.bytes.clone())
    }

    /// Takes what came of it, once.
    pub fn poll_outcome(&mut self) -> Option<Result<Answer, BindingError>> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Done(outcome) => Some(outcome),
            state => {
                self.state = state;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(now: Instant) -> Binding {
        Binding::new(Question::default(), now, [7; 32])
    }

    /// What a server answers that has two addresses.
    fn answer(request: &[u8], mapped: &str) -> Vec<u8> {
        let request = Message::parse(request).expect("a request");
        let mut writer = Writer::success(&request);
        writer
            .put_xor_address(kind::XOR_MAPPED_ADDRESS, mapped.parse().expect("address"))
            .put_address(kind::OTHER_ADDRESS, "192.0.2.2:2".parse().expect("address"))
            .put_address(
                kind::RESPONSE_ORIGIN,
                "192.0.2.1:1".parse().expect("address"),
            );
        writer.finish_with_fingerprint()
    }

    #[test]
    fn the_answer_tells_all_addresses() {
        let now = Instant::now();
        let mut binding = binding(now);
        let request = binding.poll_transmit().expect("the question");
        assert_eq!(binding.poll_transmit(), None);
        let later = now + Duration::from_millis(30);
        assert!(binding.handle_datagram(later, &answer(&request, "[2001:db8::7]:9")));
        let outcome = binding.poll_outcome().expect("an outcome").expect("good");
        assert_eq!(outcome.mapped, "[2001:db8::7]:9".parse().expect("address"));
        assert_eq!(outcome.other, "192.0.2.2:2".parse().ok());
        assert_eq!(outcome.origin, "192.0.2.1:1".parse().ok());
        assert_eq!(outcome.took, Duration::from_millis(30));
        assert_eq!(binding.poll_outcome(), None);
        assert_eq!(binding.poll_timeout(), None);
    }

    #[test]
    fn the_question_is_repeated_six_times_and_then_given_up() {
        let now = Instant::now();
        let mut binding = binding(now);
        let mut times = Vec::new();
        let mut at = now;
        loop {
            if let Some(bytes) = binding.poll_transmit() {
                times.push((at - now).as_millis());
                assert!(Message::parse(&bytes).is_ok());
            }
            match binding.poll_timeout() {
                Some(due) => at = due,
                None => break,
            }
            binding.handle_timeout(at);
        }
        assert_eq!(times, [0, 150, 450, 1_050, 2_250, 4_650]);
        let outcome = binding.poll_outcome();
        let expected = BindingError::Timeout(Duration::from_millis(7_050));
        assert_eq!(outcome, Some(Err(expected)));
    }

    #[test]
    fn what_answers_another_question_is_left_alone() {
        let now = Instant::now();
        let mut first = binding(now);
        let mut second = Binding::new(Question::default(), now, [8; 32]);
        let request = second.poll_transmit().expect("the question");
        let bytes = answer(&request, "192.0.2.9:9");
        assert!(!first.handle_datagram(now, &bytes));
        assert!(!first.handle_datagram(now, &request));
        assert!(!first.handle_datagram(now, b""));
        assert!(second.handle_datagram(now, &bytes));
        assert_eq!(first.poll_outcome(), None);
    }

    #[test]
    fn a_refusal_is_told_with_its_code() {
        let now = Instant::now();
        let question = Question {
            answer_from: AnswerFrom::OtherAddressAndPort,
            padding: PADDING_MAX_BYTES + 1,
        };
        let mut binding = Binding::new(question, now, [7; 32]);
        let request = binding.poll_transmit().expect("the question");
        let request = Message::parse(&request).expect("a message");
        assert_eq!(request.number(kind::CHANGE_REQUEST), Some(6));
        assert_eq!(
            request.find(kind::PADDING).map(<[u8]>::len),
            Some(PADDING_MAX_BYTES)
        );
        let bytes = Writer::error(&request, 420).finish();
        assert!(binding.handle_datagram(now, &bytes));
        assert_eq!(
            binding.poll_outcome(),
            Some(Err(BindingError::Refused(420)))
        );
    }
}
