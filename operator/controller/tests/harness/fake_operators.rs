//! Writes what CloudNativePG, Strimzi, the Dragonfly operator and the kubelet would write.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use ping_api::{kinds::Kind, names::ALLOW_REFERENCE_LABEL};
use ping_testbed::control_plane::fake_operators as fake;
use serde_json::{Value, json};

use super::TestNamespace;

/// What the API of `kind` serves in `namespace`.
pub(crate) fn api(test: &TestNamespace, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let resource: ApiResource = kind.api_resource();
    Api::namespaced_with(test.client.clone(), namespace, &resource)
}

/// Writes the status of an object, as its operator would.
pub(crate) async fn set_status(test: &TestNamespace, kind: Kind, name: &str, status: Value) {
    let body = json!({ "status": status });
    let api = api(test, kind, &test.namespace);
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
}

/// Creates or replaces a Secret.
pub(crate) async fn set_secret(test: &TestNamespace, namespace: &str, name: &str, values: Value) {
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values,
    });
    let api = api(test, Kind::Secret, namespace);
    api.patch(name, &PatchParams::apply("fake-operators").force(), &Patch::Apply(body)).await.unwrap();
}

/// Creates a Secret to which pipelines may refer.
pub(crate) async fn set_allowed_secret(test: &TestNamespace, name: &str, values: Value) {
    set_secret(test, &test.namespace, name, values).await;
    let label = Patch::Merge(json!({ "metadata": { "labels": { ALLOW_REFERENCE_LABEL: "true" } } }));
    api(test, Kind::Secret, &test.namespace).patch(name, &PatchParams::default(), &label).await.unwrap();
}

/// Creates the Secret of the KafkaUser `name`, as Strimzi would: it belongs to the user.
pub(crate) async fn set_user_secret(test: &TestNamespace, namespace: &str, name: &str, values: Value) {
    let user = api(test, Kind::KafkaUser, namespace).get(name).await.unwrap();
    set_secret(test, namespace, name, values).await;
    let owner = json!([{
        "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaUser", "name": name, "uid": user.uid(), "controller": false,
    }]);
    let owned = Patch::Merge(json!({ "metadata": { "ownerReferences": owner } }));
    api(test, Kind::Secret, namespace).patch(name, &PatchParams::default(), &owned).await.unwrap();
}

/// Applies a PingReferenceGrant in `namespace`, from the namespace of the test to these objects.
pub(crate) async fn grant(test: &TestNamespace, namespace: &str, to: Value) {
    grant_from(test, namespace, json!([{ "namespace": test.namespace }]), to).await;
}

/// Applies a PingReferenceGrant in `namespace`.
pub(crate) async fn grant_from(test: &TestNamespace, namespace: &str, from: Value, to: Value) {
    let body = json!({
        "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingReferenceGrant", "metadata": { "name": "tests" },
        "spec": { "from": from, "to": to },
    });
    let api = api(test, Kind::PingReferenceGrant, namespace);
    api.patch("tests", &PatchParams::apply("fake-operators").force(), &Patch::Apply(body)).await.unwrap();
}

/// Deletes the grant again.
pub(crate) async fn revoke(test: &TestNamespace, namespace: &str) {
    api(test, Kind::PingReferenceGrant, namespace).delete("tests", &DeleteParams::default()).await.unwrap();
}

/// A Kafka called `events` with a SCRAM listener, its CA, and the address of the listener.
pub(crate) async fn make_kafka(test: &TestNamespace, namespace: &str) {
    let cluster = json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": { "name": "events" },
        "spec": { "kafka": { "authorization": { "type": "simple" }, "listeners": [
            { "name": "tls", "port": 9093, "type": "internal", "tls": true, "authentication": { "type": "scram-sha-512" } },
        ] } },
    });
    let kafkas = api(test, Kind::Kafka, namespace);
    kafkas.patch("events", &PatchParams::apply("fake-operators"), &Patch::Apply(cluster)).await.unwrap();
    let address = format!("events-kafka-bootstrap.{namespace}.svc:9093");
    let status = json!({ "status": { "listeners": [{ "name": "tls", "bootstrapServers": address }] } });
    kafkas.patch_status("events", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    set_secret(test, namespace, "events-cluster-ca-cert", json!({ "ca.crt": "certificate" })).await;
}

/// Secrets of the pipeline `name`, as the other operators make them.
pub(crate) async fn make_secrets(test: &TestNamespace, name: &str, password: &str) {
    let namespace = &test.namespace;
    let secrets = [
        fake::cluster_secret(&format!("{name}-postgres"), namespace, password),
        fake::kafka_secret(&format!("{name}-kafka")),
        fake::user_secret(&format!("{name}-kafka-server"), password),
        fake::user_secret(&format!("{name}-kafka-processor"), password),
    ];
    for (secret, values) in secrets {
        set_secret(test, namespace, &secret, values).await;
    }
}

/// Says that Postgres is healthy.
pub(crate) async fn make_postgres_ready(test: &TestNamespace, name: &str, instances: i64) {
    let cluster = format!("{name}-postgres");
    set_status(test, Kind::Cluster, &cluster, fake::cluster_status(&cluster, instances)).await;
}

/// Says that everything of Strimzi's is ready, at its current generation.
pub(crate) async fn make_kafka_ready(test: &TestNamespace) {
    for kind in [Kind::Kafka, Kind::KafkaTopic, Kind::KafkaUser] {
        for object in api(test, kind, &test.namespace).list(&ListParams::default()).await.unwrap() {
            let status = fake::strimzi_status(object.metadata.generation.unwrap_or_default());
            set_status(test, kind, &object.name_any(), status).await;
        }
    }
}

/// Makes the StatefulSet of a Dragonfly, and says that the Dragonfly is ready.
pub(crate) async fn make_cache_ready(test: &TestNamespace, name: &str, replicas: i64) {
    let cache = format!("{name}-cache");
    let set = fake::dragonfly_set(&cache, replicas);
    let sets = api(test, Kind::StatefulSet, &test.namespace);
    sets.patch(&cache, &PatchParams::apply("fake-operators").force(), &Patch::Apply(set)).await.unwrap();
    set_status(test, Kind::Dragonfly, &cache, fake::dragonfly_status()).await;
}

/// What the kubelets would do: every pod of the namespace runs and is ready.
pub(crate) async fn make_pods_ready(test: &TestNamespace) {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(test.client.clone(), &test.namespace);
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        let ready = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        if ready || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let body = json!({ "status": fake::pod_status() });
        // A pod that went in the meantime is no loss.
        let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(body)).await;
    }
}

/// All of it, for a pipeline of this many Postgres instances and cache pods.
pub(crate) async fn make_all_ready(test: &TestNamespace, name: &str, instances: i64, cache: i64) {
    make_secrets(test, name, "first").await;
    super::until("objects", async || {
        let wanted = [(Kind::Cluster, "postgres"), (Kind::Dragonfly, "cache"), (Kind::Deployment, "processor")];
        for (kind, part) in wanted {
            let found = api(test, kind, &test.namespace).get_opt(&format!("{name}-{part}")).await.unwrap();
            found.ok_or(format!("no {} yet", kind.name()))?;
        }
        Ok(())
    })
    .await;
    make_postgres_ready(test, name, instances).await;
    make_kafka_ready(test).await;
    make_cache_ready(test, name, cache).await;
    super::until("ready pipeline", async || {
        make_pods_ready(test).await;
        make_kafka_ready(test).await;
        let (status, reason, message) = test.condition(name, "Ready").await;
        if status == "True" { Ok(()) } else { Err(format!("{reason}: {message}")) }
    })
    .await;
}
