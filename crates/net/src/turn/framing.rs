//! Messages in a stream, and ChannelData (RFC 8656 §12.4, §12.5).
//!
//! ```text
//!  ChannelData:  channel number (16) | length (16) | data | on streams: padding to 4 bytes
//! ```
//!
//! A STUN message starts with two zero bits and tells its length; ChannelData
//! starts with a channel number, 0x4000–0x7FFF. Anything else ends the stream:
//! there is no way to find the next message.

use super::message::HEADER_BYTES;

/// The numbers that a channel may have. RFC 8656 §12 ends at 0x4FFF, so that
/// other protocols have room on the same port, and our client does; coturn's
/// takes all that RFC 5766 §11 had.
pub const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

/// Bytes before the data of ChannelData.
pub const CHANNEL_HEADER_BYTES: usize = 4;

/// Most bytes that one message in a stream may have: what a length of 16 bits
/// can announce. The decoder never holds more than this and one read.
pub const MESSAGE_MAX_BYTES: usize = HEADER_BYTES + u16::MAX as usize;

/// ChannelData in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel.
    pub channel: u16,
    /// What is for the peer, or from it.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Reads a datagram, or a message that [`Decoder`] has cut out; what
    /// follows the announced length is padding. `None` when it is not
    /// ChannelData, or cut off.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[a, b, c, d], rest) = bytes.split_first_chunk()?;
        let channel = u16::from_be_bytes([a, b]);
        let data = rest.get(..usize::from(u16::from_be_bytes([c, d])))?;
        CHANNELS
            .contains(&channel)
            .then_some(Self { channel, data })
    }

    /// The four bytes before the data; `None` when the data is longer than 65,535 bytes.
    pub fn header(channel: u16, length: usize) -> Option<[u8; CHANNEL_HEADER_BYTES]> {
        let [a, b] = channel.to_be_bytes();
        let [c, d] = u16::try_from(length).ok()?.to_be_bytes();
        Some([a, b, c, d])
    }
}

/// Zero bytes that follow a message of this length on a stream, after which the next begins.
pub const fn padding(length: usize) -> &'static [u8] {
    match length % 4 {
        1 => &[0; 3],
        2 => &[0; 2],
        3 => &[0; 1],
        _ => &[],
    }
}

/// Bytes of memory that a decoder keeps although it needs fewer. Chosen: a few packets.
const KEPT_BYTES: usize = 4_096;

/// Why a stream cannot be cut any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStream {
    /// What follows is neither STUN nor ChannelData.
    #[error("the stream holds what is neither STUN nor ChannelData")]
    Neither,
    /// A message is announced that is longer than the receiver takes now.
    #[error("the stream announces a message of {0} bytes")]
    TooLong(usize),
}

/// Cuts a stream into messages.
///
/// Give it what arrived by [`Decoder::extend`] and take messages by
/// [`Decoder::poll`] until there is none: only then are its bounds kept.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Takes in what arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, with ChannelData's padding cut off; `None` until more arrives.
    ///
    /// # Errors
    /// [`BadStream::Neither`]: close it.
    pub fn poll(&mut self) -> Result<Option<&[u8]>, BadStream> {
        self.poll_within(MESSAGE_MAX_BYTES)
    }

    /// As [`Decoder::poll`], for a sender who may send messages of up to `longest` bytes.
    ///
    /// # Errors
    /// [`BadStream`], as soon as the header is there: close it.
    pub fn poll_within(&mut self, longest: usize) -> Result<Option<&[u8]>, BadStream> {
        let rest = &self.bytes[self.taken..];
        let Some(length) = message_length(rest)? else {
            self.give_back();
            return Ok(None);
        };
        if length > longest {
            return Err(BadStream::TooLong(length));
        }
        let padded = length + padding(length).len();
        if rest.len() < padded {
            self.give_back();
            return Ok(None);
        }
        let start = self.taken;
        self.taken += padded;
        Ok(Some(&self.bytes[start..start + length]))
    }

    /// Gives back the memory of what was taken, unless a long message is under way.
    fn give_back(&mut self) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.len() <= KEPT_BYTES {
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }
}

