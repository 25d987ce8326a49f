//! What `--data` and `--text` carry.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use data_encoding::BASE64;
use serde_json::{Value, json};
use waymesh_proto::envelope::Payload;
use waymesh_proto::limits::MESSAGE_MAX_BYTES;
use waymesh_proto::{Code, Fault};

/// The payload of `send` and `call`.
#[derive(Debug, Clone, clap::Args)]
#[group(required = false, multiple = false)]
pub(crate) struct PayloadArgs {
    /// What to send: JSON if it parses, else text; `@FILE` reads a file, `-` standard input
    #[arg(long, value_name = "JSON|TEXT|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// What to send, as text, never parsed
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
}

impl PayloadArgs {
    /// What to send.
    ///
    /// # Errors
    ///
    /// [`Code::Usage`] when nothing was given.
    pub(crate) fn required(self) -> Result<Payload, Fault> {
        let value = self.read()?.ok_or_else(|| {
            Fault::new(Code::Usage, "there is nothing to send")
                .with_hint("say it with --data or --text")
        })?;
        Ok(Payload::json(value.to_string()))
    }

    /// What to send, the JSON `null` when nothing was given.
    pub(crate) fn or_null(self) -> Result<Payload, Fault> {
        let value = self.read()?.unwrap_or(Value::Null);
        Ok(Payload::json(value.to_string()))
    }

    fn read(self) -> Result<Option<Value>, Fault> {
        match (self.data, self.text) {
            (_, Some(text)) => Ok(Some(Value::String(text))),
            (Some(data), None) => parsed_or_text(source(data)?).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The text itself, or what the file or standard input holds.
fn source(data: String) -> Result<String, Fault> {
    if data == "-" {
        return limited(io::stdin().lock(), "standard input");
    }
    match data.strip_prefix('@') {
        Some(path) => {
            let file = fs::File::open(Path::new(path)).map_err(|error| {
                Fault::new(Code::Storage, format!("cannot read {path}: {error}"))
                    .with_hint("to send text that begins with @, use --text")
            })?;
            limited(file, path)
        }
        None => Ok(data),
    }
}

fn limited(from: impl Read, name: &str) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    from.take(MESSAGE_MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::new(Code::Storage, format!("cannot read {name}: {error}")))?;
    if bytes.len() > MESSAGE_MAX_BYTES {
        return Err(too_large(name));
    }
    String::from_utf8(bytes)
        .map_err(|_| Fault::new(Code::NotUtf8, format!("{name} is not UTF-8 text")))
}

fn too_large(name: &str) -> Fault {
    Fault::new(
        Code::MessageTooLarge,
        format!("{name} holds more than the {MESSAGE_MAX_BYTES} bytes that fit one message"),
    )
    .with_hint("cut it into several messages")
}

/// A payload as JSON: as it is, as text, or in base64 with its media type.
pub(crate) fn as_json(payload: &Payload) -> Value {
    if payload.is_json()
        && let Ok(value) = serde_json::from_slice(&payload.bytes)
    {
        return value;
    }
    let content_type = payload.content_type.as_deref();
    match std::str::from_utf8(&payload.bytes) {
        Ok(text) if content_type.is_some_and(|ty| ty.starts_with("text/")) => text.into(),
        _ => json!({
            "content_type": content_type,
            "payload_base64": BASE64.encode(&payload.bytes),
        }),
    }
}

fn parsed_or_text(text: String) -> Result<Value, Fault> {
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn data(text: &str) -> Result<Option<Value>, Fault> {
        PayloadArgs {
            data: Some(text.into()),
            text: None,
        }
        .read()
    }

    #[test]
    fn data_is_json_if_it_parses_and_text_if_not() {
        assert_eq!(data(r#"{"a":1}"#), Ok(Some(json!({"a": 1}))));
        assert_eq!(data("hello"), Ok(Some(json!("hello"))));
        assert_eq!(data("7"), Ok(Some(json!(7))));
    }

    #[test]
    fn text_is_never_parsed() {
        let args = PayloadArgs {
            data: None,
            text: Some("7".into()),
        };
        assert_eq!(args.read(), Ok(Some(json!("7"))));
    }

    #[test]
    fn a_file_that_is_missing_or_too_large_is_a_coded_error() {
        let code = |text: &str| data(text).expect_err("an error").code;
        assert_eq!(code("@/nonexistent/file"), Code::Storage);
        assert_eq!(code("@/dev/zero"), Code::MessageTooLarge);
    }
}
