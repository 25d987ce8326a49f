//! Admin commands beside a registry that lies, with the real binary.

mod support;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{Ran, run};
use tempfile::TempDir;
use waymesh_authority::{Act, Approval, Authority, RENEW_DEFAULT_MS, verify_audit};
use waymesh_proto::RequestId;
use waymesh_proto::control::Nonce;
use waymesh_proto::membership::{Certificate, JoinRequest};
use waymesh_trust::join::{Ask, request};
use waymesh_trust::{Keypair, fingerprint};

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("a time").as_millis()).expect("a time")
}

fn registry_key() -> Keypair {
    Keypair::from_seed(&[101; 32])
}

fn bob() -> Keypair {
    Keypair::from_seed(&[2; 32])
}

fn mallory() -> Keypair {
    Keypair::from_seed(&[66; 32])
}

/// What a registry claims.
#[derive(Default)]
struct Claims {
    joins: Vec<Value>,
    agents: Vec<Value>,
    /// The types of the orders that came.
    orders: Vec<String>,
}

/// An authority, and a registry that says of its mesh what a test has it say.
struct Liar {
    folder: TempDir,
    claims: Arc<Mutex<Claims>>,
}

impl Liar {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("authority");
        let mesh = Authority::open_or_create(&dir, now_ms())
            .expect("an authority")
            .mesh_key();
        let status = json!({
            "type": "status",
            "url": "http://127.0.0.1:4455",
            "mesh": mesh,
            "registry": registry_key().registry_key(),
            "tls_pin": null,
            "running": true,
        });
        let listener = UnixListener::bind(folder.path().join("admin.sock")).expect("a socket");
        let claims = Arc::new(Mutex::new(Claims::default()));
        let answers = Arc::clone(&claims);
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a connection"), &status, &answers);
            }
        });
        Self { folder, claims }
    }

    fn authority_dir(&self) -> PathBuf {
        self.folder.path().join("authority")
    }

    fn authority(&self) -> Authority {
        Authority::open(&self.authority_dir(), now_ms()).expect("the authority")
    }

    fn admin(&self, args: &[&str]) -> Ran {
        let args = args.iter().map(OsStr::new);
        run(args.chain([OsStr::new("--data-dir"), self.folder.path().as_os_str()]))
    }

    fn join_request(&self, who: &Keypair, name: &str) -> JoinRequest {
        let ask = Ask {
            name: name.parse().expect("a name"),
            agent_id: who.agent_id(),
            rotations: Vec::new(),
            mesh: self.authority().mesh_key(),
            registry: registry_key().registry_key(),
            nonce: Nonce::from_bytes([3; 32]),
            tls_key: None,
        };
        request(who, &ask, None, now_ms()).expect("a request")
    }

    /// Says from now on that this one waits under `r1`.
    fn claim_join(&self, who: &Keypair, name: &str) {
        let join = json!({
            "request": "r1",
            "name": name,
            "agent_id": who.agent_id(),
            "join_request": self.join_request(who, name),
            "address": "127.0.0.1",
            "waiting_ms": 1,
            "invite": null,
            "delegation": null,
            "approved": false,
        });
        self.claims.lock().expect("claims").joins = vec![join];
    }

    /// Says from now on that this identity has that name, and shows this for it.
    fn claim_agent(&self, name: &str, who: &Keypair, certificate: &Certificate) {
        let agent = json!({
            "name": name,
            "agent_id": who.agent_id(),
            "incarnation": 1,
            "online": false,
            "certificate": certificate,
            "sealing": "none",
        });
        self.claims.lock().expect("claims").agents = vec![agent];
    }

    fn approve(&self, who: &Keypair, name: &str) -> Certificate {
        let request: RequestId = "r1".parse().expect("an id");
        let join = self.join_request(who, name);
        let approval = Approval {
            request: &request,
            join: &join,
            registry: registry_key().registry_key(),
            invite: None,
            roles: None,
            renew_ms: RENEW_DEFAULT_MS,
        };
        let approved = self.authority().approve(&approval, now_ms());
        approved.expect("a certificate")
    }

    fn ordered(&self, order: &str) -> bool {
        let claims = self.claims.lock().expect("claims");
        claims.orders.iter().any(|one| one == order)
    }

    fn last_act(&self) -> Act {
        let mesh = self.authority().mesh_key();
        let audit = verify_audit(&self.authority_dir(), &mesh).expect("it holds");
        audit.entries.last().expect("an entry").act.clone()
    }
}

fn serve(stream: UnixStream, status: &Value, claims: &Mutex<Claims>) {
    let mut writer = stream.try_clone().expect("a socket");
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let asked: Value = serde_json::from_str(&line).expect("JSON");
        let order = text(&asked["type"]).to_owned();
        let mut claims = claims.lock().expect("claims");
        let answer = match &*order {
            "status" => status.clone(),
            "pending" => json!({"type": "pending", "joins": claims.joins}),
            "agents" => json!({"type": "agents", "agents": claims.agents, "next": null}),
            _ => json!({"type": "done"}),
        };
        claims.orders.push(order);
        drop(claims);
        // The command may have gone.
        let _ = writeln!(writer, "{}", json!({"ok": answer}));
    }
}

fn usage(ran: &Ran) -> (&str, String) {
    (
        ran.error_code(),
        text(&ran.last()["error"]["message"]).to_owned(),
    )
}

