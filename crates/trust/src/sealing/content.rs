//! What is inside a sealed message, and its bytes.
//!
//! ```text
//! plain   = signature(64) content
//! content = version:u8(1) from_incarnation:u64 to_known:u8 to_incarnation:u64 issued_ms:u64
//!           certificate:u32-length text  sealing:u32-length text  frame:rest
//! ```
//!
//! Numbers are big-endian. `to_known` is 0 or 1; with 0, `to_incarnation` is 0.

use waymesh_proto::Incarnation;
use waymesh_proto::membership::{Certificate, SealingStatement};

use super::error::OpenError;

/// The version of the content's bytes.
const VERSION: u8 = 1;

/// What a sender puts into a sealed message.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The sender's incarnation.
    pub from_incarnation: Incarnation,
    /// The receiver's incarnation as the sender knows it.
    pub to_incarnation: Option<Incarnation>,
    /// When it was sealed, Unix time in milliseconds.
    pub issued_ms: u64,
    /// The sender's certificate.
    pub certificate: Certificate,
    /// The key to seal an answer with.
    pub sealing: SealingStatement,
    /// What it carries.
    pub frame: Vec<u8>,
}

impl std::fmt::Debug for Content {
    /// Does not show the frame.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("from_incarnation", &self.from_incarnation)
            .field("to_incarnation", &self.to_incarnation)
            .field("issued_ms", &self.issued_ms)
            .field("frame_bytes", &self.frame.len())
            .finish_non_exhaustive()
    }
}

impl Content {
    /// Appends the bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let to = self.to_incarnation;
        out.push(VERSION);
        out.extend_from_slice(&self.from_incarnation.number().to_be_bytes());
        out.push(u8::from(to.is_some()));
        out.extend_from_slice(&to.map_or(0, Incarnation::number).to_be_bytes());
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        for text in [self.certificate.as_str(), self.sealing.as_str()] {
            let len = u32::try_from(text.len()).expect("a token is at most 16 KiB");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&self.frame);
    }

    /// Reads the bytes; nothing of what they say is verified.
    ///
    /// # Errors
    /// [`OpenError::Content`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let mut reader = Reader(bytes);
        if reader.array()? != [VERSION] {
            return Err(OpenError::Content("it is of another version"));
        }
        let from_incarnation = Incarnation::new(reader.number()?);
        let to_known = reader.array()?;
        let to = reader.number()?;
        Ok(Self {
            from_incarnation,
            to_incarnation: match to_known {
                [0] if to == 0 => None,
                [1] => Some(Incarnation::new(to)),
                _ => return Err(OpenError::Content("the receiver's incarnation")),
            },
            issued_ms: reader.number()?,
            certificate: reader
                .text()?
                .parse()
                .map_err(|_| OpenError::Content("the certificate"))?,
            sealing: reader
                .text()?
                .parse()
                .map_err(|_| OpenError::Content("the sealing statement"))?,
            frame: reader.0.to_vec(),
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], OpenError> {
        let split = self.0.split_at_checked(len);
        let (head, rest) = split.ok_or(OpenError::Content("it is cut off"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], OpenError> {
        let bytes = self.bytes(N)?.try_into();
        Ok(bytes.expect("the slice has the length that was asked for"))
    }

    fn number(&mut self) -> Result<u64, OpenError> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, OpenError> {
        let len = u32::from_be_bytes(self.array()?);
        let len = usize::try_from(len).map_err(|_| OpenError::Content("it is cut off"))?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| OpenError::Content("a text"))
    }
}
