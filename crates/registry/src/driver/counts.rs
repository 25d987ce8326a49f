//! Which counter each effect of the rules moves.

use waymesh_core::registry::{CloseReason, Gone, Write};
use waymesh_proto::control::{PostedState, ServerMessage};

use crate::metrics::Metrics;

pub(super) fn close(metrics: &Metrics, reason: CloseReason) {
    let counter = match reason {
        CloseReason::Refused => &metrics.closed_refused,
        CloseReason::LoginTimeout => &metrics.closed_login_timeout,
        CloseReason::JoinTimeout => &metrics.closed_join_timeout,
        CloseReason::Replaced => &metrics.closed_replaced,
        CloseReason::Silent => &metrics.closed_silent,
        CloseReason::Abuse => &metrics.closed_abuse,
        CloseReason::Expired => &metrics.closed_expired,
        CloseReason::Revoked => &metrics.closed_revoked,
    };
    counter.add();
}

pub(super) fn message(metrics: &Metrics, message: &ServerMessage) {
    match message {
        ServerMessage::Signal { .. } => metrics.signals_relayed.add(),
        ServerMessage::Undeliverable { .. } => metrics.signals_undeliverable.add(),
        ServerMessage::Error { .. } => metrics.messages_refused.add(),
        ServerMessage::Posted { items } => {
            for posted in items {
                match posted.state {
                    PostedState::Stored => metrics.items_stored.add(),
                    PostedState::Forwarded => metrics.items_forwarded.add(),
                    PostedState::Refused { .. } => metrics.items_refused.add(),
                }
            }
        }
        _ => {}
    }
}

pub(super) fn writes(metrics: &Metrics, writes: &[Write]) {
    for write in writes {
        let Write::ForgetItem { why, .. } = write else {
            continue;
        };
        let counter = match why {
            Gone::Taken => &metrics.items_taken,
            Gone::Refused => &metrics.items_turned_away,
            Gone::Expired => &metrics.items_expired,
            Gone::Withdrawn => &metrics.items_withdrawn,
            Gone::Replaced => &metrics.items_replaced,
            Gone::Revoked => &metrics.items_revoked,
            Gone::Damaged => &metrics.items_damaged,
        };
        counter.add();
    }
}
