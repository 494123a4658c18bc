//! Fourth step: makes the cluster hold what is desired. Server-side apply with one field manager, in the order of
//! `build`, only where something differs; then prune what carries our labels and is not desired.

pub mod compare;

use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use ping_api::{
    kinds::{Dependency, Key, Kind},
    names::{APPLIED_ANNOTATION, NAMESPACE_LABEL, OPERATOR, PIPELINE_LABEL},
};
use serde_json::{Value, json};

use self::compare::{Step, compare, fingerprint};
use crate::{
    cluster_state::{Live, Refs},
    context::Context,
    desired::{Desired, Object},
    error::present,
};

/// What a pass left behind.
#[derive(Debug, Default)]
pub struct Applied {
    /// Objects as they are now.
    pub live: Live,
    /// What would have been made if its CRD were installed.
    pub missing: BTreeSet<Dependency>,
    /// What was written.
    pub changes: Vec<Change>,
    /// What could not be written. Everything else was.
    pub failures: BTreeMap<Key, ApplyError>,
    /// Every object that was desired.
    pub desired: BTreeSet<Key>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Made.
    Created(Key),
    /// Brought to a new wish.
    Updated(Key),
    /// Put right after somebody else changed this field.
    Repaired(Key, String),
    /// Removed, for it is no longer desired.
    Pruned(Key),
}

/// A write that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is such an object, and it is not this pipeline's.
    #[error("{key} exists already and belongs to {owner}; delete or rename it, or give this pipeline another name")]
    NameTaken {
        /// Which object.
        key: Key,
        /// Whose it is.
        owner: String,
    },
    /// The API server refused.
    #[error("cannot write {key}")]
    Refused {
        /// Which object.
        key: Key,
        /// Why.
        source: kube::Error,
    },
    /// A manifest that JSON cannot hold.
    #[error("cannot serialize {key}")]
    Serialize {
        /// Which object.
        key: Key,
        /// Why.
        source: serde_json::Error,
    },
}

/// Applies `desired`; none (an invalid or suspended pipeline) changes nothing.
pub async fn apply(desired: Option<Desired>, refs: &Refs, context: &Context) -> Applied {
    let mut applied = Applied { live: refs.live.clone(), ..Applied::default() };
    let Some(desired) = desired else { return applied };
    applied.desired = desired.objects.iter().map(|object| object.key.clone()).collect();
    for object in &desired.objects {
        match object.key.kind.dependency().filter(|dependency| !refs.dependencies.contains(dependency)) {
            Some(dependency) => {
                applied.missing.insert(dependency);
            }
            None => apply_one(object, &mut applied, context).await,
        }
    }
    prune(&desired, refs, &mut applied, context).await;
    applied
}

async fn apply_one(object: &Object, applied: &mut Applied, context: &Context) {
    let key = &object.key;
    match bring(object, applied.live.get(key), context).await {
        Ok(None) => {}
        Ok(Some((live, change))) => {
            applied.changes.extend(change);
            applied.live.0.insert(key.clone(), live);
        }
        Err(ApplyError::Refused { source: kube::Error::Api(status), .. }) if is_kind_gone(key.kind, &status) => {
            applied.missing.extend(key.kind.dependency());
        }
        Err(error) => {
            applied.failures.insert(key.clone(), error);
        }
    }
}

/// The CRD went away since the last discovery: the answer does not name an object.
fn is_kind_gone(kind: Kind, status: &kube::core::Status) -> bool {
    let names_an_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    kind.dependency().is_some() && status.code == 404 && !names_an_object
}

