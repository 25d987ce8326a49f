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

/// A log that holds, up to its signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The acts, oldest first.
    pub entries: Vec<Entry>,
    /// A line behind the head, which the mesh key has not signed. A crash leaves
    /// it, or whoever can write the file: the act in it has not been done, and
    /// whoever opens the authority next drops it.
    pub unsigned: Option<Entry>,
}

/// A log that holds.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) entries: Vec<Entry>,
    /// The hash of the last signed line.
    pub(super) hash: String,
    /// Bytes of all signed lines; what is behind them never took effect.
    pub(super) whole_bytes: usize,
    /// The line behind the head, and its hash.
    pub(super) unsigned: Option<(Entry, String)>,
    /// Bytes of the last line.
    last_bytes: usize,
}

impl Checked {
    /// Takes the last line from those that are signed.
    fn part_with_last(&mut self) {
        if let Some(last) = self.entries.pop() {
            let hash = std::mem::replace(&mut self.hash, last.prev.clone());
            self.whole_bytes -= self.last_bytes;
            self.unsigned = Some((last, hash));
        }
    }
}

/// Checks the audit log of an authority's directory and gives what is in it,
/// without opening the authority.
///
/// # Errors
/// The first line that was changed, left out, put in or cut off.
pub fn verify_audit(dir: &Path, mesh: &MeshKey) -> Result<Audit, AuditError> {
    check(dir, mesh).map(|checked| Audit {
        entries: checked.entries,
        unsigned: checked.unsigned.map(|(entry, _)| entry),
    })
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
    if lines == expected.lines + 1 {
        checked.part_with_last();
    }
    if lines > expected.lines + 1 || checked.hash != expected.hash {
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
        checked.last_bytes = line.len() + 1;
        checked.whole_bytes += checked.last_bytes;
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
