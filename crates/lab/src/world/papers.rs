//! Who is a member, as papers say: certificates, clocks, revocations and
//! sealing keys. It stands in for trust: a text is good if the world issued it.
//!
//! A certificate reads `m.HOST.ISSUED.EXPIRES.RENEW`, maybe followed by an
//! extension `~x.UNTIL`; a sealing statement `s.HOST.GENERATION`, a revocation
//! `r.HOST`. Times are Unix milliseconds by the true clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use waymesh_core::app::Member;
use waymesh_proto::error::Code;
use waymesh_proto::ids::{KeyId, Role};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::membership::{Certificate, Revocation, SealingStatement};

use super::host::{id_of, name_of};

/// When every world begins, Unix time in milliseconds.
const UNIX_BEGINNING_MS: u64 = 1_900_000_000_000;

/// How long a registry lets a certificate live on, milliseconds: as long as the real one.
const EXTENDED_MS: u64 = waymesh_proto::limits::CERTIFICATE_LIFE_MS;

/// When a host's certificate ends, and how far its clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// When its certificate ends for everybody with a good clock, leeway included.
    pub ends: Option<Duration>,
    /// Whether the registry may extend it.
    pub is_renewable: bool,
    /// How far the clock of the host is ahead, milliseconds.
    pub skew_ms: i64,
}

impl Term {
    /// A certificate that outlives every schedule, and a good clock.
    pub const LONG: Self = Self {
        ends: None,
        is_renewable: true,
        skew_ms: 0,
    };

    /// Whether the clock is further off than peers put up with.
    pub const fn is_off(&self) -> bool {
        self.skew_ms.unsigned_abs() > CLOCK_LEEWAY_MS
    }

    /// Whether the membership ends for good within the schedule.
    pub const fn is_final(&self) -> bool {
        self.ends.is_some() && !self.is_renewable
    }
}

/// What a certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) host: usize,
    issued_ms: u64,
    pub(super) expires_ms: u64,
    renew_until_ms: u64,
}

/// All papers of a world.
#[derive(Debug)]
pub struct Papers {
    start: Instant,
    terms: Vec<Term>,
    roles: Vec<Vec<Role>>,
    issued: BTreeSet<String>,
    revoked: BTreeSet<usize>,
}

impl Papers {
    pub(super) fn new(start: Instant, terms: Vec<Term>, roles: Vec<Vec<Role>>) -> Self {
        Self {
            start,
            terms,
            roles,
            issued: BTreeSet::new(),
            revoked: BTreeSet::new(),
        }
    }

    /// The true time, Unix milliseconds.
    pub(super) fn unix_ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        UNIX_BEGINNING_MS + u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// What the clock of a host shows.
    pub(super) fn clock_ms(&self, now: Instant, host: usize) -> u64 {
        self.unix_ms(now)
            .saturating_add_signed(self.terms[host].skew_ms)
    }

    pub(super) fn roles(&self, host: usize) -> &[Role] {
        &self.roles[host]
    }

    /// The authority makes a member of a host.
    pub(super) fn issue(&mut self, host: usize) -> Certificate {
        const DAY_MS: u64 = 24 * 3_600_000;
        let term = self.terms[host];
        let ends_ms =
            |after: Duration| UNIX_BEGINNING_MS + after.as_millis() as u64 - CLOCK_LEEWAY_MS;
        let expires_ms = term.ends.map_or(UNIX_BEGINNING_MS + 7 * DAY_MS, ends_ms);
        let renew_ms = if term.is_renewable {
            UNIX_BEGINNING_MS + 90 * DAY_MS
        } else {
            expires_ms
        };
        let issued_ms = UNIX_BEGINNING_MS - DAY_MS;
        let text = format!("m.{host}.{issued_ms}.{expires_ms}.{renew_ms}");
        self.issued.insert(text.clone());
        text.parse()
            .expect("letters, digits and dots are a certificate")
    }

