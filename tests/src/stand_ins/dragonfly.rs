//! A stand-in for the Dragonfly operator that runs Redis instead of Dragonfly. Names, labels and statuses are those of version
//! 1.6.1, as recorded in `shared/captured/dragonfly-*.yaml`. It supports a single pod and ignores snapshots and
//! Dragonfly-specific flags.
//!
//! Password, access control list and TLS work as in 1.6.1: the list is mounted as `/var/lib/dragonfly/dragonfly.acl` and replaces the
//! password; the certificate is mounted in `/etc/dragonfly-tls`. Redis has no admin port without a login, so the probe accepts an
//! answer that asks for one.

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
    let (own, wanted) = (labels(&name), &dragonfly.data["spec"]["podMetadata"]["labels"]);
    if let Some((label, _)) = wanted.as_object().into_iter().flatten().find(|(label, _)| !own[label.as_str()].is_null())
    {
        anyhow::bail!("spec.podMetadata.labels of {name}: cannot override operator-managed label {label}");
    }
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
    let security = Security::of(spec);
    let probe =
        json!({ "exec": { "command": ["sh", "-c", security.probe()] }, "periodSeconds": 2, "timeoutSeconds": 5 });
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
                    "volumes": security.volumes(),
                    "containers": [{
                        "name": "dragonfly", "image": IMAGE, "env": security.env(), "volumeMounts": security.mounts(),
                        "command": ["sh", "-c", security.command()],
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

/// The part of the spec that says who may connect.
struct Security<'a> {
    /// `passwordFromSecret`; null if there is none.
    password: &'a Value,
    /// `aclFromSecret`; null if there is none.
    acl: &'a Value,
    /// `tlsSecretRef`; null if there is none.
    tls: &'a Value,
}

impl<'a> Security<'a> {
    fn of(spec: &'a Value) -> Self {
        Self {
            password: &spec["authentication"]["passwordFromSecret"],
            acl: &spec["aclFromSecret"],
            tls: &spec["tlsSecretRef"],
        }
    }

    fn command(&self) -> String {
        let mut command = "exec redis-server --save '' --appendonly no --protected-mode no --dir /tmp".to_owned();
        command += match self.acl.is_null() {
            // Redis ignores the password if there is a list, like Dragonfly.
            false => " --aclfile /var/lib/dragonfly/dragonfly.acl",
            true => " ${DFLY_requirepass:+--requirepass \"$DFLY_requirepass\"}",
        };
        if !self.tls.is_null() {
            command += " --port 0 --tls-port 6379 --tls-auth-clients no \
                        --tls-cert-file /etc/dragonfly-tls/tls.crt --tls-key-file /etc/dragonfly-tls/tls.key";
        }
        command
    }

    fn probe(&self) -> String {
        let tls = if self.tls.is_null() { "" } else { " --tls --insecure" };
        format!("case $(redis-cli{tls} ping 2>&1) in *PONG* | *NOAUTH*) ;; *) exit 1 ;; esac")
    }

    fn env(&self) -> Value {
        match self.password.is_null() {
            true => json!([]),
            false => json!([{ "name": "DFLY_requirepass", "valueFrom": { "secretKeyRef": self.password } }]),
        }
    }

    fn volumes(&self) -> Value {
        let acl = (!self.acl.is_null()).then(|| {
            let items = json!([{ "key": self.acl["key"], "path": "dragonfly.acl" }]);
            json!({ "name": "dragonfly-acl", "secret": { "secretName": self.acl["name"], "items": items } })
        });
        let tls = (!self.tls.is_null())
            .then(|| json!({ "name": "dragonfly-tls", "secret": { "secretName": self.tls["name"] } }));
        acl.into_iter().chain(tls).collect()
    }

    fn mounts(&self) -> Value {
        let acl = (!self.acl.is_null()).then(|| json!({ "name": "dragonfly-acl", "mountPath": "/var/lib/dragonfly" }));
        let tls = (!self.tls.is_null())
            .then(|| json!({ "name": "dragonfly-tls", "mountPath": "/etc/dragonfly-tls", "readOnly": true }));
        acl.into_iter().chain(tls).collect()
    }
}
