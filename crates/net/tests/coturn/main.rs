//! Our TURN client and coturn, an implementation of others: UDP, TCP and TLS.

mod agent;
mod server;

use std::time::Duration;

use waymesh_net::turn::client::{ClientEvent, TurnError};

use agent::{ALL, Act, Agent, Io, PATIENCE, Transport};
use server::{Coturn, Users, alice, timed, unix_now};

/// First words of messages (RFC 8656 §17).
const REFRESH_SUCCESS: u16 = 0x0104;
const CHANNEL_BIND_SUCCESS: u16 = 0x0109;
const CREATE_PERMISSION: u16 = 0x0008;
const CREATE_PERMISSION_SUCCESS: u16 = 0x0108;
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4FFF;

/// Within what a refusal is told.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Payloads of a burst: coturn drops what comes by UDP for a stream that has 32 KiB
/// to be written.
const BURST: u32 = 16;

/// Good for an hour.
fn valid() -> waymesh_net::turn::client::Credentials {
    timed(unix_now() + 3_600)
}

/// A payload that tells which one it is.
fn payload(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().repeat(length.div_ceil(4));
    bytes.truncate(length);
    bytes
}

/// Two clients that reach each other, relay to relay.
async fn pair(server: &Coturn, a: Transport, b: Transport) -> [(Agent, std::net::SocketAddr); 2] {
    let a = Agent::allocated(server, a, valid()).await;
    let b = Agent::allocated(server, b, valid()).await;
    a.0.act(Act::Permit(vec![b.1.ip()])).await;
    b.0.act(Act::Permit(vec![a.1.ip()])).await;
    // What comes before is dropped by the server.
    a.0.has_received(CREATE_PERMISSION_SUCCESS).await;
    b.0.has_received(CREATE_PERMISSION_SUCCESS).await;
    [a, b]
}

#[tokio::test]
async fn payloads_of_101_bytes_pass_both_ways_by_every_pair_of_transports() {
    let Some(server) = Coturn::start(Users::Secret, &[]) else {
        return;
    };
    for a in ALL {
        for b in ALL {
            let [(mut a, at_a), (mut b, at_b)] = pair(&server, a, b).await;
            // More than until a channel is bound.
            for number in 0..8 {
                let sent = payload(number, 101);
                a.act(Act::Send(at_b, sent.clone())).await;
                assert_eq!(b.data(PATIENCE).await, Some((at_a, sent.clone())));
                b.act(Act::Send(at_a, sent.clone())).await;
                assert_eq!(a.data(PATIENCE).await, Some((at_b, sent)));
            }
            a.has_received(CHANNEL_BIND_SUCCESS).await;
            let sent = payload(99, 101);
            a.act(Act::Send(at_b, sent.clone())).await;
            assert_eq!(b.data(PATIENCE).await, Some((at_a, sent)));
            assert!(a.sent(CHANNELS) > 0);
        }
    }
}

