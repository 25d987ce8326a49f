//! Ephemeral credentials: whoever knows the secret knows that they are good.
//!
//! The form is the one that coturn calls `use-auth-secret`: the username is
//! `<unix time of the end, seconds>:<agent id>`, the password the base64 of
//! HMAC-SHA1 over it. A TURN server needs the secret alone, and no list of users.

use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use data_encoding::BASE64;
use waymesh_proto::AgentId;
use waymesh_proto::ice::Credential;

/// A username and its password, good until this time, Unix seconds.
pub(crate) fn ephemeral(secret: &[u8], agent: &AgentId, ends_s: u64) -> (String, Credential) {
    let username = format!("{ends_s}:{agent}");
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let password = BASE64.encode(sign(&key, username.as_bytes()).as_ref());
    (username, Credential::new(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_coturn_makes_of_secret_and_username() {
        let agent = waymesh_trust::Keypair::from_seed(&[1; 32]).agent_id();
        let (username, password) = ephemeral(b"north", &agent, 1_700_000_000);
        assert_eq!(username, format!("1700000000:{agent}"));
        // printf %s "$username" | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(password.reveal(), "HDx17hMYStUOWnY/Ufiui8Rm464=");
    }
}
