//! NetworkService.

use spacepanda_proto::api::v1::{self as wire, network_service_server::NetworkService};
use tonic::{Request, Response, async_trait};

use super::{Answer, Api};
use crate::{
    status::Refusal,
    wire::{IntoWire as _, field, page},
};

#[async_trait]
impl NetworkService for Api {
    async fn connect_peer(
        &self,
        request: Request<wire::ConnectPeerRequest>,
    ) -> Answer<wire::ConnectPeerResponse> {
        let session = self.session(&request).await?;
        let address = field::opaque("ADDRESS_INVALID", "peer_address", request.into_inner().peer_address)?;
        let peer = session.connect_peer(&address).await.map_err(Refusal::from)?;
        let round_trip_ms = peer.round_trip_ms.unwrap_or_default();
        Ok(Response::new(wire::ConnectPeerResponse { peer_id: peer.peer_id, round_trip_ms }))
    }

    async fn disconnect_peer(
        &self,
        request: Request<wire::DisconnectPeerRequest>,
    ) -> Answer<wire::DisconnectPeerResponse> {
        let session = self.session(&request).await?;
        let peer_id = field::peer("peer_id", request.into_inner().peer_id)?;
        session.disconnect_peer(&peer_id).await.map_err(Refusal::from)?;
        Ok(Response::new(wire::DisconnectPeerResponse {}))
    }

    async fn list_peers(&self, request: Request<wire::ListPeersRequest>) -> Answer<wire::ListPeersResponse> {
        let session = self.session(&request).await?;
        let asked = request.into_inner();
        let peers = session.peers().await.map_err(Refusal::from)?;
        let (peers, next_page_token) =
            page::cut(peers, asked.page_size, &asked.page_token, |peer| peer.peer_id.clone())?;
        let peers = peers.into_iter().map(|peer| peer.into_wire()).collect();
        Ok(Response::new(wire::ListPeersResponse { peers, next_page_token }))
    }

    async fn get_network_status(
        &self,
        request: Request<wire::GetNetworkStatusRequest>,
    ) -> Answer<wire::NetworkStatus> {
        let session = self.session(&request).await?;
        let status = session.network_status().await.map_err(Refusal::from)?;
        Ok(Response::new(status.into_wire()))
    }
}
