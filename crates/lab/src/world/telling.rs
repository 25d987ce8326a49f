//! Everything that happens, in few words: the lines of a trace.

use waymesh_core::app::{Event, RegistryCommand, RegistryEvent};
use waymesh_proto::frame::{FrameReader, Section};
use waymesh_proto::link::{LinkCommand, LinkEvent};
use waymesh_proto::seqset::SeqSet;
use waymesh_proto::signaling::Signal;

use super::host::{host_of, life_number};

/// What a client is told.
pub(super) fn client_event(event: &Event) -> String {
    match event {
        Event::PeerConnected { peer } => format!("of a link to {}", peer.agent),
        Event::PeerDisconnected { peer } => {
            format!("that the link to {} ended: {}", peer.agent, peer.reason)
        }
        Event::PathChanged { peer } => format!("of another link to {}", peer.agent),
        Event::Peers { peers, .. } => {
            let peers = peers
                .iter()
                .map(|peer| format!("{} {:?} ({})", peer.agent, peer.state, peer.reason));
            format!("peers: {}", peers.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// What happens to a link.
pub(super) fn link_event(event: &LinkEvent) -> String {
    match event {
        LinkEvent::Frame { link, class, bytes } => {
            format!("{link} {} gets {}", class.label(), frame(bytes))
        }
        LinkEvent::Offered { link, .. } => format!("{link} offered"),
        LinkEvent::Answered { link, .. } => format!("{link} answered"),
        LinkEvent::Up { link, .. } => format!("{link} is up"),
        other => format!("{other:?}"),
    }
}

/// What a node wants of the network.
pub(super) fn link_command(command: &LinkCommand) -> String {
    match command {
        LinkCommand::Offer { link } => format!("to offer {link}"),
        LinkCommand::Accept { link, .. } => format!("to accept {link}"),
        LinkCommand::Answer { link, .. } => format!("to complete {link}"),
        LinkCommand::Candidate { link, .. } => format!("a candidate for {link}"),
        LinkCommand::Close { link } => format!("to close {link}"),
    }
}

/// What a node wants of the registry.
pub(super) fn registry_command(command: &RegistryCommand) -> String {
    match command {
        RegistryCommand::Signal {
            to,
            session,
            seq,
            signal,
            ..
        } => {
            let what = match signal {
                Signal::Offer { .. } => "offer",
                Signal::Answer { .. } => "answer",
                Signal::Candidate { .. } => "candidate",
                Signal::Reject { .. } => "reject",
            };
            let session = &session.to_string()[..6];
            format!("to pass {what} {seq} of {session} to {}", host_of(*to))
        }
        RegistryCommand::Skills(skills) => format!("to publish {} skills", skills.len()),
        RegistryCommand::Post(post) => format!(
            "to post {:?} to {} for life {:?}, {:?} for {} ms: {}",
            post.item,
            host_of(post.to),
            post.to_incarnation.map(life_number),
            post.keep,
            post.life_ms,
            frame(&post.frame)
        ),
        other => format!("{other:?}"),
    }
}

/// What a frame says.
pub(super) fn frame(bytes: &[u8]) -> String {
    let Ok(reader) = FrameReader::new(bytes) else {
        return "garbage".into();
    };
    let words = reader.map(|section| match section {
        Ok(Section::Hello(incarnation)) => format!("hello({})", incarnation.number() % 1_000_000),
        Ok(Section::Ack(ack)) => {
            let set = |set: &SeqSet| {
                format!("{}{:?}", set.cumulative(), set.ranges().collect::<Vec<_>>())
            };
            format!(
                "ack({:?} received {} consumed {} window {}/{})",
                ack.stream,
                set(&ack.received),
                set(&ack.consumed),
                ack.window_messages,
                ack.window_bytes
            )
        }
        Ok(Section::Message(h, bytes)) => {
            let mark = if h.redelivered { " again" } else { "" };
            format!(
                "message({:?} {} after {} lowest {} of {} B life {} wait {}{mark})",
                h.stream,
                h.seq,
                h.previous,
                h.lowest,
                bytes.len(),
                h.life_ms,
                h.wait_ms
            )
        }
        Ok(Section::Chunk(h, p)) => {
            let mark = if h.redelivered { " again" } else { "" };
            format!(
                "chunk({:?} {} after {} lowest {} at {} of {}{mark})",
                h.stream, h.seq, h.previous, h.lowest, p.offset, p.total
            )
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("error({error})"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What a node learns of the registry.
pub(super) fn registry_event(event: &RegistryEvent) -> String {
    match event {
        RegistryEvent::Record { record, .. } => format!(
            "{} is {} in {}",
            record.name,
            if record.online { "online" } else { "offline" },
            record.incarnation.number() % 1_000_000
        ),
        RegistryEvent::Item(opened) => format!("item {:?} of {}", opened.item, opened.from.name),
        RegistryEvent::Signal { from, body } => {
            let from_name = &from.name;
            let what = match &body.signal {
                Signal::Offer { .. } => "offers",
                Signal::Answer { .. } => "answers",
                Signal::Candidate { .. } => "has a candidate",
                Signal::Reject { .. } => "rejects",
            };
            format!(
                "{from_name} {what} {} ({} to {})",
                &body.session.to_string()[..6],
                body.from_incarnation.number() % 1_000_000,
                body.to_incarnation.number() % 1_000_000
            )
        }
        other => format!("{other:?}"),
    }
}
