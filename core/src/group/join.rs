//! Entering a group by a Welcome, with the private keys of the KeyPackage it answers.

use openmls::prelude::{MlsMessageBodyIn, MlsMessageIn, StagedWelcome, Welcome, tls_codec::Deserialize as _};
use zeroize::Zeroizing;

use super::{
    error::GroupError,
    identity::DeviceIdentity,
    overlay::{Provider, is_key_package_row},
    rows::Rows,
    state::{GroupState, join_config},
};
use crate::id::GroupId;

/// Longest accepted Welcome, bytes. One for a group of 1,000 has about 200 KiB.
pub const MAX_WELCOME_BYTES: usize = 4 << 20;

impl GroupState {
    /// Joins the group `gid` by a Welcome for the KeyPackage whose private keys are given. Who made the
    /// Welcome is not judged: the caller knows whose invite it was.
    ///
    /// # Errors
    /// [`GroupError::Welcome`] when it does not fit, [`GroupError::Certificate`] or
    /// [`GroupError::Context`] when the group is not one of ours.
    pub fn join(
        identity: &DeviceIdentity,
        gid: GroupId,
        key_package_rows: Rows,
        welcome: &[u8],
        route_secret: [u8; 32],
    ) -> Result<Self, GroupError> {
        let route_secret = Zeroizing::new(route_secret);
        let provider = Provider::new(key_package_rows);
        let staged = StagedWelcome::build_from_welcome(&provider, &join_config(), read_welcome(welcome)?)
            .map_err(|_| GroupError::Welcome)?
            // Leaves expire as KeyPackages only; a member who was silent for long is a member.
            .skip_lifetime_validation()
            .build()
            .map_err(|_| GroupError::Welcome)?;
        if staged.group_context().group_id().as_slice() != gid.as_bytes() {
            return Err(GroupError::Welcome);
        }
        let group = staged.into_group(&provider).map_err(|_| GroupError::Welcome)?;
        provider.rows().retain(|key| !is_key_package_row(key));
        let state = Self::unstored(gid, group, provider, route_secret, &[])?;
        state.require_own_leaf(identity)?;
        Ok(state)
    }

    fn require_own_leaf(&self, identity: &DeviceIdentity) -> Result<(), GroupError> {
        let own = self.facts.standing.roster.iter().find(|member| member.leaf == self.facts.own_leaf);
        let ours = own.is_some_and(|own| own.certificate == *identity.certificate());
        ours.then_some(()).ok_or(GroupError::Certificate)
    }
}

fn read_welcome(bytes: &[u8]) -> Result<Welcome, GroupError> {
    if bytes.len() > MAX_WELCOME_BYTES {
        return Err(GroupError::Welcome);
    }
    match MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract) {
        Ok(MlsMessageBodyIn::Welcome(welcome)) => Ok(welcome),
        _ => Err(GroupError::Welcome),
    }
}
