//! Snapshots of built objects as YAML. After a change, run `INSTA_UPDATE=always cargo test -p ping-operator` and read the diff.

use std::collections::BTreeSet;

use ping_api::{
    crd::{
        DeletionPolicy, PingPipeline,
        sources::Threshold,
        workload::{ServerAutoscaling, ServerRole},
    },
    kinds::Kind,
};
use ping_operator::{
    build::build,
    cluster_state::ClusterState,
    desired::{Desired, Object},
    external::Observed,
    validate::validate,
};
use serde_json::{Value, json};

use crate::fixture::{demo, empty, example, live, live_of, with_secret};

fn desired(name: &str, state: &ClusterState) -> Desired {
    build(&validate(&example(name), state).unwrap())
}

fn yaml(object: &Object) -> String {
    yaml_serde::to_string(&object.to_json().unwrap()).unwrap()
}

fn find(desired: &Desired, kind: Kind, name: &str) -> Value {
    let found = desired.objects.iter().find(|object| object.key.kind == kind && object.key.name == name);
    found.unwrap_or_else(|| panic!("no {} {name}", kind.name())).to_json().unwrap()
}

fn deployment_checksum(desired: &Desired, name: &str) -> String {
    let deployment = find(desired, Kind::Deployment, name);
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    annotations["pingpipeline.io/secrets"].as_str().unwrap().to_owned()
}

/// Start of the names of the topics and users of `existing-parts` in the namespace of Kafka.
const SHARED: &str = "default-shared-6c8b4baab4833a3eb199";

/// A shared Kafka cluster in namespace `kafka`, which `existing-parts` refers to.
fn shared_kafka() -> ClusterState {
    let kafka = json!({
        "spec": { "kafka": {
            "authorization": { "type": "simple" },
            "listeners": [{ "name": "tls", "port": 9093, "tls": true, "authentication": { "type": "scram-sha-512" } }],
        } },
        "status": { "listeners": [{ "name": "tls", "bootstrapServers": "events-kafka-bootstrap.kafka.svc:9093" }] },
    });
    let (_, object) = live(Kind::Kafka, "kafka", "events", kafka);
    let mut state = ClusterState { kafka: Some(Observed::of(&object)), ..empty() };
    with_secret(&mut state, "kafka", "events-cluster-ca-cert", &[("ca.crt", "certificate")]);
    with_secret(&mut state, "kafka", &format!("{SHARED}-server"), &[("password", "one")]);
    with_secret(&mut state, "kafka", &format!("{SHARED}-processor"), &[("password", "two")]);
    state
}

#[test]
fn every_object_of_an_empty_spec() {
    for object in &desired("demo", &empty()).objects {
        let name = format!("demo-{}-{}", object.key.kind.name(), object.key.name);
        insta::assert_snapshot!(name, yaml(object));
    }
}

#[test]
fn the_other_examples() {
    for (name, state) in [("development", empty()), ("existing-parts", shared_kafka()), ("production", empty())] {
        let all: Vec<String> = desired(name, &state).objects.iter().map(yaml).collect();
        insta::assert_snapshot!(name, all.join("---\n"));
    }
}

#[test]
fn no_object_is_built_twice() {
    for (name, state) in [("demo", empty()), ("existing-parts", shared_kafka()), ("production", empty())] {
        let desired = desired(name, &state);
        let keys: BTreeSet<_> = desired.objects.iter().map(|object| &object.key).collect();
        assert_eq!(keys.len(), desired.objects.len(), "{name}");
    }
}

#[test]
fn data_has_no_owner_under_retain_so_that_nothing_can_cascade_to_it() {
    let mut pipeline = example("production");
    for (policy, owned) in [(DeletionPolicy::Retain, false), (DeletionPolicy::Delete, true)] {
        pipeline.spec.deletion_policy = policy;
        let desired = build(&validate(&pipeline, &empty()).unwrap());
        for object in desired.objects.iter().filter(|object| object.key.kind.is_retained()) {
            let has_owner = !object.to_json().unwrap()["metadata"]["ownerReferences"].is_null();
            assert_eq!(has_owner, owned, "{policy:?}: {}", object.key);
        }
    }
}