/// Writes one object if it differs. None: it was as desired, or it is being deleted and has to go first.
async fn bring(
    object: &Object,
    live: Option<&DynamicObject>,
    context: &Context,
) -> Result<Option<(DynamicObject, Option<Change>)>, ApplyError> {
    let key = &object.key;
    if live.is_some_and(|live| live.metadata.deletion_timestamp.is_some()) {
        return Ok(None);
    }
    let serialize = |source| ApplyError::Serialize { key: key.clone(), source };
    let wanted = stamped(object.to_json().map_err(serialize)?);
    let there = live.map(serde_json::to_value).transpose().map_err(serialize)?;
    let step = compare(&wanted, there.as_ref());
    let api = context.api_of(key);
    if step == Step::Skip {
        return Ok(None);
    }
    if step == Step::Create {
        refuse_taken(key, &wanted, &api).await?;
    }
    let refused = |source| ApplyError::Refused { key: key.clone(), source };
    let written = api.patch(&key.name, &server_side(), &Patch::Apply(&wanted)).await.map_err(refused)?;
    let unchanged = live.is_some_and(|live| live.resource_version() == written.resource_version());
    let change = match step {
        Step::Create => Some(Change::Created(key.clone())),
        Step::Update => Some(Change::Updated(key.clone())),
        Step::Repair(path) if !unchanged => Some(Change::Repaired(key.clone(), path)),
        Step::Repair(_) | Step::Skip => None,
    };
    Ok(Some((written, change)))
}

/// Server-side apply, taking back fields that we own from whoever changed them.
pub(crate) fn server_side() -> PatchParams {
    PatchParams::apply(OPERATOR).force()
}

/// Adds the fingerprint, by which a wish that only takes fields away is noticed.
fn stamped(mut value: Value) -> Value {
    let stamp = fingerprint(&value);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[APPLIED_ANNOTATION] = json!(stamp);
    }
    value
}

/// What is not labelled as ours is not ours to overwrite.
async fn refuse_taken(key: &Key, wanted: &Value, api: &Api<DynamicObject>) -> Result<(), ApplyError> {
    let refused = |source| ApplyError::Refused { key: key.clone(), source };
    let Some(found) = present(api.get_metadata_opt(&key.name).await).map_err(refused)? else { return Ok(()) };
    let label = |name: &str| found.labels().get(name).cloned();
    let ours = [PIPELINE_LABEL, NAMESPACE_LABEL]
        .iter()
        .all(|name| label(name).as_deref() == wanted["metadata"]["labels"][*name].as_str());
    if ours {
        return Ok(());
    }
    let owner = match (label(NAMESPACE_LABEL), label(PIPELINE_LABEL)) {
        (Some(namespace), Some(pipeline)) => format!("PingPipeline {namespace}/{pipeline}"),
        _ => "somebody else".into(),
    };
    Err(ApplyError::NameTaken { key: key.clone(), owner })
}

/// Deletes what carries our labels and is not desired. Data is never pruned.
async fn prune(desired: &Desired, refs: &Refs, applied: &mut Applied, context: &Context) {
    let wanted = |key: &Key| applied.desired.contains(key) || desired.keep.contains(key) || key.kind.holds_data();
    let leftovers: Vec<&Key> = refs.live.0.keys().filter(|key| !wanted(key)).collect();
    for key in leftovers {
        let Some(object) = refs.live.get(key).filter(|object| object.metadata.deletion_timestamp.is_none()) else {
            continue;
        };
        match delete(key, object, DeleteParams::background(), context).await {
            Ok(()) => {
                applied.live.0.remove(key);
                applied.changes.push(Change::Pruned(key.clone()));
            }
            Err(source) => {
                applied.failures.insert(key.clone(), ApplyError::Refused { key: key.clone(), source });
            }
        }
    }
}

/// Deletes exactly this object; one that is gone already is no error.
///
/// # Errors
/// When the API server refuses or does not answer.
pub(crate) async fn delete(
    key: &Key,
    object: &DynamicObject,
    params: DeleteParams,
    context: &Context,
) -> Result<(), kube::Error> {
    let params = params.preconditions(Preconditions { uid: object.uid(), resource_version: None });
    match context.api_of(key).delete(&key.name, &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(|_| ()),
    }
}
