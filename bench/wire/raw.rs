//! gRPC without the messages: requests and replies are bytes on both sides. The client has the same
//! transport settings as the tool's own, so that a comparison is not one of window sizes.

use base64::Engine;
use bytes::{Buf, BufMut, Bytes};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// HTTP/2 receive windows, as the tool has them and large enough for any page.
pub const STREAM_WINDOW: u32 = 16 << 20;
pub const CONNECTION_WINDOW: u32 = 64 << 20;

const SERVICE: &str = "/milvus.proto.milvus.MilvusService/";

pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// What answers calls.
pub trait Answers: Send + Sync + 'static {
    fn answer(
        &self,
        rpc: &str,
        metadata: MetadataMap,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, Status>> + Send;
}

/// A tonic service for every RPC of Milvus.
pub struct Raw<A>(pub Arc<A>);

impl<A> Clone for Raw<A> {
    fn clone(&self) -> Self {
        Raw(self.0.clone())
    }
}

impl<A: Answers> Service<http::Request<tonic::body::Body>> for Raw<A> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let rpc = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
        let method = Method { answers: self.0.clone(), rpc };
        let grpc = tonic::server::Grpc::new(RawCodec);
        let mut grpc = grpc.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        Box::pin(async move { Ok(grpc.unary(method, request).await) })
    }
}

struct Method<A> {
    answers: Arc<A>,
    rpc: String,
}

impl<A: Answers> tonic::server::UnaryService<Bytes> for Method<A> {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (answers, rpc) = (self.answers.clone(), self.rpc.clone());
        Box::pin(async move {
            let (metadata, _, bytes) = request.into_parts();
            answers.answer(&rpc, metadata, bytes).await.map(Response::new)
        })
    }
}

/// A connection to a server.
#[derive(Clone)]
pub struct Client(Channel);

impl Client {
    pub fn new(uri: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let builder = Channel::from_shared(uri.to_string())?
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true);
        Ok(Client(builder.connect_lazy()))
    }

    pub async fn call(&self, rpc: &str, metadata: MetadataMap, request: Bytes) -> Result<Bytes, Status> {
        let path = format!("{SERVICE}{rpc}").parse().map_err(|_| Status::internal("not a path"))?;
        let mut message = Request::new(request);
        for name in ["authorization", "dbname"] {
            if let Some(value) = metadata.get(name) {
                message.metadata_mut().insert(name, value.clone());
            }
        }
        let mut grpc = tonic::client::Grpc::new(self.0.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|e| Status::from_error(Box::new(e)))?;
        Ok(grpc.unary(message, path, RawCodec).await?.into_inner())
    }
}

/// Credentials from `BENCH_TOKEN` and the default database, as the tool sends them.
pub fn credentials() -> Result<MetadataMap, Box<dyn Error + Send + Sync>> {
    let mut metadata = MetadataMap::new();
    metadata.insert("dbname", "default".parse()?);
    if let Ok(token) = std::env::var("BENCH_TOKEN") {
        let encoded = base64::engine::general_purpose::STANDARD.encode(token);
        metadata.insert("authorization", encoded.parse()?);
    }
    Ok(metadata)
}
