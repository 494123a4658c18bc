//! What is generated or documented must not be stale.

use std::time::Duration;

use kube::CustomResourceExt;
use ping_api::{
    condition::ConditionType,
    crd::{PingPipeline, cache::Snapshot, kafka::NodePool, status::PostgresVolume},
    grant::PingReferenceGrant,
    kinds::Dependency,
    names::Names,
    reason::Reason,
};
use ping_operator::{
    metrics::{Metrics, Outcome},
    storage::{Estimate, Usage},
};
use serde_json::{Value, json};

use crate::fixture::example;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_generated_crds_are_those_of_the_source() {
    for crd in [PingPipeline::crd(), PingReferenceGrant::crd()] {
        let current = yaml_serde::to_string(&crd).unwrap();
        let file = format!("{}.yaml", crd.metadata.name.unwrap());
        for path in [format!("crds/{file}"), format!("charts/ping-operator/files/{file}")] {
            assert!(read(&path) == current, "{path} is stale: run `make generate`");
        }
    }
}

#[test]
fn every_condition_and_every_reason_is_documented() {
    let page = read("docs/operator/conditions.md");
    let conditions = ConditionType::ALL.iter().map(|(kind, meaning)| format!("| `{kind}` |{meaning} |"));
    let reasons = Reason::ALL.iter().map(|(reason, meaning, remedy)| format!("| `{reason}` |{meaning} | {remedy} |"));
    let rows: Vec<String> = conditions.chain(reasons).collect();
    for row in &rows {
        assert!(page.contains(row), "docs/operator/conditions.md lacks: {row}");
    }
    let documented = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(documented, rows.len(), "docs/operator/conditions.md documents what does not exist");
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
    let grant = serde_json::to_value(PingReferenceGrant::crd()).unwrap();
    let schema = &grant["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    undocumented(&schema["spec"], "grant.spec", &mut found);
    assert!(found.is_empty(), "fields without a description: {found:?}");
}

/// Every field that may be left out says what that means.
#[test]
fn every_default_is_documented() {
    fn undocumented(schema: &Value, path: &str, found: &mut Vec<String>) {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let description = field["description"].as_str().unwrap_or_default().to_lowercase();
            let documented = required.contains(&Value::from(name.as_str()))
                || description.contains("default")
                || description.contains("absent");
            // These are Kubernetes' own, from there on.
            let borrowed = ["affinity", "tolerations", "env"].contains(&name.as_str());
            if field["properties"].is_object() && !borrowed {
                undocumented(field, &path, found);
            } else if !documented {
                found.push(path);
            }
        }
    }
    let crd = serde_json::to_value(PingPipeline::crd()).unwrap();
    let mut found = Vec::new();
    undocumented(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec", &mut found);
    assert!(found.is_empty(), "fields that do not document their default: {found:?}");
}

/// The operator's metrics as it exports them, each with a value.
fn exported() -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    // Without a value there is nothing to encode.
    let pipeline = Names::of(&example("demo")).into();
    metrics.reconcile_finished(Outcome::Settled, Duration::ZERO);
    metrics.request("GET", 200);
    metrics.dependency(Dependency::ALL[0], true);
    metrics.ready(&pipeline, Some(true));
    metrics.backed_up(&pipeline, Some(true));
    metrics.total(&pipeline, 1);
    let usage = Usage { used: 1, wal: 0, growth_per_day: None };
    let volume = PostgresVolume { bytes: 2, holds_wal: false };
    metrics.storage(&pipeline, Estimate::new(usage, volume).as_ref());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn the_reference_of_metrics_is_current() {
    let mut page = "# Metrics of the operator\n\n<!-- Written by `make reference`. -->\n\nThe operator serves these on `/metrics` of port 8081, \
                    besides `ping_build_info` and `process_…`, which all programs have ([metrics](metrics.md)).\n\n\
                    | metric | type | meaning |\n| --- | --- | --- |\n"
        .to_owned();
    let text = exported();
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = help.split_once(' ').unwrap();
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let end = if kind == "counter" { "_total" } else { "" };
        page += &format!("| `{name}{end}` | {kind} | {} |\n", help.trim_end_matches('.'));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/operator-metrics.md");
    ping_testbed::reference::is_current(path.as_ref(), &page).unwrap();
}

/// Dashboards and alerts ask for metrics that exist: those in the two pages, which are compared with what the programs export.
#[test]
fn every_metric_of_dashboards_and_alerts_is_exported() {
    let known = read("docs/reference/operator-metrics.md") + &read("docs/reference/metrics.md");
    let mut asked = 0;
    for dashboard in ["ping-operator", "ping-overview", "ping-write-path", "ping-count-path", "ping-sources"] {
        asked += metrics_known(&read(&format!("charts/ping-operator/files/dashboards/{dashboard}.json")), &known);
    }
    asked += metrics_known(&read("charts/ping-operator/files/alerts.yaml"), &known);
    assert!(asked > 80, "only {asked} metrics found");
}

fn metrics_known(text: &str, known: &str) -> usize {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let metrics = words.filter(|word| ["ping_", "process_"].iter().any(|start| word.starts_with(start)));
    metrics
        .inspect(|metric| {
            let ends = ["_bucket", "_count", "_sum"];
            let names = ends.iter().filter_map(|end| metric.strip_suffix(end)).chain([*metric]);
            assert!(names.into_iter().any(|name| known.contains(&format!("`{name}`"))), "{metric} is exported nowhere");
        })
        .count()
}

/// The schema of a field of the spec.
fn schema_of(path: &str) -> Value {
    let crd = serde_json::to_value(PingPipeline::crd()).unwrap();
    let mut schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for name in path.split('.') {
        schema = &schema["properties"][name];
    }
    assert!(schema.is_object(), "no field {path}");
    schema.clone()
}

#[test]
fn a_volume_with_only_a_storage_class_has_the_size_that_is_documented() {
    for (volume, size) in [
        ("postgres.cluster.storage", "10Gi"),
        ("kafka.cluster.brokers.storage", "20Gi"),
        ("kafka.cluster.controllers.storage", "20Gi"),
        ("cache.dragonfly.snapshot.storage", "5Gi"),
    ] {
        assert_eq!(schema_of(volume)["properties"]["size"]["default"], size, "{volume}");
        assert_eq!(schema_of(volume)["default"]["size"], size, "{volume}");
    }
    let partial = json!({ "storage": { "storageClass": "fast" } });
    let (brokers, snapshot): (NodePool, Snapshot) =
        (serde_json::from_value(partial.clone()).unwrap(), serde_json::from_value(partial).unwrap());
    assert_eq!((&*brokers.storage.size, &*snapshot.storage.size), ("20Gi", "5Gi"));
}

/// A pipeline without servers or processors would be `Ready`. `hibernate` is for that.
#[test]
fn no_number_of_pods_may_be_zero() {
    for number in [
        "server.replicas",
        "server.autoscaling.minReplicas",
        "server.ingest.replicas",
        "server.ingest.autoscaling.minReplicas",
        "server.query.replicas",
        "processor.replicas",
        "processor.autoscaling.minReplicas",
    ] {
        assert!(schema_of(number)["minimum"].as_f64() >= Some(1.0), "{number}");
    }
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
