//! A cluster with our images loaded, and the commands that a user runs on it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use ping_api::crd::PingPipeline;
use ping_testbed::{
    cluster::{self, Cluster},
    control_plane,
    process::Lifetime,
};
use ping_tests::stand_ins;
use serde_json::Value;
use tokio::{process::Command, task::JoinHandle};

use crate::{at, network_namespace::process_of};

/// The namespace of the pipeline.
pub(crate) const NAMESPACE: &str = "demo";
/// How often a condition is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait until a recount is exact.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(120);

/// The name of the pipeline.
pub(crate) const PIPELINE: &str = "demo";
/// A kustomization that reduces `pipeline.yaml` to one replica of each component.
pub(crate) const SIZES: &str = include_str!("sizes/kustomization.yaml");

pub(crate) struct TestCluster {
    pub(crate) cluster: Cluster,
    pub(crate) pipelines: Api<PingPipeline>,
    stand_ins: JoinHandle<()>,
    /// Folder of `pingctl` and the kubectl plugin.
    programs: PathBuf,
    /// The namespace of the pipeline.
    namespace: &'static str,
}

impl TestCluster {
    /// With the images of `images/build.sh --debug` and the programs of this build.
    pub(crate) async fn start() -> Self {
        let images = ["pingd", "ping-operator"].map(|image| root().join(format!("target/images/{image}.tar")));
        Self::start_with(&images, build_folder(), NAMESPACE).await
    }

    /// With the images in these archives, and with `pingctl` and the kubectl plugin from the folder `programs`. The pipeline is in `namespace`.
    pub(crate) async fn start_with(images: &[PathBuf], programs: PathBuf, namespace: &'static str) -> Self {
        let started = Instant::now();
        let cluster = Cluster::start(Lifetime::Owned).await.unwrap();
        for archive in images {
            cluster.import(archive).await.unwrap();
        }
        let kubeconfig = cluster.control_plane().kubeconfig_path().to_owned();
        let config = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let pipelines = Api::namespaced(Client::try_from(config).unwrap(), namespace);
        let volumes = cluster::volumes().unwrap();
        let stand_ins = tokio::spawn(async move { stand_ins::run(&kubeconfig, volumes).await.unwrap() });
        println!("two nodes, CoreDNS and CloudNativePG were ready after {:?}", started.elapsed());
        Self { cluster, pipelines, stand_ins, programs, namespace }
    }

    /// Loads the image that an upgrade switches to, whose tag is `next`.
    pub(crate) async fn import_next(&self, image: &str) {
        self.cluster.import(&root().join(format!("target/images/next/{image}.tar"))).await.unwrap();
    }

