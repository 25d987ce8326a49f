//! As much of STUN as a behaviour test needs: Binding, CHANGE-REQUEST, XOR-MAPPED-ADDRESS
//! (RFC 8489, RFC 5780), IPv4 only.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

const COOKIE: u32 = 0x2112_a442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const CHANGE_REQUEST: u16 = 0x0003;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Bytes of a header, and of CHANGE-REQUEST and XOR-MAPPED-ADDRESS with their headers.
const HEADER: usize = 20;
const CHANGE_BYTES: usize = 8;
const MAPPED_BYTES: usize = 12;

/// What names a request.
pub(super) type Transaction = [u8; 12];

/// From where the answer is to come (RFC 5780 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Port,
    AddressAndPort,
}

impl Change {
    const fn flags(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Port => 2,
            Self::AddressAndPort => 6,
        }
    }
}

fn header(kind: u16, length: usize, transaction: &Transaction) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend_from_slice(&(length as u16).to_be_bytes());
    message.extend_from_slice(&COOKIE.to_be_bytes());
    message.extend_from_slice(transaction);
    message
}

/// A Binding request.
pub(super) fn request(transaction: &Transaction, change: Change) -> Vec<u8> {
    let mut message = header(REQUEST, CHANGE_BYTES, transaction);
    message.extend_from_slice(&CHANGE_REQUEST.to_be_bytes());
    message.extend_from_slice(&[0, 4, 0, 0, 0, change.flags()]);
    message
}

/// The transaction of a message of this kind.
fn transaction(message: &[u8], kind: u16) -> Option<Transaction> {
    let is_it =
        message.get(..2)? == kind.to_be_bytes() && message.get(4..8)? == COOKIE.to_be_bytes();
    is_it.then_some(message.get(8..HEADER)?.try_into().ok()?)
}

/// Reads a Binding request of this module.
pub(super) fn read_request(message: &[u8]) -> Option<(Transaction, Change)> {
    let transaction = transaction(message, REQUEST)?;
    let flags = *message.get(HEADER + CHANGE_BYTES - 1)?;
    let all = [Change::Nothing, Change::Port, Change::AddressAndPort];
    let change = all.into_iter().find(|change| change.flags() == flags)?;
    Some((transaction, change))
}

/// A Binding success response.
pub(super) fn response(transaction: &Transaction, seen: SocketAddrV4) -> Vec<u8> {
    let mut message = header(SUCCESS, MAPPED_BYTES, transaction);
    message.extend_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
    message.extend_from_slice(&[0, 8, 0, 1]);
    let port = seen.port() ^ (COOKIE >> 16) as u16;
    message.extend_from_slice(&port.to_be_bytes());
    message.extend_from_slice(&(seen.ip().to_bits() ^ COOKIE).to_be_bytes());
    message
}

/// Reads a Binding success response of this module.
pub(super) fn read_response(message: &[u8]) -> Option<(Transaction, SocketAddr)> {
    let transaction = transaction(message, SUCCESS)?;
    let body = message.get(HEADER + 6..HEADER + MAPPED_BYTES)?;
    let port = u16::from_be_bytes([body[0], body[1]]) ^ (COOKIE >> 16) as u16;
    let ip = u32::from_be_bytes([body[2], body[3], body[4], body[5]]) ^ COOKIE;
    Some((transaction, (Ipv4Addr::from_bits(ip), port).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_response_are_read_as_written() {
        for change in [Change::Nothing, Change::Port, Change::AddressAndPort] {
            assert_eq!(
                read_request(&request(&[7; 12], change)),
                Some(([7; 12], change))
            );
        }
        let seen = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 4_000);
        let message = response(&[7; 12], seen);
        assert_eq!(read_response(&message), Some(([7; 12], seen.into())));
        assert_eq!(read_request(&message), None);
        assert_eq!(read_response(b"?"), None);
    }

    #[test]
    fn a_response_is_as_rfc_5769_has_it() {
        // The XOR-MAPPED-ADDRESS of RFC 5769 §2.2: 192.0.2.1, port 32853.
        let seen = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 32_853);
        let message = response(&[0; 12], seen);
        let attribute = [
            0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
        ];
        assert_eq!(message[HEADER..], attribute);
    }
}
