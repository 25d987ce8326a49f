//! The lines of `spec/vectors/ipc.json`, both ways.

use std::path::Path;

use serde::Deserialize;
use waymesh_proto::ipc::{Decoder, Event, Incoming, Rejected, Request};

#[derive(Deserialize)]
struct Vectors {
    requests: Vec<Good>,
    lenient: Vec<Lenient>,
    bad: Vec<Bad>,
    events: Vec<Good>,
}

#[derive(Deserialize)]
struct Good {
    about: String,
    line: String,
    #[serde(default)]
    payload_hex: String,
}

#[derive(Deserialize)]
struct Lenient {
    about: String,
    line: String,
    means: String,
}

#[derive(Deserialize)]
struct Bad {
    about: String,
    #[serde(default)]
    line: String,
    #[serde(default)]
    hex: String,
    #[serde(default)]
    payload_hex: String,
    code: String,
    closes: bool,
    id: Option<String>,
}

fn vectors() -> Vectors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/ipc.json");
    let text = std::fs::read_to_string(path).expect("the vectors");
    serde_json::from_str(&text).expect("vectors of the expected shape")
}

fn unhex(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex")
}

fn stream(line: &[u8], payload_hex: &str) -> Vec<u8> {
    [line, b"\n", &unhex(payload_hex)].concat()
}

fn one<T: Incoming>(bytes: &[u8]) -> Result<T, Rejected> {
    let mut decoder = Decoder::default();
    decoder.room().extend_from_slice(bytes);
    decoder.poll().map(|item| item.expect("a whole item"))
}

#[test]
fn every_request_reads_and_is_written_back_as_it_was() {
    for case in vectors().requests {
        let bytes = stream(case.line.as_bytes(), &case.payload_hex);
        let request: Request = one(&bytes).unwrap_or_else(|e| panic!("{}: {e:?}", case.about));
        let mut written = Vec::new();
        request.encode(&mut written);
        assert_eq!(
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(&bytes),
            "{}",
            case.about
        );
    }
}

#[test]
fn every_event_reads_and_is_written_back_as_it_was() {
    for case in vectors().events {
        let bytes = stream(case.line.as_bytes(), &case.payload_hex);
        let event: Event = one(&bytes).unwrap_or_else(|e| panic!("{}: {e:?}", case.about));
        let mut written = Vec::new();
        event.encode(&mut written);
        assert_eq!(
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(&bytes),
            "{}",
            case.about
        );
    }
}

#[test]
fn what_clients_may_leave_out_has_one_meaning() {
    for case in vectors().lenient {
        let request: Request = one(&stream(case.line.as_bytes(), ""))
            .unwrap_or_else(|e| panic!("{}: {e:?}", case.about));
        let mut written = Vec::new();
        request.encode(&mut written);
        let written = String::from_utf8(written).expect("a line");
        assert_eq!(written.trim_end(), case.means, "{}", case.about);
    }
}

#[test]
fn every_bad_line_gets_its_code_and_a_hint() {
    for case in vectors().bad {
        let line = [case.line.as_bytes(), &unhex(&case.hex)].concat();
        let rejected = one::<Request>(&stream(&line, &case.payload_hex)).expect_err(&case.about);
        let id = rejected.id.as_ref().map(|id| id.as_str());
        assert_eq!(rejected.fault.code.name(), case.code, "{}", case.about);
        assert_eq!(rejected.fatal, case.closes, "{}", case.about);
        assert_eq!(id, case.id.as_deref(), "{}", case.about);
        assert!(rejected.fault.hint.is_some(), "{} has no hint", case.about);
    }
}
