//! JSON Web Tokens (RFC 7519), as narrow as they come: EdDSA (RFC 8037) and one
//! expected `typ` each (RFC 8725 §3.11), nothing else in the header.
//!
//! The clock checks of the JWT crate are off, for nothing here has a clock:
//! whoever reads a token compares `iat` and `exp` itself. Times in tokens are
//! whole seconds (RFC 7519 §2), everywhere else milliseconds.

use std::collections::HashSet;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waymesh_proto::AgentId;

use crate::keys::Keypair;

/// The kinds of token, each with its media type in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typ {
    Member,
    Delegation,
    Extension,
    Rotation,
    Revocation,
    Join,
    Sealing,
}

impl Typ {
    const ALL: [Self; 7] = [
        Self::Member,
        Self::Delegation,
        Self::Extension,
        Self::Rotation,
        Self::Revocation,
        Self::Join,
        Self::Sealing,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "waymesh-member+jwt",
            Self::Delegation => "waymesh-delegation+jwt",
            Self::Extension => "waymesh-extension+jwt",
            Self::Rotation => "waymesh-rotation+jwt",
            Self::Revocation => "waymesh-revocation+jwt",
            Self::Join => "waymesh-join+jwt",
            Self::Sealing => "waymesh-sealing+jwt",
        }
    }

    fn header(self) -> Header {
        Header {
            typ: Some(self.as_str().to_owned()),
            ..Header::new(Algorithm::EdDSA)
        }
    }

    /// The kind that a token claims to be, by its header alone.
    pub(crate) fn of(token: &str) -> Result<Self, JwtError> {
        let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
        let known = Self::ALL.into_iter().find(|typ| typ.header() == header);
        known.ok_or(JwtError::Header)
    }
}

/// Why a token is not the one that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("it is malformed: {0}")]
    Malformed(String),
    #[error("its header is not that of such a token")]
    Header,
    #[error("its signature does not verify")]
    Forged,
}

fn malformed(error: impl fmt::Display) -> JwtError {
    JwtError::Malformed(error.to_string())
}

/// Makes a token.
pub(crate) fn sign<T: Serialize>(typ: Typ, claims: &T, by: &Keypair) -> String {
    sign_with(&typ.header(), claims, by)
}

/// Makes a token with a header of its own.
pub(crate) fn sign_with<T: Serialize>(header: &Header, claims: &T, by: &Keypair) -> String {
    jsonwebtoken::encode(header, claims, by.jwt())
        .expect("claims have string keys only, and the key is an Ed25519 key")
}

/// Reads a token that this key has signed.
pub(crate) fn verify<T: DeserializeOwned>(
    token: &str,
    typ: Typ,
    by: &[u8; 32],
) -> Result<T, JwtError> {
    if Typ::of(token)? != typ {
        return Err(JwtError::Header);
    }
    verify_signed(token, by)
}

/// Reads a token that this key has signed and whose header was checked.
pub(crate) fn verify_signed<T: DeserializeOwned>(
    token: &str,
    by: &[u8; 32],
) -> Result<T, JwtError> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let key = DecodingKey::from_ed_der(by);
    match jsonwebtoken::decode(token, &key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => JwtError::Forged,
            _ => malformed(error),
        }),
    }
}

/// Reads the claims of a token that nobody has verified: to look up by whom it
/// should be signed, or to say of a forged one what it claims.
pub(crate) fn peek<T: DeserializeOwned>(token: &str) -> Result<T, JwtError> {
    let data = jsonwebtoken::dangerous::insecure_decode(token).map_err(malformed)?;
    Ok(data.claims)
}

/// Whether somebody with this key has signed the token, whatever it says.
pub(crate) fn is_signed_by(token: &str, by: &[u8; 32]) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let key = DecodingKey::from_ed_der(by);
    let outcome =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::EdDSA);
    outcome.unwrap_or(false)
}

/// Unix time in the seconds of a token.
pub(crate) const fn seconds(unix_ms: u64) -> u64 {
    unix_ms / 1_000
}

/// A time of a token in milliseconds.
pub(crate) const fn millis(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000)
}

/// The `cnf` claim (RFC 7800): the key that the holder must prove to have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmation {
    jwk: Jwk,
}

impl Confirmation {
    pub(crate) const fn new(key: &AgentId) -> Self {
        Self {
            jwk: Jwk::new(Curve::Ed25519, *key.as_bytes()),
        }
    }

    /// The key, if it is one that signs.
    pub(crate) fn key(&self) -> Option<AgentId> {
        self.jwk.key(Curve::Ed25519).map(AgentId::from_bytes)
    }
}

/// A public key as a JWK (RFC 8037 §2).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwk {
    kty: Kty,
    crv: Curve,
    x: Base64Bytes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Kty {
    #[serde(rename = "OKP")]
    Okp,
}

/// What a key is for: to sign, or to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Curve {
    Ed25519,
    X25519,
}

impl Jwk {
    pub(crate) const fn new(crv: Curve, key: [u8; 32]) -> Self {
        Self {
            kty: Kty::Okp,
            crv,
            x: Base64Bytes(key),
        }
    }

    /// The key, if it is on this curve.
    pub(crate) fn key(&self, crv: Curve) -> Option<[u8; 32]> {
        (self.crv == crv).then_some(self.x.0)
    }
}

/// 32 bytes as base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base64Bytes(pub(crate) [u8; 32]);

impl Serialize for Base64Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        bytes.ok_or_else(|| serde::de::Error::custom("not 32 bytes as base64url without padding"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Claims {
        exp: u64,
    }

    #[test]
    fn signatures_are_those_of_rfc_8037() {
        // RFC 8037 appendix A.
        let private = BASE64URL_NOPAD
            .decode(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .expect("base64url");
        let key = Keypair::from_seed(&private.try_into().expect("32 bytes"));
        let jwk = serde_json::to_string(&Jwk::new(Curve::Ed25519, *key.public())).expect("JSON");
        let public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(
            jwk,
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{public}"}}"#)
        );
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
             hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(is_signed_by(token, key.public()));
        assert!(!is_signed_by(token, alice().public()));
        assert!(!is_signed_by(&token.replacen('R', "S", 1), key.public()));
    }

    #[test]
    fn a_token_reads_back_whatever_the_clock_of_the_host_says() {
        for exp in [0, 1, u64::MAX] {
            let token = sign(Typ::Member, &Claims { exp }, &mesh());
            let read: Result<Claims, _> = verify(&token, Typ::Member, mesh().public());
            assert_eq!(read, Ok(Claims { exp }));
        }
    }

    #[test]
    fn a_key_on_another_curve_is_not_taken_for_one_that_signs() {
        let jwk = Jwk::new(Curve::X25519, [1; 32]);
        assert_eq!(jwk.key(Curve::Ed25519), None);
        let text = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}).to_string();
        assert!(serde_json::from_str::<Jwk>(&text).is_err());
    }

    proptest! {
        #[test]
        fn reading_any_text_never_panics(text: String) {
            prop_assert!(verify::<Claims>(&text, Typ::Member, mesh().public()).is_err());
            prop_assert!(peek::<Claims>(&text).is_err());
            prop_assert!(!is_signed_by(&text, mesh().public()));
        }
    }
}
