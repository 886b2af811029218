//! Members made of `mls-rs`. What they know of frames, states and exporters is written here from
//! docs/protocol.md; nothing in this file may use our engine.

use std::{collections::BTreeMap, time::Duration};

use ed25519_dalek::Signer as _;
use mls_rs::{
    CipherSuite, Client, Extension, ExtensionList, Group, MlsMessage,
    client_builder::{BaseConfig, PaddingMode, WithCryptoProvider, WithIdentityProvider},
    extension::{ExtensionType, MlsExtension as _, built_in::RequiredCapabilitiesExt},
    group::{self, CommitEffect, ReceivedMessage},
    identity::{
        SigningIdentity,
        basic::{BasicCredential, BasicIdentityProvider},
    },
    mls_rules::{DefaultMlsRules, EncryptionOptions},
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use spacepanda_core::id::DeviceId;
use spacepanda_proto::peer::v1 as wire;

use crate::{
    envelope::{APPLICATION, COMMIT, Content, Envelope},
    member::{Change, Followed, Heard, Member, Sent, View},
    paper::{Device, GID, Request, certified_device, founding_policy, read_message, sign_join},
};

const SP_POLICY: ExtensionType = ExtensionType::new(0xF0A0);
/// MLSMessage: version mls10, wire format KeyPackage (RFC 9420 §6).
const KEY_PACKAGE_START: [u8; 4] = [0, 1, 0, 5];
/// confirmation_tag<V> ‖ signer u32 ‖ signature<V>: how a GroupInfo ends (RFC 9420 §12.4.3).
const GROUP_INFO_END: usize = (1 + 32) + 4 + (2 + 64);

/// Ed25519, after each commit.
const SIGNATURE: usize = 64;
/// confirmation_tag<V> ‖ membership_tag<V>: how a PublicMessage of a member ends (RFC 9420 §6.2).
const PUBLIC_MESSAGE_END: usize = 2 * (1 + 32);

type Config = WithCryptoProvider<RustCryptoProvider, WithIdentityProvider<BasicIdentityProvider, BaseConfig>>;

/// How it is set up, where one who joins our groups has a choice.
pub(crate) struct Habits {
    pub(crate) lists_policy: bool,
    pub(crate) lifetime: Duration,
    pub(crate) encrypts_handshake: bool,
}

impl Default for Habits {
    fn default() -> Self {
        // The library's own lifetime, a year, is longer than our engine takes.
        let lifetime = Duration::from_secs(84 * 24 * 60 * 60);
        Self { lists_policy: true, lifetime, encrypts_handshake: false }
    }
}

/// One who is not in a group yet.
pub(crate) struct Stranger {
    device: Device,
    client: Client<Config>,
}

impl Stranger {
    pub(crate) fn new(number: u8, habits: &Habits) -> Self {
        let device = Device::new(number);
        let credential = BasicCredential::new(device.certificate.encoded().to_vec()).into_credential();
        let identity = SigningIdentity::new(credential, device.id().0.to_vec().into());
        let mut rules = DefaultMlsRules::new();
        if habits.encrypts_handshake {
            rules = rules.with_encryption_options(EncryptionOptions::new(true, PaddingMode::default()));
        }
        let client = Client::builder()
            .identity_provider(BasicIdentityProvider::new())
            .crypto_provider(RustCryptoProvider::new())
            .mls_rules(rules)
            .extension_types(habits.lists_policy.then_some(SP_POLICY))
            .key_package_lifetime(habits.lifetime)
            .signing_identity(
                identity,
                device.key.to_keypair_bytes().to_vec().into(),
                CipherSuite::CURVE25519_AES128,
            )
            .build();
        Self { device, client }
    }

    pub(crate) fn request(&self) -> Request {
        let nothing = ExtensionList::new;
        let message = self.client.generate_key_package_message(nothing(), nothing(), None).unwrap();
        let bytes = message.to_bytes().unwrap();
        let key_package = bytes.strip_prefix(&KEY_PACKAGE_START).unwrap().to_vec();
        Request { who: self.device.clone(), signature: sign_join(&key_package), key_package }
    }

    pub(crate) fn join(self, welcome: &[u8], route_secret: [u8; 32]) -> Other {
        let welcome = MlsMessage::from_bytes(welcome).unwrap();
        let (group, _) = self.client.join_group(None, &welcome, None).unwrap();
        Other { device: self.device, group, route_secret, sent: 0 }
    }

    pub(crate) fn found(self) -> Other {
        let context = context(founding_policy(&self.device));
        let group =
            self.client.create_group_with_id(GID.to_vec(), context, ExtensionList::new(), None).unwrap();
        let mut route_secret = [0; 32];
        getrandom::fill(&mut route_secret).unwrap();
        Other { device: self.device, group, route_secret, sent: 0 }
    }

    /// Commits itself in from outside, with a GroupInfo that a member gave away.
    pub(crate) fn commit_externally(self, group_info: &[u8], justification: Vec<u8>) -> Vec<u8> {
        let group_info = MlsMessage::from_bytes(group_info).unwrap();
        let builder = self.client.external_commit_builder().unwrap().with_authenticated_data(justification);
        let (_, commit) = builder.build(group_info).unwrap();
        commit.to_bytes().unwrap()
    }
}

/// One who is.
pub(crate) struct Other {
    device: Device,
    group: Group<Config>,
    route_secret: [u8; 32],
    /// Application messages in this state.
    sent: u32,
}

impl Other {
    pub(crate) fn envelope(&self) -> Envelope {
        Envelope {
            route_secret: self.route_secret,
            tag: self.export("sp/envtag"),
            key: self.export("sp/env"),
        }
    }

    pub(crate) fn leaf(&self) -> u32 {
        self.group.current_member_index()
    }

    /// A PrivateMessage of this state, with any authenticated data.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8], authenticated_data: Vec<u8>) -> Vec<u8> {
        let message = self.group.encrypt_application_message(plaintext, authenticated_data);
        message.unwrap().to_bytes().unwrap()
    }

    /// What lets others commit themselves in.
    pub(crate) fn group_info(&self) -> Vec<u8> {
        self.group.group_info_message_allowing_ext_commit(true).unwrap().to_bytes().unwrap()
    }

    /// Makes a commit, stays where it is, and forgets it.
    pub(crate) fn attempt(&mut self, change: &Change) -> Vec<u8> {
        let (sent, _) = self.stage(change);
        self.group.clear_pending_commit();
        sent.frame
    }

    /// The commit, and whether it has an update path.
    fn stage(&mut self, change: &Change) -> (Sent, bool) {
        let envelope = self.envelope();
        let leaf = self.leaf();
        let policy_before = self.view().policy;
        let leaves: Vec<_> = change.removes.iter().map(|device| self.leaf_of(device)).collect();
        let mut builder = self.group.commit_builder();
        for key_package in &change.adds {
            let message = [&KEY_PACKAGE_START[..], key_package].concat();
            builder = builder.add_member(MlsMessage::from_bytes(&message).unwrap()).unwrap();
        }
        for leaf in leaves {
            builder = builder.remove_member(leaf).unwrap();
        }
        if change.policy != policy_before {
            builder = builder.set_group_context_ext(context(change.policy.clone())).unwrap();
        }
        let output = builder.authenticated_data(change.justification.clone()).build().unwrap();
        let commit = output.commit_message.to_bytes().unwrap();
        let signature = self.sign_skeleton(&commit, class(change, &policy_before));
        let body = [commit, signature].concat();
        let sent = Sent {
            frame: envelope.seal(&Content { kind: COMMIT, leaf, counter: 0, body }),
            welcome: output.welcome_messages.first().map(|welcome| welcome.to_bytes().unwrap()),
        };
        (sent, output.contains_update_path)
    }

    /// Where a commit leads, in this member's word; it follows from the commit's bytes.
    fn sign_skeleton(&self, commit: &[u8], class: u8) -> Vec<u8> {
        let view = self.view();
        let tag = &commit[commit.len() - PUBLIC_MESSAGE_END..][..33];
        let epoch = (view.epoch + 1).to_be_bytes();
        let sid = Sha256::digest([&b"sid/1"[..], &GID, &epoch, tag].concat());
        let id = Sha256::digest(commit);
        let signed = [&b"spacepanda/skeleton/1\0"[..], &GID, &view.sid, &sid, &epoch, &[class], &id].concat();
        self.device.key.sign(&signed).to_bytes().to_vec()
    }

    /// The library is in the child state already.
    fn enter_child(&mut self, effect: &CommitEffect, before: &[(u32, DeviceId)]) -> Followed {
        let CommitEffect::NewEpoch(_) = effect else {
            assert!(matches!(effect, CommitEffect::Removed { .. }));
            return Followed::Removed;
        };
        self.sent = 0;
        // Whoever gets a fresh leaf for the old one has not left.
        let after = self.roster();
        if before.iter().any(|(_, device)| after.iter().all(|(_, other)| other != device)) {
            self.route_secret = self.export("sp/route");
        }
        Followed::Stayed
    }

    fn export<const N: usize>(&self, label: &str) -> [u8; N] {
        self.group.export_secret(label.as_bytes(), &[], N).unwrap().as_bytes().try_into().unwrap()
    }

    /// tls(confirmation_tag), which the library shows nowhere but in a GroupInfo.
    fn confirmation_tag(&self) -> Vec<u8> {
        let info = self.group.group_info_message(false).unwrap().to_bytes().unwrap();
        let end = &info[info.len() - GROUP_INFO_END..];
        assert_eq!((end[0], end[37], end[38]), (32, 0x40, 64), "lengths of tag and signature");
        end[..33].to_vec()
    }

    fn roster(&self) -> Vec<(u32, DeviceId)> {
        self.group.roster().members_iter().map(|member| (member.index, device_of(&member))).collect()
    }

    fn leaf_of(&self, device: &DeviceId) -> u32 {
        self.roster().into_iter().find(|(_, of)| of == device).unwrap().0
    }

    /// The content of a frame that names this state.
    fn open(&self, frame: &[u8], kind: u8) -> Content {
        let envelope = self.envelope();
        assert!(frame.starts_with(&envelope.header()));
        let content = envelope.open(frame).unwrap();
        assert_eq!(content.kind, kind);
        content
    }

    fn process(&mut self, message: &[u8]) -> ReceivedMessage {
        self.group.process_incoming_message(MlsMessage::from_bytes(message).unwrap()).unwrap()
    }
}

