//! Who the client is to the server: credentials, and what the server wants
//! them combined with (RFC 8489 §9.2).

use waymesh_proto::ice::Credential;

use crate::turn::credential::{Key, PasswordAlgorithm};
use crate::turn::message::{Message, Writer, kind};

/// Longest realm or nonce, bytes (RFC 8489 §14.9, §14.10).
const CHALLENGE_MAX_BYTES: usize = 763;

/// Longest user name, bytes (RFC 8489 §14.3).
const USERNAME_MAX_BYTES: usize = 508;

/// Name and password for a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// At most 508 bytes (RFC 8489 §14.3).
    pub username: String,
    /// The password.
    pub credential: Credential,
}

/// What a server has wanted last: with it, the next client of the same server
/// and transport saves the round trip of being refused first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    realm: String,
    /// As it came: it is given back and never looked into.
    nonce: Vec<u8>,
}

/// How requests are signed.
#[derive(Debug)]
pub(super) struct Auth {
    credentials: Option<Credentials>,
    /// Those that the allocation was made with, while newer ones are given: a
    /// server may hold to the name of the allocation (RFC 8656 §7.2).
    earlier: Option<Credentials>,
    /// Whether it was gone back to `earlier`.
    went_back: bool,
    /// Counts the changes of credentials.
    generation: u32,
    wanted: Option<Remembered>,
    key: Option<Key>,
}

/// What an answer 401 or 438 leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The request can be signed now, or anew.
    Answerable,
    /// There are no credentials.
    NoCredentials,
    /// Realm or nonce is missing or unusable.
    Unusable,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>, wanted: Option<Remembered>) -> Self {
        let mut auth = Self {
            credentials,
            earlier: None,
            went_back: false,
            generation: 0,
            wanted,
            key: None,
        };
        auth.make_key();
        auth
    }

    /// From the next request on.
    pub(super) fn set_credentials(&mut self, credentials: Credentials) {
        if self.credentials.as_ref() == Some(&credentials) {
            return;
        }
        let former = self.credentials.replace(credentials);
        // The oldest are those of the allocation.
        self.earlier = self.earlier.take().or(former);
        self.went_back = false;
        self.change();
    }

    /// Whether a request that was refused with credentials of this generation
    /// may fare better now: with newer ones, or with those of the allocation,
    /// to which this goes back.
    pub(super) fn can_differ_from(&mut self, generation: u32) -> bool {
        if generation != self.generation {
            return true;
        }
        let Some(earlier) = self.earlier.take() else {
            return false;
        };
        self.go_back_to(earlier);
        true
    }

    /// Signs with what an earlier client used, though newer ones are given.
    pub(super) fn go_back_to(&mut self, earlier: Credentials) {
        self.credentials = Some(earlier);
        self.went_back = true;
        self.change();
    }

    /// What requests are signed with.
    pub(super) const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    fn change(&mut self) {
        self.generation += 1;
        self.make_key();
    }

    /// Which credentials are in use.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether newer credentials were given than the server takes for this allocation.
    pub(super) const fn has_newer(&self) -> bool {
        self.went_back
    }

    /// Whether requests can be signed.
    pub(super) const fn can_sign(&self) -> bool {
        self.key.is_some()
    }

    /// What the server wants, for a later client.
    pub(super) fn remembered(&self) -> Option<Remembered> {
        self.wanted.clone()
    }

    /// Another server wants something else.
    pub(super) fn forget(&mut self) {
        self.wanted = None;
        self.key = None;
    }

    /// Whether a challenge names another realm than requests are signed for.
    pub(super) fn is_other_realm(&self, answer: &Message<'_>) -> bool {
        let known = self.wanted.as_ref().map(|wanted| wanted.realm.as_str());
        let realm = answer.text(kind::REALM);
        realm.is_some() && realm != known
    }

    /// Takes realm and nonce of a 401 or 438.
    pub(super) fn handle_challenge(&mut self, answer: &Message<'_>) -> Challenge {
        let Some(credentials) = &self.credentials else {
            return Challenge::NoCredentials;
        };
        let known = self.wanted.as_ref().map(|wanted| wanted.realm.as_str());
        let realm = answer.text(kind::REALM).or(known);
        let (Some(realm), Some(nonce)) = (realm, answer.find(kind::NONCE)) else {
            return Challenge::Unusable;
        };
        let is_long = credentials.username.len() > USERNAME_MAX_BYTES;
        if is_long || realm.len().max(nonce.len()) > CHALLENGE_MAX_BYTES {
            return Challenge::Unusable;
        }
        self.wanted = Some(Remembered {
            realm: realm.to_owned(),
            nonce: nonce.to_vec(),
        });
        self.make_key();
        Challenge::Answerable
    }

    fn make_key(&mut self) {
        self.key = match (&self.credentials, &self.wanted) {
            (Some(credentials), Some(wanted)) => Some(Key::new(
                &credentials.username,
                &wanted.realm,
                credentials.credential.reveal(),
                PasswordAlgorithm::Md5,
            )),
            _ => None,
        };
    }

    /// Adds name, realm and nonce, and gives what to sign with; nothing while
    /// the server has not said what it wants.
    pub(super) fn sign(&self, writer: &mut Writer) -> Option<Key> {
        let (credentials, wanted) = (self.credentials.as_ref()?, self.wanted.as_ref()?);
        writer
            .put(kind::USERNAME, credentials.username.as_bytes())
            .put(kind::REALM, wanted.realm.as_bytes())
            .put(kind::NONCE, &wanted.nonce);
        self.key.clone()
    }
}
