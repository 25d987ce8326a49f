//! Promises about frames: whole, unchanged, at most once, and as the class says.

use std::collections::BTreeSet;

use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::limits::{FRAME_MAX_BYTES, LOSSY_FRAME_MAX_BYTES};
use waymesh_proto::link::LinkEvent;

use super::{LINK, Links, Trial};

/// Frames sent where a count is needed. Chosen: some windows full.
const MANY: u32 = 200;

/// A frame that says its number and can be checked for damage.
fn numbered(number: u32, class: Class) -> Vec<u8> {
    let most = if class.is_reliable() {
        4_000
    } else {
        LOSSY_FRAME_MAX_BYTES
    };
    let len = 4 + (number as usize * 37) % (most - 4);
    let mut frame = number.to_be_bytes().to_vec();
    frame.resize(len, number as u8);
    frame
}

fn number_of(frame: &[u8], class: Class) -> u32 {
    let number = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
    assert_eq!(frame, numbered(number, class), "a frame was changed");
    number
}

/// Sends many frames, then steps until the last reliable one behind them has come; returns what came.
fn numbers_delivered<L: Links>(trial: &mut Trial<L>, class: Class) -> Vec<u32> {
    for number in 0..MANY {
        trial.send(0, LINK, class, &numbered(number, class));
    }
    let mut got = Vec::new();
    if class.is_reliable() {
        trial.until("all frames", |_, told| {
            take_numbers(&mut told[1], class, &mut got);
            (got.len() >= MANY as usize).then_some(())
        });
    }
    // What is sent later on a reliable class comes when the rest had its chance.
    for round in 0..50_u8 {
        trial.send(0, LINK, Class::Tasks, &[0xff, 0xff, 0xff, 0xff, round]);
        while trial.frame(1, LINK, Class::Tasks)[4] != round {}
    }
    trial.until("nothing", |_, told| {
        take_numbers(&mut told[1], class, &mut got);
        Some(())
    });
    got
}

fn take_numbers(told: &mut Vec<LinkEvent>, wanted: Class, into: &mut Vec<u32>) {
    told.retain(|event| match event {
        LinkEvent::Frame { class, bytes, .. }
            if *class == wanted && !bytes.starts_with(&[0xff; 4]) =>
        {
            into.push(number_of(bytes, wanted));
            false
        }
        _ => true,
    });
}

/// Every class works in both directions.
pub fn every_class_carries_frames_both_ways_unchanged<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for class in Class::ALL {
        for (from, to) in [(0, 1), (1, 0)] {
            let frame = numbered(7 + from as u32, class);
            // A lossy class may lose one: it is sent until it comes.
            let got = trial.until("a frame", |links, told| {
                let _ = links.send(from, LINK, class, &frame);
                let at = told[to].iter().position(
                    |e| matches!(e, LinkEvent::Frame { class: on, .. } if *on == class),
                )?;
                Some(told[to].remove(at))
            });
            assert!(matches!(got, LinkEvent::Frame { bytes, .. } if bytes == frame));
        }
    }
}

/// Reliable: each frame once, none missing.
pub fn reliable_classes_deliver_everything_once<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for class in [Class::Control, Class::Tasks, Class::Bulk] {
        let mut got = numbers_delivered(&mut trial, class);
        got.sort_unstable();
        assert_eq!(got, (0..MANY).collect::<Vec<_>>(), "{class:?}");
    }
}

/// Ordered: no frame comes after a later one.
pub fn ordered_classes_keep_their_order<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for class in Class::ALL.into_iter().filter(|class| class.is_ordered()) {
        let got = numbers_delivered(&mut trial, class);
        assert!(got.is_sorted_by(|a, b| a < b), "{class:?}: {got:?}");
    }
}

/// Lossy: some may be missing, none comes twice.
pub fn lossy_classes_deliver_at_most_once_and_unchanged<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for class in Class::ALL.into_iter().filter(|class| !class.is_reliable()) {
        let got = numbers_delivered(&mut trial, class);
        let distinct: BTreeSet<u32> = got.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            got.len(),
            "{class:?} delivered a frame twice"
        );
        assert!(
            got.len() * 2 > MANY as usize,
            "{class:?} lost most of its frames: {}",
            got.len()
        );
    }
}

/// The limit of each class passes whole; one byte more is a fault of the caller.
pub fn the_largest_frame_passes_and_one_byte_more_is_refused<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for class in Class::ALL {
        let limit = if class.is_reliable() {
            FRAME_MAX_BYTES
        } else {
            LOSSY_FRAME_MAX_BYTES
        };
        let refused = trial.links.send(0, LINK, class, &vec![1; limit + 1]);
        assert_eq!(refused, Err(SendError::TooLarge), "{class:?}");
        let largest = vec![2; limit];
        let got = trial.until("the largest frame", |links, told| {
            let _ = links.send(0, LINK, class, &largest);
            told[1]
                .iter()
                .position(|e| matches!(e, LinkEvent::Frame { class: on, .. } if *on == class))
        });
        let got = trial.rest(1).swap_remove(got);
        assert!(
            matches!(got, LinkEvent::Frame { bytes, .. } if bytes == largest),
            "{class:?}"
        );
    }
}
