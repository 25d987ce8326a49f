//! One allocation: a relayed address, and whom it is open to (RFC 8656 §3.2).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::authenticate::Signer;
use super::limits::{CHANNEL_LIFETIME, Limits, PERMISSION_LIFETIME};
use super::members::MemberIndex;
use super::{Ends, Family};
use crate::turn::message::{TransactionId, code};

/// An allocation by number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A relayed address and what belongs to it.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) ends: Ends,
    pub(super) member: MemberIndex,
    /// Who made it, and the key, which need not be derived anew for every request.
    pub(super) signer: Signer,
    /// The request that made it: when it comes again, the answer was lost.
    pub(super) transaction: TransactionId,
    pub(super) lifetime: Duration,
    pub(super) family: Family,
    /// `None` while the program opens the socket.
    pub(super) relayed: Option<SocketAddr>,
    pub(super) expires: Instant,
    /// The earliest of its entries among the server's deadlines.
    pub(super) deadline: Instant,
    /// When the client was heard last.
    pub(super) heard: Instant,
    permissions: HashMap<IpAddr, Instant>,
    channels: HashMap<u16, Channel>,
    numbers: HashMap<SocketAddr, u16>,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    peer: SocketAddr,
    until: Instant,
}

/// What an allocation is made of.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) ends: Ends,
    pub(super) member: MemberIndex,
    pub(super) signer: Signer,
    pub(super) transaction: TransactionId,
    pub(super) lifetime: Duration,
    pub(super) family: Family,
}

impl Allocation {
    pub(super) fn new(beginning: Beginning, now: Instant) -> Self {
        Self {
            ends: beginning.ends,
            member: beginning.member,
            signer: beginning.signer,
            transaction: beginning.transaction,
            lifetime: beginning.lifetime,
            family: beginning.family,
            relayed: None,
            expires: now + beginning.lifetime,
            deadline: now + beginning.lifetime,
            heard: now,
            permissions: HashMap::new(),
            channels: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Lets peers of these addresses in, all or none.
    ///
    /// # Errors
    /// 508 past [`Limits::permissions`].
    pub(super) fn permit(
        &mut self,
        now: Instant,
        peers: &[IpAddr],
        limits: &Limits,
    ) -> Result<(), u16> {
        let new = |of: &HashMap<IpAddr, Instant>| {
            let mut new: Vec<_> = peers.iter().filter(|ip| !of.contains_key(*ip)).collect();
            new.sort_unstable();
            new.dedup();
            new.len()
        };
        if self.permissions.len() + new(&self.permissions) > limits.permissions {
            self.permissions.retain(|_, until| *until > now);
            if self.permissions.len() + new(&self.permissions) > limits.permissions {
                return Err(code::INSUFFICIENT_CAPACITY);
            }
        }
        for peer in peers {
            self.permissions.insert(*peer, now + PERMISSION_LIFETIME);
        }
        Ok(())
    }

    pub(super) fn permits(&self, now: Instant, peer: IpAddr) -> bool {
        self.permissions
            .get(&peer)
            .is_some_and(|until| *until > now)
    }

    /// Binds a channel or prolongs it (RFC 8656 §12.2); a permission comes with it.
    ///
    /// # Errors
    /// 400 when the number is another peer's or the peer has another number,
    /// 508 past [`Limits::channels`] or [`Limits::permissions`].
    pub(super) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
        limits: &Limits,
    ) -> Result<(), u16> {
        let another_peer = self.peer_of(now, number).is_some_and(|of| of != peer);
        let another_number = self.number_of(now, peer).is_some_and(|of| of != number);
        if another_peer || another_number {
            return Err(code::BAD_REQUEST);
        }
        if self.channels.len() >= limits.channels && !self.channels.contains_key(&number) {
            self.forget_channels(now);
        }
        if self.channels.len() >= limits.channels && !self.channels.contains_key(&number) {
            return Err(code::INSUFFICIENT_CAPACITY);
        }
        self.permit(now, &[peer.ip()], limits)?;
        // What is over may be in the way by number and by peer.
        if let Some(over) = self.channels.remove(&number) {
            self.numbers.remove(&over.peer);
        }
        if let Some(over) = self.numbers.insert(peer, number) {
            self.channels.remove(&over);
        }
        let until = now + CHANNEL_LIFETIME;
        self.channels.insert(number, Channel { peer, until });
        Ok(())
    }

    fn forget_channels(&mut self, now: Instant) {
        self.channels.retain(|_, channel| channel.until > now);
        self.numbers
            .retain(|_, number| self.channels.contains_key(number));
    }

    /// The peer of a channel.
    pub(super) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        let channel = self.channels.get(&number)?;
        (channel.until > now).then_some(channel.peer)
    }

    /// The channel of a peer.
    pub(super) fn number_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let number = *self.numbers.get(&peer)?;
        (self.channels.get(&number)?.until > now).then_some(number)
    }
}
