//! From a write of the rules to SQL.

use rusqlite::{Connection, Params, params};
use waymesh_core::registry::{
    Decision, Revoked, StoredAgent, StoredItem, StoredJoin, StoredRevocation, Write,
};
use waymesh_proto::mailbox::Item;

use super::StorageError;
use super::load::{APPROVED, REJECTED, WAITING};
use crate::clock::Clock;

/// Carries out one write inside a transaction.
pub(super) fn write(db: &Connection, write: &Write, clock: Clock) -> Result<(), StorageError> {
    match write {
        Write::Mesh(mesh) => {
            let insert = "INSERT INTO meta (key, value) VALUES ('mesh', ?1)";
            run(db, insert, params![mesh.as_bytes()])
        }
        Write::Agent(agent) => write_agent(db, agent),
        Write::ForgetAgent(name) => {
            let delete = "DELETE FROM agents WHERE name = ?1";
            run(db, delete, params![name.as_str()])
        }
        Write::Admission { invite, agent_id } => {
            let insert = "INSERT OR IGNORE INTO admissions (invite, agent_id) VALUES (?1, ?2)";
            run(db, insert, params![invite.as_bytes(), agent_id.as_bytes()])
        }
        Write::Revocation(revocation) => write_revocation(db, revocation),
        Write::Join(join) => write_join(db, join, clock),
        Write::ForgetJoin(request) => {
            let delete = "DELETE FROM joins WHERE request = ?1";
            run(db, delete, params![request.as_str()])
        }
        Write::Code { code, ends } => {
            let insert = "INSERT OR REPLACE INTO codes (code, ends_ms) VALUES (?1, ?2)";
            run(
                db,
                insert,
                params![code.number(), signed(clock.unix_ms(*ends))],
            )
        }
        Write::ForgetCode(code) => run(
            db,
            "DELETE FROM codes WHERE code = ?1",
            params![code.number()],
        ),
        Write::Item { stored, item } => write_item(db, stored, item, clock),
        Write::Pushed(seq) => {
            let update = "UPDATE items SET pushed = 1 WHERE seq = ?1";
            run(db, update, params![signed(seq.0)])
        }
        Write::ForgetItem { seq, .. } => run(
            db,
            "DELETE FROM items WHERE seq = ?1",
            params![signed(seq.0)],
        ),
    }
}

fn run(db: &Connection, sql: &str, params: impl Params) -> Result<(), StorageError> {
    db.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|_| StorageError::Damaged(what))
}

fn write_agent(db: &Connection, agent: &StoredAgent) -> Result<(), StorageError> {
    let upsert = "INSERT INTO agents
            (name, agent_id, incarnation, keys, roles, invite, certificate, sealing, skills, rules)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
        ON CONFLICT (name) DO UPDATE SET
            incarnation = excluded.incarnation, keys = excluded.keys, roles = excluded.roles,
            invite = excluded.invite, certificate = excluded.certificate,
            sealing = excluded.sealing, skills = excluded.skills, rules = excluded.rules
        WHERE agent_id = excluded.agent_id";
    let keys: Vec<u8> = agent.keys.iter().flat_map(|key| *key.as_bytes()).collect();
    let changed = db.prepare_cached(upsert)?.execute(params![
        agent.name.as_str(),
        agent.agent_id.as_bytes(),
        signed(agent.incarnation.number()),
        keys,
        json(&agent.roles, "role")?,
        agent.invite.as_ref().map(|invite| *invite.as_bytes()),
        agent.certificate.as_str(),
        agent.sealing.as_str(),
        json(&agent.skills, "skill")?,
        json(&agent.rules, "rule")?,
    ])?;
    if changed == 0 {
        return Err(StorageError::Damaged("binding of a name"));
    }
    Ok(())
}

fn write_revocation(db: &Connection, stored: &StoredRevocation) -> Result<(), StorageError> {
    let (member, invite) = match stored.target {
        Revoked::Member(agent_id) => (Some(*agent_id.as_bytes()), None),
        Revoked::Invite(invite) => (None, Some(*invite.as_bytes())),
    };
    let insert = "INSERT OR IGNORE INTO revocations (agent_id, invite, revocation)
        VALUES (?1, ?2, ?3)";
    run(
        db,
        insert,
        params![member, invite, stored.revocation.as_str()],
    )
}

fn write_join(db: &Connection, join: &StoredJoin, clock: Clock) -> Result<(), StorageError> {
    let (decision, certificate, reason) = match &join.decision {
        None => (WAITING, None, None),
        Some(Decision::Approved(certificate)) => (APPROVED, Some(certificate.as_str()), None),
        Some(Decision::Rejected(reason)) => (REJECTED, None, reason.as_deref()),
    };
    let waited = u64::try_from(join.waited.as_millis()).unwrap_or(u64::MAX);
    let asked_ms = clock.unix_ms(join.since).saturating_sub(waited);
    let insert = "INSERT OR REPLACE INTO joins
            (request, name, agent_id, join_request, address, invite, delegation, asked_ms,
             decision, certificate, reason)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let params = params![
        join.request.as_str(),
        join.name.as_str(),
        join.agent_id.as_bytes(),
        join.join_request.as_str(),
        join.address.to_string(),
        join.invite.as_ref().map(|invite| *invite.as_bytes()),
        join.delegation
            .as_ref()
            .map(|delegation| delegation.as_str()),
        signed(asked_ms),
        decision,
        certificate,
        reason,
    ];
    run(db, insert, params)
}

fn write_item(
    db: &Connection,
    stored: &StoredItem,
    item: &Item,
    clock: Clock,
) -> Result<(), StorageError> {
    let dwelt = u64::try_from(stored.dwelt.as_millis()).unwrap_or(u64::MAX);
    let stored_ms = clock.unix_ms(stored.since).saturating_sub(dwelt);
    let insert = "INSERT INTO items (seq, stored_ms, pushed, header, sealed)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    let params = params![
        signed(stored.seq.0),
        signed(stored_ms),
        stored.pushed,
        item.header,
        item.sealed
    ];
    run(db, insert, params)
}
