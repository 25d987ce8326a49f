//! Reading a message in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    AttributeType, Class, HEADER_BYTES, MAGIC_COOKIE, Method, TransactionId, class_and_method,
    fingerprint, kind, padding,
};
use crate::turn::credential::{Integrity, Key};

/// Bytes of an attribute's header.
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// Bytes of a FINGERPRINT with its header.
const FINGERPRINT_BYTES: usize = 8;

/// A message whose lengths and FINGERPRINT, if it has one, are right. Nothing
/// else about it is checked, and nobody's word is behind it before [`Message::verify`].
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

/// Bytes are no STUN message, or a broken one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No header with the magic cookie.
    #[error("no STUN header")]
    Header,
    /// The announced length is not that of the bytes, or is no multiple of 4.
    #[error("the length is wrong")]
    Length,
    /// An attribute passes the end of the message.
    #[error("an attribute passes the end of the message")]
    Attribute,
    /// FINGERPRINT is wrong or not the last attribute.
    #[error("the fingerprint is wrong")]
    Fingerprint,
}

impl<'a> Message<'a> {
    /// Reads exactly one message.
    ///
    /// # Errors
    /// See [`Malformed`]; none of them deserves an answer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Malformed::Header)?;
        if header[0] & 0xc0 != 0 || header[4..8] != MAGIC_COOKIE {
            return Err(Malformed::Header);
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length % 4 != 0 || bytes.len() != HEADER_BYTES + length {
            return Err(Malformed::Length);
        }
        let message = Self { bytes };
        message.check_attributes()?;
        Ok(message)
    }

    fn check_attributes(&self) -> Result<(), Malformed> {
        let mut all = self.raw();
        while let Some((kind, at, value)) = all.next() {
            if kind != kind::FINGERPRINT {
                continue;
            }
            if !all.rest.is_empty() || !self.is_fingerprint(at, value) {
                return Err(Malformed::Fingerprint);
            }
        }
        if all.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Attribute)
        }
    }

    /// FINGERPRINT is the last attribute, so that the header's length already counts it.
    fn is_fingerprint(&self, at: usize, value: &[u8]) -> bool {
        let before = &self.bytes[..at];
        value.len() + ATTRIBUTE_HEADER_BYTES == FINGERPRINT_BYTES && fingerprint(before) == *value
    }

    /// Request, indication or answer.
    pub fn class(&self) -> Class {
        class_and_method(self.first_word()).0
    }

    /// What it is about; `None` for a method that is not of STUN or of TURN over UDP.
    pub fn method(&self) -> Option<Method> {
        Method::of(class_and_method(self.first_word()).1)
    }

    /// The number of the method, known or not.
    pub(super) fn method_number(&self) -> u16 {
        class_and_method(self.first_word()).1
    }

    fn first_word(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// What joins request and answer.
    pub fn transaction(&self) -> TransactionId {
        let id = self.bytes[8..].first_chunk().copied();
        TransactionId::new(id.unwrap_or_default())
    }

    /// The whole message.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn raw(&self) -> Raw<'a> {
        Raw {
            at: HEADER_BYTES,
            rest: &self.bytes[HEADER_BYTES..],
        }
    }

    /// Its attributes in order. After the first MESSAGE-INTEGRITY only
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT follow: others are not
    /// covered by the signature and are left out (RFC 8489 §14.5).
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            raw: self.raw(),
            signed: false,
        }
    }

    /// The value of the first attribute of a type; later ones are ignored (RFC 8489 §14).
    pub fn find(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes()
            .find(|(of, _)| *of == kind)
            .map(|(_, value)| value)
    }

    /// Whether it has an attribute of a type.
    pub fn has(&self, kind: AttributeType) -> bool {
        self.find(kind).is_some()
    }

    /// An attribute that is a text.
    pub fn text(&self, kind: AttributeType) -> Option<&'a str> {
        std::str::from_utf8(self.find(kind)?).ok()
    }

    /// An attribute of 32 bits, as LIFETIME.
    pub fn number(&self, kind: AttributeType) -> Option<u32> {
        self.find(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// An attribute that is an address mixed with the transaction id (RFC 8489 §14.2).
    pub fn xor_address(&self, kind: AttributeType) -> Option<SocketAddr> {
        self.read_xor_address(self.find(kind)?)
    }

    /// All addresses of a type: CreatePermission may name several peers.
    pub fn xor_addresses(
        &self,
        kind: AttributeType,
    ) -> impl Iterator<Item = Option<SocketAddr>> + use<'a> {
        let message = *self;
        self.attributes()
            .filter(move |(of, _)| *of == kind)
            .map(move |(_, value)| message.read_xor_address(value))
    }

    fn read_xor_address(&self, value: &[u8]) -> Option<SocketAddr> {
        let mut mask = [0; 16];
        mask.copy_from_slice(&self.bytes[4..HEADER_BYTES]);
        read_address(value, &mask)
    }

    /// An attribute that is an address in clear, as OTHER-ADDRESS.
    pub fn address(&self, kind: AttributeType) -> Option<SocketAddr> {
        read_address(self.find(kind)?, &[0; 16])
    }

    /// ERROR-CODE: its number and its words, which may be empty.
    pub fn error(&self) -> Option<(u16, &'a str)> {
        let value = self.find(kind::ERROR_CODE)?;
        let (&[_, _, class, number], reason) = value.split_first_chunk()?;
        let code = u16::from(class & 7) * 100 + u16::from(number);
        Some((code, std::str::from_utf8(reason).unwrap_or_default()))
    }

    /// How it is signed; of two signatures the stronger counts.
    pub fn integrity(&self) -> Option<Integrity> {
        if self.has(kind::MESSAGE_INTEGRITY_SHA256) {
            Some(Integrity::Sha256)
        } else if self.has(kind::MESSAGE_INTEGRITY) {
            Some(Integrity::Sha1)
        } else {
            None
        }
    }

    /// Whether its signature, the stronger one of two, was made with this key.
    pub fn verify(&self, key: &Key) -> bool {
        let Some(integrity) = self.integrity() else {
            return false;
        };
        let kind = integrity.attribute();
        let Some((_, at, value)) = self.raw().find(|(of, _, _)| *of == kind) else {
            return false;
        };
        // The length that was signed ends with this attribute (RFC 8489 §14.5).
        let end = at + ATTRIBUTE_HEADER_BYTES + value.len() + padding(value.len());
        let Ok(length) = u16::try_from(end - HEADER_BYTES) else {
            return false;
        };
        let mut head = [self.bytes[0], self.bytes[1], 0, 0];
        head[2..].copy_from_slice(&length.to_be_bytes());
        key.verify(integrity, &[&head, &self.bytes[4..at]], value)
    }
}

