//! What the network reads of peers' words, for those who feed it with nonsense (feature `testing`).

use prost::Message as _;
use spacepanda_proto::peer::v1::{EchoReply, Skeleton, Support as WireSupport};

use super::{branches, echo, intake, tip};
use crate::{group::message::Application, id::GroupId};

/// Whether this is a Tip, signed by the device that it names.
pub fn reads_tip(gid: GroupId, body: &[u8]) -> bool {
    tip::read_tip(gid, body).is_some()
}

/// Whether an application message holds events only, of those who may say them.
pub fn reads_plaintext(gid: GroupId, application: &Application) -> bool {
    intake::reads(gid, application)
}

/// Whether this is a Support, signed by the device that it names.
pub fn reads_support(gid: GroupId, encoded: &[u8]) -> bool {
    let support = WireSupport::decode(encoded).ok().and_then(|support| branches::read(&support));
    support.is_some_and(|support| support.verify(&gid).is_ok())
}

/// Whether this is a skeleton, signed by the committer that it names.
pub fn reads_skeleton(gid: GroupId, encoded: &[u8]) -> bool {
    let read = Skeleton::decode(encoded).ok().and_then(|said| branches::read_skeleton(&said));
    read.is_some_and(|(skeleton, signature)| skeleton.signed(&gid, signature).is_ok())
}

/// Whether this says what its sender holds of a device.
pub fn reads_echo(encoded: &[u8]) -> bool {
    EchoReply::decode(encoded).is_ok_and(|reply| echo::read(&reply).is_some())
}
