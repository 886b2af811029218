//! What members and strangers who break the rules get: an error, no change, and never a panic.
//! They have openmls without our checks, which is as good as an implementation of their own.

use ciborium::Value;
use ed25519_dalek::SigningKey;
use openmls::{
    prelude::{
        BasicCredential, CredentialType, CredentialWithKey, Extension, Extensions, ExternalSendersExtension,
        GroupContext, GroupId as MlsGroupId, KeyPackage, LeafNodeIndex, LeafNodeParameters, MlsGroup,
        MlsGroupCreateConfig, MlsMessageBodyIn, MlsMessageIn, NewSignerBundle, OpenMlsProvider,
        PURE_PLAINTEXT_WIRE_FORMAT_POLICY, PreSharedKeyProposal, Proposal, RequiredCapabilitiesExtension,
        StagedWelcome, UnknownExtension,
        tls_codec::{Deserialize as _, Serialize as _},
    },
    schedule::{ExternalPsk, PreSharedKeyId, Psk},
};
use openmls_rust_crypto::OpenMlsRustCrypto;

use super::fixture::{self, GID, Member, Person, founding_policy, no_reason, opened};
use crate::{
    certificate::Certificate,
    group::{
        authorize::Unauthorised,
        commit::{Change, MAX_JUSTIFICATION_BYTES},
        engine::Outcome,
        error::{ApplicationError, CommitError, GroupError},
        frame::{FrameKind, OpenedFrame},
        identity::DeviceIdentity,
        key_package::{CIPHERSUITE, POLICY_TYPE, capabilities, fresh_key_package, read_key_package},
        overlay::Provider,
        policy::POLICY_EXTENSION,
        rows::Rows,
        state::{GroupState, context_extensions, join_config},
    },
    id::DeviceId,
    model::Role,
};

fn three() -> [Member; 3] {
    fixture::three()
}

/// Makes a commit on a member's state without any of our checks.
fn raw_commit(
    member: &Member,
    build: impl FnOnce(&mut MlsGroup, &Provider, &DeviceIdentity) -> Vec<u8>,
) -> Vec<u8> {
    let (mut group, provider) = member.state.fork().unwrap();
    group.set_aad(no_reason());
    build(&mut group, &provider, &member.who.identity)
}

/// The commit that a prepared builder makes.
macro_rules! built {
    ($builder:expr, $provider:expr, $identity:expr) => {{
        let provider = $provider;
        $builder
            .load_psks(provider.storage())
            .unwrap()
            .build(provider.rand(), provider.crypto(), $identity, |_| true)
            .unwrap()
            .stage_commit(provider)
            .unwrap()
            .into_commit()
            .tls_serialize_detached()
            .unwrap()
    }};
}

fn with_context(member: &Member, extensions: Extensions<GroupContext>) -> Vec<u8> {
    raw_commit(member, |group, provider, identity| {
        let builder = group.commit_builder().force_self_update(true);
        built!(builder.propose_group_context_extensions(extensions).unwrap(), provider, identity)
    })
}

fn with_credential(member: &Member, credential: CredentialWithKey) -> Vec<u8> {
    raw_commit(member, |group, provider, identity| {
        let leaf = LeafNodeParameters::builder().with_credential_with_key(credential).build();
        built!(group.commit_builder().leaf_node_parameters(leaf), provider, identity)
    })
}

fn refused(receiver: &Member, commit: &[u8]) -> CommitError {
    let before = receiver.state.facts().sid;
    let error = receiver.state.process_commit(commit).err().unwrap();
    assert_eq!(receiver.state.facts().sid, before);
    error
}

