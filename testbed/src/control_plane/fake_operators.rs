//! **For tests and experiments only.** Simulates CloudNativePG, Strimzi, the Dragonfly operator and kubelets: writes the
//! statuses and Secrets that were recorded from the real ones. No Postgres, Kafka, cache or other process runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::kubectl::Kubectl;

/// Pause between two passes over all objects.
const INTERVAL: Duration = Duration::from_secs(1);
const KINDS: &str = "clusters.postgresql.cnpg.io,kafkas.kafka.strimzi.io,kafkatopics.kafka.strimzi.io,\
                     kafkausers.kafka.strimzi.io,dragonflies.dragonflydb.io,pods";

/// The status of a healthy CloudNativePG `Cluster`.
pub fn cluster_status(cluster: &str, instances: i64) -> Value {
    let primary = format!("{cluster}-1");
    json!({
        "phase": "Cluster in healthy state", "instances": instances, "readyInstances": instances,
        "currentPrimary": primary, "targetPrimary": primary,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "ClusterIsReady", "message": "Cluster is Ready",
            "lastTransitionTime": "2026-11-21T03:21:44Z",
        }],
    })
}

/// The application Secret of a `Cluster`: its name and its data.
pub fn cluster_secret(cluster: &str, namespace: &str, password: &str) -> (String, Value) {
    let uri = format!("postgresql://pings:{password}@{cluster}-rw.{namespace}:5432/pings");
    (format!("{cluster}-app"), json!({ "uri": uri }))
}

/// The CA certificate Secret of a Strimzi `Kafka`: its name and its data.
pub fn kafka_secret(kafka: &str) -> (String, Value) {
    (format!("{kafka}-cluster-ca-cert"), json!({ "ca.crt": "certificate" }))
}

/// The Secret of a Strimzi `KafkaUser`: its name and its data.
pub fn user_secret(user: &str, password: &str) -> (String, Value) {
    (user.to_owned(), json!({ "password": password }))
}

/// The status of a Strimzi object that is ready at `generation`.
pub fn strimzi_status(generation: i64) -> Value {
    let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T03:31:51Z" });
    json!({ "observedGeneration": generation, "conditions": [condition] })
}

/// The status of a ready `Dragonfly`.
pub fn dragonfly_status() -> Value {
    json!({ "phase": "Ready" })
}

/// The StatefulSet of a `Dragonfly`.
pub fn dragonfly_set(dragonfly: &str, replicas: i64) -> Value {
    let labels = json!({
        "app": dragonfly, "app.kubernetes.io/name": "dragonfly", "app.kubernetes.io/managed-by": "dragonfly-operator",
    });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": dragonfly, "labels": labels },
        "spec": {
            "replicas": replicas, "serviceName": dragonfly, "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": dragonfly } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "dragonfly", "image": "dragonfly" }] },
            },
        },
    })
}

/// The status of a ready pod.
pub fn pod_status() -> Value {
    let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T03:31:51Z" });
    json!({ "phase": "Running", "conditions": [condition] })
}

/// Marks everything that belongs to a pipeline as ready, repeatedly, until cancelled.
pub(super) async fn run(kubectl: &Kubectl) {
    loop {
        if let Err(error) = update_all(kubectl).await {
            eprintln!("retrying: {error:#}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn update_all(kubectl: &Kubectl) -> anyhow::Result<()> {
    let listed = kubectl.run(["get", KINDS, "--all-namespaces", "--output=json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let (mut resources, mut statuses) = (Vec::new(), Vec::new());
    for object in listed["items"].as_array().into_iter().flatten() {
        if object["metadata"]["deletionTimestamp"].is_null() {
            simulate(object, &mut resources, &mut statuses);
        }
    }
    // kubectl's own validation rejects an object that has only a status; the API server validates the merged object.
    let options =
        ["--server-side", "--force-conflicts", "--field-manager=fake-operators", "--validate=false", "--filename=-"];
    for (items, subresource) in [(resources, "--subresource="), (statuses, "--subresource=status")] {
        if !items.is_empty() {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            kubectl.run_with_input(["apply", subresource].into_iter().chain(options), &list.to_string()).await?;
        }
    }
    Ok(())
}

/// Adds the resources that the operator of `object` would create and the status that it would write.
fn simulate(object: &Value, resources: &mut Vec<Value>, statuses: &mut Vec<Value>) {
    let metadata = &object["metadata"];
    let (name, namespace) = (text(&metadata["name"]), text(&metadata["namespace"]));
    let generation = metadata["generation"].as_i64().unwrap_or_default();
    let labels = &metadata["labels"];
    let (secret, status) = match text(&object["kind"]) {
        "Cluster" => {
            let instances = object["spec"]["instances"].as_i64().unwrap_or(1);
            (Some(cluster_secret(name, namespace, "simulated")), cluster_status(name, instances))
        }
        "Kafka" => (Some(kafka_secret(name)), strimzi_status(generation)),
        "KafkaTopic" => (None, strimzi_status(generation)),
        "KafkaUser" => (Some(user_secret(name, "simulated")), strimzi_status(generation)),
        "Dragonfly" => {
            let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
            resources.push(owned(dragonfly_set(name, replicas), object));
            (None, dragonfly_status())
        }
        // Only the pods of a pipeline and of its cache.
        _ if labels["pingpipeline.io/pipeline"].is_string() || labels["app.kubernetes.io/name"] == "dragonfly" => {
            (None, pod_status())
        }
        _ => return,
    };
    if let Some((secret, values)) = secret {
        let secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret }, "stringData": values });
        resources.push(owned(secret, object));
    }
    statuses.push(json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": { "name": name, "namespace": namespace }, "status": status,
    }));
}

/// Places `object` in the namespace of `owner` and lets Kubernetes delete it together with `owner`.
fn owned(mut object: Value, owner: &Value) -> Value {
    object["metadata"]["namespace"] = owner["metadata"]["namespace"].clone();
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    }]);
    object
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
