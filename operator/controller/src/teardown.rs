//! Deletion: apps, then topics and users, then Kafka, then its nodes. What does not go in time is left and named.

use std::time::Duration;

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    runtime::{controller::Action, events::EventType},
};
use ping_api::{
    condition::ConditionType,
    crd::{DeletionPolicy, PingPipeline},
    kinds::{Key, Kind},
    names::{FINALIZER, FORCE_ANNOTATION, Names},
    reason::Reason,
};
use serde_json::json;

use crate::{
    apply,
    cluster_state::Live,
    condition::{Verdict, conditions},
    context::Context,
    error::is_absent,
    read::{self, ReadError},
    report::{tell, write_status},
};

/// After this many seconds Strimzi's finalizer is taken off topics whose Kafka goes as well.
pub const STRIP_SECONDS: i64 = 20;
/// After this many seconds the pipeline goes, whatever is left.
pub const GIVE_UP_SECONDS: i64 = 45;
/// The watches usually are faster.
const POLL: Duration = Duration::from_secs(2);

/// A deletion that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// What is left could not be listed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The API server refused.
    #[error("cannot remove {what}")]
    Refused {
        /// What should have gone.
        what: String,
        /// Why.
        source: kube::Error,
    },
}

/// What one pass of a deletion does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Delete these.
    pub delete: Vec<Key>,
    /// Take our ownership off these: they stay.
    pub release: Vec<Key>,
    /// Take all finalizers off these: nobody else will.
    pub strip: Vec<Key>,
    /// These still have to go before the next stage.
    pub waiting: Vec<Key>,
    /// These stay, as `Retain` asks.
    pub retained: Vec<Key>,
    /// Nothing is left to wait for.
    pub done: bool,
}

/// How a deletion is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// Whether data goes or stays.
    pub policy: DeletionPolicy,
    /// Whether Kafka goes with the pipeline.
    pub own_kafka: bool,
    /// Whether the user asked for force.
    pub force: bool,
    /// Seconds since the deletion was asked for.
    pub age: i64,
}

/// Decides the next step. Pure.
#[must_use]
pub fn plan(live: &Live, orders: Orders) -> Plan {
    let retained = |key: &Key| orders.policy == DeletionPolicy::Retain && key.kind.is_retained();
    let mut plan = Plan::default();
    for (key, object) in live.0.iter().filter(|(key, _)| retained(key)) {
        plan.retained.push(key.clone());
        if object.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
            plan.release.push(key.clone());
        }
    }
    let giving_up = orders.age >= GIVE_UP_SECONDS;
    for stage in 0..4 {
        for (key, object) in live.0.iter().filter(|(key, _)| stage_of(key.kind) == stage && !retained(key)) {
            plan.waiting.push(key.clone());
            let topic = key.kind == Kind::KafkaTopic;
            match object.metadata.deletion_timestamp {
                None => plan.delete.push(key.clone()),
                Some(_) if topic && orders.age >= STRIP_SECONDS && (orders.own_kafka || orders.force) => {
                    plan.strip.push(key.clone());
                }
                Some(_) => {}
            }
        }
        if !plan.waiting.is_empty() && !giving_up {
            break;
        }
    }
    plan.done = (plan.waiting.is_empty() || giving_up) && plan.release.is_empty();
    plan
}

fn stage_of(kind: Kind) -> u8 {
    match kind {
        Kind::KafkaTopic | Kind::KafkaUser | Kind::Cluster | Kind::ObjectStore | Kind::ScheduledBackup => 1,
        Kind::Kafka => 2,
        Kind::KafkaNodePool => 3,
        _ => 0,
    }
}

/// One pass over a pipeline that is being deleted.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn teardown(pipeline: &PingPipeline, context: &Context) -> Result<Action, TeardownError> {
    let names = Names::of(pipeline);
    let live = read::live(pipeline, &names, &context.dependencies.served(), context).await?;
    let plan = plan(&live, orders(pipeline, Timestamp::now()));
    for key in &plan.release {
        patch(key, &json!({ "metadata": { "ownerReferences": null } }), context).await?;
    }
    for (key, object) in plan.delete.iter().filter_map(|key| live.get(key).map(|object| (key, object))) {
        delete(key, object, context).await?;
    }
    for key in &plan.strip {
        patch(key, &json!({ "metadata": { "finalizers": null } }), context).await?;
        let note =
            format!("{key} did not go in {STRIP_SECONDS} s: took its finalizers off, for its Kafka goes as well");
        tell(pipeline, EventType::Warning, "FinalizerStripped", note, context).await;
    }
    if plan.done {
        finish(pipeline, &names, &plan, context).await?;
        return Ok(Action::await_change());
    }
    tell_waiting(pipeline, &plan, context).await?;
    Ok(Action::requeue(POLL))
}

