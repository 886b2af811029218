//! One state of a group, loaded: its rows, the MLS group on them, and what is derived from it.
//! A state never becomes another one: commits give a child state and leave this one as it is.

use openmls::prelude::{
    Extension, Extensions, GroupContext, GroupId as MlsGroupId, Member, MlsGroup, MlsGroupCreateConfig,
    MlsGroupJoinConfig, OpenMlsProvider as _, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, PastEpochDeletion,
    RequiredCapabilitiesExtension, SenderRatchetConfiguration, UnknownExtension, tls_codec::Serialize as _,
};
use zeroize::Zeroizing;

use super::{
    authorize::{RosterMember, Standing},
    error::GroupError,
    frame::{FrameKeys, state_id},
    identity::{DeviceIdentity, leaf_certificate},
    key_package::{CIPHERSUITE, POLICY_TYPE, capabilities, lifetime},
    overlay::Provider,
    policy::{POLICY_EXTENSION, Policy},
    rows::{RowChanges, Rows},
};
use crate::id::{DeviceId, GroupId, StateId};

/// Messages of one sender may arrive this much out of order.
pub(super) const OUT_OF_ORDER_MESSAGES: u32 = 512;
/// Messages of one sender may be missing this many in a row.
pub(super) const FORWARD_MESSAGES: u32 = 20_000;
pub(super) const ROUTE_SECRET_ROW: &[u8] = b"sp/route-secret";
pub(super) const SEND_COUNTER_ROW: &[u8] = b"sp/send-counter";

/// A loaded state. Holds secrets: no `Debug`.
pub struct GroupState {
    pub(super) group: MlsGroup,
    pub(super) provider: Provider,
    pub(super) facts: StateFacts,
    pub(super) keys: FrameKeys,
    pub(super) send_counter: u32,
    route_secret: Zeroizing<[u8; 32]>,
}

/// What others may know of a state.
#[derive(Clone)]
pub struct StateFacts {
    /// The group.
    pub gid: GroupId,
    /// Which state of which branch.
    pub sid: StateId,
    /// MLS epoch.
    pub epoch: u64,
    /// Equal on two devices exactly when their states are.
    pub check: [u8; 8],
    /// Names the state's frames.
    pub env_tag: [u8; 16],
    /// This device's leaf.
    pub own_leaf: u32,
    /// Roster and policy.
    pub standing: Standing,
}

impl StateFacts {
    /// The leaf of a device.
    pub(super) fn leaf_of(&self, device: &DeviceId) -> Result<u32, GroupError> {
        Ok(self.standing.member(device).ok_or(GroupError::UnknownDevice)?.leaf)
    }
}

impl GroupState {
    /// How many application messages this device sealed in this state.
    pub fn sealed_messages(&self) -> u32 {
        self.send_counter
    }

