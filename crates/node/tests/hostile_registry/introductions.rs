//! Lies about members whom nobody has asked for yet.

use waymesh_node::Topology;
use waymesh_proto::control::{MemberRecord, ServerMessage};
use waymesh_proto::{Code, Fault};
use waymesh_trust::Keypair;

use crate::forge;
use crate::registry::{House, Malice};
use crate::scene::{PATIENCE, name, scene};

/// Introduces bob to whoever logs in after him, changed in some way. What is
/// told next is counted: so it is known when that was heard.
fn introducing(evil: impl Fn(&House, &mut MemberRecord) + Send + Sync + 'static) -> Malice {
    Malice::none().greeting(move |house, _| {
        let Some(mut bob) = house.record("bob").cloned() else {
            return Vec::new();
        };
        evil(house, &mut bob);
        let agents = vec![bob];
        let error = Fault::new(Code::RateLimited, "the introduction is over");
        vec![
            ServerMessage::Introduced { agents },
            ServerMessage::Error { error },
        ]
    })
}

/// Bob answers alice's first letter.
async fn answered(malice: Malice) {
    let mut scene = scene(Topology::OnDemand, malice).await;
    let heard = |metrics: &waymesh_node::metrics::Metrics| metrics.registry.messages_refused;
    scene.alice.until(heard).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}

cases! {
    /// So a first letter leaves without an answer about its receiver.
    it_says_that_nobody_has_a_name_whose_papers_are_at_hand => answered(
        introducing(|_, _| {}).record(|_, _| Vec::new()),
    );
    it_introduces_a_puppet_of_its_own_as_bob => answered(introducing(|_, record| {
        let puppet = Keypair::from_seed(&[66; 32]);
        record.agent.agent_id = puppet.agent_id();
        record.certificate = forge::minted("bob", puppet.agent_id());
    }));
    it_introduces_mallory_under_bobs_name => answered(introducing(|house, record| {
        *record = house.record("mallory").unwrap_or(record).clone();
        record.agent.name = name("bob");
    }));
    it_introduces_bob_with_mallorys_sealing_key => answered(introducing(|house, record| {
        if let Some(mallory) = house.record("mallory") {
            record.sealing = mallory.sealing.clone();
        }
    }));
}
