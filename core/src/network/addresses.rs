//! Tells fellow members where this device can be reached, whenever that is no longer what they know.
//!
//! Connects to nobody: the event goes out with the next connection, whoever dials.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::Network;
use crate::{
    clock::now_ms,
    event::{Body, SignedEvent},
    id::GroupId,
    journal::{self, Members, Own, Reading},
    router::Address,
    store::{
        StoreError, WriteTx,
        logbook::LogBook,
        mls::{self, GroupStanding},
        register, space,
    },
};

/// Interfaces come and go in bursts: what changes within this time is told once.
const SETTLE: Duration = Duration::from_secs(1);

impl Network {
    /// Compares what every group was told with where the router is: at the start and after each change.
    pub(super) async fn keep_addresses_told(self: Arc<Self>) {
        loop {
            if let Err(error) = Box::pin(self.tell_addresses()).await {
                tracing::warn!(%error, "new addresses could not be told");
            }
            self.wake.addresses.notified().await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn tell_addresses(self: &Arc<Self>) -> Result<(), StoreError> {
        let addresses: Vec<_> = self.own_addresses().iter().map(Address::to_bytes).collect();
        if addresses.is_empty() {
            return Ok(());
        }
        let body = Body::Addresses { peer_id: self.keys.certificate().peer_id.clone(), addresses };
        let network = Arc::clone(self);
        self.vault
            .write(move |tx| {
                Box::pin(async move {
                    for gid in mls::live_groups(tx.conn()).await? {
                        network.tell_group(tx, gid, &body).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn tell_group(&self, tx: &mut WriteTx<'_>, gid: GroupId, body: &Body) -> Result<(), StoreError> {
        let (me, device) = (self.keys.account(), self.keys.device_id());
        let Some(group) = mls::group(tx.conn(), gid).await? else { return Ok(()) };
        let Some(key) = body.register(&me, &device) else { return Ok(()) };
        let told = register::holder(tx.conn(), gid, body.kind(), &key).await?;
        if group.standing != GroupStanding::Active || told.is_some_and(|told| says(&told, body)) {
            return Ok(());
        }
        let members = Members::new(space::member_rows(tx.conn(), gid).await?);
        let reading = Reading { me, members: &members, loopback: false, now: now_ms() };
        let own = Own {
            key: &self.keys.device,
            device,
            log: group.own_log,
            head: group.head,
            recipients: space::recipients(tx.conn(), gid, me).await?,
        };
        let mut book = LogBook::open(tx.conn(), gid).await?;
        journal::append(tx, &mut book, &own, &reading, body.clone()).await?;
        book.close(tx, reading.now).await
    }
}

/// Whether a stored event names the same addresses, in whatever order.
fn says(stored: &[u8], body: &Body) -> bool {
    let Ok(told) = SignedEvent::decode_stored(stored) else { return false };
    let (Body::Addresses { peer_id: a, addresses: old }, Body::Addresses { peer_id: b, addresses: new }) =
        (&told.event.body, body)
    else {
        return false;
    };
    a == b && old.iter().collect::<HashSet<_>>() == new.iter().collect::<HashSet<_>>()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        event::Event,
        id::{DeviceId, LogId, StateId},
    };

    fn body(ports: &[u16]) -> Body {
        let address = |port: &u16| Address::parse(&format!("/ip4/192.0.2.1/tcp/{port}")).unwrap().to_bytes();
        Body::Addresses { peer_id: vec![1; 38], addresses: ports.iter().map(address).collect() }
    }

    fn stored(body: Body) -> Vec<u8> {
        let key = SigningKey::from_bytes(&[5; 32]);
        let event = Event {
            gid: GroupId([1; 16]),
            log: LogId([2; 16]),
            seq: 1,
            prev: None,
            lamport: 1,
            deps: Vec::new(),
            seen_sid: StateId([3; 32]),
            wall_ms: 1,
            author: DeviceId(key.verifying_key().to_bytes()),
            body,
        };
        SignedEvent::sign(&key, event).unwrap().encoded().to_vec()
    }

    #[test]
    fn the_same_addresses_are_not_told_again() {
        let told = stored(body(&[1, 2]));
        assert!(says(&told, &body(&[1, 2])));
        assert!(says(&told, &body(&[2, 1])));
    }

    #[test]
    fn another_port_another_router_or_one_less_is_news() {
        let told = stored(body(&[1, 2]));
        assert!(!says(&told, &body(&[1, 3])));
        assert!(!says(&told, &body(&[1])));
        let Body::Addresses { addresses, .. } = body(&[1, 2]) else { panic!("addresses") };
        assert!(!says(&told, &Body::Addresses { peer_id: vec![2; 38], addresses }));
        assert!(!says(b"nothing", &body(&[1, 2])));
    }
}
