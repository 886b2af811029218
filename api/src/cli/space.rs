//! Spaces: create, list, show, members, remove, leave. Invites and joining are in `invite`.

use std::time::{Duration, SystemTime};

use serde_json::json;
use spacepanda_proto::api::v1::{self as api, GroupHealth, Presence, Role, SendTiming};
use uuid::Uuid;

use super::{
    connect::{CALL_DEADLINE, Client, SLOW_CALL_DEADLINE},
    failure::{Failure, Outcome},
    invite::{self, Invite, Join},
    json::{self, ToJson as _},
    listing,
    output::{Output, ago, bold, printable_line, short, table},
    resolve,
};

/// Commands about spaces.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum SpaceCommand {
    /// Create a space with a channel `general`
    Create {
        /// The space's name
        name: String,
        /// What it is about
        #[arg(long, default_value = "")]
        description: String,
        /// How long what you write there waits before it leaves
        #[arg(long, value_name = "TIMING", default_value = "balanced")]
        timing: Timing,
    },
    /// Change a space's name or description, or how long what you write there waits before it leaves
    Update(Update),
    /// List the spaces you are in
    List,
    /// Show one space and the state of its group
    #[command(visible_alias = "status")]
    Show {
        /// The space: its name, id, or the start of its id
        space: String,
    },
    /// Make a link that lets its holder join
    Invite(Invite),
    /// Make an invite unusable at once
    Revoke {
        /// The invite's id
        #[arg(value_name = "INVITE")]
        invite_id: String,
    },
    /// Join a space by link
    Join(Join),
    /// List the members of a space
    Members {
        /// The space: its name, id, or the start of its id
        space: String,
    },
    /// Remove a member; nothing sent later opens for them
    Remove {
        /// The space: its name, id, or the start of its id
        space: String,
        /// The member: their name, account id, or the start of it
        account: String,
    },
    /// Give a member another role
    Role {
        /// The space: its name, id, or the start of its id
        space: String,
        /// The member: their name, account id, or the start of it
        account: String,
        /// owner, admin, moderator or member
        role: RoleName,
    },
    /// Leave a space
    Leave {
        /// The space: its name, id, or the start of its id
        space: String,
    },
}

/// A role, as people type it.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum RoleName {
    /// Everything
    Owner,
    /// Everything but what concerns owners
    Admin,
    /// Removes plain members
    Moderator,
    /// Reads and writes
    Member,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Owner => Self::Owner,
            RoleName::Admin => Self::Admin,
            RoleName::Moderator => Self::Moderator,
            RoleName::Member => Self::Member,
        }
    }
}

/// How long what one writes waits before it leaves, as people type it.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Timing {
    /// Not at all
    Fast,
    /// A quarter of a second on average, at most 2 s
    Balanced,
    /// Five seconds on average, at most 30 s
    Strict,
}

impl From<Timing> for SendTiming {
    fn from(timing: Timing) -> Self {
        match timing {
            Timing::Fast => Self::Fast,
            Timing::Balanced => Self::Balanced,
            Timing::Strict => Self::Strict,
        }
    }
}

/// Arguments of `space update`.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = true, args = ["name", "description", "timing"])]
pub struct Update {
    /// The space: its name, id, or the start of its id
    space: String,
    /// Another name, for everyone
    #[arg(long)]
    name: Option<String>,
    /// Another description, for everyone
    #[arg(long)]
    description: Option<String>,
    /// How long what you write there waits before it leaves
    #[arg(long, value_name = "TIMING")]
    timing: Option<Timing>,
}

/// Runs a command about spaces.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn run(client: &Client, out: Output, command: SpaceCommand) -> Result<Outcome, Failure> {
    match command {
        SpaceCommand::Create { name, description, timing } => {
            create(client, out, (name, description, timing)).await?;
        }
        SpaceCommand::Update(args) => update(client, out, args).await?,
        SpaceCommand::List => list(client, out).await?,
        SpaceCommand::Show { space } => show(client, out, &space).await?,
        SpaceCommand::Invite(args) => invite::create(client, out, args).await?,
        SpaceCommand::Revoke { invite_id } => invite::revoke(client, out, invite_id).await?,
        SpaceCommand::Join(args) => return invite::join(client, out, args).await,
        SpaceCommand::Members { space } => members(client, out, &space).await?,
        SpaceCommand::Remove { space, account } => remove(client, out, &space, &account).await?,
        SpaceCommand::Role { space, account, role } => {
            set_role(client, out, &space, &account, role).await?;
        }
        SpaceCommand::Leave { space } => leave(client, out, &space).await?,
    }
    Ok(Outcome::Done)
}

