//! Writes that failed and that nobody waits for, merged so that they do not grow.

use std::collections::BTreeMap;

use waymesh_core::registry::Write;
use waymesh_proto::Name;

/// What could not be written.
///
/// Of each name the last state is kept; everything else takes back or marks
/// something that is stored, once, and so is bounded by what is stored.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    /// For each name: that it is free, then whose it is, where either is to be written.
    names: BTreeMap<Name, [Option<Write>; 2]>,
    others: Vec<Write>,
}

impl Leftover {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.others.is_empty()
    }

    pub(super) fn keep<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) {
        for write in writes {
            match write {
                Write::Agent(agent) => {
                    let [_, last] = self.names.entry(agent.name.clone()).or_default();
                    *last = Some(write.clone());
                }
                Write::ForgetAgent(name) => {
                    let free = [Some(write.clone()), None];
                    self.names.insert(name.clone(), free);
                }
                other => self.others.push(other.clone()),
            }
        }
    }

    /// Newer writes were carried out: what is kept of the same things is out of date.
    pub(super) fn outdate<'a>(&mut self, writes: impl IntoIterator<Item = &'a Write>) {
        for write in writes {
            match write {
                Write::Agent(agent) => drop(self.names.remove(&agent.name)),
                Write::ForgetAgent(name) => drop(self.names.remove(name)),
                Write::Code { code, .. } => {
                    let ended = Write::ForgetCode(*code);
                    self.others.retain(|other| *other != ended);
                }
                _ => {}
            }
        }
    }

    /// All of them, in an order that leads to the last state of everything.
    pub(super) fn writes(&self) -> impl Iterator<Item = &Write> {
        let names = self.names.values().flatten().flatten();
        names.chain(&self.others)
    }
}
