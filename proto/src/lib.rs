//! The wire formats of SpacePanda, generated from the `.proto` files beside this crate.
//!
//! The comments of those files are the reference. Nothing but generated code lives here.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

/// The client API: gRPC package `spacepanda.api.v1`.
pub mod api {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("spacepanda.api.v1");

        /// The encoded `FileDescriptorSet` of this package, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/api_descriptor.bin"));
    }
}

/// The peer protocol: package `spacepanda.peer.v1`.
pub mod peer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("spacepanda.peer.v1");
    }
}
