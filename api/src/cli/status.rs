//! `status`: the account's router, peers and groups at a glance.

use serde_json::json;
use spacepanda_proto::api::v1::{self as api, Nat};

use super::{
    connect::{CALL_DEADLINE, Caller},
    failure::{Failure, Outcome},
    json::{self, ToJson as _},
    listing,
    output::{Output, bold, printable_line},
    peer, space,
};

/// Shows how the account is doing.
///
/// # Errors
/// When not logged in, or the server cannot be reached.
pub(super) async fn run(caller: &Caller, out: Output) -> Result<Outcome, Failure> {
    let login = caller.logged_in()?;
    let client = caller.connect_logged_in().await?;
    let call = || async { client.network().get_network_status(api::GetNetworkStatusRequest {}).await };
    let network = client.call(CALL_DEADLINE, call).await?;
    let peers = listing::peers(&client).await?;
    let spaces = listing::spaces(&client).await?;
    let document = || {
        json!({
            "server": login.server,
            "username": login.username,
            "network": network.to_json(),
            "peers": json::list(&peers),
            "spaces": json::list(&spaces),
        })
    };
    let text = || {
        let name = printable_line(&login.display_name);
        let title = format!("{} on {}", bold(&name), login.server);
        [title, router(&network), peer::as_table(&peers), space::as_table(&spaces)].join("\n\n")
    };
    out.show(document, text)?;
    Ok(Outcome::Done)
}

fn router(network: &api::NetworkStatus) -> String {
    let mut lines: Vec<String> = network
        .external_addresses
        .iter()
        .chain(&network.listen_addresses)
        .map(|address| format!("address    {address}"))
        .collect();
    lines.push(format!("reachable  {}", reach(network.nat())));
    lines.push(format!("connected  {} peers", network.connected_peers));
    lines.push(format!("waiting    {} messages not stored by another server yet", network.queued_messages));
    lines.join("\n")
}

fn reach(nat: Nat) -> &'static str {
    match nat {
        Nat::Unspecified | Nat::Unknown => "not known yet",
        Nat::Announced => "at the announced address",
        Nat::Private => "from this machine or network only",
        Nat::Public => "from everywhere",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_addresses_come_first_and_the_queue_is_told() {
        let network = api::NetworkStatus {
            listen_addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            external_addresses: vec!["/dns4/home/tcp/1".into()],
            queued_messages: 3,
            nat: Nat::Announced.into(),
            ..Default::default()
        };
        let text = router(&network);
        assert!(text.find("/dns4/home").unwrap() < text.find("/ip4/127").unwrap());
        assert!(text.contains("3 messages"));
    }
}
