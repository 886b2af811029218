//! openmls's storage interface on the overlay: which value goes under which label.
//!
//! Standalone proposals, external PSKs and stored signature keys do not exist in this protocol; what
//! openmls would keep for them is refused or empty.

use std::sync::atomic::Ordering::Relaxed;

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};

use super::{ENCRYPTION_KEY, KEY_PACKAGE, Overlay, RowError, row_key};

const EPOCH_KEYS: &str = "epoch-keys";
const TREE: &str = "tree";
const CONTEXT: &str = "context";
const INTERIM_TRANSCRIPT_HASH: &str = "interim-transcript-hash";
const CONFIRMATION_TAG: &str = "confirmation-tag";
const CONFIG: &str = "config";
const GROUP_STATE: &str = "group-state";
const OWN_LEAF: &str = "own-leaf";
const EPOCH_SECRETS: &str = "epoch-secrets";
const RESUMPTION: &str = "resumption";
const MESSAGE_SECRETS: &str = "message-secrets";

/// The write, read and delete methods of a value that a group has one of.
macro_rules! of_group {
    ($($label:ident: $value:ident { $write:ident, $read:ident, $delete:ident })*) => {$(
        fn $write<G: traits::GroupId<CURRENT_VERSION>, T: traits::$value<CURRENT_VERSION>>(
            &self,
            group: &G,
            value: &T,
        ) -> Result<(), RowError> {
            self.write($label, group, value)
        }

        fn $read<G: traits::GroupId<CURRENT_VERSION>, T: traits::$value<CURRENT_VERSION>>(
            &self,
            group: &G,
        ) -> Result<Option<T>, RowError> {
            self.read($label, group)
        }

        fn $delete<G: traits::GroupId<CURRENT_VERSION>>(&self, group: &G) -> Result<(), RowError> {
            self.delete($label, group)
        }
    )*};
}

impl StorageProvider<CURRENT_VERSION> for Overlay {
    type Error = RowError;

    of_group! {
        TREE: TreeSync { write_tree, tree, delete_tree }
        CONTEXT: GroupContext { write_context, group_context, delete_context }
        INTERIM_TRANSCRIPT_HASH: InterimTranscriptHash {
            write_interim_transcript_hash, interim_transcript_hash, delete_interim_transcript_hash
        }
        CONFIRMATION_TAG: ConfirmationTag {
            write_confirmation_tag, confirmation_tag, delete_confirmation_tag
        }
        CONFIG: MlsGroupJoinConfig {
            write_mls_join_config, mls_group_join_config, delete_group_config
        }
        OWN_LEAF: LeafNodeIndex { write_own_leaf_index, own_leaf_index, delete_own_leaf_index }
        EPOCH_SECRETS: GroupEpochSecrets {
            write_group_epoch_secrets, group_epoch_secrets, delete_group_epoch_secrets
        }
        RESUMPTION: ResumptionPskStore {
            write_resumption_psk_store, resumption_psk_store, delete_all_resumption_psk_secrets
        }
    }

