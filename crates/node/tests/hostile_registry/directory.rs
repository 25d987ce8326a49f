//! Lies about who somebody is.

use waymesh_node::Topology;
use waymesh_proto::Code;
use waymesh_proto::control::MemberRecord;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_trust::Keypair;
use waymesh_trust::certificate;
use waymesh_trust::sealing::SealingKey;

use crate::forge;
use crate::registry::{House, Malice, registry_keypair, unix_ms};
use crate::scene::{PATIENCE, SHORT, mesh, name, refused, scene};

/// Changes bob's record whoever asks for it.
fn bobs(evil: impl Fn(&House, &mut MemberRecord) + Send + Sync + 'static) -> Malice {
    Malice::none().record(move |house, mut record| {
        if record.agent.name == name("bob") {
            evil(house, &mut record);
        }
        vec![record]
    })
}

fn mallory(house: &House) -> MemberRecord {
    house.record("mallory").expect("mallory is there").clone()
}

/// A stranger whose private key the registry has.
fn puppet() -> Keypair {
    Keypair::from_seed(&[66; 32])
}

cases! {
    it_mints_a_certificate_for_a_puppet_of_its_own => refused(
        bobs(|_, record| {
            record.agent.agent_id = puppet().agent_id();
            record.certificate = forge::minted("bob", puppet().agent_id());
        }),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_mints_a_certificate_for_bob_himself => refused(
        bobs(|_, record| record.certificate = forge::minted("bob", record.agent.agent_id)),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_shows_a_certificate_of_another_mesh => refused(
        bobs(|_, record| {
            let other = Keypair::from_seed(&[8; 32]);
            record.agent.agent_id = puppet().agent_id();
            record.certificate = forge::issued(&other, "bob", puppet().agent_id(), unix_ms());
        }),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_gives_mallorys_papers_out_under_bobs_name => refused(
        bobs(|house, record| {
            *record = mallory(house);
            record.agent.name = name("bob");
        }),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_gives_bobs_certificate_to_mallorys_identity => refused(
        bobs(|house, record| record.agent.agent_id = mallory(house).agent.agent_id),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_adds_a_role_that_the_certificate_does_not_give => refused(
        bobs(|_, record| record.agent.roles.push("admin".parse().expect("a role"))),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_cuts_bobs_certificate_short => refused(
        bobs(|_, record| {
            let text = record.certificate.as_str();
            let cut = text[..text.len() - 1].parse();
            record.certificate = cut.expect("a text");
        }),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_replays_a_certificate_that_has_expired => refused(
        bobs(|_, record| {
            let issued_ms = unix_ms() - 2 * CERTIFICATE_LIFE_MS;
            record.certificate = forge::issued(&mesh(), "bob", record.agent.agent_id, issued_ms);
        }),
        Code::CertificateExpired,
        |metrics| metrics.registry.records_distrusted,
    );
    it_shows_a_certificate_that_begins_in_an_hour => refused(
        bobs(|_, record| {
            let issued_ms = unix_ms() + 3_600_000;
            record.certificate = forge::issued(&mesh(), "bob", record.agent.agent_id, issued_ms);
        }),
        Code::ClockSkew,
        |metrics| metrics.registry.records_distrusted,
    );
    it_extends_bobs_certificate_past_its_renewal => refused(
        bobs(|_, record| {
            let member = forge::verified(record);
            let longer = forge::extension(&member, member.renew_until_ms + 3_600_000);
            let extended = certificate::with_extension(&record.certificate, &longer);
            record.certificate = extended.expect("a certificate");
        }),
        Code::BadCertificate,
        |metrics| metrics.registry.records_distrusted,
    );
    it_swaps_bobs_sealing_key_for_its_own => refused(
        bobs(|_, record| {
            let key = SealingKey::from_seed(&[66; 32], unix_ms() + 3_600_000);
            let (by, of) = (registry_keypair(), record.agent.agent_id);
            record.sealing = key.statement(&by, of, &mesh().mesh_key(), unix_ms());
        }),
        Code::BadSignature,
        |metrics| metrics.registry.records_distrusted,
    );
    it_swaps_bobs_sealing_key_for_mallorys => refused(
        bobs(|house, record| record.sealing = mallory(house).sealing),
        Code::BadSignature,
        |metrics| metrics.registry.records_distrusted,
    );
    it_says_that_bob_is_not_there => refused(
        Malice::none().record(|_, record| match record.agent.name == name("bob") {
            true => Vec::new(),
            false => vec![record],
        }),
        Code::UnknownPeer,
        |_| 1,
    );
    it_gives_out_mallory_when_asked_for_bob => refused(
        Malice::none().record(|house, record| match record.agent.name == name("bob") {
            true => vec![mallory(house)],
            false => vec![record],
        }),
        Code::RegistryUnreachable,
        |_| 1,
    );
    it_lies_of_bobs_incarnation_and_presence => incarnation_lie();
    it_gives_bobs_name_to_another_member_later => later_swap();
}

/// A wrong incarnation only makes alice ask a bob who is not there; what she
/// writes to him waits in his mailbox and is his all the same.
async fn incarnation_lie() {
    let malice = bobs(|_, record| {
        record.agent.incarnation = waymesh_proto::Incarnation::new(u64::MAX >> 1);
    });
    let mut scene = scene(Topology::OnDemand, malice).await;
    let outcome = scene.call(SHORT).await;
    if let Err(fault) = outcome {
        assert_ne!(fault.code, Code::Internal, "{fault}");
    }
    scene.check();
}

/// Names are bound by certificates and pinned: a member of the same name and
/// mesh with another identity is not the one that was met.
async fn later_swap() {
    let mut scene = scene(Topology::MailboxOnly, Malice::none()).await;
    scene.call(PATIENCE).await.expect("bob's answer");
    let twin = scene.mallory.id();
    let (alice, record) = (
        scene.alice.id(),
        scene.registry.with(|house| {
            let mut record = mallory(house);
            record.agent.name = name("bob");
            record.certificate = forge::issued(&mesh(), "bob", twin, unix_ms());
            record
        }),
    );
    scene.registry.with(|house| {
        let agents = vec![record];
        house.tell(
            alice,
            &waymesh_proto::control::ServerMessage::Records { agents },
        );
    });
    scene
        .alice
        .until(|metrics| metrics.core.stale_signals)
        .await;
    scene.check();
}
