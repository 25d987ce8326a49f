//! Two real endpoints over loopback.

mod support;

use std::time::Instant;

use support::{Nodes, exchange};
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

const LINK: LinkId = LinkId::new(1);

fn frame_of(event: &LinkEvent, wanted: Class) -> Option<Vec<u8>> {
    match event {
        LinkEvent::Frame { class, bytes, .. } if *class == wanted => Some(bytes.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_link_comes_up_and_carries_a_frame_of_every_class_both_ways() {
    let mut nodes = Nodes::new(2);
    nodes.connect(0, 1, LINK).await;
    for (from, to) in [(0, 1), (1, 0)] {
        for class in Class::ALL {
            let sent = format!("{from} {class:?}").into_bytes();
            nodes.endpoints[from]
                .send(Instant::now(), LINK, class, &sent)
                .expect("there is room");
            let got = nodes
                .event(to, "the frame", |event| frame_of(event, class))
                .await;
            assert_eq!(got, sent);
        }
    }
}

#[tokio::test]
async fn two_links_between_the_same_nodes_both_carry_frames() {
    let mut nodes = Nodes::new(2);
    let other = LinkId::new(2);
    nodes.connect(0, 1, LINK).await;
    for round in 0..20_u8 {
        exchange(&mut nodes, LINK, round).await;
    }
    nodes.connect(1, 0, other).await;
    for round in 0..50_u8 {
        exchange(&mut nodes, LINK, round).await;
        exchange(&mut nodes, other, round).await;
    }
    nodes.command(0, LinkCommand::Close { link: LINK });
    exchange(&mut nodes, other, 99).await;
}
