//! A real registry on loopback: start, logins, presence, HTTP, restart.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use support::http::get_as;
use support::{
    House, Member, PATIENCE, Raw, config, found, large_skills, loopback, member, now_ms,
};
use tokio::task::JoinSet;
use waymesh_proto::Code;
use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{ClientMessage, Origin, ServerMessage};
use waymesh_proto::limits::{CERTIFICATE_LIFE_MS, CLOCK_LEEWAY_MS};
use waymesh_registry::{Registry, StartError, Tls};
use waymesh_trust::{Keypair, certificate};

fn skills() -> Vec<SkillSpec> {
    vec![SkillSpec {
        name: "echo".parse().expect("a skill name"),
        description: Some("Says it again.".into()),
        schema: Some(serde_json::json!({"type": "object"})),
        idempotent: true,
    }]
}

/// What a member is told of the agents that fit.
async fn agents(house: &House, query: &str) -> Vec<AgentRecord> {
    #[derive(serde::Deserialize)]
    struct Body {
        agents: Vec<AgentRecord>,
    }
    let asker = house.member("asker", 250);
    let answer = get_as(house.addr(), &asker, &format!("/v1/agents{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body: Body = serde_json::from_slice(&answer.body).expect("agents");
    body.agents
}

#[tokio::test]
async fn an_agent_that_logs_in_and_publishes_is_found_over_http() {
    let house = House::start().await;
    let mut alice = house.log_in("alice", 1, 1).await;
    alice.say(&ClientMessage::Skills { skills: skills() }).await;
    alice.say(&ClientMessage::WatchAll).await;
    alice.next().await;
    let found = agents(&house, "?skill=echo&name=alice").await;
    assert_eq!(found.len(), 1);
    assert!(found[0].online);
    assert_eq!(found[0].skills, skills());
    assert_eq!(agents(&house, "?skill=dance").await, []);
    house.registry.stop().await;
}

#[tokio::test]
async fn a_name_stays_bound_to_its_key_and_is_seen_offline_after_a_restart() {
    let house = House::start().await;
    let (key, mesh) = (house.registry.key(), house.registry.mesh());
    let mut alice = house.log_in("alice", 1, 7).await;
    alice.say(&ClientMessage::Skills { skills: skills() }).await;
    alice.say(&ClientMessage::WatchAll).await;
    alice.next().await;
    assert_eq!(
        Raw::refused(&house.registry, &house.member("alice", 2), 9).await,
        Code::NameTaken
    );
    let house = house.restart().await;
    alice.closed().await;
    assert_eq!((house.registry.key(), house.registry.mesh()), (key, mesh));
    let found = agents(&house, "").await;
    assert_eq!((found[0].online, &found[0].skills), (false, &skills()));
    assert_eq!(
        Raw::refused(&house.registry, &house.member("alice", 2), 9).await,
        Code::NameTaken
    );
    assert_eq!(
        Raw::refused(&house.registry, &house.member("alice", 1), 6).await,
        Code::IdentityInUse
    );
    house.log_in("alice", 1, 7).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn a_newer_life_takes_over_and_the_older_one_is_told() {
    let house = House::start().await;
    let mut old = house.log_in("alice", 1, 1).await;
    let _new = house.log_in("alice", 1, 2).await;
    assert_eq!(old.error().await, Code::IdentityInUse);
    old.closed().await;
    assert_eq!(
        Raw::refused(&house.registry, &house.member("alice", 1), 1).await,
        Code::IdentityInUse
    );
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_vanishes_is_seen_offline_at_once() {
    let house = House::start().await;
    let mut watcher = house.log_in("watcher", 1, 1).await;
    let alice = house.log_in("alice", 2, 1).await;
    let name = "alice".parse().expect("a name");
    watcher.say(&ClientMessage::Resolve { name }).await;
    assert!(
        matches!(watcher.next().await, ServerMessage::Records { agents } if agents[0].agent.online)
    );
    drop(alice);
    assert!(
        matches!(watcher.next().await, ServerMessage::Records { agents } if !agents[0].agent.online)
    );
    house.registry.stop().await;
}

#[tokio::test]
async fn a_hundred_agents_log_in_at_the_same_moment() {
    let house = Arc::new(House::start().await);
    let mut logins = JoinSet::new();
    for n in 0..100 {
        let house = Arc::clone(&house);
        logins.spawn(async move { house.log_in(&format!("agent-{n}"), n, 1).await });
    }
    let connected = tokio::time::timeout(PATIENCE, logins.join_all()).await;
    let connected = connected.expect("all logins in time");
    let found = agents(&house, "").await;
    let names: BTreeSet<_> = found.iter().filter(|a| a.online).map(|a| &a.name).collect();
    assert_eq!((connected.len(), names.len()), (100, 100));
    let online = house.metric("waymesh_registry_agents_online").await;
    assert_eq!(online, 100);
}

#[tokio::test]
async fn two_registries_of_one_mesh_cannot_be_mixed() {
    let (one, two) = (House::start().await, House::start().await);
    let mut raw = Raw::connect(&one.registry).await;
    let mut other = Raw::connect(&two.registry).await;
    // A registry in the middle shows the challenge of another one.
    let alice = one.member("alice", 1);
    let (login, _) = alice.login(&other.origin, &raw.challenge, 1);
    other.say(&ClientMessage::Login(login.clone())).await;
    assert_eq!(other.error().await, Code::BadSignature);
    raw.say(&ClientMessage::Login(login)).await;
    assert_eq!(raw.error().await, Code::WrongRegistry);
}

#[tokio::test]
async fn a_login_for_another_mesh_is_refused() {
    let house = House::start().await;
    let mut raw = Raw::connect(&house.registry).await;
    let mut challenge = raw.challenge.clone();
    challenge.mesh = Keypair::from_seed(&[201; 32]).mesh_key();
    let (login, _) = house.member("alice", 1).login(&raw.origin, &challenge, 1);
    raw.say(&ClientMessage::Login(login)).await;
    assert_eq!(raw.error().await, Code::WrongRegistry);
}

#[tokio::test]
async fn a_certificate_of_another_mesh_or_holder_or_one_that_has_ended_lets_nobody_in() {
    let house = House::start().await;
    let alice = house.member("alice", 1);
    let forged = certificate::issue(
        &Keypair::from_seed(&[201; 32]),
        &member::claims(
            "alice",
            1,
            house.registry.key(),
            now_ms() + CERTIFICATE_LIFE_MS,
        ),
    );
    let forged = Member {
        certificate: forged.expect("a certificate"),
        ..alice.clone()
    };
    let stolen = Member {
        certificate: alice.certificate.clone(),
        ..house.member("alice", 2)
    };
    let past = now_ms() - CLOCK_LEEWAY_MS - 1_000;
    let ended = Member::until("alice", 1, house.registry.key(), past);
    for (member, code) in [
        (forged, Code::BadCertificate),
        (stolen, Code::BadCertificate),
        (ended, Code::CertificateExpired),
    ] {
        assert_eq!(Raw::refused(&house.registry, &member, 1).await, code);
    }
}

#[tokio::test]
async fn a_login_seen_on_one_connection_opens_no_other() {
    let house = House::start().await;
    let first = Raw::connect(&house.registry).await;
    let alice = house.member("alice", 1);
    let (login, _) = alice.login(&first.origin, &first.challenge, 1);
    let mut second = Raw::connect(&house.registry).await;
    assert_ne!(first.challenge.nonce, second.challenge.nonce);
    second.say(&ClientMessage::Login(login)).await;
    assert_eq!(second.error().await, Code::BadSignature);
    second.closed().await;
}

#[tokio::test]
async fn without_a_mesh_nobody_logs_in_and_with_one_everybody_does_at_once() {
    let house = House::without_mesh(None).await;
    let origin = house.registry.url().clone();
    let mut raw = Raw::connect_to(&house.registry, origin).await;
    match raw.next().await {
        ServerMessage::Error { error } => {
            assert_eq!(error.code, Code::NoMesh);
            let hint = error.hint.expect("a hint");
            assert!(hint.contains("waymesh invite"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    raw.closed().await;
    house.found().await;
    house.log_in("alice", 1, 1).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn localhost_and_the_public_url_are_addresses_of_the_registry_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = config(&dir, loopback(0));
    settings.public_url = Some("https://Mesh.Example/".into());
    let registry = Registry::start(settings).await.expect("a registry");
    assert_eq!(registry.url().as_str(), "https://mesh.example");
    found(&dir).await;
    let port = registry.local_addr().port();
    let alice = Member::new("alice", 1, registry.key());
    for origin in [
        "https://mesh.example".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}"),
    ] {
        let own = Origin::http(registry.local_addr());
        let mut raw = Raw::connect_to(&registry, own).await;
        let challenge = raw.challenge().await;
        let origin: Origin = origin.parse().expect("an origin");
        let (login, _) = alice.login(&origin, &challenge, 1);
        raw.say(&ClientMessage::Login(login)).await;
        assert!(
            matches!(raw.next().await, ServerMessage::Welcome(_)),
            "{origin}"
        );
    }
    registry.stop().await;
}

#[tokio::test]
async fn all_that_is_wrong_is_told_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = config(&dir, "0.0.0.0:0".parse().expect("an address"));
    settings.tls = Some(Tls::Off);
    settings.public_url = Some("mesh.example".into());
    let error = Registry::start(settings).await.expect_err("refused");
    assert_eq!(error.code(), Code::Usage);
    let StartError::Config(errors) = &error else {
        panic!("{error}");
    };
    assert_eq!(errors.len(), 2);
    let fault = error.fault();
    assert!(fault.message.contains("mesh.example") && fault.message.contains("0.0.0.0"));
    assert!(fault.hint.is_some_and(|hint| hint.contains("TLS")));
    assert!(!dir.path().join("data").exists());
}

#[tokio::test]
async fn a_directory_or_port_in_use_is_refused() {
    let house = House::start().await;
    let again = Registry::start(config(&house.dir, loopback(0))).await;
    assert!(matches!(again, Err(StartError::InUse(_))));
    let other = tempfile::tempdir().expect("a directory");
    let taken = Registry::start(config(&other, house.registry.local_addr())).await;
    assert_eq!(taken.expect_err("refused").code(), Code::Bind);
    let free = Registry::start(config(&other, loopback(0))).await;
    free.expect("the directory is free again").stop().await;
}

#[tokio::test]
async fn agents_are_listed_over_http_page_by_page() {
    let house = House::start().await;
    let names = ["a", "b", "c"];
    let mut connections = Vec::new();
    for (key, name) in (1..).zip(names) {
        connections.push(house.log_in(name, key, 1).await);
    }
    let asker = house.member("a", 1);
    let page = async |query: &str| {
        let answer = get_as(house.addr(), &asker, &format!("/v1/agents{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let agents = body["agents"].as_array().expect("agents").clone();
        let names: Vec<_> = agents.iter().map(|a| a["name"].to_string()).collect();
        (names.join(" "), body["next"].clone())
    };
    let end = serde_json::Value::Null;
    assert_eq!(page("?limit=2").await, (r#""a" "b""#.into(), "b".into()));
    assert_eq!(
        page("?limit=2&after=b").await,
        (r#""c""#.into(), end.clone())
    );
    assert_eq!(page("").await, (r#""a" "b" "c""#.into(), end));
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_watches_all_is_not_cut_off_because_others_have_large_skills() {
    let house = House::start().await;
    let mut publishers = Vec::new();
    for key in 1..=40 {
        let name = format!("agent-{key}");
        let mut agent = house.log_in(&name, key, 1).await;
        let skills = large_skills("");
        agent.say(&ClientMessage::Skills { skills }).await;
        let nobody = "nobody".parse().expect("a name");
        agent.say(&ClientMessage::Resolve { name: nobody }).await;
        agent.next().await;
        publishers.push(agent);
    }
    let mut watcher = house.log_in("watcher", 99, 1).await;
    watcher.say(&ClientMessage::WatchAll).await;
    let mut names = BTreeSet::new();
    while names.len() < 41 {
        match watcher.next().await {
            ServerMessage::Records { agents } => {
                names.extend(agents.into_iter().map(|a| a.agent.name));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        house
            .metric("waymesh_registry_closed_slow_reader_total")
            .await,
        0
    );
    house.registry.stop().await;
}
