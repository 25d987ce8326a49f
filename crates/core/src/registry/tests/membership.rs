//! Certificates that end, invites that are used up, keys that change, members
//! and invites that are revoked.

use std::num::NonZeroU32;

use waymesh_proto::InviteId;
use waymesh_proto::control::MeshKey;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;

use super::mailbox::{Seen, header, seen};
use super::*;

const LIFE: Duration = Duration::from_millis(CERTIFICATE_LIFE_MS);

/// A login whose certificate ends after this time and may be extended for ever.
fn ending(bench: &Bench, after: Duration) -> VerifiedLogin {
    VerifiedLogin {
        expires: bench.now + after,
        renewable_until: Some(far()),
        ..login("a", 1, 1)
    }
}

fn invited(name: &str, key: u8, invitation: &Invitation) -> VerifiedLogin {
    VerifiedLogin {
        invite: Some(invitation.clone()),
        ..login(name, key, 1)
    }
}

fn invitation(count: u32) -> Invitation {
    Invitation {
        id: InviteId::from_bytes([5; 16]),
        count: NonZeroU32::new(count),
        until: far(),
    }
}

fn revocation(target: Revoked) -> StoredRevocation {
    let text = match target {
        Revoked::Member(agent_id) => format!("member.{agent_id}"),
        Revoked::Invite(invite) => format!("invite.{invite}"),
    };
    StoredRevocation {
        target,
        revocation: text.parse().expect("a token"),
    }
}

impl Bench {
    fn revoke(&mut self, target: Revoked) -> Vec<Effect> {
        let effects = self.order(Order::Revoke(vec![revocation(target)]));
        assert!(matches!(answer_of(&effects), Some(Ok(Reply::Done))));
        effects
    }

    fn extend(&mut self, conn: u64, expires: Instant) -> Vec<Effect> {
        let extended = Extended {
            extension: "the-extension".parse().expect("a token"),
            certificate: "longer".parse().expect("a token"),
            expires,
        };
        self.rules.handle_extended(self.now, ConnId(conn), extended);
        self.effects()
    }
}

fn is_extension_asked(effects: &[Effect], conn: u64) -> bool {
    let asked = |effect: &Effect| matches!(effect, Effect::Extend { conn: c, .. } if c.0 == conn);
    effects.iter().any(asked)
}

fn revoked_told(effects: &[Effect], conn: u64) -> usize {
    let messages = told(effects, conn).into_iter();
    let counts = messages.map(|message| match message {
        ServerMessage::Revoked { revocations } => revocations.len(),
        _ => 0,
    });
    counts.sum()
}

#[test]
fn a_member_whose_certificate_ends_is_closed_with_that_reason() {
    let mut bench = Bench::new();
    let login = VerifiedLogin {
        renewable_until: None,
        ..ending(&bench, Duration::from_secs(60))
    };
    assert!(is_welcome(&bench.connect(1, login.clone()), 1));
    let effects = bench.pass_alive(Duration::from_millis(59_999), &[1]);
    assert_eq!(close_of(&effects, 1), None);
    let effects = bench.pass(Duration::from_millis(1));
    assert_eq!(error_of(&effects, 1), Some(Code::CertificateExpired));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Expired));
    let late = bench.connect(2, login);
    assert_eq!(error_of(&late, 2), Some(Code::CertificateExpired));
}

#[test]
fn a_certificate_with_less_than_half_of_its_life_is_extended_at_the_login() {
    let mut bench = Bench::new();
    let login = ending(&bench, LIFE / 2);
    let effects = bench.connect(1, login);
    assert!(is_welcome(&effects, 1) && is_extension_asked(&effects, 1));
    bench.connect(2, super::login("b", 2, 1));
    bench.say(2, resolve("a"));
    let effects = bench.extend(1, bench.now + LIFE);
    let extended = |m: &&ServerMessage| matches!(m, ServerMessage::Extended { .. });
    assert!(told(&effects, 1).iter().any(extended));
    let shown = told(&effects, 2);
    assert!(
        matches!(shown[..], [ServerMessage::Records { agents }] if agents[0].certificate.as_str() == "longer")
    );
    let stored = bench.disk.stored().agents;
    assert!(stored.iter().any(|a| a.certificate.as_str() == "longer"));
}

#[test]
fn a_certificate_is_extended_once_when_half_of_its_life_is_over() {
    let mut bench = Bench::new();
    let more = Duration::from_secs(60);
    let login = ending(&bench, LIFE / 2 + more);
    assert!(!is_extension_asked(&bench.connect(1, login), 1));
    let effects = bench.pass_alive(more - Duration::from_millis(1), &[1]);
    assert!(!is_extension_asked(&effects, 1));
    assert!(is_extension_asked(&bench.pass(Duration::from_millis(1)), 1));
    let effects = bench.pass_alive(Duration::from_secs(600), &[1]);
    assert!(!is_extension_asked(&effects, 1));
    bench.extend(1, bench.now + LIFE);
    let effects = bench.pass_alive(Duration::from_secs(600), &[1]);
    assert!(!is_extension_asked(&effects, 1));
}

