//! What a client of TLS says first, as a middlebox sees it: whether it is a ClientHello, and
//! which protocols it offers (RFC 8446 §4.1.2, RFC 7301).

/// The protocol that is not let through: TURN (RFC 7443).
const TURN: &[u8] = b"stun.turn";

/// Bytes looked at until a flow without a whole ClientHello is refused. Chosen: the largest record.
const LOOK_BYTES: usize = 16 * 1_024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const ALPN_EXTENSION: u16 = 16;

/// What became clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// TLS that does not offer TURN.
    Https,
    /// Anything else.
    Refused,
}

/// The first bytes of a flow.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    seen: Vec<u8>,
    verdict: Option<Verdict>,
}

/// Bytes end before what must come.
#[derive(Debug)]
enum Unclear {
    /// More may make it clear.
    More,
    /// They are no ClientHello.
    Wrong,
}

impl Glance {
    /// Looks at the next bytes.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        if self.verdict.is_some() {
            return;
        }
        self.seen.extend_from_slice(bytes);
        self.verdict = match offers_turn(&self.seen) {
            Ok(false) => Some(Verdict::Https),
            Ok(true) | Err(Unclear::Wrong) => Some(Verdict::Refused),
            Err(Unclear::More) if self.seen.len() > LOOK_BYTES => Some(Verdict::Refused),
            Err(Unclear::More) => return,
        };
        self.seen = Vec::new();
    }

    pub(crate) const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.verdict.is_some()
    }
}

/// Whether the ClientHello at the beginning of a flow offers TURN.
fn offers_turn(flow: &[u8]) -> Result<bool, Unclear> {
    let handshake = records(flow)?;
    if *handshake.first().ok_or(Unclear::More)? != CLIENT_HELLO {
        return Err(Unclear::Wrong);
    }
    let mut rest = handshake.get(1..).ok_or(Unclear::More)?;
    let length = rest.get(..3).ok_or(Unclear::More)?;
    let length =
        usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
    rest = rest.get(3..3 + length).ok_or(Unclear::More)?;
    hello_offers_turn(rest).ok_or(Unclear::Wrong)
}

/// The handshake bytes of the records at the beginning of a flow, as far as they are there.
fn records(mut flow: &[u8]) -> Result<Vec<u8>, Unclear> {
    let mut handshake = Vec::new();
    while let Some(kind) = flow.first() {
        if *kind != HANDSHAKE_RECORD || flow.get(1).is_some_and(|major| *major != 3) {
            // After the hello anything may come.
            return if handshake.is_empty() {
                Err(Unclear::Wrong)
            } else {
                Ok(handshake)
            };
        }
        let Some(header) = flow.get(..5) else { break };
        let length = usize::from(header[3]) << 8 | usize::from(header[4]);
        let end = flow.len().min(5 + length);
        handshake.extend_from_slice(&flow[5..end]);
        flow = &flow[end..];
    }
    Ok(handshake)
}

/// `None` when it cannot be read.
fn hello_offers_turn(hello: &[u8]) -> Option<bool> {
    // Version and random, then session id, cipher suites and compression.
    let rest = hello.get(34..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let rest = rest.get(2 + usize::from(word(rest)?)..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    if rest.is_empty() {
        return Some(false);
    }
    let mut extensions = rest.get(2..)?;
    while !extensions.is_empty() {
        let (kind, length) = (word(extensions)?, usize::from(word(extensions.get(2..)?)?));
        let body = extensions.get(4..4 + length)?;
        if kind == ALPN_EXTENSION && offered(body.get(2..)?)? {
            return Some(true);
        }
        extensions = &extensions[4 + length..];
    }
    Some(false)
}

fn offered(mut names: &[u8]) -> Option<bool> {
    while let Some(length) = names.first() {
        let end = 1 + usize::from(*length);
        if names.get(1..end)? == TURN {
            return Some(true);
        }
        names = &names[end..];
    }
    Some(false)
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// A ClientHello that offers these protocols, in one record.
pub(crate) fn client_hello(protocols: &[&str]) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let mut with = (bytes.len() as u16).to_be_bytes().to_vec();
        with.extend_from_slice(bytes);
        with
    };
    let names: Vec<u8> = protocols
        .iter()
        .flat_map(|name| std::iter::once(name.len() as u8).chain(name.bytes()))
        .collect();
    let mut alpn = ALPN_EXTENSION.to_be_bytes().to_vec();
    alpn.extend_from_slice(&sized(&sized(&names)));
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    // No session id, one cipher suite (TLS_AES_128_GCM_SHA256), no compression.
    hello.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
    hello.extend_from_slice(&sized(&alpn));
    let mut handshake = vec![CLIENT_HELLO, 0];
    handshake.extend_from_slice(&sized(&hello));
    let mut record = vec![HANDSHAKE_RECORD, 3, 1];
    record.extend_from_slice(&sized(&handshake));
    record
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    pub(crate) use super::client_hello;
    use super::*;

    fn verdict(bytes: &[u8]) -> Option<Verdict> {
        let mut glance = Glance::default();
        glance.look(bytes);
        glance.verdict()
    }

    #[test]
    fn https_passes_and_turn_does_not() {
        assert_eq!(
            verdict(&client_hello(&["h2", "http/1.1"])),
            Some(Verdict::Https)
        );
        assert_eq!(verdict(&client_hello(&[])), Some(Verdict::Https));
        assert_eq!(
            verdict(&client_hello(&["h2", "stun.turn"])),
            Some(Verdict::Refused)
        );
        assert_eq!(verdict(&[0, 1, 0, 0]), Some(Verdict::Refused));
        assert_eq!(verdict(b"GET / "), Some(Verdict::Refused));
    }

    #[test]
    fn a_part_of_a_hello_is_not_judged_yet() {
        let hello = client_hello(&["stun.turn"]);
        for end in 1..hello.len() {
            assert_eq!(verdict(&hello[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_hello_that_never_ends_is_refused() {
        let mut endless = vec![HANDSHAKE_RECORD, 3, 1, 0xff, 0xff, CLIENT_HELLO, 1, 0, 0];
        endless.resize(LOOK_BYTES, 0);
        assert_eq!(verdict(&endless), None);
        endless.resize(LOOK_BYTES + 1, 0);
        assert_eq!(verdict(&endless), Some(Verdict::Refused));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut hello = client_hello(&["x"]);
            hello.truncate(bytes.len());
            hello.extend_from_slice(&bytes);
            verdict(&bytes);
            verdict(&hello);
        }
    }
}
