//! The driver's ends of all connections.

use std::collections::BTreeMap;

use axum::extract::ws::Utf8Bytes;
use waymesh_core::registry::ConnId;
use waymesh_proto::control::Origin;
use waymesh_proto::mailbox::Item;

use crate::outbox::Outbox;

#[derive(Debug)]
struct Peer {
    outbox: Outbox,
    welcome: Option<Utf8Bytes>,
    /// Where it has reached the registry, once it has logged in.
    origin: Option<Origin>,
}

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<ConnId, Peer>);

impl Peers {
    pub(super) fn insert(&mut self, conn: ConnId, outbox: Outbox) {
        let peer = Peer {
            outbox,
            welcome: None,
            origin: None,
        };
        self.0.insert(conn, peer);
    }

    /// Closes the connection once what waits is sent.
    pub(super) fn remove(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }

    /// Closes all of them.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps what is to be sent once the login is granted, and the origin that it names.
    pub(super) fn prepare_welcome(&mut self, conn: ConnId, welcome: Utf8Bytes, origin: Origin) {
        if let Some(peer) = self.0.get_mut(&conn) {
            peer.origin = Some(origin);
            peer.welcome = Some(welcome);
        }
    }

    pub(super) fn take_welcome(&mut self, conn: ConnId) -> Option<Utf8Bytes> {
        self.0.get_mut(&conn)?.welcome.take()
    }

    /// Where a connection has reached the registry; `None` before its login.
    pub(super) fn origin(&self, conn: ConnId) -> Option<&Origin> {
        self.0.get(&conn)?.origin.as_ref()
    }

    pub(super) fn has_ample_room(&self, conn: ConnId) -> bool {
        let peer = self.0.get(&conn);
        peer.is_some_and(|peer| !peer.outbox.is_over_half_full())
    }

    pub(super) fn has_room_to_forward(&self, conn: ConnId, item: &Item) -> bool {
        let peer = self.0.get(&conn);
        peer.is_some_and(|peer| peer.outbox.has_room_to_forward(item))
    }

    pub(super) fn await_room(&self, conn: ConnId) -> bool {
        let peer = self.0.get(&conn);
        peer.is_some_and(|peer| peer.outbox.await_room())
    }

    /// Queues something; a connection that does not read is cut off, and gone
    /// when this fails.
    pub(super) fn queue<E>(
        &mut self,
        conn: ConnId,
        send: impl FnOnce(&Outbox) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(peer) = self.0.get(&conn) else {
            return Ok(());
        };
        let queued = send(&peer.outbox);
        if queued.is_err()
            && let Some(peer) = self.0.remove(&conn)
        {
            peer.outbox.cut_off();
        }
        queued
    }
}
