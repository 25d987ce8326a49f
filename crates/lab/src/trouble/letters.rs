//! The requests that all cases make.

use std::time::Duration;

use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Follow, Verb, Wait};
use waymesh_proto::{Class, Priority};

/// How long a message may take that is not to expire: longer than a run.
pub(super) const LONG: Duration = Duration::from_secs(24 * 3_600);

/// A message in order whose every state is told.
pub(super) fn send(to: &Name, payload: Payload, ttl: Duration, wait: Wait) -> Verb {
    Verb::Send {
        to: to.clone(),
        payload,
        class: Class::Control,
        priority: Priority::Normal,
        ttl,
        wait,
        follow: Follow::States,
    }
}