#[test]
fn a_certificate_that_has_ended_but_can_be_extended_is_shown_to_nobody_before_that() {
    let mut bench = Bench::new();
    bench.connect(2, login("b", 2, 1));
    bench.say(2, resolve("a"));
    let mut login = ending(&bench, Duration::ZERO);
    let effects = bench.connect(1, login.clone());
    assert!(is_welcome(&effects, 1) && is_extension_asked(&effects, 1));
    assert_eq!(records(&effects, 2), []);
    assert_eq!(records(&bench.extend(1, bench.now + LIFE), 2).len(), 1);
    // If nobody extends it, it is over at once.
    login.incarnation = Incarnation::new(2);
    let effects = bench.connect(3, login);
    assert!(is_welcome(&effects, 3));
    let effects = bench.pass(Duration::ZERO);
    assert_eq!(close_of(&effects, 3), Some(CloseReason::Expired));
}

#[test]
fn a_certificate_that_cannot_live_longer_is_not_extended() {
    let mut bench = Bench::new();
    let mut login = ending(&bench, Duration::from_secs(60));
    login.renewable_until = Some(login.expires);
    assert!(!is_extension_asked(&bench.connect(1, login), 1));
}

#[test]
fn an_invite_admits_as_many_as_its_count_and_those_again_also_after_a_restart() {
    let mut bench = Bench::new();
    let invite = invitation(2);
    assert!(is_welcome(&bench.connect(1, invited("a", 1, &invite)), 1));
    assert!(is_welcome(&bench.connect(2, invited("b", 2, &invite)), 2));
    let third = bench.connect(3, invited("c", 3, &invite));
    assert_eq!(error_of(&third, 3), Some(Code::InviteExhausted));
    bench.restart();
    let third = bench.connect(3, invited("c", 3, &invite));
    assert_eq!(error_of(&third, 3), Some(Code::InviteExhausted));
    assert!(is_welcome(&bench.connect(4, invited("a", 1, &invite)), 4));
}

#[test]
fn an_invite_gives_a_member_one_name_also_to_two_logins_at_once() {
    let mut bench = Bench::new();
    let invite = invitation(1);
    bench.outcome = None;
    bench.connect(1, invited("a", 1, &invite));
    let at_once = bench.connect(2, invited("b", 1, &invite));
    assert_eq!(error_of(&at_once, 2), Some(Code::InviteExhausted));
    bench.outcome = Some(Ok(()));
    assert!(is_welcome(&bench.answer_all(Ok(())), 1));
    let later = bench.connect(3, invited("b", 1, &invite));
    assert_eq!(error_of(&later, 3), Some(Code::InviteExhausted));
    assert!(is_welcome(&bench.connect(4, invited("a", 1, &invite)), 4));
}

#[test]
fn of_two_that_use_the_last_place_of_an_invite_at_once_one_gets_it() {
    let mut bench = Bench::new();
    bench.outcome = None;
    let invite = invitation(1);
    bench.connect(1, invited("a", 1, &invite));
    let second = bench.connect(2, invited("b", 2, &invite));
    assert_eq!(error_of(&second, 2), Some(Code::InviteExhausted));
    // The first could not be stored: the place is free.
    bench.answer_all(Err(Fault::new(Code::Storage, "the disk is full")));
    bench.outcome = Some(Ok(()));
    assert!(is_welcome(&bench.connect(3, invited("b", 2, &invite)), 3));
}

#[test]
fn an_invite_admits_nobody_new_after_its_time_but_those_whom_it_has_admitted() {
    let mut bench = Bench::new();
    let invite = Invitation {
        until: bench.now + Duration::from_secs(1),
        ..invitation(0)
    };
    assert!(is_welcome(&bench.connect(1, invited("a", 1, &invite)), 1));
    bench.now += Duration::from_secs(1);
    let late = bench.connect(2, invited("b", 2, &invite));
    assert_eq!(error_of(&late, 2), Some(Code::InviteExpired));
    assert!(is_welcome(&bench.connect(3, invited("a", 1, &invite)), 3));
}