#[test]
fn a_member_commits_nothing_that_nobody_asked_for() {
    let [alice, bob, carol] = three();
    let change = Change { removes: vec![carol.who.device], ..bob.no_change() };
    let attempt = bob.state.commit(&bob.who.identity, change, no_reason());
    assert!(matches!(attempt.err(), Some(GroupError::Unauthorised(Unauthorised::RemoveUnjustified))));
    for leaf in [0, 2] {
        let removal = raw_commit(&bob, |group, provider, identity| {
            built!(group.commit_builder().propose_removals([LeafNodeIndex::new(leaf)]), provider, identity)
        });
        let reason = refused(&alice, &removal);
        assert!(matches!(reason, CommitError::Unauthorised(Unauthorised::RemoveUnjustified)));
    }
    let mut crowned = bob.state.facts().standing.policy.clone();
    let entry = crowned.accounts.iter_mut().find(|entry| entry.account == bob.who.account);
    entry.unwrap().role = Some(Role::Owner);
    let crowned = with_context(&bob, context_extensions(&crowned).unwrap());
    let reason = refused(&alice, &crowned);
    assert!(matches!(reason, CommitError::Unauthorised(Unauthorised::PolicyMismatch)));
    // A request of its own does not help a member.
    let (change, justification) = bob.removal_of(&carol.who, &bob.who);
    let attempt = bob.state.commit(&bob.who.identity, change, justification);
    assert!(matches!(attempt.err(), Some(GroupError::Unauthorised(Unauthorised::NotPermitted))));
}

#[test]
fn a_newer_version_is_told_apart_from_a_broken_policy_when_the_owner_asks_for_it() {
    let [alice, bob, carol] = three();
    let newer = |member: &Member| {
        let mut policy = member.state.facts().standing.policy.clone();
        policy.version += 1;
        with_context(member, context_extensions(&policy).unwrap())
    };
    assert!(matches!(refused(&bob, &newer(&alice)), CommitError::Newer));
    let by_a_member = refused(&bob, &newer(&carol));
    assert!(matches!(by_a_member, CommitError::Unauthorised(Unauthorised::NotPermitted)));
    let mut broken = alice.state.facts().standing.policy.clone();
    broken.version = 0;
    let broken = with_context(&alice, context_extensions(&broken).unwrap());
    assert!(matches!(refused(&bob, &broken), CommitError::Malformed));
}

#[test]
fn a_context_with_anything_but_the_policy_is_forbidden() {
    let [alice, bob, _] = three();
    let policy = &alice.state.facts().standing.policy;
    let ours = context_extensions(policy).unwrap();

    let mut more = ours.clone();
    more.add(Extension::ExternalSenders(ExternalSendersExtension::new())).unwrap();
    assert!(matches!(refused(&bob, &with_context(&alice, more)), CommitError::Forbidden));

    let mut less = ours.clone();
    less.remove(POLICY_TYPE);
    assert!(matches!(refused(&bob, &with_context(&alice, less)), CommitError::Forbidden));

    let mut other = ours.clone();
    let required = RequiredCapabilitiesExtension::new(&[POLICY_TYPE], &[], &[CredentialType::Basic]);
    other.add_or_replace(Extension::RequiredCapabilities(required)).unwrap();
    assert!(matches!(refused(&bob, &with_context(&alice, other)), CommitError::Forbidden));

    let mut garbage = ours;
    let bytes = UnknownExtension(vec![0xff; 9]);
    garbage.add_or_replace(Extension::Unknown(POLICY_EXTENSION, bytes)).unwrap();
    assert!(matches!(refused(&bob, &with_context(&alice, garbage)), CommitError::Malformed));
}

#[test]
fn the_committers_leaf_keeps_account_and_device() {
    let [alice, bob, _] = three();
    let key = alice.who.device;
    let credential = |certificate: &Certificate| CredentialWithKey {
        credential: BasicCredential::new(certificate.encoded().to_vec()).into(),
        signature_key: key.as_bytes().into(),
    };
    let someone = SigningKey::from_bytes(&[77; 32]);
    let other_account = Certificate::issue(&someone, key, vec![1; 38], [1; 32], 1);
    let foreign = bob.who.identity.certificate().clone();
    for certificate in [other_account, foreign] {
        let commit = with_credential(&alice, credential(&certificate));
        assert!(matches!(refused(&bob, &commit), CommitError::Certificate));
    }
    let mut garbage = credential(alice.who.identity.certificate());
    garbage.credential = BasicCredential::new(vec![9; 40]).into();
    assert!(matches!(refused(&bob, &with_credential(&alice, garbage)), CommitError::Certificate));
}

