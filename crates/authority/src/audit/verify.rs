//! Checking a log against itself and its head.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use waymesh_proto::AgentId;
use waymesh_proto::control::{MeshKey, Signature};
use waymesh_trust::keys;

use super::{Act, Entry, HEAD_LABEL};

pub(super) const LOG_FILE: &str = "audit.log";
pub(super) const HEAD_FILE: &str = "audit.head";

/// What is wrong with the audit log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read or written.
    #[error("the audit log cannot be used: {0}")]
    Io(String),
    /// A line is not an entry.
    #[error("line {0} of the audit log is not an entry")]
    Malformed(u64),
    /// A line does not follow the one before it.
    #[error("line {0} of the audit log does not follow the line before it: the log was edited")]
    Edited(u64),
    /// It ends before its head.
    #[error("the audit log has {lines} lines of {expected}: it was cut")]
    Cut {
        /// The lines that it has.
        lines: u64,
        /// The lines that its head tells of.
        expected: u64,
    },
    /// The head is missing, damaged, or not signed by the mesh key.
    #[error("the head of the audit log is not the mesh key's")]
    Head,
    /// It is the log of another mesh.
    #[error("the audit log is of the mesh {0}")]
    OtherMesh(MeshKey),
}

/// How far a log goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) lines: u64,
    pub(super) hash: String,
    pub(super) sig: Signature,
}

/// What the head's signature covers.
pub(super) fn head_bytes(lines: u64, hash: &str) -> Vec<u8> {
    let mut bytes = lines.to_be_bytes().to_vec();
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// A log that holds.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) entries: Vec<Entry>,
    /// The hash of the last line.
    pub(super) hash: String,
    /// Bytes of all whole lines; what is behind them never took effect.
    pub(super) whole_bytes: usize,
    /// Whether the head lacks the last line: the crash came before it was written.
    pub(super) head_behind: bool,
}

/// Checks the audit log of an authority's directory and gives its entries,
/// without opening the authority.
///
/// # Errors
/// The first line that was changed, left out, put in or cut off.
pub fn verify_audit(dir: &Path, mesh: &MeshKey) -> Result<Vec<Entry>, AuditError> {
    check(dir, mesh).map(|checked| checked.entries)
}

pub(super) fn check(dir: &Path, mesh: &MeshKey) -> Result<Checked, AuditError> {
    let text = read(&dir.join(LOG_FILE))?.unwrap_or_default();
    let head = read(&dir.join(HEAD_FILE))?;
    let mut checked = chain(&text)?;
    if let Some(Entry {
        act: Act::Begin { mesh: begun },
        ..
    }) = checked.entries.first()
        && begun != mesh
    {
        return Err(AuditError::OtherMesh(*begun));
    }
    let lines = checked.entries.len() as u64;
    let expected = match head {
        Some(json) => read_head(&json, mesh)?,
        // Before its first line is complete, a log has no head.
        None if lines <= 1 => Head {
            lines: 0,
            hash: hash(b""),
            sig: Signature::from_bytes([0; 64]),
        },
        None => return Err(AuditError::Head),
    };
    if lines < expected.lines {
        return Err(AuditError::Cut {
            lines,
            expected: expected.lines,
        });
    }
    checked.head_behind = lines == expected.lines + 1;
    let at_head = if checked.head_behind {
        checked.entries.last().map(|last| last.prev.as_str())
    } else {
        Some(checked.hash.as_str())
    };
    if lines > expected.lines + 1 || at_head != Some(expected.hash.as_str()) {
        return Err(AuditError::Edited(expected.lines + 1));
    }
    Ok(checked)
}

fn chain(text: &[u8]) -> Result<Checked, AuditError> {
    let mut checked = Checked {
        hash: hash(b""),
        ..Checked::default()
    };
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            break; // the part of a line that a crash has left
        };
        let seq = checked.entries.len() as u64 + 1;
        let entry: Entry = serde_json::from_slice(line).map_err(|_| AuditError::Malformed(seq))?;
        let begins = matches!(entry.act, Act::Begin { .. });
        if entry.prev != checked.hash || entry.seq != seq || begins != (seq == 1) {
            return Err(AuditError::Edited(seq));
        }
        checked.hash = hash(line);
        checked.whole_bytes += line.len() + 1;
        checked.entries.push(entry);
    }
    Ok(checked)
}

fn read_head(json: &[u8], mesh: &MeshKey) -> Result<Head, AuditError> {
    let head: Head = serde_json::from_slice(json).map_err(|_| AuditError::Head)?;
    let by = AgentId::from_bytes(*mesh.as_bytes());
    let bytes = head_bytes(head.lines, &head.hash);
    keys::verify(&by, HEAD_LABEL, &bytes, &head.sig).map_err(|_| AuditError::Head)?;
    Ok(head)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, AuditError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AuditError::Io(format!("{}: {error}", path.display()))),
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    keys::sha256_hex(bytes)
}
