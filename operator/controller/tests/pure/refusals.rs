//! A valid fixture with one mistake each: what is rejected, and with which message.

use k8s_openapi::api::core::v1::EnvVar;
use ping_api::{
    crd::{
        Durability, PingPipeline, SecretKey,
        kafka::{ExternalKafka, KafkaCluster, NodePool},
        postgres::{DataDurability, ExternalPostgres, PostgresCluster, Storage, Synchronous},
        sources::Threshold,
        tls::ConnectionTls,
        workload::Resources,
    },
    kinds::Kind,
};
use ping_operator::validate::{Invalid, validate};
use serde_json::json;

use crate::fixture::{demo, empty, example, live, live_of, refusal};

type Spoil = fn(&mut PingPipeline);

fn cluster(pipeline: &mut PingPipeline) -> &mut PostgresCluster {
    pipeline.spec.postgres.cluster.get_or_insert_default()
}

fn brokers(pipeline: &mut PingPipeline, replicas: i32) {
    let brokers = NodePool { replicas, ..NodePool::default() };
    pipeline.spec.kafka.cluster = Some(KafkaCluster { brokers, ..KafkaCluster::default() });
}

/// Every setting that can lose an acknowledged event, and the field that the message names.
const UNSAFE: &[(&str, Spoil)] = &[
    ("postgres.cluster.instances is 1", |pipeline| cluster(pipeline).instances = 1),
    ("synchronous.number is 0", |pipeline| {
        cluster(pipeline).synchronous = Synchronous { number: 0, ..Synchronous::default() };
    }),
    ("dataDurability is Preferred", |pipeline| {
        cluster(pipeline).synchronous.data_durability = DataDurability::Preferred;
    }),
    ("parameters.fsync is \"off\"", |pipeline| {
        cluster(pipeline).parameters.insert("fsync".into(), "off".into());
    }),
    ("parameters.Fsync is \"off\"", |pipeline| {
        cluster(pipeline).parameters.insert("Fsync".into(), "off".into());
    }),
    ("parameters.SYNCHRONOUS_COMMIT is \"local\"", |pipeline| {
        let parameters = [("SYNCHRONOUS_COMMIT", "local"), ("synchronous_commit", "on")];
        cluster(pipeline).parameters.extend(parameters.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }),
    ("parameters.full_page_writes is \"OFF\"", |pipeline| {
        cluster(pipeline).parameters.insert("full_page_writes".into(), "OFF".into());
    }),
    ("parameters.synchronous_commit is \"off\"", |pipeline| {
        cluster(pipeline).parameters.insert("synchronous_commit".into(), "off".into());
    }),
    ("parameters.synchronous_commit is \"local\"", |pipeline| {
        cluster(pipeline).parameters.insert("synchronous_commit".into(), "local".into());
    }),
    ("parameters.synchronous_commit is \"remote_write\"", |pipeline| {
        cluster(pipeline).parameters.insert("synchronous_commit".into(), "remote_write".into());
    }),
    ("topic.replicas is 2", |pipeline| pipeline.spec.kafka.topic.replicas = 2),
    ("topic.minInSyncReplicas is 1", |pipeline| pipeline.spec.kafka.topic.min_in_sync_replicas = 1),
    ("brokers.replicas is 2", |pipeline| {
        brokers(pipeline, 2);
        pipeline.spec.kafka.topic.replicas = 2;
    }),
];

#[test]
fn settings_that_can_lose_an_acknowledged_event_are_rejected_when_exact() {
    for (words, spoil) in UNSAFE {
        let invalid = refusal(*spoil);
        assert!(matches!(invalid, Invalid::UnsafeForExact(_)), "{words}: {invalid:?}");
        let message = invalid.to_string();
        assert!(message.contains(words), "{words} is not in: {message}");
        assert!(message.ends_with("or set durability: BestEffort"), "{message}");
    }
}

#[test]
fn the_same_settings_are_allowed_and_listed_when_best_effort() {
    for (words, spoil) in UNSAFE {
        let mut pipeline = demo();
        pipeline.spec.durability = Durability::BestEffort;
        spoil(&mut pipeline);
        let validated = validate(&pipeline, &empty()).unwrap();
        assert!(
            validated.durability_risks.iter().any(|risk| risk.contains(words)),
            "{words}: {:?}",
            validated.durability_risks
        );
    }
}

#[test]
fn one_instance_and_exact_is_refused_in_words_that_a_newcomer_understands() {
    insta::assert_snapshot!(refusal(|pipeline| cluster(pipeline).instances = 1).to_string());
}

#[test]
fn the_examples_are_valid() {
    for name in
        ["demo", "development", "existing-parts", "mail-domains", "production", "restored", "roles", "two-cores"]
    {
        assert_eq!(validate(&example(name), &empty()).err(), None, "{name}");
    }
}

#[test]
fn two_settings_for_one_part_are_refused() {
    let uri = SecretKey { name: "a".into(), key: "uri".into() };
    let external = ExternalPostgres { uri, read_uri: None, tls: ConnectionTls::default(), port: 5432 };
    let invalid = refusal(|pipeline| {
        cluster(pipeline).instances = 3;
        pipeline.spec.postgres.external = Some(external);
    });
    assert!(invalid.to_string().contains("not both"), "{invalid}");
}

#[test]
fn more_synchronous_standbys_than_there_are_is_refused() {
    let invalid = refusal(|pipeline| cluster(pipeline).synchronous.number = 3);
    assert!(invalid.to_string().contains("would wait forever"), "{invalid}");
}

#[test]
fn more_processors_than_partitions_is_refused() {
    let invalid = refusal(|pipeline| pipeline.spec.processor.replicas = 7);
    assert!(invalid.to_string().contains("would be idle"), "{invalid}");
}

#[test]
fn more_topic_replicas_than_brokers_is_refused() {
    let invalid = refusal(|pipeline| pipeline.spec.kafka.topic.replicas = 4);
    assert!(invalid.to_string().contains("cannot have more replicas than brokers"), "{invalid}");
}

#[test]
fn too_little_memory_for_dragonfly_is_refused() {
    let invalid = refusal(|pipeline| {
        let dragonfly = pipeline.spec.cache.dragonfly.get_or_insert_default();
        dragonfly.resources = Resources::of("100m", "256Mi");
    });
    assert!(invalid.to_string().contains("320Mi"), "{invalid}");
}

#[test]
fn environment_names_of_the_operator_cannot_be_overridden() {
    let invalid = refusal(|pipeline| {
        let variable = EnvVar { name: "PING_POSTGRES_URL".into(), ..EnvVar::default() };
        pipeline.spec.server.pod.env.push(variable);
    });
    assert!(invalid.to_string().contains("PING_POSTGRES_URL"), "{invalid}");
}

#[test]
fn a_volume_does_not_shrink_even_when_the_pipeline_was_created_again() {
    let mut state = empty();
    let spec = json!({ "spec": { "storage": { "size": "20Gi" } } });
    state.live = live_of([live(Kind::Cluster, "default", "demo-postgres", spec)]);
    let invalid = validate(&demo(), &state).unwrap_err();
    assert!(matches!(invalid, Invalid::Irreversible(_)));
    assert!(invalid.to_string().contains("Set 20Gi"), "{invalid}");
    let mut grown = demo();
    cluster(&mut grown).storage = Storage::of("20480Mi");
    assert_eq!(validate(&grown, &state).err(), None);
}

#[test]
fn partitions_are_not_taken_away_even_when_the_pipeline_was_created_again() {
    let mut state = empty();
    let spec = json!({ "spec": { "partitions": 12 } });
    state.live = live_of([live(Kind::KafkaTopic, "default", "demo-pings", spec)]);
    let invalid = validate(&demo(), &state).unwrap_err();
    assert!(invalid.to_string().contains("Set 12"), "{invalid}");
}

#[test]
fn controllers_are_neither_added_nor_removed_even_when_the_pipeline_was_created_again() {
    let refusal = |pools: &[(&str, &[&str])], controllers: bool| {
        let mut pipeline = demo();
        let controllers = controllers.then(NodePool::default);
        pipeline.spec.kafka.cluster = Some(KafkaCluster { controllers, ..KafkaCluster::default() });
        let pool = |(name, roles): &(&str, &[&str])| {
            live(Kind::KafkaNodePool, "default", name, json!({ "spec": { "roles": roles } }))
        };
        let mut state = empty();
        state.live = live_of(pools.iter().map(pool));
        validate(&pipeline, &state).err()
    };
    let combined = [("demo-broker", &["controller", "broker"][..])];
    let separate = [("demo-broker", &["broker"][..]), ("demo-controller", &["controller"][..])];
    assert_eq!([refusal(&[], true), refusal(&combined, false), refusal(&separate, true)], [None, None, None]);
    for (pools, controllers, words) in [
        (&combined[..], true, "Remove controllers"),
        (&separate[..], false, "Set controllers as before"),
        (&separate[1..], false, "Set controllers as before"),
    ] {
        let invalid = refusal(pools, controllers).unwrap();
        assert!(matches!(&invalid, Invalid::Irreversible(message) if message.contains(words)), "{invalid}");
    }
}

fn collector(pipeline: &mut PingPipeline, endpoint: &str) {
    pipeline.spec.tracing.endpoint = Some(endpoint.into());
}

fn addresses(pipeline: &mut PingPipeline, addresses: &[&str]) {
    let bootstrap_servers = addresses.iter().map(|&address| address.to_owned()).collect();
    pipeline.spec.kafka.external = Some(ExternalKafka { bootstrap_servers, tls: None, sasl: None });
}

/// Invalid settings, and part of the message.
const UNFIT: &[(&str, Spoil)] = &[
    ("negativeWhen.kind has 0 bytes", |pipeline| pipeline.spec.sources.status.negative_when.kind.clear()),
    ("positiveWhen.kind has 80 bytes", |pipeline| {
        pipeline.spec.sources.status.positive_when.kind = "\u{fc}".repeat(40)
    }),
    ("without control characters", |pipeline| pipeline.spec.sources.status.positive_when.kind.push('\n')),
    ("negativeWhen.atLeast is 0", |pipeline| pipeline.spec.sources.status.negative_when.at_least = 0),
    ("positiveWhen.atLeast is 1000000001", |pipeline| {
        pipeline.spec.sources.status.positive_when.at_least = 1_000_000_001
    }),
    ("use different kinds", |pipeline| pipeline.spec.sources.status.positive_when.kind = "failed".into()),
    ("maxSources is -1", |pipeline| pipeline.spec.sources.max_sources = -1),
    ("newKindNamesPerDay is 1000001", |pipeline| pipeline.spec.sources.new_kind_names_per_day = 1_000_001),
    ("retentionDays is -1. Set it to a number of days", |pipeline| pipeline.spec.events.retention_days = -1),
    ("retentionDays is 3651", |pipeline| pipeline.spec.events.retention_days = 3651),
    ("samplingRatePerMillion is -1", |pipeline| pipeline.spec.tracing.sampling_rate_per_million = -1),
    ("samplingRatePerMillion is 1000001", |pipeline| pipeline.spec.tracing.sampling_rate_per_million = 1_000_001),
    ("tracing.endpoint is \"collector:4317\"", |pipeline| collector(pipeline, "collector:4317")),
    ("tracing.endpoint is \"http://collector\"", |pipeline| collector(pipeline, "http://collector")),
    ("tracing.endpoint is \"http://:4317\"", |pipeline| collector(pipeline, "http://:4317")),
    ("tracing.endpoint is \"http://collector:4317/v1\"", |pipeline| collector(pipeline, "http://collector:4317/v1")),
    ("tracing.endpoint is \"http://collector:0\"", |pipeline| collector(pipeline, "http://collector:0")),
    ("spec.server.env contains OTEL_TRACES_SAMPLER", |pipeline| {
        collector(pipeline, "http://collector:4317");
        pipeline.spec.server.pod.env = vec![EnvVar { name: "OTEL_TRACES_SAMPLER".into(), ..EnvVar::default() }];
    }),
    ("labels.positive is \"a,b\"", |pipeline| pipeline.spec.sources.status.labels.positive = "a,b".into()),
    ("labels.unknown is \"\"", |pipeline| pipeline.spec.sources.status.labels.unknown.clear()),
    ("three different labels", |pipeline| pipeline.spec.sources.status.labels.positive = "unknown".into()),
    ("is not a CIDR. Set", |pipeline| pipeline.spec.server.trusted_proxies = vec!["10.0.0.1".into()]),
    ("bootstrapServers contains \"broker\", which is not host:port", |pipeline| {
        addresses(pipeline, &["a:9092", "broker"])
    }),
    ("bootstrapServers contains \":9092\"", |pipeline| addresses(pipeline, &[":9092"])),
    ("bootstrapServers contains \"a:0\"", |pipeline| addresses(pipeline, &["a:0"])),
    ("bootstrapServers contains \"ssl://a:1\"", |pipeline| addresses(pipeline, &["ssl://a:1"])),
    ("bootstrapServers contains \"::1\"", |pipeline| addresses(pipeline, &["[::1]:9092", "::1"])),
    ("both called pings", |pipeline| pipeline.spec.kafka.minutes_topic.name = Some("pings".into())),
    ("both called pings-dead-letter", |pipeline| {
        pipeline.spec.kafka.minutes_topic.name = Some("pings-dead-letter".into());
    }),
];

#[test]
fn invalid_settings_are_rejected_with_what_to_do() {
    for (words, spoil) in UNFIT {
        let message = refusal(*spoil).to_string();
        assert!(
            message.contains(words) && (message.contains("Set ") || message.contains("Give ")),
            "{words}: {message}"
        );
    }
}

#[test]
fn one_kind_alone_can_make_a_rule() {
    let mut pipeline = demo();
    let status = &mut pipeline.spec.sources.status;
    status.negative_when = Threshold { kind: "seen".into(), at_least: 100 };
    status.positive_when = Threshold { kind: "seen".into(), at_least: 99 };
    assert_eq!(validate(&pipeline, &empty()).err(), None);
}
