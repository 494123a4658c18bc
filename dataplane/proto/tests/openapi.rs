//! `docs/reference/openapi.json` and the JSON Schemas beside it describe the API of this build. `make reference` writes them.
#![cfg(test)]

#[path = "openapi/document.rs"]
mod document;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The committed schemas by the full name of their message.
fn schemas() -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    for entry in fs::read_dir(root().join("docs/reference/schemas")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix(document::SUFFIX).unwrap_or_else(|| panic!("{name} is not one of our schemas"));
        schemas.insert(name.to_owned(), serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
    }
    schemas
}

#[test]
fn openapi_reference_is_current() {
    let sources: Vec<_> = ["admin", "events", "live", "service", "sources"]
        .iter()
        .flat_map(|name| fs::read(root().join(format!("proto/ping/v1/{name}.proto"))).unwrap())
        .collect();
    let document = document::openapi(&schemas(), &sources);
    let page = format!("{document:#}\n");
    ping_testbed::reference::is_current(&root().join("docs/reference/openapi.json"), &page).unwrap();
}

#[test]
fn every_reference_of_the_document_leads_to_a_schema() {
    let document: Value =
        serde_json::from_slice(&fs::read(root().join("docs/reference/openapi.json")).unwrap()).unwrap();
    let mut references = 0;
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(list) => pending.extend(list),
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let pointer =
                        reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} is in another file"));
                    assert!(document.pointer(pointer).is_some(), "{reference} leads to nothing");
                    references += 1;
                }
                pending.extend(map.values());
            }
            _ => {}
        }
    }
    assert!(references > 50, "only {references} references");
}

/// The fields that a message has in JSON, which shows zeros.
fn written<M: Default + serde::Serialize>() -> Vec<String> {
    let value = serde_json::to_value(M::default()).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn schemas_name_the_fields_that_a_server_writes() {
    let schemas = schemas();
    let cases = [
        ("PingCountResponse", written::<ping_proto::PingCountResponse>(), 4),
        ("SourceStatsResponse", written::<ping_proto::SourceStatsResponse>(), 3),
        ("TopSourcesResponse", written::<ping_proto::TopSourcesResponse>(), 3),
        ("SeriesResponse", written::<ping_proto::SeriesResponse>(), 3),
        ("GetStatusResponse", written::<ping_proto::GetStatusResponse>(), 3),
        ("RecordBatchResponse", written::<ping_proto::RecordBatchResponse>(), 1),
        ("VerifyResponse", written::<ping_proto::VerifyResponse>(), 1),
    ];
    for (message, fields, least) in cases {
        let schema = &schemas[&format!("ping.v1.{message}")];
        assert!(fields.len() >= least, "{message} has only {fields:?}");
        for field in fields {
            assert!(schema["properties"][&field].is_object(), "the schema of {message} lacks {field}");
        }
    }
}
