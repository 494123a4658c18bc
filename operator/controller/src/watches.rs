//! Watches on all objects that a reconcile created or read. Their events trigger the next reconcile.
//!
//! Each kind has its own watch and back-off, so a CRD that is not installed slows down nothing else. Events carry metadata only,
//! and nothing is stored.

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
    scope::Scope,
};

/// Interval between checks for an API that is not served.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(2);

/// Channels to the controller.
#[derive(Clone)]
pub struct Triggers {
    /// Triggers a reconcile of one pipeline.
    pub some: UnboundedSender<ObjectRef<PingPipeline>>,
    /// Triggers a reconcile of all pipelines.
    pub all: UnboundedSender<()>,
}

/// Watches all kinds until `shutdown`.
pub async fn watch(context: Arc<Context>, scope: Scope, triggers: Triggers, shutdown: CancellationToken) {
    // ConfigMaps are read by name only, and rarely.
    let builtin = Kind::ALL.into_iter().filter(|kind| kind.dependency().is_none() && *kind != Kind::ConfigMap);
    let builtin = join_all(builtin.map(|kind| watch_kind(&context, kind, &scope, &triggers)));
    let optional =
        join_all(Dependency::ALL.map(|dependency| watch_dependency(&context, dependency, &scope, &triggers)));
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = futures::future::join(builtin, optional) => {}
    }
}

/// Waits for an API, watches its kinds while it is served, and starts over when it is removed.
async fn watch_dependency(context: &Context, dependency: Dependency, scope: &Scope, triggers: &Triggers) {
    loop {
        wait_until_served(context, dependency).await;
        set_served(context, dependency, true, triggers);
        let watches = dependency.kinds().map(|kind| Box::pin(watch_kind(context, kind, scope, triggers)));
        futures::future::select_all(watches).await;
        set_served(context, dependency, false, triggers);
        tokio::time::sleep(DISCOVERY_INTERVAL).await;
    }
}

fn set_served(context: &Context, dependency: Dependency, served: bool, triggers: &Triggers) {
    context.metrics.dependency(dependency, served);
    if context.dependencies.set(dependency, served) {
        tracing::info!(dependency = dependency.title(), served, "API availability changed");
        // Fails only during shutdown, when the controller has ended.
        let _ = triggers.all.unbounded_send(());
    }
}

async fn wait_until_served(context: &Context, dependency: Dependency) {
    while is_served(context, dependency).await != Some(true) {
        context.metrics.dependency(dependency, false);
        tokio::time::sleep(DISCOVERY_INTERVAL).await;
    }
}

/// Checks every API once before the first reconcile. Otherwise a restarted operator would report an API as missing that it has
/// not checked yet.
pub async fn discover(context: &Context) {
    join_all(Dependency::ALL.map(async |dependency| {
        let served = loop {
            match is_served(context, dependency).await {
                Some(served) => break served,
                None => tokio::time::sleep(DISCOVERY_INTERVAL).await,
            }
        };
        context.dependencies.set(dependency, served);
        context.metrics.dependency(dependency, served);
    }))
    .await;
}

/// True if every kind that we use is served; `None` if the API server does not respond.
///
/// Unlike a watch on CRDs, discovery needs no extra permission.
async fn is_served(context: &Context, dependency: Dependency) -> Option<bool> {
    let (group, version) = dependency.group_version();
    match context.client.list_api_group_resources(&format!("{group}/{version}")).await {
        Ok(list) => {
            let served = |kind: Kind| list.resources.iter().any(|resource| resource.name == kind.path().2);
            Some(dependency.kinds().all(served))
        }
        Err(error) if is_absent(&error) => Some(false),
        Err(error) => {
            tracing::debug!(
                error = chain(&error),
                dependency = dependency.title(),
                "cannot check whether an API is served"
            );
            None
        }
    }
}

/// Turns watch events of `kind` into triggers, in each namespace. Returns when an optional kind is no longer served.
async fn watch_kind(context: &Context, kind: Kind, scope: &Scope, triggers: &Triggers) {
    let watches =
        scope.apis(kind, &context.client).into_iter().map(|api| Box::pin(watch_api(context, kind, api, triggers)));
    futures::future::select_all(watches).await;
}

async fn watch_api(context: &Context, kind: Kind, api: Api<PartialObjectMeta<DynamicObject>>, triggers: &Triggers) {
    let mut events = watcher(api, config(kind)).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                let namespace = object.namespace().unwrap_or_default();
                trigger(context, &Key::new(kind, namespace, object.name_any()), triggers);
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::debug!(kind = kind.name(), error = chain(&error), "a watch failed");
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

/// Selects only our objects for kinds that are common in a cluster.
fn config(kind: Kind) -> watcher::Config {
    let config = watcher::Config::default();
    match kind {
        Kind::Secret | Kind::PingReferenceGrant => config,
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
    let mut users = context.index.users_of(key);
    // A pipeline depends on all grants of a namespace, also on new ones.
    users.extend(context.index.users_of(&Key::new(key.kind, key.namespace.clone(), "")));
    for pipeline in users {
        let reference = pipeline.object_ref();
        context.metrics.queued(pipeline);
        // Fails only during shutdown, when the controller has ended.
        let _ = triggers.some.unbounded_send(reference);
    }
}
