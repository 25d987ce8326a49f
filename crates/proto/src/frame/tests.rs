use super::*;
use proptest::prelude::*;

fn any_set() -> impl Strategy<Value = SeqSet> {
    (
        0u64..100_000,
        prop::collection::vec((1u64..50, 0u64..50), 0..20),
    )
        .prop_map(|(cumulative, ranges)| {
            let mut set = SeqSet::default();
            set.insert_up_to(cumulative);
            let mut at = cumulative;
            for (gap, len) in ranges {
                set.insert_range(at + gap + 1, at + gap + 1 + len);
                at += gap + 1 + len;
            }
            set
        })
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        0u8..7,
        any::<bool>(),
        1u64..1 << 40,
        any::<u64>(),
        any::<u64>(),
        0u64..1 << 40,
    )
        .prop_map(
            |(stream, redelivered, seq, previous, lowest, life_ms)| Header {
                stream: Stream::from_number(stream).expect("a stream"),
                redelivered,
                seq,
                previous: previous % seq,
                lowest: lowest % seq + 1,
                life_ms,
                wait_ms: life_ms / 2,
            },
        )
}

proptest! {
    #[test]
    fn every_frame_reads_back_as_it_was_written(
        header in any_header(),
        received in any_set(),
        consumed in any_set(),
        blob in prop::collection::vec(any::<u8>(), 1..200),
        token: u64,
    ) {
        let sections = [
            Section::Hello(Incarnation::new(token)),
            Section::Ack(Ack {
                stream: header.stream,
                window_messages: 7,
                window_bytes: 1 << 20,
                received,
                consumed,
            }),
            Section::Probe(token),
            Section::Echo(token),
            Section::Message(header, &blob),
            Section::Chunk(header, Piece { total: 1_000, offset: 11, bytes: &blob }),
            Section::Refused { stream: header.stream, seq: header.seq, code: Code::Expired },
            Section::Goodbye(Code::IdentityInUse),
            Section::Revoked(&blob),
            Section::Adopted,
        ];
        let mut writer = FrameWriter::default();
        for section in &sections {
            let before = writer.len();
            writer.put(section);
            match section {
                Section::Message(header, envelope) =>
                    prop_assert_eq!(writer.len() - before, message_len(header, envelope.len())),
                Section::Chunk(header, piece) =>
                    prop_assert!(writer.len() - before <= chunk_overhead(header, 1_000) + piece.bytes.len()),
                _ => {}
            }
        }
        let bytes = writer.into_bytes();
        let read: Result<Vec<_>, _> = FrameReader::new(&bytes).expect("the version").collect();
        prop_assert_eq!(read.expect("own bytes"), sections);
    }

    #[test]
    fn reading_any_bytes_never_panics_and_ends(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(first) = bytes.first_mut() {
            *first = FRAME_VERSION;
        }
        if let Ok(reader) = FrameReader::new(&bytes) {
            prop_assert!(reader.count() <= bytes.len());
        }
    }
}
