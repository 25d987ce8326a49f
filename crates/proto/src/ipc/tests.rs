//! Round trips, chunked reading and hostile bytes, in both directions.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::api::{Detail, PeerState, PeerStatus, SendState, SkillSpec, Via};
use crate::class::Class;
use crate::envelope::{Payload, Priority};
use crate::error::Executed;
use crate::ids::{AgentId, Incarnation, MeshId, MessageId, Name, SkillName};
use crate::limits::{IPC_BYTES_MAX, IPC_LINE_MAX_BYTES};
use crate::link::Path;

fn decode_all<T: Incoming>(bytes: &[u8], step: usize) -> Vec<Result<T, Rejected>> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for part in bytes.chunks(step.max(1)) {
        decoder.room().extend_from_slice(part);
        loop {
            match decoder.poll() {
                Ok(None) => break,
                Ok(Some(item)) => seen.push(Ok(item)),
                Err(rejected) => seen.push(Err(rejected)),
            }
        }
    }
    seen
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9-]{1,63}".prop_map(|text| text.parse().expect("a name"))
}

fn skill() -> impl Strategy<Value = SkillName> {
    "[a-z0-9_.-]{1,63}".prop_map(|text| text.parse().expect("a skill"))
}

fn request_id() -> impl Strategy<Value = RequestId> {
    any::<String>().prop_filter_map("too long", |text| text.parse().ok())
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::json(&b"null"[..])),
        Just(Payload::json(&b"{\"a\":\n[1,2]}"[..])),
        any::<String>().prop_map(|text| Payload::json(serde_json::to_vec(&text).expect("text"))),
        (0_usize..40_000).prop_map(|n| Payload::json(vec![b'7'; n + 1])),
        any::<Vec<u8>>().prop_map(|bytes| Payload::bytes("application/x-y", bytes)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    (any::<String>(), any::<Option<String>>(), any::<bool>()).prop_map(
        |(message, hint, unknown)| Fault {
            code: Code::HandlerFailed,
            message,
            hint,
            executed: unknown.then_some(Executed::Unknown),
        },
    )
}

fn time() -> impl Strategy<Value = Duration> {
    (1_u64..=TTL_MAX_MS).prop_map(Duration::from_millis)
}

fn via() -> impl Strategy<Value = Via> {
    prop_oneof![Just(Via::InUse), Just(Via::Link), Just(Via::Mailbox)]
}

fn class() -> impl Strategy<Value = Class> {
    proptest::sample::select(&Class::ALL[..])
}

