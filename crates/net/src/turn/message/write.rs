//! Writing a message.

use std::net::{IpAddr, SocketAddr};

use super::{
    AttributeType, Class, HEADER_BYTES, MAGIC_COOKIE, Message, Method, TransactionId, fingerprint,
    kind, padding, type_of,
};
use crate::turn::credential::{Integrity, Key};

/// Room for what is usual; a longer message grows.
const USUAL_BYTES: usize = 128;

/// A message while it is written; the header's length is always right.
///
/// A message can hold 65,535 bytes of attributes. A value that does not fit is
/// left out; callers bound what they put in, so that this does not happen.
#[derive(Debug, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A message without attributes.
    pub fn new(class: Class, method: Method, transaction: TransactionId) -> Self {
        Self::start(type_of(class, method.number()), transaction)
    }

    /// The good answer to a request.
    pub fn success(request: &Message<'_>) -> Self {
        let kind = type_of(Class::Success, request.method_number());
        Self::start(kind, request.transaction())
    }

    /// The bad answer to a request, with ERROR-CODE and no words: answers to
    /// strangers are to be short.
    pub fn error(request: &Message<'_>, code: u16) -> Self {
        let kind = type_of(Class::Error, request.method_number());
        Self::start(kind, request.transaction()).with_code(code)
    }

    /// The same to a request that is no longer at hand.
    pub fn error_to(method: Method, transaction: TransactionId, code: u16) -> Self {
        Self::new(Class::Error, method, transaction).with_code(code)
    }

    fn with_code(mut self, code: u16) -> Self {
        let [class, number] = [code / 100, code % 100].map(|n| n.min(99) as u8);
        self.put(kind::ERROR_CODE, &[0, 0, class & 7, number]);
        self
    }

    fn start(first_word: u16, transaction: TransactionId) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.extend_from_slice(&first_word.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE);
        bytes.extend_from_slice(transaction.bytes());
        Self { bytes }
    }

    /// Adds an attribute, padded with zeros.
    pub fn put(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        let attributes = self.bytes.len() - HEADER_BYTES + 4 + value.len() + padding(value.len());
        let (Ok(total), Ok(length)) = (u16::try_from(attributes), u16::try_from(value.len()))
        else {
            return self;
        };
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        let padded = self.bytes.len() + padding(value.len());
        self.bytes.resize(padded, 0);
        self.announce(total);
        self
    }

    fn announce(&mut self, attributes: u16) {
        self.bytes[2..4].copy_from_slice(&attributes.to_be_bytes());
    }

    /// Adds an attribute of 32 bits.
    pub fn put_number(&mut self, kind: AttributeType, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds an address mixed with the transaction id (RFC 8489 §14.2).
    pub fn put_xor_address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let mut mask = [0; 16];
        mask.copy_from_slice(&self.bytes[4..HEADER_BYTES]);
        self.put_masked(kind, address, &mask)
    }

    /// Adds an address in clear (RFC 8489 §14.1).
    pub fn put_address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        self.put_masked(kind, address, &[0; 16])
    }

    fn put_masked(&mut self, kind: AttributeType, of: SocketAddr, mask: &[u8; 16]) -> &mut Self {
        let mut value = [0; 20];
        let [high, low] = of.port().to_be_bytes();
        value[2] = high ^ mask[0];
        value[3] = low ^ mask[1];
        let length = match of.ip() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..20].copy_from_slice(&ip.octets());
                20
            }
        };
        for (byte, mask) in value[4..].iter_mut().zip(mask) {
            *byte ^= mask;
        }
        self.put(kind, &value[..length])
    }

    /// Signs what was written so far (RFC 8489 §14.5, §14.6).
    #[must_use]
    pub fn sign(mut self, key: &Key, integrity: Integrity) -> Self {
        let before = self.bytes.len();
        let zeros = [0; 32];
        self.put(integrity.attribute(), &zeros[..integrity.length()]);
        let (text, attribute) = self.bytes.split_at_mut(before);
        if let Some(value) = attribute.get_mut(4..) {
            value.copy_from_slice(&key.sign(integrity, text)[..value.len()]);
        }
        self
    }

    /// The bytes, as they are.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes, closed by a FINGERPRINT (RFC 8489 §14.7).
    pub fn finish_with_fingerprint(mut self) -> Vec<u8> {
        let before = self.bytes.len();
        self.put(kind::FINGERPRINT, &[0; 4]);
        let (text, attribute) = self.bytes.split_at_mut(before);
        if let Some(value) = attribute.get_mut(4..) {
            value.copy_from_slice(&fingerprint(text));
        }
        self.bytes
    }
}