/// An address attribute (RFC 8489 §14.1): `0:1 family:1 port:2 address:4 or 16`,
/// port and address mixed with `mask`.
fn read_address(value: &[u8], mask: &[u8; 16]) -> Option<SocketAddr> {
    let (&[_, family, high, low], address) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
    let ip: IpAddr = match (family, address.len()) {
        (1, 4) => {
            let mut ip = [0; 4];
            ip.copy_from_slice(address);
            ip.iter_mut().zip(mask).for_each(|(a, b)| *a ^= b);
            Ipv4Addr::from(ip).into()
        }
        (2, 16) => {
            let mut ip = [0; 16];
            ip.copy_from_slice(address);
            ip.iter_mut().zip(mask).for_each(|(a, b)| *a ^= b);
            Ipv6Addr::from(ip).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Every attribute with its place in the message; stops at one that passes the end.
#[derive(Debug)]
struct Raw<'a> {
    at: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Raw<'a> {
    type Item = (AttributeType, usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[a, b, c, d], after) = self.rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([c, d]));
        let value = after.get(..length)?;
        let rest = after.get(length + padding(length)..)?;
        let at = self.at;
        self.at += self.rest.len() - rest.len();
        self.rest = rest;
        Some((u16::from_be_bytes([a, b]), at, value))
    }
}

/// The attributes of a message that count, in order.
#[derive(Debug)]
pub struct Attributes<'a> {
    raw: Raw<'a>,
    signed: bool,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (AttributeType, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ends = [kind::MESSAGE_INTEGRITY_SHA256, kind::FINGERPRINT];
        for (kind, _, value) in self.raw.by_ref() {
            if self.signed && !ends.contains(&kind) {
                continue;
            }
            self.signed |=
                [kind::MESSAGE_INTEGRITY, kind::MESSAGE_INTEGRITY_SHA256].contains(&kind);
            return Some((kind, value));
        }
        None
    }
}