#[test]
fn objects_in_the_namespace_of_kafka_have_no_owner() {
    for object in desired("existing-parts", &shared_kafka()).objects {
        let value = object.to_json().unwrap();
        assert_eq!(object.key.namespace == "kafka", value["metadata"]["ownerReferences"].is_null(), "{}", object.key);
    }
}

#[test]
fn a_changed_secret_changes_the_pods() {
    let mut state = empty();
    let mut checksums = Vec::new();
    for password in ["one", "two"] {
        with_secret(&mut state, "default", "demo-postgres-app", &[("uri", password)]);
        with_secret(&mut state, "default", "demo-kafka-cluster-ca-cert", &[("ca.crt", "certificate")]);
        with_secret(&mut state, "default", "demo-kafka-server", &[("password", "secret")]);
        with_secret(&mut state, "default", "demo-cache-login", &[("server", "secret")]);
        checksums.push(deployment_checksum(&desired("demo", &state), "demo-server"));
    }
    assert_ne!(checksums[0], checksums[1]);
    assert!(!checksums.contains(&"pending".to_owned()));
}

#[test]
fn a_secret_that_is_missing_for_a_moment_restarts_nothing() {
    let mut state = empty();
    let template =
        json!({ "spec": { "template": { "metadata": { "annotations": { "pingpipeline.io/secrets": "abc" } } } } });
    state.live = live_of([live(Kind::Deployment, "default", "demo-server", template)]);
    assert_eq!(deployment_checksum(&desired("demo", &state), "demo-server"), "abc");
}

#[test]
fn secrets_of_kafka_in_another_namespace_are_copied() {
    let desired = desired("existing-parts", &shared_kafka());
    assert_eq!(find(&desired, Kind::Secret, "shared-kafka-server")["data"]["password"], "b25l");
    assert_eq!(find(&desired, Kind::Secret, "shared-kafka-ca")["data"]["ca.crt"], "Y2VydGlmaWNhdGU=");
}

#[test]
fn while_the_address_of_kafka_is_unknown_running_pods_are_kept() {
    let desired = desired("existing-parts", &empty());
    assert!(!desired.objects.iter().any(|object| object.key.kind == Kind::Deployment));
    assert!(desired.keep.iter().any(|key| key.kind == Kind::Deployment && key.name == "shared-server"));
    assert!(desired.keep.iter().any(|key| key.kind == Kind::KafkaUser && key.name == format!("{SHARED}-server")));
}

