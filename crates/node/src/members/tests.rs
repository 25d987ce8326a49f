//! Whom this node believes, and what it remembers of whom it met.

use waymesh_proto::api::AgentRecord;
use waymesh_proto::class::Class;
use waymesh_proto::ids::{Incarnation, InviteId, ItemId, KeyId, Name};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::mailbox::{ItemHeader, Keep};
use waymesh_proto::membership::{Certificate, SealingStatement};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::{self, Member};
use waymesh_trust::invite::{Applicant, Grant, InviteSecret};
use waymesh_trust::revocation::{Target, revoke};
use waymesh_trust::rotation::{Rotation, rotate};
use waymesh_trust::sealing::Content;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

fn mesh() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

fn registry() -> Keypair {
    Keypair::from_seed(&[7; 32])
}

fn me() -> AgentId {
    Keypair::from_seed(&[1; 32]).agent_id()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn open(dir: &tempfile::TempDir) -> Members {
    let home = Home::open(dir.path()).expect("a home");
    let members = Members::open(&Arc::new(home)).expect("members");
    // As if the node were who the tests seal to.
    let members = Members {
        me: me(),
        ..members
    };
    members.begin(mesh().mesh_key());
    members
}

/// Bob, with the keys that he has had, the present one last.
struct Bob {
    keys: Vec<Keypair>,
    rotations: Vec<Rotation>,
    issued_ms: u64,
}

impl Bob {
    fn new() -> Self {
        Self {
            keys: vec![Keypair::from_seed(&[2; 32])],
            rotations: Vec::new(),
            issued_ms: NOW_MS,
        }
    }

    fn rotated(mut self, seed: u8) -> Self {
        let (old, new) = (self.key().clone(), Keypair::from_seed(&[seed; 32]));
        let seq = u32::try_from(self.keys.len()).expect("few");
        self.rotations
            .push(rotate(&old, &new, self.id(), seq, NOW_MS));
        self.keys.push(new);
        self
    }

    fn id(&self) -> AgentId {
        self.keys[0].agent_id()
    }

    fn key(&self) -> &Keypair {
        self.keys.last().expect("a key")
    }

    fn certificate(&self) -> Certificate {
        let member = Member {
            name: name("bob"),
            agent_id: self.id(),
            rotations: self.rotations.clone(),
            roles: Vec::new(),
            registry: registry().registry_key(),
            issued_ms: self.issued_ms,
            expires_ms: self.issued_ms + HOUR_MS,
            renew_until_ms: self.issued_ms + CERTIFICATE_LIFE_MS,
        };
        certificate::issue(&mesh(), &member).expect("a certificate")
    }

    fn sealing_key(seed: u8, made_ms: u64) -> SealingKey {
        SealingKey::from_seed(&[seed; 32], made_ms + CERTIFICATE_LIFE_MS)
    }

    fn statement(&self, seed: u8, made_ms: u64) -> SealingStatement {
        let key = Self::sealing_key(seed, made_ms);
        key.statement(self.key(), self.id(), &mesh().mesh_key(), made_ms)
    }

    fn record(&self) -> MemberRecord {
        self.record_with(self.certificate(), self.statement(20, NOW_MS))
    }

    fn record_with(&self, certificate: Certificate, sealing: SealingStatement) -> MemberRecord {
        MemberRecord {
            agent: AgentRecord {
                name: name("bob"),
                agent_id: self.id(),
                incarnation: Incarnation::new(1),
                online: true,
                roles: Vec::new(),
                skills: Vec::new(),
            },
            certificate,
            sealing,
        }
    }

    /// A letter to this node.
    fn letter(&self, issued_ms: u64) -> Item {
        self.letter_of(Incarnation::new(1), issued_ms)
    }

    /// A letter to this node of one of his lives.
    fn letter_of(&self, life: Incarnation, issued_ms: u64) -> Item {
        let my_key = my_key();
        let header = ItemHeader {
            item: ItemId::from_bytes([1; 16]),
            from: self.id(),
            to: me(),
            class: Class::Control,
            keep: Keep::Store,
            life_ms: HOUR_MS,
            key: my_key.id(),
        };
        let seal_to = SealTo {
            agent_id: me(),
            id: my_key.id(),
            public: *my_key.public(),
            issued_ms: NOW_MS,
            expires_ms: NOW_MS + HOUR_MS,
        };
        let content = Content {
            from_incarnation: life,
            to_incarnation: None,
            issued_ms,
            certificate: self.certificate(),
            sealing: self.statement(20, NOW_MS),
            frame: b"hello".to_vec(),
        };
        let sealed = sealing::seal(&content, &header, &mesh().mesh_key(), &seal_to, self.key());
        sealed.expect("a key that works")
    }
}

fn my_key() -> SealingKey {
    SealingKey::from_seed(&[30; 32], NOW_MS + HOUR_MS)
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Distrust>) -> Code {
    outcome.expect_err("not believed").code()
}

fn key_of(members: &Members, bob: &Bob) -> Option<KeyId> {
    let seal_to = members.seal_to(&bob.id(), NOW_MS)?;
    seal_to.ok().map(|seal_to| seal_to.id)
}

#[tokio::test]
async fn whoever_was_met_can_be_sealed_to_and_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, bob) = (open(&dir), Bob::new());
    assert!(members.seal_to(&bob.id(), NOW_MS).is_none());
    let met = members.meet(&bob.record(), NOW_MS).expect("a good record");
    assert_eq!((&met.name, met.agent_id), (&name("bob"), bob.id()));
    assert_eq!(
        key_of(&members, &bob),
        Some(Bob::sealing_key(20, NOW_MS).id())
    );
}

