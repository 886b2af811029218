//! AuthService. Never logs or echoes a password, token or phrase.

use spacepanda_core::home::NewProfile;
use spacepanda_proto::api::v1::{self as wire, auth_service_server::AuthService};
use tonic::{Request, Response, async_trait};

use super::{Answer, Api, bearer};
use crate::{
    status::Refusal,
    wire::{FromWire as _, IntoWire as _, auth::Unlock},
};

#[async_trait]
impl AuthService for Api {
    async fn create_profile(&self, request: Request<wire::CreateProfileRequest>) -> Answer<wire::Session> {
        self.admit()?;
        let from = request.remote_addr().map(|address| address.ip());
        let profile = NewProfile {
            registration_open: self.registration_open,
            ..NewProfile::from_wire(request.into_inner())?
        };
        let login = self.home.create_profile(profile, from).await.map_err(Refusal::from)?;
        Ok(Response::new(login.into_wire()))
    }

    async fn unlock(&self, request: Request<wire::UnlockRequest>) -> Answer<wire::Session> {
        self.admit()?;
        let from = request.remote_addr().map(|address| address.ip());
        let unlock = Unlock::from_wire(request.into_inner())?;
        let login = self
            .home
            .unlock(&unlock.username, unlock.password, &unlock.device_name, from)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(login.into_wire()))
    }

    async fn lock(&self, request: Request<wire::LockRequest>) -> Answer<wire::LockResponse> {
        self.admit()?;
        let token = bearer(request.metadata())?;
        self.home.lock(token, request.get_ref().everywhere).await.map_err(Refusal::from)?;
        self.streams.check_tokens();
        Ok(Response::new(wire::LockResponse {}))
    }
}
