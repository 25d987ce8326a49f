//! The sockets on loopback: a STUN server with two addresses, one with one, a silent one.

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;
use crate::probe::behaviour::{Behaviour, Filtering, Mapping, Nat};
use crate::probe::mtu::{MTUS, Sizes};
use crate::turn::message::{Class, Message, Writer, kind};

/// A server on two addresses and two ports, as RFC 5780 wants one.
struct Server {
    first: SocketAddr,
    _tasks: JoinSet<()>,
}

async fn bound(ip: [u8; 4], port: u16) -> Option<UdpSocket> {
    UdpSocket::bind(SocketAddr::from((ip, port))).await.ok()
}

impl Server {
    /// Of four sockets, first those of the first address.
    async fn start() -> Self {
        let (one, two) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        for _ in 0..100 {
            let first = bound(one, 0).await.expect("a socket");
            let other = bound(two, 0).await.expect("a socket");
            let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
            let (p, q) = (port(&first), port(&other));
            if let (true, Some(first_q), Some(other_p)) =
                (p != q, bound(one, q).await, bound(two, p).await)
            {
                return Self::serve([first, first_q, other_p, other]);
            }
        }
        panic!("no four free ports");
    }

    fn serve(sockets: [UdpSocket; 4]) -> Self {
        let sockets = std::sync::Arc::new(sockets);
        let address = |at: usize| sockets[at].local_addr().expect("an address");
        let (first, other) = (address(0), address(3));
        let mut tasks = JoinSet::new();
        for at in 0..4 {
            let sockets = std::sync::Arc::clone(&sockets);
            tasks.spawn(async move {
                let mut buffer = [0; 2_048];
                while let Ok((length, from)) = sockets[at].recv_from(&mut buffer).await {
                    let Ok(request) = Message::parse(&buffer[..length]) else {
                        continue;
                    };
                    assert_eq!(request.class(), Class::Request);
                    // Bit 1 changes the port, bit 2 the address, as the order of the sockets does.
                    let change = request.number(kind::CHANGE_REQUEST).unwrap_or(0) as usize;
                    let answering = at ^ (change >> 1);
                    let mut answer = Writer::success(&request);
                    answer
                        .put_xor_address(kind::XOR_MAPPED_ADDRESS, from)
                        .put_address(kind::OTHER_ADDRESS, other);
                    let sent = sockets[answering].send_to(&answer.finish(), from).await;
                    sent.expect("loopback takes it");
                }
            });
        }
        Self {
            first,
            _tasks: tasks,
        }
    }
}

async fn examined(server: SocketAddr) -> Nat {
    let lanes = Lanes::open(server).expect("sockets");
    let own = vec![IpAddr::from([127, 0, 0, 1])];
    let port = lanes.port().expect("a port");
    let mut behaviour = Behaviour::new(server, None, own, port);
    lanes.examine(&mut behaviour).await;
    behaviour.nat()
}

#[tokio::test]
async fn on_loopback_there_is_no_nat_and_everybody_is_let_in() {
    let server = Server::start().await;
    let nat = examined(server.first).await;
    assert_eq!(nat.mapping, Some(Mapping::None));
    assert_eq!(nat.filtering, Some(Filtering::EndpointIndependent));
    assert!(nat.has_other);
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time_and_tells_nothing() {
    let silent = bound([127, 0, 0, 1], 0).await.expect("a socket");
    let begun = Instant::now();
    let nat = examined(silent.local_addr().expect("an address")).await;
    assert_eq!(nat, Nat::default());
    assert!(begun.elapsed() >= QUESTION_LIMIT);
}

#[tokio::test]
async fn every_size_passes_on_loopback() {
    let server = Server::start().await;
    let mut sizes = Sizes::new(server.first);
    let lanes = Lanes::open(server.first).expect("sockets");
    lanes.examine(&mut sizes).await;
    assert_eq!((sizes.largest(), sizes.bound()), (Some(1_500), None));
}

#[tokio::test]
async fn answers_that_the_system_hands_over_in_one_piece_are_told_apart() {
    let questions = MTUS.len();
    let server = Socket::open((Ipv4Addr::LOCALHOST, 0).into(), KERNEL_BUFFER_BYTES);
    let server = server.expect("a socket");
    let address = server.local_addr().expect("an address");
    let asks = async {
        let mut sizes = Sizes::new(address);
        let lanes = Lanes::open(address).expect("sockets");
        lanes.examine(&mut sizes).await;
        sizes.largest()
    };
    let answers = async {
        let (mut received, mut contents) = (ReceiveBuffer::new(), Vec::new());
        let mut answered = 0;
        while answered < questions {
            server.ready(Wanted::Read).await.expect("a socket");
            if server.receive(&mut received).is_err() {
                continue;
            }
            for heard in received.datagrams() {
                let request = Message::parse(heard.bytes).expect("a request");
                let mut answer = Writer::success(&request);
                answer.put_xor_address(kind::XOR_MAPPED_ADDRESS, heard.source);
                let answer = answer.finish();
                let segment_size = answer.len();
                contents.extend(answer);
                answered += 1;
                if answered == questions {
                    let burst = Burst {
                        source: any(address),
                        destination: heard.source,
                        segment_size,
                        contents: &contents,
                    };
                    server.send_now(&burst).expect("loopback takes it");
                }
            }
        }
    };
    let (largest, ()) = tokio::join!(asks, answers);
    assert_eq!(largest, Some(1_500));
}

#[tokio::test]
async fn what_cannot_be_sent_is_told_at_once() {
    // No loopback interface takes a packet for another host's loopback by IPv4 broadcast.
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
    let begun = Instant::now();
    assert_eq!(examined(nowhere).await, Nat::default());
    assert!(begun.elapsed() < QUESTION_LIMIT);
}
