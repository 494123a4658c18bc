//! The chart: linted, rendered, accepted by the API server, installed, upgraded.

use std::{collections::BTreeSet, process::Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{TestNamespace, root, until};

async fn helm(test: Option<&TestNamespace>, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(ping_testbed::control_plane::helm().unwrap());
    command.args(arguments).stdin(Stdio::null());
    if let Some(test) = test {
        command.env("KUBECONFIG", test.control_plane.kubeconfig_path());
    }
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr) + &text(&output.stdout)) }
}

fn chart() -> String {
    root().join("charts/ping-operator").to_string_lossy().into_owned()
}

/// The objects that the chart renders with these settings (`--set` arguments).
pub(crate) async fn render(settings: &[&str]) -> Vec<Value> {
    let chart = chart();
    let mut arguments = vec!["template", "ping-operator", &chart, "--namespace", "ping-system"];
    arguments.extend(["--api-versions", "monitoring.coreos.com/v1/PodMonitor"]);
    arguments.extend(["--api-versions", "monitoring.coreos.com/v1/PrometheusRule"]);
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    documents(&helm(None, &arguments).await.unwrap())
}

fn documents(text: &str) -> Vec<Value> {
    let parsed = yaml_serde::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    parsed.filter(|value| !value.is_null()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_finds_nothing_wrong_with_the_chart() {
    helm(None, &["lint", "--strict", &chart()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_are_refused_before_anything_is_installed() {
    let chart = chart();
    for wrong in
        ["replicas=many", "image.repo=x", "monitoring.notReadyFor=soon", "crds.install=false", "watchNamespaces={A B}"]
    {
        let refusal = helm(None, &["template", "a", &chart, "--set", wrong]).await.expect_err(wrong);
        assert!(refusal.contains("values don't meet the specifications of the schema"), "{wrong}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_accepts_every_rendered_object() {
    let test = TestNamespace::new("ping-system").await;
    for settings in [&[][..], &["clusterWide=true"][..]] {
        for object in render(settings).await {
            let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
            if object["kind"] == "CustomResourceDefinition" {
                continue;
            }
            let dry_run = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"];
            let accepted = test.control_plane.kubectl_with_input(dry_run, &object.to_string()).await;
            accepted.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_end_at_the_watched_namespaces_unless_the_administrator_says_otherwise() {
    let is_cluster_wide = |object: &Value| object["kind"] == "ClusterRole" || object["kind"] == "ClusterRoleBinding";
    for (settings, namespaces) in [
        (&[][..], &["ping-system"][..]),
        (&["watchNamespaces={one,two}", "referenceNamespaces={kafka}"], &["one", "two", "kafka", "ping-system"]),
    ] {
        let rendered = render(settings).await;
        assert!(!rendered.iter().any(is_cluster_wide), "{settings:?}");
        for kind in ["Role", "RoleBinding"] {
            let of_kind = rendered.iter().filter(|object| object["kind"] == kind);
            let found: BTreeSet<&str> = of_kind.map(|role| role["metadata"]["namespace"].as_str().unwrap()).collect();
            assert_eq!(found, namespaces.iter().copied().collect(), "{kind} of {settings:?}");
        }
    }
    assert!(render(&["clusterWide=true"]).await.iter().any(is_cluster_wide));
    let chart = chart();
    let both = ["template", "a", &chart, "--set", "clusterWide=true", "--set", "watchNamespaces={one}"];
    let refusal = helm(None, &both).await.unwrap_err();
    assert!(refusal.contains("not both"), "{refusal}");
}

/// All server components, and no other namespaces than the watched ones.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_reach_the_servers_of_watched_namespaces_only() {
    let rendered = render(&["watchNamespaces={one,two}"]).await;
    let policy = rendered.iter().find(|object| object["kind"] == "NetworkPolicy").unwrap();
    let rule = &policy["spec"]["egress"][2];
    assert_eq!(rule["ports"], json!([{ "port": 8080, "protocol": "TCP" }]));
    let peer = &rule["to"][0];
    assert_eq!(peer["podSelector"]["matchExpressions"][0]["values"], json!(["server", "ingest", "query"]));
    let namespaces = &peer["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(
        (&namespaces["key"], &namespaces["values"]),
        (&json!("kubernetes.io/metadata.name"), &json!(["one", "two"]))
    );
    let scrapers = &policy["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(scrapers["kubernetes.io/metadata.name"], "ping-system");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_yaml_is_what_the_chart_renders() {
    let plain = std::fs::read_to_string(root().join("charts/plain/install.yaml")).unwrap();
    let chart = chart();
    let arguments = ["template", "ping-operator", &chart, "--namespace", "ping-system", "--no-hooks"];
    let rendered = helm(None, &arguments).await.unwrap();
    assert_eq!(documents(&plain), documents(&rendered), "stale: run `make generate`");
}

#[tokio::test(flavor = "multi_thread")]
async fn kustomize_takes_the_plain_yaml() {
    let folder = root().join("charts/plain").to_string_lossy().into_owned();
    let built = crate::harness::shared().await.kubectl(["kustomize", &folder]).await.unwrap();
    let kinds: Vec<Value> = documents(&built).into_iter().map(|object| object["kind"].clone()).collect();
    for kind in ["Namespace", "CustomResourceDefinition", "Role", "Deployment"] {
        assert!(kinds.contains(&json!(kind)), "no {kind} in {kinds:?}");
    }
}

/// Uses its own control plane, because the shared one already has the CRD, and not from Helm.
#[tokio::test(flavor = "multi_thread")]
async fn helm_installs_and_helm_upgrade_brings_a_new_field_of_the_crd() {
    let control_plane = ping_testbed::control_plane::ControlPlane::start_with(Default::default()).await.unwrap();
    let test = TestNamespace::on(Box::leak(Box::new(control_plane)), "ping-chart").await;
    let packaged = tempfile::tempdir().unwrap();
    let older = packaged.path().join("older");
    copy(&root().join("charts/ping-operator"), &older);
    let crd = older.join("files/pingpipelines.pingpipeline.io.yaml");
    let text = std::fs::read_to_string(&crd).unwrap();
    let mut old: Value = yaml_serde::from_str(&text).unwrap();
    let suspend = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    old.pointer_mut(suspend).unwrap().as_object_mut().unwrap().remove("suspend").unwrap();
    std::fs::write(&crd, yaml_serde::to_string(&old).unwrap()).unwrap();
    let folder = packaged.path().to_string_lossy().into_owned();
    for chart in [older.to_string_lossy().into_owned(), chart()] {
        helm(None, &["package", &chart, "--destination", &folder]).await.unwrap();
        let archive = packaged.path().join("ping-operator-0.1.0.tgz").to_string_lossy().into_owned();
        let arguments = ["upgrade", "--install", "ping-operator", &archive, "--namespace", "ping-chart"];
        let notes = helm(Some(&test), &arguments).await.unwrap();
        assert!(notes.contains("these namespaces: ping-chart"), "{notes}");
        let explained = until("explanation", async || {
            test.control_plane.kubectl(["explain", "pp.spec"]).await.map_err(|error| error.to_string())
        })
        .await;
        assert!(explained.contains("hibernate"), "{explained}");
    }
    until("the new field", async || {
        let made = test.try_create("demo", json!({ "suspend": true })).await.map_err(|error| error.to_string())?;
        if made.spec.suspend {
            return Ok(());
        }
        test.pipelines().delete("demo", &Default::default()).await.unwrap();
        Err("the field was dropped".into())
    })
    .await;
    helm(Some(&test), &["uninstall", "ping-operator", "--namespace", "ping-chart"]).await.unwrap();
    assert!(test.pipelines().get("demo").await.is_ok(), "uninstalling the operator takes no pipeline along");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
