//! What a change of the spec can do, field by field. Pure.

use serde::Serialize;
use serde_json::Value;

/// How much care a change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Risk {
    /// Nobody notices.
    None,
    /// Pods are replaced one by one; pings are taken and counted meanwhile.
    Rolling,
    /// Something is slower or away for a moment, and comes back by itself.
    Care,
    /// Something stays away, or acknowledged pings or data can be lost.
    Danger,
}

/// Fields by the start of their path, with what a change of them does. The longest start that fits holds.
const FIELDS: &[(&str, Risk, &str)] = &[
    ("cache.dragonfly", Risk::Care, "cache pods restart; counts come from Postgres until the cache is filled again"),
    ("cache.external", Risk::Care, "counts come from Postgres until the other cache is filled"),
    ("deletionPolicy", Risk::Care, "says what a later deletion does to the data"),
    ("durability", Risk::Care, "says which settings are refused"),
    ("hibernate", Risk::Danger, "stops or starts everything; no ping is taken while it is true"),
    ("kafka.cluster", Risk::Care, "brokers restart one by one; pings are taken, counts may lag"),
    (
        "kafka.cluster.brokers.replicas",
        Risk::Care,
        "partitions that exist stay where they are; Strimzi refuses to remove a broker that has some",
    ),
    ("kafka.cluster.brokers.storage", Risk::None, "volumes grow in connection, if their class can"),
    ("kafka.cluster.controllers.storage", Risk::None, "volumes grow in connection, if their class can"),
    ("kafka.clusterRef", Risk::Danger, "events on their way would be left behind"),
    ("kafka.deadLetterTopic", Risk::None, "changes a topic in place"),
    ("kafka.external", Risk::Danger, "another Kafka: events on their way are left behind unless it is the same one"),
    (
        "kafka.minutesTopic",
        Risk::Rolling,
        "processors are replaced one by one; who reads the topic is told later, or nothing any more",
    ),
    ("kafka.topic", Risk::None, "changes the topic in place"),
    (
        "kafka.topic.minInSyncReplicas",
        Risk::Care,
        "with fewer, a lost broker can take events with it; with more, Kafka takes none while brokers are away",
    ),
    ("kafka.topic.partitions", Risk::Care, "cannot be taken back; processors share the work anew"),
    ("kafka.topic.replicas", Risk::Care, "Strimzi needs Cruise Control for it"),
    ("kafka.topic.retentionHours", Risk::None, "events that are older go; what is counted stays counted"),
    ("monitoring", Risk::None, "monitors only"),
    ("networkPolicy", Risk::Care, "changes who may talk to whom, at once"),
    (
        "postgres.cluster",
        Risk::Care,
        "instances restart one by one with a switch-over: calls fail for seconds and can be repeated with the same id",
    ),
    ("postgres.cluster.backup", Risk::None, "changes when and where backups go"),
    ("postgres.cluster.instances", Risk::Care, "a standby is added or removed; with fewer, less can fail"),
    ("postgres.cluster.storage", Risk::None, "volumes grow in connection, if their class can"),
    (
        "postgres.cluster.synchronous",
        Risk::Care,
        "with fewer copies less can fail; with more, writes wait for more instances",
    ),
    ("postgres.cluster.walStorage", Risk::Care, "instances are replaced one by one"),
    ("postgres.external", Risk::Danger, "another Postgres does not have the pings of this one"),
    ("processor", Risk::Rolling, "processors are replaced one by one; counts may lag for seconds"),
    ("processor.autoscaling", Risk::None, "changes the number of processors"),
    ("processor.replicas", Risk::None, "changes the number of processors"),
    ("server", Risk::Rolling, "servers are replaced one by one; a new one is ready before an old one goes"),
    ("server.autoscaling", Risk::None, "changes the number of servers"),
    ("server.ingest", Risk::Rolling, "servers are replaced one by one; a new one is ready before an old one goes"),
    ("server.ingest.autoscaling", Risk::None, "changes the number of servers that take events"),
    ("server.ingest.replicas", Risk::None, "changes the number of servers that take events"),
    ("server.query", Risk::Rolling, "servers are replaced one by one; a new one is ready before an old one goes"),
    ("server.query.autoscaling", Risk::None, "changes the number of servers that answer"),
    ("server.query.replicas", Risk::None, "changes the number of servers that answer"),
    ("server.replicas", Risk::None, "changes the number of servers"),
    ("server.service", Risk::Care, "callers may have to find the servers at another address or port"),
    (
        "sources",
        Risk::Rolling,
        "servers and processors are replaced one by one; until all are, some statuses go by the old rule",
    ),
    (
        "sources.dayRetentionDays",
        Risk::Care,
        "with fewer days, older ones are dropped for ever; pods are replaced one by one",
    ),
    (
        "sources.windowRetentionDays",
        Risk::Care,
        "with fewer days, older windows are dropped for ever; pods are replaced one by one",
    ),
    ("suspend", Risk::Care, "while true the operator changes nothing, and puts no drift right"),
];