impl Member for Other {
    fn device(&self) -> &Device {
        &self.device
    }

    fn view(&self) -> View {
        let context = self.group.context();
        assert_eq!(context.extensions.len(), 2);
        let required: RequiredCapabilitiesExt = context.extensions.get_as().unwrap().unwrap();
        assert_eq!(required.extensions(), [SP_POLICY]);
        let sid = Sha256::new()
            .chain_update(b"sid/1")
            .chain_update(GID)
            .chain_update(context.epoch.to_be_bytes())
            .chain_update(self.confirmation_tag());
        View {
            sid: sid.finalize().into(),
            epoch: context.epoch,
            check: self.export("sp/check"),
            env_tag: self.export("sp/envtag"),
            route_secret: self.route_secret,
            roster: self.roster().into_iter().map(|(leaf, device)| (leaf, device.0)).collect(),
            policy: context.extensions.get(SP_POLICY).unwrap().extension_data,
        }
    }

    fn write(&mut self, text: &str) -> Vec<u8> {
        let (leaf, counter) = (self.leaf(), self.sent);
        self.sent += 1;
        let body = self.encrypt(&self.device.says(text), Content::binding(leaf, counter));
        self.envelope().seal(&Content { kind: APPLICATION, leaf, counter, body })
    }

    fn read(&mut self, frame: &[u8]) -> Heard {
        let content = self.open(frame, APPLICATION);
        let ReceivedMessage::ApplicationMessage(heard) = self.process(&content.body) else {
            panic!("not an application message")
        };
        assert_eq!(heard.sender_index, content.leaf);
        assert_eq!(heard.authenticated_data, Content::binding(content.leaf, content.counter));
        let (author, text) = read_message(heard.data());
        assert!(author == device_of(&self.group.member_at_index(heard.sender_index).unwrap()));
        Heard { text, by: author.0, counter: content.counter }
    }

