//! Who is revoked is relayed for no more, whatever it has and however often the
//! registry starts anew; and who is back is relayed for at once.

mod support;

use std::time::{Duration, Instant};

use support::invite::{invite, invited};
use support::turn::{Pipe, Turn, house, on_loopback, servers, tcp, told_credentials};
use support::{House, Member, Raw, mesh, now_ms, order};
use waymesh_net::turn::client::{ClientEvent, Credentials};
use waymesh_proto::control::ServerMessage;
use waymesh_registry::IceConfig;
use waymesh_registry::admin::Order;
use waymesh_trust::revocation::{Target, revoke};

/// What "at once" means.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The registry on loopback whose credentials are good for so long.
fn lasting(lifetime: Duration) -> IceConfig {
    IceConfig {
        lifetime,
        ..on_loopback()
    }
}

async fn revoked(house: &House, target: Target) {
    let revocations = vec![revoke(&mesh(), target, now_ms())];
    let done = order(&house.data_dir(), Order::Revoke { revocations }).await;
    done.expect("revoked");
}

/// What a member is told when it logs in.
async fn told(house: &House, who: &Member, incarnation: u64) -> Credentials {
    let mut raw = Raw::log_in(&house.registry, who, incarnation).await;
    loop {
        if let ServerMessage::IceServers(servers) = raw.next().await {
            return told_credentials(&servers);
        }
    }
}

/// An allocation by UDP; it is the client's last word.
async fn asked(house: &House, credentials: &Credentials) -> ClientEvent {
    let pipe = Pipe::udp("127.0.0.1", house.addr()).await;
    Turn::new(pipe, credentials.clone()).event().await
}

async fn refused(house: &House, credentials: &Credentials) {
    let event = asked(house, credentials).await;
    assert!(
        matches!(event, ClientEvent::CredentialsRefused { .. }),
        "{event:?}"
    );
}

async fn relayed(house: &House, credentials: &Credentials) {
    let event = asked(house, credentials).await;
    assert!(matches!(event, ClientEvent::Allocated { .. }), "{event:?}");
}

#[tokio::test]
async fn a_revoked_member_loses_its_relay_within_a_second_also_by_tcp_and_gets_no_other() {
    let house = house(None, on_loopback()).await;
    let bob = house.member("bob", 2);
    let mut raw = Raw::log_in(&house.registry, &bob, 1).await;
    let told = told_credentials(&servers(&mut raw).await);
    let udp = Pipe::udp("127.0.0.1", house.addr()).await;
    let (mut udp, _) = Turn::allocated(udp, told.clone()).await;
    let (mut stream, _) = Turn::allocated(Pipe::stream(tcp(&house).await), told.clone()).await;
    revoked(&house, Target::Member(bob.agent_id())).await;
    let begun = Instant::now();
    loop {
        udp.client.probe(Instant::now());
        match udp.event_within(Duration::from_millis(50)).await {
            None => assert!(begun.elapsed() < AT_ONCE, "it is still relayed for"),
            Some(ClientEvent::Lost { .. } | ClientEvent::CredentialsRefused { .. }) => break,
            Some(other) => panic!("{other:?}"),
        }
    }
    refused(&house, &told).await;
    house.relay_metric_is("waymesh_relay_allocations", 0).await;
    stream.client.probe(Instant::now());
    assert_eq!(stream.event_within(Duration::from_millis(200)).await, None);
    // Nor does a restart let it in again.
    let house = house.restart().await;
    refused(&house, &told).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn what_was_good_for_longer_than_anything_is_now_works_never_again_for_whoever_was_revoked() {
    let house = house(None, lasting(Duration::from_secs(6))).await;
    let (alice, bob) = (house.member("alice", 1), house.member("bob", 2));
    let (of_alice, of_bob) = (told(&house, &alice, 1).await, told(&house, &bob, 1).await);
    revoked(&house, Target::Member(bob.agent_id())).await;
    // As near to its end as what is given out now, clocks' leeway included.
    let house = house.restart_with(lasting(AT_ONCE)).await;
    refused(&house, &of_bob).await;
    relayed(&house, &of_alice).await;
    let house = house.restart_with(lasting(Duration::from_secs(6))).await;
    refused(&house, &of_bob).await;
    relayed(&house, &of_alice).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_is_admitted_again_is_relayed_for_at_once_but_not_by_what_it_had() {
    let house = house(None, on_loopback()).await;
    let invite = invite(&house, 2);
    let by_invite = invited(&house, &invite, "bob", 2);
    let before = told(&house, &by_invite, 1).await;
    relayed(&house, &before).await;
    revoked(&house, Target::Invite(invite.grant.invite)).await;
    refused(&house, &before).await;
    // By an admin this time, and with a certificate that ends before what it had.
    let until = now_ms() + 60_000;
    let by_admin = Member::until("bob", 2, house.registry.key(), until);
    let since = told(&house, &by_admin, 2).await;
    relayed(&house, &since).await;
    refused(&house, &before).await;
    let house = house.restart().await;
    refused(&house, &before).await;
    relayed(&house, &told(&house, &by_admin, 3).await).await;
    house.registry.stop().await;
}
