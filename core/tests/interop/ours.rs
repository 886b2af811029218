//! Members who run our engine.

use prost::Message as _;
use spacepanda_core::{
    dag::Skeleton,
    event::SignedEvent,
    group::{
        commit,
        engine::Outcome,
        error::{ApplicationError, CommitError, FrameError},
        frame::{Frame, FrameKind, OpenedFrame},
        identity::DeviceIdentity,
        key_package::{FreshKeyPackage, fresh_key_package},
        message::Application,
        policy::Policy,
        rows::Rows,
        state::GroupState,
    },
    id::GroupId,
};
use spacepanda_proto::peer::v1 as wire;

use crate::{
    member::{Change, Followed, Heard, Member, Sent, View},
    paper::{Device, GID, Request, founding_policy, sign_join},
};

/// One who is not in the group yet.
pub(crate) struct Joiner {
    device: Device,
    fresh: FreshKeyPackage,
}

impl Joiner {
    pub(crate) fn new(number: u8) -> Self {
        let device = Device::new(number);
        let fresh = fresh_key_package(&identity(&device)).unwrap();
        Self { device, fresh }
    }

    pub(crate) fn request(&self) -> Request {
        let key_package = self.fresh.bytes.clone();
        Request { who: self.device.clone(), signature: sign_join(&key_package), key_package }
    }

    pub(crate) fn join(self, welcome: &[u8], route_secret: [u8; 32]) -> Ours {
        let identity = identity(&self.device);
        let rows = Rows::from_rows(self.fresh.rows.upserts);
        let state = GroupState::join(&identity, GroupId(GID), rows, welcome, route_secret).unwrap();
        Ours { device: self.device, identity, state }
    }
}

/// One who is.
pub(crate) struct Ours {
    device: Device,
    identity: DeviceIdentity,
    state: GroupState,
}

impl Ours {
    pub(crate) fn found(number: u8) -> Self {
        let device = Device::new(number);
        let identity = identity(&device);
        let policy = Policy::decode(&founding_policy(&device)).unwrap();
        let state = GroupState::create(&identity, GroupId(GID), policy).unwrap();
        Self { device, identity, state }
    }

    /// The HPKE key of its own leaf.
    pub(crate) fn encryption_key(&self) -> [u8; 32] {
        self.state.facts().standing.member(&self.device.id()).unwrap().encryption_key
    }

    pub(crate) fn open(&self, frame: &[u8]) -> Result<OpenedFrame, FrameError> {
        self.state.open_frame(&Frame::decode(frame)?)
    }

    pub(crate) fn decrypt(&mut self, opened: &OpenedFrame) -> Result<Application, ApplicationError> {
        self.state.open_application(opened)
    }

    /// Why a commit is refused, if it is; nothing is changed.
    pub(crate) fn refusal(&self, frame: &[u8]) -> Option<CommitError> {
        let before = self.state.facts().sid;
        let refusal = self.state.process_commit(&self.open(frame).unwrap().body).err();
        assert!(self.state.facts().sid == before);
        refusal
    }
}

impl Member for Ours {
    fn device(&self) -> &Device {
        &self.device
    }

    fn view(&self) -> View {
        let facts = self.state.facts();
        let roster = facts.standing.roster.iter().map(|member| (member.leaf, member.certificate.device.0));
        View {
            sid: facts.sid.0,
            epoch: facts.epoch,
            check: facts.check,
            env_tag: facts.env_tag,
            route_secret: *self.state.route_secret(),
            roster: roster.collect(),
            policy: facts.standing.policy.encode(),
        }
    }

    fn write(&mut self, text: &str) -> Vec<u8> {
        self.state.seal_application(&self.identity, &self.device.says(text)).unwrap().bytes
    }

    fn read(&mut self, frame: &[u8]) -> Heard {
        let opened = self.open(frame).unwrap();
        let heard = self.decrypt(&opened).unwrap();
        let plaintext = wire::ApplicationPlaintext::decode(&*heard.plaintext).unwrap();
        let Some(wire::application_plaintext::Kind::Fresh(fresh)) = plaintext.kind else { panic!("carried") };
        let event = SignedEvent::decode(&fresh.events[0]).unwrap().event;
        assert!(event.author == heard.sender.certificate.device, "author and MLS sender");
        let spacepanda_core::event::Body::Text { text, .. } = event.body else { panic!("not a text") };
        Heard { text, by: event.author.0, counter: heard.counter }
    }

    fn commit(&mut self, change: &Change) -> Sent {
        let policy = Policy::decode(&change.policy).unwrap();
        let wanted = commit::Change { adds: change.adds.clone(), removes: change.removes.clone(), policy };
        let committed = self.state.commit(&self.identity, wanted, change.justification.clone()).unwrap();
        self.state = committed.child;
        Sent { frame: committed.frame, welcome: committed.welcome }
    }

    fn follow(&mut self, frame: &[u8]) -> Followed {
        let opened = self.open(frame).unwrap();
        assert_eq!(opened.kind, FrameKind::Commit);
        let processed = self.state.process_commit(&opened.body).unwrap();
        if let Outcome::Child(child) = &processed.outcome {
            let skeleton = Skeleton {
                parent: self.state.facts().sid,
                sid: child.facts().sid,
                epoch: child.facts().epoch,
                class: processed.authorized.class,
                committer: processed.committer,
                commit: processed.commit_id,
            };
            assert!(skeleton.signed(&GroupId(GID), opened.skeleton_signature.unwrap()).is_ok());
        }
        match processed.outcome {
            Outcome::Child(child) => {
                self.state = child;
                Followed::Stayed
            }
            Outcome::Removed(_) => Followed::Removed,
            Outcome::Opaque(_) => panic!("a commit's secret does not open"),
        }
    }
}

fn identity(device: &Device) -> DeviceIdentity {
    DeviceIdentity::new(device.key.clone(), device.certificate.clone())
}
