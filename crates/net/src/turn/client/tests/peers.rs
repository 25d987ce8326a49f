//! Permissions, channels, and what waits for them.

use super::super::peers::{PEERS_MAX, WAITING_MAX};
use super::*;

fn indicated(message: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = parse(message);
    assert_eq!(message.class(), Class::Indication);
    assert_eq!(message.method(), Some(Method::Send));
    let peer = message.xor_address(kind::XOR_PEER_ADDRESS);
    let data = message.find(kind::DATA);
    (peer.expect("a peer"), data.expect("data").to_vec())
}

fn named(request: &[u8]) -> Vec<IpAddr> {
    let message = parse(request);
    assert_eq!(message.method(), Some(Method::CreatePermission));
    let peers = message.xor_addresses(kind::XOR_PEER_ADDRESS);
    peers.map(|peer| peer.expect("an address").ip()).collect()
}

fn granted(request: &[u8]) -> Vec<u8> {
    success(request, |_| {})
}

fn data(peer: &str, bytes: &[u8]) -> Vec<u8> {
    let id = TransactionId::new([1; 12]);
    let mut writer = Writer::new(Class::Indication, Method::Data, id);
    writer
        .put_xor_address(kind::XOR_PEER_ADDRESS, address(peer))
        .put(kind::DATA, bytes);
    writer.finish()
}

#[test]
fn addresses_of_one_moment_are_asked_for_together() {
    let mut rig = Rig::datagrams();
    let ips: Vec<IpAddr> = (1..=17).map(|n| IpAddr::from([203, 0, 113, n])).collect();
    for ip in &ips {
        rig.client.permit(rig.now, *ip);
        rig.client.permit(rig.now, *ip);
    }
    rig.client.permit(rig.now, IpAddr::from([0; 16]));
    rig.allocate();
    let first = rig.client.poll_transmit().expect("a request");
    let second = rig.take();
    assert_eq!([named(&first), named(&second)].concat(), ips);
    assert_eq!(named(&first).len(), 16);
}

impl Rig {
    /// With an allocation and a permission for [`PEER`].
    fn permitted() -> Self {
        let mut rig = Self::allocated();
        rig.client.permit(rig.now, address(PEER).ip());
        let request = rig.take();
        rig.answer(granted(&request));
        rig
    }
}

#[test]
fn a_payload_waits_for_its_permission_and_the_order_stays() {
    let mut rig = Rig::allocated();
    rig.send(PEER, b"one");
    rig.send(PEER, b"two");
    let request = rig.take();
    assert_eq!(rig.client.waiting(), 2);
    rig.answer(granted(&request));
    let peer = address(PEER);
    for expected in [b"one", b"two"] {
        let message = rig.client.poll_transmit().expect("a payload");
        assert_eq!(indicated(&message), (peer, expected.to_vec()));
    }
    rig.nothing();
    assert_eq!(rig.client.counters().sent, 2);
}

#[test]
fn of_more_than_64_that_wait_the_oldest_is_dropped() {
    let mut rig = Rig::allocated();
    for number in 0..WAITING_MAX {
        rig.send(PEER, &number.to_be_bytes());
    }
    assert_eq!(rig.client.counters().dropped_waiting, 0);
    rig.send(PEER, b"one more");
    assert_eq!(rig.client.counters().dropped_waiting, 1);
    assert_eq!(rig.client.waiting(), WAITING_MAX);
    let request = rig.take();
    rig.answer(granted(&request));
    let first = rig.client.poll_transmit().expect("a payload");
    assert_eq!(indicated(&first).1, 1_usize.to_be_bytes());
}

#[test]
fn a_refused_peer_is_told_once_and_remembered_and_concerns_no_other() {
    let mut rig = Rig::allocated();
    let denied = "203.0.113.66:1";
    rig.send(denied, b"never");
    rig.send(PEER, b"well");
    let both = rig.take();
    rig.answer(refusal(&both, code::FORBIDDEN));
    let first = rig.client.poll_transmit().expect("a request");
    let second = rig.take();
    assert_eq!(named(&first), [address(denied).ip()]);
    rig.answer(refusal(&first, code::FORBIDDEN));
    rig.answer(granted(&second));
    let message = rig.take();
    assert_eq!(indicated(&message).1, b"well");
    let Some(ClientEvent::PeerRefused { ip, error }) = rig.event() else {
        panic!("a refusal");
    };
    assert_eq!((ip, error.code()), (address(denied).ip(), Some(403)));
    rig.send(denied, b"never");
    rig.nothing();
    assert_eq!(rig.client.counters().dropped_refused, 2);
    // After some minutes it is tried again.
    rig.now += Duration::from_secs(121);
    rig.send(denied, b"perhaps");
    let asked = rig.client.poll_transmit().expect("a request");
    assert_eq!(named(&asked), [address(denied).ip()]);
}

