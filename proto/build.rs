//! Compiles the protobuf files without `protoc` and keeps the descriptor set for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "spacepanda/api/v1/auth.proto",
    "spacepanda/api/v1/space.proto",
    "spacepanda/api/v1/message.proto",
    "spacepanda/api/v1/event.proto",
    "spacepanda/api/v1/network.proto",
    "spacepanda/peer/v1/peer.proto",
    "spacepanda/peer/v1/group.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=spacepanda");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    // Reflection describes the client API only; peers do not use it.
    let api: Vec<_> = FILES.iter().filter(|file| file.contains("/api/")).collect();
    fs::write(out.join("api_descriptor.bin"), protox::compile(api, ["."])?.encode_to_vec())?;

    tonic_prost_build::configure()
        .compile_well_known_types(false)
        .compile_fds(protox::compile(FILES, ["."])?)?;
    Ok(())
}
