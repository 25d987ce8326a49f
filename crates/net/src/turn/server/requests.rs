//! What members ask for (RFC 8656 §7–§10, §12).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::allocation::{Allocation, Beginning};
use super::answers::unknown_attributes;
use super::authenticate::Signer;
use super::members::MemberIndex;
use super::policy::Verdict;
use super::{AllocationId, Ends, Family, NoRelay, Now, PortWish, Server, ServerEvent};
use crate::turn::framing::CHANNELS;
use crate::turn::message::{Class, Message, Method, Writer, code, kind};

/// The attributes that must be understood, and are. DONT-FRAGMENT is no news:
/// sockets do not fragment here.
const KNOWN: &[u16] = &[
    kind::USERNAME,
    kind::REALM,
    kind::NONCE,
    kind::MESSAGE_INTEGRITY,
    kind::MESSAGE_INTEGRITY_SHA256,
    kind::PASSWORD_ALGORITHM,
    kind::LIFETIME,
    kind::REQUESTED_TRANSPORT,
    kind::REQUESTED_ADDRESS_FAMILY,
    kind::EVEN_PORT,
    kind::RESERVATION_TOKEN,
    kind::DONT_FRAGMENT,
    kind::XOR_PEER_ADDRESS,
    kind::CHANNEL_NUMBER,
    kind::DATA,
];

/// UDP in REQUESTED-TRANSPORT.
const PROTOCOL_UDP: u8 = 17;

/// "Reserve the next port" in EVEN-PORT.
const RESERVE: u8 = 0x80;

/// A member's request.
struct Asked<'m, 'a> {
    now: Now,
    ends: Ends,
    message: &'m Message<'a>,
    signer: Signer,
}

impl Server {
    pub(super) fn handle_request(
        &mut self,
        now: Now,
        ends: &Ends,
        method: Method,
        message: &Message<'_>,
    ) {
        let Some(signer) = self.authenticate(now, ends, message) else {
            return;
        };
        let asked = Asked {
            now,
            ends: *ends,
            message,
            signer,
        };
        let member = self.members.index(&asked.signer.user.member, now.instant);
        if !self.members.may_ask(member, now.instant, &self.limits) {
            self.counters.dropped_rate += 1;
            return;
        }
        if let Some(unknown) = unknown_attributes(message, KNOWN) {
            self.counters.refused_other += 1;
            let mut writer = Writer::error(message, code::UNKNOWN_ATTRIBUTE);
            writer.put(kind::UNKNOWN_ATTRIBUTES, &unknown);
            return self.answer(*ends, asked.signer.sign(writer));
        }
        let outcome = match method {
            Method::Allocate => self.allocate(&asked),
            Method::Refresh => self.refresh(&asked),
            Method::CreatePermission => self.create_permission(&asked),
            Method::ChannelBind => self.channel_bind(&asked),
            Method::Binding | Method::Send | Method::Data => Err(code::BAD_REQUEST),
        };
        if let Err(code) = outcome {
            self.refuse(ends, message, &asked.signer, code);
        }
    }

    fn allocate(&mut self, asked: &Asked<'_, '_>) -> Result<(), u16> {
        if let Some(&id) = self.by_client.get(&asked.ends) {
            return self.allocate_again(asked, id);
        }
        let (family, port) = wishes(asked.message)?;
        let member = self
            .members
            .index(&asked.signer.user.member, asked.now.instant);
        self.make_room(asked.now, member)?;
        // Zero ends an allocation, and there is none: the default (RFC 8656 §7.2).
        let wanted = wanted_lifetime(asked.message).filter(|wanted| !wanted.is_zero());
        let lifetime = self.lifetime(asked, wanted);
        let beginning = Beginning {
            ends: asked.ends,
            member,
            signer: asked.signer.clone(),
            transaction: asked.message.transaction(),
            lifetime,
            family,
        };
        let allocation = Allocation::new(beginning, asked.now.instant);
        let expires = allocation.expires;
        let id = self.allocations.insert(allocation);
        self.by_client.insert(asked.ends, id);
        self.members.add(member, id);
        self.wake_at(id, expires);
        self.events.push_back(ServerEvent::Open {
            allocation: id,
            reached: asked.ends.local.ip(),
            family,
            port,
        });
        Ok(())
    }

    /// The same request once more gets the same answer; another one is a mistake.
    fn allocate_again(&mut self, asked: &Asked<'_, '_>, id: AllocationId) -> Result<(), u16> {
        let same = |a: &&Allocation| a.transaction == asked.message.transaction();
        match self.allocations.get(id).filter(same) {
            Some(allocation) if allocation.relayed.is_some() => self.answer_allocated(id),
            Some(_) => {}
            None => return Err(code::ALLOCATION_MISMATCH),
        }
        Ok(())
    }