#[test]
fn the_number_of_pods_is_kept_until_an_autoscaler_has_taken_it_over() {
    let mut state = shared_kafka();
    let replicas = |state: &ClusterState| {
        find(&desired("existing-parts", state), Kind::Deployment, "shared-server")["spec"]["replicas"].clone()
    };
    assert_eq!(replicas(&state), 3, "initially, the minimum");
    let running = |manager: &str| {
        let fields = json!({ "f:spec": { "f:replicas": {} } });
        let owner = json!({ "manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields });
        let extra = json!({ "metadata": { "managedFields": [owner] }, "spec": { "replicas": 7 } });
        live_of([live(Kind::Deployment, "default", "shared-server", extra)])
    };
    state.live = running("ping-operator");
    assert_eq!(replicas(&state), 7, "unchanged while no other manager owns it");
    state.live = running("kube-controller-manager");
    assert_eq!(replicas(&state), Value::Null, "owned by the autoscaler");
}

#[test]
fn an_autoscaler_never_asks_for_more_processors_than_partitions() {
    let mut pipeline = example("existing-parts");
    pipeline.spec.kafka.topic.partitions = 4;
    let desired = build(&validate(&pipeline, &shared_kafka()).unwrap());
    assert_eq!(find(&desired, Kind::HorizontalPodAutoscaler, "shared-processor")["spec"]["maxReplicas"], 4);
}

#[test]
fn hibernation_keeps_the_data_and_nothing_else() {
    let mut pipeline = demo();
    pipeline.spec.hibernate = true;
    let desired = build(&validate(&pipeline, &empty()).unwrap());
    assert_eq!(find(&desired, Kind::Deployment, "demo-server")["spec"]["replicas"], 0);
    assert_eq!(find(&desired, Kind::Cluster, "demo-postgres")["metadata"]["annotations"]["cnpg.io/hibernation"], "on");
    assert!(!desired.objects.iter().any(|object| object.key.kind == Kind::Dragonfly));
}

#[test]
fn backups_run_at_the_configured_minute() {
    let desired = desired("production", &empty());
    assert_eq!(find(&desired, Kind::ScheduledBackup, "pings-postgres")["spec"]["schedule"], "0 0 2 * * *");
}

#[test]
fn pods_meet_the_restricted_standard() {
    for name in ["demo-server", "demo-processor"] {
        let pod = find(&desired("demo", &empty()), Kind::Deployment, name)["spec"]["template"]["spec"].clone();
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    }
}

fn variable(desired: &Desired, deployment: &str, name: &str) -> Value {
    let container = &find(desired, Kind::Deployment, deployment)["spec"]["template"]["spec"]["containers"][0];
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).map_or(Value::Null, |found| found["value"].clone())
}

#[test]
fn servers_and_processors_have_the_same_rule_and_retention() {
    let mut pipeline = demo();
    let sources = &mut pipeline.spec.sources;
    sources.status.negative_when = Threshold { kind: "spam=reported".into(), at_least: 3 };
    sources.status.labels.positive = "accepts all".into();
    (sources.window_retention_days, sources.day_retention_days) = (30, 400);
    (sources.max_sources, sources.new_kind_names_per_day) = (5_000_000_000, 0);
    pipeline.spec.events.retention_days = 90;
    let desired = build(&validate(&pipeline, &empty()).unwrap());
    let expected = [
        ("PING_STATUS_NEGATIVE_WHEN", "spam=reported=3"),
        ("PING_STATUS_POSITIVE_WHEN", "succeeded=1000"),
        ("PING_STATUS_LABELS", "negative,accepts all,unknown"),
        ("PING_WINDOW_RETENTION_DAYS", "30"),
        ("PING_DAY_RETENTION_DAYS", "400"),
        ("PING_EVENT_RETENTION_DAYS", "90"),
    ];
    for (name, value) in expected {
        for deployment in ["demo-server", "demo-processor"] {
            assert_eq!(variable(&desired, deployment, name), value, "{name} of {deployment}");
        }
    }
    for (name, value) in [("PING_MAX_SOURCES", "5000000000"), ("PING_NEW_KIND_NAMES_PER_DAY", "0")] {
        assert_eq!(variable(&desired, "demo-server", name), value);
        assert_eq!(variable(&desired, "demo-processor", name), Value::Null, "only servers refuse events");
    }
}

#[test]
fn servers_and_processors_send_traces_to_the_collector_if_there_is_one() {
    let mut pipeline = demo();
    let names =
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_RESOURCE_ATTRIBUTES"];
    let variables = |pipeline: &PingPipeline, deployment| {
        let desired = build(&validate(pipeline, &empty()).unwrap());
        names.map(|name| variable(&desired, deployment, name))
    };
    pipeline.spec.tracing.endpoint = Some("http://collector.observability:4317".into());
    let resource = "k8s.namespace.name=default,service.namespace=demo";
    for (rate, ratio) in [(10_000, "0.01"), (1, "0.000001"), (1_000_000, "1"), (0, "0")] {
        pipeline.spec.tracing.sampling_rate_per_million = rate;
        let expected = ["http://collector.observability:4317", "parentbased_traceidratio", ratio, resource];
        assert_eq!(variables(&pipeline, "demo-server"), expected);
        assert_eq!(variables(&pipeline, "demo-processor"), expected);
    }
    pipeline.spec.tracing.endpoint = None;
    assert_eq!(variables(&pipeline, "demo-server"), names.map(|_| Value::Null));
}

#[test]
fn statuses_fill_half_of_a_managed_cache_unless_a_limit_is_set() {
    let limit = |pipeline: &PingPipeline| {
        variable(&build(&validate(pipeline, &empty()).unwrap()), "demo-server", "PING_STATUS_SOURCES")
    };
    let mut pipeline = demo();
    assert_eq!(limit(&pipeline), "2097152", "512 MiB, 128 bytes each");
    let said = json!({ "name": "PING_STATUS_SOURCES", "value": "5000" });
    pipeline.spec.server.pod.env = vec![serde_json::from_value(said).unwrap()];
    assert_eq!(limit(&pipeline), "5000");
    pipeline.spec.server.pod.env.clear();
    pipeline.spec.cache.external = Some(serde_json::from_value(json!({ "url": "rediss://cache:6379" })).unwrap());
    assert_eq!(limit(&pipeline), Value::Null);
}

#[test]
fn the_summary_topic_is_compacted_and_only_processors_write_to_it() {
    let desired = desired("demo", &empty());
    let topic = find(&desired, Kind::KafkaTopic, "demo-ping-minutes")["spec"].clone();
    assert_eq!((&topic["topicName"], &topic["config"]["cleanup.policy"]), (&json!("ping-minutes"), &json!("compact")));
    assert_eq!((&topic["partitions"], &topic["replicas"]), (&json!(1), &json!(3)));
    let named = |user: &str| {
        let user = find(&desired, Kind::KafkaUser, user);
        let acls = user["spec"]["authorization"]["acls"].as_array().unwrap().clone();
        let acl = acls.into_iter().find(|acl| acl["resource"]["name"] == "ping-minutes");
        acl.map_or(Value::Null, |acl| acl["operations"].clone())
    };
    assert_eq!(
        (named("demo-kafka-processor"), named("demo-kafka-server")),
        (json!(["Describe", "Write"]), Value::Null)
    );
    let topic_variable = |deployment: &str| variable(&desired, deployment, "PING_KAFKA_MINUTES_TOPIC");
    assert_eq!((topic_variable("demo-processor"), topic_variable("demo-server")), (json!("ping-minutes"), Value::Null));
}

#[test]
fn summaries_are_published_where_the_operator_creates_topics_and_otherwise_if_enabled() {
    let topic_variable = |name: &str, state: &ClusterState, enabled: Option<bool>| {
        let mut pipeline = example(name);
        pipeline.spec.kafka.minutes_topic.enabled = enabled;
        let desired = build(&validate(&pipeline, state).unwrap());
        let processor = format!("{}-processor", pipeline.metadata.name.unwrap());
        variable(&desired, &processor, "PING_KAFKA_MINUTES_TOPIC")
    };
    assert_eq!(topic_variable("demo", &empty(), Some(false)), Value::Null);
    assert_eq!(topic_variable("existing-parts", &shared_kafka(), None), "default.shared.ping-minutes");
    assert_eq!(topic_variable("external-kafka", &empty(), None), Value::Null);
    assert_eq!(topic_variable("external-kafka", &empty(), Some(true)), "ping-minutes");
}

/// Separate servers: 3 for ingest, 5 for queries.
fn split() -> PingPipeline {
    let mut pipeline = demo();
    pipeline.spec.server.query = Some(ServerRole { replicas: Some(5), ..ServerRole::default() });
    pipeline
}

#[test]
fn servers_with_roles_have_all_objects_and_no_more_access_than_they_need() {
    let desired = build(&validate(&split(), &empty()).unwrap());
    let kinds = |name: &str| {
        let of_name = desired.objects.iter().filter(|object| object.key.name == name);
        of_name.map(|object| object.key.kind).collect::<BTreeSet<_>>()
    };
    let whole = build(&validate(&demo(), &empty()).unwrap());
    let all: BTreeSet<_> =
        whole.objects.iter().filter(|object| object.key.name == "demo-server").map(|object| object.key.kind).collect();
    assert_eq!((kinds("demo-ingest"), kinds("demo-query"), kinds("demo-server")), (all.clone(), all, BTreeSet::new()));
    let replicas = |name: &str| find(&desired, Kind::Deployment, name)["spec"]["replicas"].clone();
    assert_eq!((replicas("demo-ingest"), replicas("demo-query")), (json!(3), json!(5)));
    let role = |name: &str| variable(&desired, name, "PING_ROLE");
    assert_eq!((role("demo-ingest"), role("demo-query")), (json!("ingest"), json!("query")));
    for (name, kafka, cache) in [("demo-ingest", true, false), ("demo-query", false, true)] {
        let policy = find(&desired, Kind::NetworkPolicy, name)["spec"]["egress"].to_string();
        assert_eq!((policy.contains("strimzi.io/cluster"), policy.contains("demo-cache")), (kafka, cache), "{policy}");
        let pods = find(&desired, Kind::Deployment, name).to_string();
        assert_eq!(pods.contains("PING_KAFKA_SASL_PASSWORD"), kafka, "{name}");
        let selected = find(&desired, Kind::Service, name)["spec"]["selector"]["app.kubernetes.io/component"].clone();
        assert!(name.ends_with(selected.as_str().unwrap()));
    }
}

#[test]
fn a_role_takes_omitted_settings_from_all_servers() {
    let mut pipeline = split();
    let server = &mut pipeline.spec.server;
    server.autoscaling = Some(ServerAutoscaling { min_replicas: 4, ..ServerAutoscaling::default() });
    server.trusted_proxies = vec!["10.0.0.0/8".into(), "2001:db8::/32".into()];
    let desired = build(&validate(&pipeline, &empty()).unwrap());
    assert_eq!(find(&desired, Kind::HorizontalPodAutoscaler, "demo-ingest")["spec"]["minReplicas"], 4);
    assert_eq!(find(&desired, Kind::Deployment, "demo-query")["spec"]["replicas"], 5);
    let scaled = desired.objects.iter().filter(|object| object.key.kind == Kind::HorizontalPodAutoscaler).count();
    assert_eq!(scaled, 1, "replicas of a role replace the autoscaling of all servers");
    for name in ["demo-ingest", "demo-query"] {
        assert_eq!(variable(&desired, name, "PING_TRUSTED_PROXIES"), "10.0.0.0/8,2001:db8::/32");
    }
}

#[test]
fn servers_of_the_previous_layout_stay_until_all_new_ones_are_available() {
    let deployment = |name: &str, available: i32| {
        let status = json!({ "observedGeneration": 2, "availableReplicas": available });
        live(Kind::Deployment, "default", name, json!({ "metadata": { "generation": 2 }, "status": status }))
    };
    let kept = |pipeline: &PingPipeline, others: &[(&str, i32)]| {
        let mut state = empty();
        state.live = live_of(others.iter().map(|(name, available)| deployment(name, *available)));
        let desired = build(&validate(pipeline, &state).unwrap());
        let names = desired.keep.iter().filter(|key| key.kind == Kind::Deployment).map(|key| key.name.clone());
        let services = desired.keep.iter().filter(|key| key.kind == Kind::Service).map(|key| key.name.clone());
        assert_eq!(names.clone().collect::<Vec<_>>(), services.collect::<Vec<_>>());
        names.collect::<Vec<_>>()
    };
    assert_eq!(kept(&split(), &[("demo-server", 3)]), ["demo-server"]);
    assert_eq!(kept(&split(), &[("demo-server", 3), ("demo-ingest", 3), ("demo-query", 4)]), ["demo-server"]);
    assert!(kept(&split(), &[("demo-server", 3), ("demo-ingest", 3), ("demo-query", 5)]).is_empty());
    assert_eq!(
        kept(&demo(), &[("demo-ingest", 3), ("demo-query", 5), ("demo-server", 2)]),
        ["demo-ingest", "demo-query"]
    );
    assert!(kept(&demo(), &[("demo-ingest", 3), ("demo-query", 5), ("demo-server", 3)]).is_empty());
}
