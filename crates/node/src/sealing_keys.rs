//! The node's sealing keys: a new one every week, the old ones kept as long as
//! something sealed to them may still come, and destroyed then.
//!
//! A statement lets others seal to a key for two weeks, so that a node that was
//! away for one can still be written to. Whatever was sealed in that time may
//! be in a mailbox for as long as a message lives. A key is on disk before
//! anybody is told of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waymesh_proto::control::MeshKey;
use waymesh_proto::ids::{AgentId, KeyId};
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, TTL_MAX_MS};
use waymesh_proto::membership::SealingStatement;
use waymesh_trust::keys::Keypair;
use waymesh_trust::sealing::{SEALING_LIFE_MAX_MS, SealingKey};

use crate::home::{Home, HomeError};

pub(crate) const FILE: &str = "sealing.json";

/// How long a key is given out before another takes its place, milliseconds: a week.
const ROTATE_AFTER_MS: u64 = 7 * 24 * 3_600_000;

/// How long others may seal to a key, milliseconds; the same for the statement's life.
const LIFE_MS: u64 = SEALING_LIFE_MAX_MS;

/// How long the private half is kept after others may no longer seal to it:
/// the longest life of a message, and the leeway for clocks.
const KEPT_AFTER_MS: u64 = TTL_MAX_MS + CLOCK_LEEWAY_MS;

/// A key as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredKey {
    seed: Seed,
    made_ms: u64,
}

/// What may be known of a sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealingLook {
    /// Its id, which items that are sealed to it name.
    pub id: KeyId,
    /// Until when others may seal to it, Unix time in milliseconds.
    pub expires_ms: u64,
}

