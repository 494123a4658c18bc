//! Secrets that are renewed while the spec is refused.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::Api;
use ping_operator::scope::Scope;
use serde_json::json;

use crate::harness::{
    TestNamespace,
    fake_operators::{grant, make_kafka, set_secret},
    operator::{Operator, settings},
    shape::{differences, shape},
    until,
};

const KAFKA: &str = "renewal-kafka";

/// Waits until the copy of Kafka's CA has this content.
async fn until_copied(test: &TestNamespace, certificate: &str) {
    let secrets = Api::<Secret>::namespaced(test.client.clone(), &test.namespace);
    until("the copy of the CA", async || {
        let data = secrets.get_opt("demo-kafka-ca").await.unwrap().and_then(|secret| secret.data);
        let copied = data.and_then(|data| data.get("ca.crt").cloned());
        if copied == Some(ByteString(certificate.into())) { Ok(()) } else { Err(format!("{copied:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_of_kafka_is_copied_while_the_spec_is_refused_and_nothing_else_changes() {
    let test = TestNamespace::new("renewal").await;
    test.make_namespace(KAFKA).await;
    make_kafka(&test, KAFKA).await;
    grant(&test, KAFKA, json!([{ "kind": "Kafka", "name": "events" }])).await;
    let mut settings = settings(&test, "http://127.0.0.1:9");
    settings.scope =
        Scope::Namespaces { watched: [test.namespace.clone()].into(), referenced: [KAFKA.to_owned()].into() };
    let _operator = Operator::start(test.client.clone(), settings);
    test.create("demo", json!({ "kafka": { "clusterRef": { "name": "events", "namespace": KAFKA } } })).await;
    until_copied(&test, "certificate").await;

    let refused = json!({ "postgres": { "cluster": { "parameters": { "fsync": "off" } } } });
    test.change("demo", refused).await.unwrap();
    test.wait_for("demo", "Stalled", "True").await;
    let before = shape(&test).await;
    set_secret(&test, KAFKA, "events-cluster-ca-cert", json!({ "ca.crt": "new" })).await;
    // The namespace of Kafka is not watched.
    test.change("demo", json!({ "server": { "lanes": 2 } })).await.unwrap();
    until_copied(&test, "new").await;
    // Shapes do not include the contents of Secrets.
    let differences = differences(&shape(&test).await, &before);
    assert!(differences.is_empty(), "{differences:?}");
}