    pub(crate) async fn create_restricted_namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]).await;
        self.kubectl(&["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"]).await;
    }

    /// Runs kubectl in the pipeline's namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).await.unwrap()
    }

    pub(crate) async fn try_kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let all = ["--namespace", self.namespace].into_iter().chain(arguments.iter().copied());
        self.cluster.control_plane().kubectl(all).await
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        self.try_json(arguments).await.unwrap()
    }

    async fn try_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = arguments.to_vec();
        all.push("--output=json");
        Ok(serde_json::from_str(&self.try_kubectl(&all).await?)?)
    }

    pub(crate) async fn helm(&self, arguments: &[&str]) -> String {
        let helm = control_plane::helm().unwrap();
        let mut all = arguments.to_vec();
        all.push("--namespace=ping-system");
        self.run(&helm.to_string_lossy(), &all).await
    }

    /// Runs a program in the repository's root with the cluster's kubeconfig.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.try_run(Path::new(program), arguments).await;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}\n{stdout}{stderr}");
        stdout
    }

    pub(crate) async fn try_run(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
        command.env("KUBECONFIG", self.cluster.control_plane().kubeconfig_path());
        command.output().await.unwrap()
    }

    /// Runs a program in the network namespace of `process`.
    pub(crate) async fn try_run_from(&self, process: i32, program: &str, arguments: &[&str]) -> Output {
        let enter = format!("--target={process}");
        self.try_run("nsenter".as_ref(), &[&["--net", &enter, program], arguments].concat()).await
    }

    /// A process of the node on which `pod` runs; none if it runs on none. From there the pod is reached as by its kubelet, whatever policies
    /// say.
    pub(crate) fn node_of(&self, pod: &Value) -> Option<i32> {
        let name = at(pod, "/spec/nodeName").as_str()?;
        let node = self.cluster.nodes().iter().find(|node| node.name() == name)?;
        Some(node.pid()?.number())
    }

    /// Runs `kubectl pingpipeline` in the pipeline's namespace.
    pub(crate) async fn plugin(&self, arguments: &[&str]) -> Output {
        let all = [&["--namespace", self.namespace], arguments].concat();
        self.try_run(&self.programs.join("kubectl-pingpipeline"), &all).await
    }

    pub(crate) async fn pingctl(&self, arguments: &[&str]) -> String {
        self.pingctl_of(PIPELINE, arguments).await
    }

    /// Runs pingctl as a client of the named pipeline.
    pub(crate) async fn pingctl_of(&self, pipeline: &str, arguments: &[&str]) -> String {
        let connection = self.connection_of(pipeline).await;
        let mut all = connection.options();
        all.push("--retries=30");
        all.extend(arguments);
        self.run(&self.pingctl_path().to_string_lossy(), &all).await
    }

    pub(crate) fn pingctl_path(&self) -> PathBuf {
        self.programs.join("pingctl")
    }

    /// Has servers recount every row; the proof as JSON. Retries while no server is ready, or the cache does not answer or is behind: that takes
    /// longer on a busy machine. Any other difference is wrong.
    pub(crate) async fn verify(&self) -> String {
        let deadline = Instant::now() + VERIFY_TIMEOUT;
        loop {
            let differing = match self.try_verify().await {
                Ok(proof) => return proof,
                Err(differing) => differing,
            };
            if !is_late(&differing) || Instant::now() > deadline {
                self.fail(&format!("exact recount: {differing}")).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Has a server recount every row. The admin port is not part of the Service. An error is a proof with differences, or says why there is none.
    async fn try_verify(&self) -> Result<String, String> {
        let pods = self.pods(self.namespace, "app.kubernetes.io/component=server").await;
        let pod = pods.iter().find(|pod| is_ready(pod)).ok_or("no server is ready")?;
        let admin = format!("https://{}:8081", at(pod, "/status/podIP").as_str().unwrap());
        // NetworkPolicies admit only Prometheus to the port.
        let connection = self.connection().await;
        let command = [&connection.options()[..], &["verify", "--json", "--admin-addr", &admin]].concat();
        let output = self.try_run_from(process_of(pod), &self.pingctl_path().to_string_lossy(), &command).await;
        let [printed, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        match output.status.success() {
            true => Ok(printed),
            false => Err(if printed.is_empty() { error } else { printed }),
        }
    }

    /// The pods that `selector` matches in a namespace.
    pub(crate) async fn pods(&self, namespace: &str, selector: &str) -> Vec<Value> {
        let get = ["get", "pods", "--namespace", namespace, "--selector", selector, "--output=json"];
        let found = self.cluster.control_plane().kubectl(get).await.unwrap();
        serde_json::from_str::<Value>(&found).unwrap()["items"].as_array().unwrap().clone()
    }

    /// The ids of the images that the selected pods run, as the kubelets report them.
    pub(crate) async fn image_ids(&self, namespace: &str, selector: &str) -> BTreeSet<String> {
        let pods = self.pods(namespace, selector).await;
        let containers = pods.iter().filter_map(|pod| {
            at(pod, "/status/containerStatuses/0/imageID").as_str().filter(|id| !id.is_empty()).map(Into::into)
        });
        containers.collect()
    }

    /// Waits until the selected pods run other images than `before`.
    pub(crate) async fn wait_for_other_images(&self, namespace: &str, selector: &str, before: &BTreeSet<String>) {
        assert!(!before.is_empty(), "no pod ran before");
        let changed = async || {
            let now = self.image_ids(namespace, selector).await;
            !now.is_empty() && now.is_disjoint(before)
        };
        self.wait_until("other images", Duration::from_secs(120), changed).await;
    }

    pub(crate) async fn apply_pipeline(&self) {
        self.apply_folder(&root().join("tests/tests/e2e/pipeline")).await;
    }

    /// Applies what the kustomization in a folder makes.
    pub(crate) async fn apply_folder(&self, folder: &Path) {
        let folder = folder.to_string_lossy();
        let manifest = self.kubectl(&["kustomize", "--load-restrictor=LoadRestrictionsNone", &folder]).await;
        self.apply(&manifest).await;
    }

    pub(crate) async fn apply(&self, manifest: &str) {
        let apply = ["--namespace", self.namespace, "apply", "--filename=-"];
        self.cluster.control_plane().kubectl_with_input(apply, manifest).await.unwrap();
    }

    pub(crate) async fn delete_pipeline(&self) {
        self.kubectl(&["delete", "pingpipeline", "demo", "--wait=false"]).await;
        let get = ["get", "pingpipeline", "demo", "--ignore-not-found", "--output=name"];
        let gone = async || self.try_kubectl(&get).await.is_ok_and(|found| found.is_empty());
        self.wait_until("deletion of the pipeline", Duration::from_secs(300), gone).await;
    }

    /// Applies a merge patch to the pipeline.
    pub(crate) async fn patch(&self, patch: &str) {
        self.kubectl(&["patch", "pingpipeline", "demo", "--type=merge", "--patch", patch]).await;
    }

    /// The pipeline; none while the API server is unavailable.
    pub(crate) async fn pipeline(&self) -> Option<Value> {
        self.try_json(&["get", "pingpipeline", "demo"]).await.ok()
    }

    /// Whether a condition holds for the current spec.
    pub(crate) async fn is_true(&self, condition: &str) -> bool {
        self.pipeline().await.is_some_and(|pipeline| holds(&pipeline, condition))
    }

    /// Whether the operator has observed the current spec.
    pub(crate) async fn is_observed(&self) -> bool {
        self.pipeline().await.is_some_and(|pipeline| is_observed(&pipeline))
    }

    /// The total count, read from the database by a server.
    pub(crate) async fn count(&self) -> u64 {
        self.count_of(PIPELINE).await
    }

    pub(crate) async fn count_of(&self, pipeline: &str) -> u64 {
        total(&self.pingctl_of(pipeline, &["count", "--json", "--strong"]).await)
    }

    /// Waits until the status shows this total.
    pub(crate) async fn total_becomes(&self, total: u64) {
        self.wait_until(&format!("a total of {total}"), Duration::from_secs(60), async || {
            self.pipeline().await.is_some_and(|pipeline| at(&pipeline, "/status/stats/total").as_u64() == Some(total))
        })
        .await;
    }

    pub(crate) async fn wait_until(&self, what: &str, timeout: Duration, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + timeout;
        while !holds().await {
            if Instant::now() > deadline {
                self.fail(&format!("{what} within {timeout:?}")).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Fails the test, and prints nodes, events, the pipeline, its logs, and what every pod that is not ready says about itself.
    pub(crate) async fn fail(&self, what: &str) -> ! {
        let mut report = String::new();
        for arguments in [
            &["get", "nodes", "--output=wide"][..],
            &["get", "pods", "--all-namespaces", "--output=wide"],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
            &["describe", "pingpipelines"],
            &["logs", "--prefix", "--tail=100", "--selector=app.kubernetes.io/component in (server, processor)"],
        ] {
            self.report(&mut report, arguments).await;
        }
        for (namespace, pod) in self.pods_that_are_not_ready().await {
            let pod = ["--namespace", &namespace, &pod];
            self.report(&mut report, &[&["describe", "pod"], &pod[..]].concat()).await;
            self.report(&mut report, &[&["logs", "--all-containers", "--tail=50"], &pod[..]].concat()).await;
        }
        panic!("no {what}\n{report}");
    }

    /// Adds what a command says, or why it says nothing.
    async fn report(&self, report: &mut String, arguments: &[&str]) {
        let said = self.try_kubectl(arguments).await.unwrap_or_else(|error| format!("{error:#}\n"));
        report.push_str(&format!("== kubectl {}\n{said}", arguments.join(" ")));
    }

    /// Namespace and name of each, in all namespaces; none if the API server does not answer.
    async fn pods_that_are_not_ready(&self) -> Vec<(String, String)> {
        let Ok(pods) = self.try_kubectl(&["get", "pods", "--all-namespaces", "--output=json"]).await else {
            return Vec::new();
        };
        let pods: Value = serde_json::from_str(&pods).unwrap();
        let text = |pod: &Value, pointer| at(pod, pointer).as_str().unwrap_or_default().to_owned();
        let pods = pods["items"].as_array().into_iter().flatten();
        let failing = pods.filter(|pod| !is_ready(pod) && at(pod, "/status/phase") != "Succeeded");
        failing.map(|pod| (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"))).collect()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.stand_ins.abort();
    }
}

/// Whether a proof says only that the cache does not answer or is behind, or is none.
fn is_late(proof: &str) -> bool {
    let proof = serde_json::from_str::<Value>(proof).unwrap_or_default();
    let mut differences = proof["differences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    differences.all(|difference| difference.starts_with("the cache is "))
}

/// The total in what `pingctl count` prints.
pub(crate) fn total(printed: &str) -> u64 {
    let response: Value = serde_json::from_str(printed).unwrap();
    let count = response["pingCount"].as_str().and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("{response}"))
}

/// Whether a condition holds for the current spec.
pub(crate) fn holds(pipeline: &Value, condition: &str) -> bool {
    let conditions = at(pipeline, "/status/conditions").as_array().into_iter().flatten();
    let found = conditions.into_iter().any(|one| one["type"] == condition && one["status"] == "True");
    found && is_observed(pipeline)
}

fn is_observed(pipeline: &Value) -> bool {
    at(pipeline, "/status/observedGeneration") == at(pipeline, "/metadata/generation")
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let mut conditions = at(pod, "/status/conditions").as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The path of this build's `pingctl`.
pub(crate) fn pingctl() -> PathBuf {
    built("pingctl")
}

/// The path of a program from the same build as this test.
pub(crate) fn built(program: &str) -> PathBuf {
    build_folder().join(program)
}

fn build_folder() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
