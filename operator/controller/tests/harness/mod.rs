//! Test harness: control plane, namespaces and waiting.

pub(crate) mod fake_operators;
pub(crate) mod operator;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod shape;

use std::{
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use ping_api::crd::PingPipeline;
use ping_testbed::control_plane::{ControlPlane, Options};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Timeout for steps that are not measured. It is long because the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The CRD of PingPipelines, as it is shipped.
pub(crate) fn own_crd() -> PathBuf {
    root().join("crds")
}

/// The control plane of all tests of this program.
pub(crate) async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let options = Options { more_crds: vec![own_crd()], ..Options::default() };
            ControlPlane::start_with(options).await.unwrap()
        })
        .await
}

/// How a client reaches `control_plane` as admin.
pub(crate) async fn config(control_plane: &ControlPlane) -> Config {
    let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig_path()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

/// The namespace of one test.
pub(crate) struct TestNamespace {
    /// Its name.
    pub(crate) namespace: String,
    /// The admin's client.
    pub(crate) client: Client,
    /// How clients reach the API server as admin.
    pub(crate) config: Config,
    /// Where it is.
    pub(crate) control_plane: &'static ControlPlane,
}

impl TestNamespace {
    /// A new namespace of the shared control plane.
    pub(crate) async fn new(namespace: &str) -> Self {
        Self::on(shared().await, namespace).await
    }

    /// A new namespace of `control_plane`.
    pub(crate) async fn on(control_plane: &'static ControlPlane, namespace: &str) -> Self {
        let config = config(control_plane).await;
        let client = Client::try_from(config.clone()).unwrap();
        let test = Self { namespace: namespace.into(), client, config, control_plane };
        test.make_namespace(namespace).await;
        test
    }

    /// Makes a namespace.
    pub(crate) async fn make_namespace(&self, name: &str) {
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    }

    /// The PingPipelines of this namespace.
    pub(crate) fn pipelines(&self) -> Api<PingPipeline> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates the PingPipeline `name` with this spec.
    pub(crate) async fn create(&self, name: &str, spec: Value) -> PingPipeline {
        self.try_create(name, spec).await.unwrap()
    }

    /// Creates it, or tells why not.
    pub(crate) async fn try_create(&self, name: &str, spec: Value) -> Result<PingPipeline, kube::Error> {
        let body = json!({
            "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline",
            "metadata": { "name": name }, "spec": spec,
        });
        let api = Api::<kube::api::DynamicObject>::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &kube::api::ApiResource::erase::<PingPipeline>(&()),
        );
        let made = api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await?;
        Ok(serde_json::from_value(serde_json::to_value(made).unwrap()).unwrap())
    }

    /// Changes the spec of the PingPipeline `name` by a merge patch.
    pub(crate) async fn change(&self, name: &str, spec: Value) -> Result<PingPipeline, kube::Error> {
        self.pipelines().patch(name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await
    }

    /// Status and reason of a condition; empty while there is none.
    pub(crate) async fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let Some(pipeline) = self.pipelines().get_opt(name).await.unwrap() else { return Default::default() };
        let conditions = pipeline.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|found| (found.status, found.reason, found.message)).unwrap_or_default()
    }

    /// Waits until a condition has this status.
    pub(crate) async fn wait_for(&self, name: &str, kind: &str, status: &str) {
        let what = format!("{kind}={status} of {name}");
        until(&what, async || {
            let (now, reason, message) = self.condition(name, kind).await;
            if now == status { Ok(()) } else { Err(format!("{now} {reason}: {message}")) }
        })
        .await;
    }

    /// Runs kubectl in this namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(arguments);
        self.control_plane.kubectl(all).await.unwrap()
    }

    /// Notes and reasons of the events in this namespace.
    pub(crate) async fn events(&self) -> Vec<(String, String)> {
        let api = Api::<k8s_openapi::api::events::v1::Event>::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&Default::default()).await.unwrap().items;
        events.into_iter().map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }
}

/// Waits until `check` succeeds. Its last error is part of the failure.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, check: impl Fn() -> F) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("no {what} in {TIMEOUT:?}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
