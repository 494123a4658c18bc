//! Deletion in stages: workloads, then topics, users and Postgres, then Kafka, then its nodes. Objects that are not removed in
//! time are left and listed in an event.

mod volumes;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    runtime::{controller::Action, events::EventType},
};
use ping_api::{
    condition::ConditionType,
    crd::{DeletionPolicy, PingPipeline},
    kinds::{Key, Kind},
    names::{FINALIZER, FORCE_ANNOTATION, NAMESPACE_LABEL, Names, OWNER_UID_ANNOTATION, PIPELINE_LABEL},
    reason::Reason,
};
use serde_json::json;

use crate::{
    apply,
    cluster_state::{Grants, ObservedObjects},
    condition::{ConditionValue, conditions},
    context::Context,
    error::is_absent,
    ownership::{Owner, Ownership, ownership},
    read::{self, ReadError},
    report::{publish_event, write_status},
};

/// After this many seconds, Strimzi's finalizer is removed from topics whose Kafka cluster is deleted, too.
pub const STRIP_SECONDS: i64 = 20;
/// After this many seconds, the pipeline is removed even if objects are left.
pub const GIVE_UP_SECONDS: i64 = 45;
/// Interval between reconciles. Watches usually trigger them earlier.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A deletion that failed.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// The remaining objects could not be listed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The API server rejected a request.
    #[error("cannot remove {what}")]
    Refused {
        /// What could not be removed.
        what: String,
        /// The cause.
        source: kube::Error,
    },
}

/// The next step of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Objects to delete.
    pub delete: Vec<Key>,
    /// Objects to keep, whose owner reference and owner UID are removed.
    pub release: Vec<Key>,
    /// Objects whose finalizers are removed because their operator does not do it.
    pub strip: Vec<Key>,
    /// Objects that must be gone before the next stage.
    pub waiting: Vec<Key>,
    /// Objects that `Retain` keeps.
    pub retained: Vec<Key>,
    /// True if there is nothing left to wait for.
    pub done: bool,
}

/// Options of a deletion.
#[derive(Clone, Copy, Debug)]
pub struct DeletionOptions {
    /// Whether data is deleted or kept.
    pub policy: DeletionPolicy,
    /// Whether the Kafka cluster belongs to the pipeline.
    pub own_kafka: bool,
    /// Whether the user set the force annotation.
    pub force: bool,
    /// Seconds since the deletion was requested.
    pub age: i64,
}