#[test]
fn the_committers_device_key_does_not_change() {
    let [alice, bob, _] = three();
    let account = SigningKey::from_bytes(&[1; 32]);
    let key = SigningKey::from_bytes(&[88; 32]);
    let device = DeviceId(key.verifying_key().to_bytes());
    let certificate = Certificate::issue(&account, device, vec![1; 38], [1; 32], 1);
    assert!(certificate.account == alice.who.account);
    let new = DeviceIdentity::new(key, certificate);
    let commit = raw_commit(&alice, |group, provider, identity| {
        let signer = NewSignerBundle { signer: &new, credential_with_key: new.credential() };
        group
            .commit_builder()
            .load_psks(provider.storage())
            .unwrap()
            .build_with_new_signer(provider.rand(), provider.crypto(), identity, signer, |_| true)
            .unwrap()
            .stage_commit(provider)
            .unwrap()
            .into_commit()
            .tls_serialize_detached()
            .unwrap()
    });
    assert!(matches!(refused(&bob, &commit), CommitError::Certificate));
}

#[test]
fn nobody_is_added_under_anothers_certificate() {
    let [alice, bob, carol] = three();
    let mallory =
        DeviceIdentity::new(SigningKey::from_bytes(&[66; 32]), carol.who.identity.certificate().clone());
    let commit = raw_commit(&alice, |group, provider, identity| {
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(capabilities())
            .build(CIPHERSUITE, provider, &mallory, mallory.credential())
            .unwrap();
        built!(group.commit_builder().propose_adds([bundle.into_key_package()]), provider, identity)
    });
    assert!(matches!(refused(&bob, &commit), CommitError::Certificate));
}

/// A member whose openmls keeps proposals, as ours never does.
struct Outlaw {
    provider: OpenMlsRustCrypto,
    group: MlsGroup,
    who: Person,
}

fn with_outlaw() -> (Member, Outlaw) {
    let founder = Member::founder(1);
    let (who, provider) = (Person::new(9), OpenMlsRustCrypto::default());
    let bundle = KeyPackage::builder()
        .leaf_node_capabilities(capabilities())
        .build(CIPHERSUITE, &provider, &who.identity, who.identity.credential())
        .unwrap();
    let key_package = bundle.key_package().tls_serialize_detached().unwrap();
    let committed = founder.admit(&[(&who, &key_package)]);
    let welcome = MlsMessageIn::tls_deserialize_exact(committed.welcome.unwrap()).unwrap();
    let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else { panic!("no Welcome") };
    let group = StagedWelcome::new_from_welcome(&provider, &join_config(), welcome, None)
        .unwrap()
        .into_group(&provider)
        .unwrap();
    (Member::new(&founder.who, committed.child), Outlaw { provider, group, who })
}

#[test]
fn proposals_by_reference_are_forbidden() {
    let (alice, mut outlaw) = with_outlaw();
    let owner = LeafNodeIndex::new(0);
    outlaw.group.propose_remove_member(&outlaw.provider, &outlaw.who.identity, owner).unwrap();
    let (commit, ..) =
        outlaw.group.commit_to_pending_proposals(&outlaw.provider, &outlaw.who.identity).unwrap();
    let commit = commit.tls_serialize_detached().unwrap();
    assert!(matches!(refused(&alice, &commit), CommitError::Forbidden));
}

#[test]
fn a_standalone_proposal_is_no_commit() {
    let (alice, mut outlaw) = with_outlaw();
    let identity = outlaw.who.identity.clone();
    let parameters = LeafNodeParameters::default();
    let (proposal, _) = outlaw.group.propose_self_update(&outlaw.provider, &identity, parameters).unwrap();
    let proposal = proposal.tls_serialize_detached().unwrap();
    assert!(matches!(refused(&alice, &proposal), CommitError::Malformed));
}

