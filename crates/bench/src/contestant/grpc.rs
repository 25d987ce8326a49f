//! gRPC by tonic: a call for each message, and one stream in both directions.
//!
//! The service is written by hand, so that no protoc is needed: it is what
//! tonic's code generator makes of
//! `service Echo { rpc Unary(Blob) returns (Blob); rpc Bidi(stream Blob) returns (stream Blob); }`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt};
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::client::Grpc as GrpcClient;
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc as GrpcServer, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{answer, check_report, op, payload};
use crate::child::Child;
use crate::error::BenchError;
use crate::role::{Role, announce};
use crate::settings::Settings;

const UNARY_PATH: &str = "/waymesh.bench.Echo/Unary";
const BIDI_PATH: &str = "/waymesh.bench.Echo/Bidi";

/// Calls in flight at a time when messages are sent one way. Measured: more did not
/// make the rate higher.
const UNARY_IN_FLIGHT: usize = 64;

/// Messages that wait between the program and the stream; the program waits when full.
const BIDI_QUEUE_MESSAGES: usize = 256;

/// `message Blob { bytes data = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

impl From<Vec<u8>> for Blob {
    fn from(data: Vec<u8>) -> Self {
        Self { data: data.into() }
    }
}

async fn connect(address: &str) -> Result<Channel, BenchError> {
    Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| BenchError::contestant("gRPC", error))?
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| BenchError::contestant("gRPC", error))
}

/// The measuring side of a call for each message.
pub(crate) struct UnaryNear {
    channel: Channel,
    _far: Child,
}

impl UnaryNear {
    const NAME: &'static str = "gRPC unary";

    pub(crate) async fn open(settings: &Settings) -> Result<Self, BenchError> {
        let (far, address) = Child::start(settings, &Role::Grpc).await?;
        let channel = connect(&address).await?;
        Ok(Self { channel, _far: far })
    }

    async fn call(channel: Channel, blob: Blob) -> Result<Blob, BenchError> {
        let mut grpc = GrpcClient::new(channel);
        grpc.ready()
            .await
            .map_err(|error| BenchError::contestant(Self::NAME, error))?;
        let path = PathAndQuery::from_static(UNARY_PATH);
        let codec = ProstCodec::<Blob, Blob>::default();
        grpc.unary(Request::new(blob), path, codec)
            .await
            .map(Response::into_inner)
            .map_err(|error| BenchError::contestant(Self::NAME, error))
    }

    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        let blob = Blob::from(message.to_vec());
        Self::call(self.channel.clone(), blob).await.map(drop)
    }

    pub(crate) async fn one_way(&mut self, size: u32, count: u32) -> Result<(), BenchError> {
        let blob = Blob::from(payload(op::COUNT, size));
        let mut in_flight = FuturesUnordered::new();
        for _ in 0..count {
            if in_flight.len() == UNARY_IN_FLIGHT {
                in_flight.next().await.transpose()?;
            }
            in_flight.push(Self::call(self.channel.clone(), blob.clone()));
        }
        while in_flight.next().await.transpose()?.is_some() {}
        let report = Self::call(self.channel.clone(), vec![op::REPORT].into()).await?;
        check_report(Self::NAME, &report.data, count)
    }
}

/// The measuring side of a stream in both directions.
pub(crate) struct BidiNear {
    to_far: mpsc::Sender<Blob>,
    from_far: Streaming<Blob>,
    _far: Child,
}

impl BidiNear {
    const NAME: &'static str = "gRPC bidi stream";

    pub(crate) async fn open(settings: &Settings) -> Result<Self, BenchError> {
        let (far, address) = Child::start(settings, &Role::Grpc).await?;
        let mut grpc = GrpcClient::new(connect(&address).await?);
        grpc.ready()
            .await
            .map_err(|error| BenchError::contestant(Self::NAME, error))?;
        let (to_far, queue) = mpsc::channel(BIDI_QUEUE_MESSAGES);
        let outgoing = stream::unfold(queue, |mut queue: mpsc::Receiver<Blob>| async move {
            queue.recv().await.map(|blob| (blob, queue))
        });
        let path = PathAndQuery::from_static(BIDI_PATH);
        let codec = ProstCodec::<Blob, Blob>::default();
        let from_far = grpc
            .streaming(Request::new(outgoing), path, codec)
            .await
            .map_err(|error| BenchError::contestant(Self::NAME, error))?
            .into_inner();
        Ok(Self {
            to_far,
            from_far,
            _far: far,
        })
    }

    async fn send(&self, blob: Blob) -> Result<(), BenchError> {
        self.to_far
            .send(blob)
            .await
            .map_err(|_| BenchError::contestant(Self::NAME, "the stream ended"))
    }

    async fn recv(&mut self) -> Result<Blob, BenchError> {
        match self.from_far.message().await {
            Ok(Some(blob)) => Ok(blob),
            Ok(None) => Err(BenchError::contestant(Self::NAME, "the stream ended")),
            Err(error) => Err(BenchError::contestant(Self::NAME, error)),
        }
    }

    pub(crate) async fn round_trip(&mut self, message: &[u8]) -> Result<(), BenchError> {
        self.send(message.to_vec().into()).await?;
        self.recv().await.map(drop)
    }

    pub(crate) async fn one_way(&mut self, size: u32, count: u32) -> Result<(), BenchError> {
        let blob = Blob::from(payload(op::COUNT, size));
        for _ in 0..count {
            self.send(blob.clone()).await?;
        }
        self.send(vec![op::REPORT].into()).await?;
        let report = self.recv().await?;
        check_report(Self::NAME, &report.data, count)
    }
}

#[derive(Clone, Default)]
struct EchoService {
    counted: Arc<AtomicU64>,
}

impl UnaryService<Blob> for EchoService {
    type Response = Blob;
    type Future = BoxFuture<Response<Blob>, Status>;

    fn call(&mut self, request: Request<Blob>) -> Self::Future {
        let mut counted = self.counted.load(Ordering::Relaxed);
        let reply = answer(&request.get_ref().data, &mut counted).unwrap_or_default();
        self.counted.store(counted, Ordering::Relaxed);
        Box::pin(async move { Ok(Response::new(reply.into())) })
    }
}

impl StreamingService<Blob> for EchoService {
    type Response = Blob;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Blob, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Blob>>) -> Self::Future {
        let mut counted = 0;
        let replies = request.into_inner().filter_map(move |blob| {
            let reply = match blob {
                Ok(blob) => answer(&blob.data, &mut counted).map(|reply| Ok(reply.into())),
                Err(status) => Some(Err(status)),
            };
            std::future::ready(reply)
        });
        Box::pin(async move { Ok(Response::new(Box::pin(replies) as Self::ResponseStream)) })
    }
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = GrpcServer::new(ProstCodec::<Blob, Blob>::default());
            Ok(match request.uri().path() {
                UNARY_PATH => grpc.unary(service, request).await,
                BIDI_PATH => grpc.streaming(service, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// The answering side of both.
pub(crate) async fn serve() -> Result<(), BenchError> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let incoming = TcpIncoming::bind(address)
        .map_err(BenchError::io("the gRPC echo"))?
        .with_nodelay(Some(true));
    announce(
        incoming
            .local_addr()
            .map_err(BenchError::io("the gRPC echo"))?,
    )?;
    Server::builder()
        .serve_with_incoming(EchoService::default(), incoming)
        .await
        .map_err(|error| BenchError::contestant("gRPC", error))
}
