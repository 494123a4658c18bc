//! Generates the messages and the service of the conformance suite, without a system protoc.

use std::{env, fs, path::PathBuf};

use connectrpc_build::{CodeGenConfig, Config};
use prost::Message;

const PROTOS: [&str; 3] = [
    "connectrpc/conformance/v1/config.proto",
    "connectrpc/conformance/v1/server_compat.proto",
    "connectrpc/conformance/v1/service.proto",
];

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&descriptors, protox::compile(PROTOS, ["proto"])?.encode_to_vec())?;
    let mut messages = CodeGenConfig::default();
    messages.generate_json = true;
    messages.generate_with_setters = false;
    messages.preserve_unknown_fields = false;
    Config::new()
        .buffa_config(messages)
        .file_per_package(true)
        // The suite is the client. Without this feature, which does not exist, the generated one is not compiled.
        .client_feature_name("generated-clients")
        .descriptor_set(&descriptors)
        .files(&PROTOS)
        .include_file("_connectrpc.rs")
        // They would name the descriptors, which this script writes: every build would compile the generated code again.
        .emit_rerun_directives(false)
        .compile()
        .map_err(|error| anyhow::anyhow!("cannot generate the conformance service: {error}"))
}
