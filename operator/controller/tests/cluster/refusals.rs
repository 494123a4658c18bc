//! What the API server refuses by itself, through the rules in the CRD, and in which words.

use serde_json::{Value, json};

use crate::harness::{
    TestNamespace,
    fake_operators::{grant, set_allowed_secret},
    operator::Operator,
    root, until,
};

/// A spec that is refused at creation, and words of the refusal.
fn at_creation() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({ "postgres": { "cluster": { "instances": 1 } } }),
            "a single disk holds the only copy. Set instances: 3",
        ),
        (
            json!({ "postgres": { "cluster": { "synchronous": { "number": 0 } } } }),
            "to be on a second Postgres instance before it is acknowledged",
        ),
        (
            json!({ "postgres": { "cluster": { "synchronous": { "dataDurability": "Preferred" } } } }),
            "on a second Postgres instance",
        ),
        (json!({ "kafka": { "topic": { "replicas": 2 } } }), "so that losing one broker loses no events"),
        (json!({ "kafka": { "topic": { "minInSyncReplicas": 1 } } }), "so that losing one broker loses no events"),
        (json!({ "kafka": { "cluster": { "brokers": { "replicas": 2 } } } }), "at least 3 brokers"),
        (json!({ "kafka": { "topic": { "minInSyncReplicas": 4, "replicas": 3 } } }), "Kafka would accept no writes"),
        (json!({ "kafka": { "topic": { "partitions": 0 } } }), "should be greater than or equal to 1"),
        (json!({ "server": { "replicas": 0 } }), "should be greater than or equal to 1"),
        (json!({ "server": { "query": { "replicas": 0 } } }), "should be greater than or equal to 1"),
        (json!({ "processor": { "replicas": 0 } }), "should be greater than or equal to 1"),
        (json!({ "kafka": { "clusterRef": { "name": "a' | sh" } } }), "should match"),
        (json!({ "kafka": { "clusterRef": { "name": "a", "namespace": "$(sh)" } } }), "should match"),
        (json!({ "kafka": { "cluster": {}, "clusterRef": { "name": "a" } } }), "set only one of"),
        (json!({ "postgres": { "cluster": {}, "external": { "uri": { "name": "a", "key": "uri" } } } }), "not both"),
        (
            json!({ "server": { "autoscaling": { "minReplicas": 5, "maxReplicas": 4 } } }),
            "minReplicas cannot exceed maxReplicas",
        ),
        (json!({ "sources": { "status": { "negativeWhen": { "kind": "failed" } } } }), "atLeast: Required value"),
        (
            json!({ "sources": { "status": { "negativeWhen": { "kind": "failed", "atLeast": 0 } } } }),
            "should be greater than or equal to 1",
        ),
        (
            json!({ "sources": { "status": { "positiveWhen": { "kind": "failed", "atLeast": 5 } } } }),
            "Set positiveWhen.atLeast below negativeWhen.atLeast, or use different kinds",
        ),
        (json!({ "sources": { "status": { "labels": { "positive": "a,b" } } } }), "should match"),
        (json!({ "sources": { "status": { "labels": { "positive": "unknown" } } } }), "three different labels"),
        (json!({ "sources": { "windowRetentionDays": 0 } }), "should be greater than or equal to 1"),
        (json!({ "events": { "retentionDays": -1 } }), "should be greater than or equal to 0"),
        (json!({ "events": { "retentionDays": 3651 } }), "should be less than or equal to 3650"),
        (json!({ "sources": { "newKindNamesPerDay": -1 } }), "should be greater than or equal to 0"),
        (json!({ "postgres": { "cluster": { "storage": { "size": "much" } } } }), "not a quantity"),
        (
            json!({ "postgres": { "cluster": { "backup": {
            "schedule": "0 0 2 * * *", "destinationPath": "s3://a/",
            "accessKeyId": { "name": "a", "key": "a" }, "secretAccessKey": { "name": "a", "key": "b" },
        } } } }),
            "five cron fields",
        ),
    ]
}

