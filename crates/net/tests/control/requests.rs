//! Single requests to a registry.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use waymesh_net::control::http::{Client, GET_MAX_BYTES};
use waymesh_net::control::{ConnectError, RequestError, TlsTrust};
use waymesh_proto::Code;

use crate::fake::{
    BRIEF, Handler, PATIENCE, Reply, Server, handler, ready, refusal, registry, reply, target,
};

async fn answering(answer: fn() -> Reply) -> Server {
    Server::start(None, Arc::new(move |_, _| ready(answer()))).await
}

async fn get(server: &Server) -> Result<Vec<u8>, RequestError> {
    let mut client = Client::new(server.target());
    client.get("/v1/agents?name=x", &[], PATIENCE).await
}

#[tokio::test]
async fn requests_share_a_connection_and_carry_headers_and_proofs() {
    let echo: Handler = Arc::new(|request, world| {
        Box::pin(async {
            let authorization = request.headers().get("authorization").cloned();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let proved = registry(request, world).await;
            // The fake knows the path only once its proof is right.
            if proved.status() == StatusCode::UNAUTHORIZED {
                return proved;
            }
            let authorization = authorization.expect("a header");
            let authorization = authorization.to_str().expect("text");
            reply(StatusCode::OK, format!("{query} {authorization}"))
        })
    });
    let server = Server::start(None, echo).await;
    let mut client = Client::new(server.target());
    for after in ["a", "b", "c"] {
        let path = format!("/v1/agents?after={after}");
        let headers = [("authorization", "DPoP certificate")];
        let body = client.get(&path, &headers, PATIENCE).await.expect("a body");
        assert_eq!(body, format!("after={after} DPoP certificate").as_bytes());
    }
    assert_eq!(server.world.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_coded_error_keeps_its_code_and_hint() {
    let server = answering(|| refusal(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited)).await;
    let fault = get(&server).await.expect_err("refused").fault();
    assert_eq!(fault.code, Code::RateLimited);
    assert_eq!(fault.hint.as_deref(), Some("do not"));
}

#[tokio::test]
async fn a_page_of_somebody_else_is_no_registry() {
    let server = answering(|| reply(StatusCode::NOT_FOUND, "<html>")).await;
    let error = get(&server).await.expect_err("no registry");
    assert!(
        matches!(&error, RequestError::Unreadable(why) if why.contains("404")),
        "{error}"
    );
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_read_and_one_byte_more_is_not() {
    let server = answering(|| reply(StatusCode::OK, vec![0; GET_MAX_BYTES])).await;
    assert_eq!(get(&server).await.expect("a body").len(), GET_MAX_BYTES);
    let server = answering(|| reply(StatusCode::OK, vec![0; GET_MAX_BYTES + 1])).await;
    let error = get(&server).await.expect_err("too large");
    assert!(matches!(error, RequestError::Unreadable(_)), "{error}");
}

#[tokio::test]
async fn who_does_not_answer_is_given_up_in_time() {
    let server = Server::start(None, handler(|_, _| std::future::pending())).await;
    let mut client = Client::new(server.target());
    let error = client.get("/v1/health", &[], BRIEF).await;
    let error = error.expect_err("no answer");
    assert!(
        matches!(error, RequestError::Connect(ConnectError::Timeout { limit, .. }) if limit == BRIEF),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (closed, mut has_closed) = mpsc::channel(8);
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read_bytes = stream.read(&mut request).await.expect("a request");
            assert!(request[..read_bytes].ends_with(b"\r\n\r\n"));
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.expect("a reader");
            drop(stream);
            closed.send(()).await.expect("an open queue");
        }
    });
    let url = format!("http://{address}");
    let mut client = Client::new(target(&url, &TlsTrust::default(), &[]));
    for _ in 0..3 {
        let body = client.get("/", &[], PATIENCE).await.expect("a body");
        assert_eq!(body, b"ok");
        has_closed.recv().await.expect("an open queue");
    }
}