fn orders(pipeline: &PingPipeline, now: Timestamp) -> Orders {
    let asked = pipeline.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Orders {
        policy: pipeline.spec.deletion_policy,
        own_kafka: pipeline.spec.kafka.cluster_ref.is_none(),
        force: pipeline.annotations().get(FORCE_ANNOTATION).is_some_and(|value| value == "true"),
        age: now.as_second() - asked.as_second(),
    }
}

/// Pods go before their Deployment counts as gone, so that nothing publishes to a topic that is being deleted.
async fn delete(key: &Key, object: &DynamicObject, context: &Context) -> Result<(), TeardownError> {
    let params = match key.kind {
        Kind::Deployment => DeleteParams::foreground(),
        _ => DeleteParams::background(),
    };
    let refused = |source| TeardownError::Refused { what: key.to_string(), source };
    apply::delete(key, object, params, context).await.map_err(refused)
}

async fn patch(key: &Key, patch: &serde_json::Value, context: &Context) -> Result<(), TeardownError> {
    match context.api_of(key).patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(source) => Err(TeardownError::Refused { what: key.to_string(), source }),
    }
}

/// Says in the status what the deletion waits for.
async fn tell_waiting(pipeline: &PingPipeline, plan: &Plan, context: &Context) -> Result<(), TeardownError> {
    let blocked = orders(pipeline, Timestamp::now()).age >= STRIP_SECONDS;
    let reason = if blocked { Reason::DeletionBlocked } else { Reason::Deleting };
    let message = format!("waits for {}", list(&plan.waiting));
    let mut status = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let verdicts = vec![
        (ConditionType::Ready, Verdict::no(reason, &message)),
        (ConditionType::Reconciling, Verdict::yes(Reason::Deleting, message)),
    ];
    let before = status.clone();
    status.conditions = conditions(&before.conditions, verdicts, generation, Timestamp::now());
    status.observed_generation = Some(generation);
    match write_status(pipeline, &status, context).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map_err(|source| TeardownError::Refused { what: "the status".into(), source }),
    }
}

/// Removes the cache's volumes if data is to go, says what stays, and lets the pipeline go.
async fn finish(pipeline: &PingPipeline, names: &Names, plan: &Plan, context: &Context) -> Result<(), TeardownError> {
    if pipeline.spec.deletion_policy == DeletionPolicy::Delete && pipeline.spec.cache.external.is_none() {
        delete_cache_volumes(names, context).await?;
    }
    if !plan.retained.is_empty() {
        let note = format!("retained: {}. A PingPipeline of the same name takes it up again", list(&plan.retained));
        tell(pipeline, EventType::Normal, "Retained", note, context).await;
    }
    if !plan.waiting.is_empty() {
        let note = format!("{} did not go in {GIVE_UP_SECONDS} s; look after it", list(&plan.waiting));
        tell(pipeline, EventType::Warning, "DeletionBlocked", note, context).await;
    }
    context.metrics.forget(names);
    context.index.remove(&(names.namespace.clone(), names.pipeline.clone()));
    let finalizers: Vec<&String> = pipeline.finalizers().iter().filter(|name| *name != FINALIZER).collect();
    let body = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": pipeline.resource_version() } });
    let api = Api::<PingPipeline>::namespaced(context.client.clone(), &names.namespace);
    match api.patch(&names.pipeline, &PatchParams::default(), &Patch::Merge(&body)).await {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(source) => Err(TeardownError::Refused { what: "the finalizer".into(), source }),
    }
}

/// The Dragonfly operator leaves them.
async fn delete_cache_volumes(names: &Names, context: &Context) -> Result<(), TeardownError> {
    let labels = format!("app={},app.kubernetes.io/name=dragonfly", names.cache());
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &names.namespace);
    let selected = ListParams::default().labels(&labels);
    let deleted = api.delete_collection(&DeleteParams::background(), &selected).await;
    deleted.map(|_| ()).map_err(|source| TeardownError::Refused { what: "the cache's volumes".into(), source })
}

fn list(keys: &[Key]) -> String {
    keys.iter().map(Key::to_string).collect::<Vec<_>>().join(", ")
}