    fn commit(&mut self, change: &Change) -> Sent {
        let (sent, has_path) = self.stage(change);
        assert!(has_path);
        let before = self.roster();
        let applied = self.group.apply_pending_commit().unwrap();
        assert_eq!(self.enter_child(&applied.effect, &before), Followed::Stayed);
        sent
    }

    fn follow(&mut self, frame: &[u8]) -> Followed {
        let content = self.open(frame, COMMIT);
        let (commit, signature) = content.body.split_last_chunk::<SIGNATURE>().unwrap();
        assert!(signature.iter().any(|byte| *byte != 0));
        let before = self.roster();
        let ReceivedMessage::Commit(commit) = self.process(commit) else { panic!("not a commit") };
        assert_eq!(commit.committer, content.leaf);
        self.enter_child(&commit.effect, &before)
    }
}

/// 0 where a role is lost or changes, 1 where a leaf comes, else 2.
fn class(change: &Change, policy_before: &[u8]) -> u8 {
    let roles = |policy: &[u8]| {
        let policy = wire::Policy::decode(policy).unwrap();
        policy.accounts.into_iter().map(|entry| (entry.account, entry.role)).collect::<BTreeMap<_, _>>()
    };
    let after = roles(&change.policy);
    if roles(policy_before).iter().any(|(account, role)| *role != 0 && after.get(account) != Some(role)) {
        0
    } else if change.adds.is_empty() {
        2
    } else {
        1
    }
}

fn context(policy: Vec<u8>) -> ExtensionList {
    let required = RequiredCapabilitiesExt::new(vec![SP_POLICY], vec![], vec![]).into_extension().unwrap();
    vec![required, Extension::new(SP_POLICY, policy)].into()
}

fn device_of(member: &group::Member) -> DeviceId {
    let identity = &member.signing_identity;
    let certificate = &identity.credential.as_basic().unwrap().identifier;
    certified_device(certificate, identity.signature_key.as_bytes())
}
