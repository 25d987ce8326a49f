//! `envelope.json`: envelopes as they travel between nodes.

use serde::Deserialize;
use waymesh_proto::envelope::{EnvelopeError, Payload};
use waymesh_proto::{Code, Envelope, Executed, Fault, Kind, MessageId, Priority, SkillName};

use super::file;

#[derive(Deserialize)]
struct Vectors {
    exact: Vec<Case>,
    accepted: Vec<Case>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    hex: String,
    envelope: Fields,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    hex: String,
    error: Error,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Error {
    Cbor,
    Id,
    TooLarge,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    kind: Kind,
    id: String,
    correlation: Option<String>,
    priority: Priority,
    skill: Option<SkillName>,
    fault: Option<FaultFields>,
    traceparent: Option<Box<str>>,
    content_type: Option<Box<str>>,
    payload: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFields {
    code: String,
    message: String,
    hint: Option<String>,
    executed: Option<Executed>,
}

fn id(hex: &str) -> MessageId {
    MessageId::from_bytes(file::bytes(hex).try_into().expect("16 bytes"))
}

impl From<&Fields> for Envelope {
    fn from(fields: &Fields) -> Self {
        Self {
            kind: fields.kind,
            id: id(&fields.id),
            correlation: fields.correlation.as_deref().map(id),
            priority: fields.priority,
            skill: fields.skill.clone(),
            fault: fields.fault.as_ref().map(|fault| {
                let Ok(code): Result<Code, _> = fault.code.parse();
                Fault {
                    code,
                    message: fault.message.clone(),
                    hint: fault.hint.clone(),
                    executed: fault.executed,
                }
            }),
            traceparent: fields.traceparent.clone(),
            payload: Payload {
                content_type: fields.content_type.clone(),
                bytes: file::bytes(&fields.payload),
            },
        }
    }
}

#[test]
fn every_envelope_has_exactly_these_bytes() {
    let vectors: Vectors = file::read("envelope");
    for case in &vectors.exact {
        let envelope = Envelope::from(&case.envelope);
        assert_eq!(file::hex(&envelope.encode()), case.hex, "{}", case.name);
        let read = Envelope::decode(&file::bytes(&case.hex)).expect(&case.name);
        assert_eq!(read, envelope, "{}", case.name);
    }
}

#[test]
fn other_ways_to_write_an_envelope_are_read() {
    let vectors: Vectors = file::read("envelope");
    for case in &vectors.accepted {
        let read = Envelope::decode(&file::bytes(&case.hex)).expect(&case.name);
        assert_eq!(read, Envelope::from(&case.envelope), "{}", case.name);
    }
}

#[test]
fn bytes_that_are_no_envelope_are_refused() {
    let vectors: Vectors = file::read("envelope");
    for case in &vectors.refused {
        let error = match Envelope::decode(&file::bytes(&case.hex)) {
            Ok(envelope) => panic!("{} was read: {envelope:?}", case.name),
            Err(EnvelopeError::Cbor(_)) => Error::Cbor,
            Err(EnvelopeError::Id(_)) => Error::Id,
            Err(EnvelopeError::TooLarge(_)) => Error::TooLarge,
        };
        assert_eq!(error, case.error, "{}", case.name);
    }
}

#[test]
#[ignore = "writes into spec/vectors what is missing there"]
fn fill_what_is_empty() {
    let vectors: Vectors = file::read("envelope");
    for case in vectors.exact.iter().filter(|c| c.hex.is_empty()) {
        let hex = file::hex(&Envelope::from(&case.envelope).encode());
        file::fill(
            "envelope",
            &format!("\"name\": \"{}\"", case.name),
            "hex",
            &hex,
        );
    }
}