#[tokio::test]
async fn a_sealing_key_of_somebody_else_is_not_believed_and_one_that_is_over_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, bob) = (open(&dir), Bob::new());
    let evil = SealingKey::from_seed(&[66; 32], NOW_MS + HOUR_MS);
    let evil = evil.statement(&registry(), bob.id(), &mesh().mesh_key(), NOW_MS);
    let swapped = bob.record_with(bob.certificate(), evil);
    assert_eq!(code(members.meet(&swapped, NOW_MS)), Code::BadSignature);
    let old_ms = NOW_MS - 2 * CERTIFICATE_LIFE_MS;
    let over = bob.record_with(bob.certificate(), bob.statement(20, old_ms));
    members.meet(&over, NOW_MS).expect("he can still be called");
    let seal_to = members.seal_to(&bob.id(), NOW_MS).expect("a word of it");
    assert_eq!(seal_to.expect_err("over").code(), Code::NoSealingKey);
}

#[tokio::test]
async fn neither_an_older_certificate_nor_an_older_sealing_key_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, mut bob) = (open(&dir), Bob::new());
    let old = bob.record();
    let newer_ms = NOW_MS + 60_000;
    bob.issued_ms = newer_ms;
    let new = bob.record_with(bob.certificate(), bob.statement(21, newer_ms));
    let met = members.meet(&new, newer_ms).expect("a good record");
    let again = members.meet(&old, newer_ms).expect("a good record");
    assert_eq!(again.hash, met.hash);
    assert_eq!(
        key_of(&members, &bob),
        Some(Bob::sealing_key(21, newer_ms).id())
    );
    let letter = Bob::new().letter(NOW_MS);
    let opened = members
        .open_item(&letter, &[my_key()], newer_ms)
        .expect("a letter");
    assert_eq!(opened.sender.hash, met.hash);
}

#[tokio::test]
async fn who_was_revoked_is_not_believed_any_more_in_this_life_and_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, bob) = (open(&dir), Bob::new());
    members.meet(&bob.record(), NOW_MS).expect("a good record");
    let revocation = revoke(&mesh(), Target::Member(bob.id()), NOW_MS);
    let event = members.handle_revocation(&revocation).expect("of the mesh");
    let expected = RegistryEvent::Revoked {
        ids: vec![bob.id()],
        revocations: vec![revocation.clone()],
    };
    assert_eq!(event, Some(expected));
    assert_eq!(members.handle_revocation(&revocation), Ok(None));
    assert_eq!(code(members.meet(&bob.record(), NOW_MS)), Code::Revoked);
    let seal_to = members.seal_to(&bob.id(), NOW_MS).expect("he was met");
    assert_eq!(code(seal_to), Code::Revoked);
    let letter = bob.letter(NOW_MS);
    let refused = members.open_item(&letter, &[my_key()], NOW_MS);
    assert_eq!(code(refused), Code::Revoked);
    members.close().await;
    let members = open(&dir);
    assert_eq!(code(members.meet(&bob.record(), NOW_MS)), Code::Revoked);
    assert!(members.is_revoked(bob.id()) && !members.is_revoked(me()));
}

