//! `mailbox.json`: items as they travel between a node and the registry.

use serde::Deserialize;
use waymesh_proto::mailbox::{
    Assembly, Item, ItemHeader, Keep, MailboxError, Note, encode_post, encode_push,
};
use waymesh_proto::{AgentId, Class, ItemId, KeyId};

use super::file;

#[derive(Deserialize)]
struct Vectors {
    exact: Vec<Case>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    header: Header,
    note: Option<NoteFields>,
    sealed: Vec<Bytes>,
    messages: Vec<Bytes>,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    messages: Vec<Bytes>,
    error: String,
}

/// `hex`, then `count` times `byte`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    #[serde(default)]
    hex: String,
    #[serde(default)]
    byte: u8,
    #[serde(default)]
    count: usize,
}

impl Bytes {
    fn all(&self) -> Vec<u8> {
        let mut bytes = file::bytes(&self.hex);
        bytes.resize(bytes.len() + self.count, self.byte);
        bytes
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    item: String,
    from: String,
    to: String,
    class: Class,
    keep: String,
    life_ms: u64,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteFields {
    again: bool,
    dwell_ms: u64,
}

fn sized<const N: usize>(hex: &str) -> [u8; N] {
    file::bytes(hex).try_into().expect("the right length")
}

impl From<&Header> for ItemHeader {
    fn from(header: &Header) -> Self {
        Self {
            item: ItemId::from_bytes(sized(&header.item)),
            from: AgentId::from_bytes(sized(&header.from)),
            to: AgentId::from_bytes(sized(&header.to)),
            class: header.class,
            keep: match header.keep.as_str() {
                "store" => Keep::Store,
                "replace" => Keep::Replace,
                "forward" => Keep::Forward,
                other => panic!("{other}"),
            },
            life_ms: header.life_ms,
            key: KeyId::from_bytes(sized(&header.key)),
        }
    }
}

impl Case {
    fn item(&self) -> Item {
        Item {
            header: ItemHeader::from(&self.header).encode(),
            sealed: self.sealed.iter().flat_map(Bytes::all).collect(),
        }
    }

    fn note(&self) -> Option<Note> {
        self.note.as_ref().map(|note| Note {
            again: note.again,
            dwell_ms: note.dwell_ms,
        })
    }

    fn encoded(&self) -> Vec<Vec<u8>> {
        match self.note() {
            None => encode_post(&self.item()).collect(),
            Some(note) => encode_push(note, &self.item()).collect(),
        }
    }
}

/// What a row of messages gives in the end.
fn assemble(messages: &[Bytes]) -> Result<Option<(Option<Note>, Item)>, MailboxError> {
    let mut assembly = Assembly::default();
    let mut last = None;
    for message in messages {
        last = assembly.handle(&message.all())?;
    }
    Ok(last)
}

#[test]
fn items_have_the_bytes_of_the_file_both_ways() {
    for case in file::read::<Vectors>("mailbox").exact {
        let name = &case.name;
        let expected: Vec<_> = case.messages.iter().map(Bytes::all).collect();
        assert!(case.encoded() == expected, "{name}: written otherwise");
        let item = case.item();
        let read = assemble(&case.messages);
        assert!(
            read == Ok(Some((case.note(), item.clone()))),
            "{name}: read otherwise"
        );
        let header = ItemHeader::decode(&item.header);
        assert_eq!(header, Ok(ItemHeader::from(&case.header)), "{name}");
    }
}

#[test]
fn what_must_not_be_read_is_refused_with_its_code() {
    for case in file::read::<Vectors>("mailbox").refused {
        let refused = assemble(&case.messages).map_err(|error| error.code().name());
        assert_eq!(refused, Err(case.error.as_str()), "{}", case.name);
    }
}

#[test]
#[ignore = "fills in what is empty"]
fn fill() {
    for case in file::read::<Vectors>("mailbox").exact {
        let written = case.encoded();
        for (message, bytes) in case.messages.iter().zip(&written) {
            if message.hex.is_empty() {
                let head = &bytes[..bytes.len() - message.count];
                let anchor = format!("\"name\": \"{}\"", case.name);
                let text = std::fs::read_to_string(file::path("mailbox")).expect("the file");
                let from = text.find(&anchor).expect("the case");
                let messages = from + text[from..].find("\"messages\"").expect("its messages");
                let anchor = &text[from..messages + "\"messages\"".len()];
                file::fill("mailbox", anchor, "hex", &file::hex(head));
            }
        }
    }
}
