//! The ClusterServiceVersion: what OLM installs, and with which permissions. Both come from the rendered chart.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// OLM sets this annotation of a pod to the namespaces that the operator may watch.
const TARGET_NAMESPACES: &str = "olm.targetNamespaces";

/// The ClusterServiceVersion of the operator in `objects`, which were rendered for `namespace`.
///
/// # Errors
/// If the chart has no Deployment or no Role, or an argument has a form that this does not know.
pub(crate) fn service_version(
    objects: &[Value],
    namespace: &str,
    chart: &Value,
    example: &Value,
) -> anyhow::Result<Value> {
    let deployment = one(objects, "Deployment")?;
    let version = text(chart, "version")?;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    let mut related = vec![json!({"name": "ping-operator", "image": image})];
    related.push(json!({"name": "pingd", "image": argument(deployment, "--image=")?}));
    let minimum = text(chart, "kubeVersion")?.trim_start_matches(">=").trim_end_matches("-0");
    let package = text(chart, "name")?;
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{package}.v{version}"),
            "annotations": {
                "alm-examples": json!([example]).to_string(),
                "capabilities": "Full Lifecycle",
                "categories": "Streaming & Messaging, Database",
                "containerImage": image,
                "description": chart["description"],
                "operatorframework.io/suggested-namespace": "ping-system",
                "support": "pingpipeline",
            },
        },
        "spec": {
            "displayName": "Ping operator",
            "description": "Creates a pipeline that counts events exactly once from one manifest, and keeps it as declared. Postgres, Kafka and \
                            the cache are run by CloudNativePG, Strimzi and the Dragonfly operator, or are your own.",
            "version": version,
            "maturity": "alpha",
            "minKubeVersion": minimum,
            "keywords": chart["keywords"],
            "links": [{"name": "Documentation", "url": chart["home"]}],
            "maintainers": chart["maintainers"],
            "provider": {"name": "pingpipeline", "url": chart["home"]},
            "installModes": install_modes(),
            "install": {"strategy": "deployment", "spec": {
                "permissions": [{"serviceAccountName": account(deployment)?, "rules": rules(objects)?}],
                "deployments": [{
                    "name": deployment["metadata"]["name"],
                    "spec": spec(deployment, namespace)?,
                }],
            }},
            "customresourcedefinitions": {"owned": owned(objects)?},
            "relatedImages": related,
        },
    }))
}

/// One namespace, because a Role can be limited to it. Permissions in all namespaces would include every Secret of the cluster.
fn install_modes() -> Value {
    let mode = |kind: &str, supported: bool| json!({"type": kind, "supported": supported});
    json!([
        mode("OwnNamespace", true),
        mode("SingleNamespace", true),
        mode("MultiNamespace", false),
        mode("AllNamespaces", false),
    ])
}

/// The Deployment's specification with the namespaces that OLM chooses instead of the rendered one.
fn spec(deployment: &Value, namespace: &str) -> anyhow::Result<Value> {
    let mut spec = deployment["spec"].clone();
    remove_labels_of_helm(&mut spec["template"]["metadata"]);
    let container = &mut spec["template"]["spec"]["containers"][0];
    for argument in container["args"].as_array_mut().context("the operator has no arguments")? {
        let given = argument.as_str().context("an argument is not text")?;
        if let Some(flag) = given.strip_suffix(&format!("={namespace}")) {
            let variable = match flag {
                "--namespace" => "TARGET_NAMESPACE",
                "--lease-namespace" | "--operator-namespace" => "POD_NAMESPACE",
                _ => bail!("{flag} names the namespace of the release: say in release/src/csv.rs what OLM is to set"),
            };
            *argument = format!("{flag}=$({variable})").into();
        }
    }
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let variables = container["env"].as_array_mut().context("the operator has no environment")?;
    variables.push(field("POD_NAMESPACE", "metadata.namespace"));
    variables.push(field("TARGET_NAMESPACE", &format!("metadata.annotations['{TARGET_NAMESPACES}']")));
    Ok(spec)
}

/// Removes the labels that say that Helm installed an object.
pub(crate) fn remove_labels_of_helm(metadata: &mut Value) {
    if let Some(labels) = metadata["labels"].as_object_mut() {
        labels.remove("helm.sh/chart");
        labels.remove("app.kubernetes.io/managed-by");
    }
}

/// The rules of all Roles: OLM binds them in the operator's namespace and in the watched one.
fn rules(objects: &[Value]) -> anyhow::Result<Vec<Value>> {
    ensure!(
        !objects.iter().any(|object| object["kind"] == "ClusterRole"),
        "the chart was rendered with clusterWide, but the bundle supports one namespace"
    );
    let roles = objects.iter().filter(|object| object["kind"] == "Role");
    let rules: Vec<_> = roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect();
    ensure!(!rules.is_empty(), "the chart has no Role");
    Ok(rules)
}

fn owned(objects: &[Value]) -> anyhow::Result<Vec<Value>> {
    let mut owned = Vec::new();
    for crd in objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
        let version = &crd["spec"]["versions"][0];
        let kind = text(&crd["spec"]["names"], "kind")?;
        let description = &version["schema"]["openAPIV3Schema"]["description"];
        ensure!(description.is_string(), "the CRD of {kind} has no description");
        owned.push(json!({
            "name": crd["metadata"]["name"], "kind": kind, "version": version["name"],
            "displayName": kind, "description": description,
        }));
    }
    ensure!(!owned.is_empty(), "the chart has no CRDs");
    Ok(owned)
}

fn account(deployment: &Value) -> anyhow::Result<&str> {
    text(&deployment["spec"]["template"]["spec"], "serviceAccountName")
}

fn argument<'a>(deployment: &'a Value, flag: &str) -> anyhow::Result<&'a str> {
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
    let value = arguments.into_iter().flatten().filter_map(Value::as_str).find_map(|given| given.strip_prefix(flag));
    value.with_context(|| format!("the operator has no argument {flag}"))
}

fn one<'a>(objects: &'a [Value], kind: &str) -> anyhow::Result<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("the chart has no {kind}"))
}

fn text<'a>(object: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    object[key].as_str().with_context(|| format!("{key} is missing"))
}
