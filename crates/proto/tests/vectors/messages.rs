//! `messages.json`: control messages in both directions.

use serde::Deserialize;
use waymesh_proto::control::{ClientMessage, DecodeError, ServerMessage};

use super::file;

#[derive(Deserialize)]
struct Vectors {
    exact: Vec<Case>,
    accepted: Vec<Case>,
    refused: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    from: Side,
    text: String,
    /// What an accepted message would be written as.
    #[serde(default)]
    written: String,
    /// The code of a refused one.
    #[serde(default)]
    code: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Node,
    Registry,
}

/// What a text is written as again.
fn again(side: Side, text: &str) -> Result<String, DecodeError> {
    match side {
        Side::Node => ClientMessage::decode(text.as_bytes()).map(|message| message.encode()),
        Side::Registry => ServerMessage::decode(text.as_bytes()).map(|message| message.encode()),
    }
}

#[test]
fn messages_have_the_text_of_the_file_both_ways() {
    for case in file::read::<Vectors>("messages").exact {
        assert_eq!(again(case.from, &case.text), Ok(case.text));
    }
}

#[test]
fn what_is_written_otherwise_is_read_as_the_same() {
    for case in file::read::<Vectors>("messages").accepted {
        assert_eq!(again(case.from, &case.text), Ok(case.written));
    }
}

#[test]
fn what_must_not_be_read_is_refused_with_its_code() {
    for case in file::read::<Vectors>("messages").refused {
        let refused = again(case.from, &case.text).map_err(|error| error.code().name());
        assert_eq!(refused, Err(case.code.as_str()), "{}", case.text);
    }
}
