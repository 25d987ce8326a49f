//! The mailbox path, with a registry that stores at once and pushes to whoever is online.

mod copies;
mod limits;
mod restarts;
mod traffic;

use super::*;
use crate::app::{Kept, Mark, Opened, Post};
use waymesh_proto::control::Outcome;
use waymesh_proto::ids::ItemId;
use waymesh_proto::link::Path;
use waymesh_proto::mailbox::Keep;

#[derive(Debug, Clone)]
struct Item {
    from: usize,
    life: Incarnation,
    post: Post,
    since: Instant,
    pushed: bool,
    outcome: Option<Outcome>,
}

/// The items of all hosts.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// What the registry answers to a post, when it is not to store it.
    pub(super) refuses: Option<Code>,
    pub(super) works: bool,
    items: Vec<Item>,
    marks: Vec<Mark>,
    posts: usize,
}

impl Mailbox {
    /// Takes an item out that was not delivered.
    pub(super) fn take_back(&mut self) -> Option<ItemId> {
        self.items.pop().map(|item| item.post.item)
    }
}

impl Lab {
    pub(super) fn with_mailbox(names: &[&str]) -> Self {
        let mut lab = Self::new(names);
        lab.mailbox.works = true;
        lab
    }

    /// Only the mailbox works.
    fn without_links(names: &[&str]) -> Self {
        let mut lab = Self::with_mailbox(names);
        lab.links_work = false;
        lab
    }

    pub(super) fn post(&mut self, from: usize, post: Post) {
        if !self.mailbox.works {
            return;
        }
        self.mailbox.posts += 1;
        let item = post.item;
        let outcome = match self.mailbox.refuses {
            Some(code) => Err(Fault::new(code, "refused")),
            None if post.keep == Keep::Forward => Ok(Kept::Forwarded),
            None => Ok(Kept::Stored),
        };
        let is_new = !self.mailbox.items.iter().any(|i| i.post.item == item);
        if outcome.is_ok() && is_new {
            self.mailbox.items.push(Item {
                from,
                life: self.hosts[from].record.incarnation,
                post,
                since: self.now,
                pushed: false,
                outcome: None,
            });
        }
        let event = RegistryEvent::Posted { item, outcome };
        self.hosts[from].mesh.handle_registry(self.now, event);
        self.push();
    }

    /// Pushes what was not pushed to whoever is there.
    fn push(&mut self) {
        let due: Vec<Item> = self
            .mailbox
            .items
            .iter()
            .filter(|i| i.outcome.is_none())
            .cloned()
            .collect();
        for item in due {
            let to = self
                .hosts
                .iter()
                .position(|h| h.record.agent_id == item.post.to);
            let Some(to) = to.filter(|to| self.hosts[*to].record.online) else {
                continue;
            };
            if let Some(stored) = self
                .mailbox
                .items
                .iter_mut()
                .find(|i| i.post.item == item.post.item)
            {
                stored.pushed = true;
                stored.outcome = Some(Outcome::Kept);
            }
            let from = &self.hosts[item.from].record;
            let opened = Opened {
                item: item.post.item,
                from: member(from),
                from_incarnation: item.life,
                to_incarnation: item.post.to_incarnation,
                dwell: self.now - item.since,
                again: item.pushed,
                frame: item.post.frame.clone(),
            };
            self.hosts[to]
                .mesh
                .handle_registry(self.now, RegistryEvent::Item(opened));
        }
    }

    pub(super) fn keep(&mut self, mark: Mark) {
        self.mailbox.marks.push(mark);
    }

    pub(super) fn settled(
        &mut self,
        _at: usize,
        item: ItemId,
        outcome: Outcome,
        mark: Option<Mark>,
    ) {
        self.mailbox.marks.extend(mark);
        if let Some(stored) = self.mailbox.items.iter_mut().find(|i| i.post.item == item) {
            stored.outcome = Some(outcome);
        }
        self.mailbox
            .items
            .retain(|i| !matches!(i.outcome, Some(Outcome::Taken | Outcome::Denied)));
    }

    pub(super) fn resume(&mut self, at: usize) {
        let to = self.hosts[at].record.agent_id;
        for item in self.mailbox.items.iter_mut().filter(|i| i.post.to == to) {
            if item.outcome == Some(Outcome::Later) {
                item.outcome = None;
            }
        }
        self.push();
    }

    pub(super) fn withdraw(&mut self, item: ItemId) {
        self.mailbox.items.retain(|i| i.post.item != item);
    }

    fn set_online(&mut self, at: usize, online: bool) {
        self.hosts[at].record.online = online;
        let record = self.hosts[at].record.clone();
        for (other, host) in self.hosts.iter_mut().enumerate() {
            if other != at {
                host.mesh.handle_registry(self.now, told(record.clone()));
            }
        }
        if online {
            self.push();
        }
        self.run();
    }

    /// A new life of a host, which knows what the last one has marked.
    fn revive(&mut self, at: usize) {
        let marks = self.mailbox.marks.clone();
        for item in &mut self.mailbox.items {
            item.outcome = None;
        }
        self.restart(at);
        let record = self.hosts[at].record.clone();
        self.hosts[at] = host_with(record, marks);
        self.hosts[at]
            .mesh
            .handle_registry(self.now, RegistryEvent::Connected);
        self.claim(at);
    }

    fn claim(&mut self, at: usize) {
        let id = self.id();
        self.command(at, Command::ClaimInbox { id });
    }

    /// Takes the messages that reached a host: length, path, whether it is marked redelivered.
    fn messages(&mut self, at: usize) -> Vec<(usize, Path, bool, InboundId)> {
        let events = std::mem::take(&mut self.hosts[at].events);
        let messages = events.into_iter().filter_map(|event| match event {
            Event::Message {
                inbound: Some(inbound),
                path,
                redelivered,
                payload,
                ..
            } => Some((payload.bytes.len(), path, redelivered, inbound)),
            _ => None,
        });
        messages.collect()
    }

    fn consume(&mut self, at: usize, message: InboundId) {
        self.command(at, Command::Consumed { message });
    }
}

fn host_with(record: AgentRecord, marks: Vec<Mark>) -> Host {
    let mut host = host(record, 77);
    let mut config = host.mesh.config.clone();
    config.marks = marks;
    host.mesh = Mesh::new(config, 78);
    host.mesh.add_client(Instant::now(), CLIENT);
    host
}
