//! Where the pipelines are.

use anyhow::{Context as _, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use ping_api::crd::PingPipeline;

/// Which cluster, and which namespace of it.
#[derive(Args)]
pub(crate) struct ConnectionArgs {
    /// Namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
}

/// A connection.
pub(crate) struct Cluster {
    /// How to reach it.
    pub(crate) client: Client,
    /// The namespace that was asked for.
    pub(crate) namespace: String,
}

impl ConnectionArgs {
    /// Connects as the kubeconfig says.
    pub(crate) async fn connect(&self) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let kubeconfig = Kubeconfig::read().context("cannot read the kubeconfig: set KUBECONFIG")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.context("cannot use the kubeconfig")?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config)?, namespace })
    }
}

impl Cluster {
    /// The PingPipelines of the namespace.
    pub(crate) fn pipelines(&self) -> Api<PingPipeline> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pipeline called `name`, or all of the namespace.
    pub(crate) async fn find(&self, name: Option<&str>) -> anyhow::Result<Vec<PingPipeline>> {
        let found = match name {
            Some(name) => self.pipelines().get_opt(name).await?.into_iter().collect(),
            None => self.pipelines().list(&ListParams::default()).await?.items,
        };
        let what = name.unwrap_or("at all");
        ensure!(!found.is_empty(), "no PingPipeline {what} in namespace {}: see `kubectl get pp -A`", self.namespace);
        Ok(found)
    }

    /// Events on `pipeline`, the latest first.
    pub(crate) async fn events(&self, pipeline: &PingPipeline) -> anyhow::Result<Vec<Event>> {
        let name = pipeline.name_any();
        let about =
            ListParams::default().fields(&format!("involvedObject.kind=PingPipeline,involvedObject.name={name}"));
        let mut events = Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&about).await?.items;
        events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
        Ok(events)
    }
}

/// When an event happened last, in seconds since the Unix epoch.
pub(crate) fn last_seen(event: &Event) -> i64 {
    let repeated = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let first = event.event_time.as_ref();
    repeated.or(first).map_or(0, |time| time.0.as_second())
}
