//! Risk of changing each field of the spec. Pure.

use serde::Serialize;
use serde_json::Value;

/// Risk of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Risk {
    /// No effect on clients.
    None,
    /// Pods are replaced one by one; events are accepted and counted throughout.
    Rolling,
    /// A component is slow or unavailable for a short time and recovers by itself.
    Moderate,
    /// A component stays unavailable, or acknowledged events or data can be lost.
    Danger,
}

/// Fields by path prefix, with the risk and effect of a change. The longest matching prefix applies.
const FIELDS: &[(&str, Risk, &str)] = &[
    ("cache.dragonfly", Risk::Moderate, "cache pods restart; Postgres answers queries until the cache is rebuilt"),
    ("cache.external", Risk::Moderate, "Postgres answers queries until the new cache is filled"),
    ("deletionPolicy", Risk::Moderate, "determines what a later deletion does to the data"),
    ("durability", Risk::Moderate, "determines which settings are rejected"),
    (
        "events",
        Risk::Danger,
        "with fewer days, or with days instead of 0, older events are deleted permanently; their counts remain. Pods are replaced one by one",
    ),
    ("hibernate", Risk::Danger, "stops or starts the pipeline; no events are accepted while it is true"),
    ("kafka.cluster", Risk::Moderate, "brokers restart one by one; events are accepted, counts may lag"),
    (
        "kafka.cluster.brokers.replicas",
        Risk::Moderate,
        "existing partitions are not moved; Strimzi does not remove a broker that still has partitions",
    ),
    ("kafka.cluster.brokers.storage", Risk::None, "volumes grow in place, if their StorageClass supports it"),
    ("kafka.cluster.controllers.storage", Risk::None, "volumes grow in place, if their StorageClass supports it"),
    ("kafka.clusterRef", Risk::Danger, "events in transit would be lost"),
    ("kafka.deadLetterTopic", Risk::None, "changes the topic in place"),
    ("kafka.external", Risk::Danger, "events in transit are lost, unless the new address leads to the same Kafka"),
    (
        "kafka.minutesTopic",
        Risk::Rolling,
        "processors are replaced one by one; summaries are delayed, or no longer published",
    ),
    ("kafka.topic", Risk::None, "changes the topic in place"),
    (
        "kafka.topic.minInSyncReplicas",
        Risk::Moderate,
        "with fewer, losing a broker can lose events; with more, Kafka accepts no writes while brokers are unavailable",
    ),
    ("kafka.topic.partitions", Risk::Moderate, "cannot be reverted; partitions are reassigned to processors"),
    ("kafka.topic.replicas", Risk::Moderate, "requires Cruise Control in Strimzi"),
    ("kafka.topic.retentionHours", Risk::None, "older events are deleted from Kafka; counts do not change"),
    ("monitoring", Risk::None, "changes PodMonitors only"),
    ("networkPolicy", Risk::Moderate, "changes allowed network traffic immediately"),
    (
        "postgres.cluster",
        Risk::Moderate,
        "instances restart one by one with a switchover: calls fail for some seconds and can be retried with the same event ID",
    ),
    ("postgres.cluster.backup", Risk::None, "changes schedule and destination of backups"),
    (
        "postgres.cluster.instances",
        Risk::Moderate,
        "adds or removes a standby; with fewer, fewer failures are tolerated",
    ),
    ("postgres.cluster.storage", Risk::None, "volumes grow in place, if their StorageClass supports it"),
    (
        "postgres.cluster.synchronous",
        Risk::Moderate,
        "with fewer copies, fewer failures are tolerated; with more, writes wait for more instances",
    ),
    ("postgres.cluster.walStorage", Risk::Moderate, "instances are replaced one by one"),
    ("postgres.external", Risk::Danger, "the new Postgres does not have the events of the old one"),
    ("processor", Risk::Rolling, "processors are replaced one by one; counts may lag for seconds"),
    ("processor.autoscaling", Risk::None, "changes the number of processors"),
    ("processor.replicas", Risk::None, "changes the number of processors"),
    ("server", Risk::Rolling, "servers are replaced one by one; each new pod is ready before an old one stops"),
    (
        "server.authentication",
        Risk::Moderate,
        "changes who may call, within two minutes and without a restart; removed callers are refused",
    ),
    (
        "server.authentication.mode",
        Risk::Danger,
        "with Required, calls without credentials fail; with Disable, anyone who reaches the servers may do everything",
    ),
    (
        "server.authorization",
        Risk::Moderate,
        "changes what callers may do and how much, within two minutes and without a restart",
    ),
    ("server.autoscaling", Risk::None, "changes the number of servers"),
    ("server.ingest", Risk::Rolling, "servers are replaced one by one; each new pod is ready before an old one stops"),
    ("server.ingest.autoscaling", Risk::None, "changes the number of ingest servers"),
    ("server.ingest.replicas", Risk::None, "changes the number of ingest servers"),
    ("server.query", Risk::Rolling, "servers are replaced one by one; each new pod is ready before an old one stops"),
    ("server.query.autoscaling", Risk::None, "changes the number of query servers"),
    ("server.query.replicas", Risk::None, "changes the number of query servers"),
    ("server.replicas", Risk::None, "changes the number of servers"),
    ("server.service", Risk::Moderate, "clients may need a new address or port"),
    ("server.tls", Risk::Moderate, "servers are replaced one by one; clients may need another CA or a certificate"),
    (
        "server.tls.mode",
        Risk::Danger,
        "clients need https:// with Required, and http:// with Disable, which sends tokens and events in plaintext",
    ),
    ("server.tls.names", Risk::None, "a new certificate is used without a restart"),
    (
        "sources",
        Risk::Rolling,
        "servers and processors are replaced one by one; until then, some statuses follow the old rule",
    ),
    (
        "sources.dayRetentionDays",
        Risk::Moderate,
        "with fewer days, older counts are deleted permanently; pods are replaced one by one",
    ),
    ("sources.maxSources", Risk::Rolling, "servers are replaced one by one"),
    ("sources.newKindNamesPerDay", Risk::Rolling, "servers are replaced one by one"),
    (
        "sources.windowRetentionDays",
        Risk::Moderate,
        "with fewer days, older windows are deleted permanently; pods are replaced one by one",
    ),
    ("suspend", Risk::Moderate, "while true, the operator changes nothing and does not repair drift"),
    ("tracing", Risk::Rolling, "servers and processors are replaced one by one"),
];

