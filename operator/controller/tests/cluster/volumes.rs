//! Volumes of a deleted pipeline. Strimzi does not run, as if it had not seen a change of the deletion policy yet.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, ResourceExt};
use ping_api::{kinds::Kind, names::OWNER_UID_ANNOTATION};
use serde_json::json;

use crate::harness::{TestNamespace, fake_operators::api, operator::Operator, until};

const VOLUME: &str = "data-0-demo-kafka-demo-broker-0";

/// Creates a volume as Strimzi does, for this Kafka.
async fn create(test: &TestNamespace, name: &str, kafka: &str) {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "labels": { "strimzi.io/cluster": kafka } },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    let arguments = ["--namespace", &test.namespace, "apply", "-f", "-"];
    test.control_plane.kubectl_with_input(arguments, &claim.to_string()).await.unwrap();
}

/// True if the volume is there, and is not being deleted.
async fn is_kept(test: &TestNamespace, name: &str) -> bool {
    let claims = Api::<PersistentVolumeClaim>::namespaced(test.client.clone(), &test.namespace);
    claims.get_opt(name).await.unwrap().is_some_and(|claim| claim.metadata.deletion_timestamp.is_none())
}

/// Waits until `demo` owns its node pool.
async fn until_owned(test: &TestNamespace) {
    let uid = test.pipelines().get("demo").await.unwrap().uid();
    until("its node pool", async || {
        let pool = api(test, Kind::KafkaNodePool, &test.namespace).get_opt("demo-broker").await.unwrap();
        let owner = pool.and_then(|pool| pool.annotations().get(OWNER_UID_ANNOTATION).cloned());
        if owner == uid { Ok(()) } else { Err(format!("{owner:?}")) }
    })
    .await;
}

async fn delete(test: &TestNamespace) {
    test.kubectl(&["delete", "pp", "demo", "--timeout=60s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_policy_that_is_set_right_before_the_deletion_includes_the_volumes_of_kafka() {
    let test = TestNamespace::new("volumes").await;
    let _operator = Operator::plain(&test);
    let others =
        [("data-0-other-kafka-other-broker-0", "other-kafka"), ("data-0-demo-kafka-demo-broker-1", "other-kafka")];
    for (name, kafka) in [(VOLUME, "demo-kafka")].into_iter().chain(others) {
        create(&test, name, kafka).await;
    }

    test.create("demo", json!({})).await;
    until_owned(&test).await;
    delete(&test).await;
    assert!(is_kept(&test, VOLUME).await, "Retain");

    test.create("demo", json!({ "deletionPolicy": "Delete", "suspend": true })).await;
    test.wait_for("demo", "Ready", "False").await;
    delete(&test).await;
    assert!(is_kept(&test, VOLUME).await, "this pipeline never used the retained Kafka");

    test.create("demo", json!({})).await;
    until_owned(&test).await;
    test.change("demo", json!({ "deletionPolicy": "Delete" })).await.unwrap();
    delete(&test).await;
    assert!(!is_kept(&test, VOLUME).await);
    for (name, _) in others {
        assert!(is_kept(&test, name).await, "{name}");
    }
}
