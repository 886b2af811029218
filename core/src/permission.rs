//! What each role may do: the one table. Pure; where an author stood is for the caller to know.
//!
//! | role | remove | set roles | invite as | name, channels, revoke | leave |
//! |---|---|---|---|---|---|
//! | owner | anyone | anyone to anything | anything but owner | yes | yes |
//! | admin | anyone but owners | anyone but owners, up to admin | admin or less | yes | yes |
//! | moderator | members | no | no | no | yes |
//! | member | no | no | no | no | yes |
//!
//! That a group keeps an owner is a rule of the group, not of a role.

use crate::model::Role;

/// What someone is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put an account out of the group.
    Remove {
        /// Its role.
        target: Role,
    },
    /// Change an account's role.
    SetRole {
        /// Its role so far.
        target: Role,
        /// Its role from then on.
        to: Role,
    },
    /// Let people in who get a role.
    Invite {
        /// Which.
        to: Role,
    },
    /// Name the space, make and name channels, revoke invites.
    Configure,
    /// Go.
    Leave,
}

/// Whether an account with this role may do it.
pub fn may(actor: Role, action: Action) -> bool {
    match (actor, action) {
        (_, Action::Leave)
        | (Role::Owner | Role::Admin, Action::Configure)
        | (Role::Owner, Action::Remove { .. } | Action::SetRole { .. }) => true,
        (Role::Admin, Action::Remove { target }) => target != Role::Owner,
        (Role::Moderator, Action::Remove { target }) => target == Role::Member,
        (Role::Admin, Action::SetRole { target, to }) => target != Role::Owner && to != Role::Owner,
        (Role::Owner | Role::Admin, Action::Invite { to }) => to != Role::Owner,
        (Role::Moderator | Role::Member, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each actor, in the order of [`Role::ALL`]: to whom it may do it (owner, admin, moderator, simple
    /// member).
    fn allowed(row: [&str; 4], action: impl Fn(Role) -> Action) {
        for (actor, targets) in Role::ALL.into_iter().zip(row) {
            for (target, letter) in Role::ALL.into_iter().zip("oams".chars()) {
                let expected = targets.contains(letter);
                assert_eq!(may(actor, action(target)), expected, "{actor:?} {:?}", action(target));
            }
        }
    }

    #[test]
    fn removing() {
        allowed(["oams", "ams", "s", ""], |target| Action::Remove { target });
    }

    #[test]
    fn setting_roles() {
        allowed(["oams", "", "", ""], |target| Action::SetRole { target, to: Role::Owner });
        for to in [Role::Admin, Role::Moderator, Role::Member] {
            allowed(["oams", "ams", "", ""], |target| Action::SetRole { target, to });
        }
    }

    #[test]
    fn inviting() {
        allowed(["ams", "ams", "", ""], |to| Action::Invite { to });
    }

    #[test]
    fn configuring_and_leaving() {
        allowed(["oams", "oams", "", ""], |_| Action::Configure);
        allowed(["oams"; 4], |_| Action::Leave);
    }

    #[test]
    fn roles_have_the_numbers_of_the_wire() {
        assert_eq!(Role::ALL.map(|role| role as u32), [1, 2, 3, 4]);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(Role::from_number).map(|role| role.map(|r| r as u32)),
            [None, Some(1), Some(2), Some(3), Some(4), None]
        );
    }
}
