//! gRPC calls of bytes to any method: what a careless or hostile client can send.
//!
//! It must not know the messages; the stories encode them.

use prost::bytes::{Buf as _, BufMut as _};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// Calls `/service/method` with these bytes as the message; answers the first message's bytes.
///
/// # Errors
/// What the server answered.
pub(crate) async fn call(
    channel: &Channel,
    method: &str,
    body: Vec<u8>,
    authorization: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(body);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().expect("ASCII"));
    }
    let path = PathAndQuery::try_from(method).expect("a path");
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    // A unary method answers a stream of one.
    let mut answers = grpc.server_streaming(request, path, Bytes).await?.into_inner();
    answers.message().await?.ok_or_else(|| Status::cancelled("no answer"))
}

#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
