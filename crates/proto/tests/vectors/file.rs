//! Reads and completes a file of vectors.

use std::fs;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../spec/vectors/{name}.json"))
}

/// The vectors of a file.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(path(name)).expect("the file of vectors");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}.json: {e}"))
}

/// The bytes of a hexadecimal text.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal")
}

/// The hexadecimal text of bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// A decimal text as a number.
pub(crate) fn number(text: &str) -> u64 {
    text.parse().expect("a decimal number")
}

/// Replaces the first empty `key` behind `anchor` by a value; leaves every other byte alone.
pub(crate) fn fill(name: &str, anchor: &str, key: &str, value: &str) {
    let mut text = fs::read_to_string(path(name)).expect("the file of vectors");
    let empty = format!("\"{key}\": \"\"");
    let from = text.find(anchor).expect("the case");
    let at = from + text[from..].find(&empty).expect("its empty value");
    text.replace_range(at..at + empty.len(), &format!("\"{key}\": \"{value}\""));
    fs::write(path(name), text).expect("writing the file of vectors");
}

/// Appends an element to a list that holds one element a line.
pub(crate) fn append(name: &str, list: &str, element: &str) {
    let mut text = fs::read_to_string(path(name)).expect("the file of vectors");
    let from = text.find(&format!("\"{list}\": [")).expect("the list");
    let end = from + text[from..].find("\n  ]").expect("its end");
    let comma = if text[..end].ends_with('[') { "" } else { "," };
    text.insert_str(end, &format!("{comma}\n    {element}"));
    fs::write(path(name), text).expect("writing the file of vectors");
}
