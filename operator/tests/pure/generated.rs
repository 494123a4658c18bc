//! What is generated or documented must not be stale.

use kube::CustomResourceExt;
use ping_operator::{crd::PingPipeline, status::reason::Reason};
use serde_json::Value;

use crate::fixture::example;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_generated_crds_are_those_of_the_source() {
    let current = yaml_serde::to_string(&PingPipeline::crd()).unwrap();
    for path in
        ["crds/pingpipelines.pingpipeline.io.yaml", "charts/ping-operator/files/pingpipelines.pingpipeline.io.yaml"]
    {
        assert!(read(path) == current, "{path} is stale: run `ping-operator crd > {path}`");
    }
}

#[test]
fn every_reason_is_documented() {
    let page = read("docs/operator/conditions.md");
    for (reason, meaning) in Reason::ALL {
        let row = format!("| `{reason}` |{meaning} |");
        assert!(page.contains(&row), "docs/operator/conditions.md lacks: {row}");
    }
}

#[test]
fn every_field_is_documented() {
    fn undocumented(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            undocumented(field, &path, found);
            undocumented(&field["items"], &format!("{path}[]"), found);
        }
    }
    let crd = serde_json::to_value(PingPipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut found = Vec::new();
    undocumented(&schema["spec"], "spec", &mut found);
    undocumented(&schema["status"], "status", &mut found);
    assert!(found.is_empty(), "fields without a description: {found:?}");
}

#[test]
fn the_schema_fills_in_the_shape_the_system_was_designed_for() {
    let spec = serde_json::to_value(example("demo").spec).unwrap();
    assert_eq!(spec["durability"], "Exact");
    assert_eq!(spec["deletionPolicy"], "Retain");
    assert_eq!(spec["kafka"]["topic"]["partitions"], 6);
    assert_eq!(spec["server"]["replicas"], 3);
    let crd = serde_json::to_value(PingPipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for (field, value) in spec.as_object().unwrap() {
        assert_eq!(&schema[field]["default"], value, "the default of spec.{field} in the schema");
    }
}
