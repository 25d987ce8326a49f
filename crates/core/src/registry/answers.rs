//! What senders are told of their items, gathered so that many fit one message.

use std::collections::BTreeMap;

use waymesh_proto::ItemId;
use waymesh_proto::control::{Posted, PostedState, Returned, SETTLED_MAX, ServerMessage};

use super::ConnId;

/// Answers that have not been sent yet; they leave when nothing else is to be done.
#[derive(Debug, Default)]
pub(super) struct Answers {
    posted: BTreeMap<ConnId, Vec<Posted>>,
    returned: BTreeMap<ConnId, Vec<Returned>>,
}

impl Answers {
    pub(super) fn posted(&mut self, conn: ConnId, item: ItemId, state: PostedState) {
        let posted = Posted { item, state };
        self.posted.entry(conn).or_default().push(posted);
    }

    pub(super) fn returned(&mut self, conn: ConnId, returned: Returned) {
        self.returned.entry(conn).or_default().push(returned);
    }

    /// Whom the next message is for.
    pub(super) fn next_conn(&self) -> Option<ConnId> {
        let mut conns = self.posted.keys().chain(self.returned.keys());
        conns.next().copied()
    }

    /// The next message for a connection.
    pub(super) fn take(&mut self, conn: ConnId) -> Option<ServerMessage> {
        if let Some(items) = part(&mut self.posted, conn) {
            return Some(ServerMessage::Posted { items });
        }
        part(&mut self.returned, conn).map(|items| ServerMessage::Returned { items })
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.posted.remove(&conn);
        self.returned.remove(&conn);
    }
}

/// As many as one message may have, the oldest first.
fn part<T>(all: &mut BTreeMap<ConnId, Vec<T>>, conn: ConnId) -> Option<Vec<T>> {
    let mut items = all.remove(&conn)?;
    if items.len() > SETTLED_MAX {
        let rest = items.split_off(SETTLED_MAX);
        all.insert(conn, rest);
    }
    Some(items)
}