#[test]
fn pre_shared_keys_are_forbidden() {
    let (alice, mut outlaw) = with_outlaw();
    let psk = Psk::External(ExternalPsk::new(vec![1; 8]));
    let id = PreSharedKeyId::new(CIPHERSUITE, outlaw.provider.rand(), psk).unwrap();
    id.store(&outlaw.provider, &[2; 32]).unwrap();
    let proposal = Proposal::PreSharedKey(Box::new(PreSharedKeyProposal::new(id)));
    let commit =
        built!(outlaw.group.commit_builder().add_proposal(proposal), &outlaw.provider, &outlaw.who.identity);
    assert!(matches!(refused(&alice, &commit), CommitError::Invalid));
}

#[test]
fn nobody_commits_from_outside() {
    let [alice, bob, _] = three();
    let (group, provider) = alice.state.fork().unwrap();
    let info = group.export_group_info(provider.crypto(), &alice.who.identity, true).unwrap();
    let info = MlsMessageIn::tls_deserialize_exact(info.tls_serialize_detached().unwrap()).unwrap();
    let MlsMessageBodyIn::GroupInfo(info) = info.extract() else { panic!("no GroupInfo") };
    let (stranger, outside) = (Person::new(9), OpenMlsRustCrypto::default());
    let (_, bundle) = MlsGroup::external_commit_builder()
        .with_config(join_config())
        .build_group(&outside, info, stranger.identity.credential())
        .unwrap()
        .leaf_node_parameters(LeafNodeParameters::builder().with_capabilities(capabilities()).build())
        .load_psks(outside.storage())
        .unwrap()
        .build(outside.rand(), outside.crypto(), &stranger.identity, |_| true)
        .unwrap()
        .finalize(&outside)
        .unwrap();
    let commit = bundle.into_commit().tls_serialize_detached().unwrap();
    assert!(matches!(refused(&bob, &commit), CommitError::Forbidden));
}

#[test]
fn a_secret_that_does_not_open_here_is_not_the_commits_fault() {
    let [alice, bob, mut carol] = three();
    let committed = alice.refresh();
    // Carol's private keys are damaged, which looks to her like a path secret that was sealed wrongly.
    let mut rows = carol.stored_mut().clone();
    let (_, keys) = rows.iter_mut().find(|(key, _)| key.starts_with(b"epoch-keys")).unwrap();
    damage_private_keys(keys);
    let damaged = Member::new(&carol.who, GroupState::load(GID, Rows::from_rows(rows)).unwrap());
    let Outcome::Opaque(seen) = damaged.process(&committed.commit).outcome else { panic!("it opens") };
    let child = bob.follow(&committed.commit);
    assert_eq!(seen.sid, child.state.facts().sid);

    let unauthorised = raw_commit(&bob, |group, provider, identity| {
        built!(group.commit_builder().propose_removals([LeafNodeIndex::new(0)]), provider, identity)
    });
    assert!(matches!(refused(&damaged, &unauthorised), CommitError::Unauthorised(_)));
}

fn damage_private_keys(row: &mut Vec<u8>) {
    fn visit(value: &mut Value, private: bool) {
        match value {
            Value::Map(entries) => entries.iter_mut().for_each(|(name, value)| {
                visit(value, private || name.as_text() == Some("private_key"));
            }),
            Value::Array(items) if private && items.first().is_some_and(Value::is_integer) => {
                items[5] = Value::from(7);
                items[6] = Value::from(9);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| visit(item, private)),
            Value::Bytes(bytes) if private => bytes[5..9].fill(7),
            _ => {}
        }
    }
    let mut value: Value = ciborium::from_reader(&row[..]).unwrap();
    visit(&mut value, false);
    let before = std::mem::take(row);
    ciborium::into_writer(&value, &mut *row).unwrap();
    assert_ne!(before, *row, "no private key found");
}

