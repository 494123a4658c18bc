//! Connection to the cluster.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use ping_api::crd::PingPipeline;

/// Cluster and namespace to connect to.
#[derive(Args)]
pub(crate) struct ConnectionArgs {
    /// Namespace. Default: the namespace of the kubeconfig context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Kubeconfig context. Default: the current context.
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// Credentials for the servers of a pipeline.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CredentialArgs {
    /// File with the bearer token for the servers. Default: the first token, from its Secret.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with a client certificate and its key, for servers that require one.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) client_certificate: Option<PathBuf>,
}

/// A connection to a cluster.
pub(crate) struct Cluster {
    /// Client for the API server.
    pub(crate) client: Client,
    /// The selected namespace.
    pub(crate) namespace: String,
    /// Credentials for servers, instead of the first token.
    pub(crate) credentials: CredentialArgs,
}

impl ConnectionArgs {
    /// Connects with the kubeconfig.
    pub(crate) async fn connect(&self) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = Kubeconfig::read().context("cannot read the kubeconfig; set KUBECONFIG to its path")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.context("cannot use the kubeconfig")?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config)?, namespace, credentials: self.credentials.clone() })
    }
}

impl Cluster {
    /// The PingPipelines in the namespace.
    pub(crate) fn pipelines(&self) -> Api<PingPipeline> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pipeline called `name`, or all in the namespace.
    pub(crate) async fn find(&self, name: Option<&str>) -> anyhow::Result<Vec<PingPipeline>> {
        let found = match name {
            Some(name) => self.pipelines().get_opt(name).await?.into_iter().collect(),
            None => self.pipelines().list(&ListParams::default()).await?.items,
        };
        let what = name.map_or_else(|| "PingPipeline".to_owned(), |name| format!("PingPipeline {name}"));
        ensure!(!found.is_empty(), "no {what} in namespace {}; run `kubectl get pp -A` to list all", self.namespace);
        Ok(found)
    }

    /// Events on `pipeline`, latest first.
    pub(crate) async fn events(&self, pipeline: &PingPipeline) -> anyhow::Result<Vec<Event>> {
        let name = pipeline.name_any();
        let about =
            ListParams::default().fields(&format!("involvedObject.kind=PingPipeline,involvedObject.name={name}"));
        let mut events = Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&about).await?.items;
        events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
        Ok(events)
    }
}

/// Time of the last occurrence of an event, in seconds since the Unix epoch.
pub(crate) fn last_seen(event: &Event) -> i64 {
    let repeated = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let first = event.event_time.as_ref();
    repeated.or(first).map_or(0, |time| time.0.as_second())
}
