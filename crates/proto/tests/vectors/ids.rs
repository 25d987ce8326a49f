//! `ids.json`: identifiers as bytes and as text.

use serde::Deserialize;
use waymesh_proto::{AgentId, Incarnation, MeshId, MessageId, Name, SessionId, SkillName};

use super::file;

#[derive(Deserialize)]
struct Vectors {
    exact: Vec<Case>,
    accepted: Vec<Case>,
    refused: Vec<Refused>,
    made: Vec<Made>,
    next_incarnation: Vec<Next>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(Clone, Copy)]
enum Kind {
    AgentId,
    SessionId,
    MeshId,
    MessageId,
    Name,
    Skill,
}

#[derive(Deserialize)]
struct Case {
    kind: Kind,
    bytes: String,
    text: String,
}

#[derive(Deserialize)]
struct Refused {
    kind: Kind,
    text: String,
}

#[derive(Deserialize)]
struct Made {
    unix_ms: String,
    random: String,
    text: String,
}

#[derive(Deserialize)]
struct Next {
    stored: Option<String>,
    unix_ms: String,
    next: String,
}

/// An id's bytes and its text as it is written, or nothing when the text is refused.
fn read(kind: Kind, text: &str) -> Option<(Vec<u8>, String)> {
    macro_rules! of {
        ($type:ty, $bytes:ident) => {{
            let id = text.parse::<$type>().ok()?;
            let json = serde_json::to_string(&id).expect("an id");
            let back: $type = serde_json::from_str(&json).expect("its own JSON");
            assert_eq!(back, id);
            (id.$bytes().to_vec(), id.to_string())
        }};
    }
    Some(match kind {
        Kind::AgentId => of!(AgentId, as_bytes),
        Kind::SessionId => of!(SessionId, as_bytes),
        Kind::MeshId => of!(MeshId, as_bytes),
        Kind::MessageId => of!(MessageId, as_bytes),
        Kind::Name => {
            let id: Name = text.parse().ok()?;
            (id.as_str().as_bytes().to_vec(), id.to_string())
        }
        Kind::Skill => {
            let id: SkillName = text.parse().ok()?;
            (id.as_str().as_bytes().to_vec(), id.to_string())
        }
    })
}

#[test]
fn every_id_reads_and_writes_its_text() {
    let vectors: Vectors = file::read("ids");
    for case in &vectors.exact {
        let (bytes, text) = read(case.kind, &case.text).expect("a valid id");
        assert_eq!((file::hex(&bytes), &text), (case.bytes.clone(), &case.text));
    }
    for case in &vectors.accepted {
        let (bytes, text) = read(case.kind, &case.text).expect("a valid id");
        assert_eq!(file::hex(&bytes), case.bytes);
        assert_ne!(
            text, case.text,
            "this is how it is written: move it to `exact`"
        );
    }
}

#[test]
fn a_text_that_is_no_id_is_refused() {
    let vectors: Vectors = file::read("ids");
    for case in &vectors.refused {
        assert_eq!(
            read(case.kind, &case.text),
            None,
            "{:?} was read",
            case.text
        );
    }
}

fn made(case: &Made) -> String {
    let random = file::bytes(&case.random).try_into().expect("ten bytes");
    MessageId::new(file::number(&case.unix_ms), random).to_string()
}

#[test]
fn message_ids_are_made_of_time_and_randomness() {
    let vectors: Vectors = file::read("ids");
    for case in &vectors.made {
        assert_eq!(made(case), case.text);
        assert_eq!(&case.text[14..15], "7", "the version of the UUID");
    }
}

#[test]
fn the_next_incarnation_is_above_the_stored_one() {
    let vectors: Vectors = file::read("ids");
    for case in &vectors.next_incarnation {
        let stored = case
            .stored
            .as_deref()
            .map(|s| Incarnation::new(file::number(s)));
        let next = Incarnation::next(stored, file::number(&case.unix_ms));
        assert_eq!(next.number(), file::number(&case.next));
    }
}

#[test]
#[ignore = "writes into spec/vectors what is missing there"]
fn fill_what_is_empty() {
    let vectors: Vectors = file::read("ids");
    for case in vectors.made.iter().filter(|c| c.text.is_empty()) {
        file::fill(
            "ids",
            &format!("\"unix_ms\": \"{}\", \"random\"", case.unix_ms),
            "text",
            &made(case),
        );
    }
}
