//! `frames.json`: link frames.

use serde::Deserialize;
use waymesh_proto::frame::{Ack, FrameError, FrameReader, FrameWriter, Header, Piece, Section};
use waymesh_proto::seqset::SeqSet;
use waymesh_proto::{Code, Incarnation, Stream};

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
    sections: Vec<Fields>,
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
    Version,
    Truncated,
    Unknown,
    Range,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Fields {
    Hello {
        incarnation: String,
    },
    Ack {
        stream: String,
        window_messages: String,
        window_bytes: String,
        received: SetFields,
        consumed: SetFields,
    },
    Probe {
        token: String,
    },
    Echo {
        token: String,
    },
    Message {
        #[serde(flatten)]
        header: HeaderFields,
        bytes: String,
    },
    Chunk {
        #[serde(flatten)]
        header: HeaderFields,
        total: String,
        offset: String,
        bytes: String,
    },
    Refused {
        stream: String,
        seq: String,
        code: String,
    },
    Goodbye {
        code: String,
    },
    Revoked {
        text: String,
    },
    Adopted,
}

#[derive(Deserialize)]
struct HeaderFields {
    stream: String,
    redelivered: bool,
    seq: String,
    previous: String,
    lowest: String,
    life_ms: String,
    wait_ms: String,
}

#[derive(Deserialize)]
struct SetFields {
    cumulative: String,
    ranges: Vec<(String, String)>,
}

fn stream(name: &str) -> Stream {
    let names = [
        "control",
        "tasks",
        "bulk",
        "events",
        "telemetry",
        "live",
        "replies",
    ];
    let number = names
        .iter()
        .position(|n| *n == name)
        .expect("a stream's name");
    Stream::ALL[number]
}

fn code(name: &str) -> Code {
    let Ok(code) = name.parse();
    code
}

impl SetFields {
    fn set(&self) -> SeqSet {
        let mut set = SeqSet::default();
        set.insert_up_to(file::number(&self.cumulative));
        for (start, end) in &self.ranges {
            set.insert_range(file::number(start), file::number(end));
        }
        set
    }
}

impl HeaderFields {
    fn header(&self) -> Header {
        Header {
            stream: stream(&self.stream),
            redelivered: self.redelivered,
            seq: file::number(&self.seq),
            previous: file::number(&self.previous),
            lowest: file::number(&self.lowest),
            life_ms: file::number(&self.life_ms),
            wait_ms: file::number(&self.wait_ms),
        }
    }
}

impl Fields {
    /// Hands the section to `use_it`; `blob` holds its bytes meanwhile.
    fn section<'a>(&'a self, blob: &'a mut Vec<u8>) -> Section<'a> {
        if let Self::Message { bytes, .. } | Self::Chunk { bytes, .. } = self {
            *blob = file::bytes(bytes);
        }
        match self {
            Self::Hello { incarnation } => {
                Section::Hello(Incarnation::new(file::number(incarnation)))
            }
            Self::Ack {
                stream: name,
                window_messages,
                window_bytes,
                received,
                consumed,
            } => Section::Ack(Ack {
                stream: stream(name),
                window_messages: file::number(window_messages),
                window_bytes: file::number(window_bytes),
                received: received.set(),
                consumed: consumed.set(),
            }),
            Self::Probe { token } => Section::Probe(file::number(token)),
            Self::Echo { token } => Section::Echo(file::number(token)),
            Self::Message { header, .. } => Section::Message(header.header(), blob),
            Self::Chunk {
                header,
                total,
                offset,
                ..
            } => {
                let piece = Piece {
                    total: file::number(total),
                    offset: file::number(offset),
                    bytes: blob,
                };
                Section::Chunk(header.header(), piece)
            }
            Self::Refused {
                stream: name,
                seq,
                code: reason,
            } => Section::Refused {
                stream: stream(name),
                seq: file::number(seq),
                code: code(reason),
            },
            Self::Goodbye { code: reason } => Section::Goodbye(code(reason)),
            Self::Revoked { text } => Section::Revoked(text.as_bytes()),
            Self::Adopted => Section::Adopted,
        }
    }
}

fn written(case: &Case) -> Vec<u8> {
    let mut writer = FrameWriter::default();
    for fields in &case.sections {
        writer.put(&fields.section(&mut Vec::new()));
    }
    writer.into_bytes()
}

fn assert_reads(case: &Case) {
    let bytes = file::bytes(&case.hex);
    let read: Result<Vec<_>, _> = FrameReader::new(&bytes).expect(&case.name).collect();
    let read = read.expect(&case.name);
    assert_eq!(read.len(), case.sections.len(), "{}", case.name);
    for (section, fields) in read.iter().zip(&case.sections) {
        assert_eq!(*section, fields.section(&mut Vec::new()), "{}", case.name);
    }
}

#[test]
fn every_frame_has_exactly_these_bytes() {
    let vectors: Vectors = file::read("frames");
    for case in &vectors.exact {
        assert_eq!(file::hex(&written(case)), case.hex, "{}", case.name);
        assert_reads(case);
    }
}

#[test]
fn other_ways_to_write_a_frame_are_read() {
    let vectors: Vectors = file::read("frames");
    vectors.accepted.iter().for_each(assert_reads);
}

#[test]
fn bytes_that_are_no_frame_are_refused() {
    let vectors: Vectors = file::read("frames");
    for case in &vectors.refused {
        let bytes = file::bytes(&case.hex);
        let read = FrameReader::new(&bytes).and_then(|r| r.collect::<Result<Vec<_>, _>>());
        let error = match read {
            Ok(sections) => panic!("{} was read: {sections:?}", case.name),
            Err(FrameError::Version(_)) => Error::Version,
            Err(FrameError::Truncated) => Error::Truncated,
            Err(FrameError::Unknown(_)) => Error::Unknown,
            Err(FrameError::Range(_)) => Error::Range,
        };
        assert_eq!(error, case.error, "{}", case.name);
    }
}

#[test]
#[ignore = "writes into spec/vectors what is missing there"]
fn fill_what_is_empty() {
    let vectors: Vectors = file::read("frames");
    for case in vectors.exact.iter().filter(|c| c.hex.is_empty()) {
        let anchor = format!("\"name\": \"{}\"", case.name);
        file::fill("frames", &anchor, "hex", &file::hex(&written(case)));
    }
}
