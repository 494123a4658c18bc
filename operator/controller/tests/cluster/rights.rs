//! The chart grants exactly what the operator uses: the audit log of the API server is the witness.

use std::collections::BTreeSet;

use kube::{
    Config,
    api::{DeleteParams, Patch, PatchParams},
};
use ping_api::kinds::Kind;
use ping_operator::{
    run::{Settings, run},
    scope::Scope,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    chart::render,
    harness::{
        TestNamespace,
        fake_operators::{api, grant, make_all_ready, make_kafka, set_allowed_secret},
        operator::settings,
        until,
    },
};

/// The namespace of a Kafka that pipelines of `rights` may use.
const KAFKA: &str = "rights-kafka";

/// Namespace, group, resource (with its subresource) and verb.
type Right = (String, String, String, String);

fn granted(role: &Value) -> BTreeSet<Right> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    let namespace = role["metadata"]["namespace"].as_str().unwrap();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]).into_iter();
                rights.extend(verbs.map(|verb| (namespace.into(), group.clone(), resource.clone(), verb)));
            }
        }
    }
    rights
}

/// What `user` did, as the audit log tells. A patch that made something needed the right to create as well.
fn used(log: &str, user: &str) -> (BTreeSet<Right>, Vec<String>) {
    let (mut rights, mut refused) = (BTreeSet::new(), Vec::new());
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if event["user"]["username"] != user || event["objectRef"].is_null() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reference = &event["objectRef"];
        let mut resource = text(&reference["resource"]);
        if let Some(subresource) = reference["subresource"].as_str() {
            resource = format!("{resource}/{subresource}");
        }
        let right = (text(&reference["namespace"]), text(&reference["apiGroup"]), resource, text(&event["verb"]));
        if event["responseStatus"]["code"] == 403 {
            refused.push(format!("{right:?}"));
        }
        if event["verb"] == "patch" && event["responseStatus"]["code"] == 201 {
            rights.insert((right.0.clone(), right.1.clone(), right.2.clone(), "create".into()));
        }
        rights.insert(right);
    }
    (rights, refused)
}

/// How a service account reaches the API server that has these Roles of the chart.
async fn config_with_rights(test: &TestNamespace, roles: &[Value]) -> Config {
    let name = "operator";
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    let arguments = ["--namespace", &test.namespace, "apply", "-f", "-"];
    test.control_plane.kubectl_with_input(arguments, &account.to_string()).await.unwrap();
    for role in roles {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": role["metadata"],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"] },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": test.namespace }],
        });
        for manifest in [role, &binding] {
            test.control_plane.kubectl_with_input(["apply", "-f", "-"], &manifest.to_string()).await.unwrap();
        }
    }
    let token = test.kubectl(&["create", "token", name]).await;
    let mut config = Config::new(test.config.cluster_url.clone());
    config.root_cert.clone_from(&test.config.root_cert);
    config.auth_info.token = Some(token.trim().to_owned().into());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_uses_every_right_that_the_chart_grants_and_needs_no_other() {
    let test = TestNamespace::new("rights").await;
    test.make_namespace(KAFKA).await;
    let watched = format!("watchNamespaces={{{}}}", test.namespace);
    let mut roles = render(&[&watched, &format!("referenceNamespaces={{{KAFKA}}}")]).await;
    assert!(!roles.iter().any(|object| object["kind"] == "ClusterRole"), "rights in the whole cluster");
    roles.retain(|object| object["kind"] == "Role");
    for role in &mut roles {
        // The Lease is in the namespace of the release.
        if role["metadata"]["namespace"] == "ping-system" {
            role["metadata"]["namespace"] = json!(test.namespace);
        }
    }
    let config = config_with_rights(&test, &roles).await;
    let mut settings = Settings { lease_namespace: Some("rights".into()), ..settings(&test, "http://127.0.0.1:9") };
    settings.scope =
        Scope::Namespaces { watched: [test.namespace.clone()].into(), referenced: [KAFKA.to_owned()].into() };
    let shutdown = CancellationToken::new();
    let operator = tokio::spawn(run(config, settings, shutdown.clone()));
    live_a_full_life(&test).await;
    shutdown.cancel();
    operator.await.unwrap().unwrap();
    let granted: BTreeSet<Right> = roles.iter().flat_map(granted).collect();
    assert!(granted.iter().all(|(_, _, _, verb)| verb != "deletecollection"));
    let of_secrets = |namespace: &str| -> Vec<&str> {
        let verbs = granted.iter().filter(|(of, _, resource, _)| of == namespace && resource == "secrets");
        verbs.map(|(_, _, _, verb)| verb.as_str()).collect()
    };
    assert_eq!(of_secrets(KAFKA), ["get"], "Secrets of another namespace are read by name only");
    until("every right used", async || {
        let log = std::fs::read_to_string(test.control_plane.audit_log_path()).unwrap();
        let (used, refused) = used(&log, "system:serviceaccount:rights:operator");
        assert!(refused.is_empty(), "refused: {refused:?}");
        let beyond: Vec<_> = used.difference(&granted).collect();
        assert!(beyond.is_empty(), "used and not granted: {beyond:?}");
        let idle: Vec<_> = granted.difference(&used).collect();
        if idle.is_empty() { Ok(()) } else { Err(format!("granted and not used: {idle:?}")) }
    })
    .await;
}