#[tokio::test]
async fn a_revocation_that_somebody_else_signed_means_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, bob) = (open(&dir), Bob::new());
    let forged = revoke(&registry(), Target::Member(bob.id()), NOW_MS);
    assert!(members.handle_revocation(&forged).is_err());
    assert!(members.meet(&bob.record(), NOW_MS).is_ok());
}

#[tokio::test]
async fn with_an_invite_go_all_whom_it_has_admitted_this_node_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (members, bob) = (open(&dir), Bob::new());
    let invite = InviteId::from_bytes([3; 16]);
    let grant = Grant {
        invite,
        names: None,
        roles: Vec::new(),
        count: None,
        pre_approved: true,
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + HOUR_MS,
        renew_until_ms: NOW_MS + CERTIFICATE_LIFE_MS,
        registry: registry().registry_key(),
    };
    let url = "http://127.0.0.1:1".parse().expect("an origin");
    let secret = InviteSecret::make(&mesh(), &grant, url, None, [6; 32]).expect("an invite");
    let admit = |who: &str, agent_id| {
        let applicant = Applicant {
            name: name(who),
            agent_id,
            rotations: Vec::new(),
        };
        secret.admit(&applicant, NOW_MS).expect("a certificate")
    };
    let record = bob.record_with(admit("bob", bob.id()), bob.statement(20, NOW_MS));
    members.meet(&record, NOW_MS).expect("a good record");
    // Of somebody who has only made an offer the registry may never have told.
    let carol = Keypair::from_seed(&[5; 32]).agent_id();
    let shown = certificate::verify(&admit("carol", carol), &mesh().mesh_key(), NOW_MS);
    let shown = Arc::new(shown.expect("a certificate"));
    members.with(|memory| memory.known.note(shown));
    assert!(members.seal_to(&carol, NOW_MS).is_none());
    let own = certificate::verify(&admit("me", me()), &mesh().mesh_key(), NOW_MS);
    members.set_own(&own.expect("a certificate"));
    assert_eq!(members.check_own(), Ok(()));
    let revocation = revoke(&mesh(), Target::Invite(invite), NOW_MS);
    let event = members.handle_revocation(&revocation).expect("of the mesh");
    let Some(RegistryEvent::Revoked { ids, .. }) = event else {
        panic!("{event:?}")
    };
    let mut gone = vec![bob.id(), carol, me()];
    gone.sort_unstable();
    assert_eq!(ids, gone);
    let fault = members.check_own().expect_err("revoked");
    assert_eq!(fault.code, Code::Revoked);
}

#[tokio::test]
async fn a_changed_key_is_believed_with_its_statement_and_never_taken_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = open(&dir);
    for bob in [
        Bob::new(),
        Bob::new().rotated(3),
        Bob::new().rotated(3).rotated(4),
    ] {
        let met = members.meet(&bob.record(), NOW_MS).expect("a good record");
        assert_eq!(met.key, bob.key().agent_id());
    }
    // An old key, and a chain of the same length or longer that forks off from it.
    let thieves = [
        Bob::new(),
        Bob::new().rotated(3),
        Bob::new().rotated(66).rotated(67),
        Bob::new().rotated(66).rotated(67).rotated(68),
    ];
    for thief in &thieves {
        let refused = members.meet(&thief.record(), NOW_MS);
        assert_eq!(code(refused), Code::IdentityChanged);
    }
    members.close().await;
    let members = open(&dir);
    let refused = members.meet(&thieves[0].record(), NOW_MS);
    assert_eq!(code(refused), Code::IdentityChanged);
}

