//! Lies about what is in the mailbox.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_tungstenite::tungstenite::Message;
use waymesh_node::{Inbox, SendOptions, Sent, Topology, Wait};
use waymesh_proto::api::SendState;
use waymesh_proto::control::{Posted, PostedState, Returned, ServerMessage};
use waymesh_proto::envelope::Payload;
use waymesh_proto::mailbox::{Item, ItemHeader, Note, encode_post};
use waymesh_proto::{AgentId, Code, Fault, ItemId};

use crate::forge::{self, Writer};
use crate::registry::{House, Malice, header, registry_keypair};
use crate::scene::{PATIENCE, SECRET, SHORT, Scene, name, scene};

/// An item on its way, as [`Malice::push`] has it.
type Push = (AgentId, Note, Item);

/// Changes what is pushed to bob.
fn to_bob(evil: impl Fn(&House, Push) -> Vec<Push> + Send + Sync + 'static) -> Malice {
    Malice::none().push(move |house, push| {
        let bob = house.record("bob").map(|bob| bob.agent.agent_id);
        match bob == Some(push.0) {
            true => evil(house, push),
            false => vec![push],
        }
    })
}

/// Changes the bytes of every item for bob.
fn changed(evil: impl Fn(&mut Item) + Send + Sync + 'static) -> Malice {
    to_bob(move |_, (to, note, mut item)| {
        evil(&mut item);
        vec![(to, note, item)]
    })
}

fn reheaded(item: &mut Item, evil: impl Fn(&mut ItemHeader)) {
    let mut other = header(item);
    evil(&mut other);
    item.header = other.encode();
}

/// What a letter is sent with: it lives shortly, so that its fate is soon known.
fn options(ttl: Duration, wait: Wait) -> SendOptions {
    SendOptions {
        ttl,
        wait,
        ..SendOptions::default()
    }
}

impl Scene {
    /// Alice writes to bob.
    async fn write(&self, text: &str, ttl: Duration, wait: Wait) -> Result<Sent, Fault> {
        let payload = Payload::json(text);
        let options = options(ttl, wait);
        self.alice.agent.send(&name("bob"), payload, options).await
    }
}

impl Scene {
    /// Alice writes to bob, and never hears that he has it, until somebody has
    /// counted why.
    async fn write_in_vain(&self, counted: impl Fn(&Self) -> u64) {
        let refused = async {
            while counted(self) == 0 {
                let sent = self.write(SECRET, SHORT, Wait::Delivered).await;
                let fault = sent.expect_err("it cannot be delivered");
                assert!(
                    matches!(fault.code, Code::Unconfirmed | Code::Expired),
                    "{fault}"
                );
            }
        };
        let refused = tokio::time::timeout(PATIENCE, refused).await;
        refused.expect("it is refused in time");
    }
}

/// The next message, acknowledged.
async fn read(inbox: &mut Inbox) -> String {
    let message = tokio::time::timeout(PATIENCE, inbox.next()).await;
    let message = message.expect("in time").expect("a message");
    let text = String::from_utf8(message.payload.bytes.clone()).expect("text");
    message.ack().await.expect("the node");
    text
}

/// Nothing of what alice writes arrives, bob counts why, and alice learns that
/// nobody says what became of it.
async fn unreadable(malice: Malice) {
    let mut scene = scene(Topology::MailboxOnly, malice).await;
    let mut inbox = scene.bob.agent.inbox().await.expect("the inbox");
    scene
        .write_in_vain(|scene| scene.bob.metrics().registry.items_refused)
        .await;
    assert!(inbox.next().now_or_never().is_none());
    scene.check();
}

/// An item of nothing is none: bob leaves who says so, and tries again.
async fn emptied() {
    let malice = changed(|item| item.sealed.clear());
    let mut scene = scene(Topology::MailboxOnly, malice).await;
    scene
        .write_in_vain(|scene| scene.bob.metrics().registry.failed_attempts)
        .await;
    scene.check();
}

/// Everything arrives once and in order, whatever is done to the items.
async fn once_in_order(malice: Malice) {
    const COUNT: usize = 6;
    let mut scene = scene(Topology::MailboxOnly, malice).await;
    let mut inbox = scene.bob.agent.inbox().await.expect("the inbox");
    let mut sent = Vec::new();
    for n in 0..COUNT {
        let letter = scene.write(&n.to_string(), PATIENCE, Wait::Queued).await;
        sent.push(letter.expect("it is queued"));
    }
    for n in 0..COUNT {
        assert_eq!(read(&mut inbox).await, n.to_string());
    }
    for mut letter in sent {
        letter
            .until(Wait::Delivered)
            .await
            .expect("it is delivered");
    }
    assert!(
        inbox.next().now_or_never().is_none(),
        "something came twice"
    );
    scene.check();
}

