//! The Kubernetes API as every stand-in uses it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::process::Command;

const MANAGER: &str = "stand-ins";

pub(super) struct ClusterClient {
    pub(super) kube: Client,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

impl ClusterClient {
    pub(super) async fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let kubectl = ping_testbed::control_plane::kubectl()?;
        Ok(Self { kube: Client::try_from(config)?, kubeconfig: kubeconfig.to_owned(), kubectl })
    }

    /// All objects of a kind, in all namespaces.
    pub(super) async fn list(&self, resource: &ApiResource) -> anyhow::Result<Vec<DynamicObject>> {
        let list = Api::<DynamicObject>::all_with(self.kube.clone(), resource).list(&ListParams::default()).await;
        Ok(list.with_context(|| format!("cannot list {}", resource.plural))?.items)
    }

    pub(super) async fn get(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Option<DynamicObject>> {
        Ok(self.api(resource, namespace).get_opt(name).await?)
    }

    /// Applies `object` by server-side apply.
    pub(super) async fn apply(&self, object: Value) -> anyhow::Result<DynamicObject> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        let version = text("/apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api = match namespace.is_empty() {
            true => Api::all_with(self.kube.clone(), &resource),
            false => self.api(&resource, &namespace),
        };
        let params = PatchParams::apply(MANAGER).force();
        let applied: kube::Result<DynamicObject> = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.with_context(|| format!("cannot apply {kind} {namespace}/{name}"))
    }

    /// Writes the status of an object unless it already has it.
    pub(super) async fn set_status(
        &self,
        resource: &ApiResource,
        object: &DynamicObject,
        status: Value,
    ) -> anyhow::Result<()> {
        if includes(&object.data["status"], &status) {
            return Ok(());
        }
        let body = json!({ "status": status });
        self.of(resource, object)
            .patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(body))
            .await?;
        Ok(())
    }

    pub(super) async fn set_finalizers(
        &self,
        resource: &ApiResource,
        object: &DynamicObject,
        finalizers: &[&str],
    ) -> anyhow::Result<()> {
        let body = json!({ "metadata": { "finalizers": finalizers } });
        self.of(resource, object).patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(body)).await?;
        Ok(())
    }

    /// Runs a shell script in a pod and returns its output. An error contains everything it printed.
    pub(super) async fn execute(&self, namespace: &str, pod: &str, script: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.kubectl);
        command.args(["exec", "--namespace", namespace, pod, "--", "sh", "-euc", script]);
        let output = command.env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true).output().await?;
        let output_text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("{}", output_text.trim());
        }
        Ok(output_text)
    }

    pub(super) fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.kube.clone(), namespace, resource)
    }

    fn of(&self, resource: &ApiResource, object: &DynamicObject) -> Api<DynamicObject> {
        self.api(resource, &object.namespace().unwrap_or_default())
    }
}

/// Whether `actual` has every value of `expected`. Transition times are ignored.
fn includes(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => expected.iter().all(|(key, value)| {
            key == "lastTransitionTime" || actual.get(key).is_some_and(|actual| includes(actual, value))
        }),
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && actual.iter().zip(expected).all(|(actual, expected)| includes(actual, expected))
        }
        _ => actual == expected,
    }
}

/// An owner reference to `object`, so that Kubernetes deletes its dependents together with it.
pub(super) fn owner(object: &DynamicObject) -> Value {
    let types = object.types.clone().unwrap_or_default();
    json!({
        "apiVersion": types.api_version, "kind": types.kind, "name": object.name_any(),
        "uid": object.metadata.uid, "controller": true, "blockOwnerDeletion": true,
    })
}

/// The container security context that the *restricted* pod security standard requires.
pub(super) fn restricted() -> Value {
    json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } })
}

/// The string at a JSON pointer such as `/spec/topicName`; empty if there is none.
pub(super) fn text(object: &DynamicObject, pointer: &str) -> String {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The number at a JSON pointer; 0 if there is none.
pub(super) fn number(object: &DynamicObject, pointer: &str) -> i64 {
    object.data.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The resource of pods.
pub(super) fn pods() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"))
}
