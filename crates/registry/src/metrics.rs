//! What the registry counts, as Prometheus reads it at `GET /metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::turn::RelayCounters;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows what something else has counted.
    fn follow(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    fn follow(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $field:ident: $type:ident = $name:literal;)*) => {
        /// All metrics of one registry.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $($(#[doc = $doc])* pub(crate) $field: $type,)*
        }

        impl Metrics {
            /// The Prometheus text exposition format, version 0.0.4.
            pub(crate) fn text(&self) -> String {
                let mut text = String::new();
                $(write_metric(&mut text, $name, stringify!($type), concat!($($doc),*), &self.$field.0);)*
                text
            }
        }
    };
}

metrics! {
    /// Control connections now.
    connections: Gauge = "waymesh_registry_connections";
    /// Agents that are logged in now.
    agents_online: Gauge = "waymesh_registry_agents_online";
    /// Logins that were accepted.
    logins: Counter = "waymesh_registry_logins_total";
    /// Connections closed because the login or the connection was refused.
    closed_refused: Counter = "waymesh_registry_closed_refused_total";
    /// Connections closed because no login came in time.
    closed_login_timeout: Counter = "waymesh_registry_closed_login_timeout_total";
    /// Connections closed because no admin has decided on their request to join in time.
    closed_join_timeout: Counter = "waymesh_registry_closed_join_timeout_total";
    /// Connections closed because a newer one speaks for their agent.
    closed_replaced: Counter = "waymesh_registry_closed_replaced_total";
    /// Connections closed because nothing was heard of them.
    closed_silent: Counter = "waymesh_registry_closed_silent_total";
    /// Connections closed because of too many refused messages.
    closed_abuse: Counter = "waymesh_registry_closed_abuse_total";
    /// Connections closed because the member's certificate had ended.
    closed_expired: Counter = "waymesh_registry_closed_expired_total";
    /// Connections closed because the member or its invite was revoked.
    closed_revoked: Counter = "waymesh_registry_closed_revoked_total";
    /// Connections closed because they did not read what was sent to them.
    closed_slow_reader: Counter = "waymesh_registry_closed_slow_reader_total";
    /// HTTP requests refused because a web page may have sent them.
    http_refused: Counter = "waymesh_registry_http_refused_total";
    /// HTTP requests refused because they prove nothing, or not enough.
    proofs_refused: Counter = "waymesh_registry_proofs_refused_total";
    /// HTTP requests refused because they came too often.
    requests_limited: Counter = "waymesh_registry_requests_limited_total";
    /// Connections closed at once because their address has its share.
    connections_refused: Counter = "waymesh_registry_connections_refused_total";
    /// Connections without a TLS handshake.
    tls_failed: Counter = "waymesh_registry_tls_failed_total";
    /// Long-poll sessions now.
    poll_sessions: Gauge = "waymesh_registry_poll_sessions";
    /// Messages that were refused with an error.
    messages_refused: Counter = "waymesh_registry_messages_refused_total";
    /// Signals that were passed on.
    signals_relayed: Counter = "waymesh_registry_signals_relayed_total";
    /// Signals whose receiver was not connected, or far behind with reading.
    signals_undeliverable: Counter = "waymesh_registry_signals_undeliverable_total";
    /// Items in all mailboxes.
    mailbox_items: Gauge = "waymesh_registry_mailbox_items";
    /// Bytes of the items in all mailboxes.
    mailbox_bytes: Gauge = "waymesh_registry_mailbox_bytes";
    /// Items that wait to be written to the disk.
    mailbox_unwritten: Gauge = "waymesh_registry_mailbox_unwritten";
    /// Items that were made durable and whose senders were told.
    items_stored: Counter = "waymesh_registry_items_stored_total";
    /// Items that were handed to a receiver before they were stored, or without.
    items_forwarded: Counter = "waymesh_registry_items_forwarded_total";
    /// Items that were not accepted.
    items_refused: Counter = "waymesh_registry_items_refused_total";
    /// Items that were pushed to a receiver, again or for the first time.
    items_pushed: Counter = "waymesh_registry_items_pushed_total";
    /// Items that left a mailbox because their receiver has them.
    items_taken: Counter = "waymesh_registry_items_taken_total";
    /// Items that left a mailbox because their receiver cannot open or does not want them.
    items_turned_away: Counter = "waymesh_registry_items_turned_away_total";
    /// Items that left a mailbox because their life was over.
    items_expired: Counter = "waymesh_registry_items_expired_total";
    /// Items that left a mailbox because their sender did not need them delivered any more.
    items_withdrawn: Counter = "waymesh_registry_items_withdrawn_total";
    /// Items that left a mailbox because a newer one took their place.
    items_replaced: Counter = "waymesh_registry_items_replaced_total";
    /// Items that left a mailbox because their sender or receiver was revoked.
    items_revoked: Counter = "waymesh_registry_items_revoked_total";
    /// Items that were lost because the disk did not have them any more.
    items_damaged: Counter = "waymesh_registry_items_damaged_total";
    /// Certificates that were extended.
    certificates_extended: Counter = "waymesh_registry_certificates_extended_total";
    /// Batches that could not be written to the database, and items that could not be read.
    storage_failures: Counter = "waymesh_registry_storage_failures_total";
    /// 1 while the STUN and TURN server runs; 0 without one, and after it failed.
    relay_up: Gauge = "waymesh_relay_up";
    /// Relayed addresses now.
    relay_allocations: Gauge = "waymesh_relay_allocations";
    /// Members who have relayed addresses now.
    relay_members: Gauge = "waymesh_relay_members";
    /// TCP and TLS connections that carry TURN now.
    relay_streams: Gauge = "waymesh_relay_streams";
    /// Relayed addresses that were given out.
    relay_allocations_made: Counter = "waymesh_relay_allocations_total";
    /// STUN Binding requests that were answered.
    relay_bindings: Counter = "waymesh_relay_bindings_total";
    /// Datagrams relayed to peers.
    relay_to_peers: Counter = "waymesh_relay_to_peers_total";
    /// Bytes relayed to peers.
    relay_to_peers_bytes: Counter = "waymesh_relay_to_peers_bytes_total";
    /// Datagrams relayed to members.
    relay_to_clients: Counter = "waymesh_relay_to_clients_total";
    /// Bytes relayed to members.
    relay_to_clients_bytes: Counter = "waymesh_relay_to_clients_bytes_total";
    /// TURN requests refused because their credentials are wrong, over, or of nobody any more.
    relay_refused_credentials: Counter = "waymesh_relay_refused_credentials_total";
    /// TURN requests refused because the member has its share.
    relay_refused_quota: Counter = "waymesh_relay_refused_quota_total";
    /// TURN requests refused because the server has no room.
    relay_refused_capacity: Counter = "waymesh_relay_refused_capacity_total";
    /// Peers refused because nothing is relayed to their addresses.
    relay_refused_peers: Counter = "waymesh_relay_refused_peers_total";
    /// TURN requests refused for other reasons.
    relay_refused_other: Counter = "waymesh_relay_refused_other_total";
    /// Dropped because it is no message that a TURN server takes.
    relay_dropped_malformed: Counter = "waymesh_relay_dropped_malformed_total";
    /// Requests dropped because their source has asked too often without credentials.
    relay_dropped_strangers: Counter = "waymesh_relay_dropped_strangers_total";
    /// Data dropped because there is no permission for it.
    relay_dropped_unpermitted: Counter = "waymesh_relay_dropped_unpermitted_total";
    /// Data dropped because it was for this machine, and for no relayed address of it.
    relay_dropped_own: Counter = "waymesh_relay_dropped_own_total";
    /// Data and requests dropped because the member has more relayed, or asks more, than it may.
    relay_dropped_rate: Counter = "waymesh_relay_dropped_rate_total";
    /// Data dropped because the kernel did not take it, or a member reads too slowly.
    relay_dropped_full: Counter = "waymesh_relay_dropped_full_total";
    /// TURN connections closed because there are too many.
    relay_streams_refused: Counter = "waymesh_relay_streams_refused_total";
    /// TURN connections closed because of what they said, or because they asked for no allocation.
    relay_streams_closed: Counter = "waymesh_relay_streams_closed_total";
}

