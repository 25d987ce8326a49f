//! What a node starts with, given what it is and what it was given.

use std::num::NonZeroU32;

use waymesh_proto::InviteId;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_trust::Keypair;
use waymesh_trust::invite::Grant;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// A directory and what it was given.
struct Case {
    _dir: tempfile::TempDir,
    home: Home,
}

fn case() -> Case {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    Case { _dir: dir, home }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn invite(mesh: u8, pre_approved: bool) -> Invitation {
    invite_for(None, mesh, pre_approved)
}

fn invite_for(names: Option<Vec<Name>>, mesh: u8, pre_approved: bool) -> Invitation {
    let mesh = Keypair::from_seed(&[mesh; 32]);
    let grant = Grant {
        invite: InviteId::from_bytes([3; 16]),
        names,
        roles: Vec::new(),
        count: NonZeroU32::new(1),
        pre_approved,
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + DAY_MS,
        renew_until_ms: NOW_MS + 90 * DAY_MS,
        registry: Keypair::from_seed(&[7; 32]).registry_key(),
    };
    let registry = "https://mesh.example".parse().expect("an origin");
    let invite = InviteSecret::make(&mesh, &grant, registry, Some([5; 32]), [6; 32]);
    Invitation::Invite(Box::new(invite.expect("an invite")))
}

impl Case {
    fn standing(&self, invitation: Option<Invitation>, now_ms: u64) -> Result<Standing, Fault> {
        standing(&self.home, &name("alice"), invitation, None, now_ms)
    }

    /// Makes it a member of mesh 9.
    fn join(&self) -> Membership {
        let entering = self.standing(Some(invite(9, true)), NOW_MS);
        let Ok(Standing::Entering(membership)) = entering else {
            panic!("{entering:?}")
        };
        self.home.store_membership(&membership).expect("room");
        membership
    }
}

fn code(standing: Result<Standing, Fault>) -> Code {
    standing.expect_err("refused").code
}

#[test]
fn without_a_membership_an_invite_is_required() {
    assert_eq!(code(case().standing(None, NOW_MS)), Code::InviteRequired);
}

#[test]
fn a_pre_approved_invite_makes_a_certificate_that_is_kept_by_nobody_yet() {
    let case = case();
    let standing = case.standing(Some(invite(9, true)), NOW_MS).expect("leave");
    assert_eq!(standing.registry().as_str(), "https://mesh.example");
    assert_eq!(standing.tls(), RegistryTls::Pinned(TlsPin([5; 32])));
    let Standing::Entering(membership) = standing else {
        panic!("{standing:?}")
    };
    let verified = certificate::verify(&membership.certificate, &membership.mesh, NOW_MS);
    let verified = verified.expect("a certificate");
    assert_eq!(verified.agent_id, case.home.agent_id());
    assert_eq!(verified.name, name("alice"));
    assert_eq!(verified.expires_ms, NOW_MS + CERTIFICATE_LIFE_MS);
    assert_eq!(case.home.membership().expect("a home"), None);
}

#[test]
fn an_invite_for_other_names_is_refused_before_anything_is_sent() {
    for pre_approved in [true, false] {
        let invite = |who: &str| invite_for(Some(vec![name(who)]), 9, pre_approved);
        let other = case().standing(Some(invite("bob")), NOW_MS);
        assert_eq!(code(other), Code::BadInvite);
        assert!(case().standing(Some(invite("alice")), NOW_MS).is_ok());
    }
}

#[test]
fn any_other_invite_and_a_pairing_code_make_an_application() {
    let case = case();
    let invited = case
        .standing(Some(invite(9, false)), NOW_MS)
        .expect("leave");
    assert!(matches!(invited, Standing::Applying(_)));
    let paired = || Some("123456".parse().expect("a code"));
    assert_eq!(code(case.standing(paired(), NOW_MS)), Code::Usage);
    let url = Some("http://127.0.0.1:1".parse().expect("an origin"));
    let asked = standing(&case.home, &name("alice"), paired(), url, NOW_MS);
    assert!(matches!(asked, Ok(Standing::Applying(_))));
}

#[test]
fn six_digits_trust_a_registry_on_first_use_only_where_the_node_never_met_one() {
    let tls = |case: &Case, invitation, now_ms| {
        let url = Some("https://mesh.example".parse().expect("an origin"));
        let standing = standing(&case.home, &name("alice"), invitation, url, now_ms);
        standing.expect("leave").tls()
    };
    let digits = || Some("123456".parse().expect("a code"));
    let known = RegistryTls::Pinned(TlsPin([5; 32]));
    let case = case();
    assert_eq!(tls(&case, digits(), NOW_MS), RegistryTls::FirstUse);
    assert_eq!(tls(&case, Some(invite(9, false)), NOW_MS), known);
    let mut membership = case.join();
    let over_ms = NOW_MS + 91 * DAY_MS;
    for now_ms in [NOW_MS, over_ms] {
        assert_eq!(tls(&case, digits(), now_ms), known);
    }
    membership.tls_pin = None;
    case.home.store_membership(&membership).expect("room");
    for now_ms in [NOW_MS, over_ms] {
        assert_eq!(tls(&case, digits(), now_ms), RegistryTls::Vouched);
    }
}

#[test]
fn an_invite_that_is_over_or_not_yet_good_is_refused_before_anything_is_sent() {
    let case = case();
    let over_ms = NOW_MS + DAY_MS + waymesh_proto::limits::CLOCK_LEEWAY_MS + 1_000;
    let over = case.standing(Some(invite(9, true)), over_ms);
    assert_eq!(code(over), Code::InviteExpired);
    let early_ms = NOW_MS - 3_600_000;
    let early = case.standing(Some(invite(9, true)), early_ms);
    assert_eq!(code(early), Code::ClockSkew);
}

#[test]
fn a_member_needs_no_invite_and_takes_no_notice_of_one_of_its_mesh() {
    let case = case();
    let membership = case.join();
    for invitation in [None, Some(invite(9, true)), Some(invite(9, false))] {
        let standing = case
            .standing(invitation, NOW_MS + 8 * DAY_MS)
            .expect("leave");
        assert!(matches!(&standing, Standing::Member(known) if *known == membership));
    }
}

#[test]
fn a_member_refuses_an_invite_of_another_mesh_and_another_name() {
    let case = case();
    case.join();
    let other = case.standing(Some(invite(8, true)), NOW_MS);
    assert_eq!(code(other), Code::BadInvite);
    let renamed = standing(&case.home, &name("bob"), None, None, NOW_MS);
    assert_eq!(code(renamed), Code::Usage);
}

#[test]
fn a_membership_that_can_no_longer_be_renewed_is_replaced_by_a_new_invite() {
    let case = case();
    case.join();
    let over_ms = NOW_MS + 91 * DAY_MS;
    let again = case.standing(Some(invite(9, true)), over_ms);
    // The old invite is over too, but it was looked at.
    assert_eq!(code(again), Code::InviteExpired);
    let asked = case.standing(Some(invite(9, false)), over_ms);
    assert!(matches!(asked, Ok(Standing::Applying(_))));
    let without = case.standing(None, over_ms);
    assert!(matches!(without, Ok(Standing::Member(_))));
}

#[test]
fn the_url_that_is_given_counts_before_that_of_invite_and_membership() {
    let case = case();
    let url: Origin = "https://other.example".parse().expect("an origin");
    let here = |invitation| {
        let standing = standing(
            &case.home,
            &name("alice"),
            invitation,
            Some(url.clone()),
            NOW_MS,
        );
        standing.expect("leave").registry().clone()
    };
    assert_eq!(here(Some(invite(9, true))), url);
    case.join();
    assert_eq!(here(None), url);
}

#[test]
fn a_membership_reads_back_from_its_file() {
    let case = case();
    let membership = case.join();
    assert_eq!(
        case.home.membership().expect("a home"),
        Some(membership.clone())
    );
    let pin = serde_json::to_string(&membership.tls_pin).expect("JSON");
    assert_eq!(pin, format!("\"{}\"", "05".repeat(32)));
}
