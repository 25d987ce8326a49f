//! What an admin has handed to a new member: an invite, or six digits.

use std::str::FromStr;

use waymesh_proto::control::PairingCode;
use waymesh_proto::membership::Invite;
use waymesh_trust::invite::{InviteError, InviteSecret};

/// Leave to enter a mesh, or to ask for it. A secret either way.
#[derive(Debug, Clone)]
pub enum Invitation {
    /// The line that `waymesh invite` prints.
    Invite(Box<InviteSecret>),
    /// The digits that `waymesh invite --code` prints.
    Code(PairingCode),
}

impl Invitation {
    /// The invite, if it is one.
    pub fn invite(&self) -> Option<&InviteSecret> {
        match self {
            Self::Invite(invite) => Some(invite),
            Self::Code(_) => None,
        }
    }

    /// The pairing code, if it is one.
    pub const fn code(&self) -> Option<PairingCode> {
        match self {
            Self::Invite(_) => None,
            Self::Code(code) => Some(*code),
        }
    }
}

impl FromStr for Invitation {
    type Err = InviteError;

    /// Reads six digits or an invite; white space around it does not count.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if let Ok(code) = text.parse() {
            return Ok(Self::Code(code));
        }
        let invite: Invite = text
            .parse()
            .map_err(|_| InviteError::Malformed("neither an invite nor six digits".into()))?;
        InviteSecret::parse(&invite).map(Box::new).map(Self::Invite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_are_a_pairing_code_and_anything_else_must_be_an_invite() {
        let code = " 012345\n".parse::<Invitation>().expect("a code").code();
        assert_eq!(code.map(PairingCode::number), Some(12_345));
        for text in ["", "12345", "1234567", "12345a", "hello world", "aGVsbG8"] {
            assert!(text.parse::<Invitation>().is_err(), "{text}");
        }
    }
}