    fn write_message_secrets<
        G: traits::GroupId<CURRENT_VERSION>,
        T: traits::MessageSecrets<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        value: &T,
    ) -> Result<(), RowError> {
        if self.hold_message_secrets.load(Relaxed) {
            self.message_secrets_stale.store(true, Relaxed);
            return Ok(());
        }
        self.write(MESSAGE_SECRETS, group, value)?;
        self.message_secrets_stale.store(false, Relaxed);
        Ok(())
    }

    fn message_secrets<G: traits::GroupId<CURRENT_VERSION>, T: traits::MessageSecrets<CURRENT_VERSION>>(
        &self,
        group: &G,
    ) -> Result<Option<T>, RowError> {
        self.read(MESSAGE_SECRETS, group)
    }

    fn delete_message_secrets<G: traits::GroupId<CURRENT_VERSION>>(&self, group: &G) -> Result<(), RowError> {
        self.delete(MESSAGE_SECRETS, group)
    }

    fn write_group_state<T: traits::GroupState<CURRENT_VERSION>, G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group: &G,
        value: &T,
    ) -> Result<(), RowError> {
        self.write(GROUP_STATE, group, value)
    }

    fn group_state<T: traits::GroupState<CURRENT_VERSION>, G: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group: &G,
    ) -> Result<Option<T>, RowError> {
        self.read(GROUP_STATE, group)
    }

    fn delete_group_state<G: traits::GroupId<CURRENT_VERSION>>(&self, group: &G) -> Result<(), RowError> {
        self.delete(GROUP_STATE, group)
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        T: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
        pairs: &[T],
    ) -> Result<(), RowError> {
        self.write(EPOCH_KEYS, &(group, epoch, leaf), pairs)
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        T: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<Vec<T>, RowError> {
        let key = row_key(EPOCH_KEYS, &(group, epoch, leaf))?;
        let rows = self.rows();
        let Some(value) = rows.get(&key) else { return Ok(Vec::new()) };
        ciborium::from_reader(value).map_err(|_| RowError::Damaged)
    }

    fn delete_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<(), RowError> {
        self.delete(EPOCH_KEYS, &(group, epoch, leaf))
    }

    fn write_encryption_key_pair<
        K: traits::EncryptionKey<CURRENT_VERSION>,
        T: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        key: &K,
        pair: &T,
    ) -> Result<(), RowError> {
        self.write(ENCRYPTION_KEY, key, pair)
    }

    fn encryption_key_pair<
        T: traits::HpkeKeyPair<CURRENT_VERSION>,
        K: traits::EncryptionKey<CURRENT_VERSION>,
    >(
        &self,
        key: &K,
    ) -> Result<Option<T>, RowError> {
        self.read(ENCRYPTION_KEY, key)
    }

    fn delete_encryption_key_pair<K: traits::EncryptionKey<CURRENT_VERSION>>(
        &self,
        key: &K,
    ) -> Result<(), RowError> {
        self.delete(ENCRYPTION_KEY, key)
    }

    fn write_key_package<
        K: traits::HashReference<CURRENT_VERSION>,
        T: traits::KeyPackage<CURRENT_VERSION>,
    >(
        &self,
        reference: &K,
        key_package: &T,
    ) -> Result<(), RowError> {
        self.write(KEY_PACKAGE, reference, key_package)
    }

    fn key_package<K: traits::HashReference<CURRENT_VERSION>, T: traits::KeyPackage<CURRENT_VERSION>>(
        &self,
        reference: &K,
    ) -> Result<Option<T>, RowError> {
        self.read(KEY_PACKAGE, reference)
    }

    fn delete_key_package<K: traits::HashReference<CURRENT_VERSION>>(
        &self,
        reference: &K,
    ) -> Result<(), RowError> {
        self.delete(KEY_PACKAGE, reference)
    }

    fn append_own_leaf_node<G: traits::GroupId<CURRENT_VERSION>, T: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        _: &G,
        _: &T,
    ) -> Result<(), RowError> {
        Err(RowError::Unsupported)
    }

    fn own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>, T: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Result<Vec<T>, RowError> {
        Ok(Vec::new())
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Result<(), RowError> {
        Ok(())
    }

    fn queue_proposal<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        T: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
        _: &R,
        _: &T,
    ) -> Result<(), RowError> {
        Err(RowError::Unsupported)
    }

    fn queued_proposal_refs<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Result<Vec<R>, RowError> {
        Ok(Vec::new())
    }

    fn queued_proposals<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        T: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &G,
    ) -> Result<Vec<(R, T)>, RowError> {
        Ok(Vec::new())
    }

    fn remove_proposal<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
        _: &R,
    ) -> Result<(), RowError> {
        Ok(())
    }

    fn clear_proposal_queue<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &G,
    ) -> Result<(), RowError> {
        Ok(())
    }

    fn write_signature_key_pair<
        K: traits::SignaturePublicKey<CURRENT_VERSION>,
        T: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &K,
        _: &T,
    ) -> Result<(), RowError> {
        Err(RowError::Unsupported)
    }

    fn signature_key_pair<
        K: traits::SignaturePublicKey<CURRENT_VERSION>,
        T: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &K,
    ) -> Result<Option<T>, RowError> {
        Ok(None)
    }

    fn delete_signature_key_pair<K: traits::SignaturePublicKey<CURRENT_VERSION>>(
        &self,
        _: &K,
    ) -> Result<(), RowError> {
        Ok(())
    }

    fn write_psk<K: traits::PskId<CURRENT_VERSION>, T: traits::PskBundle<CURRENT_VERSION>>(
        &self,
        _: &K,
        _: &T,
    ) -> Result<(), RowError> {
        Err(RowError::Unsupported)
    }

    fn psk<T: traits::PskBundle<CURRENT_VERSION>, K: traits::PskId<CURRENT_VERSION>>(
        &self,
        _: &K,
    ) -> Result<Option<T>, RowError> {
        Ok(None)
    }

    fn delete_psk<K: traits::PskId<CURRENT_VERSION>>(&self, _: &K) -> Result<(), RowError> {
        Ok(())
    }
}
