//! The chart grants exactly what the operator uses: the audit log of the API server is the witness.

use std::collections::BTreeSet;

use kube::{
    Config,
    api::{DeleteParams, Patch, PatchParams},
};
use ping_api::kinds::Kind;
use ping_operator::run::{Settings, run};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    chart::render,
    harness::{
        TestNamespace,
        fake_operators::{api, make_all_ready},
        operator::settings,
        until,
    },
};

/// Group, resource (with its subresource) and verb.
type Right = (String, String, String);

fn granted(rules: &Value) -> BTreeSet<Right> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                rights.extend(texts(&rule["verbs"]).into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
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
        let right = (text(&reference["apiGroup"]), resource, text(&event["verb"]));
        if event["responseStatus"]["code"] == 403 {
            refused.push(format!("{right:?}"));
        }
        if event["verb"] == "patch" && event["responseStatus"]["code"] == 201 {
            rights.insert((right.0.clone(), right.1.clone(), "create".into()));
        }
        rights.insert(right);
    }
    (rights, refused)
}

/// How a service account reaches the API server that has the chart's rights, in the test's namespace only.
async fn config_with_rights(test: &TestNamespace, rules: &Value) -> Config {
    let (name, namespace) = ("operator", &test.namespace);
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    let cluster_role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "rights-operator" }, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "rights-operator" },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
    });
    for manifest in [account, cluster_role, binding] {
        let arguments = ["--namespace", namespace, "apply", "-f", "-"];
        test.control_plane.kubectl_with_input(arguments, &manifest.to_string()).await.unwrap();
    }
    let token = test.kubectl(&["create", "token", name]).await;
    let mut config = Config::new(test.config.cluster_url.clone());
    config.root_cert.clone_from(&test.config.root_cert);
    config.auth_info.token = Some(token.trim().to_owned().into());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_uses_every_right_that_the_chart_grants_and_needs_no_other() {
    let rendered = render(&[]).await;
    let roles = rendered.iter().filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role");
    let rules: Value = roles.flat_map(|role| role["rules"].as_array().unwrap().clone()).collect();
    let test = TestNamespace::new("rights").await;
    let config = config_with_rights(&test, &rules).await;
    let settings = Settings { lease_namespace: Some("rights".into()), ..settings(&test, "http://127.0.0.1:9") };
    let shutdown = CancellationToken::new();
    let operator = tokio::spawn(run(config, settings, shutdown.clone()));
    live_a_full_life(&test).await;
    shutdown.cancel();
    operator.await.unwrap().unwrap();
    let granted = granted(&rules);
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
    let spec = json!({
        "deletionPolicy": "Delete",
        "postgres": { "cluster": { "backup": backup } },
        "server": { "autoscaling": {} },
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

/// A second pipeline with a Kafka in another namespace: secrets are copied.
async fn lend_secrets(test: &TestNamespace) {
    let cross_namespace = "rights-kafka";
    test.make_namespace(cross_namespace).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "operator" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "rights-operator" },
        "subjects": [{ "kind": "ServiceAccount", "name": "operator", "namespace": test.namespace }],
    });
    let arguments = ["--namespace", cross_namespace, "apply", "-f", "-"];
    test.control_plane.kubectl_with_input(arguments, &binding.to_string()).await.unwrap();
    let kafka = json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": { "name": "events" },
        "spec": { "kafka": { "listeners": [{ "name": "tls", "port": 9093, "type": "internal", "tls": true }] } },
    });
    test.control_plane.kubectl_with_input(arguments, &kafka.to_string()).await.unwrap();
    crate::harness::fake_operators::set_secret(
        test,
        cross_namespace,
        "events-cluster-ca-cert",
        json!({ "ca.crt": "certificate" }),
    )
    .await;
    let status = json!({ "status": { "listeners": [{ "name": "tls", "bootstrapServers": "events:9093" }] } });
    let kafkas = api(test, Kind::Kafka, cross_namespace);
    kafkas.patch_status("events", &Default::default(), &kube::api::Patch::Merge(status)).await.unwrap();
    test.create("guest", json!({ "kafka": { "clusterRef": { "name": "events", "namespace": cross_namespace } } }))
        .await;
    until("the copy", async || {
        api(test, Kind::Secret, &test.namespace).get_opt("guest-kafka-ca").await.unwrap().ok_or("none".to_owned())
    })
    .await;
}
