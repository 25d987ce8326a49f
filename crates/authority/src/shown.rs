//! What an admin was shown of those who wait, so that nobody else is let in
//! under the same request: the registry, which hands the requests out, may
//! hand out another one once the admin has compared fingerprints.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use waymesh_proto::membership::JoinRequest;
use waymesh_proto::{AgentId, Name, RequestId};
use waymesh_trust::join::VerifiedJoin;
use waymesh_trust::keys;

use crate::directory::{at, replace};
use crate::error::AuthorityError;

pub(crate) const SHOWN_FILE: &str = "pending.shown";

/// How many requests of one listing are remembered; those after them can only
/// be approved by their fingerprint. Chosen: as many as a registry lets wait.
pub const SHOWN_MAX: usize = 256;

/// The most that is read of the file, bytes. A request takes about 300.
const SHOWN_FILE_MAX_BYTES: u64 = 1024 * SHOWN_MAX as u64;

/// Whether what waits under a request is what the admin was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is.
    Same,
    /// Something else was shown under the request: let nobody in.
    Other,
    /// Nothing was shown under it.
    Never,
}

/// One request, as it was shown.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    request: RequestId,
    name: Name,
    agent_id: AgentId,
    /// SHA-256 of what the joiner has signed, in hexadecimal.
    sha256: String,
}

impl Shown {
    pub(crate) fn new(request: &RequestId, joiner: &VerifiedJoin, join: &JoinRequest) -> Self {
        Self {
            request: request.clone(),
            name: joiner.name.clone(),
            agent_id: joiner.agent_id,
            sha256: keys::sha256_hex(join.as_str().as_bytes()),
        }
    }
}

/// Puts what was shown now in place of what was shown before.
pub(crate) fn remember(path: &Path, mut shown: Vec<Shown>) -> Result<(), AuthorityError> {
    shown.truncate(SHOWN_MAX);
    let json = serde_json::to_vec(&shown).expect("what was shown has string keys only");
    replace(path, &json).map_err(at(path))
}

/// Compares what waits now with what was shown last. Where one request was
/// shown twice, both must have been this.
pub(crate) fn compare(path: &Path, now: &Shown) -> Result<Seen, AuthorityError> {
    let shown = read(path).map_err(at(path))?;
    let mut of_request = shown.iter().filter(|one| one.request == now.request);
    Ok(match of_request.next() {
        None => Seen::Never,
        Some(first) if first == now && of_request.all(|one| one == now) => Seen::Same,
        Some(_) => Seen::Other,
    })
}

/// What is damaged or too long tells nothing: the admin is asked for fingerprints.
fn read(path: &Path) -> io::Result<Vec<Shown>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut json = Vec::new();
    file.take(SHOWN_FILE_MAX_BYTES).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json).unwrap_or_default())
}
