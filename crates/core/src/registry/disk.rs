//! A disk in memory: what tests and the simulated world store to.

use std::collections::BTreeMap;
use std::sync::Arc;

use waymesh_proto::mailbox::Item;

use super::{ItemSeq, Stored, Write};

/// Carries out writes and gives back what they left.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    stored: Stored,
    bytes: BTreeMap<ItemSeq, Arc<Item>>,
}

impl Disk {
    /// What the rules would start with.
    pub fn stored(&self) -> Stored {
        self.stored.clone()
    }

    /// The bytes of an item.
    pub fn item(&self, seq: ItemSeq) -> Option<Arc<Item>> {
        self.bytes.get(&seq).cloned()
    }

    /// Carries out one write.
    pub fn write(&mut self, write: Write) {
        let stored = &mut self.stored;
        match write {
            Write::Mesh(mesh) => stored.mesh = Some(mesh),
            Write::Agent(agent) => {
                stored.agents.retain(|old| old.name != agent.name);
                stored.agents.push(*agent);
            }
            Write::ForgetAgent(name) => stored.agents.retain(|old| old.name != name),
            Write::Admission { invite, agent_id } => {
                if !stored.admissions.contains(&(invite, agent_id)) {
                    stored.admissions.push((invite, agent_id));
                }
            }
            Write::Revocation(revocation) => stored.revocations.push(revocation),
            Write::Join(join) => {
                stored.joins.retain(|old| old.request != join.request);
                stored.joins.push(*join);
            }
            Write::ForgetJoin(request) => stored.joins.retain(|old| old.request != request),
            Write::Code { code, ends } => {
                stored.codes.insert(code, ends);
            }
            Write::ForgetCode(code) => {
                stored.codes.remove(&code);
            }
            Write::Item {
                stored: item,
                item: bytes,
            } => {
                self.bytes.insert(item.seq, bytes);
                stored.items.push(item);
            }
            Write::Pushed(seq) => {
                let mut items = stored.items.iter_mut();
                if let Some(item) = items.find(|item| item.seq == seq) {
                    item.pushed = true;
                }
            }
            Write::ForgetItem { seq, .. } => {
                self.bytes.remove(&seq);
                stored.items.retain(|item| item.seq != seq);
            }
        }
    }
}
