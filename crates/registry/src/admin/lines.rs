//! JSON lines on the admin socket, bounded in both directions.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use waymesh_proto::{Code, Fault};

use super::api::{ADMIN_LINE_MAX_BYTES, Order, Request};

/// A connection, one line at a time.
#[derive(Debug)]
pub(super) struct Lines(BufReader<UnixStream>);

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its end.
    Whole(Vec<u8>),
    /// More than [`ADMIN_LINE_MAX_BYTES`]; what follows cannot be read.
    TooLong,
    /// The other side has closed.
    End,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// The next line. Not cancel safe: a line may be lost.
    pub(super) async fn read(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let most = ADMIN_LINE_MAX_BYTES as u64 + 1;
        (&mut self.0)
            .take(most)
            .read_until(b'\n', &mut line)
            .await?;
        Ok(match line.pop() {
            Some(b'\n') => Line::Whole(line),
            Some(_) if line.len() == ADMIN_LINE_MAX_BYTES => Line::TooLong,
            // Half a line is nothing.
            Some(_) | None => Line::End,
        })
    }

    /// Writes a line.
    pub(super) async fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.0.write_all(&line).await
    }
}

/// Reads a request.
///
/// # Errors
/// `unknown_verb` for one that a newer program may know, else `bad_request`.
pub(super) fn request(line: &[u8]) -> Result<Request, Fault> {
    #[derive(Deserialize)]
    struct Tag {
        r#type: String,
    }
    let bad = |error: serde_json::Error| Fault::new(Code::BadRequest, error.to_string());
    let tag: Tag = serde_json::from_slice(line).map_err(bad)?;
    match tag.r#type.as_str() {
        "status" => Ok(Request::Status),
        "found" | "agents" | "pending" | "approve" | "reject" | "revoke" | "pairing_code" => {
            let order: Order = serde_json::from_slice(line).map_err(bad)?;
            Ok(Request::Order(order))
        }
        unknown => Err(Fault::new(
            Code::UnknownVerb,
            format!("the registry does not know the admin request {unknown:?}"),
        )),
    }
}
