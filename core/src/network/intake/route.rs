//! Which state a frame is of, by its tag alone.

use std::sync::Arc;

use spacepanda_proto::peer::v1::FrameOutcome;

use super::result;
use crate::{
    certificate::Certificate,
    group::frame::Frame,
    metrics::FrameResult,
    network::Network,
    store::{
        StoreError,
        mls::{self, TaggedState},
        peer,
    },
};

impl Network {
    /// The state that a frame is of, or what becomes of it without one and how that counts.
    pub(super) async fn route(
        self: &Arc<Self>,
        certificate: &Certificate,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<TaggedState, (FrameOutcome, FrameResult)> {
        if let Some(state) = self.last_state().filter(|state| state.env_tag == frame.env_tag()) {
            return Ok(state);
        }
        let found = async {
            let mut reader = self.vault.read().await?;
            let state = mls::state_by_tag(reader.conn(), &frame.env_tag()).await?;
            let shared = match &state {
                None => !peer::shared_groups(reader.conn(), certificate).await?.is_empty(),
                Some(_) => true,
            };
            Ok::<_, StoreError>((state, shared))
        };
        match found.await {
            Ok((Some(state), _)) if state.pruned => {
                // Its sender is far behind: show it the way to the head.
                self.repairs.behind(state.gid, certificate.device, state.epoch);
                Err((FrameOutcome::Foreign, FrameResult::Stale))
            }
            Ok((Some(state), _)) => {
                self.set_last_state(Some(state));
                Ok(state)
            }
            Ok((None, shared)) => {
                self.show_branches(certificate, frame.env_tag());
                if !shared {
                    return Err((FrameOutcome::Foreign, FrameResult::Foreign));
                }
                self.park(certificate, frame, bytes).await.map_err(|outcome| match outcome {
                    FrameOutcome::Stored => (outcome, FrameResult::Future),
                    outcome => (outcome, result(outcome)),
                })
            }
            Err(_) => Err((FrameOutcome::Busy, FrameResult::Busy)),
        }
    }
}
