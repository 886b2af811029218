//! A frame of ours is stored by another server: its messages are SENT.

use super::Network;
use crate::{
    clock::now_ms,
    id::FrameId,
    store::{Notice, StoreError, feed, message, outbox},
};

impl Network {
    /// Notes that other servers hold these own frames.
    pub(super) async fn take_custody(&self, frames: Vec<FrameId>) {
        if frames.is_empty() {
            return;
        }
        let noted: Result<(), StoreError> = self
            .vault
            .write(|tx| {
                Box::pin(async move {
                    let now = now_ms();
                    for id in frames {
                        message::in_custody(tx.conn(), id, now).await?;
                        outbox::frame_done(tx.conn(), id).await?;
                    }
                    let seq = feed::newest(tx.conn()).await?;
                    tx.notify(Notice::Feed(seq));
                    Ok(())
                })
            })
            .await;
        if noted.is_err() {
            tracing::warn!("a confirmation could not be stored; the peer's next Tip repeats it");
        }
    }
}