/// Creates, changes, repairs and deletes one object of every kind.
async fn live_a_full_life(test: &TestNamespace) {
    let key = |key: &str| json!({ "name": "demo-backup", "key": key });
    let backup = json!({ "destinationPath": "s3://a/", "accessKeyId": key("id"), "secretAccessKey": key("secret") });
    set_allowed_secret(test, "demo-backup", json!({ "id": "id", "secret": "secret" })).await;
    for manifest in [settings_map(), cache_volume()] {
        let arguments = ["--namespace", &test.namespace, "apply", "-f", "-"];
        test.control_plane.kubectl_with_input(arguments, &manifest.to_string()).await.unwrap();
    }
    let variable = json!({ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "a" } } });
    let spec = json!({
        "deletionPolicy": "Delete",
        "postgres": { "cluster": { "backup": backup } },
        "server": { "autoscaling": {}, "env": [variable] },
    });
    test.create("demo", spec).await;
    make_all_ready(test, "demo", 3, 2).await;
    test.change("demo", json!({ "server": { "autoscaling": null } })).await.unwrap();
    repair_twice(test).await;
    lend_secrets(test).await;
    let pipelines = test.pipelines();
    for name in ["demo", "guest"] {
        pipelines.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until("the end of both", async || {
        let left = pipelines.list(&Default::default()).await.unwrap().items.len();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
}

/// The same thing happens twice: the second event is added to the first.
async fn repair_twice(test: &TestNamespace) {
    let deployments = api(test, Kind::Deployment, &test.namespace);
    for _ in 0..2 {
        let drift = Patch::Merge(json!({ "spec": { "replicas": 9 } }));
        deployments.patch("demo-processor", &PatchParams::default(), &drift).await.unwrap();
        until("the old number of pods", async || {
            let replicas = deployments.get("demo-processor").await.unwrap().data["spec"]["replicas"].clone();
            if replicas == 2 { Ok(()) } else { Err(replicas.to_string()) }
        })
        .await;
    }
}

fn settings_map() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": { "a": "1" },
        "metadata": { "name": "settings", "labels": { "pingpipeline.io/allow-reference": "true" } },
    })
}

/// A volume as the StatefulSet of Dragonfly makes it.
fn cache_volume() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "df-demo-cache-0", "labels": { "app": "demo-cache" } },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    })
}

/// A second pipeline with a Kafka in another namespace: secrets are copied.
async fn lend_secrets(test: &TestNamespace) {
    make_kafka(test, KAFKA).await;
    grant(test, KAFKA, json!([{ "kind": "Kafka", "name": "events" }])).await;
    let kafka = json!({ "clusterRef": { "name": "events", "namespace": KAFKA } });
    test.create("guest", json!({ "deletionPolicy": "Delete", "kafka": kafka })).await;
    until("the copy", async || {
        api(test, Kind::Secret, &test.namespace).get_opt("guest-kafka-ca").await.unwrap().ok_or("none".to_owned())
    })
    .await;
}
