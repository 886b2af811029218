//! `debug`: looks behind a space, for those who want to know why it is as it is.

use std::path::PathBuf;

use serde_json::{Value, json};
use spacepanda_proto::api::v1 as api;

use super::{
    connect::{CALL_DEADLINE, Client},
    drawing,
    failure::{Failure, Outcome},
    json::{self, ToJson},
    output::Output,
    resolve,
};

/// Commands for the curious.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum DebugCommand {
    /// Draw the states of a space's group, as far as this server knows them: no ids, names or secrets
    Graph(Graph),
}

/// Arguments of `debug graph`.
#[derive(Debug, Clone, clap::Args)]
pub struct Graph {
    /// The space: its name, id, or the start of its id
    space: String,
    /// A picture, or text for Graphviz
    #[arg(long, value_name = "FORMAT", default_value = "svg")]
    format: Format,
    /// The file to write instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many states, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    states: u32,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A picture for browsers
    Svg,
    /// Text for Graphviz
    Dot,
}

/// Runs a command for the curious.
///
/// # Errors
/// When the server refuses or cannot be reached, or the file cannot be written.
pub(super) async fn run(client: &Client, out: Output, command: DebugCommand) -> Result<Outcome, Failure> {
    let DebugCommand::Graph(args) = command;
    let space_id = resolve::space(client, &args.space).await?;
    let request = api::GetStateGraphRequest { space_id, max_states: args.states };
    let call = || async { client.spaces().get_state_graph(request.clone()).await };
    let graph = client.call(CALL_DEADLINE, call).await?;
    let drawn = match args.format {
        Format::Svg => drawing::svg(&graph),
        Format::Dot => graph.dot.trim_end().to_owned(),
    };
    match &args.output {
        Some(file) => {
            std::fs::write(file, drawn + "\n").map_err(|error| {
                Failure::local_fault("FILE", format!("{} cannot be written: {error}", file.display()))
            })?;
            out.show(|| graph.to_json(), || format!("{} states in {}.", graph.states.len(), file.display()))?;
        }
        None => out.show(|| graph.to_json(), || drawn)?,
    }
    Ok(Outcome::Done)
}

impl ToJson for api::StateGraph {
    fn to_json(&self) -> Value {
        json!({"states": json::list(&self.states)})
    }
}

impl ToJson for api::GraphState {
    fn to_json(&self) -> Value {
        let commit = self.commit.as_ref().map(|commit| {
            json!({
                "parent": commit.parent,
                "class": commit.class().as_str_name(),
                "committer": commit.committer,
                "chosen": commit.chosen,
                "votes": commit.votes.map(|votes| {
                    json!({"votes": votes.votes, "voters": votes.voters, "settled": votes.settled})
                }),
            })
        });
        json!({
            "number": self.number,
            "epoch": self.epoch,
            "commit": commit,
            "accounts": self.accounts,
            "supports": self.supports,
            "held": self.held().as_str_name(),
            "mark": self.mark().as_str_name(),
        })
    }
}
