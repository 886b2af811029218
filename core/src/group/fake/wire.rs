//! The fake's objects as bytes. What is signed or tagged stands outside, over the bytes as they are.

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Leaf {
    #[prost(uint32, tag = "1")]
    pub(super) leaf: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) encryption_key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Tree {
    #[prost(message, repeated, tag = "1")]
    pub(super) leaves: Vec<Leaf>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Context {
    #[prost(uint64, tag = "1")]
    pub(super) epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) policy: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) confirmation_tag: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyPackage {
    /// The device that signs it.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) device: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) certificate: Vec<u8>,
    /// Locks the Welcome's secret.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) init_key: Vec<u8>,
    /// The leaf's key once it is in the tree.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) leaf_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) signature: Vec<u8>,
}

/// The path secret, locked for one leaf.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Locked {
    #[prost(uint32, tag = "1")]
    pub(super) leaf: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) secret: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Commit {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) gid: Vec<u8>,
    /// The parent's.
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    #[prost(uint32, tag = "3")]
    pub(super) committer: u32,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(super) adds: Vec<Vec<u8>>,
    #[prost(uint32, repeated, tag = "5")]
    pub(super) removes: Vec<u32>,
    /// The child's.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) policy: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) justification: Vec<u8>,
    /// The committer's leaf's new public key.
    #[prost(bytes = "vec", tag = "8")]
    pub(super) leaf_key: Vec<u8>,
    /// Hash of the path secret.
    #[prost(bytes = "vec", tag = "9")]
    pub(super) path_hash: Vec<u8>,
    #[prost(message, repeated, tag = "10")]
    pub(super) path: Vec<Locked>,
}

/// The state secret, locked for one KeyPackage.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Invited {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key_package_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) secret: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Welcome {
    #[prost(message, repeated, tag = "1")]
    pub(super) invited: Vec<Invited>,
    /// GroupInfo, sealed with the state secret.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) group_info: Vec<u8>,
    /// The state's; also what makes the locks differ.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) confirmation_tag: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GroupInfo {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) gid: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(super) context: Option<Context>,
    #[prost(message, optional, tag = "3")]
    pub(super) tree: Option<Tree>,
}
