//! What the link counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident;)*) => {
        /// What the link has done and dropped, by reason; shared with the task.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])* pub(super) $field: Counter,)*
        }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[doc = $doc])* pub $field: u64,)*
        }

        impl Counters {
            /// The counters now.
            pub(crate) fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($field: self.$field.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

counters! {
    /// Logins that succeeded.
    logins;
    /// Attempts to connect, join or log in that failed, and are made again.
    failed_attempts;
    /// Commands dropped because the registry was away; core asks again after it is back.
    commands_offline;
    /// Records dropped because certificate, sealing key or keys of old do not hold, or who was revoked.
    records_distrusted;
    /// Introductions dropped because the registry made more than a small mesh needs: the earliest, or one that is too long.
    introductions_dropped;
    /// Own signals that could not be signed: an answer without its offer, or too large.
    signals_unsigned;
    /// Signals dropped because their signature or certificate does not hold.
    signals_forged;
    /// Signals dropped because they were issued too long ago or in the future.
    signals_stale;
    /// Answers dropped because they did not carry the hash of the offer.
    signals_unasked;
    /// Signals dropped because they were malformed, or for another agent or mesh.
    signals_misdirected;
    /// Signals dropped because their sender was revoked, or has other keys than before.
    signals_distrusted;
    /// Frames that were sealed for a peer's mailbox.
    items_sealed;
    /// Frames that could not be sealed: no key that holds, or too large.
    items_unsealed;
    /// Items of the mailbox that were opened and given to core.
    items_opened;
    /// Items of the mailbox that could not be opened, or not by their sender.
    items_refused;
    /// Items refused because a key that their sender had given up signed them, as a life that was not heard of under it.
    items_former_key;
    /// Items that the registry was not told of, because too many waited for their marks or to be told.
    items_unsettled;
    /// Revocations that the mesh has not signed.
    revocations_forged;
    /// Extensions of the own certificate that do not hold.
    extensions_refused;
    /// Messages of this node that the registry refused, or that could not be sent.
    messages_refused;
    /// Messages of the registry of a type that this version does not know.
    messages_unknown;
}
