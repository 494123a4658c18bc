//! What brings passes about, besides the PingPipelines themselves: events on everything that a pass made or read.
//!
//! Each kind has a watch of its own, with a back-off of its own: a CRD that is not installed slows nothing else. Events
//! carry metadata only, and nothing is stored.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, channel::mpsc::UnboundedSender, future::join_all};
use kube::{
    Api, ResourceExt,
    api::PartialObjectMeta,
    core::DynamicObject,
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, Event, watcher},
    },
};
use ping_api::{
    crd::PingPipeline,
    kinds::{Dependency, Key, Kind},
    names::OPERATOR,
};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    error::{chain, is_absent},
    index::PipelineName,
};

/// How often an API that is not served is looked for.
const LOOK_FOR: Duration = Duration::from_secs(2);

/// Which PingPipelines this operator looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of the cluster.
    Cluster,
    /// Those of one namespace.
    Namespace(String),
}

/// Where triggers go.
#[derive(Clone)]
pub struct Triggers {
    /// Passes over these pipelines.
    pub some: UnboundedSender<ObjectRef<PingPipeline>>,
    /// Passes over all pipelines.
    pub all: UnboundedSender<()>,
}

/// Watches everything until `shutdown`.
pub async fn watch(context: Arc<Context>, scope: Scope, triggers: Triggers, shutdown: CancellationToken) {
    let builtin = Kind::ALL.into_iter().filter(|kind| kind.dependency().is_none());
    let builtin = join_all(builtin.map(|kind| watch_kind(&context, kind, &scope, &triggers)));
    let optional = join_all(Dependency::ALL.map(|dependency| follow(&context, dependency, &scope, &triggers)));
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = futures::future::join(builtin, optional) => {}
    }
}

/// Looks for an API, watches its kinds while it is served, and starts over when it is gone.
async fn follow(context: &Context, dependency: Dependency, scope: &Scope, triggers: &Triggers) {
    loop {
        wait_until_served(context, dependency).await;
        note(context, dependency, true, triggers);
        let watches = dependency.kinds().map(|kind| Box::pin(watch_kind(context, kind, scope, triggers)));
        futures::future::select_all(watches).await;
        note(context, dependency, false, triggers);
        tokio::time::sleep(LOOK_FOR).await;
    }
}

fn note(context: &Context, dependency: Dependency, served: bool, triggers: &Triggers) {
    context.metrics.dependency(dependency, served);
    if context.dependencies.set(dependency, served) {
        tracing::info!(dependency = dependency.title(), served, "an API came or went");
        // Only fails when the controller is gone, and this task with it.
        let _ = triggers.all.unbounded_send(());
    }
}

async fn wait_until_served(context: &Context, dependency: Dependency) {
    while is_served(context, dependency).await != Some(true) {
        context.metrics.dependency(dependency, false);
        tokio::time::sleep(LOOK_FOR).await;
    }
}

/// Finds out about every API once, so that the first passes know: an operator that restarts must not take what it has not
/// looked for yet as missing.
pub async fn discover(context: &Context) {
    join_all(Dependency::ALL.map(async |dependency| {
        let served = loop {
            match is_served(context, dependency).await {
                Some(served) => break served,
                None => tokio::time::sleep(LOOK_FOR).await,
            }
        };
        context.dependencies.set(dependency, served);
        context.metrics.dependency(dependency, served);
    }))
    .await;
}

/// True when every kind that we use is served; none when the API server does not answer.
///
/// Discovery needs no permission of its own, which a watch on CRDs would.
async fn is_served(context: &Context, dependency: Dependency) -> Option<bool> {
    let (group, version) = dependency.group_version();
    match context.client.list_api_group_resources(&format!("{group}/{version}")).await {
        Ok(list) => {
            let served = |kind: Kind| list.resources.iter().any(|resource| resource.name == kind.path().2);
            Some(dependency.kinds().all(served))
        }
        Err(error) if is_absent(&error) => Some(false),
        Err(error) => {
            tracing::debug!(error = chain(&error), dependency = dependency.title(), "cannot look for an API");
            None
        }
    }
}

/// Turns events on `kind` into triggers. Ends when an optional kind is no longer served.
async fn watch_kind(context: &Context, kind: Kind, scope: &Scope, triggers: &Triggers) {
    let resource = kind.api_resource();
    let api: Api<PartialObjectMeta<DynamicObject>> = match scope {
        Scope::Cluster => Api::all_with(context.client.clone(), &resource),
        Scope::Namespace(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
    };
    let mut events = watcher(api, config(kind)).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                let namespace = object.namespace().unwrap_or_default();
                trigger(context, &Key::new(kind, namespace, object.name_any()), triggers);
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::debug!(kind = kind.name(), error = chain(&error), "a watch broke");
                let dependency = kind.dependency();
                if let Some(dependency) = dependency
                    && is_not_found(&error)
                    && is_served(context, dependency).await == Some(false)
                {
                    return;
                }
            }
        }
    }
}

/// Of kinds that are many in a cluster, only what concerns us.
fn config(kind: Kind) -> watcher::Config {
    let config = watcher::Config::default();
    match kind {
        Kind::Secret => config,
        Kind::StatefulSet => config.labels("app.kubernetes.io/name=dragonfly"),
        _ if kind.dependency().is_none() => config.labels(&format!("app.kubernetes.io/managed-by={OPERATOR}")),
        _ => config,
    }
}

fn is_not_found(error: &watcher::Error) -> bool {
    let source = match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => source,
        watcher::Error::WatchError(status) => return status.code == 404,
        watcher::Error::NoResourceVersion => return false,
    };
    is_absent(source)
}

fn trigger(context: &Context, key: &Key, triggers: &Triggers) {
    for (namespace, name) in context.index.who(key) {
        context.metrics.queued();
        // Only fails when the controller is gone, and this task with it.
        let _ = triggers.some.unbounded_send(pipeline_ref(&(namespace, name)));
    }
}

fn pipeline_ref((namespace, name): &PipelineName) -> ObjectRef<PingPipeline> {
    ObjectRef::new(name).within(namespace)
}