#[test]
fn a_long_justification_is_refused_on_both_sides() {
    let [alice, bob, _] = three();
    let long = vec![0; MAX_JUSTIFICATION_BYTES + 1];
    let own = alice.state.commit(&alice.who.identity, alice.no_change(), long.clone());
    assert!(matches!(own.err(), Some(GroupError::TooLarge)));
    let forced = raw_commit(&alice, |group, provider, identity| {
        group.set_aad(long);
        built!(group.commit_builder().force_self_update(true), provider, identity)
    });
    assert!(matches!(refused(&bob, &forced), CommitError::Malformed));
}

#[test]
fn nobody_speaks_in_anothers_name() {
    let [mut alice, mut bob, mut carol] = three();
    let carols_leaf = carol.state.facts().own_leaf;
    let mut claim = carols_leaf.to_be_bytes().to_vec();
    claim.extend([0; 4]);
    bob.state.group.set_aad(claim);
    let identity = bob.who.identity.clone();
    let forged = bob.state.group.create_message(&bob.state.provider, &identity, b"I am Carol").unwrap();
    let body = forged.tls_serialize_detached().unwrap();
    let forged = OpenedFrame {
        kind: FrameKind::Application,
        leaf: carols_leaf,
        counter: 0,
        body,
        skeleton_signature: None,
    };
    assert_eq!(alice.state.open_application(&forged).err(), Some(ApplicationError::WrongSender));
    let genuine = opened(&mut carol, b"really", &alice);
    assert_eq!(alice.state.open_application(&genuine).unwrap().plaintext, b"really");
}

/// The Welcome to a group that someone founded with openmls alone.
fn foreign_welcome(
    founder: &DeviceIdentity,
    extensions: Extensions<GroupContext>,
    key_package: &[u8],
) -> Vec<u8> {
    let provider = OpenMlsRustCrypto::default();
    let config = MlsGroupCreateConfig::builder()
        .ciphersuite(CIPHERSUITE)
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .capabilities(capabilities())
        .with_group_context_extensions(extensions)
        .build();
    let id = MlsGroupId::from_slice(GID.as_bytes());
    let credential = founder.credential();
    let mut group = MlsGroup::new_with_group_id(&provider, founder, &config, id, credential).unwrap();
    let added = read_key_package(key_package).unwrap();
    let (_, welcome, _) = group.add_members(&provider, founder, &[added]).unwrap();
    welcome.tls_serialize_detached().unwrap()
}

#[test]
fn a_group_of_another_kind_is_not_joined() {
    let (mallory, bob) = (Person::new(9), Person::new(2));
    let fresh = fresh_key_package(&bob.identity).unwrap();
    let welcome = foreign_welcome(&mallory.identity, Extensions::empty(), &fresh.bytes);
    let joined = GroupState::join(&bob.identity, GID, Rows::from_rows(fresh.rows.upserts), &welcome, [0; 32]);
    assert!(matches!(joined.err(), Some(GroupError::Context)));
}

#[test]
fn a_group_with_a_borrowed_certificate_is_not_joined() {
    let (alice, bob) = (Person::new(1), Person::new(2));
    let borrowed = alice.identity.certificate().clone();
    let mallory = DeviceIdentity::new(SigningKey::from_bytes(&[66; 32]), borrowed);
    assert!(matches!(
        GroupState::create(&mallory, GID, founding_policy(&alice)).err(),
        Some(GroupError::Certificate)
    ));
    let fresh = fresh_key_package(&bob.identity).unwrap();
    let context = context_extensions(&founding_policy(&alice)).unwrap();
    let welcome = foreign_welcome(&mallory, context, &fresh.bytes);
    let joined = GroupState::join(&bob.identity, GID, Rows::from_rows(fresh.rows.upserts), &welcome, [0; 32]);
    assert!(matches!(joined.err(), Some(GroupError::Certificate)));
}
