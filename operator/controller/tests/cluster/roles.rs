//! Servers with roles, and back.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::ListParams};
use ping_api::{kinds::Kind, roles::Role};
use serde_json::{Value, json};

use crate::harness::{
    TestNamespace,
    fake_operators::{api, make_all_ready, make_pods_ready},
    operator::Operator,
    until,
};

/// Kinds and names of what carries one of these components.
async fn objects(test: &TestNamespace, components: &[&str]) -> Vec<String> {
    let labels = format!("app.kubernetes.io/component in ({})", components.join(","));
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_created()) {
        let listed = api(test, kind, &test.namespace).list(&ListParams::default().labels(&labels)).await.unwrap();
        found.extend(listed.into_iter().map(|object| format!("{} {}", kind.name(), object.metadata.name.unwrap())));
    }
    // One certificate has the names of all roles, so that a change of roles needs no other.
    found.retain(|object| object != "Secret demo-server-tls");
    found
}

/// Changes the servers, and watches that some are available all the time; ends when only those of `components` are left.
async fn change_over(test: &TestNamespace, server: Value, components: &[&str], column: &str) {
    let deployments: Api<Deployment> = Api::namespaced(test.client.clone(), &test.namespace);
    let gone: Vec<&str> =
        Role::ALL.into_iter().map(Role::component).filter(|component| !components.contains(component)).collect();
    test.change("demo", json!({ "server": server })).await.unwrap();
    until(&format!("{components:?} and nothing of {gone:?}"), async || {
        make_pods_ready(test).await;
        let all = deployments.list(&ListParams::default()).await.unwrap();
        let available = |component: &&str| {
            let found = all.iter().find(|found| found.metadata.name == Some(format!("demo-{component}")));
            found.and_then(|found| found.status.as_ref()?.available_replicas).unwrap_or_default() > 0
        };
        assert!(components.iter().all(available) || gone.iter().any(available), "no servers are available");
        let left = objects(test, &gone).await;
        let status = test.pipelines().get("demo").await.unwrap().status.unwrap();
        let shown = status.components.unwrap_or_default().server;
        if left.is_empty() && shown == column { Ok(()) } else { Err(format!("{shown}, and there is {left:?}")) }
    })
    .await;
    test.wait_for("demo", "Ready", "True").await;
    let table = test.kubectl(&["get", "pp", "demo"]).await;
    assert!(table.contains(column), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_get_roles_and_lose_them_again_and_some_serve_all_the_time() {
    let test = TestNamespace::new("roles").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({})).await;
    make_all_ready(&test, "demo", 3, 2).await;
    change_over(&test, json!({ "query": { "replicas": 2 } }), &["ingest", "query"], "5/5").await;
    let status = test.pipelines().get("demo").await.unwrap().status.unwrap();
    assert_eq!(status.endpoints.unwrap().query.as_deref(), Some("demo-query.roles.svc:8080"));
    let services: Vec<String> = objects(&test, &["ingest", "query"]).await;
    for name in
        ["Service demo-ingest", "NetworkPolicy demo-query", "PodDisruptionBudget demo-query", "PodMonitor demo-ingest"]
    {
        assert!(services.iter().any(|there| there == name), "{name} is not in {services:?}");
    }
    change_over(&test, json!({ "query": null }), &["server"], "3/3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_no_network_is_refused_with_what_to_do() {
    let test = TestNamespace::new("roles-proxies").await;
    let _operator = Operator::plain(&test);
    test.create("demo", json!({ "server": { "trustedProxies": ["10.0.0.1"] } })).await;
    test.wait_for("demo", "Stalled", "True").await;
    let (_, reason, message) = test.condition("demo", "Ready").await;
    assert!(reason == "Invalid" && message.contains("such as 10.0.0.0/8"), "{reason}: {message}");
}
