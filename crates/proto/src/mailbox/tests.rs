//! Limits and properties of the codec; the bytes are in `spec/vectors/mailbox.json`.

use proptest::prelude::*;

use super::*;
use crate::Code;

fn header() -> ItemHeader {
    ItemHeader {
        item: ItemId::from_bytes([1; 16]),
        from: AgentId::from_bytes([2; 32]),
        to: AgentId::from_bytes([3; 32]),
        class: Class::Tasks,
        keep: Keep::Store,
        life_ms: 300_000,
        key: KeyId::from_bytes([4; 16]),
    }
}

fn item(bytes: usize) -> Item {
    Item {
        header: header().encode(),
        sealed: vec![7; bytes],
    }
}

/// What a whole stream of messages gives.
fn assemble(
    messages: impl IntoIterator<Item = Vec<u8>>,
) -> Result<Vec<(Option<Note>, Item)>, MailboxError> {
    let mut assembly = Assembly::default();
    let mut items = Vec::new();
    for message in messages {
        items.extend(assembly.handle(&message)?);
    }
    Ok(items)
}

/// The first message of an item with these bytes of header and this announced size.
fn begun(header: &[u8], total: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![1];
    varint::put(&mut message, header.len() as u64);
    message.extend_from_slice(header);
    varint::put(&mut message, total as u64);
    message.extend_from_slice(bytes);
    message
}

#[test]
fn an_item_of_the_largest_size_is_read_and_one_byte_more_is_too_large() {
    let largest = item(ITEM_MAX_BYTES);
    assert_eq!(
        assemble(encode_post(&largest)),
        Ok(vec![(None, largest.clone())])
    );
    let more = assemble(encode_post(&item(ITEM_MAX_BYTES + 1)));
    assert_eq!(more, Err(MailboxError::Range("the item's size")));
    assert_eq!(more.map_err(|e| e.code()), Err(Code::TooLarge));
}

#[test]
fn a_part_of_the_largest_size_is_read_and_one_byte_more_is_too_large() {
    let header = header().encode();
    for (bytes, expected) in [(PART_BYTES, true), (PART_BYTES + 1, false)] {
        let whole = begun(&header, bytes, &vec![7; bytes]);
        assert_eq!(assemble([whole]).is_ok(), expected);
        let mut part = vec![3];
        part.resize(1 + bytes, 7);
        let parts = [begun(&header, 1 + bytes, &[7]), part];
        assert_eq!(assemble(parts).is_ok(), expected);
    }
}

#[test]
fn the_longest_life_is_read_and_a_millisecond_more_is_not() {
    let with_life = |life_ms| ItemHeader {
        life_ms,
        ..header()
    };
    let longest = with_life(TTL_MAX_MS);
    assert_eq!(ItemHeader::decode(&longest.encode()), Ok(longest));
    let more = with_life(TTL_MAX_MS + 1).encode();
    assert_eq!(
        ItemHeader::decode(&more),
        Err(MailboxError::Range("the item's life"))
    );
}

#[test]
fn a_header_may_have_keys_of_newer_versions_up_to_the_largest_size_and_nothing_behind_it() {
    // A map of eight keys: the seven that are known, and key 7 with a text.
    let known = header().encode();
    let padded = |bytes: usize| {
        let mut newer = known.clone();
        newer[0] = 0xa8;
        let text = bytes - known.len() - 3;
        newer.extend_from_slice(&[0x07, 0x78, u8::try_from(text).expect("small")]);
        newer.resize(bytes, b'x');
        newer
    };
    let largest = padded(ITEM_HEADER_MAX_BYTES);
    assert_eq!(ItemHeader::decode(&largest), Ok(header()));
    let more = ItemHeader::decode(&padded(ITEM_HEADER_MAX_BYTES + 1));
    assert_eq!(more, Err(MailboxError::Range("the header's length")));
    let mut followed = known;
    followed.push(0);
    assert!(matches!(
        ItemHeader::decode(&followed),
        Err(MailboxError::Header(_))
    ));
}

#[test]
fn parts_that_belong_to_no_item_are_refused() {
    let header = header().encode();
    let stray = Err(MailboxError::StrayPart);
    assert_eq!(assemble([vec![3, 7]]), stray);
    let begin = || begun(&header, 2, &[7]);
    assert_eq!(assemble([begin(), begin()]), stray);
    assert_eq!(assemble([begin(), vec![3, 7, 7]]), stray);
    assert_eq!(assemble([begin(), vec![3, 7], vec![3, 7]]), stray);
}

#[test]
fn messages_without_content_are_refused() {
    let header = header().encode();
    let cut = Err(MailboxError::Truncated);
    assert_eq!(assemble([Vec::new()]), cut);
    assert_eq!(assemble([begun(&header, 2, &[])]), cut);
    assert_eq!(assemble([begun(&header, 2, &[7]), vec![3]]), cut);
    let nothing = Err(MailboxError::Range("the item's size"));
    assert_eq!(assemble([begun(&header, 0, &[])]), nothing);
}

proptest! {
    #[test]
    fn every_item_reads_back_as_a_post_and_as_a_push(
        item: [u8; 16],
        class in prop::sample::select(&Class::ALL[..]),
        keep in prop::sample::select(&[Keep::Store, Keep::Replace, Keep::Forward][..]),
        life_ms in 0..=TTL_MAX_MS,
        bytes in 1usize..3 * PART_BYTES,
        again: bool,
        dwell_ms in 0..=varint::MAX,
    ) {
        let header = ItemHeader { item: ItemId::from_bytes(item), class, keep, life_ms, ..header() };
        prop_assert_eq!(ItemHeader::decode(&header.encode()), Ok(header.clone()));
        let item = Item { header: header.encode(), sealed: vec![item[0]; bytes] };
        prop_assert_eq!(assemble(encode_post(&item)), Ok(vec![(None, item.clone())]));
        let note = Note { again, dwell_ms };
        prop_assert_eq!(assemble(encode_push(note, &item)), Ok(vec![(Some(note), item)]));
    }

    #[test]
    fn any_messages_never_panic(messages: Vec<Vec<u8>>) {
        let _ = assemble(messages);
    }

    #[test]
    fn a_damaged_message_never_panics(at in 0usize..200, byte: u8) {
        let mut message = encode_push(Note { again: true, dwell_ms: 70_000 }, &item(20)).next().expect("a message");
        let at = at % message.len();
        message[at] = byte;
        let _ = assemble([message.clone()]);
        let _ = assemble([message[..at].to_vec()]);
    }
}