#[tokio::test]
async fn a_letter_of_before_the_change_is_still_read_and_one_of_after_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = open(&dir);
    let seen_ms = NOW_MS + 60_000;
    members
        .open_item(&Bob::new().letter(NOW_MS), &[my_key()], NOW_MS)
        .expect("a letter");
    let rotated = Bob::new().rotated(3);
    members
        .meet(&rotated.record(), seen_ms)
        .expect("a good record");
    let before = Bob::new().letter(NOW_MS + 1_000);
    let opened = members
        .open_item(&before, &[my_key()], seen_ms)
        .expect("a letter");
    assert_eq!(opened.content.frame, b"hello");
    let after = Bob::new().letter(seen_ms + 1);
    let refused = members.open_item(&after, &[my_key()], seen_ms + 1);
    assert_eq!(code(refused), Code::IdentityChanged);
    let fork = Bob::new().rotated(66).letter(NOW_MS + 1_000);
    let refused = members.open_item(&fork, &[my_key()], seen_ms);
    assert_eq!(code(refused), Code::IdentityChanged);
}

#[tokio::test]
async fn whoever_steals_a_key_that_was_given_up_can_only_write_as_a_life_that_was_heard_under_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = open(&dir);
    let life = Incarnation::new;
    let open_item = |members: &Members, bob: &Bob, of: u64| {
        let letter = bob.letter_of(life(of), NOW_MS);
        let opened = members.open_item(&letter, &[my_key()], NOW_MS);
        opened.map(|opened| opened.content.from_incarnation)
    };
    let [first, second, third] = [
        Bob::new(),
        Bob::new().rotated(3),
        Bob::new().rotated(3).rotated(4),
    ];
    assert_eq!(open_item(&members, &first, 5), Ok(life(5)));
    members
        .meet(&second.record(), NOW_MS)
        .expect("a good record");
    assert_eq!(open_item(&members, &second, 7), Ok(life(7)));
    members
        .meet(&third.record(), NOW_MS)
        .expect("a good record");
    let check = |members: &Members| {
        for (bob, newest) in [(&first, 5), (&second, 7)] {
            assert_eq!(open_item(members, bob, newest), Ok(life(newest)));
            for stolen in [newest + 1, u64::MAX] {
                let refused = open_item(members, bob, stolen).expect_err("a thief's");
                assert!(matches!(refused, Distrust::FormerKey { .. }), "{refused}");
                assert_eq!(refused.code(), Code::IdentityChanged);
                // What a thief writes is not held against bob.
                assert_eq!(refused.proved_name(), None);
            }
        }
        assert_eq!(open_item(members, &third, 8), Ok(life(8)));
    };
    check(&members);
    members.close().await;
    check(&open(&dir));
}

#[tokio::test]
async fn of_whom_nothing_was_heard_under_a_key_that_it_gave_up_no_letter_under_it_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = open(&dir);
    let bob = Bob::new();
    // The registry's word on a life proves nothing.
    members.meet(&bob.record(), NOW_MS).expect("a good record");
    let rotated = Bob::new().rotated(3);
    members
        .meet(&rotated.record(), NOW_MS)
        .expect("a good record");
    let refused = members.open_item(&bob.letter(NOW_MS), &[my_key()], NOW_MS);
    assert!(matches!(refused, Err(Distrust::FormerKey { .. })));
}

#[tokio::test]
async fn without_a_mesh_nobody_is_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    let members = Members::open(&Arc::new(home)).expect("members");
    let refused = members.meet(&Bob::new().record(), NOW_MS);
    assert_eq!(code(refused), Code::InviteRequired);
}

#[tokio::test]
async fn as_many_members_as_the_limit_are_remembered_and_one_more_costs_the_oldest() {
    let mut known = Acquaintances::default();
    let bob = Bob::new();
    let verified = certificate::verify(&bob.certificate(), &mesh().mesh_key(), NOW_MS);
    let verified = verified.expect("a certificate");
    let id = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        AgentId::from_bytes(bytes)
    };
    let over = SealError::Expired {
        name: name("bob"),
        over_ms: 1,
    };
    let mut meet = |n: usize| {
        let agent_id = id(n);
        let member = Verified {
            agent_id,
            ..verified.clone()
        };
        known.meet(Arc::new(member), Err(over.clone()));
    };
    for n in 0..acquaintances::KNOWN_MAX {
        meet(n);
    }
    meet(0);
    meet(acquaintances::KNOWN_MAX);
    assert!(known.seal_to(&id(0), NOW_MS).is_some());
    assert!(known.seal_to(&id(1), NOW_MS).is_none());
    assert_eq!(known.filter(|_| true).len(), acquaintances::KNOWN_MAX);
}
