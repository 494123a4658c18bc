//! The OpenAPI document: methods from the descriptors, messages from their JSON Schemas.

use std::{collections::BTreeMap, fmt::Write as _};

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, method_options::IdempotencyLevel};
use serde_json::{Map, Value, json};

/// How the file of a message's schema ends.
pub(crate) const SUFFIX: &str = ".jsonschema.json";

/// The document. `sources` are the contract's files: a change of them makes the committed document stale.
pub(crate) fn openapi(schemas: &BTreeMap<String, Value>, sources: &[u8]) -> Value {
    let set = FileDescriptorSet::decode(ping_proto::DESCRIPTORS).unwrap();
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "ping.v1") {
        for (number, service) in file.service.iter().enumerate() {
            let name = service.name();
            tags.push(json!({"name": name, "description": comment(file, &[6, position(number)])}));
            for (index, method) in service.method.iter().enumerate() {
                let description = comment(file, &[6, position(number), 2, position(index)]);
                let mut path = path(name, method, &description);
                if name == "AdminService" {
                    path["servers"] = json!([{"url": "http://localhost:8081", "description": "The admin port"}]);
                }
                paths.insert(format!("/ping.v1.{name}/{}", method.name()), path);
            }
        }
    }
    let mut components: Map<String, Value> =
        schemas.iter().map(|(name, schema)| (name.clone(), component(schema))).collect();
    components.insert("connect.Error".into(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pingpipeline",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Counts events: every acknowledged one exactly once",
            "description": "The API as JSON over HTTP, by the Connect protocol. The same methods are served by gRPC and gRPC-Web. \
                            64-bit integers are strings in responses, and may be numbers in requests.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "x-contract-sha256": sha256(sources),
        },
        "servers": [{"url": "http://localhost:8080"}],
        "security": [{}, {"token": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer", "description": "Needed if the server has an access policy that says so.",
            }},
        },
    })
}

fn position(index: usize) -> i32 {
    i32::try_from(index).unwrap()
}

/// The comment above an element, in one paragraph.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let text =
        locations.filter(|location| location.path == path).find_map(|location| location.leading_comments.clone());
    let text = text.unwrap_or_else(|| panic!("{}: no comment at {path:?}", file.name()));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A method, as POST, and as GET if it has no side effects.
fn path(service: &str, method: &MethodDescriptorProto, description: &str) -> Value {
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{}", name.trim_start_matches('.'))});
    let streams = method.client_streaming() || method.server_streaming();
    let (content, note) = if streams {
        let directions =
            if method.client_streaming() { "in both directions, which needs HTTP/2" } else { "of responses" };
        let note = format!(
            "A stream {directions}: before each message are a byte of flags and its length in four bytes, and the last message has the flag 2 \
             and the error, if any (Connect protocol). Use a generated client."
        );
        ("application/connect+json", note)
    } else {
        ("application/json", String::new())
    };
    let summary = description.split_inclusive(". ").next().unwrap_or_default().trim().trim_end_matches('.');
    let description = format!("{description} {note}");
    let responses = json!({
        "200": {"description": "Success", "content": {content: {"schema": schema(method.output_type())}}},
        "default": {
            "description": "An error. Its code decides the HTTP status.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/connect.Error"}}},
        },
    });
    let operation = |suffix: &str| {
        json!({
            "operationId": format!("{service}_{}{suffix}", method.name()),
            "tags": [service],
            "summary": summary,
            "description": description.trim(),
            "responses": responses,
        })
    };
    let mut post = operation("");
    post["requestBody"] = json!({"required": true, "content": {content: {"schema": schema(method.input_type())}}});
    let mut path = json!({"post": post});
    let level = method.options.as_ref().map(prost_types::MethodOptions::idempotency_level);
    if level == Some(IdempotencyLevel::NoSideEffects) && !streams {
        let mut get = operation("_get");
        get["parameters"] = json!([
            {"name": "connect", "in": "query", "required": true, "schema": {"const": "v1"}},
            {"name": "encoding", "in": "query", "required": true, "schema": {"const": "json"}},
            {"name": "message", "in": "query", "required": true,
             "content": {"application/json": {"schema": schema(method.input_type())}}},
        ]);
        path["get"] = get;
    }
    path
}

/// A schema as a part of the document, where it needs neither its own identity nor the names of fields in the contract, which requests may
/// use as well.
fn component(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut component = Map::new();
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$schema" | "$id" | "patternProperties" | "additionalProperties", _) => {}
                    ("$ref", Value::String(file)) => {
                        let name = file.trim_end_matches(SUFFIX);
                        component.insert(key.clone(), format!("#/components/schemas/{name}").into());
                    }
                    _ => {
                        component.insert(key.clone(), self::component(value));
                    }
                }
            }
            component.into()
        }
        Value::Array(list) => list.iter().map(component).collect(),
        other => other.clone(),
    }
}

/// The error of the Connect protocol.
fn error() -> Value {
    json!({
        "type": "object",
        "description": "An error of the Connect protocol.",
        "required": ["code"],
        "properties": {
            "code": {"type": "string", "description": "What kind of error it is.", "enum": [
                "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
                "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable",
                "data_loss", "unauthenticated",
            ]},
            "message": {"type": "string", "description": "What happened, why, and how to fix it."},
            "details": {"type": "array", "description": "Messages of google.rpc.", "items": {"type": "object", "properties": {
                "type": {"type": "string"},
                "value": {"type": "string", "description": "The message as Protobuf, in Base64."},
                "debug": {"type": "object", "description": "The message as JSON."},
            }}},
        },
    })
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
