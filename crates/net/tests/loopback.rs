//! Two real endpoints over loopback.

mod support;

use std::time::Instant;

use support::Nodes;
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::LinkEvent;

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