#[test]
fn an_agent_that_has_changed_its_key_is_not_believed_with_an_older_or_another_history() {
    let mut bench = Bench::new();
    let with_keys = |keys: &[u8], incarnation| VerifiedLogin {
        keys: keys.iter().copied().map(id).collect(),
        ..login("a", 1, incarnation)
    };
    assert!(is_welcome(&bench.connect(1, with_keys(&[1], 1)), 1));
    assert!(is_welcome(&bench.connect(2, with_keys(&[1, 8], 2)), 2));
    bench.restart();
    for keys in [&[1][..], &[1, 9], &[1, 9, 10]] {
        let effects = bench.connect(3, with_keys(keys, 3));
        assert_eq!(error_of(&effects, 3), Some(Code::IdentityChanged));
    }
    assert!(is_welcome(&bench.connect(4, with_keys(&[1, 8, 9], 4)), 4));
    let check = |keys: &[u8]| {
        let keys: Vec<_> = keys.iter().copied().map(id).collect();
        let checked = bench.rules.check_member(&id(1), None, &keys);
        checked.err().map(|fault| fault.code)
    };
    assert_eq!(check(&[1, 8, 9]), None);
    assert_eq!(check(&[1, 8]), Some(Code::IdentityChanged));
}

#[test]
fn a_revoked_member_is_closed_everybody_is_told_and_its_name_is_free() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.say(2, resolve("a"));
    let effects = bench.revoke(Revoked::Member(id(1)));
    assert_eq!(error_of(&effects, 1), Some(Code::Revoked));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Revoked));
    assert_eq!(
        (revoked_told(&effects, 1), revoked_told(&effects, 2)),
        (1, 1)
    );
    let gone = |m: &&ServerMessage| matches!(m, ServerMessage::Unknown { .. });
    assert!(told(&effects, 2).iter().any(gone));
    assert_eq!(bench.rules.connection_counts(), (1, 1));
    for restarts in 0..2 {
        let again = bench.connect(10 + restarts, login("a", 1, 2));
        assert_eq!(error_of(&again, 10 + restarts), Some(Code::Revoked));
        // With the proof of it, so that the node can believe it.
        assert_eq!(revoked_told(&again, 10 + restarts), 1);
        bench.restart();
    }
    let checked = bench.rules.check_member(&id(1), None, &[id(1)]);
    assert_eq!(checked.err().map(|fault| fault.code), Some(Code::Revoked));
    assert!(is_welcome(&bench.connect(20, login("a", 3, 1)), 20));
}

#[test]
fn whoever_logs_in_is_told_of_all_revocations() {
    let mut bench = Bench::new();
    for n in 0..3 {
        bench.revoke(Revoked::Member(id(100 + n)));
    }
    // The same once more is no news.
    bench.revoke(Revoked::Member(id(100)));
    bench.restart();
    let effects = bench.connect(1, login("a", 1, 1));
    assert_eq!(revoked_told(&effects, 1), 3);
}

#[test]
fn a_revocation_counts_when_it_is_durable_and_not_when_it_cannot_be() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.outcome = Some(Err(Fault::new(Code::Storage, "the disk is full")));
    let order = Order::Revoke(vec![revocation(Revoked::Member(id(1)))]);
    let effects = bench.order(order);
    assert!(matches!(answer_of(&effects), Some(Err(fault)) if fault.code == Code::Storage));
    assert_eq!(close_of(&effects, 1), None);
}

#[test]
fn a_revoked_invite_takes_its_members_with_it_and_no_others() {
    let mut bench = Bench::new();
    let invite = invitation(0);
    bench.connect(1, invited("a", 1, &invite));
    bench.connect(2, login("b", 2, 1));
    let effects = bench.revoke(Revoked::Invite(invite.id));
    assert_eq!(close_of(&effects, 1), Some(CloseReason::Revoked));
    assert_eq!(close_of(&effects, 2), None);
    let again = bench.connect(3, invited("a", 1, &invite));
    assert_eq!(error_of(&again, 3), Some(Code::Revoked));
    // An admin may admit the same identity otherwise.
    assert!(is_welcome(&bench.connect(4, login("a", 1, 1)), 4));
}

#[test]
fn a_member_that_is_revoked_while_it_logs_in_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.outcome = None;
    bench.connect(1, login("a", 1, 1));
    let (writes, ticket) = bench.waiting.remove(0);
    bench.outcome = Some(Ok(()));
    bench.revoke(Revoked::Member(id(1)));
    for write in writes {
        bench.disk.write(write);
    }
    bench.rules.handle_stored(bench.now, ticket, Ok(()));
    let effects = bench.effects();
    assert_eq!(error_of(&effects, 1), Some(Code::Revoked));
    assert_eq!(bench.disk.stored().agents, []);
    assert_eq!(bench.found(), []);
}

