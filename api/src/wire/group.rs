//! The state of a space's group on the wire, and in words that a client can show as they are.

use spacepanda_core::model::{GroupHealth, GroupStatus};
use spacepanda_proto::api::v1 as wire;

use super::IntoWire;

/// Digits of a state's id that people compare.
const SHORT: usize = 8;

impl IntoWire for GroupHealth {
    type Wire = wire::GroupHealth;

    fn into_wire(self) -> wire::GroupHealth {
        match self {
            Self::Ok => wire::GroupHealth::Ok,
            Self::Forked => wire::GroupHealth::Forked,
            Self::Stalled => wire::GroupHealth::Stalled,
            Self::Resyncing => wire::GroupHealth::Resyncing,
            Self::Removed => wire::GroupHealth::Removed,
        }
    }
}

impl IntoWire for GroupStatus {
    type Wire = wire::GroupState;

    fn into_wire(self) -> wire::GroupState {
        let summary = summary(&self);
        let state_id = self.state_id.to_string();
        wire::GroupState {
            epoch: self.epoch,
            head: state_id.chars().take(SHORT).collect(),
            state_id,
            check: hex::encode(self.check),
            health: self.health.into_wire().into(),
            health_detail: self.health_detail,
            retained_epochs: self.retained_epochs,
            // Beyond the longest span that protobuf knows lie 10,000 years.
            oldest_retained_age: self.oldest_retained_age.try_into().ok(),
            members_behind: self.members_behind,
            waiting_changes: self.waiting_changes,
            repair_in_progress: self.repairing,
            summary,
        }
    }
}

/// How the group is, in sentences.
fn summary(group: &GroupStatus) -> String {
    let mut said = Vec::new();
    match group.health {
        GroupHealth::Ok if group.repairing => {
            said.push("Some messages wait for earlier ones that are being fetched.".to_owned());
        }
        GroupHealth::Ok if group.members_behind == 0 => {
            said.push("Everyone is known to be at the same point.".to_owned());
        }
        GroupHealth::Ok => said.push("This server is up to date.".to_owned()),
        GroupHealth::Resyncing => said.push("This server is catching up.".to_owned()),
        GroupHealth::Stalled => said.push("This server cannot go on for now.".to_owned()),
        GroupHealth::Forked => said.push("This server is cut off from the group.".to_owned()),
        GroupHealth::Removed => said.push("This account is no longer a member.".to_owned()),
    }
    if group.health != GroupHealth::Ok && !group.health_detail.is_empty() {
        said.push(sentence(&group.health_detail));
    }
    match group.members_behind {
        0 => {}
        1 => said.push("1 member is not known to have the latest changes yet.".to_owned()),
        many => said.push(format!("{many} members are not known to have the latest changes yet.")),
    }
    match group.waiting_changes {
        0 => {}
        1 => said.push("1 change of members or roles waits to be made.".to_owned()),
        many => said.push(format!("{many} changes of members or roles wait to be made.")),
    }
    said.join(" ")
}

/// With a capital at its beginning and a stop at its end.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spacepanda_core::id::StateId;

    use super::*;

    fn group() -> GroupStatus {
        GroupStatus {
            epoch: 7,
            state_id: StateId([0xab; 32]),
            check: [1; 8],
            health: GroupHealth::Ok,
            health_detail: String::new(),
            retained_epochs: 3,
            oldest_retained_age: Duration::from_millis(90_500),
            members_behind: 0,
            waiting_changes: 0,
            repairing: false,
        }
    }

    #[test]
    fn figures_are_told_as_they_are_and_the_head_is_short() {
        let told = GroupStatus { members_behind: 2, ..group() }.into_wire();
        assert_eq!((told.head.as_str(), told.state_id.len()), ("abababab", 64));
        assert_eq!((told.retained_epochs, told.members_behind, told.repair_in_progress), (3, 2, false));
        let age = told.oldest_retained_age.unwrap();
        assert_eq!((age.seconds, age.nanos), (90, 500_000_000));
    }

    #[test]
    fn words_for_people_say_what_the_figures_say() {
        assert_eq!(summary(&group()), "Everyone is known to be at the same point.");
        let behind = GroupStatus { members_behind: 1, waiting_changes: 2, ..group() };
        assert_eq!(
            summary(&behind),
            "This server is up to date. 1 member is not known to have the latest changes yet. \
             2 changes of members or roles wait to be made."
        );
        let repairing = GroupStatus { repairing: true, ..group() };
        assert!(summary(&repairing).contains("being fetched"));
        let stalled = GroupStatus {
            health: GroupHealth::Stalled,
            health_detail: "changes are missing".into(),
            ..group()
        };
        assert_eq!(summary(&stalled), "This server cannot go on for now. Changes are missing.");
        assert_eq!(sentence(""), ".");
    }
}
