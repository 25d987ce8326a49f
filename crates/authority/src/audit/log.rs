//! Writing the log.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use waymesh_trust::Keypair;

use super::verify::{AuditError, HEAD_FILE, Head, LOG_FILE, check, hash, head_bytes};
use super::{Act, Entry, HEAD_LABEL};
use crate::directory::{at, owner_only, replace, sync_parent};
use crate::error::AuthorityError;

/// An open log, at its end.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    file: File,
    entries: Vec<Entry>,
    hash: String,
    broken: bool,
}

impl Log {
    /// Opens the log of a directory and begins it if there is none. A line that
    /// the head does not cover is dropped, and that is written down: its act was
    /// not handed out, and nothing tells whether the authority wrote it.
    pub(crate) fn open(dir: &Path, mesh: &Keypair, now_ms: u64) -> Result<Self, AuthorityError> {
        let checked = check(dir, &mesh.mesh_key())?;
        let path = dir.join(LOG_FILE);
        let open = || -> io::Result<File> {
            let file = owner_only().append(true).create(true).open(&path)?;
            file.set_len(checked.whole_bytes as u64)?;
            file.sync_all()?;
            sync_parent(&path)?;
            Ok(file)
        };
        let file = open().map_err(at(&path))?;
        let mut log = Self {
            dir: dir.to_owned(),
            file,
            entries: checked.entries,
            hash: checked.hash,
            broken: false,
        };
        if log.entries.is_empty() {
            let mesh_key = mesh.mesh_key();
            log.append(mesh, Act::Begin { mesh: mesh_key }, now_ms)?;
        }
        if let Some((_, sha256)) = checked.unsigned {
            log.append(mesh, Act::Dropped { sha256 }, now_ms)?;
        }
        Ok(log)
    }

    /// Everything that was done, oldest first.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes an act down. It is on disk when this returns; when it fails, nothing of it is left.
    pub(crate) fn append(
        &mut self,
        mesh: &Keypair,
        act: Act,
        now_ms: u64,
    ) -> Result<(), AuthorityError> {
        if self.broken {
            let why = "an earlier act could not be taken back; open the authority anew";
            return Err(AuditError::Io(why.into()).into());
        }
        let entry = Entry {
            seq: self.entries.len() as u64 + 1,
            time_ms: now_ms,
            act,
            prev: self.hash.clone(),
        };
        let mut line = serde_json::to_vec(&entry).expect("an entry has string keys only");
        let line_hash = hash(&line);
        line.push(b'\n');
        let end = self.write(&line)?;
        let before = std::mem::replace(&mut self.hash, line_hash);
        self.entries.push(entry);
        let outcome = self.write_head(mesh);
        if outcome.is_err() {
            self.entries.pop();
            self.hash = before;
            self.cut_off(end);
        }
        outcome
    }

    /// Appends a line and gives where it begins.
    fn write(&mut self, line: &[u8]) -> Result<u64, AuthorityError> {
        let path = self.dir.join(LOG_FILE);
        let end = self.file.metadata().map_err(at(&path))?.len();
        let outcome = self
            .file
            .write_all(line)
            .and_then(|()| self.file.sync_all());
        if outcome.is_err() {
            self.cut_off(end);
        }
        outcome.map(|()| end).map_err(at(&path))
    }

    /// Takes back a line that did not take effect. If even this fails, no act
    /// may follow it: the head would be two lines behind.
    fn cut_off(&mut self, end: u64) {
        let cut = self.file.set_len(end).and_then(|()| self.file.sync_all());
        self.broken |= cut.is_err();
    }

    fn write_head(&self, mesh: &Keypair) -> Result<(), AuthorityError> {
        let lines = self.entries.len() as u64;
        let head = Head {
            lines,
            hash: self.hash.clone(),
            sig: mesh.sign(HEAD_LABEL, &head_bytes(lines, &self.hash)),
        };
        let path = self.dir.join(HEAD_FILE);
        let json = serde_json::to_vec(&head).expect("a head has string keys only");
        replace(&path, &json).map_err(at(&path))
    }
}