/// Backups and recoveries that are refused at creation, and words of the refusal.
fn backups() -> Vec<(Value, &'static str)> {
    let key = json!({ "name": "a", "key": "a" });
    let cluster = |cluster: Value| json!({ "postgres": { "cluster": cluster } });
    let backup = |backup: Value| cluster(json!({ "backup": backup }));
    let recovery = |recovery: Value| cluster(json!({ "recovery": recovery }));
    let store = json!({ "serverName": "a", "destinationPath": "s3://a/" });
    vec![
        (backup(json!({ "destinationPath": "ftp://a/" })), "should match"),
        (
            backup(json!({ "destinationPath": "s3://a/", "accessKeyId": key })),
            "set both accessKeyId and secretAccessKey",
        ),
        (backup(json!({ "destinationPath": "s3://a/", "googleCredentials": key })), "start with gs://"),
        (backup(json!({ "destinationPath": "gs://a/", "azureConnectionString": key })), "start with https://"),
        (recovery(json!({})), "set objectStore, pipeline or volumeSnapshots"),
        (recovery(json!({ "objectStore": store, "pipeline": "b" })), "not both"),
        (recovery(json!({ "objectStore": { "destinationPath": "s3://a/" } })), "serverName: Required value"),
        (recovery(json!({ "pipeline": "b", "targetTime": "yesterday" })), "must be of type date-time"),
        (
            recovery(json!({ "volumeSnapshots": { "storage": "a" }, "targetTime": "2026-11-28T09:30:00Z" })),
            "targetTime needs the write-ahead log",
        ),
    ]
}

/// Connections to external components that are refused at creation, and words of the refusal.
fn connections() -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "kafka": { "external": { "bootstrapServers": ["a:1", "broker"] } } }), "Add what is missing"),
        (json!({ "cache": { "dragonfly": {}, "external": { "url": "redis://a:6379" } } }), "not both"),
        (json!({ "cache": { "external": { "url": "redis://:password@a:6379" } } }), "should match"),
        (
            json!({ "cache": { "external": { "url": "redis://a:6379" } } }),
            "set tls.mode: Disable to send everything in plaintext",
        ),
        (
            json!({ "cache": { "external": { "url": "rediss://a:6379", "tls": { "mode": "Disable" } } } }),
            "Use redis://, or remove the mode",
        ),
        (
            json!({ "postgres": { "external": { "uri": { "name": "a", "key": "uri" }, "tls": {
            "mode": "Disable", "ca": { "name": "a", "key": "ca.crt" },
        } } } }),
            "ca and clientCertificate have no effect",
        ),
    ]
}

/// The same, about callers.
fn callers() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({ "server": { "tls": { "mode": "Disable", "names": ["a"] } } }),
            "secretName, names and clientCa have no effect",
        ),
        (json!({ "server": { "tls": { "secretName": "a", "names": ["a"] } } }), "but secretName brings its own"),
        (
            json!({ "server": { "authentication": { "mode": "Disable", "serviceAccounts": {} } } }),
            "tokens, issuers and serviceAccounts have no effect",
        ),
        (
            json!({ "server": { "authentication": { "tokens": [
            { "name": "first", "sha256": { "name": "a", "key": "a" } },
        ] } } }),
            "first, operator and metrics are tokens that the operator generates",
        ),
        (
            json!({ "server": { "authorization": { "rules": [{ "callers": ["*"], "permissions": ["write"] }] } } }),
            "Unsupported value",
        ),
        (quota(json!({})), "the quota limits nothing. Set eventsPerSecond"),
        (quota(json!({ "eventsPerSecond": 0 })), "should be greater than or equal to 1"),
        (quota(json!({ "newKindsPerDay": 5, "burstSeconds": 2 })), "burstSeconds has no effect"),
        (quota(json!({ "newSourcesPerDay": 5, "newKindsPerDay": 4 })), "the first kind of each new source counts, too"),
        (quota(json!({ "eventsPerSecond": 1, "per": "source" })), "Unsupported value"),
    ]
}

/// A spec with one quota for all callers, with these limits.
fn quota(limits: Value) -> Value {
    let mut quota = json!({ "name": "all", "callers": ["*"] });
    quota.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    json!({ "server": { "authorization": { "quotas": [quota] } } })
}

