//! What the documentation shows works: manifests, the metrics adapter, and the health check for Argo CD.

use mlua::{Function, Lua};
use ping_api::{crd::PingPipeline, kinds::Kind};
use serde_json::{Value, json};

use crate::fixture::{demo, empty, object};

/// The blocks of `language` in the pages of `folder`, with their pages.
fn blocks(folder: &str, language: &str) -> Vec<(String, String)> {
    let folder = format!("{}/../../docs/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let start = format!("```{language}\n");
        let texts = text.split(&start).skip(1).map(|block| block.split("```").next().unwrap().to_owned());
        found.extend(texts.map(|text| (path.display().to_string(), text)));
    }
    found
}

/// Fields of `shown` that are not in `known`.
fn unknown(shown: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    for (name, value) in shown.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match &known[name] {
            Value::Null => found.push(path),
            known => unknown(value, known, &path, found),
        }
    }
}

#[test]
fn every_manifest_in_the_guides_is_valid() {
    let mut pipelines = 0;
    for folder in ["how-to", "tutorials", "operator"] {
        for (page, text) in blocks(folder, "yaml").into_iter().filter(|(_, text)| text.contains("kind: PingPipeline\n"))
        {
            let shown: Value = yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{page}: {error}\n{text}"));
            let pipeline: PingPipeline = serde_json::from_value(shown.clone()).unwrap();
            let mut found = Vec::new();
            unknown(&shown["spec"], &serde_json::to_value(&pipeline.spec).unwrap(), "spec", &mut found);
            assert!(found.is_empty(), "{page} sets fields that do not exist: {found:?}");
            pipelines += 1;
        }
    }
    assert!(pipelines >= 5, "only {pipelines} manifests found");
}

#[test]
fn the_adapter_of_the_guide_serves_the_metric_that_the_autoscaler_of_processors_reads() {
    let example = |part: &str| blocks("how-to", "yaml").into_iter().find(|(_, text)| text.contains(part)).unwrap().1;
    let values: Value = yaml_serde::from_str(&example("seriesQuery")).unwrap();
    let mut pipeline = demo();
    pipeline.spec = yaml_serde::from_str::<PingPipeline>(&example("targetLagRecords")).unwrap().spec;
    let autoscaler = object(&pipeline, &empty(), Kind::HorizontalPodAutoscaler, "demo-processor");
    let metric = autoscaler["spec"]["metrics"][0]["pods"]["metric"]["name"].as_str().unwrap();
    let series = values["rules"]["custom"][0]["seriesQuery"].as_str().unwrap();
    assert_eq!(series.split('{').next(), Some(metric));
    let reference = include_str!("../../../../docs/reference/metrics.md");
    assert!(reference.contains(&format!("| `{metric}` | gauge |")), "processors do not export {metric}");
}

/// A value as Lua writes it.
fn literal(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name} = {}", literal(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(values) => format!("{{{}}}", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[test]
fn argo_cd_sees_the_health_of_a_pipeline() {
    let (_, check) = blocks("how-to", "lua").into_iter().next().unwrap();
    let lua = Lua::new();
    let health = |conditions: Value, observed: i64| {
        let object = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}});
        lua.load(format!("obj = {}", literal(&object))).exec().unwrap();
        let check: Function = lua.load(&check).into_function().unwrap();
        let health: mlua::Table = check.call(()).unwrap();
        (health.get::<String>("status").unwrap(), health.get::<String>("message").unwrap())
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "message": kind});
    let ready = json!([condition("Stalled", "False"), condition("Ready", "True")]);
    assert_eq!(health(ready.clone(), 2), ("Healthy".into(), "Ready".into()));
    assert_eq!(health(ready, 1).0, "Progressing", "the change is not reconciled yet");
    assert_eq!(health(json!([condition("Ready", "False")]), 2), ("Progressing".into(), "Ready".into()));
    assert_eq!(health(json!([condition("Ready", "False"), condition("Stalled", "True")]), 2).0, "Degraded");
    assert_eq!(health(json!([]), 2).0, "Progressing");
}
