//! Ed25519 keys (RFC 8032), signatures with a label, and hashes of public values.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use jsonwebtoken::EncodingKey;
use waymesh_proto::control::{MeshKey, RegistryKey, Signature};
use waymesh_proto::{AgentId, MeshId};

/// What the hash that is a mesh's id covers before the mesh key.
pub const MESH_ID_LABEL: &str = "waymesh mesh v1";

/// Bytes of a hash that a fingerprint shows: 80 bits, more than anybody can
/// search for a second key of the same one.
const FINGERPRINT_BYTES: usize = 10;

/// Characters of a fingerprint between two hyphens.
const FINGERPRINT_GROUP_CHARS: usize = 4;

/// A private key and its public half: of an agent, a registry, a mesh or an invite.
///
/// `Debug` shows the public half only. A clone shares the private half.
#[derive(Clone)]
pub struct Keypair {
    private: Arc<Private>,
    public: [u8; 32],
}

struct Private {
    pair: Ed25519KeyPair,
    /// The same key in the form that JWTs are signed with.
    jwt: EncodingKey,
}

/// The signature was not made by that key over those bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl Keypair {
    /// Makes the keypair of a seed: 32 bytes that only its owner knows.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .expect("every 32 bytes are an Ed25519 seed (RFC 8032 §5.1.5)");
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .expect("an Ed25519 public key has 32 bytes");
        let pkcs8 = pair
            .to_pkcs8()
            .expect("a key in memory has a PKCS#8 form (RFC 8410)");
        let jwt = EncodingKey::from_ed_der(pkcs8.as_ref());
        let private = Arc::new(Private { pair, jwt });
        Self { private, public }
    }

    /// The 32 bytes of the public key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The public key as the identity of an agent.
    pub const fn agent_id(&self) -> AgentId {
        AgentId::from_bytes(self.public)
    }

    /// The public key as the identity of a registry.
    pub const fn registry_key(&self) -> RegistryKey {
        RegistryKey::from_bytes(self.public)
    }

    /// The public key as the root of a mesh.
    pub const fn mesh_key(&self) -> MeshKey {
        MeshKey::from_bytes(self.public)
    }

    pub(crate) fn jwt(&self) -> &EncodingKey {
        &self.private.jwt
    }

    /// Signs `label || 0x00 || bytes`, so that no signature can be used for another purpose.
    pub fn sign(&self, label: &str, bytes: &[u8]) -> Signature {
        let signature = self.private.pair.sign(&labelled(label, bytes));
        let bytes = signature
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes");
        Signature::from_bytes(bytes)
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keypair")
            .field("public", &self.agent_id())
            .finish_non_exhaustive()
    }
}

/// Checks an agent's signature over `label || 0x00 || bytes`.
///
/// # Errors
/// [`BadSignature`], also when the id is not a point of the curve.
pub fn verify(
    by: &AgentId,
    label: &str,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify_raw(by.as_bytes(), label, bytes, signature)
}

/// Checks a registry's signature over `label || 0x00 || bytes`.
///
/// # Errors
/// [`BadSignature`], also when the key is not a point of the curve.
pub fn verify_registry(
    by: &RegistryKey,
    label: &str,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify_raw(by.as_bytes(), label, bytes, signature)
}

fn verify_raw(
    public: &[u8; 32],
    label: &str,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&labelled(label, bytes), signature.as_bytes())
        .map_err(|_| BadSignature)
}

/// The id of the mesh with this key: the first 16 bytes of the SHA-256 of
/// [`MESH_ID_LABEL`], a zero byte and the key.
pub fn mesh_id(mesh: &MeshKey) -> MeshId {
    let hash = sha256(&labelled(MESH_ID_LABEL, mesh.as_bytes()));
    MeshId::from_bytes(std::array::from_fn(|i| hash[i]))
}

/// A public key as people compare it: four groups of four characters, from its SHA-256.
pub fn fingerprint(public: &[u8; 32]) -> String {
    let text = BASE32_NOPAD.encode(&sha256(public)[..FINGERPRINT_BYTES]);
    let text = text.to_ascii_lowercase();
    let groups = text.as_bytes().chunks(FINGERPRINT_GROUP_CHARS);
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join("-")
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&sha256(bytes))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("a SHA-256 has 32 bytes")
}

/// Bytes that no other fields have: each field as its length in four big-endian
/// bytes and itself.
pub(crate) fn fields<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        let len = u32::try_from(field.len()).expect("a field of a decoded message is below 4 GiB");
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

fn labelled(label: &str, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(label.len() + 1 + bytes.len());
    all.extend_from_slice(label.as_bytes());
    all.push(0);
    all.extend_from_slice(bytes);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_public_key_of_rfc_8032() {
        // RFC 8032 §7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let unhex = |text: &str| -> [u8; 32] {
            std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
        };
        let pair = Keypair::from_seed(&unhex(seed));
        assert_eq!(pair.agent_id().as_bytes(), &unhex(public));
    }

    #[test]
    fn a_signature_holds_for_its_key_label_and_bytes_only() {
        let pair = Keypair::from_seed(&[1; 32]);
        let other = Keypair::from_seed(&[2; 32]);
        let signature = pair.sign("a", b"bytes");
        assert_eq!(verify(&pair.agent_id(), "a", b"bytes", &signature), Ok(()));
        for (by, label, bytes) in [
            (other.agent_id(), "a", &b"bytes"[..]),
            (pair.agent_id(), "b", b"bytes"),
            (pair.agent_id(), "a", b"byteS"),
            (AgentId::from_bytes([0xff; 32]), "a", b"bytes"),
        ] {
            assert_eq!(verify(&by, label, bytes, &signature), Err(BadSignature));
        }
    }

    #[test]
    fn a_byte_does_not_move_from_the_label_to_the_bytes() {
        let pair = Keypair::from_seed(&[1; 32]);
        let signature = pair.sign("ab", b"c");
        assert!(verify(&pair.agent_id(), "a", b"bc", &signature).is_err());
    }

    #[test]
    fn the_id_of_a_mesh_and_a_fingerprint_are_of_the_key() {
        let pair = Keypair::from_seed(&[1; 32]);
        let other = Keypair::from_seed(&[2; 32]);
        assert_ne!(mesh_id(&pair.mesh_key()), mesh_id(&other.mesh_key()));
        let shown = fingerprint(pair.public());
        assert_ne!(shown, fingerprint(other.public()));
        let groups: Vec<_> = shown.split('-').map(str::len).collect();
        assert_eq!(groups, [4; 4], "{shown}");
    }

    #[test]
    fn the_private_key_is_never_shown() {
        let shown = format!("{:?}", Keypair::from_seed(&[1; 32]));
        assert!(
            shown.contains("public") && !shown.contains("seed"),
            "{shown}"
        );
    }
}