cases! {
    it_changes_the_first_byte_of_what_is_sealed => unreadable(changed(|item| item.sealed[0] ^= 1));
    it_changes_a_byte_in_the_middle => unreadable(changed(|item| {
        let middle = item.sealed.len() / 2;
        item.sealed[middle] ^= 0x80;
    }));
    it_cuts_an_item_off => unreadable(changed(|item| _ = item.sealed.pop()));
    it_empties_an_item => emptied();
    it_makes_an_item_live_longer => unreadable(changed(|item| {
        reheaded(item, |header| header.life_ms = waymesh_proto::limits::TTL_MAX_MS);
    }));
    it_gives_an_item_another_id => unreadable(changed(|item| {
        reheaded(item, |header| header.item = ItemId::from_bytes([1; 16]));
    }));
    it_gives_an_item_another_class => unreadable(changed(|item| {
        reheaded(item, |header| header.class = waymesh_proto::Class::Bulk);
    }));
    it_says_that_an_item_is_from_mallory => unreadable(to_bob(|house, (to, note, mut item)| {
        let mallory = house.record("mallory").expect("mallory").agent.agent_id;
        reheaded(&mut item, |header| header.from = mallory);
        vec![(to, note, item)]
    }));
    it_says_that_an_item_is_sealed_to_another_key => unreadable(changed(|item| {
        reheaded(item, |header| header.key = waymesh_proto::KeyId::from_bytes([1; 16]));
    }));
    it_puts_the_seal_of_one_item_under_the_header_of_another => unreadable(to_bob(
        |house, (to, note, mut item)| {
            let other = house.items.first().expect("this one at least");
            item.sealed = other.sealed.clone();
            let id = ItemId::from_bytes([2; 16]);
            reheaded(&mut item, |header| header.item = id);
            vec![(to, note, item)]
        },
    ));
    it_gives_bobs_items_to_mallory => misdirected(|_, _| {});
    it_addresses_bobs_items_to_mallory => misdirected(|item, mallory| {
        reheaded(item, |header| header.to = mallory);
    });
    it_pushes_every_item_three_times => once_in_order(to_bob(|_, push| {
        vec![push.clone(), push.clone(), push]
    }));
    it_pushes_items_in_pairs_the_wrong_way_round => once_in_order({
        let held = Mutex::new(None::<Push>);
        to_bob(move |_, push| {
            let mut held = held.lock().expect("no panic");
            match held.take() {
                Some(before) => vec![push, before],
                None => {
                    *held = Some(push);
                    Vec::new()
                }
            }
        })
    });
    it_pushes_all_earlier_items_again_with_each => once_in_order(to_bob(|house, (to, note, _)| {
        let items = house.items.iter().filter(|item| header(item).to == to);
        items.map(|item| (to, note, item.clone())).collect()
    }));
    it_says_that_items_were_pushed_before => once_in_order(to_bob(|_, (to, _, item)| {
        let note = Note { again: true, dwell_ms: 0 };
        vec![(to, note, item)]
    }));
    it_says_that_items_are_older_than_the_world => once_in_order(to_bob(|_, (to, note, item)| {
        let note = Note { dwell_ms: u64::MAX >> 2, ..note };
        vec![(to, note, item)]
    }));
    it_never_says_what_became_of_an_item => once_in_order(
        Malice::none().posted(|_| Vec::new()),
    );
    it_says_that_items_of_others_are_stored => once_in_order(
        Malice::none().posted(|posted| vec![posted, Posted {
            item: ItemId::from_bytes([9; 16]),
            state: PostedState::Stored,
        }]),
    );
    it_stores_nothing_and_says_that_it_does => withheld();
    it_returns_an_item_that_bob_has => returned();
    it_seals_a_letter_from_bob_itself => forged(|scene| {
        let bob = scene.registry.with(|house| house.record("bob").expect("bob").clone());
        let writer = Writer {
            from: scene.bob.id(),
            papers: &bob,
            signer: &registry_keypair(),
        };
        forge::letter(&writer, &alices_record(scene))
    });
    it_has_mallory_write_in_bobs_name => forged(|scene| {
        let papers = scene.registry.with(|house| house.record("mallory").expect("mallory").clone());
        let writer = Writer {
            from: scene.bob.id(),
            papers: &papers,
            signer: &scene.mallory.keypair(),
        };
        forge::letter(&writer, &alices_record(scene))
    });
    it_has_mallory_write_with_bobs_papers => forged(|scene| {
        let papers = scene.registry.with(|house| house.record("bob").expect("bob").clone());
        let writer = Writer {
            from: scene.bob.id(),
            papers: &papers,
            signer: &scene.mallory.keypair(),
        };
        forge::letter(&writer, &alices_record(scene))
    });
    it_posts_to_a_node => nonsense(|scene| {
        let bob = scene.registry.with(|house| house.record("bob").expect("bob").clone());
        let writer = Writer {
            from: scene.bob.id(),
            papers: &bob,
            signer: &registry_keypair(),
        };
        let item = forge::letter(&writer, &alices_record(scene));
        encode_post(&item).map(|part| Message::Binary(part.into())).collect()
    });
    it_sends_bytes_that_are_nothing => nonsense(|_| vec![Message::Binary(vec![9; 9].into())]);
    it_sends_a_part_of_no_item => nonsense(|_| vec![Message::Binary(vec![3; 9].into())]);
    it_sends_text_that_is_nothing => nonsense(|_| vec![Message::Text("{".into())]);
}

