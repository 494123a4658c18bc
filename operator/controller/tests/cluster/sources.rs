//! Status rule of sources, and the topic for per-minute summaries.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use ping_api::kinds::Kind;
use serde_json::{Value, json};

use crate::harness::{
    TestNamespace,
    fake_operators::{api, make_all_ready, make_pods_ready},
    operator::Operator,
    until,
};

/// Value of the environment variable `name` in the only container of a Deployment's pods.
async fn variable(test: &TestNamespace, deployment: &str, name: &str) -> Option<String> {
    let found = api(test, Kind::Deployment, &test.namespace).get(deployment).await.unwrap();
    let variables = found.data["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    let value = variables.into_iter().find(|variable| variable["name"] == name)?["value"].clone();
    value.as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_rolls_servers_and_processors() {
    let test = TestNamespace::new("sources-rule").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    test.change("demo", json!({ "sources": { "status": { "negativeWhen": { "atLeast": 2 } } } })).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(test.client.clone(), &test.namespace);
    for role in ["server", "processor"] {
        until(&format!("{role}s all of the new rule"), async || {
            make_pods_ready(&test).await;
            // Read the rule first. Otherwise the numbers of the old rollout could be taken for those of the new one.
            let rule = variable(&test, &format!("demo-{role}"), "PING_STATUS_NEGATIVE_WHEN").await;
            let found = deployments.get(&format!("demo-{role}")).await.unwrap();
            let status = found.status.unwrap_or_default();
            let (all, new) = (status.replicas, status.updated_replicas);
            let taken_up =
                rule.as_deref() == Some("failed=2") && status.observed_generation == found.metadata.generation;
            let done = taken_up && all == new && status.available_replicas == all;
            if done { Ok(()) } else { Err(format!("{rule:?}, {new:?} of {all:?}")) }
        })
        .await;
    }
    test.wait_for("demo", "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_no_event_could_match_is_rejected_and_pods_keep_running() {
    let test = TestNamespace::new("sources-refused").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    let kind = |kind: &str| json!({ "sources": { "status": { "positiveWhen": { "kind": kind } } } });
    // 64 letters at most for the schema, which does not count bytes.
    test.change("demo", kind(&"\u{fc}".repeat(40))).await.unwrap();
    test.wait_for("demo", "Stalled", "True").await;
    let (status, reason, message) = test.condition("demo", "Ready").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
    for words in ["spec.sources.status.positiveWhen.kind has 80 bytes", "Set it to the kind of your events"] {
        assert!(message.contains(words), "\"{words}\" is not in: {message}");
    }
    assert_eq!(variable(&test, "demo-server", "PING_STATUS_POSITIVE_WHEN").await.as_deref(), Some("succeeded=1000"));
    test.change("demo", kind("opened")).await.unwrap();
    test.wait_for("demo", "Stalled", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_the_summary_topic_removes_its_permissions_and_keeps_its_records() {
    let test = TestNamespace::new("sources-minutes").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({ "deletionPolicy": "Delete" })).await;
    make_all_ready(&test, "demo", 3, 2).await;
    let seen = async || {
        let topic = api(&test, Kind::KafkaTopic, &test.namespace).get_opt("demo-ping-minutes").await.unwrap();
        let user = api(&test, Kind::KafkaUser, &test.namespace).get("demo-kafka-processor").await.unwrap();
        let acls = user.data["spec"]["authorization"]["acls"].as_array().unwrap().clone();
        let may: Vec<Value> = acls.into_iter().filter(|acl| acl["resource"]["name"] == "ping-minutes").collect();
        (topic, may.len(), variable(&test, "demo-processor", "PING_KAFKA_MINUTES_TOPIC").await)
    };
    let (topic, may, variable) = seen().await;
    assert_eq!(topic.unwrap().data["spec"]["config"]["cleanup.policy"], "compact");
    assert_eq!((may, variable.as_deref()), (1, Some("ping-minutes")));
    test.change("demo", json!({ "kafka": { "minutesTopic": { "enabled": false } } })).await.unwrap();
    until("neither permission nor variable for the topic, which still exists", async || {
        let (topic, may, variable) = seen().await;
        if (topic.is_some(), may, &variable) == (true, 0, &None) { Ok(()) } else { Err(format!("{may} {variable:?}")) }
    })
    .await;
    test.pipelines().delete("demo", &Default::default()).await.unwrap();
    until("the end of the topic, with its pipeline", async || {
        if seen_topics(&test).await == 0 { Ok(()) } else { Err("it is there".into()) }
    })
    .await;
}

async fn seen_topics(test: &TestNamespace) -> usize {
    api(test, Kind::KafkaTopic, &test.namespace).list(&Default::default()).await.unwrap().items.len()
}