    /// One more allocation for a member, and for the server.
    fn make_room(&mut self, now: Now, member: MemberIndex) -> Result<(), u16> {
        let theirs = self.members.allocations(member);
        if theirs.len() >= self.limits.allocations_per_member {
            let heard = |id: &AllocationId| self.allocations.get(*id).map(|a| a.heard);
            let silent = theirs.iter().copied().min_by_key(heard);
            let replaced = silent.filter(|id| {
                heard(id).is_none_or(|at| {
                    now.instant.saturating_duration_since(at) >= self.limits.replace_silent
                })
            });
            let Some(id) = replaced else {
                return Err(code::ALLOCATION_QUOTA_REACHED);
            };
            self.counters.allocations_replaced += 1;
            self.give_up(id);
        }
        if self.allocations.len() >= self.limits.allocations {
            return Err(code::INSUFFICIENT_CAPACITY);
        }
        Ok(())
    }

    /// What is asked for, within the limits and the life of the credentials.
    fn lifetime(&self, asked: &Asked<'_, '_>, wanted: Option<Duration>) -> Duration {
        let wanted = wanted.unwrap_or(self.limits.lifetime);
        let of_credentials = asked.signer.user.expires.saturating_sub(asked.now.unix);
        let whole = Duration::from_secs(of_credentials.as_secs()).max(SHORTEST_LIFETIME);
        match wanted {
            Duration::ZERO => wanted,
            _ => wanted
                .max(self.limits.lifetime)
                .min(self.limits.lifetime_max)
                .min(whole),
        }
    }

    pub(super) fn finish_allocation(&mut self, now: Now, id: AllocationId, relayed: SocketAddr) {
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        allocation.relayed = Some(relayed);
        allocation.heard = now.instant;
        self.by_relay.insert(relayed, id);
        self.policy.add_own(relayed.ip());
        self.counters.allocations_made += 1;
        self.answer_allocated(id);
    }

    fn answer_allocated(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.get(id) else {
            return;
        };
        let Some(relayed) = allocation.relayed else {
            return;
        };
        let mut writer = Writer::new(Class::Success, Method::Allocate, allocation.transaction);
        writer
            .put_xor_address(kind::XOR_RELAYED_ADDRESS, relayed)
            .put_xor_address(kind::XOR_MAPPED_ADDRESS, allocation.ends.remote)
            .put_number(kind::LIFETIME, seconds(allocation.lifetime));
        let (to, bytes) = (allocation.ends, allocation.signer.sign(writer));
        self.answer(to, bytes);
    }

    pub(super) fn refuse_allocation(&mut self, id: AllocationId, why: NoRelay) {
        let code = match why {
            NoRelay::Family => code::ADDRESS_FAMILY_NOT_SUPPORTED,
            NoRelay::Capacity => code::INSUFFICIENT_CAPACITY,
        };
        let Some(allocation) = self.allocations.get(id) else {
            return;
        };
        let writer = Writer::error_to(Method::Allocate, allocation.transaction, code);
        let (to, bytes) = (allocation.ends, allocation.signer.sign(writer));
        self.count_refusal(code);
        self.answer(to, bytes);
        self.free(id);
    }

    /// The allocation of a request's client, if it is the member's own.
    fn own_allocation(&mut self, asked: &Asked<'_, '_>) -> Result<AllocationId, u16> {
        let id = self.by_client.get(&asked.ends).copied();
        let id = id.ok_or(code::ALLOCATION_MISMATCH)?;
        let allocation = self
            .allocations
            .get_mut(id)
            .ok_or(code::ALLOCATION_MISMATCH)?;
        if allocation.expires <= asked.now.instant || allocation.relayed.is_none() {
            return Err(code::ALLOCATION_MISMATCH);
        }
        // Newer credentials of the same member will do (RFC 8656 §5 asks for the
        // same user name, but here it has the time in it).
        if allocation.signer.user.member != asked.signer.user.member {
            return Err(code::WRONG_CREDENTIALS);
        }
        allocation.heard = asked.now.instant;
        Ok(id)
    }

