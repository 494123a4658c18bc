//! Generates the wire types without a system protoc.

use std::{env, fs, path::PathBuf};

use prost::Message;

const PROTOS: [&str; 4] =
    ["ping/v1/service.proto", "ping/v1/events.proto", "ping/v1/sources.proto", "ping/v1/event.proto"];

fn main() -> anyhow::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(PROTOS, [&root])?;
    let bytes = descriptors.encode_to_vec();
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin"), &bytes)?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .ignore_unknown_fields()
        .emit_fields()
        .build(&[".ping.v1"])?;
    Ok(())
}