/// Effect of splitting servers into roles, or of merging them again.
const SPLIT: &str = "clients need new addresses: <name>-ingest and <name>-query with roles, <name>-server without; old servers stop when the new ones are ready";

/// Risk and effect of changing the field at `path` (below `spec`) from `old` to `new`.
pub(crate) fn risk(path: &str, old: &Value, new: &Value) -> (Risk, &'static str) {
    match (path, old, new) {
        ("deletionPolicy", _, new) if new == "Delete" => {
            return (Risk::Danger, "deleting the pipeline will also delete the data");
        }
        ("durability", _, new) if new == "BestEffort" => {
            return (Risk::Danger, "settings that can lose acknowledged events are no longer rejected");
        }
        ("server.replicas" | "server.ingest.replicas" | "server.query.replicas" | "processor.replicas", _, new)
            if new == 0 =>
        {
            return (Risk::Danger, "no pods are left to do the work");
        }
        (path, Value::Null, _) | (path, _, Value::Null)
            if path.starts_with("server.ingest") || path.starts_with("server.query") =>
        {
            return (Risk::Moderate, SPLIT);
        }
        _ => {}
    }
    let fits = |start: &str| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let found = FIELDS.iter().filter(|(start, ..)| fits(start)).max_by_key(|(start, ..)| start.len());
    found
        .map_or((Risk::Danger, "this plugin does not know the field; update the plugin"), |(_, risk, why)| (*risk, why))
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
        assert!(FIELDS.iter().all(|(path, ..)| field_exists(fields, path)), "a listed field does not exist");
    }

    fn field_exists(fields: &Value, path: &str) -> bool {
        path.split('.').try_fold(fields, |fields, name| fields.get(name).map(|field| &field["properties"])).is_some()
    }

    #[test]
    fn the_longest_prefix_applies_and_some_values_are_riskier_than_others() {
        let of = |path: &str, new: Value| risk(path, &Value::Null, &new).0;
        assert_eq!(of("server.replicas", json!(5)), Risk::None);
        assert_eq!(of("server.replicas", json!(0)), Risk::Danger);
        assert_eq!(of("server.resources.limits.memory", json!("1Gi")), Risk::Rolling);
        assert_eq!(of("postgres.cluster.storage.size", json!("20Gi")), Risk::None);
        assert_eq!(of("deletionPolicy", json!("Retain")), Risk::Moderate);
        assert_eq!(of("deletionPolicy", json!("Delete")), Risk::Danger);
        assert_eq!(of("server.tls.mode", json!("Disable")), Risk::Danger);
        assert_eq!(of("serverless", json!(1)), Risk::Danger);
    }
}
