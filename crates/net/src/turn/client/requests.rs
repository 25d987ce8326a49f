//! What a client asks the server for.

use std::net::SocketAddr;

use super::transaction::{Asked, Delivery, Transaction};
use super::{Client, RelayFamily, State, Via};
use crate::turn::credential::{Integrity, Key};
use crate::turn::message::{Class, TransactionId, Writer, kind};

/// Requests that wait for answers; further ones wait until there is room. Chosen.
pub(super) const REQUESTS_MAX: usize = 32;

/// UDP as REQUESTED-TRANSPORT writes it: a protocol number in the first of four bytes
/// (RFC 8656 §18.8).
pub(super) const REQUESTED_UDP: [u8; 4] = [17, 0, 0, 0];

/// IPv6 as REQUESTED-ADDRESS-FAMILY writes it (RFC 8656 §18.9).
const REQUESTED_IPV6: [u8; 4] = [2, 0, 0, 0];

impl Client {
    /// Asks for the permissions and channels that are wanted.
    pub(super) fn ask_for_peers(&mut self) {
        if !matches!(self.state, State::Allocated(_)) {
            return;
        }
        while self.transactions.len() < REQUESTS_MAX {
            if let Some(ips) = self.peers.poll_permissions() {
                self.ask(Asked::Permissions(ips), 0);
            } else if let Some((number, peer)) = self.peers.poll_channel(self.now) {
                self.ask(Asked::Channel { number, peer }, 0);
            } else {
                return;
            }
        }
    }

    pub(super) fn ask(&mut self, asked: Asked, stale: u8) {
        let id = self.ids.next();
        let (bytes, key) = self.write(id, &asked);
        self.to_server.push_back(bytes.clone());
        let delivery = match self.via {
            Via::Datagrams { .. } => Delivery::Datagrams,
            Via::Stream => Delivery::Stream,
        };
        let mut transaction = Transaction::new(id, asked, bytes, self.now, delivery);
        transaction.key = key;
        transaction.stale = stale;
        transaction.generation = self.auth.generation();
        if let State::Allocating(allocating) = &self.state {
            transaction.end_by(allocating.until);
        }
        self.transactions.add(transaction);
    }

    fn write(&self, id: TransactionId, asked: &Asked) -> (Vec<u8>, Option<Key>) {
        let mut writer = Writer::new(Class::Request, asked.method(), id);
        match asked {
            Asked::Allocate => {
                writer.put(kind::REQUESTED_TRANSPORT, &REQUESTED_UDP);
                if self.family == RelayFamily::V6 {
                    writer.put(kind::REQUESTED_ADDRESS_FAMILY, &REQUESTED_IPV6);
                }
            }
            Asked::Refresh => {}
            Asked::Release(_) => {
                writer.put_number(kind::LIFETIME, 0);
            }
            Asked::Permissions(ips) => {
                for ip in ips {
                    writer.put_xor_address(kind::XOR_PEER_ADDRESS, SocketAddr::new(*ip, 0));
                }
            }
            Asked::Channel { number, peer } => {
                writer
                    .put_number(kind::CHANNEL_NUMBER, u32::from(*number) << 16)
                    .put_xor_address(kind::XOR_PEER_ADDRESS, *peer);
            }
        }
        match self.auth.sign(&mut writer) {
            Some(key) => (writer.sign(&key, Integrity::Sha1).finish(), Some(key)),
            None => (writer.finish(), None),
        }
    }
}
