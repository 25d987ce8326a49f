//! From rows to what the rules remember.

use std::collections::BTreeMap;
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;
use waymesh_core::registry::{
    Decision, ItemSeq, Revoked, Stored, StoredAgent, StoredItem, StoredJoin, StoredRevocation,
};
use waymesh_proto::control::{MeshKey, PairingCode};
use waymesh_proto::mailbox::ItemHeader;
use waymesh_proto::{AgentId, Incarnation, InviteId};

use super::StorageError;
use crate::clock::Clock;

/// The column `decision` of a request that waits for an admin.
pub(super) const WAITING: i64 = 0;
/// The same of one that an admin has approved.
pub(super) const APPROVED: i64 = 1;
/// The same of one that an admin has rejected.
pub(super) const REJECTED: i64 = 2;

/// Reads everything but the bytes of items.
pub(super) fn load(db: &Connection, clock: Clock) -> Result<Stored, StorageError> {
    Ok(Stored {
        mesh: mesh(db)?,
        agents: all(db, AGENTS, agent)?,
        admissions: all(db, ADMISSIONS, admission)?,
        revocations: all(db, REVOCATIONS, revocation)?,
        joins: all(db, JOINS, |row| join(row, clock))?,
        codes: codes(db, clock)?,
        items: items(db, clock)?,
    })
}

const AGENTS: &str = "SELECT name, agent_id, incarnation, keys, roles, invite, certificate,
    sealing, skills, rules FROM agents ORDER BY name";
const ADMISSIONS: &str = "SELECT invite, agent_id FROM admissions";
const REVOCATIONS: &str = "SELECT agent_id, invite, revocation FROM revocations ORDER BY position";
const JOINS: &str = "SELECT request, name, agent_id, join_request, address, invite, delegation,
    asked_ms, decision, certificate, reason FROM joins";
const CODES: &str = "SELECT code, ends_ms FROM codes";
const ITEMS: &str = "SELECT seq, stored_ms, pushed, header, length(sealed) FROM items ORDER BY seq";

fn all<T>(
    db: &Connection,
    read: &str,
    mut from_row: impl FnMut(&Row<'_>) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    let mut statement = db.prepare(read)?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(from_row(row)?);
    }
    Ok(all)
}

fn bytes<const N: usize>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<[u8; N], StorageError> {
    let bytes: Vec<u8> = row.get(column)?;
    bytes.try_into().map_err(|_| StorageError::Damaged(what))
}

fn some_bytes<const N: usize>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<Option<[u8; N]>, StorageError> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    let sized = bytes.map(<[u8; N]>::try_from).transpose();
    sized.map_err(|_| StorageError::Damaged(what))
}

fn parsed<T: std::str::FromStr>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<T, StorageError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| StorageError::Damaged(what))
}

fn json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<T, StorageError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| StorageError::Damaged(what))
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, StorageError> {
    let number: i64 = row.get(column)?;
    Ok(number.cast_unsigned())
}

fn mesh(db: &Connection) -> Result<Option<MeshKey>, StorageError> {
    let read = "SELECT value FROM meta WHERE key = 'mesh'";
    let key = |row: &Row<'_>| row.get::<_, Vec<u8>>(0);
    let key = db.query_row(read, [], key).optional()?;
    let key = key.map(<[u8; 32]>::try_from).transpose();
    let key = key.map_err(|_| StorageError::Damaged("mesh key"))?;
    Ok(key.map(MeshKey::from_bytes))
}

fn agent(row: &Row<'_>) -> Result<StoredAgent, StorageError> {
    const WHAT: &str = "agent";
    let keys: Vec<u8> = row.get(3)?;
    let (keys, rest) = keys.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(StorageError::Damaged(WHAT));
    }
    Ok(StoredAgent {
        name: parsed(row, 0, WHAT)?,
        agent_id: AgentId::from_bytes(bytes(row, 1, WHAT)?),
        incarnation: Incarnation::new(unsigned(row, 2)?),
        keys: keys.iter().copied().map(AgentId::from_bytes).collect(),
        roles: json(row, 4, WHAT)?,
        invite: some_bytes(row, 5, WHAT)?.map(InviteId::from_bytes),
        certificate: parsed(row, 6, WHAT)?,
        sealing: parsed(row, 7, WHAT)?,
        skills: json(row, 8, WHAT)?,
        rules: json(row, 9, WHAT)?,
    })
}

