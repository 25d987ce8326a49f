//! Lies about members whom nobody has asked for yet.

use waymesh_node::Topology;
use waymesh_node::metrics::Metrics;
use waymesh_proto::control::{
    INTRODUCED_MAX_AGENTS, INTRODUCED_MAX_BYTES, MemberRecord, ServerMessage,
};
use waymesh_proto::{Code, Fault, Role};
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
    let heard = |metrics: &Metrics| metrics.registry.messages_refused;
    scene.alice.until(heard).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}

/// Introduces others before bob, and says that nobody has his name: he is
/// reached by his introduction or not at all. Some of the others are dropped.
async fn answered_behind(
    others: impl Fn(&MemberRecord) -> Vec<MemberRecord> + Send + Sync + 'static,
) {
    let malice = Malice::none().record(|_, _| Vec::new());
    let malice = malice.greeting(move |house, _| {
        let Some(bob) = house.record("bob").cloned() else {
            return Vec::new();
        };
        let error = Fault::new(Code::RateLimited, "the introductions are over");
        let all = others(&bob).into_iter().chain([bob]);
        let introduced = all.map(|record| ServerMessage::Introduced {
            agents: vec![record],
        });
        introduced.chain([ServerMessage::Error { error }]).collect()
    });
    let mut scene = scene(Topology::OnDemand, malice).await;
    let heard = |metrics: &Metrics| metrics.registry.messages_refused;
    scene.alice.until(heard).await;
    let dropped = scene.alice.metrics().registry.introductions_dropped;
    assert!(dropped > 0, "all are kept");
    scene.call(PATIENCE).await.expect("bob's answer");
    scene.check();
}

/// A member that there is not.
fn puppet(n: usize, like: &MemberRecord) -> MemberRecord {
    let mut puppet = like.clone();
    puppet.agent.name = name(&format!("puppet-{n}"));
    puppet
}

/// Roles that take more than half of what all introductions may.
fn many_roles() -> Vec<Role> {
    let role: Role = "r".repeat(32).parse().expect("a role");
    vec![role; INTRODUCED_MAX_BYTES / 2 / 32]
}

cases! {
    it_introduces_more_members_than_a_small_mesh_has => answered_behind(|bob| {
        (0..=INTRODUCED_MAX_AGENTS).map(|n| puppet(n, bob)).collect()
    });
    it_introduces_members_with_more_roles_than_there_is_room_for => answered_behind(|bob| {
        let trusted = |n| {
            let mut puppet = puppet(n, bob);
            puppet.agent.roles = many_roles();
            puppet
        };
        (0..3).map(trusted).collect()
    });
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
