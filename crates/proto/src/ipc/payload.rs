//! How a payload goes into a line, or behind it.
//!
//! JSON that is small, flat and free of line ends stands in the line; all else
//! goes behind it as raw bytes. Whoever reads lines can therefore rely on it
//! that no payload of a stranger breaks a line or overflows a JSON parser.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bad;
use crate::envelope::Payload;
use crate::error::{Code, Fault};
use crate::limits::{CONTENT_TYPE_MAX_BYTES, IPC_BYTES_MAX};

/// Largest JSON payload that stands in a line, bytes; a larger one goes behind it.
/// Chosen: half of the longest line, so that the rest of the line always fits.
pub const INLINE_MAX_BYTES: usize = 32 * 1024;

/// Deepest JSON payload that stands in a line, levels. Chosen below what the JSON
/// parsers of Rust (128) and Python (about 1,000) refuse.
pub const INLINE_DEPTH_MAX: usize = 100;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// What a line says of the payload that stands in it or follows it.
pub(super) struct Announced {
    /// How many bytes follow.
    pub(super) bytes: Option<u64>,
    /// What they are; `None` is JSON.
    pub(super) content_type: Option<Box<str>>,
}

/// A field that is there, even when it is the JSON `null`.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Takes the payload of a line: the JSON in it, or an empty one for the bytes to come.
pub(super) fn of_line(
    field: &str,
    inline: Option<&RawValue>,
    announced: Announced,
) -> Result<Payload, Fault> {
    let content_type = known(announced.content_type)?;
    match (inline, announced.bytes) {
        (Some(_), Some(_)) => Err(bad(format!("both `{field}` and `bytes` are there"))
            .with_hint("a payload stands in the line or follows it, not both")),
        (None, None) => Err(bad(format!("`{field}` is missing")).with_hint(format!(
            "put JSON into `{field}`, or say \"bytes\": N and let N bytes follow the line"
        ))),
        (Some(_), None) if content_type.is_some() => Err(bad(format!(
            "`{field}` is JSON, `content_type` says otherwise"
        ))
        .with_hint("send other content as \"bytes\": N with the bytes behind the line")),
        (Some(json), None) => Ok(Payload::json(json.get())),
        (None, Some(_)) => Ok(Payload {
            content_type,
            bytes: Vec::new(),
        }),
    }
}

/// Completes a payload with the bytes that followed its line.
pub(super) fn complete(payload: &mut Payload, bytes: Vec<u8>) -> Result<(), Fault> {
    if payload.is_json() && !is_json(&bytes) {
        return Err(bad("the bytes behind the line are not JSON").with_hint(
            "say what they are in `content_type`, for example application/octet-stream",
        ));
    }
    payload.bytes = bytes;
    Ok(())
}

/// Appends the line `head` to `out` with the payload as `field`, or behind it.
///
/// `head` must serialise to an object with at least one field.
pub(super) fn write_line(out: &mut Vec<u8>, head: &impl Serialize, part: Option<(&str, &Payload)>) {
    serde_json::to_writer(&mut *out, head).expect("a line's head always serialises");
    let Some((field, payload)) = part else {
        return out.push(b'\n');
    };
    let last = out.pop();
    debug_assert_eq!(last, Some(b'}'), "a head is an object");
    if payload.is_json() && stands_in_a_line(&payload.bytes) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(&payload.bytes);
        out.extend_from_slice(b"}\n");
        return;
    }
    if let Some(content_type) = content_type_of(payload) {
        out.extend_from_slice(b",\"content_type\":");
        serde_json::to_writer(&mut *out, content_type).expect("a text always serialises");
    }
    out.extend_from_slice(format!(",\"bytes\":{}}}\n", payload.bytes.len()).as_bytes());
    out.extend_from_slice(&payload.bytes);
}

/// What to call a payload that goes behind its line. A peer may claim that
/// anything is JSON; a reader must be able to believe it.
fn content_type_of(payload: &Payload) -> Option<&str> {
    match &payload.content_type {
        Some(content_type) => Some(content_type),
        None if is_json(&payload.bytes) => None,
        None => Some(BYTES),
    }
}

/// Refuses a payload that is over the limit of a message.
pub(super) fn check_size(bytes: u64) -> Result<(), Fault> {
    if bytes > IPC_BYTES_MAX as u64 {
        return Err(Fault::new(
            Code::MessageTooLarge,
            format!("the payload is {bytes} bytes, more than {IPC_BYTES_MAX}"),
        )
        .with_hint("cut it into several messages"));
    }
    Ok(())
}

/// A content type that is sound, with the name of JSON left out.
fn known(content_type: Option<Box<str>>) -> Result<Option<Box<str>>, Fault> {
    let Some(text) = content_type else {
        return Ok(None);
    };
    if text.len() > CONTENT_TYPE_MAX_BYTES || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Err(bad("`content_type` is not a media type")
            .with_hint("for example text/plain; at most 255 printable ASCII characters"));
    }
    Ok((&*text != JSON).then_some(text))
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn stands_in_a_line(bytes: &[u8]) -> bool {
    bytes.len() <= INLINE_MAX_BYTES
        && !bytes.contains(&b'\n')
        && depth(bytes) <= INLINE_DEPTH_MAX
        && is_json(bytes)
}

/// How deep the brackets of a JSON text nest.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_within_texts_do_not_count_as_depth() {
        assert_eq!(depth(br#"{"a":["[[[\"[[", 1]}"#), 2);
        assert_eq!(depth(b"1"), 0);
    }

    #[test]
    fn json_with_a_line_end_or_too_deep_goes_behind_the_line() {
        assert!(stands_in_a_line(b"{\"a\": 1}"));
        assert!(!stands_in_a_line(b"{\"a\":\n1}"));
        let nest = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(stands_in_a_line(&nest(INLINE_DEPTH_MAX)));
        assert!(!stands_in_a_line(&nest(INLINE_DEPTH_MAX + 1)));
    }

    #[test]
    fn what_only_claims_to_be_json_cannot_forge_a_line() {
        let mut out = Vec::new();
        let forged = Payload::json(&b"1}\n{\"type\":\"ok\"}"[..]);
        write_line(
            &mut out,
            &serde_json::json!({"type": "message"}),
            Some(("message", &forged)),
        );
        let text = String::from_utf8(out).expect("text");
        let (line, rest) = text.split_once('\n').expect("a line");
        assert_eq!(
            line,
            r#"{"type":"message","content_type":"application/octet-stream","bytes":16}"#
        );
        assert_eq!(rest.len(), 16);
    }
}
