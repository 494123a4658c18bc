//! A stand-in for the Dragonfly operator that runs Redis instead of Dragonfly. Names, labels and statuses are those of version
//! 1.6.1, as recorded in `shared/captured/dragonfly-*.yaml`. It supports a single pod and ignores snapshots and
//! Dragonfly-specific flags.

use kube::{
    ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use ping_api::kinds::Kind;
use serde_json::{Value, json};

use super::cluster_client::{ClusterClient, number, owner, text};

const IMAGE: &str = "testbed/redis:7";

pub(super) async fn reconcile_all(client: &ClusterClient) -> anyhow::Result<()> {
    for dragonfly in client.list(&Kind::Dragonfly.api_resource()).await? {
        if dragonfly.metadata.deletion_timestamp.is_none() {
            reconcile(client, &dragonfly).await?;
        }
    }
    Ok(())
}

async fn reconcile(client: &ClusterClient, dragonfly: &DynamicObject) -> anyhow::Result<()> {
    let (name, namespace) = (dragonfly.name_any(), dragonfly.namespace().unwrap_or_default());
    let resource = Kind::Dragonfly.api_resource();
    anyhow::ensure!(
        number(dragonfly, "/spec/replicas") == 1,
        "{name} requests several replicas, but this stand-in supports one"
    );
    client.apply(service(dragonfly, &name, &namespace)).await?;
    let set = client.apply(stateful_set(dragonfly, &name, &namespace)).await?;
    let phase = text(dragonfly, "/status/phase");
    if phase.is_empty() {
        return client.set_status(&resource, dragonfly, json!({ "phase": "ResourcesCreated" })).await;
    }
    let pods = client.api(&super::cluster_client::pods(), &namespace);
    for pod in pods.list(&ListParams::default().labels(&format!("app={name}"))).await?.items {
        // The update strategy is OnDelete, so the operator deletes outdated pods.
        let revision = pod.labels().get("controller-revision-hash").cloned().unwrap_or_default();
        if revision != text(&set, "/status/updateRevision")
            && number(&set, "/status/observedGeneration") == set.metadata.generation.unwrap_or_default()
        {
            pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        } else if !pod.labels().contains_key("role") {
            let master = json!({ "metadata": { "labels": { "role": "master" } } });
            pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(master)).await?;
        }
    }
    if number(&set, "/status/readyReplicas") == 1 {
        client.set_status(&resource, dragonfly, json!({ "phase": "Ready" })).await?;
    }
    Ok(())
}

fn service(dragonfly: &DynamicObject, name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": namespace, "labels": labels(name), "ownerReferences": [owner(dragonfly)] },
        "spec": {
            "selector": { "app": name, "app.kubernetes.io/name": "dragonfly", "role": "master" },
            "ports": [{ "name": "redis", "port": 6379, "targetPort": 6379 }],
        },
    })
}

fn stateful_set(dragonfly: &DynamicObject, name: &str, namespace: &str) -> Value {
    let spec = &dragonfly.data["spec"];
    let mut pod_labels = spec["podMetadata"]["labels"].clone();
    for (key, value) in
        [("app", name), ("app.kubernetes.io/name", "dragonfly"), ("app.kubernetes.io/part-of", "dragonfly")]
    {
        pod_labels[key] = json!(value);
    }
    let password = &spec["authentication"]["passwordFromSecret"];
    let env = match password.is_null() {
        true => json!([]),
        false => json!([{ "name": "DFLY_requirepass", "valueFrom": { "secretKeyRef": password } }]),
    };
    let ping = "redis-cli -e ${DFLY_requirepass:+-a \"$DFLY_requirepass\"} ping";
    let probe = json!({ "exec": { "command": ["sh", "-c", ping] }, "periodSeconds": 2, "timeoutSeconds": 5 });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": name, "namespace": namespace, "labels": labels(name), "ownerReferences": [owner(dragonfly)] },
        "spec": {
            "replicas": 1, "serviceName": name, "updateStrategy": { "type": "OnDelete" },
            "selector": { "matchLabels": { "app": name, "app.kubernetes.io/name": "dragonfly", "app.kubernetes.io/part-of": "dragonfly" } },
            "template": {
                "metadata": { "labels": pod_labels, "annotations": spec["podMetadata"]["annotations"] },
                "spec": {
                    // Like the real operator, adds no security context of its own.
                    "securityContext": spec["podSecurityContext"],
                    "topologySpreadConstraints": spec["topologySpreadConstraints"],
                    "containers": [{
                        "name": "dragonfly", "image": IMAGE, "env": env,
                        "command": ["sh", "-c", "exec redis-server --save '' --appendonly no --protected-mode no --dir /tmp ${DFLY_requirepass:+--requirepass \"$DFLY_requirepass\"}"],
                        "ports": [{ "name": "redis", "containerPort": 6379 }],
                        "readinessProbe": probe,
                        "resources": spec["resources"],
                        "securityContext": spec["containerSecurityContext"],
                    }],
                },
            },
        },
    })
}

fn labels(name: &str) -> Value {
    json!({
        "app": name, "app.kubernetes.io/component": "dragonfly", "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "dragonfly-operator", "app.kubernetes.io/name": "dragonfly",
        "app.kubernetes.io/part-of": "dragonfly",
    })
}
