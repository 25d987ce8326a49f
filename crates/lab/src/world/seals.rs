//! What is sealed in items: the world knows it, so nothing is encrypted. An
//! item's sealed bytes are the number of its seal and padding of the right length.

use waymesh_proto::ids::{Incarnation, KeyId};
use waymesh_proto::mailbox::{Item, ItemHeader};
use waymesh_proto::membership::Certificate;

use super::model::Life;

/// Bytes that sealing adds to a frame: key, tag, certificate, signature, as measured.
const OVERHEAD_BYTES: usize = 900;

/// Bytes of a seal's number.
const NUMBER_BYTES: usize = 8;

/// One seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SealNumber(usize);

/// What is inside, and what it is bound to.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) header: ItemHeader,
    /// The header's bytes.
    pub(super) bytes: Vec<u8>,
    pub(super) from: Life,
    pub(super) to_incarnation: Option<Incarnation>,
    /// By the clock of the sender.
    pub(super) issued_ms: u64,
    pub(super) certificate: Certificate,
    /// The sender's own key, for answers.
    pub(super) key: KeyId,
    pub(super) frame: Vec<u8>,
}

/// All seals that were ever made.
#[derive(Debug, Default)]
pub(super) struct Seals {
    all: Vec<Seal>,
}

impl Seals {
    /// Seals, and gives what travels.
    pub(super) fn add(&mut self, seal: Seal) -> Item {
        let mut sealed = vec![0; NUMBER_BYTES + OVERHEAD_BYTES + seal.frame.len()];
        sealed[..NUMBER_BYTES].copy_from_slice(&(self.all.len() as u64).to_be_bytes());
        let header = seal.bytes.clone();
        self.all.push(seal);
        Item { header, sealed }
    }

    /// The seal of an item, if nothing of it was changed.
    pub(super) fn number_of(&self, item: &Item) -> Option<SealNumber> {
        let (number, padding) = item.sealed.split_first_chunk::<NUMBER_BYTES>()?;
        let number = usize::try_from(u64::from_be_bytes(*number)).ok()?;
        let seal = self.all.get(number)?;
        let is_whole = padding.len() == OVERHEAD_BYTES + seal.frame.len();
        (seal.bytes == item.header && is_whole && padding[0] == 0).then_some(SealNumber(number))
    }

    pub(super) fn get(&self, number: SealNumber) -> &Seal {
        &self.all[number.0]
    }
}

/// The item with something changed that only the seal protects.
pub(super) fn tampered(item: &Item) -> Item {
    let mut item = item.clone();
    if let Some(byte) = item.sealed.get_mut(NUMBER_BYTES) {
        *byte ^= 1;
    }
    item
}