async fn create(
    client: &Client,
    out: Output,
    (name, description, timing): (String, String, Timing),
) -> Result<(), Failure> {
    let request = api::CreateSpaceRequest {
        name,
        description,
        send_timing: SendTiming::from(timing).into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.spaces().create_space(request.clone()).await };
    let space = client.call(CALL_DEADLINE, call).await?;
    out.show(
        || space.to_json(),
        || {
            let name = printable_line(&space.name);
            format!(
                "Created {} ({}).\nInvite people with: spacepanda space invite {}",
                bold(&name),
                space.space_id,
                short(&space.space_id)
            )
        },
    )
}

async fn update(client: &Client, out: Output, args: Update) -> Result<(), Failure> {
    let request = api::UpdateSpaceRequest {
        space_id: resolve::space(client, &args.space).await?,
        name: args.name,
        description: args.description,
        send_timing: args.timing.map_or(SendTiming::Unspecified, SendTiming::from).into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.spaces().update_space(request.clone()).await };
    let space = client.call(CALL_DEADLINE, call).await?;
    out.show(|| space.to_json(), || details(&space))
}

async fn list(client: &Client, out: Output) -> Result<(), Failure> {
    let spaces = listing::spaces(client).await?;
    out.show(|| json!({"spaces": json::list(&spaces)}), || as_table(&spaces))
}

async fn show(client: &Client, out: Output, space: &str) -> Result<(), Failure> {
    let space = get(client, resolve::space(client, space).await?).await?;
    out.show(|| space.to_json(), || details(&space))
}

/// One space.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(super) async fn get(client: &Client, space_id: String) -> Result<api::Space, Failure> {
    let request = api::GetSpaceRequest { space_id };
    client.call(CALL_DEADLINE, || async { client.spaces().get_space(request.clone()).await }).await
}

async fn members(client: &Client, out: Output, space: &str) -> Result<(), Failure> {
    let space_id = resolve::space(client, space).await?;
    let members = listing::members(client, &space_id).await?;
    out.show(|| json!({"members": json::list(&members)}), || members_table(&members))
}

async fn remove(client: &Client, out: Output, space: &str, account: &str) -> Result<(), Failure> {
    let space_id = resolve::space(client, space).await?;
    let account_id = resolve::member(client, &space_id, account).await?;
    let request = api::RemoveMemberRequest {
        space_id: space_id.clone(),
        account_id: account_id.clone(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.spaces().remove_member(request.clone()).await };
    client.call(SLOW_CALL_DEADLINE, call).await?;
    out.show(
        || json!({"space_id": space_id, "account_id": account_id, "removed": true}),
        || format!("Removed {}.", short(&account_id)),
    )
}

async fn set_role(
    client: &Client,
    out: Output,
    space: &str,
    account: &str,
    to: RoleName,
) -> Result<(), Failure> {
    let space_id = resolve::space(client, space).await?;
    let request = api::SetMemberRoleRequest {
        account_id: resolve::member(client, &space_id, account).await?,
        space_id,
        role: Role::from(to).into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.spaces().set_member_role(request.clone()).await };
    let member = client.call(SLOW_CALL_DEADLINE, call).await?;
    out.show(|| member.to_json(), || role_set(&member, to.into()))
}

fn role_set(member: &api::Member, wanted: Role) -> String {
    let name = bold(&printable_line(&member.display_name));
    if member.role() == wanted {
        format!("{name} is {} now.", role(wanted))
    } else {
        format!(
            "{name} is {} still; the change completes by itself unless another one came first.",
            role(member.role())
        )
    }
}

async fn leave(client: &Client, out: Output, space: &str) -> Result<(), Failure> {
    let space_id = resolve::space(client, space).await?;
    let request =
        api::LeaveSpaceRequest { space_id: space_id.clone(), request_id: Uuid::new_v4().to_string() };
    client.call(CALL_DEADLINE, || async { client.spaces().leave_space(request.clone()).await }).await?;
    out.show(|| json!({"space_id": space_id, "left": true}), || "Left the space.".to_owned())
}

/// Spaces for people.
pub(super) fn as_table(spaces: &[api::Space]) -> String {
    if spaces.is_empty() {
        return "No spaces yet; `spacepanda space create NAME` makes one, `space join LINK` enters one."
            .to_owned();
    }
    let mut rows = table(&["SPACE", "ID", "ROLE", "MEMBERS", "BEHIND", "EPOCH", "HEAD", "KEPT", "GROUP"]);
    for space in spaces {
        let group = space.group.clone().unwrap_or_default();
        rows.add_row([
            printable_line(&space.name),
            short(&space.space_id),
            role(space.my_role()).to_owned(),
            space.member_count.to_string(),
            group.members_behind.to_string(),
            group.epoch.to_string(),
            printable_line(&group.head),
            group.retained_epochs.to_string(),
            standing(&group),
        ]);
    }
    rows.to_string()
}

fn details(space: &api::Space) -> String {
    let group = space.group.clone().unwrap_or_default();
    let mut lines = vec![format!("{} ({})", bold(&printable_line(&space.name)), space.space_id)];
    if !space.description.is_empty() {
        lines.push(printable_line(&space.description));
    }
    lines.push(format!("members  {}, you are {}", space.member_count, role(space.my_role())));
    lines.push(format!("created  {}", ago(space.created_at.as_ref(), SystemTime::now())));
    lines.push(format!("timing   {}", timing(space.send_timing())));
    let (head, check) = (printable_line(&group.head), printable_line(&group.check));
    lines.push(format!("group    epoch {}, head {head}, check {check}, {}", group.epoch, standing(&group)));
    lines.push(format!("         {}", printable_line(&group.summary)));
    lines.push(format!("behind   {} members", group.members_behind));
    lines.push(format!("keys     of {} epochs, the oldest {} old", group.retained_epochs, oldest(&group)));
    lines.join("\n")
}

fn timing(timing: SendTiming) -> &'static str {
    match timing {
        SendTiming::Unspecified => "-",
        SendTiming::Fast => "fast: what you write leaves at once",
        SendTiming::Balanced => "balanced: what you write leaves within 2 s",
        SendTiming::Strict => "strict: what you write leaves within 30 s",
    }
}