fn alices_record(scene: &Scene) -> waymesh_proto::control::MemberRecord {
    scene
        .registry
        .with(|house| house.record("alice").expect("alice").clone())
}

/// Mallory, who gets bob's items, can do nothing with them.
async fn misdirected(evil: fn(&mut Item, AgentId)) {
    let malice = to_bob(move |house, (_, note, mut item)| {
        let mallory = house.record("mallory").expect("mallory").agent.agent_id;
        evil(&mut item, mallory);
        vec![(mallory, note, item)]
    });
    let mut scene = scene(Topology::MailboxOnly, malice).await;
    scene
        .write_in_vain(|scene| scene.mallory.metrics().registry.items_refused)
        .await;
    assert_eq!(scene.mallory.metrics().registry.items_opened, 0);
    scene.check();
}

/// A registry may withhold, but it cannot make the loss silent.
async fn withheld() {
    let mut scene = scene(Topology::MailboxOnly, to_bob(|_, _| Vec::new())).await;
    let mut sent = scene
        .write(SECRET, 2 * SHORT, Wait::Stored)
        .await
        .expect("it says so");
    assert_eq!(sent.state, SendState::Stored);
    let fault = sent.until(Wait::Delivered).await.expect_err("it is not");
    assert_eq!(fault.code, Code::Unconfirmed, "{fault}");
    scene.check();
}

/// Bob has the letter; that the registry gives it back costs alice nothing but
/// her certainty, and bob gets it once.
async fn returned() {
    let mut scene = scene(Topology::MailboxOnly, Malice::none()).await;
    let mut inbox = scene.bob.agent.inbox().await.expect("the inbox");
    let sent = scene.write(SECRET, PATIENCE, Wait::Stored).await;
    let mut sent = sent.expect("it is stored");
    let alice = scene.alice.id();
    scene.registry.with(|house| {
        let item = header(house.items.last().expect("the letter")).item;
        let items = vec![Returned {
            item,
            code: Code::Unreadable,
        }];
        house.tell(alice, &ServerMessage::Returned { items });
    });
    assert_eq!(read(&mut inbox).await, SECRET);
    sent.until(Wait::Delivered).await.expect("it is delivered");
    assert!(inbox.next().now_or_never().is_none());
    scene.check();
}

/// A letter to alice that bob did not write is not taken.
async fn forged(make: fn(&Scene) -> Item) {
    let mut scene = scene(Topology::MailboxOnly, Malice::none()).await;
    let mut inbox = scene.alice.agent.inbox().await.expect("the inbox");
    let (alice, item) = (scene.alice.id(), make(&scene));
    let note = Note {
        again: false,
        dwell_ms: 0,
    };
    scene
        .registry
        .with(|house| house.push_to(alice, note, &item));
    scene
        .alice
        .until(|metrics| metrics.registry.items_refused)
        .await;
    scene.call(PATIENCE).await.expect("bob's answer");
    assert!(inbox.next().now_or_never().is_none());
    scene.check();
}

/// Alice leaves a registry that talks nonsense, and comes back.
async fn nonsense(make: fn(&Scene) -> Vec<Message>) {
    let mut scene = scene(Topology::MailboxOnly, Malice::none()).await;
    let (alice, messages) = (scene.alice.id(), make(&scene));
    scene.registry.with(|house| {
        for message in messages {
            house.give(alice, message);
        }
    });
    scene
        .alice
        .until(|metrics| metrics.registry.failed_attempts)
        .await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}
