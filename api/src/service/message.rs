//! MessageService.

use spacepanda_proto::api::v1::{self as wire, message_service_server::MessageService};
use tonic::{Request, Response, async_trait};

use super::{Answer, Api};
use crate::{
    status::Refusal,
    wire::{
        FromWire as _, IntoWire as _, field,
        message::{ListMessages, SendMessage, history},
    },
};

#[async_trait]
impl MessageService for Api {
    async fn send_message(&self, request: Request<wire::SendMessageRequest>) -> Answer<wire::Message> {
        let session = self.session(&request).await?;
        let asked = SendMessage::from_wire(request.into_inner())?;
        let message = session
            .send_message(asked.request, asked.channel, &asked.text, asked.reply_to)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(message.into_wire()))
    }

    async fn list_messages(
        &self,
        request: Request<wire::ListMessagesRequest>,
    ) -> Answer<wire::ListMessagesResponse> {
        let session = self.session(&request).await?;
        let asked = ListMessages::from_wire(request.into_inner())?;
        let found = session.messages(asked.channel, asked.page, asked.limit).await.map_err(Refusal::from)?;
        Ok(Response::new(history(found, asked.page)))
    }

    async fn get_message(&self, request: Request<wire::GetMessageRequest>) -> Answer<wire::Message> {
        let session = self.session(&request).await?;
        let id = field::message("message_id", &request.get_ref().message_id)?;
        let message = session.message(id).await.map_err(Refusal::from)?;
        Ok(Response::new(message.into_wire()))
    }
}
