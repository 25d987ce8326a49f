//! Credentials that the server need not remember: coturn's `use-auth-secret`.
//!
//! The user name is `<expiry, unix seconds>:<agent id>`, the password is the
//! base64 of HMAC-SHA1 over the user name with a secret key. Whoever was removed
//! once and came back has `:<mark>` after that ([`Mark`]).

use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use waymesh_proto::AgentId;
use waymesh_proto::ice::Credential;

/// Bytes of a secret that is made here.
pub const SECRET_BYTES: usize = 32;

/// The key that credentials are made with.
#[derive(Clone)]
pub struct RelaySecret(hmac::Key);

/// What tells the credentials of a member that came back from those that it had
/// before it was removed, whatever the clock says and however long they would
/// have been good. Each removal has a mark of its own, and so has each start of
/// a server that knows of removals before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(u64);

/// Hexadecimal digits of a mark in a user name.
const MARK_DIGITS: usize = 16;

/// What a user name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) member: AgentId,
    /// Since 1970.
    pub(super) expires: Duration,
    pub(super) mark: Option<Mark>,
}

impl Mark {
    /// The mark of a random number: no two removals have the same.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    fn parse(text: &str) -> Option<Self> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let digits = text.len() == MARK_DIGITS && text.bytes().all(is_digit);
        let number = u64::from_str_radix(text, 16).ok();
        number.filter(|_| digits).map(Self)
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:0MARK_DIGITS$x}", self.0)
    }
}

impl RelaySecret {
    /// The secret of these bytes, which others may share (`static-auth-secret` of coturn).
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, bytes))
    }

    /// User name and password of a member, good until `expires` (since 1970).
    pub fn issue(&self, member: &AgentId, expires: Duration) -> (String, Credential) {
        self.issue_named(format!("{}:{member}", expires.as_secs()))
    }

    /// The same of a member that came back after it was removed.
    pub fn issue_marked(
        &self,
        member: &AgentId,
        mark: Mark,
        expires: Duration,
    ) -> (String, Credential) {
        self.issue_named(format!("{}:{member}:{mark}", expires.as_secs()))
    }

    fn issue_named(&self, name: String) -> (String, Credential) {
        let password = self.password(&name);
        (name, Credential::new(password))
    }

    /// The password that belongs to a user name.
    pub(super) fn password(&self, name: &str) -> String {
        BASE64.encode(hmac::sign(&self.0, name.as_bytes()).as_ref())
    }
}

impl std::fmt::Debug for RelaySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelaySecret(..)")
    }
}

impl User {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (seconds, rest) = name.split_once(':')?;
        let digits = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
        let (member, mark) = match rest.split_once(':') {
            Some((member, mark)) => (member, Some(Mark::parse(mark)?)),
            None => (rest, None),
        };
        Some(Self {
            member: member.parse().ok()?,
            expires: Duration::from_secs(seconds.parse().ok().filter(|_| digits)?),
            mark,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_coturn_would_make_of_the_secret() {
        // echo -n 1700000000:user | openssl dgst -sha1 -hmac north -binary | base64
        let secret = RelaySecret::new(b"north");
        assert_eq!(
            secret.password("1700000000:user"),
            "2uyGWnO1vHFmQfE0HWQNi1ldYAk="
        );
    }

    #[test]
    fn a_name_is_read_as_it_is_issued_and_nothing_else_is() {
        let member = AgentId::from_bytes([9; 32]);
        let expires = Duration::from_secs(1_700_000_000);
        let secret = RelaySecret::new(b"north");
        let (name, _) = secret.issue(&member, expires);
        let user = |mark| User {
            member,
            expires,
            mark,
        };
        assert_eq!(User::parse(&name), Some(user(None)));
        for number in [0, 7, u64::MAX] {
            let mark = Mark::new(number);
            let (marked, _) = secret.issue_marked(&member, mark, expires);
            assert_eq!(User::parse(&marked), Some(user(Some(mark))));
        }
        for bad in [
            format!("{name}:"),
            format!("{name}:7"),
            format!("{name}:000000000000000A"),
            format!("{name}:+00000000000000a"),
            format!("{name}:000000000000000a:"),
            format!("+{name}"),
            name.replace(':', ""),
            format!(" {name}"),
            name.to_uppercase(),
            format!("99999999999999999999999:{member}"),
            format!(":{member}"),
        ] {
            assert_eq!(User::parse(&bad), None, "{bad}");
        }
    }
}
