use proptest::prelude::*;

use super::*;

fn ends(v6: bool) -> [SocketAddr; 3] {
    if v6 {
        [
            "[2001:db8::1]:5000",
            "[2001:db8:1::2]:53",
            "[2001:db8:2::7]:443",
        ]
    } else {
        ["192.168.1.2:5000", "203.0.113.1:53", "198.51.100.9:443"]
    }
    .map(|text| text.parse().expect("an address"))
}

#[test]
fn a_rewritten_packet_has_the_new_ends_and_sound_checksums() {
    for v6 in [false, true] {
        let [a, b, c] = ends(v6);
        let packets = [
            Packet::datagram(a, b, b"odd"),
            Packet::tcp(a, b, (7, SYN), b"hello"),
            Packet::echo(a.ip(), b.ip(), 77),
        ];
        for mut packet in packets {
            assert!(packet.is_sound(), "{packet:?}");
            packet.set(End::Source, c);
            assert!(packet.is_sound(), "{packet:?}");
            let flow = packet.flow().expect("it has a flow");
            assert_eq!((flow.source, flow.target.ip()), (c, b.ip()));
            packet.set(End::Target, a);
            assert!(packet.is_sound(), "{packet:?}");
            assert_eq!(packet.flow().map(|flow| flow.target), Some(a));
        }
    }
}

#[test]
fn an_error_quotes_what_it_is_about_and_both_can_be_rewritten() {
    for v6 in [false, true] {
        let [a, b, c] = ends(v6);
        let sent = Packet::datagram(a, b, &[1; 900]);
        let mut error = sent.too_big(1280);
        assert!(error.is_sound() && error.flow().is_none());
        assert_eq!(error.quoted(), sent.flow());
        error.set_quoted(End::Source, c);
        error.set(End::Target, c);
        assert!(error.is_sound(), "{error:?}");
        assert_eq!(error.quoted().map(|flow| flow.source), Some(c));
        assert_eq!(error.ip(End::Target), c.ip());
    }
}

#[test]
fn a_reset_goes_to_either_end() {
    let [a, b, _] = ends(false);
    let segment = Packet::tcp(a, b, (41, 0x10), b"no");
    let reset = segment.reset(End::Target).expect("TCP can be reset");
    assert!(reset.is_sound());
    assert_eq!(reset.flow(), segment.flow());
    assert_eq!(
        reset.segment().map(|s| (s.sequence, s.flags)),
        Some((41, RST))
    );
    let back = segment.reset(End::Source).expect("TCP can be reset");
    assert_eq!(
        back.flow().map(|flow| (flow.source, flow.target)),
        Some((b, a))
    );
}

#[test]
fn a_fragment_has_no_flow() {
    let [a, b, _] = ends(false);
    let mut bytes = Packet::datagram(a, b, b"x").bytes().to_vec();
    bytes[6] |= 0x20;
    let packet = Packet::parse(bytes).expect("its header is whole");
    assert_eq!(packet.flow(), None);
}

proptest! {
    #[test]
    fn no_bytes_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        if let Some(first) = bytes.first_mut() {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        if let Ok(mut packet) = Packet::parse(bytes) {
            let [a, b, _] = ends(v6);
            let _ = (packet.flow(), packet.quoted(), packet.segment(), packet.is_whole());
            packet.set(End::Source, a);
            packet.set_quoted(End::Target, b);
            let _ = (packet.too_big(1280), packet.reset(End::Source));
        }
    }
}
