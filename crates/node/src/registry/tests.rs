//! Links to a real registry on loopback, and to others that only pretend.

mod joining;
mod mailbox;
mod seat;
mod strangers;

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;
use waymesh_proto::api::SkillSpec;
use waymesh_proto::signaling::Signal;
use waymesh_proto::{MessageId, SessionId};
use waymesh_registry::Registry;

use super::*;
use seat::{Seat, connected, fatal, fresh, registry, until};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn tell(link: &mut RegistryLink, command: RegistryCommand) {
    link.place().expect("room").send(command);
}

fn signal_to(to: &Seat, signal: Signal) -> RegistryCommand {
    RegistryCommand::Signal {
        to: to.id(),
        to_incarnation: Incarnation::new(1),
        session: SessionId::from_bytes([5; 16]),
        seq: 0,
        signal,
    }
}

fn resolve(name: &str) -> RegistryCommand {
    RegistryCommand::Resolve {
        name: name.parse().expect("a name"),
    }
}

#[tokio::test]
async fn a_membership_is_kept_after_the_first_login_and_needs_no_invite_then() {
    let (_dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    assert_eq!(alice.home.membership().expect("a home"), None);
    connected(&mut alice.open()).await;
    let membership = alice.home.membership().expect("a home");
    assert_eq!(membership.map(|member| member.agent_id), Some(alice.id()));
    alice.invitation = None;
    alice.incarnation += 1;
    let mut link = alice.open();
    let first = until(&mut link, Some).await;
    assert_eq!(first, News::Event(RegistryEvent::Connected));
    let ends = until(&mut link, |news| match news {
        News::Event(RegistryEvent::Membership { expires }) => Some(expires),
        _ => None,
    });
    assert!(ends.await > std::time::Instant::now());
}

#[tokio::test]
async fn an_offer_and_its_answer_find_their_way_signed_and_bound_to_each_other() {
    let (_dir, registry) = fresh().await;
    let (mut alice, mut bob) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    let (mut to_alice, mut to_bob) = (alice.open(), bob.open());
    connected(&mut to_alice).await;
    connected(&mut to_bob).await;
    let sdp = "v=0".to_owned();
    tell(
        &mut to_alice,
        signal_to(&bob, Signal::Offer { sdp: sdp.clone() }),
    );
    let received = |news| match news {
        News::Event(RegistryEvent::Signal { from, body }) => Some((from, body)),
        _ => None,
    };
    let (from, body) = until(&mut to_bob, received).await;
    assert_eq!((from.name.as_str(), from.id), ("alice", alice.id()));
    assert_eq!(body.signal, Signal::Offer { sdp: sdp.clone() });
    let answer = Signal::Answer {
        sdp: sdp.clone(),
        offer_hash: String::new(),
    };
    tell(&mut to_bob, signal_to(&alice, answer));
    let (_, body) = until(&mut to_alice, received).await;
    let offer_hash = waymesh_trust::signal::offer_hash(&sdp);
    assert_eq!(body.signal, Signal::Answer { sdp, offer_hash });
    assert_eq!(to_alice.counters().snapshot().signals_unasked, 0);
}

#[tokio::test]
async fn a_signal_to_nobody_and_a_name_of_nobody_are_reported() {
    let (_dir, registry) = fresh().await;
    let (mut alice, nobody) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    let mut link = alice.open();
    connected(&mut link).await;
    let sdp = String::new();
    tell(&mut link, signal_to(&nobody, Signal::Offer { sdp }));
    tell(&mut link, resolve("nobody"));
    let undeliverable = until(&mut link, |news| match news {
        News::Event(RegistryEvent::Undeliverable { to, code, .. }) => Some((to, code)),
        _ => None,
    });
    assert_eq!(undeliverable.await, (nobody.id(), Code::PeerOffline));
    let name = until(&mut link, |news| match news {
        News::Event(RegistryEvent::Unknown { name }) => Some(name),
        _ => None,
    });
    assert_eq!(name.await.as_str(), "nobody");
}

#[tokio::test]
async fn a_letter_to_a_member_that_was_introduced_leaves_before_its_record_is_here() {
    let (_dir, registry) = fresh().await;
    let (mut alice, mut bob) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    let mut to_alice = alice.open();
    connected(&mut to_alice).await;
    // Bob comes after her, and is introduced for that.
    let mut to_bob = bob.open();
    connected(&mut to_bob).await;
    // What is said of somebody else later shows that she has heard of him.
    let mut carol = Seat::new("carol", &registry);
    tell(&mut to_alice, resolve("carol"));
    let mut to_carol = carol.open();
    connected(&mut to_carol).await;
    until(&mut to_alice, |news| match news {
        News::Event(RegistryEvent::Record { .. }) => Some(()),
        _ => None,
    })
    .await;
    tell(&mut to_alice, resolve("bob"));
    let first = until(&mut to_alice, |news| match news {
        News::Event(RegistryEvent::Introduced { member }) => Some(Ok(member)),
        News::Event(RegistryEvent::Record { record, .. }) => Some(Err(record)),
        _ => None,
    });
    let member = first.await.expect("the introduction comes first");
    assert_eq!((member.name.as_str(), member.id), ("bob", bob.id()));
    let record = until(&mut to_alice, |news| match news {
        News::Event(RegistryEvent::Record { record, .. }) => Some(record),
        _ => None,
    });
    assert_eq!(record.await.agent_id, bob.id());
}

#[tokio::test]
async fn presence_and_skills_of_a_peer_are_reported_as_they_change() {
    let (_dir, registry) = fresh().await;
    let (mut alice, mut bob) = (Seat::new("alice", &registry), Seat::new("bob", &registry));
    let mut to_alice = alice.open();
    connected(&mut to_alice).await;
    tell(&mut to_alice, resolve("bob"));
    let mut to_bob = bob.open();
    connected(&mut to_bob).await;
    let spec = SkillSpec {
        name: "echo".parse().expect("a skill name"),
        description: None,
        schema: None,
        idempotent: false,
    };
    tell(&mut to_bob, RegistryCommand::Skills(vec![spec]));
    let record = |online: bool, skills: usize| {
        let bob = bob.id();
        move |news| match news {
            News::Event(RegistryEvent::Record { record, member }) => {
                let as_expected = record.online == online && record.skills.len() == skills;
                (member.id == bob && as_expected).then_some(())
            }
            _ => None,
        }
    };
    until(&mut to_alice, record(true, 1)).await;
    to_bob.close().await;
    until(&mut to_alice, record(false, 1)).await;
}

#[tokio::test]
async fn a_find_is_answered_by_the_registry_and_by_its_absence() {
    let (_dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    let mut link = alice.open();
    connected(&mut link).await;
    let find = |n: u8| RegistryCommand::Find {
        id: MessageId::from_bytes([n; 16]),
        name: None,
        skill: None,
    };
    let found = |news| match news {
        News::Event(RegistryEvent::Found { outcome, .. }) => Some(outcome),
        _ => None,
    };
    tell(&mut link, find(1));
    let agents = until(&mut link, found).await.expect("agents");
    assert_eq!(agents.len(), 1);
    registry.stop().await;
    let away = until(&mut link, |news| match news {
        News::Away(fault) => Some(fault.code),
        _ => None,
    });
    assert_eq!(away.await, Code::RegistryUnreachable);
    tell(&mut link, find(2));
    let fault = until(&mut link, found).await.expect_err("no registry");
    assert_eq!(fault.code, Code::RegistryUnreachable);
}

#[tokio::test]
async fn a_link_that_starts_before_its_registry_logs_in_when_that_comes_and_comes_back() {
    let (dir, first) = fresh().await;
    let (addr, mut alice) = (first.local_addr(), Seat::new("alice", &first));
    first.stop().await;
    let mut link = alice.open();
    for _ in 0..3 {
        let registry = registry(&dir, addr).await;
        connected(&mut link).await;
        registry.stop().await;
    }
    assert!(link.counters().snapshot().logins >= 3);
    link.close().await;
}

#[tokio::test]
async fn a_newcomer_that_no_retry_helps_and_a_node_with_a_twin_end_with_their_codes() {
    let (_dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    let mut link = alice.open();
    connected(&mut link).await;
    let mut namesake = Seat::new("alice", &registry);
    assert_eq!(fatal(&mut namesake.open()).await, Code::NameTaken);
    // A copy of her directory: the newer life is the one that stays.
    alice.incarnation += 1;
    let mut newer = alice.open();
    connected(&mut newer).await;
    assert_eq!(fatal(&mut link).await, Code::IdentityInUse);
}

#[tokio::test]
async fn a_full_queue_of_commands_says_when_there_is_room_again() {
    let (_dir, registry) = fresh().await;
    let mut alice = Seat::new("alice", &registry);
    let mut link = alice.open();
    connected(&mut link).await;
    for _ in 0..2 * DRIVER_TO_LINK_CAP {
        while link.place().is_none() {
            timeout(PATIENCE, link.wait()).await.expect("room in time");
        }
        tell(&mut link, RegistryCommand::WatchAll);
    }
    link.close().await;
}