#[test]
fn the_third_payload_binds_a_channel_which_then_carries_both_ways() {
    let mut rig = Rig::permitted();
    rig.send(PEER, b"1");
    rig.send(PEER, b"2");
    while let Some(message) = rig.client.poll_transmit() {
        indicated(&message);
    }
    rig.send(PEER, b"3");
    let third = rig.client.poll_transmit().expect("a payload");
    assert_eq!(indicated(&third).1, b"3");
    let bind = rig.take();
    assert_eq!(parse(&bind).method(), Some(Method::ChannelBind));
    assert_eq!(parse(&bind).number(kind::CHANNEL_NUMBER), Some(0x4000_0000));
    // What comes before the answer is known already.
    let header = ChannelData::header(0x4000, 1).expect("short");
    let inbound = [&header[..], b"!"].concat();
    rig.answer(inbound);
    rig.answer(success(&bind, |_| {}));
    rig.send(PEER, b"4");
    let fourth = rig.take();
    let read = ChannelData::parse(&fourth).expect("channel data");
    assert_eq!((read.channel, read.data), (0x4000, b"4".as_slice()));
    let peer = address(PEER);
    let bytes = b"!".to_vec();
    assert_eq!(rig.event(), Some(ClientEvent::Data { peer, bytes }));
}

#[test]
fn a_channel_that_is_refused_leaves_the_peer_with_indications() {
    let mut rig = Rig::permitted();
    for _ in 0..3 {
        rig.send(PEER, b"x");
    }
    let mut bind = Vec::new();
    while let Some(message) = rig.client.poll_transmit() {
        bind = message;
    }
    rig.answer(refusal(&bind, code::INSUFFICIENT_CAPACITY));
    rig.send(PEER, b"y");
    let message = rig.take();
    assert_eq!(indicated(&message).1, b"y");
    assert_eq!(rig.event(), None);
}

#[test]
fn payloads_of_strangers_and_unknown_channels_are_counted() {
    let mut rig = Rig::permitted();
    rig.answer(data("203.0.113.200:1", b"who"));
    let header = ChannelData::header(0x4abc, 0).expect("short");
    rig.answer(header.to_vec());
    assert_eq!(rig.client.counters().unmatched, 2);
    assert_eq!(rig.event(), None);
    rig.answer(data(PEER, b"friend"));
    let (peer, bytes) = (address(PEER), b"friend".to_vec());
    assert_eq!(rig.event(), Some(ClientEvent::Data { peer, bytes }));
}

#[test]
fn a_payload_of_the_largest_size_goes_and_one_byte_more_does_not() {
    let mut rig = Rig::permitted();
    rig.send(PEER, &vec![1; PAYLOAD_MAX_BYTES]);
    let message = rig.take();
    assert_eq!(indicated(&message).1.len(), PAYLOAD_MAX_BYTES);
    assert!(message.len() <= 65_507, "{}", message.len());
    rig.send(PEER, &vec![1; PAYLOAD_MAX_BYTES + 1]);
    rig.send("[2001:db8::1]:1", b"other family");
    rig.send("203.0.113.9:0", b"no port");
    rig.nothing();
    assert_eq!(rig.client.counters().dropped_unsendable, 3);
}

#[test]
fn so_many_peers_and_one_more() {
    let mut rig = Rig::allocated();
    for number in 0..PEERS_MAX {
        let [high, low] = u16::try_from(number).expect("few").to_be_bytes();
        rig.client.permit(rig.now, IpAddr::from([10, 0, high, low]));
    }
    rig.send("10.1.0.0:1", b"one more");
    assert_eq!(rig.client.counters().dropped_waiting, 1);
    rig.send("10.0.0.1:1", b"known");
    assert_eq!(rig.client.waiting(), 1);
    // No more requests at once than are allowed.
    let mut requests = 0;
    while rig.client.poll_transmit().is_some() {
        requests += 1;
    }
    assert_eq!(requests, REQUESTS_MAX);
}

#[test]
fn so_many_payloads_go_at_once_and_one_more_is_dropped() {
    let mut rig = Rig::permitted();
    for _ in 0..TO_SERVER_CAP {
        rig.send(PEER, b"x");
    }
    assert_eq!(rig.client.counters().dropped_full, 0);
    rig.send(PEER, b"x");
    assert_eq!(rig.client.counters().dropped_full, 1);
}

#[test]
fn a_permission_in_use_is_renewed_in_time_and_one_that_is_not_is_forgotten() {
    let mut rig = Rig::permitted();
    let idle = IpAddr::from([203, 0, 113, 77]);
    rig.client.permit(rig.now, idle);
    let request = rig.take();
    rig.answer(granted(&request));
    let mut renewed = Vec::new();
    let start = rig.now;
    while rig.now - start < Duration::from_secs(1_000) {
        rig.step();
        rig.send(PEER, b"alive");
        while let Some(message) = rig.client.poll_transmit() {
            let Ok(request) = Message::parse(&message) else {
                continue;
            };
            match request.method() {
                Some(Method::Refresh) => rig.answer(refreshed(&message)),
                Some(Method::CreatePermission) => {
                    let at = (rig.now - start).as_secs();
                    renewed.extend(named(&message).into_iter().map(|ip| (at, ip)));
                    rig.answer(granted(&message));
                }
                Some(Method::ChannelBind) => rig.answer(success(&message, |_| {})),
                _ => {}
            }
        }
        assert_eq!(rig.client.waiting(), 0, "the permission was never missing");
    }
    let of = |ip: IpAddr| renewed.iter().filter(|(_, of)| *of == ip).count();
    assert!(of(address(PEER).ip()) >= 2, "{renewed:?}");
    assert_eq!(of(idle), 1, "{renewed:?}");
}
