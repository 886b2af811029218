//! What the server says of itself through gRPC reflection, version 1 and 1alpha.
//!
//! It must not use the descriptors that this crate was built with.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming, transport::Channel};
use tonic_reflection::pb::{v1, v1alpha};

/// Every method of a service, as `/package.Service/Method`.
///
/// # Errors
/// What the server answered.
pub(crate) async fn methods(channel: &Channel, service: &str) -> Result<BTreeSet<String>, Status> {
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};

    let asked = MessageRequest::FileContainingSymbol(service.into());
    let MessageResponse::FileDescriptorResponse(files) = ask(channel, asked).await? else {
        return Err(Status::not_found("no descriptor"));
    };
    let files = files.file_descriptor_proto.iter().map(|bytes| FileDescriptorProto::decode(bytes.as_slice()));
    let mut methods = BTreeSet::new();
    for file in files {
        let file = file.map_err(|error| Status::internal(error.to_string()))?;
        for found in
            file.service.iter().filter(|found| format!("{}.{}", file.package(), found.name()) == service)
        {
            methods.extend(found.method.iter().map(|method| format!("/{service}/{}", method.name())));
        }
    }
    Ok(methods)
}

/// The names of all services.
///
/// # Errors
/// What the server answered.
pub(crate) async fn services(channel: &Channel) -> Result<BTreeSet<String>, Status> {
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};

    let MessageResponse::ListServicesResponse(list) =
        ask(channel, MessageRequest::ListServices(String::new())).await?
    else {
        return Err(Status::not_found("no list"));
    };
    Ok(list.service.into_iter().map(|service| service.name).collect())
}

/// The same by the older protocol.
///
/// # Errors
/// What the server answered.
pub(crate) async fn services_by_alpha(channel: &Channel) -> Result<BTreeSet<String>, Status> {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let asked = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        _ => Err(Status::not_found("no list")),
    }
}

/// A conversation that the client leaves open after its first question.
///
/// # Errors
/// What the server answered.
pub(crate) async fn open(channel: &Channel) -> Result<Streaming<v1::ServerReflectionResponse>, Status> {
    let asked = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let questions = tokio_stream::once(request).chain(tokio_stream::pending());
    Ok(client.server_reflection_info(questions).await?.into_inner())
}

async fn ask(
    channel: &Channel,
    asked: v1::server_reflection_request::MessageRequest,
) -> Result<v1::server_reflection_response::MessageResponse, Status> {
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    answer.ok_or_else(|| Status::not_found("no answer"))
}