/// A change of `spec: {}` that is refused, and words of the refusal.
fn later() -> Vec<(Value, &'static str)> {
    let external = json!({ "uri": { "name": "a", "key": "uri" } });
    vec![
        (json!({ "postgres": { "cluster": { "storage": { "size": "9Gi" } } } }), "a volume cannot shrink"),
        (json!({ "postgres": { "cluster": { "recovery": { "pipeline": "b" } } } }), "this one has data already"),
        (json!({ "postgres": { "cluster": null, "external": external } }), "its events would stay in the old database"),
        (json!({ "kafka": { "topic": { "partitions": 5 } } }), "Kafka cannot remove partitions"),
        (json!({ "kafka": { "topic": { "name": "other" } } }), "a topic cannot be renamed"),
        (json!({ "kafka": { "minutesTopic": { "name": "other" } } }), "a topic cannot be renamed"),
        (json!({ "kafka": { "clusterRef": { "name": "other" } } }), "cannot move to another Kafka"),
        (json!({ "kafka": { "external": { "bootstrapServers": ["a:9092"] } } }), "cannot move to another Kafka"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_applied_and_so_is_every_object_of_it() {
    let test = TestNamespace::new("examples").await;
    let _operator = Operator::plain(&test);
    test.make_namespace("kafka").await;
    grant(&test, "kafka", json!([{ "kind": "Kafka", "name": "events" }])).await;
    // As the comments of the examples say.
    for (name, keys) in [
        ("own-postgres", json!({ "uri": "a", "ca.crt": "a" })),
        ("own-kafka", json!({ "password": "a", "ca.crt": "a" })),
        ("own-cache", json!({ "password": "a", "ca.crt": "a" })),
        ("shared-postgres", json!({ "uri": "a", "ca.crt": "a" })),
        ("shared-cache", json!({ "password": "a", "ca.crt": "a" })),
        ("callers", json!({ "ci": "0".repeat(64), "issuer-ca": "a", "partners": "a" })),
        ("pings-backup", json!({ "ACCESS_KEY_ID": "a", "ACCESS_SECRET_KEY": "a" })),
    ] {
        set_allowed_secret(&test, name, keys).await;
    }
    test.kubectl(&["apply", "-f", &root().join("examples").to_string_lossy()]).await;
    let names = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let files = names.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).count();
    let pipelines = test.pipelines().list(&Default::default()).await.unwrap().items;
    assert_eq!(pipelines.len(), files, "a PingPipeline in each file, and each of another name");
    for name in pipelines.iter().map(kube::ResourceExt::name_any) {
        // What is refused, or not accepted by the API server, does not become this.
        until(&format!("{name} waits for others only"), async || {
            let (stalled, ..) = test.condition(&name, "Stalled").await;
            let (_, reason, message) = test.condition(&name, "Ready").await;
            let waits = stalled == "False" && ["Provisioning", "OperatorSilent"].contains(&&*reason);
            // Its Kafka is not there.
            let well = waits || (name == "shared" && reason == "ReferenceMissing");
            if well { Ok(()) } else { Err(format!("{reason}: {message}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_what_could_never_work() {
    let test = TestNamespace::new("refused-new").await;
    for (spec, words) in at_creation().into_iter().chain(backups()).chain(connections()).chain(callers()) {
        let refusal = test.try_create("demo", spec.clone()).await.expect_err(&spec.to_string()).to_string();
        assert!(refusal.contains(words), "{spec}: \"{words}\" is not in: {refusal}");
    }
    let refusal = test.try_create("has.dots", json!({})).await.unwrap_err().to_string();
    assert!(refusal.contains("the name becomes part of Service names"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_changes_that_lose_data_and_says_the_way_out() {
    let test = TestNamespace::new("refused-change").await;
    test.create("demo", json!({ "postgres": { "cluster": {} } })).await;
    for (spec, words) in later() {
        let refusal = test.change("demo", spec.clone()).await.expect_err(&spec.to_string()).to_string();
        assert!(refusal.contains(words), "{spec}: \"{words}\" is not in: {refusal}");
    }
    test.change("demo", json!({ "postgres": { "cluster": { "storage": { "size": "11Gi" } } } })).await.unwrap();
    test.change("demo", json!({ "kafka": { "topic": { "partitions": 7 } } })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_schema_cannot_see_is_refused_by_the_operator_in_the_status() {
    let test = TestNamespace::new("refused-status").await;
    let _operator = Operator::plain(&test);
    let parameters = json!({ "fsync": "off" });
    test.create("demo", json!({ "postgres": { "cluster": { "parameters": parameters } } })).await;
    test.wait_for("demo", "Stalled", "True").await;
    let (status, reason, message) = test.condition("demo", "Ready").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UnsafeForExact"));
    assert!(message.contains("fsync"), "{message}");
    test.change("demo", json!({ "postgres": { "cluster": { "parameters": { "fsync": null } } } })).await.unwrap();
    test.wait_for("demo", "Stalled", "False").await;
}