/// Bytes of the message at the start, without padding; `None` while its header is not whole.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, BadStream> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let header = match first {
        0x00..=0x3f => HEADER_BYTES,
        0x40..=0x7f => CHANNEL_HEADER_BYTES,
        _ => return Err(BadStream::Neither),
    };
    let Some(&[_, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if header == HEADER_BYTES && length % 4 != 0 {
        return Err(BadStream::Neither);
    }
    Ok(Some(header + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = ChannelData::header(channel, data.len())
            .expect("short")
            .to_vec();
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(padding(data.len()));
        bytes
    }

    #[test]
    fn channel_data_of_101_bytes_is_padded_on_a_stream() {
        let mut stream = channel_data(0x4000, &[7; 101]);
        assert_eq!(stream.len(), 108);
        stream.extend(channel_data(0x4001, b"next"));
        let mut decoder = Decoder::default();
        decoder.extend(&stream);
        let first = ChannelData::parse(decoder.poll().unwrap().unwrap()).unwrap();
        assert_eq!((first.channel, first.data), (0x4000, [7; 101].as_slice()));
        let next = ChannelData::parse(decoder.poll().unwrap().unwrap()).unwrap();
        assert_eq!((next.channel, next.data), (0x4001, b"next".as_slice()));
        assert_eq!(decoder.poll(), Ok(None));
    }

    #[test]
    fn what_is_neither_ends_the_stream() {
        for first in [0x80, 0xc0, 0xff] {
            let mut decoder = Decoder::default();
            decoder.extend(&[first]);
            assert_eq!(decoder.poll(), Err(BadStream::Neither), "{first:#x}");
        }
        let mut decoder = Decoder::default();
        decoder.extend(&[0, 1, 0, 3]);
        assert_eq!(decoder.poll(), Err(BadStream::Neither));
    }

    #[test]
    fn a_message_longer_than_it_may_be_ends_the_stream_at_its_header() {
        for (header, length) in [([0x40, 0, 0, 97], 101), ([0, 1, 0, 84], 104)] {
            for (longest, outcome) in [
                (length, Ok(None)),
                (length - 1, Err(BadStream::TooLong(length))),
            ] {
                let mut decoder = Decoder::default();
                decoder.extend(&header);
                assert_eq!(decoder.poll_within(longest), outcome);
            }
        }
    }

    #[test]
    fn a_decoder_gives_its_memory_back_when_it_is_empty() {
        let mut decoder = Decoder::default();
        let long = channel_data(0x4000, &[7; 60_000]);
        decoder.extend(&[&long[..], &[0x40]].concat());
        assert!(decoder.poll().unwrap().is_some());
        assert_eq!(decoder.poll(), Ok(None));
        assert_eq!(decoder.held(), 1);
        assert!(decoder.bytes.capacity() <= KEPT_BYTES);
    }

    #[test]
    fn a_channel_number_is_of_its_range() {
        for (number, good) in [
            (0x3fff, false),
            (0x4000, true),
            (0x7fff, true),
            (0x8000, false),
        ] {
            let bytes = channel_data(number, b"x");
            assert_eq!(ChannelData::parse(&bytes).is_some(), good, "{number:#x}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_cut_the_same_in_any_steps(
            messages in prop::collection::vec((0x4000_u16..=0x7fff, prop::collection::vec(any::<u8>(), 0..300)), 1..8),
            step in 1_usize..400,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|(c, d)| channel_data(*c, d)).collect();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for part in stream.chunks(step) {
                decoder.extend(part);
                while let Some(message) = decoder.poll().unwrap() {
                    let read = ChannelData::parse(message).unwrap();
                    seen.push((read.channel, read.data.to_vec()));
                }
            }
            prop_assert_eq!(seen, messages);
        }
    }
}
