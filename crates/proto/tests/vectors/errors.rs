//! `errors.json`: every code with its number and when to retry.

use std::collections::BTreeSet;

use serde::Deserialize;
use waymesh_proto::{Code, Retry};

use super::file;

#[derive(Deserialize)]
struct Vectors {
    codes: Vec<Entry>,
    retired: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    code: String,
    number: u16,
    retry: Retry,
}

fn known(vectors: &Vectors) -> BTreeSet<String> {
    vectors.codes.iter().map(|e| e.code.clone()).collect()
}

#[test]
fn every_code_is_listed_with_its_number_and_retry() {
    let vectors: Vectors = file::read("errors");
    for entry in &vectors.codes {
        let Ok(code) = entry.code.parse::<Code>();
        assert_eq!(
            code.name(),
            entry.code,
            "a code that is gone moves to `retired`"
        );
        assert_eq!(
            code.number(),
            entry.number,
            "{code}: a number never changes"
        );
        assert_eq!(code.retry(), entry.retry, "{code}");
        assert_eq!(Code::from_number(entry.number), code);
    }
    let known = known(&vectors);
    for code in Code::ALL {
        assert!(
            known.contains(code.name()),
            "{code} is not in errors.json: see spec/README.md"
        );
    }
}

#[test]
fn a_retired_code_is_not_in_use_again() {
    let vectors: Vectors = file::read("errors");
    for entry in &vectors.retired {
        assert_eq!(Code::from_number(entry.number), Code::Unrecognized);
        assert_eq!(entry.code.parse(), Ok(Code::Unrecognized));
    }
}

#[test]
#[ignore = "writes into spec/vectors what is missing there"]
fn fill_what_is_empty() {
    let known = known(&file::read("errors"));
    for code in Code::ALL.iter().filter(|c| !known.contains(c.name())) {
        let retry = serde_json::to_string(&code.retry()).expect("a retry");
        let (name, number) = (code.name(), code.number());
        let element = format!(r#"{{"code": "{name}", "number": {number}, "retry": {retry}}}"#);
        file::append("errors", "codes", &element);
    }
}