fn verb() -> impl Strategy<Value = Verb> {
    let wait = || proptest::sample::select(&[Wait::Queued, Wait::Stored, Wait::Delivered][..]);
    let follow = || proptest::sample::select(&[Follow::Failures, Follow::States][..]);
    let priority = || proptest::sample::select(&[Priority::Normal, Priority::Critical][..]);
    prop_oneof![
        (
            name(),
            payload(),
            class(),
            priority(),
            time(),
            wait(),
            follow()
        )
            .prop_map(
                |(to, payload, class, priority, ttl, wait, follow)| Verb::Send {
                    to,
                    payload,
                    class,
                    priority,
                    ttl,
                    wait,
                    follow
                }
            ),
        (payload(), class(), priority(), time(), wait(), follow()).prop_map(
            |(payload, class, priority, ttl, wait, follow)| Verb::Broadcast {
                payload,
                class,
                priority,
                ttl,
                wait,
                follow
            }
        ),
        (
            name(),
            skill(),
            payload(),
            time(),
            any::<bool>(),
            priority()
        )
            .prop_map(
                |(to, skill, payload, timeout, idempotent, priority)| Verb::Call {
                    to,
                    skill,
                    payload,
                    timeout,
                    idempotent,
                    priority
                }
            ),
        any::<bool>().prop_map(|with| Verb::ListPeers {
            attempts: if with { Detail::Attempts } else { Detail::Now },
        }),
        Just(Verb::Info),
        time().prop_map(|timeout| Verb::Network { timeout }),
        (name(), time()).prop_map(|(to, timeout)| Verb::Connect { to, timeout }),
        (name(), time(), via()).prop_map(|(to, timeout, via)| Verb::Ping { to, timeout, via }),
        request_id().prop_map(|call| Verb::Cancel { call }),
        any::<u64>().prop_map(|delivery| Verb::Ack { delivery }),
        proptest::sample::select(&[Attach::Own, Attach::Observe][..]).prop_map(Verb::Attach),
        (any::<u64>(), payload()).prop_map(|(call_id, payload)| Verb::Reply {
            call_id,
            outcome: Ok(payload)
        }),
        (any::<u64>(), fault()).prop_map(|(call_id, fault)| Verb::Reply {
            call_id,
            outcome: Err(fault)
        }),
        (proptest::option::of(name()), proptest::option::of(skill()))
            .prop_map(|(name, skill)| Verb::FindAgents { name, skill }),
        skill().prop_map(|skill| Verb::UnregisterSkill { skill }),
        (skill(), any::<bool>()).prop_map(|(name, idempotent)| Verb::RegisterSkill(SkillSpec {
            name,
            description: Some("adds".into()),
            schema: Some(serde_json::json!({"type": "object"})),
            idempotent,
        })),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    (proptest::option::of(request_id()), verb()).prop_map(|(id, verb)| Request { id, verb })
}

fn peer() -> impl Strategy<Value = PeerStatus> {
    (name(), any::<String>()).prop_map(|(agent, reason)| PeerStatus {
        agent,
        agent_id: Some(AgentId::from_bytes([7; 32])),
        state: PeerState::Linked,
        path: Some(Path::Direct),
        transport: None,
        local_candidate: None,
        remote_candidate: None,
        protocol: None,
        rtt_ms: Some(0.5),
        setup_ms: None,
        reason,
        attempts: None,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let id = || proptest::option::of(request_id());
    let agent_id = AgentId::from_bytes([9; 32]);
    let message_id = || any::<[u8; 16]>().prop_map(MessageId::from_bytes);
    prop_oneof![
        (name(), any::<Option<u64>>()).prop_map(move |(agent, expires_ms)| Event::Hello(Hello {
            protocol: PROTOCOL,
            agent,
            agent_id,
            incarnation: Incarnation::new(3),
            registry: Some("http://localhost".into()),
            mesh: expires_ms.map(|_| MeshId::from_bytes([5; 16])),
            certificate_expires_ms: expires_ms,
            version: "0.1.0".into(),
        })),
        time().prop_map(|remaining| Event::CertificateExpiring { remaining }),
        request_id().prop_map(|id| Event::Ok { id }),
        (id(), fault()).prop_map(|(id, fault)| Event::Error { id, fault }),
        (id(), payload()).prop_map(|(id, payload)| Event::Result {
            id,
            payload,
            route: None
        }),
        (id(), payload()).prop_map(|(id, payload)| Event::Result {
            id,
            payload,
            route: Some(Route {
                message_id: Some(MessageId::from_bytes([7; 16])),
                path: Some(Path::Direct),
                request_path: None,
                elapsed: Duration::from_millis(3),
            }),
        }),
        (
            id(),
            name(),
            message_id(),
            any::<bool>(),
            proptest::option::of(fault())
        )
            .prop_map(|(id, peer_id, message_id, last, error)| Event::State {
                id,
                outcome: Outcome {
                    peer_id,
                    message_id,
                    state: SendState::Refused,
                    path: Some(Path::Relay),
                    error,
                },
                last,
            }),
        (
            any::<Option<u64>>(),
            message_id(),
            name(),
            class(),
            any::<bool>(),
            payload()
        )
            .prop_map(
                move |(delivery, message_id, from, class, redelivered, payload)| Event::Message {
                    delivery,
                    message_id,
                    from,
                    agent_id,
                    class,
                    redelivered,
                    path: Path::Direct,
                    payload,
                }
            ),
        (
            any::<u64>(),
            message_id(),
            name(),
            skill(),
            time(),
            payload()
        )
            .prop_map(
                move |(call_id, message_id, from, skill, remaining, payload)| Event::Call {
                    call_id,
                    message_id,
                    from,
                    agent_id,
                    skill,
                    remaining,
                    redelivered: false,
                    payload,
                }
            ),
        (any::<u64>(), fault())
            .prop_map(|(call_id, fault)| Event::CallCancelled { call_id, fault }),
        peer().prop_map(|peer| Event::Peer {
            change: PeerChange::PathChanged,
            peer
        }),
        (id(), proptest::collection::vec(peer(), 0..200))
            .prop_map(|(id, peers)| Event::PeerList { id, peers }),
        (name(), class(), any::<u64>()).prop_map(|(from, class, missing)| Event::Gap {
            from,
            class,
            missing
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn requests_read_back_as_written_whatever_the_chunks(
        requests in proptest::collection::vec(request(), 1..5),
        step in 1_usize..70_000,
    ) {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| request.encode(&mut bytes));
        let seen: Result<Vec<Request>, _> = decode_all(&bytes, step).into_iter().collect();
        prop_assert_eq!(seen, Ok(requests));
    }

    #[test]
    fn events_read_back_as_written_whatever_the_chunks(
        events in proptest::collection::vec(event(), 1..5),
        step in 1_usize..70_000,
    ) {
        let mut bytes = Vec::new();
        events.iter().for_each(|event| event.encode(&mut bytes));
        let seen: Result<Vec<Event>, _> = decode_all(&bytes, step).into_iter().collect();
        prop_assert_eq!(seen, Ok(events));
    }

    #[test]
    fn no_bytes_panic_and_chunks_make_no_difference(bytes: Vec<u8>, step in 1_usize..9) {
        prop_assert_eq!(
            decode_all::<Request>(&bytes, step),
            decode_all::<Request>(&bytes, usize::MAX)
        );
        decode_all::<Event>(&bytes, step);
    }

    #[test]
    fn no_line_of_known_words_panics(
        words in proptest::collection::vec(proptest::sample::select(&[
            "{", "}", "\"type\"", ":", ",", "\"send\"", "\"bytes\"", "3", "-1", "null", "\n", "[",
            "\"message\"", "\"target_peer\"", "\"a\"", "\"id\"", "\"call\"", "\"state\"", "\\u0062",
        ][..]), 0..24),
    ) {
        decode_all::<Request>(words.concat().as_bytes(), 7);
        decode_all::<Event>(words.concat().as_bytes(), 7);
    }
}

const GOOD: &str = "{\"type\":\"info\",\"id\":\"after\"}\n";

/// What comes of a stream of these bytes and a good request behind them.
fn refused(bytes: &[u8]) -> Rejected {
    let seen = decode_all::<Request>(&[bytes, GOOD.as_bytes()].concat(), 1_000);
    let first = seen[0].clone().expect_err("refused");
    let rest = &seen[1..];
    assert_eq!(rest.len(), usize::from(!first.fatal), "{rest:?}");
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    first
}

#[test]
fn a_wrong_field_costs_neither_the_connection_nor_the_bytes_behind_it() {
    let wrong =
        refused(b"{\"type\":\"send\",\"id\":\"x\",\"target_peer\":5,\"bytes\":6}\n{\"a\n1}");
    assert_eq!(wrong.fault.code, Code::BadRequest);
    assert_eq!(wrong.id, "x".parse().ok());
    assert!(!wrong.fatal);
}

#[test]
fn a_broken_line_that_may_announce_bytes_ends_the_stream() {
    assert!(!refused(b"{\"type\":\"send\"\n").fatal);
    assert!(!refused(b"hello\n").fatal);
    assert!(refused(b"{\"type\":\"send\",\"bytes\":6\n").fatal);
    assert!(refused(b"{\"type\":\"send\",\"\\u0062ytes\":6\n").fatal);
    assert!(refused(b"{\"type\":\"send\",\"bytes\":-6}\n").fatal);
    assert!(refused(b"{\"type\":\"send\",\"bytes\":1,\"bytes\":2}\n").fatal);
}

#[test]
fn a_line_of_64_kib_passes_and_one_byte_more_ends_the_stream() {
    let line = |length: usize| {
        let frame = "{\"type\":\"info\",\"pad\":\"\"}".len();
        format!(
            "{{\"type\":\"info\",\"pad\":\"{}\"}}\n",
            "x".repeat(length - frame)
        )
    };
    let at_limit = decode_all::<Request>(line(IPC_LINE_MAX_BYTES).as_bytes(), 4_096);
    assert!(at_limit[0].is_ok());
    let over = refused(line(IPC_LINE_MAX_BYTES + 1).as_bytes());
    assert_eq!(over.fault.code, Code::LineTooLong);
    assert!(over.fatal);
}

#[test]
fn a_payload_of_1_mib_passes_and_one_byte_more_is_skipped() {
    let of = |size: usize| {
        let head = format!(
            "{{\"type\":\"send\",\"id\":\"b\",\"target_peer\":\"a\",\"content_type\":\"a/b\",\"bytes\":{size}}}\n"
        );
        [head.into_bytes(), vec![b'\n'; size]].concat()
    };
    assert!(decode_all::<Request>(&of(IPC_BYTES_MAX), 10_000)[0].is_ok());
    let over = refused(&of(IPC_BYTES_MAX + 1));
    assert_eq!(over.fault.code, Code::MessageTooLarge);
    assert!(!over.fatal);
    assert!(refused(b"{\"type\":\"info\",\"bytes\":99999999999}\n").fatal);
}