/// Determines the next step. Pure.
#[must_use]
pub fn plan(live: &ObservedObjects, options: DeletionOptions) -> Plan {
    // What someone else deletes, for example with its namespace, cannot be kept. Its finalizers must not block that.
    let retained = |key: &Key, object: &DynamicObject| {
        options.policy == DeletionPolicy::Retain
            && key.kind.is_retained()
            && object.metadata.deletion_timestamp.is_none()
    };
    let mut plan = Plan::default();
    for (key, object) in live.0.iter().filter(|(key, object)| retained(key, object)) {
        plan.retained.push(key.clone());
        let owned = !object.owner_references().is_empty() || object.annotations().contains_key(OWNER_UID_ANNOTATION);
        if owned {
            plan.release.push(key.clone());
        }
    }
    let giving_up = options.age >= GIVE_UP_SECONDS;
    for stage in 0..4 {
        let of_stage = |key: &Key, object: &DynamicObject| stage_of(key.kind) == stage && !retained(key, object);
        for (key, object) in live.0.iter().filter(|(key, object)| of_stage(key, object)) {
            plan.waiting.push(key.clone());
            let topic = key.kind == Kind::KafkaTopic;
            match object.metadata.deletion_timestamp {
                None => plan.delete.push(key.clone()),
                Some(_) if topic && options.age >= STRIP_SECONDS && (options.own_kafka || options.force) => {
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

/// Performs the next step of deleting `pipeline`.
///
/// # Errors
/// If the API server rejects a request or does not respond.
pub async fn teardown(pipeline: &PingPipeline, context: &Context) -> Result<Action, TeardownError> {
    let names = Names::of(pipeline);
    let mut live = read::observed_objects(pipeline, &names, &context.dependencies.served(), context).await?;
    if pipeline.spec.deletion_policy == DeletionPolicy::Delete {
        // What an earlier pipeline retained, and this one never used, is not this one's to delete.
        let owner = Owner::of(pipeline);
        live.0.retain(|_, object| ownership(object, &owner) == Ownership::Own);
    }
    let plan = plan(&live, options(pipeline, Timestamp::now()));
    let release = json!({ "metadata": { "ownerReferences": null, "annotations": { OWNER_UID_ANNOTATION: null } } });
    for key in &plan.release {
        patch(key, &release, context).await?;
    }
    for (key, object) in plan.delete.iter().filter_map(|key| live.get(key).map(|object| (key, object))) {
        if key.kind == Kind::KafkaNodePool {
            volumes::delete_of_pool(&key.name, &names, context).await?;
        }
        delete(key, object, context).await?;
    }
    for key in &plan.strip {
        patch(key, &json!({ "metadata": { "finalizers": null } }), context).await?;
        let note = format!("Removed the finalizers of {key}, which was not deleted within {STRIP_SECONDS} s");
        publish_event(pipeline, EventType::Warning, "FinalizerStripped", note, context).await;
    }
    if plan.done {
        finish(pipeline, &names, &plan, context).await?;
        return Ok(Action::await_change());
    }
    report_waiting(pipeline, &plan, context).await?;
    Ok(Action::requeue(POLL_INTERVAL))
}

fn options(pipeline: &PingPipeline, now: Timestamp) -> DeletionOptions {
    let asked = pipeline.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    DeletionOptions {
        policy: pipeline.spec.deletion_policy,
        own_kafka: pipeline.spec.kafka.cluster_ref.is_none(),
        force: pipeline.annotations().get(FORCE_ANNOTATION).is_some_and(|value| value == "true"),
        age: now.as_second() - asked.as_second(),
    }
}

/// A Deployment is deleted in the foreground, after its pods, so that no pod writes to a topic that is being deleted.
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

/// Reports in the status what the deletion waits for.
async fn report_waiting(pipeline: &PingPipeline, plan: &Plan, context: &Context) -> Result<(), TeardownError> {
    let blocked = options(pipeline, Timestamp::now()).age >= STRIP_SECONDS;
    let reason = if blocked { Reason::DeletionBlocked } else { Reason::Deleting };
    let message = format!("waiting for the deletion of {}", list(&plan.waiting));
    let mut status = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let values = vec![
        (ConditionType::Ready, ConditionValue::not_met(reason, &message)),
        (ConditionType::Reconciling, ConditionValue::met(Reason::Deleting, message)),
    ];
    let before = status.clone();
    status.conditions = conditions(&before.conditions, values, generation, Timestamp::now());
    status.observed_generation = Some(generation);
    match write_status(pipeline, &status, context).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map_err(|source| TeardownError::Refused { what: "the status".into(), source }),
    }
}

/// Deletes the cache's volumes if requested, lists what is kept, and removes the finalizer.
async fn finish(pipeline: &PingPipeline, names: &Names, plan: &Plan, context: &Context) -> Result<(), TeardownError> {
    if pipeline.spec.deletion_policy == DeletionPolicy::Delete && pipeline.spec.cache.external.is_none() {
        volumes::delete_of_cache(names, context).await?;
    }
    if !plan.retained.is_empty() {
        let note = format!("Kept {}. A new PingPipeline with the same name will use it again", list(&plan.retained));
        publish_event(pipeline, EventType::Normal, "Retained", note, context).await;
    }
    if !plan.waiting.is_empty() {
        let note = format!("Not deleted within {GIVE_UP_SECONDS} s: {}. Delete it manually", list(&plan.waiting));
        publish_event(pipeline, EventType::Warning, "DeletionBlocked", note, context).await;
    }
    if let Some(namespace) = unreadable_namespace(pipeline, names, context).await? {
        let note = format!(
            "The operator may not read namespace {namespace}. Delete the Kafka users of this pipeline there: kubectl -n {namespace} delete \
             kafkausers -l {PIPELINE_LABEL}={},{NAMESPACE_LABEL}={}",
            names.pipeline, names.namespace
        );
        publish_event(pipeline, EventType::Warning, "DeletionBlocked", note, context).await;
    }
    context.forget(&names.clone().into());
    let finalizers: Vec<&String> = pipeline.finalizers().iter().filter(|name| *name != FINALIZER).collect();
    let body = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": pipeline.resource_version() } });
    let api = Api::<PingPipeline>::namespaced(context.client.clone(), &names.namespace);
    match api.patch(&names.pipeline, &PatchParams::default(), &Patch::Merge(&body)).await {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(source) => Err(TeardownError::Refused { what: "the finalizer".into(), source }),
    }
}

/// The namespace of the pipeline's Kafka, if the operator may not read it.
async fn unreadable_namespace(
    pipeline: &PingPipeline,
    names: &Names,
    context: &Context,
) -> Result<Option<String>, ReadError> {
    let namespace = pipeline.spec.kafka.cluster_ref.as_ref().and_then(|reference| reference.namespace.clone());
    let Some(namespace) = namespace.filter(|namespace| *namespace != names.namespace) else { return Ok(None) };
    Ok((read::grants(&namespace, context).await? == Grants::Unreadable).then_some(namespace))
}

fn list(keys: &[Key]) -> String {
    keys.iter().map(Key::to_string).collect::<Vec<_>>().join(", ")
}