    fn refresh(&mut self, asked: &Asked<'_, '_>) -> Result<(), u16> {
        let id = self.own_allocation(asked)?;
        let lifetime = self.lifetime(asked, wanted_lifetime(asked.message));
        if let Some(wanted) = requested_family(asked.message)?
            && self.allocations.get(id).is_some_and(|a| a.family != wanted)
        {
            return Err(code::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        if lifetime.is_zero() {
            self.free(id);
        } else if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.expires = asked.now.instant + lifetime;
            // The key is at hand next time.
            allocation.signer = asked.signer.clone();
            if allocation.expires < allocation.deadline {
                let expires = allocation.expires;
                self.wake_at(id, expires);
            }
        }
        let mut writer = Writer::success(asked.message);
        writer.put_number(kind::LIFETIME, seconds(lifetime));
        self.answer(asked.ends, asked.signer.sign(writer));
        Ok(())
    }

    fn create_permission(&mut self, asked: &Asked<'_, '_>) -> Result<(), u16> {
        let id = self.own_allocation(asked)?;
        let mut peers = Vec::new();
        for peer in asked.message.xor_addresses(kind::XOR_PEER_ADDRESS) {
            let peer = peer.ok_or(code::BAD_REQUEST)?;
            peers.push(self.check_peer(id, peer.ip())?);
        }
        if peers.is_empty() {
            return Err(code::BAD_REQUEST);
        }
        let allocation = self
            .allocations
            .get_mut(id)
            .ok_or(code::ALLOCATION_MISMATCH)?;
        allocation.permit(asked.now.instant, &peers, &self.limits)?;
        self.succeed(asked);
        Ok(())
    }

    fn channel_bind(&mut self, asked: &Asked<'_, '_>) -> Result<(), u16> {
        let id = self.own_allocation(asked)?;
        let number = asked.message.number(kind::CHANNEL_NUMBER);
        let peer = asked.message.xor_address(kind::XOR_PEER_ADDRESS);
        let (Some(number), Some(peer)) = (number, peer) else {
            return Err(code::BAD_REQUEST);
        };
        // The lower half is reserved (RFC 8656 §18.1).
        let number = (number >> 16) as u16;
        if !CHANNELS.contains(&number) || peer.port() == 0 {
            return Err(code::BAD_REQUEST);
        }
        let peer = SocketAddr::new(self.check_peer(id, peer.ip())?, peer.port());
        let allocation = self
            .allocations
            .get_mut(id)
            .ok_or(code::ALLOCATION_MISMATCH)?;
        allocation.bind(asked.now.instant, number, peer, &self.limits)?;
        self.succeed(asked);
        Ok(())
    }

    /// The address of a peer in the form that it is known by, if data may go there.
    fn check_peer(&self, id: AllocationId, ip: IpAddr) -> Result<IpAddr, u16> {
        let ip = ip.to_canonical();
        if self.policy.judge(ip) == Verdict::Denied {
            return Err(code::FORBIDDEN);
        }
        if self
            .allocations
            .get(id)
            .is_some_and(|a| a.family != Family::of(ip))
        {
            return Err(code::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        Ok(ip)
    }

    fn succeed(&mut self, asked: &Asked<'_, '_>) {
        let answer = asked.signer.sign(Writer::success(asked.message));
        self.answer(asked.ends, answer);
    }
}

/// No allocation lives shorter: lifetimes are told in whole seconds.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);

/// What LIFETIME says.
fn wanted_lifetime(message: &Message<'_>) -> Option<Duration> {
    let seconds = message.number(kind::LIFETIME)?;
    Some(Duration::from_secs(seconds.into()))
}

fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

/// What an Allocate asks for (RFC 8656 §7.2).
fn wishes(message: &Message<'_>) -> Result<(Family, PortWish), u16> {
    let transport = message
        .find(kind::REQUESTED_TRANSPORT)
        .and_then(<[u8]>::first);
    match transport {
        None => return Err(code::BAD_REQUEST),
        Some(&PROTOCOL_UDP) => {}
        Some(_) => return Err(code::UNSUPPORTED_TRANSPORT),
    }
    let even = message.find(kind::EVEN_PORT);
    match (
        message.has(kind::RESERVATION_TOKEN),
        even.and_then(<[u8]>::first),
    ) {
        (true, Some(_)) => return Err(code::BAD_REQUEST),
        // No port is ever reserved.
        (true, None) => return Err(code::INSUFFICIENT_CAPACITY),
        (false, Some(flags)) if flags & RESERVE != 0 => return Err(code::INSUFFICIENT_CAPACITY),
        (false, _) => {}
    }
    let port = if even.is_some() {
        PortWish::Even
    } else {
        PortWish::Any
    };
    Ok((requested_family(message)?.unwrap_or(Family::V4), port))
}

fn requested_family(message: &Message<'_>) -> Result<Option<Family>, u16> {
    match message
        .find(kind::REQUESTED_ADDRESS_FAMILY)
        .map(<[u8]>::first)
    {
        None => Ok(None),
        Some(Some(1)) => Ok(Some(Family::V4)),
        Some(Some(2)) => Ok(Some(Family::V6)),
        Some(_) => Err(code::ADDRESS_FAMILY_NOT_SUPPORTED),
    }
}
