//! What every member does, whatever it runs.

use spacepanda_core::id::DeviceId;

use crate::paper::Device;

/// A state, as each side sees it by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) sid: [u8; 32],
    pub(crate) epoch: u64,
    pub(crate) check: [u8; 8],
    pub(crate) env_tag: [u8; 16],
    pub(crate) route_secret: [u8; 32],
    /// Leaf and device.
    pub(crate) roster: Vec<(u32, [u8; 32])>,
    /// The policy in the GroupContext.
    pub(crate) policy: Vec<u8>,
}

/// What a commit is to do.
#[derive(Clone, Default)]
pub(crate) struct Change {
    /// tls(KeyPackage)
    pub(crate) adds: Vec<Vec<u8>>,
    pub(crate) removes: Vec<DeviceId>,
    /// The policy after it.
    pub(crate) policy: Vec<u8>,
    /// The commit's authenticated data.
    pub(crate) justification: Vec<u8>,
}

/// What goes out when someone commits.
pub(crate) struct Sent {
    /// The commit, sealed in its parent.
    pub(crate) frame: Vec<u8>,
    /// MLSMessage(Welcome)
    pub(crate) welcome: Option<Vec<u8>>,
}

/// What a commit did to the member that took it in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// It is in the child state.
    Stayed,
    /// It is out.
    Removed,
}

/// A message as it was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) text: String,
    /// By the MLS signature and by the event's, which must agree.
    pub(crate) by: [u8; 32],
    /// As in the frame and in the authenticated data, which must agree.
    pub(crate) counter: u32,
}

pub(crate) trait Member {
    fn device(&self) -> &Device;
    fn view(&self) -> View;
    /// Says something, in a frame.
    fn write(&mut self, text: &str) -> Vec<u8>;
    fn read(&mut self, frame: &[u8]) -> Heard;
    /// Commits a change that the others are to accept, and follows it.
    fn commit(&mut self, change: &Change) -> Sent;
    /// Takes in another member's commit.
    fn follow(&mut self, frame: &[u8]) -> Followed;
}