#[tokio::test]
async fn bursts_of_thousands_of_large_payloads_arrive_whole() {
    let Some(server) = Coturn::start(Users::Secret, &[]) else {
        return;
    };
    for transport in ALL {
        let [(a, at_a), (mut b, at_b)] = pair(&server, transport, transport).await;
        let mut lost = 0;
        for burst in 0..200 {
            let numbers = burst * BURST..(burst + 1) * BURST;
            for number in numbers.clone() {
                a.act(Act::Send(at_b, payload(number, 1_200))).await;
            }
            // Between the relays it is UDP, which may lose some.
            let mut expected = numbers.clone();
            while let Some(number) = expected.next() {
                let Some((from, bytes)) = b.data(Duration::from_secs(1)).await else {
                    lost += 1 + expected.count();
                    break;
                };
                assert_eq!(from, at_a);
                assert_eq!(bytes.len(), 1_200);
                let came = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                assert!(came >= number, "{came} after {number}");
                assert_eq!(bytes, payload(came, 1_200));
                lost += (number..came).count();
                while expected.start <= came {
                    expected.next();
                }
            }
        }
        assert!(lost <= 32, "{transport:?}: {lost} of 3,200 are lost");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once() {
    let Some(server) = Coturn::start(Users::Static, &[]) else {
        return;
    };
    for transport in ALL {
        let mut agent = Agent::start(&server, transport, Some(alice("wrong"))).await;
        let ClientEvent::CredentialsRefused { error } = agent.next().await else {
            panic!("a refusal");
        };
        assert!(agent.started.elapsed() < TOLD_WITHIN);
        assert_eq!(error.code(), Some(401));
        let (mut right, _) = Agent::allocated(&server, transport, alice("right")).await;
        right.act(Act::Probe).await;
        right.has_received(REFRESH_SUCCESS).await;
        right.act(Act::Close).await;
        let mut none = Agent::start(&server, transport, None).await;
        let missing = ClientEvent::CredentialsRefused {
            error: TurnError::CredentialsMissing,
        };
        assert_eq!(none.next().await, missing);
        assert!(right.data(Duration::ZERO).await.is_none());
    }
}

#[tokio::test]
async fn credentials_after_their_end_are_told_at_once() {
    let Some(server) = Coturn::start(Users::Secret, &[]) else {
        return;
    };
    for transport in ALL {
        let expired = timed(unix_now() - 60);
        let mut agent = Agent::start(&server, transport, Some(expired)).await;
        let event = agent.next().await;
        assert!(
            matches!(event, ClientEvent::CredentialsRefused { .. }),
            "{event:?}"
        );
        assert!(agent.started.elapsed() < TOLD_WITHIN);
    }
}

#[tokio::test]
async fn a_running_allocation_outlives_new_credentials() {
    let Some(server) = Coturn::start(Users::Secret, &[]) else {
        return;
    };
    let [(mut a, at_a), (mut b, at_b)] = pair(&server, Transport::Udp, Transport::Tcp).await;
    a.act(Act::Credentials(timed(unix_now() + 7_200))).await;
    a.act(Act::Probe).await;
    a.has_received(REFRESH_SUCCESS).await;
    a.act(Act::Send(at_b, payload(1, 50))).await;
    assert_eq!(b.data(PATIENCE).await, Some((at_a, payload(1, 50))));
    b.act(Act::Send(at_a, payload(2, 50))).await;
    assert_eq!(a.data(PATIENCE).await, Some((at_b, payload(2, 50))));
}

#[tokio::test]
async fn a_peer_that_the_server_refuses_concerns_no_other() {
    let Some(server) = Coturn::start(Users::Secret, &["--denied-peer-ip=10.0.0.0-10.255.255.255"])
    else {
        return;
    };
    let (mut a, at_a) = Agent::allocated(&server, Transport::Udp, valid()).await;
    let (mut b, at_b) = Agent::allocated(&server, Transport::Tls, valid()).await;
    b.act(Act::Permit(vec![at_a.ip()])).await;
    b.has_received(CREATE_PERMISSION_SUCCESS).await;
    let denied = "10.1.2.3".parse().expect("an address");
    a.act(Act::Permit(vec![denied, at_b.ip()])).await;
    a.act(Act::Send(at_b, payload(1, 50))).await;
    let event = a.next().await;
    let ClientEvent::PeerRefused { ip, error } = event else {
        panic!("{event:?}");
    };
    assert_eq!((ip, error.code()), (denied, Some(403)));
    assert_eq!(b.data(PATIENCE).await, Some((at_a, payload(1, 50))));
    assert!(a.sent(CREATE_PERMISSION..=CREATE_PERMISSION) <= 3);
}

#[tokio::test]
async fn a_used_up_quota_is_told_in_words() {
    let Some(server) = Coturn::start(Users::Static, &["--user-quota=1"]) else {
        return;
    };
    let _first = Agent::allocated(&server, Transport::Udp, alice("right")).await;
    let mut second = Agent::start(&server, Transport::Tcp, Some(alice("right"))).await;
    let event = second.next().await;
    let ClientEvent::Failed { error } = event else {
        panic!("{event:?}");
    };
    assert_eq!(error.code(), Some(486));
    assert!(second.started.elapsed() < TOLD_WITHIN);
}

#[tokio::test]
async fn what_a_crashed_client_left_is_replaced() {
    let Some(server) = Coturn::start(Users::Static, &[]) else {
        return;
    };
    let io = Io::open(&server, Transport::Udp).await;
    let mut first = Agent::on(io, Some(alice("right")), None);
    let before = first.relayed().await;
    let (io, client) = first.stop().await;
    let mut second = Agent::on(io, Some(alice("right")), client.remembered());
    assert_ne!(second.relayed().await, before);
}

#[tokio::test]
async fn a_restart_of_the_server_loses_the_allocation_at_the_next_question() {
    let Some(mut server) = Coturn::start(Users::Static, &[]) else {
        return;
    };
    let (mut agent, _) = Agent::allocated(&server, Transport::Udp, alice("right")).await;
    server.restart();
    agent.act(Act::Probe).await;
    let event = agent.next().await;
    let ClientEvent::Lost { error } = event else {
        panic!("{event:?}");
    };
    assert_eq!(error.code(), Some(437));
}

#[tokio::test]
async fn a_server_that_is_gone_is_given_up_in_bounded_time() {
    let Some(mut server) = Coturn::start(Users::Static, &[]) else {
        return;
    };
    let (mut agent, _) = Agent::allocated(&server, Transport::Udp, alice("right")).await;
    server.stop();
    agent.act(Act::Probe).await;
    let event = agent.next().await;
    assert!(
        matches!(
            event,
            ClientEvent::Lost {
                error: TurnError::Timeout(_)
            }
        ),
        "{event:?}"
    );
}
