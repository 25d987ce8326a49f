//! Both halves of a stream, over a channel that can die with all that is on it.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere"
)]

use std::collections::VecDeque;

use proptest::prelude::*;
use waymesh_proto::envelope::Priority;
use waymesh_proto::frame::{FrameReader, FrameWriter, Section};
use waymesh_proto::ids::{Incarnation, MessageId};

use super::*;
use crate::outbound::{Outbound, Verdict};

const LIFE: Duration = Duration::from_secs(60);

/// What may happen next.
#[derive(Debug, Clone)]
enum Step {
    Push {
        bytes: usize,
        life_ms: u64,
    },
    /// The sender's next frame leaves.
    Send,
    /// The oldest frame, or one further back on unordered streams, arrives.
    Arrive {
        back: usize,
    },
    /// The receiver's acknowledgement travels.
    Ack,
    /// The application takes what is ready, refusing every n-th.
    Take {
        refuse: bool,
    },
    /// The link dies with all frames on it, and a new one comes up.
    Cut,
    /// The receiver starts anew.
    Restart,
    Pass {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..40_000, prop_oneof![Just(60_000u64), 1u64..3_000])
            .prop_map(|(bytes, life_ms)| Step::Push { bytes, life_ms }),
        8 => Just(Step::Send),
        8 => (0usize..4).prop_map(|back| Step::Arrive { back }),
        4 => Just(Step::Ack),
        4 => any::<bool>().prop_map(|refuse| Step::Take { refuse }),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
        2 => (1u64..2_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

struct Pair {
    now: Instant,
    sender: Outbound,
    receiver: Inbound,
    stream: Stream,
    wire: VecDeque<Vec<u8>>,
    pushed: u64,
    verdicts: Vec<(MessageId, Verdict)>,
    life: u64,
    /// Per life of the receiver: the messages in the order in which they were released.
    released: Vec<Vec<u64>>,
    taken: Vec<u64>,
}

impl Pair {
    fn new(stream: Stream) -> Self {
        let mut sender = Outbound::new(stream);
        sender.handle_link_up(Incarnation::new(1));
        Self {
            now: Instant::now(),
            sender,
            receiver: Inbound::new(stream),
            stream,
            wire: VecDeque::new(),
            pushed: 0,
            verdicts: Vec::new(),
            life: 1,
            released: vec![Vec::new()],
            taken: Vec::new(),
        }
    }

    fn push(&mut self, bytes: usize, life: Duration) {
        self.pushed += 1;
        let mut envelope = vec![0; bytes.max(8)];
        envelope[..8].copy_from_slice(&self.pushed.to_be_bytes());
        let id = MessageId::new(self.pushed, [0; 10]);
        self.sender
            .push(id, envelope, Priority::Normal, self.now, self.now + life);
    }

    fn send(&mut self) -> bool {
        let mut writer = FrameWriter::default();
        while self.sender.next_len().is_some()
            && self.sender.put_into(&mut writer, 16 * 1024, self.now)
        {}
        let sent = !writer.is_empty();
        if sent {
            self.wire.push_back(writer.into_bytes());
        }
        sent
    }

    fn arrive(&mut self, back: usize) -> bool {
        let at = if self.stream.class().is_ordered() {
            0
        } else {
            back % self.wire.len().max(1)
        };
        let Some(frame) = self.wire.remove(at) else {
            return false;
        };
        for section in FrameReader::new(&frame).expect("a frame") {
            match section.expect("a section") {
                Section::Message(header, envelope) => {
                    self.receiver
                        .handle_message(self.now, &header, envelope)
                        .expect("no abuse");
                }
                Section::Chunk(header, piece) => {
                    self.receiver
                        .handle_chunk(self.now, &header, &piece)
                        .expect("no abuse");
                }
                other => panic!("{other:?}"),
            }
        }
        true
    }

    fn ack(&mut self) {
        let sections: Vec<_> = self.receiver.take_ack().collect();
        for section in sections {
            match section {
                Section::Ack(ack) => {
                    let settled = self.sender.handle_ack(self.now, &ack).expect("in range");
                    self.verdicts
                        .extend(settled.iter().map(|e| (e.id, e.verdict)));
                }
                Section::Refused { seq, code, .. } => {
                    let ending = self.sender.handle_refused(seq, code);
                    self.verdicts.extend(ending.map(|e| (e.id, e.verdict)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn take(&mut self, refuse: bool) {
        while let Some(released) = self.receiver.poll_ready() {
            let head = released.envelope[..8].try_into().expect("eight bytes");
            let number = u64::from_be_bytes(head);
            self.released.last_mut().expect("a life").push(number);
            if refuse && number % 3 == 0 {
                self.receiver.refuse(self.now, released.seq, Code::Expired);
            } else {
                self.taken.push(number);
                self.receiver.consume(self.now, released.seq);
            }
        }
    }

    fn cut(&mut self, same_peer: bool) {
        self.wire.clear();
        self.life += u64::from(!same_peer);
        self.sender.handle_link_up(Incarnation::new(self.life));
        self.receiver.handle_link_up(self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let settled = self.sender.handle_timeout(self.now);
        self.verdicts
            .extend(settled.iter().map(|e| (e.id, e.verdict)));
        self.receiver.handle_timeout(self.now);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push { bytes, life_ms } => self.push(bytes, Duration::from_millis(life_ms)),
            Step::Send => drop(self.send()),
            Step::Arrive { back } => drop(self.arrive(back)),
            Step::Ack => self.ack(),
            Step::Take { refuse } => self.take(refuse),
            Step::Cut => self.cut(true),
            Step::Restart => {
                self.receiver = Inbound::new(self.stream);
                self.released.push(Vec::new());
                self.cut(false);
            }
            Step::Pass { ms } => self.pass(Duration::from_millis(ms)),
        }
    }

    /// Runs until nothing moves any more.
    fn settle(&mut self) {
        loop {
            let mut moved = self.send();
            while self.arrive(0) {
                moved = true;
            }
            self.take(false);
            let before = self.verdicts.len();
            self.ack();
            if !moved && self.verdicts.len() == before {
                break;
            }
        }
    }

    fn check(&self) {
        let mut told: Vec<_> = self.verdicts.iter().map(|(id, _)| *id).collect();
        told.sort();
        let count = told.len();
        told.dedup();
        assert_eq!(told.len(), count, "a verdict was told twice");
        assert_eq!(
            count as u64 + self.sender.len() as u64,
            self.pushed,
            "a message is unaccounted for"
        );
        for life in &self.released {
            let mut once = life.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(
                once.len(),
                life.len(),
                "a message was released twice in one life"
            );
            if self.stream.class().is_ordered() {
                assert_eq!(&once, life, "messages were released out of order");
            }
        }
        for (id, verdict) in &self.verdicts {
            if *verdict == Verdict::Consumed {
                let taken = self
                    .taken
                    .iter()
                    .any(|n| MessageId::new(*n, [0; 10]) == *id);
                assert!(taken, "delivered was told of a message that nobody took");
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_each_message_is_released_once_in_order_and_accounted_for(
        ordered: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(if ordered { Stream::Control } else { Stream::Tasks });
        for step in &steps {
            pair.step(step);
            pair.check();
        }
        pair.cut(true);
        pair.settle();
        pair.pass(LIFE * 2);
        pair.settle();
        pair.check();
        prop_assert!(pair.sender.is_empty(), "something is never settled");
        prop_assert_eq!(pair.sender.bytes(), 0);
        prop_assert_eq!(pair.receiver.unconsumed_bytes(), 0);
    }
}

#[test]
fn a_message_that_expired_unsent_holds_up_nobody() {
    let mut pair = Pair::new(Stream::Control);
    pair.push(10, LIFE);
    pair.send();
    pair.push(10, Duration::from_millis(1));
    pair.pass(Duration::from_millis(5));
    pair.push(10, LIFE);
    pair.settle();
    assert_eq!(pair.released, [[1, 3]]);
}

#[test]
fn a_held_message_is_released_when_the_life_of_its_predecessor_is_over() {
    let mut pair = Pair::new(Stream::Control);
    let now = pair.now;
    let header = |seq: u64, previous: u64, wait_ms: u64| Header {
        stream: Stream::Control,
        redelivered: false,
        seq,
        previous,
        lowest: 1,
        life_ms: 60_000,
        wait_ms,
    };
    pair.receiver
        .handle_message(now, &header(1, 0, 0), &[1; 8])
        .expect("taken");
    pair.receiver
        .handle_message(now, &header(3, 2, 700), &[3; 8])
        .expect("held");
    assert_eq!(pair.receiver.poll_ready().expect("the first").seq, 1);
    assert_eq!(pair.receiver.poll_ready(), None);
    assert_eq!(
        pair.receiver.poll_timeout(),
        Some(now + Duration::from_millis(700))
    );
    pair.receiver
        .handle_timeout(now + Duration::from_millis(700));
    let released = pair.receiver.poll_ready().expect("the third");
    assert_eq!((released.seq, released.missing), (3, 1));
    // The second comes too late and is refused.
    pair.receiver
        .handle_message(now, &header(2, 1, 0), &[2; 8])
        .expect("refused");
    let refused = pair.receiver.take_ack().any(|s| {
        matches!(
            s,
            Section::Refused {
                seq: 2,
                code: Code::Expired,
                ..
            }
        )
    });
    assert!(refused);
}

#[test]
fn a_sender_past_its_window_is_an_abuser() {
    let mut receiver = Inbound::new(Stream::Tasks);
    let now = Instant::now();
    let mut sent = 0;
    for seq in 1.. {
        let header = Header {
            stream: Stream::Tasks,
            redelivered: false,
            seq,
            previous: seq - 1,
            lowest: 1,
            life_ms: 60_000,
            wait_ms: 0,
        };
        match receiver.handle_message(now, &header, &[0; 16_000]) {
            Ok(()) => sent += 16_000,
            Err(abuse) => {
                assert_eq!(abuse, Abuse::Window);
                break;
            }
        }
    }
    assert!((WINDOW_MAX_BYTES..WINDOW_MAX_BYTES + WINDOW_SLACK_BYTES).contains(&sent));
}

#[test]
fn a_refusal_by_a_later_life_of_the_receiver_does_not_say_what_the_earlier_one_did() {
    let mut pair = Pair::new(Stream::Control);
    pair.push(10, LIFE);
    pair.send();
    pair.arrive(0);
    pair.take(false);
    // The acknowledgement is lost with the receiver.
    pair.step(&Step::Restart);
    pair.send();
    pair.arrive(0);
    pair.receiver.refuse(pair.now, 1, Code::Expired);
    pair.ack();
    let id = MessageId::new(1, [0; 10]);
    assert_eq!(pair.verdicts, [(id, Verdict::Unconfirmed)]);
}

#[test]
fn a_message_whose_life_ended_on_its_way_holds_up_nobody() {
    let mut pair = Pair::new(Stream::Control);
    pair.push(10, LIFE);
    pair.push(40_000, Duration::from_millis(4));
    pair.send();
    pair.arrive(0);
    pair.take(false);
    pair.ack();
    // The piece that came is forgotten before the others arrive.
    pair.send();
    pair.arrive(0);
    while pair.send() {}
    pair.pass(Duration::from_millis(5));
    while pair.arrive(0) {}
    pair.push(10, LIFE);
    while pair.send() || pair.arrive(0) {}
    pair.take(false);
    assert_eq!(pair.released, [[1, 3]]);
}