impl Metrics {
    /// Shows what the relay has counted.
    pub(crate) fn follow(&self, counted: &RelayCounters) {
        let RelayCounters { server, sockets } = counted;
        self.relay_allocations.follow(server.allocations);
        self.relay_members.follow(server.members);
        self.relay_streams.follow(sockets.streams);
        self.relay_allocations_made.follow(server.allocations_made);
        self.relay_bindings.follow(server.bindings);
        self.relay_to_peers.follow(server.to_peers);
        self.relay_to_peers_bytes.follow(server.to_peers_bytes);
        self.relay_to_clients.follow(server.to_clients);
        self.relay_to_clients_bytes.follow(server.to_clients_bytes);
        self.relay_refused_credentials
            .follow(server.refused_credentials);
        self.relay_refused_quota.follow(server.refused_quota);
        self.relay_refused_capacity.follow(server.refused_capacity);
        self.relay_refused_peers.follow(server.refused_peers);
        self.relay_refused_other.follow(server.refused_other);
        self.relay_dropped_malformed.follow(server.malformed);
        self.relay_dropped_strangers
            .follow(server.dropped_strangers);
        self.relay_dropped_unpermitted
            .follow(server.dropped_unpermitted);
        self.relay_dropped_own.follow(server.dropped_own);
        self.relay_dropped_rate.follow(server.dropped_rate);
        let full =
            sockets.dropped_kernel_full + sockets.dropped_send_error + sockets.dropped_slow_stream;
        self.relay_dropped_full.follow(full);
        self.relay_streams_refused.follow(sockets.streams_refused);
        self.relay_streams_closed
            .follow(sockets.streams_bad + sockets.streams_idle);
    }
}

fn write_metric(text: &mut String, name: &str, kind: &str, help: &str, value: &AtomicU64) {
    let kind = kind.to_ascii_lowercase();
    let value = value.load(Ordering::Relaxed);
    writeln!(
        text,
        "# HELP {name}{help}\n# TYPE {name} {kind}\n{name} {value}"
    )
    .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_shown_with_its_help_type_and_value() {
        let metrics = Metrics::default();
        metrics.logins.add();
        let expected = "# HELP waymesh_registry_logins_total Logins that were accepted.\n\
            # TYPE waymesh_registry_logins_total counter\n\
            waymesh_registry_logins_total 1\n";
        assert!(metrics.text().contains(expected), "{}", metrics.text());
    }
}