    /// Founds a group with this device as its only member.
    ///
    /// # Errors
    /// [`GroupError::Certificate`] when the identity's certificate is not of its key.
    pub fn create(identity: &DeviceIdentity, gid: GroupId, policy: Policy) -> Result<Self, GroupError> {
        let provider = Provider::default();
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(CIPHERSUITE)
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .max_past_epochs(0)
            .sender_ratchet_configuration(sender_ratchets())
            .use_ratchet_tree_extension(true)
            .capabilities(capabilities())
            .lifetime(lifetime())
            .with_group_context_extensions(context_extensions(&policy)?)
            .build();
        let group =
            MlsGroup::new_with_group_id(&provider, identity, &config, mls_id(&gid), identity.credential())
                .map_err(GroupError::mls)?;
        let mut route_secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *route_secret).map_err(|_| GroupError::Randomness)?;
        Self::unstored(gid, group, provider, route_secret, &[])
    }

    /// Loads a state from the rows stored for its sid.
    ///
    /// # Errors
    /// [`GroupError::Damaged`] when rows are missing or unreadable.
    pub fn load(gid: GroupId, rows: Rows) -> Result<Self, GroupError> {
        let provider = Provider::new(rows);
        let group = load_group(&gid, &provider)?;
        let (route_secret, send_counter) = {
            let rows = provider.rows();
            let secret = rows.get(ROUTE_SECRET_ROW).and_then(|bytes| bytes.try_into().ok());
            let counter = match rows.get(SEND_COUNTER_ROW) {
                Some(bytes) => bytes.try_into().ok().map(u32::from_be_bytes),
                None => Some(0),
            };
            (secret.ok_or(GroupError::Damaged)?, counter.ok_or(GroupError::Damaged)?)
        };
        Self::assemble(gid, group, provider, Zeroizing::new(route_secret), send_counter, &[])
    }

    /// What others may know of it.
    pub fn facts(&self) -> &StateFacts {
        &self.facts
    }

    /// What names the group's frames to routers; changes only when someone is removed.
    pub fn route_secret(&self) -> &[u8; 32] {
        &self.route_secret
    }

    /// What to store under this state's sid: for a new state all of it, else what messages changed.
    ///
    /// # Errors
    /// [`GroupError`]: the state must be dropped and loaded again.
    pub fn take_changes(&mut self) -> Result<RowChanges, GroupError> {
        if self.provider.message_secrets_stale() {
            self.provider.hold_message_secrets(false);
            // There are no past epochs: this only makes openmls write the row.
            let written =
                self.group.delete_past_epoch_secrets(&self.provider, PastEpochDeletion::delete_all());
            self.provider.hold_message_secrets(true);
            written.map_err(GroupError::mls)?;
        }
        Ok(self.provider.rows().take_changes())
    }

    /// Loads the same state once more, to make a child of it.
    pub(super) fn fork(&self) -> Result<(MlsGroup, Provider), GroupError> {
        let provider = Provider::new(self.provider.rows().clone());
        let group = load_group(&self.facts.gid, &provider)?;
        Ok((group, provider))
    }

    /// The state that a merged commit gave.
    pub(super) fn child(
        &self,
        group: MlsGroup,
        provider: Provider,
        someone_left: bool,
    ) -> Result<Self, GroupError> {
        let route_secret =
            if someone_left { export(&group, &provider, "sp/route")? } else { self.route_secret.clone() };
        Self::unstored(self.facts.gid, group, provider, route_secret, &self.facts.standing.roster)
    }

    /// A state that nothing is stored of yet. `known` are certificates checked before.
    pub(super) fn unstored(
        gid: GroupId,
        group: MlsGroup,
        provider: Provider,
        route_secret: Zeroizing<[u8; 32]>,
        known: &[RosterMember],
    ) -> Result<Self, GroupError> {
        let mut rows = provider.into_rows();
        rows.put(ROUTE_SECRET_ROW.to_vec(), route_secret.to_vec());
        rows.remove(SEND_COUNTER_ROW);
        let provider = Provider::new(rows.into_unstored());
        Self::assemble(gid, group, provider, route_secret, 0, known)
    }

    fn assemble(
        gid: GroupId,
        group: MlsGroup,
        provider: Provider,
        route_secret: Zeroizing<[u8; 32]>,
        send_counter: u32,
        known: &[RosterMember],
    ) -> Result<Self, GroupError> {
        if group.group_id().as_slice() != gid.as_bytes() {
            return Err(GroupError::Damaged);
        }
        let facts = facts(gid, &group, &provider, known)?;
        let keys = FrameKeys::new(&route_secret, facts.env_tag, export(&group, &provider, "sp/env")?);
        provider.hold_message_secrets(true);
        Ok(Self { group, provider, facts, keys, send_counter, route_secret })
    }
}

/// The configuration of a group joined from a Welcome: the founder's.
pub(super) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .max_past_epochs(0)
        .sender_ratchet_configuration(sender_ratchets())
        .use_ratchet_tree_extension(true)
        .build()
}

