use std::net::SocketAddr;

use proptest::prelude::*;
use stun_types::attribute as foreign;
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message as Foreign, MessageWrite, MessageWriteExt,
    MessageWriteVec,
};

use super::*;
use crate::turn::credential::{Integrity, Key, PasswordAlgorithm};

const ID: TransactionId = TransactionId::new([7; 12]);

fn key() -> Key {
    Key::new("user", "realm", "pass", PasswordAlgorithm::Md5)
}

fn request() -> Writer {
    let mut writer = Writer::new(Class::Request, Method::Allocate, ID);
    writer
        .put(kind::USERNAME, b"user")
        .put(kind::REALM, b"realm")
        .put(kind::NONCE, b"12345");
    writer
}

#[test]
fn the_sample_request_of_rfc_5769_is_read_and_verified() {
    // RFC 5769 §2.4: long-term authentication, password of Japanese characters after SASLprep.
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(
            concat!(
                "000100602112a44278ad3433c6ad72c029da412e",
                "00060012e3839ee38388e383aae38383e382afe382b90000",
                "0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473",
                "41",
                "0014000b6578616d706c652e6f726700",
                "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666",
            )
            .as_bytes(),
        )
        .expect("hex");
    let message = Message::parse(&bytes).expect("a message");
    assert_eq!(
        (message.class(), message.method()),
        (Class::Request, Some(Method::Binding))
    );
    assert_eq!(message.text(kind::REALM), Some("example.org"));
    let user = message.text(kind::USERNAME).expect("a name");
    let key = |password| Key::new(user, "example.org", password, PasswordAlgorithm::Md5);
    assert!(message.verify(&key("TheMatrIX")));
    assert!(!message.verify(&key("TheMatrix")));
}

#[test]
fn what_follows_the_signature_does_not_count() {
    let mut bytes = request().sign(&key(), Integrity::Sha1);
    bytes.put(kind::LIFETIME, &[0; 4]);
    let bytes = bytes.finish_with_fingerprint();
    let message = Message::parse(&bytes).expect("a message");
    assert!(message.verify(&key()));
    assert!(!message.has(kind::LIFETIME));
    assert!(message.has(kind::FINGERPRINT));
}

#[test]
fn a_message_must_be_as_long_as_it_says() {
    let bytes = request().finish();
    assert!(Message::parse(&bytes).is_ok());
    let mut longer = bytes.clone();
    longer.extend([0; 4]);
    assert_eq!(Message::parse(&longer).err(), Some(Malformed::Length));
    assert!(Message::parse(&bytes[..bytes.len() - 4]).is_err());
    let mut past = Writer::new(Class::Request, Method::Binding, ID).finish();
    past.extend([0, 6, 0, 200]);
    past[3] = 4;
    assert_eq!(Message::parse(&past).err(), Some(Malformed::Attribute));
}

#[test]
fn a_wrong_fingerprint_is_refused_and_nothing_may_follow_it() {
    let good = request().finish_with_fingerprint();
    assert!(Message::parse(&good).is_ok());
    let mut bad = good.clone();
    *bad.last_mut().expect("bytes") ^= 1;
    assert_eq!(Message::parse(&bad).err(), Some(Malformed::Fingerprint));
    let mut more = good;
    more.extend([0x80, 0x22, 0, 0]);
    more[3] += 4;
    assert_eq!(Message::parse(&more).err(), Some(Malformed::Fingerprint));
}

#[test]
fn a_short_sha256_signature_counts_from_16_bytes_on() {
    let whole = request().sign(&key(), Integrity::Sha256).finish();
    assert!(Message::parse(&whole).expect("whole").verify(&key()));
    for (length, good) in [(12, false), (16, true), (28, true)] {
        // The length in the header is signed: sign as if the value were that short.
        let mut text = request();
        text.put(kind::MESSAGE_INTEGRITY_SHA256, &vec![0; length]);
        let mut bytes = text.finish();
        let before = bytes.len() - length;
        let signature = key().sign(Integrity::Sha256, &bytes[..before - 4]);
        bytes[before..].copy_from_slice(&signature[..length]);
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!(message.verify(&key()), good, "{length}");
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn addresses_come_back(address in any_address(), id: [u8; 12]) {
        let mut writer = Writer::new(Class::Success, Method::Allocate, TransactionId::new(id));
        writer
            .put_xor_address(kind::XOR_RELAYED_ADDRESS, address)
            .put_address(kind::OTHER_ADDRESS, address);
        let bytes = writer.finish();
        let message = Message::parse(&bytes).expect("a message");
        prop_assert_eq!(message.xor_address(kind::XOR_RELAYED_ADDRESS), Some(address));
        prop_assert_eq!(message.address(kind::OTHER_ADDRESS), Some(address));
        let theirs = Foreign::from_bytes(&bytes).expect("a message");
        let read: turn_types::attribute::XorRelayedAddress = theirs.attribute().expect("it");
        prop_assert_eq!(read.addr(theirs.transaction_id()), address);
    }

    #[test]
    fn what_we_sign_another_implementation_verifies(sha256: bool, user in "[a-z:0-9]{1,80}", password: String) {
        let (integrity, theirs) = match sha256 {
            true => (Integrity::Sha256, IntegrityAlgorithm::Sha256),
            false => (Integrity::Sha1, IntegrityAlgorithm::Sha1),
        };
        let algorithm = if sha256 { PasswordAlgorithm::Sha256 } else { PasswordAlgorithm::Md5 };
        let key = Key::new(&user, "realm", &password, algorithm);
        let credentials = LongTermKeyCredentials::new(user.clone(), password, "realm".into());
        let bytes = request().sign(&key, integrity).finish_with_fingerprint();
        let read = Foreign::from_bytes(&bytes).expect("a message");
        prop_assert!(read.validate_integrity(&credentials.clone().into()).is_ok());

        let mut written = Foreign::builder_request(stun_types::message::BINDING, MessageWriteVec::new());
        written.add_attribute(&foreign::Username::new(&user).expect("short")).expect("room");
        written.add_message_integrity(&credentials.into(), theirs).expect("room");
        written.add_fingerprint().expect("room");
        let bytes = written.finish();
        let read = Message::parse(&bytes).expect("a message");
        prop_assert_eq!(read.text(kind::USERNAME), Some(user.as_str()));
        prop_assert!(read.verify(&key));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), fixed: bool) {
        let mut bytes = bytes;
        if fixed && bytes.len() >= HEADER_BYTES {
            // Up to the attributes it is a message.
            bytes.truncate(bytes.len() & !3);
            let length = (bytes.len() - HEADER_BYTES) as u16;
            bytes[0] &= 0x3f;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
        }
        if let Ok(message) = Message::parse(&bytes) {
            for (kind, _) in message.attributes() {
                let _ = (message.text(kind), message.number(kind), message.error());
                let _ = (message.address(kind), message.xor_addresses(kind).count());
            }
            prop_assert!(!message.verify(&key()));
        }
    }
}