#[test]
fn items_of_a_revoked_member_are_not_delivered_and_items_to_it_go_back() {
    let mut bench = Bench::pair();
    bench.connect(3, login("c", 3, 1));
    bench.close(2);
    bench.post(1, &header(1));
    let to_it = waymesh_proto::mailbox::ItemHeader {
        from: id(3),
        to: id(1),
        ..header(2)
    };
    bench.close(1);
    bench.post(3, &to_it);
    let effects = bench.revoke(Revoked::Member(id(1)));
    let returned: Vec<_> = seen(&effects);
    assert_eq!(returned, [Seen::Returned(3, 2, Code::Revoked)]);
    assert_eq!(bench.rules.mailbox_level().items, 0);
    assert_eq!(bench.disk.stored().items, []);
    let again = bench.post(3, &to_it);
    assert_eq!(again, [Seen::Refused(3, 2, Code::UnknownPeer)]);
}

#[test]
fn as_many_revocations_as_the_limit_are_remembered_and_one_more_is_refused() {
    let mut bench = Bench::new();
    let nth = |n: usize| {
        let bytes = (n as u128).to_be_bytes();
        revocation(Revoked::Invite(InviteId::from_bytes(bytes)))
    };
    let all = (0..REVOCATIONS_MAX).map(nth).collect();
    let effects = bench.order(Order::Revoke(all));
    assert!(matches!(answer_of(&effects), Some(Ok(Reply::Done))));
    let effects = bench.order(Order::Revoke(vec![nth(REVOCATIONS_MAX)]));
    assert!(matches!(answer_of(&effects), Some(Err(fault)) if fault.code == Code::QueueFull));
    let effects = bench.connect(1, login("a", 1, 1));
    assert_eq!(revoked_told(&effects, 1), REVOCATIONS_MAX);
}

#[test]
fn a_registry_serves_the_mesh_that_was_founded_first_for_ever() {
    let mut bench = Bench::new();
    let found = |bench: &mut Bench, key: u8| {
        let mesh = MeshKey::from_bytes([key; 32]);
        let effects = bench.order(Order::Found { mesh });
        let founded = effects.contains(&Effect::Founded { mesh });
        let refused = match answer_of(&effects) {
            Some(Ok(Reply::Done)) => None,
            Some(Err(fault)) => Some(fault.code),
            other => panic!("{other:?}"),
        };
        (founded, refused)
    };
    assert_eq!(found(&mut bench, 1), (true, None));
    assert_eq!(found(&mut bench, 1), (false, None));
    bench.restart();
    assert_eq!(found(&mut bench, 2), (false, Some(Code::WrongRegistry)));
    assert_eq!(found(&mut bench, 1), (false, None));
}

#[test]
fn a_new_sealing_key_is_told_to_whoever_watches() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, login("b", 2, 1));
    bench.say(2, resolve("a"));
    let statement: waymesh_proto::membership::SealingStatement =
        "a-new-one".parse().expect("a token");
    for expected in [1, 0] {
        bench
            .rules
            .handle_sealing(bench.now, ConnId(1), statement.clone());
        let effects = bench.effects();
        assert_eq!(records(&effects, 2).len(), expected);
    }
    let stored = bench.disk.stored().agents;
    assert!(stored.iter().any(|agent| agent.sealing == statement));
}

#[test]
fn whoever_is_revoked_loses_what_it_has_without_a_connection_at_once() {
    let mut bench = Bench::new();
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, invited("b", 2, &invitation(2)));
    bench.close(1);
    bench.close(2);
    let expelled = |effects: Vec<Effect>, id: AgentId| {
        let is_it = |e: &Effect| matches!(e, Effect::Expelled { agent_id } if *agent_id == id);
        effects.iter().any(is_it)
    };
    let effects = bench.revoke(Revoked::Member(login("a", 1, 1).agent_id));
    assert!(expelled(effects, login("a", 1, 1).agent_id));
    let effects = bench.revoke(Revoked::Invite(invitation(2).id));
    assert!(expelled(effects, login("b", 2, 1).agent_id));
}

#[test]
fn a_restarted_registry_knows_who_was_expelled_though_it_may_be_back() {
    let mut bench = Bench::new();
    let ids = [1, 2, 3].map(|key| login("x", key, 1).agent_id);
    bench.connect(1, login("a", 1, 1));
    bench.connect(2, invited("b", 2, &invitation(2)));
    bench.connect(3, invited("c", 3, &invitation(2)));
    assert!(bench.disk.stored().expelled().is_empty());
    bench.revoke(Revoked::Member(ids[0]));
    bench.revoke(Revoked::Invite(invitation(2).id));
    // One of them was admitted again, by another way.
    assert!(is_welcome(&bench.connect(4, login("c", 3, 2)), 4));
    let expelled = bench.disk.stored().expelled();
    assert_eq!(expelled, ids.into());
}
