//! Datagrams that only this crate can forge: from the address of a peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::socket::Datagram;
use super::*;

const LINK: LinkId = LinkId::new(1);

/// Lets both endpoints run until `done`.
async fn run_until(ends: &mut [Endpoint; 2], done: impl FnMut(&mut [Endpoint; 2]) -> bool) {
    run_ahead(Duration::ZERO, ends, done).await;
}

/// The same, with clocks that are ahead.
async fn run_ahead(
    ahead: Duration,
    ends: &mut [Endpoint; 2],
    mut done: impl FnMut(&mut [Endpoint; 2]) -> bool,
) {
    let begin = Instant::now();
    while !done(ends) {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited too long");
        for end in ends.iter_mut() {
            end.flush();
        }
        let pause = Duration::from_millis(5);
        let [a, b] = &*ends;
        tokio::select! {
            _ = a.readable() => {}
            _ = b.readable() => {}
            () = tokio::time::sleep(pause) => {}
        }
        for end in ends.iter_mut() {
            let now = Instant::now() + ahead;
            while end.receive(now).expect("the socket lives") {}
            end.handle_timeout(now);
        }
    }
}

fn take_up(end: &mut Endpoint) -> Option<SocketAddr> {
    std::iter::from_fn(|| end.poll_event()).find_map(|event| match event {
        LinkEvent::Up { pair, .. } => Some(pair.remote_addr),
        _ => None,
    })
}

fn loopback() -> EndpointConfig {
    EndpointConfig {
        loopback_only: true,
        ..EndpointConfig::default()
    }
}

/// Two endpoints with a link, and the address at which the first sees the second.
async fn linked(config: EndpointConfig) -> ([Endpoint; 2], SocketAddr) {
    linked_as([config.clone(), config]).await
}

/// The same, each with a configuration of its own.
async fn linked_as(configs: [EndpointConfig; 2]) -> ([Endpoint; 2], SocketAddr) {
    let mut ends = configs.map(|config| Endpoint::bind(config).expect("a port"));
    let now = Instant::now();
    ends[0].handle_command(now, LinkCommand::Offer { link: LINK });
    let Some(LinkEvent::Offered { sdp, .. }) = ends[0].poll_event() else {
        panic!("no offer");
    };
    ends[1].handle_command(now, LinkCommand::Accept { link: LINK, sdp });
    let Some(LinkEvent::Answered { sdp, .. }) = ends[1].poll_event() else {
        panic!("no answer");
    };
    ends[0].handle_command(now, LinkCommand::Answer { link: LINK, sdp });
    let (mut address, mut other_is_up) = (None, false);
    run_until(&mut ends, |[a, b]| {
        address = address.or_else(|| take_up(a));
        other_is_up |= take_up(b).is_some();
        address.is_some() && other_is_up
    })
    .await;
    (ends, address.expect("the link is up"))
}

