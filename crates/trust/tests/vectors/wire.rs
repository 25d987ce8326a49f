//! Signals and the login: `spec/vectors/{signaling,control}.json`.

use crate::mesh::{NOW_MS, alice, bob, certificate, check, keys, mesh_key, registry, sealing};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waymesh_proto::control::{
    ClientMessage, InstanceId, Login, Nonce, Origin, RegistryKey, ServerMessage, Signature,
};
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::signaling::{Signal, SignalBody, SignedSignal};
use waymesh_proto::{AgentId, Code, Fault, Incarnation, SessionId};
use waymesh_trust::certificate::Cache;
use waymesh_trust::login::{Gate, Pin, Who, answer, statement};
use waymesh_trust::signal::{offer_hash, sign, verify};
use waymesh_trust::{Keypair, mesh_id};

fn signal_vector(name: &str, from: &Keypair, to: &Keypair, seq: u64, signal: Signal) -> Value {
    let body = SignalBody {
        mesh: mesh_id(&mesh_key()),
        from: from.agent_id(),
        from_incarnation: Incarnation::new(5),
        to: to.agent_id(),
        to_incarnation: Incarnation::new(6),
        session: SessionId::from_bytes([0x22; 16]),
        seq,
        issued_ms: NOW_MS,
        signal,
    };
    let who = if from.agent_id() == alice().agent_id() {
        "alice"
    } else {
        "bob"
    };
    let signed = sign(from, &certificate(who, from), &body);
    let mut cache = Cache::default();
    let back = verify(&signed, &to.agent_id(), &mesh_key(), NOW_MS, &mut cache);
    assert_eq!(back.map(|(body, _)| body), Ok(body));
    json!({"name": name, "now_unix_ms": NOW_MS, "to": to.agent_id(), "signal": signed})
}

/// A signal that must be refused, and the code of the refusal.
fn bad_signal(name: &str, good: &Value, code: Code, change: impl FnOnce(&mut Value)) -> Value {
    let mut bad = good.clone();
    change(&mut bad);
    bad["name"] = name.into();
    bad["code"] = code.name().into();
    let signed: SignedSignal = serde_json::from_value(bad["signal"].clone()).expect("a signal");
    let to: AgentId = serde_json::from_value(bad["to"].clone()).expect("an id");
    let now = bad["now_unix_ms"].as_u64().expect("a time");
    let outcome = verify(&signed, &to, &mesh_key(), now, &mut Cache::default());
    assert_eq!(
        outcome.map(|_| ()).map_err(|e| e.code()),
        Err(code),
        "{name}"
    );
    bad
}

#[test]
fn signals_have_the_bytes_and_signatures_of_the_file() {
    let (alice, bob) = (alice(), bob());
    let sdp = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\n";
    let offer = Signal::Offer { sdp: sdp.into() };
    let answer = Signal::Answer {
        sdp: sdp.into(),
        offer_hash: offer_hash(sdp),
    };
    let candidate = Signal::Candidate {
        candidate: "candidate:1 1 udp 2130706431 127.0.0.1 4433 typ host".into(),
    };
    let reject = Signal::Reject {
        error: Fault::new(Code::Unauthorized, "the policy refuses this peer"),
    };
    let good = [
        signal_vector("offer", &alice, &bob, 0, offer),
        signal_vector("answer", &bob, &alice, 0, answer),
        signal_vector("candidate", &alice, &bob, 1, candidate),
        signal_vector("reject", &bob, &alice, 1, reject),
    ];
    let bad = [
        bad_signal("changed body", &good[0], Code::BadSignature, |v| {
            let body = v["signal"]["body"].as_str().expect("text");
            v["signal"]["body"] = body.replace("v=0", "v=1").into();
        }),
        bad_signal(
            "signature of another signal",
            &good[0],
            Code::BadSignature,
            |v| {
                v["signal"]["sig"] = good[2]["signal"]["sig"].clone();
            },
        ),
        bad_signal("for another agent", &good[0], Code::Unauthorized, |v| {
            v["to"] = json!(alice.agent_id());
        }),
        bad_signal("older than the leeway", &good[0], Code::ClockSkew, |v| {
            v["now_unix_ms"] = (NOW_MS + CLOCK_LEEWAY_MS + 1).into();
        }),
        bad_signal(
            "certificate of another",
            &good[0],
            Code::BadCertificate,
            |v| {
                v["signal"]["cert"] = good[1]["signal"]["cert"].clone();
            },
        ),
        bad_signal("body that is no JSON", &good[0], Code::BadRequest, |v| {
            v["signal"]["body"] = "{".into();
        }),
    ];
    let made = json!({
        "about": "Signed signals, see spec/signaling.md",
        "mesh": mesh_id(&mesh_key()),
        "mesh_key": mesh_key(),
        "keys": keys(),
        "offer_hash": {"sdp": sdp, "hash": offer_hash(sdp)},
        "good": good,
        "bad": bad,
    });
    check("signaling.json", &made);
}

