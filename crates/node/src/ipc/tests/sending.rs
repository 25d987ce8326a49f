//! Messages and broadcasts: when they are answered and what is told afterwards.

use waymesh_proto::api::{PeerState, PeerStatus, SendState};
use waymesh_proto::ipc::{Follow, Wait};

use super::*;

fn peer(agent: &str, state: PeerState) -> PeerStatus {
    PeerStatus {
        agent: name(agent),
        agent_id: None,
        state,
        path: None,
        transport: None,
        local_candidate: None,
        remote_candidate: None,
        protocol: None,
        rtt_ms: None,
        setup_ms: None,
        reason: "test".into(),
        attempts: None,
    }
}

/// What the node says of a message.
fn state(id: MessageId, state: SendState) -> Event {
    let failed = state.is_final() && state != SendState::Delivered;
    let path = (state == SendState::Stored).then_some(Path::Mailbox);
    let fault = failed.then(|| Fault::new(Code::Expired, "too late"));
    Event::State {
        id,
        state,
        path,
        fault,
    }
}

/// A `send` with more fields, and the node's id of it.
async fn send(raw: &mut Raw, node: &mut NodeSide, more: &str) -> MessageId {
    let line = format!("{{\"type\":\"send\",\"target_peer\":\"bob\",\"message\":null{more}}}\n");
    raw.write(line).await;
    let Command::Send { id, payload, .. } = node.command().await else {
        panic!("not a send");
    };
    assert_eq!(payload, Payload::json(&b"null"[..]));
    id
}

/// What a client is told of a message: the state, whether it is to the request,
/// and whether it is the last.
type Told = (SendState, bool, bool);

/// What a client is told of its only message before an answer that the node gives after it.
async fn told(raw: &mut Raw, node: &mut NodeSide) -> Vec<Told> {
    raw.write(b"{\"type\":\"list_peers\",\"id\":\"l\"}\n").await;
    let Command::ListPeers { id, .. } = node.command().await else {
        panic!("not a list");
    };
    let peers = Vec::new();
    node.tell(Event::Peers { id, peers }).await;
    let mut told = Vec::new();
    loop {
        match raw.next().await {
            Some(ipc::Event::State { id, outcome, last }) => {
                told.push((outcome.state, id.is_some(), last));
            }
            Some(ipc::Event::PeerList { .. }) => return told,
            other => panic!("not a state: {other:?}"),
        }
    }
}

#[tokio::test]
async fn each_wait_is_answered_by_its_state_and_later_failures_are_still_told() {
    use SendState::{Delivered, Expired, Queued, Stored};
    let whole = [Queued, Stored, Delivered];
    let cases: [(&str, &[SendState], &[Told]); 11] = [
        (",\"id\":\"s\"", &whole, &[(Queued, true, true)]),
        (
            ",\"id\":\"s\"",
            &[Queued, Stored, Expired],
            &[(Queued, true, true), (Expired, false, true)],
        ),
        (
            ",\"id\":\"s\",\"states\":true",
            &whole,
            &[
                (Queued, true, true),
                (Stored, false, false),
                (Delivered, false, true),
            ],
        ),
        (
            ",\"id\":\"s\",\"wait\":\"stored\"",
            &whole,
            &[(Queued, true, false), (Stored, true, true)],
        ),
        (
            ",\"id\":\"s\",\"wait\":\"stored\"",
            &[Queued, Delivered],
            &[(Queued, true, false), (Delivered, true, true)],
        ),
        (
            ",\"id\":\"s\",\"wait\":\"stored\"",
            &[Queued, Stored, Expired],
            &[
                (Queued, true, false),
                (Stored, true, true),
                (Expired, false, true),
            ],
        ),
        (
            ",\"id\":\"s\",\"wait\":\"delivered\"",
            // A message that was given back is stored again.
            &[Queued, Stored, Stored, Delivered],
            &[
                (Queued, true, false),
                (Stored, true, false),
                (Delivered, true, true),
            ],
        ),
        (
            ",\"id\":\"s\",\"wait\":\"delivered\"",
            &[Expired],
            &[(Expired, true, true)],
        ),
        ("", &whole, &[]),
        ("", &[Queued, Expired], &[(Expired, false, true)]),
        (
            ",\"states\":true",
            &whole,
            &[
                (Queued, false, false),
                (Stored, false, false),
                (Delivered, false, true),
            ],
        ),
    ];
    let mut world = World::start(Limits::default());
    for (more, states, expected) in cases {
        let (mut raw, mut node) = world.raw().await;
        let id = send(&mut raw, &mut node, more).await;
        for told in states {
            node.tell(state(id, *told)).await;
        }
        assert_eq!(
            told(&mut raw, &mut node).await,
            expected,
            "{more} {states:?}"
        );
    }
}

#[tokio::test]
async fn the_error_of_a_late_failure_is_told_with_the_message() {
    let mut world = World::start(Limits::default());
    let (mut raw, mut node) = world.raw().await;
    let id = send(&mut raw, &mut node, "").await;
    node.tell(state(id, SendState::Queued)).await;
    node.tell(state(id, SendState::Expired)).await;
    let Some(ipc::Event::State { outcome, .. }) = raw.next().await else {
        panic!("the failure is not told");
    };
    let error = outcome.error.map(|error| error.code);
    assert_eq!((outcome.message_id, error), (id, Some(Code::Expired)));
}