#[tokio::test]
async fn garbage_that_claims_the_address_of_a_peer_does_not_end_its_link() {
    let (mut ends, source) = linked(loopback()).await;
    for content_type in 0..=255_u8 {
        for (epoch, length) in [(0_u8, 13), (0, 60), (1, 13), (1, 60), (1, 1_100)] {
            let mut bytes = vec![
                content_type,
                0xfe,
                0xfd,
                0,
                epoch,
                0,
                0,
                0,
                0,
                0,
                99,
                0,
                length as u8,
            ];
            bytes.resize(13 + length, content_type ^ 0x5a);
            let datagram = Datagram {
                source,
                local_ip: None,
                bytes: &bytes,
            };
            ends[0].handle_datagram(Instant::now(), &datagram);
        }
    }
    assert_eq!(ends[0].counters().stack_panics, 0);
    ends[1]
        .send(Instant::now(), LINK, Class::Control, b"alive")
        .expect("the link has room");
    run_until(&mut ends, |[a, _]| match a.poll_event() {
        Some(LinkEvent::Frame { bytes, .. }) => bytes == b"alive",
        Some(LinkEvent::Down { reason, .. }) => panic!("garbage ended the link: {reason}"),
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn after_a_jump_of_ten_minutes_a_link_asks_once_and_goes_on() {
    let (mut ends, _) = linked(loopback()).await;
    let ahead = Duration::from_secs(600);
    let now = Instant::now() + ahead;
    for end in &mut ends {
        end.flush();
        end.handle_timeout(now);
        let waiting = end.transmits.bytes();
        assert!(waiting <= 512, "{waiting} bytes at once");
        let due = end.poll_timeout().expect("the link has timers");
        assert!(due > now, "it is due {:?} ago", now - due);
    }
    ends[1]
        .send(now, LINK, Class::Control, b"awake")
        .expect("the link has room");
    run_ahead(ahead, &mut ends, |[a, b]| {
        let down = |event: &LinkEvent| matches!(event, LinkEvent::Down { .. });
        assert!(!b.poll_event().is_some_and(|event| down(&event)));
        match a.poll_event() {
            Some(LinkEvent::Frame { bytes, .. }) => bytes == b"awake",
            Some(LinkEvent::Down { reason, .. }) => panic!("the jump ended the link: {reason}"),
            _ => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_link_comes_up_wherever_each_side_wants_the_handshake_of_sctp() {
    use SctpHandshake::{InDescriptions, OnTheWire};
    for ways in [(InDescriptions, OnTheWire), (OnTheWire, InDescriptions)] {
        let config = |sctp| EndpointConfig { sctp, ..loopback() };
        linked_as([config(ways.0), config(ways.1)]).await;
    }
}

#[tokio::test]
async fn the_handshake_of_sctp_is_in_the_description_only_where_it_is_meant_to_be() {
    for (sctp, is_there) in [
        (SctpHandshake::InDescriptions, true),
        (SctpHandshake::OnTheWire, false),
    ] {
        let config = EndpointConfig { sctp, ..loopback() };
        let mut end = Endpoint::bind(config).expect("a port");
        end.handle_command(Instant::now(), LinkCommand::Offer { link: LINK });
        let Some(LinkEvent::Offered { sdp, .. }) = end.poll_event() else {
            panic!("no offer");
        };
        assert_eq!(sdp.contains("a=sctp-init:"), is_there, "{sdp}");
    }
}

#[tokio::test]
async fn frames_on_a_channel_that_no_class_has_are_counted_and_change_nothing() {
    let (mut ends, _) = linked(loopback()).await;
    let mut extra = None;
    ends[1].drive(Instant::now(), LINK, |peer, _| {
        let config = str0m::channel::ChannelConfig::default();
        extra = Some(peer.rtc().direct_api().create_data_channel(config));
        Ok(())
    });
    let extra = extra.expect("the link lives");
    run_until(&mut ends, |[a, b]| {
        b.drive(Instant::now(), LINK, |peer, _| {
            if let Some(mut channel) = peer.rtc().channel(extra) {
                channel.write(true, b"x").expect("an open channel");
            }
            Ok(())
        });
        let heard = std::iter::from_fn(|| a.poll_event()).count();
        assert_eq!(heard, 0);
        a.counters().unknown_channel > 0
    })
    .await;
}

#[tokio::test]
async fn commands_and_frames_for_unknown_links_do_nothing() {
    let mut end = Endpoint::bind(EndpointConfig::default()).expect("a port");
    let now = Instant::now();
    end.handle_command(now, LinkCommand::Close { link: LINK });
    end.handle_command(
        now,
        LinkCommand::Answer {
            link: LINK,
            sdp: String::new(),
        },
    );
    assert_eq!(
        end.send(now, LINK, Class::Bulk, b"x"),
        Err(SendError::Closed)
    );
    assert_eq!(end.room(LINK), 0);
    assert_eq!(end.poll_event(), None);
}

#[tokio::test]
async fn endpoints_on_all_addresses_of_a_host_link() {
    let (ends, source) = linked(EndpointConfig::default()).await;
    assert!(
        ends[1].addresses().contains(&source),
        "{source} was never offered"
    );
    let is_loopback = |address: &SocketAddr| address.ip().is_loopback();
    assert!(
        ends[0].addresses().is_sorted_by_key(is_loopback),
        "loopback is the last resort"
    );
}