fn message(name: &str, from: &str, text: &str) -> Value {
    json!({"name": name, "from": from, "text": text})
}

fn refused(text: &str, code: Code) -> Value {
    let outcome = ClientMessage::decode(text.as_bytes()).map_err(|e| e.code());
    assert_eq!(outcome, Err(code), "{text}");
    json!({"text": text, "code": code.name()})
}

#[test]
fn a_login_has_the_bytes_and_signatures_of_the_file() {
    let (alice, keypair) = (alice(), registry());
    let origins: [Origin; 1] = ["http://127.0.0.1:4455".parse().expect("an origin")];
    let gate = Gate {
        keypair: &keypair,
        mesh: mesh_key(),
        origins: &origins,
        nonce: Nonce::from_bytes([0x33; 32]),
    };
    let who = Who {
        name: crate::mesh::name("alice"),
        agent_id: alice.agent_id(),
        incarnation: Incarnation::new(5),
        instance: InstanceId::from_bytes([0x55; 16]),
        certificate: certificate("alice", &alice),
        sealing: sealing(1, &alice),
    };
    let challenge = gate.challenge();
    let nonce = Nonce::from_bytes([0x44; 32]);
    let (login, pending) =
        answer(&alice, &who, &origins[0], &challenge, None, nonce).expect("no pin");
    let admission = gate.verify(&login, NOW_MS, &mut Cache::default());
    let welcome = admission.expect("a good login").welcome;
    let pin: Pin = pending.verify(&welcome).expect("a good welcome");
    let key: RegistryKey = pin.registry;
    let signed = |login: &Login| HEXLOWER.encode(&statement(login, &gate.nonce));
    let made = json!({
        "about": "The mutual login and control messages, see spec/control.md",
        "keys": keys(),
        "now_unix_ms": NOW_MS,
        "registry_key": key,
        "statement_hex": signed(&login),
        "login_sig": sig_text(&login.sig),
        "welcome_sig": sig_text(&welcome.sig),
        "messages": [
            message("challenge", "registry", &ServerMessage::Challenge(challenge).encode()),
            message("login", "node", &ClientMessage::Login(login).encode()),
            message("welcome", "registry", &ServerMessage::Welcome(welcome).encode()),
            message("watch_all", "node", &ClientMessage::WatchAll.encode()),
            message("unknown", "registry", &ServerMessage::Unknown { name: who.name }.encode()),
        ],
        "refused": [
            refused("{", Code::BadRequest),
            refused(r#"{"type":"dance"}"#, Code::UnknownVerb),
            refused(r#"{"type":"resolve"}"#, Code::BadRequest),
            refused(r#"{"type":"resolve","name":"NOT A NAME"}"#, Code::BadRequest),
        ],
    });
    check("control.json", &made);
}

fn sig_text(sig: &Signature) -> String {
    sig.to_string()
}
