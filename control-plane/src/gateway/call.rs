//! REST as a client of the gRPC service in the same process: the same handlers, and no socket between.

use axum::Router;
use http::{Extensions, uri::PathAndQuery};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use super::api::Method;

/// Calls a method. The extensions reach the handler: who calls is among them.
pub(super) async fn unary(
    inner: Router,
    method: &'static Method,
    extensions: Extensions,
    message: DynamicMessage,
) -> Result<DynamicMessage, Status> {
    let (mut client, request, path, codec) = prepare(inner, method, extensions, message).await?;
    let response = client.unary(request, path, codec).await?;
    Ok(response.into_inner())
}

/// Calls a method that answers with a stream.
pub(super) async fn streaming(
    inner: Router,
    method: &'static Method,
    extensions: Extensions,
    message: DynamicMessage,
) -> Result<Streaming<DynamicMessage>, Status> {
    let (mut client, request, path, codec) = prepare(inner, method, extensions, message).await?;
    let response = client.server_streaming(request, path, codec).await?;
    Ok(response.into_inner())
}

async fn prepare(
    inner: Router,
    method: &'static Method,
    extensions: Extensions,
    message: DynamicMessage,
) -> Result<(Grpc<Router>, Request<DynamicMessage>, PathAndQuery, Dynamic), Status> {
    // The answer comes from this process; what it may hold is the handler's to decide.
    let mut client = Grpc::new(inner).max_decoding_message_size(usize::MAX);
    client
        .ready()
        .await
        .map_err(|never| -> Status { match never {} })?;
    let request = Request::from_parts(MetadataMap::new(), extensions, message);
    let path = PathAndQuery::from_static(&method.path);
    Ok((client, request, path, Dynamic(method.descriptor.output())))
}

/// Messages that are known by their descriptor alone. Holds the answer's.
#[derive(Clone, Debug)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(buffer)
            .map_err(|error| Status::internal(format!("a request cannot be encoded: {error}")))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer)
            .map(Some)
            .map_err(|error| Status::internal(format!("an answer cannot be decoded: {error}")))
    }
}
