//! Credentials that the server need not remember: coturn's `use-auth-secret`.
//!
//! The user name is `<expiry, unix seconds>:<agent id>`, the password is the
//! base64 of HMAC-SHA1 over the user name with a secret key.

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

/// What a user name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) member: AgentId,
    /// Since 1970.
    pub(super) expires: Duration,
}

impl RelaySecret {
    /// The secret of these bytes, which others may share (`static-auth-secret` of coturn).
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, bytes))
    }

    /// User name and password of a member, good until `expires` (since 1970).
    pub fn issue(&self, member: &AgentId, expires: Duration) -> (String, Credential) {
        let name = format!("{}:{member}", expires.as_secs());
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
        let (seconds, member) = name.split_once(':')?;
        let digits = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
        Some(Self {
            member: member.parse().ok()?,
            expires: Duration::from_secs(seconds.parse().ok().filter(|_| digits)?),
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
        let (name, _) = RelaySecret::new(b"north").issue(&member, expires);
        assert_eq!(User::parse(&name), Some(User { member, expires }));
        for bad in [
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