/// The private half; `Debug` does not show it.
#[derive(Clone, Serialize, Deserialize)]
struct Seed([u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl StoredKey {
    const fn expires_ms(&self) -> u64 {
        self.made_ms.saturating_add(LIFE_MS)
    }

    pub(crate) fn look(&self) -> SealingLook {
        let key = self.key();
        SealingLook {
            id: key.id(),
            expires_ms: key.expires_ms(),
        }
    }

    fn key(&self) -> SealingKey {
        SealingKey::from_seed(&self.seed.0, self.expires_ms())
    }
}

/// The sealing keys of this node, oldest first; there is always one.
#[derive(Debug)]
pub(crate) struct SealingKeys {
    home: Arc<Home>,
    stored: Vec<StoredKey>,
    keys: Vec<SealingKey>,
}

impl SealingKeys {
    /// Reads the keys, destroys those that are over, and makes one if the
    /// newest is no longer to be given out.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub(crate) fn open(home: Arc<Home>, now_ms: u64) -> Result<Self, HomeError> {
        let stored: Vec<StoredKey> = home.load_secret(FILE)?.unwrap_or_default();
        let mut all = Self {
            home,
            keys: stored.iter().map(StoredKey::key).collect(),
            stored,
        };
        all.handle_time(now_ms, rand::random())?;
        Ok(all)
    }

    /// All keys that something may still be sealed to.
    pub(crate) fn all(&self) -> &[SealingKey] {
        &self.keys
    }

    /// Says with which key to seal messages to this node from now on.
    pub(crate) fn statement(
        &self,
        signer: &Keypair,
        agent_id: AgentId,
        mesh: &MeshKey,
    ) -> SealingStatement {
        let newest = self.stored.last().expect("there is always one");
        newest
            .key()
            .statement(signer, agent_id, mesh, newest.made_ms)
    }

    /// Makes a new key when it is time, of these 32 random bytes, and destroys
    /// those that are over. True when there is a new one to tell of.
    ///
    /// # Errors
    ///
    /// [`HomeError`]; the keys are what they were.
    pub(crate) fn handle_time(&mut self, now_ms: u64, seed: [u8; 32]) -> Result<bool, HomeError> {
        let is_fresh = |stored: &StoredKey| {
            // One of the future was made by a wrong clock, and nobody takes it.
            let is_begun = stored.made_ms <= now_ms.saturating_add(CLOCK_LEEWAY_MS);
            is_begun && now_ms < stored.made_ms.saturating_add(ROTATE_AFTER_MS)
        };
        let is_kept =
            |stored: &&StoredKey| now_ms < stored.expires_ms().saturating_add(KEPT_AFTER_MS);
        let mut next: Vec<_> = self.stored.iter().filter(is_kept).cloned().collect();
        let is_due = !next.last().is_some_and(is_fresh);
        if is_due {
            let seed = Seed(seed);
            next.push(StoredKey {
                seed,
                made_ms: now_ms,
            });
        }
        if is_due || next.len() < self.stored.len() {
            self.home.store(FILE, &next)?;
            self.keys = next.iter().map(StoredKey::key).collect();
            self.stored = next;
        }
        Ok(is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn home() -> (tempfile::TempDir, Arc<Home>) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        (dir, home)
    }

    fn ids(keys: &SealingKeys) -> Vec<KeyId> {
        keys.all().iter().map(SealingKey::id).collect()
    }

    #[test]
    fn a_key_outlives_its_process_and_is_given_out_for_a_week() {
        let (_dir, home) = home();
        let first = SealingKeys::open(Arc::clone(&home), NOW_MS).expect("keys");
        let last_ms = NOW_MS + ROTATE_AFTER_MS - 1;
        let again = SealingKeys::open(Arc::clone(&home), last_ms).expect("keys");
        assert_eq!(ids(&again), ids(&first));
        let mut later = again;
        assert!(!later.handle_time(last_ms, [7; 32]).expect("room"));
        assert!(later.handle_time(last_ms + 1, [7; 32]).expect("room"));
        assert_eq!(ids(&later).len(), 2);
        assert_eq!(ids(&later)[0], ids(&first)[0]);
    }

    #[test]
    fn a_private_half_is_destroyed_when_nothing_sealed_to_it_can_come_any_more() {
        let (dir, home) = home();
        let first = SealingKeys::open(Arc::clone(&home), NOW_MS).expect("keys");
        let over_ms = NOW_MS + LIFE_MS + KEPT_AFTER_MS;
        let kept = SealingKeys::open(Arc::clone(&home), over_ms - 1).expect("keys");
        assert!(ids(&kept).contains(&ids(&first)[0]));
        let seed = serde_json::to_string(&first.stored[0].seed).expect("JSON");
        let text = || std::fs::read_to_string(dir.path().join(FILE)).expect("a file");
        assert!(text().contains(&seed));
        let gone = SealingKeys::open(Arc::clone(&home), over_ms).expect("keys");
        assert!(!ids(&gone).contains(&ids(&first)[0]));
        assert!(!text().contains(&seed));
    }

    #[test]
    fn a_key_that_a_wrong_clock_made_in_the_future_is_not_given_out() {
        let (_dir, home) = home();
        let future = SealingKeys::open(Arc::clone(&home), NOW_MS + CLOCK_LEEWAY_MS).expect("keys");
        let now = SealingKeys::open(Arc::clone(&home), NOW_MS).expect("keys");
        assert_eq!(ids(&now), ids(&future));
        let past = SealingKeys::open(Arc::clone(&home), NOW_MS - 1).expect("keys");
        assert_eq!(ids(&past).len(), 2);
    }

    #[test]
    fn a_private_half_is_never_shown() {
        let (_dir, home) = home();
        let keys = SealingKeys::open(home, NOW_MS).expect("keys");
        let seed = format!("{:?}", keys.stored[0].seed.0);
        assert!(!format!("{keys:?}").contains(seed.trim_matches(['[', ']'])));
    }

    #[test]
    fn the_file_of_the_private_halves_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, home) = home();
        let _keys = SealingKeys::open(home, NOW_MS).expect("keys");
        let metadata = std::fs::metadata(dir.path().join(FILE)).expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn private_halves_that_others_may_read_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, home) = home();
        drop(SealingKeys::open(Arc::clone(&home), NOW_MS).expect("keys"));
        let open_to_all = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(dir.path().join(FILE), open_to_all).expect("a file");
        let refused = SealingKeys::open(home, NOW_MS).expect_err("others may read it");
        assert!(matches!(refused, HomeError::Damaged { .. }), "{refused}");
        assert!(Home::peek_sealing(dir.path()).is_err());
    }
}
