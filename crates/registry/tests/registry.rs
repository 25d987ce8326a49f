//! A real registry on loopback: start, logins, presence, HTTP, restart.

mod support;

use std::collections::BTreeSet;

use support::{House, PATIENCE, Raw, config, http, large_skills, loopback};
use tokio::task::JoinSet;
use waymesh_proto::Code;
use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{ClientMessage, Origin, ServerMessage};
use waymesh_registry::{Registry, StartError};

fn skills() -> Vec<SkillSpec> {
    vec![SkillSpec {
        name: "echo".parse().expect("a skill name"),
        description: Some("Says it again.".into()),
        schema: Some(serde_json::json!({"type": "object"})),
        idempotent: true,
    }]
}

async fn agents(registry: &Registry, query: &str) -> Vec<AgentRecord> {
    #[derive(serde::Deserialize)]
    struct Body {
        agents: Vec<AgentRecord>,
    }
    let line = format!("GET /v1/agents{query}");
    let (status, body) = http(registry.local_addr(), &line).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Body>(&body).expect("agents").agents
}

async fn metric(registry: &Registry, name: &str) -> u64 {
    let (_, body) = http(registry.local_addr(), "GET /metrics").await;
    let line = body
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.expect("a metric").parse().expect("a number")
}

#[tokio::test]
async fn an_agent_that_logs_in_and_publishes_is_found_over_http() {
    let house = House::start().await;
    let mut alice = Raw::log_in(&house.registry, "alice", 1, 1).await;
    alice.say(&ClientMessage::Skills { skills: skills() }).await;
    alice.say(&ClientMessage::WatchAll).await;
    alice.next().await;
    let found = agents(&house.registry, "?skill=echo&name=alice").await;
    assert_eq!(found.len(), 1);
    assert!(found[0].online);
    assert_eq!(found[0].skills, skills());
    assert_eq!(agents(&house.registry, "?skill=dance").await, []);
    house.registry.stop().await;
}

#[tokio::test]
async fn a_name_stays_bound_to_its_key_and_is_seen_offline_after_a_restart() {
    let house = House::start().await;
    let (key, mesh) = (house.registry.key(), house.registry.mesh());
    let mut alice = Raw::log_in(&house.registry, "alice", 1, 7).await;
    alice.say(&ClientMessage::Skills { skills: skills() }).await;
    alice.say(&ClientMessage::WatchAll).await;
    alice.next().await;
    assert_eq!(
        Raw::refused(&house.registry, "alice", 2, 9).await,
        Code::NameTaken
    );
    let house = house.restart().await;
    alice.closed().await;
    assert_eq!((house.registry.key(), house.registry.mesh()), (key, mesh));
    let found = agents(&house.registry, "").await;
    assert_eq!((found[0].online, &found[0].skills), (false, &skills()));
    assert_eq!(
        Raw::refused(&house.registry, "alice", 2, 9).await,
        Code::NameTaken
    );
    assert_eq!(
        Raw::refused(&house.registry, "alice", 1, 6).await,
        Code::IdentityInUse
    );
    Raw::log_in(&house.registry, "alice", 1, 7).await;
    house.registry.stop().await;
}

