//! Application messages and tips of one state: the hot path. Nothing is loaded or copied here; only
//! the message secrets and the send counter of the state change.
//!
//! An application message's authenticated data is its frame's leaf and counter: a member who seals
//! someone else's message in a frame of its own is found out before a key is used up.

use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::prelude::{
    MlsMessageIn, ProcessMessageError, ProcessedMessageContent, Sender, ValidationError,
    tls_codec::{Deserialize as _, Serialize as _, VLByteVec},
};

use super::{
    authorize::RosterMember,
    effect::member_at,
    error::{ApplicationError, FrameError, GroupError},
    frame::{Frame, FrameKind, MAX_BODY_BYTES, OpenedFrame},
    identity::DeviceIdentity,
    overlay::RowError,
    state::{GroupState, SEND_COUNTER_ROW},
};
use crate::id::{FrameId, GroupId};

/// Longest plaintext of an application message, bytes: a frame less what MLS adds, generously.
pub const MAX_PLAINTEXT_BYTES: usize = MAX_BODY_BYTES - 1024;

/// MLSMessage: version mls10, wire format PrivateMessage (RFC 9420 §6).
const PRIVATE_MESSAGE_START: [u8; 4] = [0, 1, 0, 2];
const CONTENT_TYPE_APPLICATION: u8 = 1;

/// A sealed application message. To be stored with the state's changes before it is sent.
pub struct SealedFrame {
    /// The frame.
    pub bytes: Vec<u8>,
    /// Its id.
    pub id: FrameId,
    /// How many application messages of this device in this state came before.
    pub counter: u32,
}

/// An application message and who wrote it.
pub struct Application {
    /// Its author, proved by the MLS signature.
    pub sender: RosterMember,
    /// The author's leaf.
    pub leaf: u32,
    /// How many application messages of the author in this state came before, as the author says.
    pub counter: u32,
    /// encoded ApplicationPlaintext
    pub plaintext: Vec<u8>,
}

impl GroupState {
    /// Encrypts and seals an application message.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`] before a key was used; else the state must be dropped and loaded again.
    pub fn seal_application(
        &mut self,
        identity: &DeviceIdentity,
        plaintext: &[u8],
    ) -> Result<SealedFrame, GroupError> {
        if plaintext.len() > MAX_PLAINTEXT_BYTES {
            return Err(GroupError::TooLarge);
        }
        let (leaf, counter) = (self.facts.own_leaf, self.send_counter);
        let next = counter.checked_add(1).ok_or(GroupError::TooLarge)?;
        self.group.set_aad(binding(leaf, counter).to_vec());
        let message = self
            .group
            .create_message(&self.provider, identity, plaintext)
            .map_err(GroupError::mls)?
            .tls_serialize_detached()
            .map_err(GroupError::mls)?;
        self.send_counter = next;
        self.provider.rows().put(SEND_COUNTER_ROW.to_vec(), next.to_be_bytes().to_vec());
        let bytes = self.keys.seal(FrameKind::Application, leaf, counter, &message)?;
        Ok(SealedFrame { id: FrameId::of(&bytes), bytes, counter })
    }

    /// Seals a tip.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`].
    pub fn seal_tip(&self, signed_tip: &[u8]) -> Result<Vec<u8>, GroupError> {
        self.keys.seal(FrameKind::Tip, self.facts.own_leaf, 0, signed_tip)
    }

    /// Opens a frame's seal, no more: what is inside is still to be verified.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn open_frame(&self, frame: &Frame) -> Result<OpenedFrame, FrameError> {
        self.keys.open(frame)
    }

    /// Decrypts and verifies an application message.
    ///
    /// # Errors
    /// [`ApplicationError`]; the state is as it was, but for a sender who lied about itself.
    pub fn open_application(&mut self, opened: &OpenedFrame) -> Result<Application, ApplicationError> {
        let sender = self.check_binding(opened)?;
        let message = MlsMessageIn::tls_deserialize_exact(&opened.body)
            .ok()
            .and_then(|message| message.try_into_protocol_message().ok())
            .ok_or(ApplicationError::Malformed)?;
        let processed = self.group.process_message(&self.provider, message).map_err(refusal)?;
        if !matches!(processed.sender(), Sender::Member(leaf) if leaf.u32() == opened.leaf) {
            return Err(ApplicationError::WrongSender);
        }
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Ok(Application {
                sender,
                leaf: opened.leaf,
                counter: opened.counter,
                plaintext: message.into_bytes(),
            }),
            ProcessedMessageContent::OwnPrivateMessage => Err(ApplicationError::Own),
            _ => Err(ApplicationError::Malformed),
        }
    }

    /// Everything that can be known before a key is touched.
    fn check_binding(&self, opened: &OpenedFrame) -> Result<RosterMember, ApplicationError> {
        if opened.kind != FrameKind::Application {
            return Err(ApplicationError::Malformed);
        }
        let private = PrivateHead::read(&opened.body).ok_or(ApplicationError::Malformed)?;
        if private.gid != self.facts.gid || private.epoch != self.facts.epoch {
            return Err(ApplicationError::Invalid);
        }
        if private.authenticated_data.as_slice() != binding(opened.leaf, opened.counter) {
            return Err(ApplicationError::WrongSender);
        }
        if opened.leaf == self.facts.own_leaf {
            return Err(ApplicationError::Own);
        }
        let sender = member_at(&self.facts.standing, opened.leaf);
        sender.cloned().ok_or(ApplicationError::WrongSender)
    }
}

/// The fields of a PrivateMessage that are in clear (RFC 9420 §6.3); openmls does not show them.
struct PrivateHead {
    gid: GroupId,
    epoch: u64,
    authenticated_data: VLByteVec,
}

impl PrivateHead {
    fn read(message: &[u8]) -> Option<Self> {
        let mut rest = message.strip_prefix(&PRIVATE_MESSAGE_START)?;
        let gid = VLByteVec::tls_deserialize(&mut rest).ok()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (&content_type, mut rest) = rest.split_first()?;
        let authenticated_data = VLByteVec::tls_deserialize(&mut rest).ok()?;
        let gid = GroupId::try_from(gid.as_slice()).ok()?;
        let epoch = u64::from_be_bytes(*epoch);
        (content_type == CONTENT_TYPE_APPLICATION).then_some(Self { gid, epoch, authenticated_data })
    }
}

fn binding(leaf: u32, counter: u32) -> [u8; 8] {
    ((u64::from(leaf) << 32) | u64::from(counter)).to_be_bytes()
}

fn refusal(error: ProcessMessageError<RowError>) -> ApplicationError {
    let ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(error)) = error else {
        return ApplicationError::Invalid;
    };
    match error {
        MessageDecryptionError::SecretTreeError(SecretTreeError::SecretReuseError) => {
            ApplicationError::Reused
        }
        MessageDecryptionError::SecretTreeError(SecretTreeError::TooDistantInThePast) => {
            ApplicationError::TooOld
        }
        MessageDecryptionError::SecretTreeError(SecretTreeError::TooDistantInTheFuture) => {
            ApplicationError::TooFar
        }
        MessageDecryptionError::MalformedContent => ApplicationError::Malformed,
        _ => ApplicationError::Invalid,
    }
}
