//! Frames of states that are not known here: kept for a while, for the commit that explains them.

use std::sync::Arc;

use spacepanda_proto::peer::v1::FrameOutcome;

use crate::{
    certificate::Certificate,
    clock::now_ms,
    group::frame::Frame,
    network::{Network, health},
    store::{
        StoreError,
        frame::{self, NewFrame},
        mls::{self, TaggedState},
        peer,
    },
};

/// Bytes that one peer may have parked here.
const MAX_PARKED_BYTES: u64 = 8 << 20;

impl Network {
    /// Sets a frame of an unknown state aside: a commit on the way may make it readable. Gives the state
    /// if that commit has just come.
    pub(super) async fn park(
        self: &Arc<Self>,
        certificate: &Certificate,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<TaggedState, FrameOutcome> {
        let (id, tag, bytes) = (frame.id(), frame.env_tag(), bytes.to_vec());
        let (carrier, certificate) = (certificate.peer_id.clone(), certificate.clone());
        let parked: Result<Result<TaggedState, FrameOutcome>, StoreError> = self
            .vault
            .write(move |tx| {
                Box::pin(async move {
                    if let Some(state) = mls::state_by_tag(tx.conn(), &tag).await? {
                        return Ok(Ok(state));
                    }
                    if frame::parked_bytes(tx.conn(), &carrier).await? + bytes.len() as u64 > MAX_PARKED_BYTES
                    {
                        return Ok(Err(FrameOutcome::Busy));
                    }
                    let parked = NewFrame {
                        id,
                        gid: None,
                        env_tag: &tag,
                        bytes: Some(&bytes),
                        status: frame::FrameStatus::Parked,
                        carrier: Some(&carrier),
                        place: None,
                    };
                    if !frame::insert(tx.conn(), &parked, now_ms()).await? {
                        return Ok(Err(FrameOutcome::Duplicate));
                    }
                    // Which group it is of cannot be told; with one group shared there is no doubt.
                    if let [gid] = *peer::shared_groups(tx.conn(), &certificate).await? {
                        health::resync(tx, gid).await?;
                    }
                    Ok(Err(FrameOutcome::Stored))
                })
            })
            .await;
        parked.unwrap_or(Err(FrameOutcome::Busy))
    }
}
