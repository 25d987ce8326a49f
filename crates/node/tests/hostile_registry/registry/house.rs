//! What the hostile registry knows and does: who is there, who asked for whom,
//! and what waits in the mailboxes.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use waymesh_proto::api::AgentRecord;
use waymesh_proto::control::{
    ClientMessage, Login, MemberRecord, Outcome, Posted, PostedState, ServerMessage,
};
use waymesh_proto::mailbox::{Item, ItemHeader, Note, encode_push};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{AgentId, Code, ItemId, Name, Role};

use super::Malice;

/// All that it knows.
#[derive(Default, Clone)]
pub(crate) struct House {
    pub(crate) directory: BTreeMap<Name, MemberRecord>,
    /// Everything that nodes have said, for looking for what must not be in it.
    pub(crate) heard: Vec<Vec<u8>>,
    /// Signals as their senders made them.
    pub(crate) signals: Vec<SignedSignal>,
    /// Items as their senders made them.
    pub(crate) items: Vec<Item>,
    /// What receivers said of items.
    pub(crate) settled: Vec<(ItemId, Outcome)>,
    connections: BTreeMap<AgentId, mpsc::Sender<Message>>,
    watchers: BTreeMap<Name, BTreeSet<AgentId>>,
    stored: BTreeMap<(AgentId, ItemId), Item>,
}

impl House {
    /// The record of a name.
    pub(crate) fn record(&self, name: &str) -> Option<&MemberRecord> {
        self.directory.get(&name.parse().expect("a name"))
    }

    pub(super) fn register(&mut self, login: &Login, roles: &[Role]) {
        let record = MemberRecord {
            agent: AgentRecord {
                name: login.name.clone(),
                agent_id: login.agent_id,
                incarnation: login.incarnation,
                online: true,
                roles: roles.to_vec(),
                skills: Vec::new(),
            },
            certificate: login.certificate.clone(),
            sealing: login.sealing.clone(),
        };
        self.directory.insert(login.name.clone(), record);
    }

    pub(super) fn connect(&mut self, malice: &Malice, who: AgentId, out: mpsc::Sender<Message>) {
        self.connections.insert(who, out);
        self.announce(malice, who);
        let waiting: Vec<Item> = self.stored.values().cloned().collect();
        for item in waiting {
            if header(&item).to == who {
                self.push(malice, item, true);
            }
        }
    }

    pub(super) fn disconnect(
        &mut self,
        malice: &Malice,
        who: AgentId,
        out: &mpsc::Sender<Message>,
    ) {
        let is_present = |present: &mpsc::Sender<Message>| present.same_channel(out);
        if self.connections.get(&who).is_some_and(is_present) {
            self.connections.remove(&who);
            if let Some(record) = self
                .directory
                .values_mut()
                .find(|r| r.agent.agent_id == who)
            {
                record.agent.online = false;
            }
            self.announce(malice, who);
        }
    }

    /// Tells everybody who has asked for an agent of its record.
    fn announce(&mut self, malice: &Malice, who: AgentId) {
        let record = self.directory.values().find(|r| r.agent.agent_id == who);
        let Some(record) = record.cloned() else {
            return;
        };
        let watchers = self.watchers.get(&record.agent.name).cloned();
        for watcher in watchers.unwrap_or_default() {
            let agents = (malice.record)(self, record.clone());
            self.tell(watcher, &ServerMessage::Records { agents });
        }
    }

    /// Says something to a node, if it is connected.
    pub(crate) fn tell(&self, to: AgentId, message: &ServerMessage) {
        self.give(to, Message::Text(message.encode().into()));
    }

    /// Gives a node a frame, whatever it is.
    pub(crate) fn give(&self, to: AgentId, message: Message) {
        if let Some(out) = self.connections.get(&to) {
            out.try_send(message).expect("no test makes so many");
        }
    }

    pub(super) fn hear(&mut self, malice: &Malice, from: AgentId, message: ClientMessage) {
        match message {
            ClientMessage::Resolve { name } => self.resolve(malice, from, name),
            ClientMessage::Signal { signal } => {
                self.signals.push(signal.clone());
                for (to, signal) in (malice.signal)(self, signal) {
                    self.pass(from, to, signal);
                }
            }
            ClientMessage::Sealing { statement } => {
                let mut records = self.directory.values_mut();
                if let Some(record) = records.find(|r| r.agent.agent_id == from) {
                    record.sealing = statement;
                }
                self.announce(malice, from);
            }
            ClientMessage::Settled { items } => {
                for settle in items {
                    self.settled.push((settle.item, settle.outcome));
                    let is_done = !matches!(settle.outcome, Outcome::Kept | Outcome::Later);
                    if is_done {
                        self.stored.remove(&(settle.from, settle.item));
                    }
                }
            }
            _ => {}
        }
    }

    fn resolve(&mut self, malice: &Malice, from: AgentId, name: Name) {
        let watchers = self.watchers.entry(name.clone()).or_default();
        watchers.insert(from);
        let record = self.directory.get(&name).cloned();
        let agents = record.map_or(Vec::new(), |record| (malice.record)(self, record));
        let answer = match agents.is_empty() {
            true => ServerMessage::Unknown { name },
            false => ServerMessage::Records { agents },
        };
        self.tell(from, &answer);
    }

    fn pass(&self, from: AgentId, to: AgentId, signal: SignedSignal) {
        if self.connections.contains_key(&to) {
            return self.tell(to, &ServerMessage::Signal { signal });
        }
        let session = signal.decode_body().expect("a body").session;
        let code = Code::PeerOffline;
        self.tell(from, &ServerMessage::Undeliverable { to, session, code });
    }

    pub(super) fn post(&mut self, malice: &Malice, from: AgentId, item: Item) {
        self.items.push(item.clone());
        let header = header(&item);
        self.stored.insert((header.from, header.item), item.clone());
        let posted = Posted {
            item: header.item,
            state: PostedState::Stored,
        };
        let items = (malice.posted)(posted);
        if !items.is_empty() {
            self.tell(from, &ServerMessage::Posted { items });
        }
        self.push(malice, item, false);
    }

    fn push(&mut self, malice: &Malice, item: Item, again: bool) {
        let to = header(&item).to;
        let note = Note { again, dwell_ms: 0 };
        for (to, note, item) in (malice.push)(self, (to, note, item)) {
            self.push_to(to, note, &item);
        }
    }

    /// Pushes an item to a node, whosever it is.
    pub(crate) fn push_to(&self, to: AgentId, note: Note, item: &Item) {
        for part in encode_push(note, item) {
            self.give(to, Message::Binary(part.into()));
        }
    }
}

/// The header of an item.
pub(crate) fn header(item: &Item) -> ItemHeader {
    ItemHeader::decode(&item.header).expect("nodes talk sense")
}
