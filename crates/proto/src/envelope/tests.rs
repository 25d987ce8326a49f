use super::*;
use proptest::prelude::*;

fn any_envelope() -> impl Strategy<Value = Envelope> {
    (
        0usize..9,
        any::<[u8; 16]>(),
        any::<Option<[u8; 16]>>(),
        0u8..4,
        prop::option::of("[a-z0-9_.-]{1,63}"),
        prop::option::of("[ -~]{0,40}"),
        prop::collection::vec(any::<u8>(), 0..300),
        prop::option::of((
            "\\PC{0,40}",
            prop::option::of("\\PC{0,20}"),
            any::<Option<bool>>(),
        )),
    )
        .prop_map(
            |(kind, id, correlation, priority, skill, content_type, bytes, fault)| Envelope {
                kind: [
                    Kind::Message,
                    Kind::CapabilityCall,
                    Kind::CapabilityResponse,
                    Kind::Cancel,
                    Kind::StreamChunk,
                    Kind::Publish,
                    Kind::Status,
                    Kind::Error,
                    Kind::Heartbeat,
                ][kind],
                id: MessageId::from_bytes(id),
                correlation: correlation.map(MessageId::from_bytes),
                priority: [
                    Priority::Low,
                    Priority::Normal,
                    Priority::High,
                    Priority::Critical,
                ][usize::from(priority)],
                skill: skill.map(|s| s.parse().expect("a skill name")),
                fault: fault.map(|(message, hint, executed)| Fault {
                    code: Code::Expired,
                    message,
                    hint,
                    executed: executed.map(|e| if e { Executed::Unknown } else { Executed::No }),
                }),
                traceparent: None,
                payload: Payload {
                    content_type: content_type.map(Into::into),
                    bytes,
                },
            },
        )
}

proptest! {
    #[test]
    fn every_envelope_reads_back_as_it_was_written(envelope in any_envelope()) {
        prop_assert_eq!(Envelope::decode(&envelope.encode()).expect("own bytes"), envelope);
    }

    #[test]
    fn decoding_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Envelope::decode(&bytes);
    }

    #[test]
    fn a_truncated_envelope_is_refused(envelope in any_envelope(), cut in 1usize..40) {
        let bytes = envelope.encode();
        let end = bytes.len().saturating_sub(cut);
        prop_assert!(Envelope::decode(&bytes[..end]).is_err());
    }
}

#[test]
fn a_payload_at_the_limit_is_read_and_one_byte_more_is_refused() {
    let id = MessageId::from_bytes([7; 16]);
    let at = Envelope::new(
        Kind::Message,
        id,
        Payload::json(vec![b'1'; MESSAGE_MAX_BYTES]),
    );
    assert!(Envelope::decode(&at.encode()).is_ok());
    let past = Envelope::new(
        Kind::Message,
        id,
        Payload::json(vec![b'1'; MESSAGE_MAX_BYTES + 1]),
    );
    assert!(matches!(
        Envelope::decode(&past.encode()),
        Err(EnvelopeError::TooLarge(_))
    ));
}

#[test]
fn keys_of_a_newer_version_are_skipped() {
    let mut bytes = Envelope::new(
        Kind::Message,
        MessageId::from_bytes([1; 16]),
        Payload::json("1"),
    )
    .encode();
    assert_eq!(bytes[0] & 0xE0, 0xA0, "a short map");
    bytes[0] += 1;
    bytes.extend_from_slice(&[0x18, 99, 0x61, b'x']);
    assert!(Envelope::decode(&bytes).is_ok());
}