fn standing(group: &api::GroupState) -> String {
    let repair =
        if group.repair_in_progress && group.health() != GroupHealth::Resyncing { ", repairing" } else { "" };
    format!("{}{repair}", health(group.health()))
}

fn oldest(group: &api::GroupState) -> String {
    let age = group.oldest_retained_age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

fn members_table(members: &[api::Member]) -> String {
    let now = SystemTime::now();
    let mut rows = table(&["MEMBER", "ACCOUNT", "ROLE", "PRESENCE", "JOINED"]);
    for member in members {
        rows.add_row([
            printable_line(&member.display_name),
            short(&member.account_id),
            role(member.role()).to_owned(),
            presence(member.presence()).to_owned(),
            ago(member.joined_at.as_ref(), now),
        ]);
    }
    rows.to_string()
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "-",
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Moderator => "moderator",
        Role::Member => "member",
    }
}

fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Unspecified => "-",
        Presence::Online => "online",
        Presence::Offline => "offline",
    }
}

fn health(health: GroupHealth) -> &'static str {
    match health {
        GroupHealth::Unspecified => "-",
        GroupHealth::Ok => "ok",
        GroupHealth::Forked => "FORKED",
        GroupHealth::Stalled => "STALLED",
        GroupHealth::Resyncing => "resyncing",
        GroupHealth::Removed => "removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> api::Space {
        let group = api::GroupState {
            epoch: 4,
            check: "0011223344556677".into(),
            health: GroupHealth::Forked.into(),
            head: "aabbccdd".into(),
            members_behind: 2,
            retained_epochs: 3,
            oldest_retained_age: Some(prost_types::Duration { seconds: 3_720, nanos: 5 }),
            repair_in_progress: true,
            summary: "A commit was set aside.".into(),
            ..Default::default()
        };
        api::Space {
            space_id: "a0eebc99-9c0b".into(),
            name: "Garden".into(),
            my_role: Role::Owner.into(),
            member_count: 3,
            group: Some(group),
            ..Default::default()
        }
    }

    #[test]
    fn a_role_that_is_not_set_yet_is_said_so() {
        let member = api::Member { role: Role::Admin.into(), ..Default::default() };
        assert!(role_set(&member, Role::Admin).contains("is admin now"));
        assert!(role_set(&member, Role::Moderator).contains("is admin still"));
    }

    #[test]
    fn a_space_shows_its_check_and_what_is_wrong() {
        let text = details(&space());
        assert!(text.contains("epoch 4, head aabbccdd, check 0011223344556677, FORKED, repairing"), "{text}");
        assert!(text.contains("A commit was set aside."));
        assert!(text.contains("of 3 epochs, the oldest 1h 2m old"), "{text}");
        assert!(as_table(&[space()]).contains("a0eebc99"));
        assert!(as_table(&[]).contains("space create"));
    }
}