fn sender_ratchets() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER_MESSAGES, FORWARD_MESSAGES)
}

/// The group's id as openmls wants it.
pub(super) fn mls_id(gid: &GroupId) -> MlsGroupId {
    MlsGroupId::from_slice(gid.as_bytes())
}

fn load_group(gid: &GroupId, provider: &Provider) -> Result<MlsGroup, GroupError> {
    MlsGroup::load(provider.storage(), &mls_id(gid))
        .map_err(|_| GroupError::Damaged)?
        .ok_or(GroupError::Damaged)
}

/// The extensions of a GroupContext with this policy: these two and no others.
pub(super) fn context_extensions(policy: &Policy) -> Result<Extensions<GroupContext>, GroupError> {
    let policy = Extension::Unknown(POLICY_EXTENSION, UnknownExtension(policy.encode()));
    Extensions::from_vec(vec![Extension::RequiredCapabilities(required_capabilities()), policy])
        .map_err(GroupError::mls)
}

/// The policy in a GroupContext that has no other extension than it must.
pub(super) fn context_policy(extensions: &Extensions<GroupContext>) -> Result<Policy, GroupError> {
    let as_founded = extensions.iter().count() == 2
        && extensions.required_capabilities() == Some(&required_capabilities());
    let policy = extensions.unknown(POLICY_EXTENSION).filter(|_| as_founded);
    Ok(Policy::decode(&policy.ok_or(GroupError::Context)?.0)?)
}

fn required_capabilities() -> RequiredCapabilitiesExtension {
    RequiredCapabilitiesExtension::new(&[POLICY_TYPE], &[], &[])
}

fn facts(
    gid: GroupId,
    group: &MlsGroup,
    provider: &Provider,
    known: &[RosterMember],
) -> Result<StateFacts, GroupError> {
    let epoch = group.epoch().as_u64();
    let confirmation_tag = group.confirmation_tag().tls_serialize_detached().map_err(GroupError::mls)?;
    let roster = roster(group.members(), known)?;
    let standing = Standing { gid, epoch, roster, policy: context_policy(group.extensions())? };
    Ok(StateFacts {
        gid,
        sid: state_id(&gid, epoch, &confirmation_tag),
        epoch,
        check: *export(group, provider, "sp/check")?,
        env_tag: *export(group, provider, "sp/envtag")?,
        own_leaf: group.own_leaf_index().u32(),
        standing,
    })
}

/// Reads the certificates of all leaves.
pub(super) fn roster(
    members: impl Iterator<Item = Member>,
    known: &[RosterMember],
) -> Result<Vec<RosterMember>, GroupError> {
    members.map(|member| roster_member(&member, known)).collect()
}

/// Reads a leaf's certificate, unless the same one was read before.
fn roster_member(member: &Member, known: &[RosterMember]) -> Result<RosterMember, GroupError> {
    let leaf = member.index.u32();
    let same = known.binary_search_by_key(&leaf, |known| known.leaf).ok().and_then(|at| known.get(at));
    let same = same.filter(|known| {
        known.certificate.encoded() == member.credential.serialized_content()
            && known.certificate.device.as_bytes() == member.signature_key.as_slice()
    });
    let certificate = match same {
        Some(known) => known.certificate.clone(),
        None => leaf_certificate(&member.credential, &member.signature_key)?,
    };
    let encryption_key = member.encryption_key.as_slice().try_into().map_err(|_| GroupError::Damaged)?;
    Ok(RosterMember { leaf, certificate, encryption_key })
}

fn export<const N: usize>(
    group: &MlsGroup,
    provider: &Provider,
    label: &str,
) -> Result<Zeroizing<[u8; N]>, GroupError> {
    let secret =
        Zeroizing::new(group.export_secret(provider.crypto(), label, &[], N).map_err(GroupError::mls)?);
    Ok(Zeroizing::new(secret.as_slice().try_into().map_err(|_| GroupError::Damaged)?))
}
