//! Generates messages, services and clients, without a system protoc.

use std::{env, fs, path::PathBuf};

use anyhow::Context;
use connectrpc_build::{CodeGenConfig, Config};
use prost::Message;

/// The API.
const API: [&str; 5] = [
    "ping/v1/service.proto",
    "ping/v1/events.proto",
    "ping/v1/sources.proto",
    "ping/v1/live.proto",
    "ping/v1/admin.proto",
];
/// Standard messages that the API sends: details of errors, and the health service.
const STANDARD: [&str; 2] = ["google/rpc/error_details.proto", "grpc/health/v1/health.proto"];
/// What is written to the log and the outbox.
const LOG: &str = "ping/v1/event.proto";

fn main() -> anyhow::Result<()> {
    let crate_folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let folders = [crate_folder.join("../../proto"), crate_folder.join("standard")];
    for folder in &folders {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
    let descriptors = out.join("descriptors.bin");
    let api = API.iter().copied().chain(STANDARD);
    fs::write(&descriptors, protox::compile(api.clone(), &folders)?.encode_to_vec())?;
    let mut messages = CodeGenConfig::default();
    messages.generate_json = true;
    messages.generate_with_setters = false;
    messages.emit_register_fn = false;
    // A server has no use for fields that it does not know, and should not store them.
    messages.preserve_unknown_fields = false;
    Config::new()
        .buffa_config(messages)
        .file_per_package(true)
        // Clients use `ping-client`. Without this feature, which does not exist, the generated ones are not compiled.
        .client_feature_name("generated-clients")
        .descriptor_set(&descriptors)
        .files(&api.collect::<Vec<_>>())
        .include_file("connect.rs")
        // They would name the descriptors, which this script writes: every build would compile the generated code again.
        .emit_rerun_directives(false)
        .compile()
        .map_err(|error| anyhow::anyhow!("cannot generate the API: {error}"))?;
    show_zeros(&out.join("ping.v1.rs"))?;
    let log = out.join("log");
    fs::create_dir_all(&log)?;
    let mut messages = prost_build::Config::new();
    messages
        .out_dir(log)
        .compile_fds(protox::compile([LOG], &folders)?)
        .context("cannot generate the log's messages")?;
    Ok(())
}

/// Makes the generated code write numbers, flags, text and lists to JSON although they are 0, false or empty. The generator leaves
/// them out, but a caller with curl should see a count of 0. Absent messages and optional fields stay out.
fn show_zeros(generated: &PathBuf) -> anyhow::Result<()> {
    let mut code = fs::read_to_string(generated)?;
    for default in ["is_zero_i32", "is_zero_i64", "is_false", "is_empty_str", "is_empty_vec", "is_default_enum_value"] {
        let condition = format!("\"::buffa::json_helpers::skip_if::{default}\"");
        anyhow::ensure!(code.contains(&condition), "the generated code has no {condition}; adapt show_zeros");
        code = code.replace(&condition, "\"crate::never\"");
    }
    fs::write(generated, code)?;
    Ok(())
}