#[tokio::test]
async fn a_lossy_message_is_answered_when_queued_and_remembered_no_longer() {
    let mut world = World::start(Limits::default());
    let (mut raw, mut node) = world.raw().await;
    let open_at_once = 16 * waymesh_proto::limits::OUTBOX_MAX_MESSAGES;
    for _ in 0..=open_at_once {
        raw.write(b"{\"type\":\"send\",\"id\":\"t\",\"target_peer\":\"bob\",\"message\":1,\"class\":\"telemetry\",\"wait\":\"delivered\"}\n")
            .await;
        let Command::Send { id, .. } = node.command().await else {
            panic!("not a send");
        };
        node.tell(state(id, SendState::Queued)).await;
        let answer = raw.next().await;
        assert!(matches!(answer, Some(ipc::Event::State { last: true, .. })));
    }
}

fn broadcast(wait: Wait, follow: Follow) -> Verb {
    Verb::Broadcast {
        payload: Payload::json(&b"1"[..]),
        class: Class::Control,
        priority: waymesh_proto::Priority::Normal,
        ttl: Duration::from_secs(1),
        wait,
        follow,
    }
}

/// Answers a broadcast's question for the peers and takes its messages.
async fn spread<const N: usize>(node: &mut NodeSide, peers: Vec<PeerStatus>) -> [MessageId; N] {
    let Command::ListPeers { id, .. } = node.command().await else {
        panic!("not a list");
    };
    node.tell(Event::Peers { id, peers }).await;
    let mut ids = [MessageId::from_bytes([0; 16]); N];
    for slot in &mut ids {
        let Command::Send { id, .. } = node.command().await else {
            panic!("not a send");
        };
        *slot = id;
    }
    ids
}

fn outcomes(answer: Option<ipc::Event>) -> Vec<(String, SendState)> {
    let Some(ipc::Event::Result { payload, .. }) = answer else {
        panic!("no result");
    };
    let outcomes: ipc::Outcomes = serde_json::from_slice(&payload.bytes).expect("outcomes");
    let told = outcomes.peers.into_iter();
    told.map(|o| (o.peer_id.to_string(), o.state)).collect()
}

#[tokio::test]
async fn a_broadcast_goes_to_every_peer_that_is_reached_and_tells_what_became_of_each() {
    let mut world = World::start(Limits::default());
    let (mut tool, mut node) = world.tool().await;
    let script = async {
        let peers = vec![
            peer("bob", PeerState::Linked),
            peer("carol", PeerState::Offline),
            peer("dave", PeerState::Mailbox),
            peer("erin", PeerState::Connecting),
        ];
        let [bob, dave, erin] = spread(&mut node, peers).await;
        node.tell(state(bob, SendState::Delivered)).await;
        node.tell(state(dave, SendState::Stored)).await;
        node.tell(state(dave, SendState::Expired)).await;
        node.tell(state(erin, SendState::Stored)).await;
        node.tell(state(erin, SendState::Delivered)).await;
    };
    let verb = broadcast(Wait::Delivered, Follow::Failures);
    let (answer, ()) = tokio::join!(tool.request(verb), script);
    assert_eq!(
        outcomes(answer.ok()),
        [
            ("bob".into(), SendState::Delivered),
            ("dave".into(), SendState::Expired),
            ("erin".into(), SendState::Delivered)
        ]
    );
}

#[tokio::test]
async fn what_becomes_of_a_broadcast_after_its_answer_is_told_as_of_any_message() {
    for (follow, expected) in [
        (Follow::Failures, &[SendState::Expired][..]),
        (
            Follow::States,
            &[SendState::Delivered, SendState::Expired][..],
        ),
    ] {
        let mut world = World::start(Limits::default());
        let (mut tool, mut node) = world.tool().await;
        let script = async {
            let peers = vec![
                peer("bob", PeerState::Mailbox),
                peer("dave", PeerState::Mailbox),
            ];
            let [bob, dave] = spread(&mut node, peers).await;
            for id in [bob, dave] {
                node.tell(state(id, SendState::Queued)).await;
                node.tell(state(id, SendState::Stored)).await;
            }
            (bob, dave)
        };
        let verb = broadcast(Wait::Stored, follow);
        let (answer, (bob, dave)) = tokio::join!(tool.request(verb), script);
        assert_eq!(
            outcomes(answer.ok()),
            [
                ("bob".into(), SendState::Stored),
                ("dave".into(), SendState::Stored)
            ]
        );
        node.tell(state(bob, SendState::Delivered)).await;
        node.tell(state(dave, SendState::Expired)).await;
        for state in expected {
            let Ok(ipc::Event::State { id, outcome, last }) = soon(tool.event()).await else {
                panic!("not a state");
            };
            assert_eq!((id, outcome.state, last), (None, *state, true));
        }
    }
}