    /// The registry lets a certificate live on; `None` when it may not, or need not.
    pub(super) fn extend(&self, now: Instant, certificate: &Certificate) -> Option<Certificate> {
        let claims = self.read(certificate).ok()?;
        let until = (self.unix_ms(now) + EXTENDED_MS).min(claims.renew_until_ms);
        let base = certificate.as_str().split('~').next()?;
        let is_longer = until > claims.expires_ms;
        is_longer
            .then(|| format!("{base}~x.{until}").parse().ok())
            .flatten()
    }

    /// What a certificate says, if the world issued it.
    pub(super) fn read(&self, certificate: &Certificate) -> Result<Claims, Code> {
        let mut parts = certificate.as_str().split('~');
        let base = parts.next().unwrap_or_default();
        if !self.issued.contains(base) {
            return Err(Code::BadCertificate);
        }
        let mut numbers = base.split('.').skip(1).map(str::parse::<u64>);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
        let (host, issued_ms, expires_ms, renew_until_ms) = (next(), next(), next(), next());
        let until = parts.next().and_then(|x| x.strip_prefix("x."));
        let until = until.and_then(|x| x.parse::<u64>().ok());
        Ok(Claims {
            host: host as usize,
            issued_ms,
            expires_ms: until.unwrap_or(0).max(expires_ms),
            renew_until_ms,
        })
    }

    /// What a certificate proves at the moment that a clock shows.
    pub(super) fn verify(&self, certificate: &Certificate, clock_ms: u64) -> Result<Claims, Code> {
        let claims = self.read(certificate)?;
        if claims.issued_ms > clock_ms + CLOCK_LEEWAY_MS {
            return Err(Code::ClockSkew);
        }
        if claims.expires_ms + CLOCK_LEEWAY_MS <= clock_ms {
            return Err(Code::CertificateExpired);
        }
        Ok(claims)
    }

    /// When a membership ends by the clock of a host, or by the true one.
    pub(super) fn ends(&self, now: Instant, claims: &Claims, clock_ms: u64) -> Instant {
        let left = (claims.expires_ms + CLOCK_LEEWAY_MS).saturating_sub(clock_ms);
        now + Duration::from_millis(left)
    }

    /// A member as core knows it.
    pub(super) fn member(&self, now: Instant, claims: &Claims, clock_ms: u64) -> Member {
        Member {
            name: name_of(claims.host),
            id: id_of(claims.host),
            roles: self.roles[claims.host].clone(),
            expires: self.ends(now, claims, clock_ms),
        }
    }

    /// The authority states that a host is a member no more.
    pub(super) fn revoke(&mut self, host: usize) -> Revocation {
        self.revoked.insert(host);
        revocation(host)
    }

    /// Whom a revocation is about, if the authority made it.
    pub(super) fn target(&self, revocation: &Revocation) -> Option<usize> {
        let host = revocation.as_str().strip_prefix("r.")?.parse().ok()?;
        self.revoked.contains(&host).then_some(host)
    }
}

/// The statement that a host is revoked.
pub(super) fn revocation(host: usize) -> Revocation {
    format!("r.{host}")
        .parse()
        .expect("letters, digits and dots are a token")
}

/// The key that messages to a host are sealed with.
pub(super) fn sealing_key(host: usize, generation: u32) -> KeyId {
    let mut bytes = [0; 16];
    bytes[0] = host as u8;
    bytes[12..].copy_from_slice(&generation.to_be_bytes());
    KeyId::from_bytes(bytes)
}

/// A host's statement of that key.
pub(super) fn sealing_statement(host: usize, generation: u32) -> SealingStatement {
    let text = format!("s.{host}.{generation}");
    text.parse().expect("letters, digits and dots are a token")
}

/// The key of a statement, if it is the host's.
pub(super) fn stated_key(statement: &SealingStatement, of: usize) -> Option<KeyId> {
    let mut parts = statement.as_str().strip_prefix("s.")?.split('.');
    let host: usize = parts.next()?.parse().ok()?;
    let generation = parts.next()?.parse().ok()?;
    (host == of).then(|| sealing_key(host, generation))
}
