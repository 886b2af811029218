//! Channels of a space: create, list.

use serde_json::json;
use spacepanda_proto::api::v1 as api;
use uuid::Uuid;

use super::{
    connect::{CALL_DEADLINE, Client},
    failure::{Failure, Outcome},
    json::{self, ToJson as _},
    listing,
    output::{Output, bold, printable_line, short, table},
    resolve,
};

/// Commands about channels.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ChannelCommand {
    /// Create a channel that every member of the space sees
    Create {
        /// The space: its name, id, or the start of its id
        space: String,
        /// The channel's name
        name: String,
        /// What it is about
        #[arg(long, default_value = "")]
        topic: String,
    },
    /// List the channels of a space
    List {
        /// The space: its name, id, or the start of its id
        space: String,
    },
}

/// Runs a command about channels.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn run(client: &Client, out: Output, command: ChannelCommand) -> Result<Outcome, Failure> {
    match command {
        ChannelCommand::Create { space, name, topic } => create(client, out, &space, name, topic).await?,
        ChannelCommand::List { space } => list(client, out, &space).await?,
    }
    Ok(Outcome::Done)
}

async fn create(
    client: &Client,
    out: Output,
    space: &str,
    name: String,
    topic: String,
) -> Result<(), Failure> {
    let request = api::CreateChannelRequest {
        space_id: resolve::space(client, space).await?,
        name,
        topic,
        visibility: api::Visibility::Public.into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.spaces().create_channel(request.clone()).await };
    let channel = client.call(CALL_DEADLINE, call).await?;
    out.show(
        || channel.to_json(),
        || format!("Created {} ({}).", bold(&printable_line(&channel.name)), channel.channel_id),
    )
}

async fn list(client: &Client, out: Output, space: &str) -> Result<(), Failure> {
    let space_id = resolve::space(client, space).await?;
    let channels = listing::channels(client, &space_id).await?;
    out.show(|| json!({"channels": json::list(&channels)}), || as_table(&channels))
}

fn as_table(channels: &[api::Channel]) -> String {
    let mut rows = table(&["CHANNEL", "ID", "TOPIC"]);
    for channel in channels {
        rows.add_row([
            printable_line(&channel.name),
            short(&channel.channel_id),
            printable_line(&channel.topic),
        ]);
    }
    rows.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_row_cannot_break_the_table() {
        let channel = api::Channel {
            channel_id: "0123456789".into(),
            name: "gen\u{1b}eral".into(),
            topic: "two\nlines".into(),
            ..Default::default()
        };
        let text = as_table(&[channel]);
        assert!(text.contains("two lines") && text.contains("01234567") && !text.contains('\u{1b}'));
    }
}
