//! Peers of the account's router: connect, list, disconnect.

use std::time::SystemTime;

use serde_json::json;
use spacepanda_proto::api::v1::{self as api, PeerState};

use super::{
    connect::{CALL_DEADLINE, Client, SLOW_CALL_DEADLINE},
    failure::{Failure, Outcome},
    json, listing,
    output::{Output, ago, bold, short, table},
    resolve,
};

/// Commands about peers.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum PeerCommand {
    /// Connect to someone's server and remember it
    Connect {
        /// A multiaddr such as /ip4/203.0.113.5/tcp/4001/p2p/12D3...
        #[arg(value_name = "ADDR")]
        address: String,
    },
    /// List the peers that are known
    List,
    /// Close the connection and forget the peer
    Disconnect {
        /// A peer id, or its start
        #[arg(value_name = "ID")]
        peer: String,
    },
}

/// Runs a command about peers.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn run(client: &Client, out: Output, command: PeerCommand) -> Result<Outcome, Failure> {
    match command {
        PeerCommand::Connect { address } => connect(client, out, address).await?,
        PeerCommand::List => list(client, out).await?,
        PeerCommand::Disconnect { peer } => disconnect(client, out, &peer).await?,
    }
    Ok(Outcome::Done)
}

async fn connect(client: &Client, out: Output, peer_address: String) -> Result<(), Failure> {
    let request = api::ConnectPeerRequest { peer_address };
    let call = || async { client.network().connect_peer(request.clone()).await };
    let peer = client.call(SLOW_CALL_DEADLINE, call).await?;
    out.show(
        || json!({"peer_id": peer.peer_id, "round_trip_ms": peer.round_trip_ms}),
        || format!("Connected to {} ({:.1} ms).", bold(&peer.peer_id), peer.round_trip_ms),
    )
}

async fn list(client: &Client, out: Output) -> Result<(), Failure> {
    let peers = listing::peers(client).await?;
    out.show(|| json!({"peers": json::list(&peers)}), || as_table(&peers))
}

async fn disconnect(client: &Client, out: Output, peer: &str) -> Result<(), Failure> {
    let peer_id = resolve::peer(client, peer).await?;
    let request = api::DisconnectPeerRequest { peer_id: peer_id.clone() };
    let call = || async { client.network().disconnect_peer(request.clone()).await };
    client.call(CALL_DEADLINE, call).await?;
    out.show(|| json!({"peer_id": peer_id, "disconnected": true}), || format!("Forgot {peer_id}."))
}

/// Peers for people.
pub(super) fn as_table(peers: &[api::Peer]) -> String {
    if peers.is_empty() {
        return "No peers yet; connect to one with `spacepanda peer connect ADDR`.".to_owned();
    }
    let now = SystemTime::now();
    let mut rows = table(&["PEER", "STATE", "ROUND TRIP", "ACCOUNT", "LAST SEEN"]);
    for peer in peers {
        let round_trip =
            if peer.round_trip_ms > 0.0 { format!("{:.1} ms", peer.round_trip_ms) } else { "-".into() };
        rows.add_row([
            peer.peer_id.clone(),
            state(peer.state()).to_owned(),
            round_trip,
            short(&peer.account_id),
            ago(peer.last_seen_at.as_ref(), now),
        ]);
    }
    rows.to_string()
}

fn state(state: PeerState) -> &'static str {
    match state {
        PeerState::Unspecified => "unknown",
        PeerState::Connected => "connected",
        PeerState::Connecting => "connecting",
        PeerState::Disconnected => "disconnected",
        PeerState::Blocked => "blocked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_one_row_and_none_says_what_to_do() {
        let peer = api::Peer {
            peer_id: "12D3KooWx".into(),
            state: PeerState::Connected.into(),
            round_trip_ms: 1.25,
            ..Default::default()
        };
        let text = as_table(&[peer]);
        assert!(text.contains("12D3KooWx") && text.contains("connected") && text.contains("1.2 ms"));
        assert!(as_table(&[]).contains("peer connect"));
    }
}
