//! Proof of possession for HTTP requests: DPoP (RFC 9449) with EdDSA.
//!
//! Every request carries a token of its own, signed by the key that it is made
//! with, for this method and URL and with a nonce of the server's; a request
//! in a member's name also covers the certificate, which stands in the place
//! of an access token.

#[cfg(test)]
mod tests;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, OctetKeyPairParameters,
    OctetKeyPairType,
};
use jsonwebtoken::{Algorithm, Header};
use serde::{Deserialize, Serialize};
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, TOKEN_MAX_BYTES};
use waymesh_proto::membership::Certificate;
use waymesh_proto::{AgentId, Code, Fault};

use crate::jwt::{self, JwtError, millis, seconds};
use crate::keys::{Keypair, sha256};

/// The token's type (RFC 9449 §4.2).
const TYP: &str = "dpop+jwt";

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// Not a proof of this kind.
    #[error("the DPoP proof is malformed: {0}")]
    Malformed(String),
    /// Not signed by the key that it shows.
    #[error("the DPoP proof is not signed by its key")]
    Forged,
    /// Made for another request.
    #[error("the DPoP proof is for another {0}")]
    OtherRequest(&'static str),
    /// Without a nonce of this server, or with one that is over: send it a
    /// new one (RFC 9449 §8), `use_dpop_nonce`.
    #[error("the DPoP proof lacks a current nonce")]
    Nonce,
    /// Made too long ago or in the future: one of the two clocks is wrong.
    #[error("the DPoP proof was made {} s away from this clock", off_ms / 1_000)]
    ClockSkew {
        /// The difference, milliseconds.
        off_ms: u64,
    },
}

impl DpopError {
    /// The code that the client is told.
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::BadRequest,
            Self::Forged => Code::BadSignature,
            Self::OtherRequest(_) | Self::Nonce => Code::Unauthorized,
            Self::ClockSkew { .. } => Code::ClockSkew,
        }
    }

    /// The error that the client is told.
    pub fn fault(&self) -> Fault {
        let fault = Fault::new(self.code(), self.to_string());
        match self {
            Self::Nonce => fault.with_hint("repeat the request with the nonce in DPoP-Nonce"),
            Self::ClockSkew { .. } => fault.with_hint("set the clocks of both hosts right"),
            _ => fault,
        }
    }
}

/// The request that a proof is made for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The URL; a query and a fragment do not count.
    pub url: &'a str,
    /// The certificate in the `Authorization` header.
    pub certificate: Option<&'a Certificate>,
}

/// What a proof proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Whose request it is.
    pub key: AgentId,
    /// The proof's own id: one that comes twice is a repetition.
    pub id: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
}

/// Makes a proof for one request. `id` is 16 fresh random bytes.
pub fn prove(
    keypair: &Keypair,
    request: Request<'_>,
    nonce: Option<&str>,
    id: [u8; 16],
    now_ms: u64,
) -> String {
    let claims = Claims {
        jti: HEXLOWER.encode(&id),
        htm: request.method.to_owned(),
        htu: without_query(request.url).to_owned(),
        iat: seconds(now_ms),
        nonce: nonce.map(str::to_owned),
        ath: request.certificate.map(access_hash),
    };
    jwt::sign_with(&header(keypair.public()), &claims, keypair)
}

/// Checks a proof. `is_current` says whether a nonce is one that this server
/// gave out and still accepts.
///
/// It does not notice that a proof comes twice; the nonce's life bounds that.
///
/// # Errors
/// The first check that fails: shape, signature, method, URL, certificate, nonce, time.
pub fn verify(
    proof: &str,
    request: Request<'_>,
    is_current: impl FnOnce(&str) -> bool,
    now_ms: u64,
) -> Result<Proof, DpopError> {
    let key = shown_key(proof)?;
    let claims: Claims = match jwt::verify_signed(proof, &key) {
        Ok(claims) => claims,
        Err(JwtError::Forged) => return Err(DpopError::Forged),
        Err(other) => return Err(malformed(other)),
    };
    if claims.htm != request.method {
        return Err(DpopError::OtherRequest("method"));
    }
    if without_query(&claims.htu) != without_query(request.url) {
        return Err(DpopError::OtherRequest("URL"));
    }
    if claims.ath != request.certificate.map(access_hash) {
        return Err(DpopError::OtherRequest("certificate"));
    }
    if !claims.nonce.as_deref().is_some_and(is_current) {
        return Err(DpopError::Nonce);
    }
    let off_ms = millis(claims.iat).abs_diff(now_ms);
    if off_ms > CLOCK_LEEWAY_MS {
        return Err(DpopError::ClockSkew { off_ms });
    }
    Ok(Proof {
        key: AgentId::from_bytes(key),
        id: parse_id(&claims.jti)?,
    })
}

fn malformed(error: impl ToString) -> DpopError {
    DpopError::Malformed(error.to_string())
}

fn header(key: &[u8; 32]) -> Header {
    let key = OctetKeyPairParameters {
        key_type: OctetKeyPairType::OctetKeyPair,
        curve: EllipticCurve::Ed25519,
        x: BASE64URL_NOPAD.encode(key),
    };
    Header {
        typ: Some(TYP.to_owned()),
        jwk: Some(Jwk {
            common: CommonParameters::default(),
            algorithm: AlgorithmParameters::OctetKeyPair(key),
        }),
        ..Header::new(Algorithm::EdDSA)
    }
}

/// The key in the header, which must have nothing in it that a proof does not have.
fn shown_key(proof: &str) -> Result<[u8; 32], DpopError> {
    if proof.len() > TOKEN_MAX_BYTES {
        return Err(malformed("it is too long"));
    }
    let shown = jsonwebtoken::decode_header(proof).map_err(malformed)?;
    let algorithm = shown.jwk.as_ref().map(|jwk| &jwk.algorithm);
    let Some(AlgorithmParameters::OctetKeyPair(okp)) = algorithm else {
        return Err(malformed("its header shows no Ed25519 key"));
    };
    let key = BASE64URL_NOPAD.decode(okp.x.as_bytes()).ok();
    let key = key.and_then(|key| key.try_into().ok());
    let key = key.ok_or_else(|| malformed("its header shows no Ed25519 key"))?;
    if header(&key) != shown {
        return Err(malformed("its header is not that of such a proof"));
    }
    Ok(key)
}

fn parse_id(text: &str) -> Result<[u8; 16], DpopError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let id = bytes.and_then(|bytes| bytes.try_into().ok());
    id.ok_or_else(|| malformed("its jti is not 16 bytes in hexadecimal"))
}

/// The URL that a proof names: without query and fragment (RFC 9449 §4.2).
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// The `ath` claim: SHA-256 of the certificate's text.
fn access_hash(certificate: &Certificate) -> String {
    BASE64URL_NOPAD.encode(&sha256(certificate.as_str().as_bytes()))
}
