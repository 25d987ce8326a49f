//! Targets of waymesh-proto: each takes any bytes and must neither panic nor
//! read what it would not write again.

use waymesh_proto::control::{ClientMessage, Origin, ServerMessage, check_skills};
use waymesh_proto::frame::{FrameReader, FrameWriter, Section};
use waymesh_proto::ipc::{Decoder, Event, Incoming, Rejected, Request};
use waymesh_proto::mailbox::{Assembly, Item, ItemHeader, Note, encode_post, encode_push};
use waymesh_proto::poll::PollMessage;
use waymesh_proto::signaling::{SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Envelope, Fault, MeshId, MessageId, Name, SessionId, SkillName};

/// A target: its name, which is the folder of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("envelope", envelope),
    ("ids", ids),
    ("signal_body", signal_body),
    ("signal_signed", signal_signed),
    ("fault", fault),
    ("control_client", control_client),
    ("control_server", control_server),
    ("poll_body", poll_body),
    ("mailbox", mailbox),
    ("ipc_request", ipc_request),
    ("ipc_event", ipc_event),
];

/// A link frame: what is read is written and read as the same.
pub fn frame(data: &[u8]) {
    let Ok(reader) = FrameReader::new(data) else {
        return;
    };
    let sections: Vec<_> = reader.map_while(Result::ok).collect();
    let mut writer = FrameWriter::default();
    for section in &sections {
        writer.put(section);
        if let Section::Message(_, bytes) = section {
            envelope(bytes);
        }
    }
    let bytes = writer.into_bytes();
    let again: Result<Vec<_>, _> = FrameReader::new(&bytes).expect("the version").collect();
    assert_eq!(again.as_ref(), Ok(&sections));
}

/// An envelope: what is read is written and read as the same.
pub fn envelope(data: &[u8]) {
    let Ok(read) = Envelope::decode(data) else {
        return;
    };
    let again = Envelope::decode(&read.encode()).expect("own bytes");
    // A fault's text is clipped when it is written.
    if read.fault == again.fault {
        assert_eq!(again, read);
    }
}

/// Every kind of identifier as text.
pub fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    macro_rules! same {
        ($($type:ty),*) => {$(
            if let Ok(id) = text.parse::<$type>() {
                assert_eq!(id.to_string().parse::<$type>().as_ref(), Ok(&id));
            }
        )*};
    }
    same!(
        AgentId, SessionId, MeshId, MessageId, Name, SkillName, Origin
    );
}

/// The signed text of a signal.
pub fn signal_body(data: &[u8]) {
    json::<SignalBody>(data);
}

/// A signal with its signature; its body is read as well.
pub fn signal_signed(data: &[u8]) {
    if let Some(signed) = json::<SignedSignal>(data) {
        signal_body(signed.body.as_bytes());
    }
}

/// An error as peers and the registry tell it.
pub fn fault(data: &[u8]) {
    json::<Fault>(data);
}

/// A node's message to the registry.
pub fn control_client(data: &[u8]) {
    match ClientMessage::decode(data) {
        Ok(read) => {
            if let ClientMessage::Skills { skills } = &read {
                let _ = check_skills(skills);
            }
            let again = ClientMessage::decode(read.encode().as_bytes()).expect("own text");
            assert!(
                again == read || has_float(data),
                "{read:?} became {again:?}"
            );
        }
        Err(error) => assert!(!error.fault().message.is_empty()),
    }
}

/// The registry's message to a node.
pub fn control_server(data: &[u8]) {
    match ServerMessage::decode(data) {
        Ok(read) => {
            let again = ServerMessage::decode(read.encode().as_bytes()).expect("own text");
            assert!(
                again == read || has_float(data),
                "{read:?} became {again:?}"
            );
        }
        Err(error) => assert!(!error.fault().message.is_empty()),
    }
}

/// The body of a long-poll request or answer: what is read is written as the same bytes.
pub fn poll_body(data: &[u8]) {
    if let Ok(messages) = PollMessage::all(data) {
        let mut again = Vec::new();
        for message in &messages {
            message.put(&mut again);
        }
        assert_eq!(again, data);
    }
}

/// The stream of a program to its node; the first byte says in which steps it arrives.
pub fn ipc_request(data: &[u8]) {
    ipc(data, Request::encode);
}

/// The stream of a node to its program; the first byte says in which steps it arrives.
pub fn ipc_event(data: &[u8]) {
    ipc(data, Event::encode);
}

/// Reads a stream whole and in steps, which must be the same, and what was written from it.
fn ipc<T>(data: &[u8], encode: fn(&T, &mut Vec<u8>))
where
    T: Incoming + PartialEq + std::fmt::Debug,
{
    let Some((step, stream)) = data.split_first() else {
        return;
    };
    let whole = cut::<T>(stream, stream.len());
    assert_eq!(cut::<T>(stream, usize::from(*step) + 1), whole);
    for item in whole.iter().flatten() {
        let mut bytes = Vec::new();
        encode(item, &mut bytes);
        if bytes.is_empty() {
            continue; // what a newer program said is not written
        }
        let again = cut::<T>(&bytes, bytes.len());
        let [Ok(again)] = again.as_slice() else {
            panic!("{item:?} became {again:?}");
        };
        assert!(
            again == item || has_float(data),
            "{item:?} became {again:?}"
        );
    }
}

/// Everything that a stream holds when it arrives `step` bytes at a time.
fn cut<T: Incoming>(stream: &[u8], step: usize) -> Vec<Result<T, Rejected>> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for part in stream.chunks(step.max(1)) {
        decoder.room().extend_from_slice(part);
        while let Some(item) = decoder.poll().transpose() {
            seen.push(item);
        }
    }
    seen
}

/// The binary messages of a connection, each behind its length in two bytes:
/// what they give is posted or pushed and read as the same.
pub fn mailbox(mut data: &[u8]) {
    let mut assembly = Assembly::default();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        data = rest;
        match assembly.handle(message) {
            Ok(None) => {}
            Ok(Some((note, item))) => again(note, &item),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

/// Writes an item as it came and reads it again.
fn again(note: Option<Note>, item: &Item) {
    let header = ItemHeader::decode(&item.header).expect("a header that was read");
    assert_eq!(ItemHeader::decode(&header.encode()), Ok(header));
    let messages: Vec<_> = match note {
        None => encode_post(item).collect(),
        Some(note) => encode_push(note, item).collect(),
    };
    let mut assembly = Assembly::default();
    let mut last = None;
    for message in messages {
        last = assembly.handle(&message).expect("own bytes");
    }
    assert!(
        last == Some((note, item.clone())),
        "{item:?} became {last:?}"
    );
}

/// Whether a number in a text may be a float: serde_json reads those to the nearest but one.
fn has_float(text: &[u8]) -> bool {
    let fraction = |w: &[u8]| w[0].is_ascii_digit() && matches!(w[1], b'.' | b'e' | b'E');
    text.windows(2).any(fraction) || text.windows(17).any(|w| w.iter().all(u8::is_ascii_digit))
}

/// Reads JSON; what is read is written and read as the same.
fn json<T>(data: &[u8]) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let read: T = serde_json::from_slice(data).ok()?;
    let text = serde_json::to_vec(&read).expect("a value that was read");
    assert_eq!(serde_json::from_slice::<T>(&text).expect("own text"), read);
    Some(read)
}