#[test]
fn nobody_else_is_let_in_under_the_request_that_was_shown() {
    let liar = Liar::start();
    liar.claim_join(&bob(), "bob");
    let listed = liar.admin(&["pending"]);
    assert_eq!(listed.last()["name"], "bob");
    liar.claim_join(&mallory(), "bob");
    let ran = liar.admin(&["approve", "r1"]);
    assert_eq!(ran.error_code(), "bad_request", "{ran:?}");
    assert!(text(&ran.last()["error"]["hint"]).contains("waymesh pending again"));
    let prints = fingerprint(mallory().agent_id().as_bytes());
    let ran = liar.admin(&["approve", "r1", "--fingerprint", &prints]);
    assert_eq!(ran.error_code(), "bad_request", "{ran:?}");
    // Another name for the same key is another request too.
    liar.claim_join(&bob(), "boss");
    let ran = liar.admin(&["approve", "r1"]);
    assert_eq!(ran.error_code(), "bad_request", "{ran:?}");
    assert!(!liar.ordered("approve"));
    assert!(matches!(liar.last_act(), Act::Begin { .. }));

    let listed = liar.admin(&["pending"]);
    assert_eq!(listed.last()["name"], "boss");
    let ran = liar.admin(&["approve", "r1"]);
    assert_eq!(ran.done()["name"], "boss");
    assert!(liar.ordered("approve"));
}

#[test]
fn who_was_not_shown_is_let_in_by_the_fingerprint_that_the_node_shows() {
    let liar = Liar::start();
    liar.claim_join(&bob(), "bob");
    let ran = liar.admin(&["approve", "r1"]);
    let (code, message) = usage(&ran);
    assert_eq!(code, "usage");
    let prints = fingerprint(bob().agent_id().as_bytes());
    for told in ["bob", &prints, &bob().agent_id().to_string()] {
        assert!(message.contains(told), "{told}: {message}");
    }
    let hint = text(&ran.last()["error"]["hint"]);
    assert!(hint.contains("--fingerprint"), "{hint}");
    assert!(!liar.ordered("approve"));

    liar.claim_join(&mallory(), "bob");
    let ran = liar.admin(&["approve", "r1", "--fingerprint", &prints]);
    assert_eq!(ran.error_code(), "identity_changed");
    liar.claim_join(&bob(), "bob");
    let ran = liar.admin(&["approve", "r1", "--fingerprint", &prints]);
    assert_eq!(ran.done()["agent_id"], bob().agent_id().to_string());
}

#[test]
fn a_name_is_revoked_by_what_the_authority_knows_of_it() {
    let liar = Liar::start();
    let of_bob = liar.approve(&bob(), "bob");
    let of_mallory = liar.approve(&mallory(), "mallory");
    // The registry would have bob stay, and then mallory, whose name is said to be bob's.
    liar.claim_agent("mallory", &bob(), &of_bob);
    let ran = liar.admin(&["revoke", "mallory"]);
    assert_eq!(ran.done()["agent_id"], mallory().agent_id().to_string());
    assert!(matches!(
        liar.last_act(),
        Act::RevokeMember { agent_id, .. } if agent_id == mallory().agent_id()
    ));
    liar.claim_agent("bob", &mallory(), &of_mallory);
    let ran = liar.admin(&["revoke", "bob"]);
    assert_eq!(ran.done()["agent_id"], bob().agent_id().to_string());
    // Nothing but the registry's word speaks for it.
    liar.claim_agent("carol", &bob(), &of_bob);
    let ran = liar.admin(&["revoke", "carol"]);
    assert_eq!(ran.error_code(), "unknown_peer");
}

#[test]
fn who_is_known_by_a_certificate_alone_is_revoked_by_it() {
    let liar = Liar::start();
    let of_bob = liar.approve(&bob(), "bob");
    for file in ["audit.log", "audit.head"] {
        let path = liar.authority_dir().join(file);
        std::fs::remove_file(path).expect("a removal");
    }
    // Its identity is what the certificate says, whatever the record says.
    liar.claim_agent("bob", &mallory(), &of_bob);
    let ran = liar.admin(&["revoke", "bob"]);
    assert_eq!(ran.done()["agent_id"], bob().agent_id().to_string());
}

#[test]
fn of_two_with_one_name_neither_is_revoked_by_it() {
    let liar = Liar::start();
    for who in [bob(), mallory()] {
        liar.approve(&who, "bob");
    }
    let ran = liar.admin(&["revoke", "bob"]);
    let (code, message) = usage(&ran);
    assert_eq!(code, "usage");
    for who in [bob(), mallory()] {
        assert!(message.contains(&who.agent_id().to_string()), "{message}");
    }
    let id = mallory().agent_id().to_string();
    liar.admin(&["revoke", "--agent-id", &id]).done();
    let ran = liar.admin(&["revoke", "bob"]);
    assert_eq!(ran.done()["agent_id"], bob().agent_id().to_string());
}

#[test]
fn a_line_that_the_mesh_key_has_not_signed_is_shown_as_such() {
    let liar = Liar::start();
    let dir = liar.authority_dir();
    let head = std::fs::read(dir.join("audit.head")).expect("a head");
    liar.approve(&bob(), "bob");
    std::fs::write(dir.join("audit.head"), head).expect("a write");
    let audit = liar.admin(&["audit"]);
    let acts: Vec<_> = audit
        .lines
        .iter()
        .map(|line| (text(&line["act"]), line["signed"] == true))
        .collect();
    assert_eq!(acts, [("begin", true), ("approve", false)]);
    drop(liar.authority());
    let audit = liar.admin(&["audit"]);
    let last = audit.last();
    assert_eq!(
        (&last["act"], &last["signed"]),
        (&json!("dropped"), &json!(true))
    );
}