#[tokio::test]
async fn a_newer_life_takes_over_and_the_older_one_is_told() {
    let house = House::start().await;
    let mut old = Raw::log_in(&house.registry, "alice", 1, 1).await;
    let _new = Raw::log_in(&house.registry, "alice", 1, 2).await;
    assert_eq!(old.error().await, Code::IdentityInUse);
    old.closed().await;
    assert_eq!(
        Raw::refused(&house.registry, "alice", 1, 1).await,
        Code::IdentityInUse
    );
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_vanishes_is_seen_offline_at_once() {
    let house = House::start().await;
    let mut watcher = Raw::log_in(&house.registry, "watcher", 1, 1).await;
    let alice = Raw::log_in(&house.registry, "alice", 2, 1).await;
    let name = "alice".parse().expect("a name");
    watcher.say(&ClientMessage::Resolve { name }).await;
    assert!(matches!(watcher.next().await, ServerMessage::Records { agents } if agents[0].online));
    drop(alice);
    assert!(matches!(watcher.next().await, ServerMessage::Records { agents } if !agents[0].online));
    house.registry.stop().await;
}

#[tokio::test]
async fn a_hundred_agents_log_in_at_the_same_moment() {
    let house = House::start().await;
    let registry = std::sync::Arc::new(house.registry);
    let mut logins = JoinSet::new();
    for n in 0..100 {
        let registry = std::sync::Arc::clone(&registry);
        logins.spawn(async move { Raw::log_in(&registry, &format!("agent-{n}"), n, 1).await });
    }
    let connected = tokio::time::timeout(PATIENCE, logins.join_all()).await;
    let connected = connected.expect("all logins in time");
    let found = agents(&registry, "").await;
    let names: BTreeSet<_> = found.iter().filter(|a| a.online).map(|a| &a.name).collect();
    assert_eq!((connected.len(), names.len()), (100, 100));
    assert_eq!(
        metric(&registry, "waymesh_registry_agents_online").await,
        100
    );
}

#[tokio::test]
async fn two_registries_cannot_be_mixed() {
    let (one, two) = (House::start().await, House::start().await);
    let raw = Raw::connect(&one.registry).await;
    let mut other = Raw::connect(&two.registry).await;
    // A registry in the middle shows the challenge of another one.
    other.challenge = raw.challenge.clone();
    let (login, _) = other.login("alice", 1, 1);
    other.say(&ClientMessage::Login(login.clone())).await;
    assert_eq!(other.error().await, Code::WrongRegistry);
    let mut raw = raw;
    raw.say(&ClientMessage::Login(login)).await;
    assert_eq!(raw.error().await, Code::WrongRegistry);
}

#[tokio::test]
async fn a_login_seen_on_one_connection_opens_no_other() {
    let house = House::start().await;
    let first = Raw::connect(&house.registry).await;
    let (login, _) = first.login("alice", 1, 1);
    let mut second = Raw::connect(&house.registry).await;
    assert_ne!(first.challenge.nonce, second.challenge.nonce);
    second.say(&ClientMessage::Login(login)).await;
    assert_eq!(second.error().await, Code::BadSignature);
    second.closed().await;
}

#[tokio::test]
async fn localhost_and_the_public_url_are_addresses_of_the_registry_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = config(&dir, loopback(0));
    settings.public_url = Some("https://Mesh.Example/".into());
    let registry = Registry::start(settings).await.expect("a registry");
    assert_eq!(registry.url(), "https://mesh.example");
    let port = registry.local_addr().port();
    for origin in [
        "https://mesh.example".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}"),
    ] {
        let url = Origin::http(registry.local_addr()).control_url();
        let (ws, _) = tokio_tungstenite::connect_async(url)
            .await
            .expect("a connection");
        let mut raw = Raw {
            ws,
            challenge: Raw::challenge_of(&registry),
            origin: origin.parse().expect("an origin"),
        };
        match raw.next().await {
            ServerMessage::Challenge(challenge) => raw.challenge = challenge,
            other => panic!("{other:?}"),
        }
        let (login, _) = raw.login("alice", 1, 1);
        raw.say(&ClientMessage::Login(login)).await;
        assert!(
            matches!(raw.next().await, ServerMessage::Welcome(_)),
            "{origin}"
        );
        drop(raw);
    }
    registry.stop().await;
}

#[tokio::test]
async fn an_address_that_leaves_the_machine_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let listen = "0.0.0.0:0".parse().expect("an address");
    let error = Registry::start(config(&dir, listen))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), Code::NotSupportedYet);
    assert!(error.fault().hint.is_some_and(|hint| hint.contains("TLS")));
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
        connections.push(Raw::log_in(&house.registry, name, key, 1).await);
    }
    let addr = house.registry.local_addr();
    let page = async |query: &str| {
        let (status, body) = http(addr, &format!("GET /v1/agents{query}")).await;
        assert_eq!(status, 200, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
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
    for wrong in ["0", "1025", "x"] {
        let (status, body) = http(addr, &format!("GET /v1/agents?limit={wrong}")).await;
        assert_eq!(status, 400, "{body}");
    }
    house.registry.stop().await;
}

#[tokio::test]
async fn whoever_watches_all_is_not_cut_off_because_others_have_large_skills() {
    let house = House::start().await;
    let mut publishers = Vec::new();
    for key in 1..=40 {
        let name = format!("agent-{key}");
        let mut agent = Raw::log_in(&house.registry, &name, key, 1).await;
        let skills = large_skills("");
        agent.say(&ClientMessage::Skills { skills }).await;
        let nobody = "nobody".parse().expect("a name");
        agent.say(&ClientMessage::Resolve { name: nobody }).await;
        agent.next().await;
        publishers.push(agent);
    }
    let mut watcher = Raw::log_in(&house.registry, "watcher", 99, 1).await;
    watcher.say(&ClientMessage::WatchAll).await;
    let mut names = BTreeSet::new();
    while names.len() < 41 {
        match watcher.next().await {
            ServerMessage::Records { agents } => names.extend(agents.into_iter().map(|a| a.name)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        metric(&house.registry, "waymesh_registry_closed_slow_reader_total").await,
        0
    );
    house.registry.stop().await;
}

#[tokio::test]
async fn http_mistakes_get_a_coded_error() {
    let house = House::start().await;
    let addr = house.registry.local_addr();
    for (line, status, code) in [
        ("GET /v1/agents?name=NOT%20A%20NAME", 400, "bad_request"),
        ("GET /v1/agents?name=%ff", 400, "bad_request"),
        ("GET /nowhere", 404, "unknown_verb"),
        ("POST /v1/agents", 405, "bad_request"),
        ("GET /v1/control", 400, "bad_request"),
    ] {
        let (got, body) = http(addr, line).await;
        assert_eq!(got, status, "{line}: {body}");
        assert!(
            body.contains(&format!("\"code\":\"{code}\"")),
            "{line}: {body}"
        );
    }
    let (status, body) = http(addr, "GET /v1/health").await;
    assert_eq!(status, 200);
    assert!(body.contains(&house.registry.mesh().to_string()), "{body}");
}