/// What comes and goes with roles.
const SPLIT: &str = "with roles servers are reached at <name>-ingest and <name>-query, without at <name>-server: callers have to follow; old servers go when the new ones are ready";

/// The risk of changing the field at `path` (below `spec`) from one value to another, and why.
pub(crate) fn risk(path: &str, old: &Value, new: &Value) -> (Risk, &'static str) {
    match (path, old, new) {
        ("deletionPolicy", _, new) if new == "Delete" => {
            return (Risk::Danger, "deleting the pipeline will delete the data as well");
        }
        ("durability", _, new) if new == "BestEffort" => {
            return (Risk::Danger, "settings that can lose acknowledged pings are no longer refused");
        }
        ("server.replicas" | "server.ingest.replicas" | "server.query.replicas" | "processor.replicas", _, new)
            if new == 0 =>
        {
            return (Risk::Danger, "nothing is left that does the work");
        }
        (path, Value::Null, _) | (path, _, Value::Null)
            if path.starts_with("server.ingest") || path.starts_with("server.query") =>
        {
            return (Risk::Care, SPLIT);
        }
        _ => {}
    }
    let fits = |start: &str| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let found = FIELDS.iter().filter(|(start, ..)| fits(start)).max_by_key(|(start, ..)| start.len());
    found.map_or((Risk::Danger, "this plugin does not know the field: update it"), |(_, risk, why)| (*risk, why))
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use ping_api::crd::PingPipeline;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_has_a_risk() {
        let crd = json!(PingPipeline::crd());
        let fields = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let mut unknown = Vec::new();
        for (name, field) in fields.as_object().unwrap() {
            let parts = field["properties"].as_object().into_iter().flat_map(|parts| parts.keys());
            let paths: Vec<String> = parts.map(|part| format!("{name}.{part}")).collect();
            let paths = if paths.is_empty() { vec![name.clone()] } else { paths };
            unknown.extend(
                paths.into_iter().filter(|path| risk(path, &Value::Null, &Value::Null).1.contains("does not know")),
            );
        }
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(FIELDS.iter().all(|(path, ..)| field_exists(fields, path)), "a risk of a field that is gone");
    }

    fn field_exists(fields: &Value, path: &str) -> bool {
        path.split('.').try_fold(fields, |fields, name| fields.get(name).map(|field| &field["properties"])).is_some()
    }

    #[test]
    fn the_longest_path_holds_and_some_values_are_worse_than_others() {
        let of = |path: &str, new: Value| risk(path, &Value::Null, &new).0;
        assert_eq!(of("server.replicas", json!(5)), Risk::None);
        assert_eq!(of("server.replicas", json!(0)), Risk::Danger);
        assert_eq!(of("server.resources.limits.memory", json!("1Gi")), Risk::Rolling);
        assert_eq!(of("postgres.cluster.storage.size", json!("20Gi")), Risk::None);
        assert_eq!(of("deletionPolicy", json!("Retain")), Risk::Care);
        assert_eq!(of("deletionPolicy", json!("Delete")), Risk::Danger);
        assert_eq!(of("serverless", json!(1)), Risk::Danger);
    }
}
