//! Sealing and opening one message.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke};
use waymesh_proto::control::{MeshKey, Signature};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::mailbox::{Item, ItemHeader};
use waymesh_proto::{AgentId, MeshId};

use super::content::Content;
use super::error::{OpenError, SealError};
use super::key::{SealTo, SealingKey};
use crate::certificate::{Cache, Verified};
use crate::keys::{self, Keypair, mesh_id};

/// What HPKE's `info` begins with, before a zero byte.
pub const SEAL_LABEL: &str = "waymesh seal v1";

/// What the signature inside covers before mesh, header and content.
pub const SEALED_LABEL: &str = "waymesh sealed v1";

/// Bytes of the encapsulated key, which the sealed bytes begin with (RFC 9180 §7.1: Nenc).
const ENCAPSULATED_BYTES: usize = 32;

/// Bytes of the signature, which the plain bytes begin with.
const SIGNATURE_BYTES: usize = 64;

/// A sealed message that was opened: whose it is, and what was inside.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The header that the registry saw.
    pub header: ItemHeader,
    /// The sender. Its certificate held when the message was sealed; it may have ended since.
    pub sender: Arc<Verified>,
    /// The key to seal an answer with; it too may have ended since.
    pub seal_to: SealTo,
    /// What was inside.
    pub content: Content,
}

/// Seals a message. The header's key must be that of `to`, its receiver the
/// owner of `to`, and `signer` the current key of the content's certificate;
/// else nobody can open it.
///
/// The sealed bytes are HPKE's encapsulated key (32) and ciphertext.
///
/// # Errors
/// [`SealError::Unusable`]: the receiver gave out a key that agrees on nothing.
pub fn seal(
    content: &Content,
    header: &ItemHeader,
    mesh: &MeshKey,
    to: &SealTo,
    signer: &Keypair,
) -> Result<Item, SealError> {
    let mesh = mesh_id(mesh);
    let header_bytes = header.encode();
    let mut signed = signed_head(&mesh, &header_bytes);
    let head = signed.len();
    content.encode(&mut signed);
    let signature = signer.sign(SEALED_LABEL, &signed);
    let mut plain = Vec::with_capacity(SIGNATURE_BYTES + signed.len() - head);
    plain.extend_from_slice(signature.as_bytes());
    plain.extend_from_slice(&signed[head..]);
    let sealed = SUITE.seal(
        &info(&mesh, header),
        &header_bytes,
        &plain,
        &to.public_key(),
    );
    let (encapsulated, ciphertext) = sealed.map_err(|_| SealError::Unusable { key: to.id })?;
    let mut sealed = encapsulated.0;
    sealed.extend_from_slice(&ciphertext);
    Ok(Item {
        header: header_bytes,
        sealed,
    })
}

/// Opens a message that was sealed to one of `keys`, and checks who sealed it.
///
/// The sender's certificate must have held when the message was sealed, which
/// may not be longer ago than the message lives: a sender need not be a member
/// any more when a stored message is fetched. Whether it was revoked, and
/// whether the message came before, the caller checks.
///
/// # Errors
/// The first check that fails: header, receiver, key, seal, content, certificate,
/// sender, signature, time, sealing statement.
pub fn open(
    item: &Item,
    mesh: &MeshKey,
    keys: &[SealingKey],
    me: &AgentId,
    now_ms: u64,
    cache: &mut Cache,
) -> Result<Opened, OpenError> {
    let header = ItemHeader::decode(&item.header).map_err(|_| OpenError::Header)?;
    if header.to != *me {
        return Err(OpenError::NotForMe);
    }
    let key = keys.iter().find(|key| key.id() == header.key);
    let key = key.ok_or(OpenError::NoKey { key: header.key })?;
    let plain = unseal(item, &header, &mesh_id(mesh), key)?;
    let (signature, bytes) = plain
        .split_first_chunk::<SIGNATURE_BYTES>()
        .ok_or(OpenError::Content("it is cut off"))?;
    let content = Content::decode(bytes)?;
    let sender = cache.verify(&content.certificate, mesh, content.issued_ms)?;
    if sender.agent_id != header.from {
        let name = sender.name.clone();
        return Err(OpenError::NotTheHolder { name });
    }
    let mut signed = signed_head(&mesh_id(mesh), &item.header);
    signed.extend_from_slice(bytes);
    let signature = Signature::from_bytes(*signature);
    if keys::verify(&sender.key, SEALED_LABEL, &signed, &signature).is_err() {
        let name = sender.name.clone();
        return Err(OpenError::BadSignature { name });
    }
    check_life(&header, &content, &sender, now_ms)?;
    let seal_to = cache.verify_statement(&content.sealing, &sender, content.issued_ms)?;
    Ok(Opened {
        header,
        sender,
        seal_to,
        content,
    })
}

fn unseal(
    item: &Item,
    header: &ItemHeader,
    mesh: &MeshId,
    key: &SealingKey,
) -> Result<Vec<u8>, OpenError> {
    let (encapsulated, ciphertext) = item
        .sealed
        .split_at_checked(ENCAPSULATED_BYTES)
        .ok_or(OpenError::Changed)?;
    let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
    let info = info(mesh, header);
    SUITE
        .open(
            &encapsulated,
            &info,
            &item.header,
            ciphertext,
            key.private(),
        )
        .map_err(|_| OpenError::Changed)
}

fn check_life(
    header: &ItemHeader,
    content: &Content,
    sender: &Verified,
    now_ms: u64,
) -> Result<(), OpenError> {
    let stale = |off_ms, future| {
        let name = sender.name.clone();
        Err(OpenError::Stale {
            name,
            off_ms,
            future,
        })
    };
    let ahead_ms = content.issued_ms.saturating_sub(now_ms);
    if ahead_ms > CLOCK_LEEWAY_MS {
        return stale(ahead_ms, true);
    }
    let over_ms = now_ms.saturating_sub(content.issued_ms.saturating_add(header.life_ms));
    if over_ms > CLOCK_LEEWAY_MS {
        return stale(over_ms, false);
    }
    Ok(())
}

/// HPKE's `info`: label, zero byte, mesh (16), sender (32), receiver (32), key id (16).
fn info(mesh: &MeshId, header: &ItemHeader) -> Vec<u8> {
    let mut info = Vec::with_capacity(SEAL_LABEL.len() + 97);
    info.extend_from_slice(SEAL_LABEL.as_bytes());
    info.push(0);
    info.extend_from_slice(mesh.as_bytes());
    info.extend_from_slice(header.from.as_bytes());
    info.extend_from_slice(header.to.as_bytes());
    info.extend_from_slice(header.key.as_bytes());
    info
}

/// What the signature covers before the content: mesh (16), the header's
/// length in four big-endian bytes, the header.
fn signed_head(mesh: &MeshId, header: &[u8]) -> Vec<u8> {
    let len = u32::try_from(header.len()).expect("a header is at most 160 bytes");
    let mut bytes = Vec::with_capacity(20 + header.len());
    bytes.extend_from_slice(mesh.as_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(header);
    bytes
}
