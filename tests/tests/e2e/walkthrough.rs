//! Someone who follows a page of the documentation, command by command.

use std::{fs, path::Path, time::Duration};

use ping_testbed::{cluster::ObjectStore, control_plane};
use ping_tests::page;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::test_cluster::{NAMESPACE, SIZES, TestCluster, built, root};

/// A Secret with the CA of the object store.
const CA: &str = "object-store-ca";
/// The bucket of the page. The cloud's console makes it for readers.
const BUCKET: &str = "pings-backup";
/// How long a command may take on two busy cores: most wait for a pipeline.
const TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) struct Walkthrough<'a> {
    cluster: &'a TestCluster,
    store: ObjectStore,
    /// Where commands run.
    folder: TempDir,
    /// Those that are left.
    commands: std::vec::IntoIter<String>,
    /// Those that are left.
    manifests: std::vec::IntoIter<String>,
}

impl<'a> Walkthrough<'a> {
    /// Starts with the first command of a page. The cluster gets what the page expects: the plugin, and a bucket.
    pub(crate) async fn start(cluster: &'a TestCluster, path: &str) -> Self {
        let store = cluster.cluster.install_backups().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::copy(cluster.cluster.control_plane().kubeconfig_path(), folder.path().join("kubeconfig")).unwrap();
        create_bucket(cluster, &store, folder.path()).await;
        let text = fs::read_to_string(root().join(path)).unwrap();
        let (commands, manifests) = (page::commands(&text), page::manifests(&text));
        let walkthrough =
            Self { cluster, store, folder, commands: commands.into_iter(), manifests: manifests.into_iter() };
        walkthrough.shell(&format!("kubectl config set-context --current --namespace={NAMESPACE}")).await;
        walkthrough
    }

    /// Runs the page's next command, which has to begin with `start`; what it prints.
    pub(crate) async fn run(&mut self, start: &str) -> String {
        self.run_changed(start, |command| command).await
    }

    /// The same with a value of the reader's own.
    pub(crate) async fn run_changed(&mut self, start: &str, change: impl FnOnce(String) -> String) -> String {
        let command = self.commands.next().unwrap_or_else(|| panic!("the page lacks {start}…"));
        assert!(command.starts_with(start), "the page has {command} instead of {start}…");
        self.shell(&change(command)).await
    }

    /// Applies the page's next manifest, in sizes that fit this machine, and with the object store that is here.
    pub(crate) async fn apply_manifest(&mut self) {
        let manifest = self.manifests.next().expect("a manifest on the page");
        let manifest = manifest.lines().map(|line| match line.find("destinationPath:") {
            Some(column) => {
                let (indent, url) = (" ".repeat(column), &self.store.url);
                format!("{line}\n{indent}endpointUrl: {url}\n{indent}endpointCa: {{name: {CA}, key: ca.crt}}\n")
            }
            None => format!("{line}\n"),
        });
        let folder = self.folder.path().join("manifest");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("pipeline.yaml"), manifest.collect::<String>()).unwrap();
        fs::write(folder.join("kustomization.yaml"), SIZES).unwrap();
        self.shell("kubectl apply -k manifest").await;
    }

    /// The page has nothing more to run.
    pub(crate) fn finish(mut self) {
        assert_eq!((self.commands.next(), self.manifests.next()), (None, None), "the page has more to run");
    }

    async fn shell(&self, line: &str) -> String {
        println!("$ {line}");
        let [kubectl, plugin] = [control_plane::kubectl().unwrap(), built("kubectl-pingpipeline")];
        let path = [&kubectl, &plugin].map(|program| program.parent().unwrap().display().to_string()).join(":");
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(self.folder.path()).kill_on_drop(true);
        command.env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()));
        // Its own home, because kubectl caches what an earlier cluster at this address had.
        command.env("HOME", self.folder.path()).env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        command.env("AWS_ACCESS_KEY_ID", "e2e").env("AWS_SECRET_ACCESS_KEY", "not-checked");
        let Ok(output) = tokio::time::timeout(TIMEOUT, command.output()).await else {
            self.cluster.fail(&format!("end of {line} within {TIMEOUT:?}")).await
        };
        let output = output.unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{stdout}{stderr}");
        if !output.status.success() {
            self.cluster.fail(&format!("success of {line}")).await;
        }
        stdout.into_owned()
    }
}

/// Creates the bucket, and the Secret with the store's CA that pipelines may use.
async fn create_bucket(cluster: &TestCluster, store: &ObjectStore, folder: &Path) {
    let ca = folder.join("ca.crt").to_string_lossy().into_owned();
    fs::write(&ca, &store.ca).unwrap();
    let connect_to = format!("{}:{}", store.url.trim_start_matches("https://"), store.address);
    let bucket = format!("{}/{BUCKET}", store.url);
    let options = ["-sS", "--fail", "-X", "PUT", "--cacert", &ca, "--connect-to", &connect_to];
    cluster.run("curl", &[&options[..], &[&bucket]].concat()).await;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": CA, "labels": { "pingpipeline.io/allow-reference": "true" } },
        "stringData": { "ca.crt": store.ca },
    });
    cluster.apply(&secret.to_string()).await;
}
