//! Who lived when, and who was missing from the registry when.

use std::time::{Duration, Instant};

/// One life of one host's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// The host.
    pub host: usize,
    /// Which of its lives, from 1.
    pub number: u32,
}

/// How long before a call its peer's earlier life may have ended: the caller's
/// node may find out only when it uses the link that it still has.
const END_HINDSIGHT: Duration = Duration::from_secs(30);

/// How long before a call its peer may have come back to the registry.
const ABSENCE_HINDSIGHT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Default)]
struct Host {
    number: u32,
    alive: bool,
    began: Vec<Instant>,
    last_end: Option<Instant>,
    last_absent: Option<Instant>,
    registered: bool,
    registered_at: Option<Instant>,
    /// Whether this life has been registered.
    was_registered: bool,
}

/// The lives of all hosts.
#[derive(Debug)]
pub struct Lives {
    hosts: Vec<Host>,
    well_since: Option<Instant>,
}

impl Lives {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            hosts: vec![Host::default(); hosts],
            well_since: None,
        }
    }

    /// From now on nothing goes wrong any more.
    pub fn note_well(&mut self, now: Instant) {
        self.well_since = Some(now);
    }

    /// Since when nothing goes wrong any more.
    pub const fn well_since(&self) -> Option<Instant> {
        self.well_since
    }

    /// A node was started.
    pub fn begin(&mut self, now: Instant, host: usize) -> Life {
        let lived = &mut self.hosts[host];
        lived.number += 1;
        lived.alive = true;
        lived.was_registered = false;
        lived.began.push(now);
        Life {
            host,
            number: lived.number,
        }
    }

    /// A node died or stopped.
    pub fn end(&mut self, now: Instant, host: usize) {
        let lived = &mut self.hosts[host];
        lived.alive = false;
        lived.last_end = Some(now);
        self.set_registered(now, host, false);
    }

    /// The node's session at the registry began or ended.
    pub fn set_registered(&mut self, now: Instant, host: usize, registered: bool) {
        let lived = &mut self.hosts[host];
        if lived.was_registered {
            lived.last_absent = Some(now);
        }
        lived.registered = registered;
        lived.registered_at = registered.then_some(now);
        lived.was_registered |= registered;
    }

    /// Since when the host's node is connected to the registry without a break.
    pub fn registered_since(&self, host: usize) -> Option<Instant> {
        self.hosts[host].registered_at
    }

    /// Somebody was told that the host is not connected to the registry.
    pub fn note_absent(&mut self, now: Instant, host: usize) {
        self.hosts[host].last_absent = Some(now);
    }

    /// Whether this very life goes on.
    pub fn is_alive(&self, life: Life) -> bool {
        let lived = &self.hosts[life.host];
        lived.alive && lived.number == life.number
    }

    /// The host's present life.
    pub fn current(&self, host: usize) -> Option<Life> {
        let lived = &self.hosts[host];
        lived.alive.then_some(Life {
            host,
            number: lived.number,
        })
    }

    /// When a life began.
    pub fn began(&self, life: Life) -> Option<Instant> {
        self.hosts[life.host]
            .began
            .get(life.number as usize - 1)
            .copied()
    }

    /// Whether the host's node ended, or was missing at the registry, so
    /// shortly before `since` that somebody may have learnt of it after.
    pub fn may_seem_lost(&self, host: usize, since: Instant) -> bool {
        let lived = &self.hosts[host];
        let recent = |at: Option<Instant>, most| at.is_some_and(|at| at + most >= since);
        !lived.registered
            || recent(lived.last_end, END_HINDSIGHT)
            || recent(lived.last_absent, ABSENCE_HINDSIGHT)
    }

    /// How many lives there have been.
    pub fn count(&self) -> u64 {
        self.hosts.iter().map(|host| host.began.len() as u64).sum()
    }
}