fn admission(row: &Row<'_>) -> Result<(InviteId, AgentId), StorageError> {
    const WHAT: &str = "admission";
    let invite = InviteId::from_bytes(bytes(row, 0, WHAT)?);
    Ok((invite, AgentId::from_bytes(bytes(row, 1, WHAT)?)))
}

fn revocation(row: &Row<'_>) -> Result<StoredRevocation, StorageError> {
    const WHAT: &str = "revocation";
    let member = some_bytes(row, 0, WHAT)?.map(AgentId::from_bytes);
    let invite = some_bytes(row, 1, WHAT)?.map(InviteId::from_bytes);
    let target = match (member, invite) {
        (Some(agent_id), None) => Revoked::Member(agent_id),
        (None, Some(invite)) => Revoked::Invite(invite),
        _ => return Err(StorageError::Damaged(WHAT)),
    };
    let revocation = parsed(row, 2, WHAT)?;
    Ok(StoredRevocation { target, revocation })
}

fn join(row: &Row<'_>, clock: Clock) -> Result<StoredJoin, StorageError> {
    const WHAT: &str = "request to join";
    let delegation: Option<String> = row.get(6)?;
    let delegation = delegation.map(|text| text.parse()).transpose();
    let decision = match row.get(8)? {
        WAITING => None,
        APPROVED => Some(Decision::Approved(parsed(row, 9, WHAT)?)),
        REJECTED => Some(Decision::Rejected(row.get(10)?)),
        _ => return Err(StorageError::Damaged(WHAT)),
    };
    Ok(StoredJoin {
        request: parsed(row, 0, WHAT)?,
        name: parsed(row, 1, WHAT)?,
        agent_id: AgentId::from_bytes(bytes(row, 2, WHAT)?),
        join_request: parsed(row, 3, WHAT)?,
        address: parsed(row, 4, WHAT)?,
        invite: some_bytes(row, 5, WHAT)?.map(InviteId::from_bytes),
        delegation: delegation.map_err(|_| StorageError::Damaged(WHAT))?,
        since: clock.now,
        waited: clock.since(unsigned(row, 7)?),
        decision,
    })
}

fn codes(db: &Connection, clock: Clock) -> Result<BTreeMap<PairingCode, Instant>, StorageError> {
    let codes = all(db, CODES, |row| {
        let code = PairingCode::from_number(row.get(0)?);
        Ok((code, clock.instant(unsigned(row, 1)?)))
    })?;
    Ok(codes.into_iter().collect())
}

fn items(db: &Connection, clock: Clock) -> Result<Vec<StoredItem>, StorageError> {
    let read = "SELECT 1 FROM meta WHERE key = 'ended'";
    let has_ended = db.query_row(read, [], |_| Ok(())).optional()?.is_some();
    all(db, ITEMS, |row| {
        let header: Vec<u8> = row.get(3)?;
        let sealed_bytes = usize::try_from(unsigned(row, 4)?);
        let was_pushed: bool = row.get(2)?;
        Ok(StoredItem {
            seq: ItemSeq(unsigned(row, 0)?),
            header: ItemHeader::decode(&header).map_err(|_| StorageError::Damaged("item"))?,
            bytes: header.len() + sealed_bytes.map_err(|_| StorageError::Damaged("item"))?,
            since: clock.now,
            dwelt: clock.since(unsigned(row, 1)?),
            // The marks of a run that was cut off may be behind.
            pushed: was_pushed || !has_ended,
        })
    })
}
