//! Changing the key of a node without changing who it is.

use std::path::Path;

use waymesh_proto::ids::AgentId;
use waymesh_proto::{Code, Fault};
use waymesh_trust::certificate;
use waymesh_trust::keys::Keypair;
use waymesh_trust::rotation;

use crate::client::unix_ms;
use crate::home::Home;

/// What a change of the key has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Who the node still is.
    pub agent_id: AgentId,
    /// The public half of its new key.
    pub key: AgentId,
    /// How often it has changed its key.
    pub rotations: u32,
}

/// Gives the node of a data directory a new key. Its identity stays: the old
/// key hands it to the new one in a statement that travels behind the
/// certificate, and is destroyed. The node must not run meanwhile.
///
/// # Errors
///
/// `identity_in_use` while the node runs, `invite_required` when it is no
/// member, `bad_certificate` after too many changes, `storage`. The old key is
/// still the present one then.
pub fn rotate_identity(dir: &Path) -> Result<Rotated, Fault> {
    if Home::peek(dir)?.is_none() {
        return Err(nothing(dir));
    }
    let mut home = Home::open(dir)?;
    let mut membership = home.membership()?.ok_or_else(no_member)?;
    let past = certificate::rotations(&membership.certificate).map_err(|error| error.fault())?;
    let rotations = u32::try_from(past.len()).map_or(u32::MAX, |count| count.saturating_add(1));
    let seed: [u8; 32] = rand::random();
    let new = Keypair::from_seed(&seed);
    let agent_id = home.agent_id();
    let statement = rotation::rotate(home.keypair(), &new, agent_id, rotations, unix_ms());
    membership.certificate = certificate::with_rotation(&membership.certificate, &statement)
        .map_err(|error| error.fault())?;
    membership.key = new.agent_id();
    let chain = certificate::rotations(&membership.certificate).map_err(|error| error.fault())?;
    rotation::verify(&agent_id, &chain)
        .map_err(|error| certificate::CertificateError::from(error).fault())?;
    home.replace_key(&seed, &membership)?;
    Ok(Rotated {
        agent_id,
        key: new.agent_id(),
        rotations,
    })
}

fn nothing(dir: &Path) -> Fault {
    let message = format!("there is no identity in {}", dir.display());
    Fault::new(Code::Storage, message)
        .with_hint("waymesh node makes one on its first start; --data-dir names its folder")
}

fn no_member() -> Fault {
    let message = "this identity belongs to no mesh yet, so nobody knows its key";
    Fault::new(Code::InviteRequired, message).with_hint(
        "to start with another key, use another --data-dir; to keep this one, join a mesh with it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Membership;
    use std::fs;
    use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
    use waymesh_trust::certificate::Member;
    use waymesh_trust::rotation::ROTATIONS_MAX;

    const NEXT: &str = "identity.next";
    const KEY: &str = "identity.key";

    fn mesh() -> Keypair {
        Keypair::from_seed(&[9; 32])
    }

    /// A member that is not running.
    fn member() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("a home");
        let now_ms = unix_ms();
        let member = Member {
            name: "alice".parse().expect("a name"),
            agent_id: home.agent_id(),
            rotations: Vec::new(),
            roles: Vec::new(),
            registry: mesh().registry_key(),
            issued_ms: now_ms,
            expires_ms: now_ms + CERTIFICATE_LIFE_MS,
            renew_until_ms: now_ms + CERTIFICATE_LIFE_MS,
        };
        let membership = Membership {
            name: member.name.clone(),
            agent_id: member.agent_id,
            key: member.agent_id,
            mesh: mesh().mesh_key(),
            certificate: certificate::issue(&mesh(), &member).expect("a certificate"),
            registry: "http://127.0.0.1:1".parse().expect("an origin"),
            tls_pin: None,
        };
        home.store_membership(&membership).expect("room");
        dir
    }

    #[test]
    fn a_node_with_a_new_key_is_still_who_it_was_and_can_prove_it() {
        let dir = member();
        let id = Home::peek(dir.path()).expect("a home").expect("an id");
        let old = fs::read(dir.path().join(KEY)).expect("a key");
        for count in 1..=2 {
            let rotated = rotate_identity(dir.path()).expect("another key");
            assert_eq!((rotated.agent_id, rotated.rotations), (id, count));
            let home = Home::open(dir.path()).expect("the home again");
            assert_eq!(home.agent_id(), id);
            assert_eq!(home.keypair().agent_id(), rotated.key);
            let membership = home.membership().expect("a file").expect("a membership");
            let verified =
                certificate::verify(&membership.certificate, &membership.mesh, unix_ms());
            let verified = verified.expect("a certificate");
            assert_eq!((verified.agent_id, verified.key), (id, rotated.key));
        }
        let files = fs::read_dir(dir.path()).expect("a directory");
        for file in files
            .map(|file| file.expect("a file").path())
            .filter(|path| path.is_file())
        {
            assert_ne!(
                fs::read(&file).expect("a file"),
                old,
                "{} has the old key",
                file.display()
            );
        }
    }

    #[test]
    fn a_crash_in_between_leaves_the_one_key_or_the_other_with_what_fits_it() {
        let dir = member();
        let path = |file: &str| dir.path().join(file);
        let before = fs::read(path(KEY)).expect("a key");
        // Not yet: the new key is written, the membership is still the old one.
        let next = [5; 32];
        let write = |file: &str, bytes: &[u8]| {
            use std::os::unix::fs::PermissionsExt;
            fs::write(path(file), bytes).expect("a file");
            let owner_only = fs::Permissions::from_mode(0o600);
            fs::set_permissions(path(file), owner_only).expect("a file");
        };
        write(NEXT, &next);
        drop(Home::open(dir.path()).expect("a home"));
        assert_eq!(fs::read(path(KEY)).expect("a key"), before);
        assert!(!path(NEXT).exists());
        // Already: the membership is the new one, the key still has its old place.
        let rotated = rotate_identity(dir.path()).expect("another key");
        let after = fs::read(path(KEY)).expect("a key");
        write(NEXT, &after);
        write(KEY, &before);
        let home = Home::open(dir.path()).expect("a home");
        assert_eq!(home.keypair().agent_id(), rotated.key);
        assert_eq!(fs::read(path(KEY)).expect("a key"), after);
    }

    #[test]
    fn a_running_node_a_stranger_and_an_empty_folder_have_no_key_to_change() {
        let dir = member();
        let running = Home::open(dir.path()).expect("a home");
        let code = |dir: &tempfile::TempDir| rotate_identity(dir.path()).expect_err("refused").code;
        assert_eq!(code(&dir), Code::IdentityInUse);
        drop(running);
        let stranger = tempfile::tempdir().expect("a directory");
        drop(Home::open(stranger.path()).expect("a home"));
        assert_eq!(code(&stranger), Code::InviteRequired);
        let empty = tempfile::tempdir().expect("a directory");
        assert_eq!(code(&empty), Code::Storage);
        assert!(!empty.path().join(KEY).exists());
    }

    #[test]
    fn as_many_changes_as_the_limit_are_made_and_one_more_is_refused_without_harm() {
        let dir = member();
        for _ in 0..ROTATIONS_MAX {
            rotate_identity(dir.path()).expect("another key");
        }
        let key = fs::read(dir.path().join(KEY)).expect("a key");
        let refused = rotate_identity(dir.path()).expect_err("too many");
        assert_eq!(refused.code, Code::BadCertificate);
        assert_eq!(fs::read(dir.path().join(KEY)).expect("a key"), key);
        Home::open(dir.path()).expect("a home that still works");
    }
}
