//! Step 4: writes the desired state to the cluster. Uses server-side apply with one field manager, in the order of `build`, and
//! only for objects that differ; then prunes objects of the pipeline that are no longer desired. Objects of others are never touched.

pub mod compare;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use ping_api::{
    kinds::{Dependency, Key, Kind},
    names::{APPLIED_ANNOTATION, OPERATOR},
};
use serde_json::{Value, json};

use self::compare::{Step, compare, fingerprint};
use crate::{
    cluster_state::{ClusterState, ObservedObjects},
    context::Context,
    desired::{Desired, Object},
    error::present,
    ownership::{Owner, Ownership, ownership},
};

/// The result of applying the desired state.
#[derive(Debug, Default)]
pub struct Applied {
    /// Objects after applying.
    pub live: ObservedObjects,
    /// Dependencies whose CRDs are missing, so their objects could not be created.
    pub missing: BTreeSet<Dependency>,
    /// Objects that were written.
    pub changes: Vec<Change>,
    /// Objects that could not be written. All others were, unless someone else has one to which they would refer.
    pub failures: BTreeMap<Key, ApplyError>,
    /// Keys of all desired objects.
    pub desired: BTreeSet<Key>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Created.
    Created(Key),
    /// Updated to a new desired state.
    Updated(Key),
    /// Restored after another client changed this field.
    Repaired(Key, String),
    /// Deleted because it is no longer desired.
    Pruned(Key),
}

/// A write that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object with this name exists and does not belong to the pipeline. It was not changed.
    #[error("{key} already exists and belongs to {owner}. Delete or rename it, or rename this pipeline")]
    NameConflict {
        /// The object.
        key: Key,
        /// The owner of the object.
        owner: String,
    },
    /// The API server rejected the write.
    #[error("cannot write {key}")]
    Refused {
        /// The object.
        key: Key,
        /// The cause.
        source: kube::Error,
    },
    /// The manifest cannot be represented in JSON.
    #[error("cannot serialize {key}")]
    Serialize {
        /// The object.
        key: Key,
        /// The cause.
        source: serde_json::Error,
    },
}

impl ApplyError {
    /// True if a retry fails in the same way until someone changes something: an object of another owner, an invalid manifest, a missing
    /// permission or an exhausted quota.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NameConflict { .. } | Self::Serialize { .. } => true,
            Self::Refused { source: kube::Error::Api(status), .. } => matches!(status.code, 400 | 403 | 422),
            Self::Refused { .. } => false,
        }
    }
}

impl Applied {
    /// Nothing was applied, because the pipeline is invalid or suspended.
    #[must_use]
    pub fn unchanged(state: &ClusterState) -> Self {
        Self { live: state.live.clone(), ..Self::default() }
    }
}

/// Applies `desired` to the cluster. Failures are part of the result, so that one object does not block the others. Nothing is written if
/// someone else has an object to which others would refer.
pub async fn apply(desired: &Desired, state: &ClusterState, owner: &Owner, context: &Context) -> Applied {
    let mut applied = Applied::unchanged(state);
    applied.desired = desired.objects.iter().map(|object| object.key.clone()).collect();
    applied.failures = conflicts(desired, state, owner, context).await;
    if !applied.failures.is_empty() {
        return applied;
    }
    for object in &desired.objects {
        match object.key.kind.dependency().filter(|dependency| !state.dependencies.contains(dependency)) {
            Some(dependency) => {
                applied.missing.insert(dependency);
            }
            None => apply_one(object, &mut applied, owner, context).await,
        }
    }
    prune(desired, state, &mut applied, owner, context).await;
    applied
}

/// The desired objects to which others refer by name, and which someone else has. With someone else's Postgres, for example, servers would
/// read its password from its Secret, and NetworkPolicies would cut off its other clients.
async fn conflicts(
    desired: &Desired,
    state: &ClusterState,
    owner: &Owner,
    context: &Context,
) -> BTreeMap<Key, ApplyError> {
    let is_served = |kind: Kind| kind.dependency().is_none_or(|dependency| state.dependencies.contains(&dependency));
    let keys = desired.objects.iter().map(|object| &object.key);
    let unseen = keys.filter(|key| key.kind.is_referred_to() && is_served(key.kind) && state.live.get(key).is_none());
    let checks = unseen.map(|key| async move {
        let error = check_ownership(key, owner, &context.api_of(key)).await.err()?;
        Some((key.clone(), error))
    });
    join_all(checks).await.into_iter().flatten().collect()
}

async fn apply_one(object: &Object, applied: &mut Applied, owner: &Owner, context: &Context) {
    let key = &object.key;
    match write(object, applied.live.get(key), owner, context).await {
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

/// True if the CRD was removed since the last discovery: the response does not name an object.
fn is_kind_gone(kind: Kind, status: &kube::core::Status) -> bool {
    let names_an_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    kind.dependency().is_some() && status.code == 404 && !names_an_object
}

/// Writes one object if it differs. Returns `None` if it matches, or if it is being deleted and must be gone first.
async fn write(
    object: &Object,
    live: Option<&DynamicObject>,
    owner: &Owner,
    context: &Context,
) -> Result<Option<(DynamicObject, Option<Change>)>, ApplyError> {
    let key = &object.key;
    if live.is_some_and(|live| live.metadata.deletion_timestamp.is_some()) {
        return Ok(None);
    }
    let serialize = |source| ApplyError::Serialize { key: key.clone(), source };
    let mut wanted = with_fingerprint(object.to_json().map_err(serialize)?);
    let there = live.map(serde_json::to_value).transpose().map_err(serialize)?;
    let step = compare(&wanted, there.as_ref());
    let api = context.api_of(key);
    if step == Step::Skip {
        return Ok(None);
    }
    let params = match live {
        None => {
            check_ownership(key, owner, &api).await?;
            // Without force: an object that appears in the meantime is not overwritten.
            PatchParams::apply(OPERATOR)
        }
        Some(live) => {
            // Fails if the object was replaced by another one.
            wanted["metadata"]["uid"] = json!(live.uid());
            server_side()
        }
    };
    let refused = |source| ApplyError::Refused { key: key.clone(), source };
    let written = api.patch(&key.name, &params, &Patch::Apply(&wanted)).await.map_err(refused)?;
    let unchanged = live.is_some_and(|live| live.resource_version() == written.resource_version());
    let change = match step {
        Step::Create => Some(Change::Created(key.clone())),
        Step::Update => Some(Change::Updated(key.clone())),
        Step::Repair(path) if !unchanged => Some(Change::Repaired(key.clone(), path)),
        Step::Repair(_) | Step::Skip => None,
    };
    Ok(Some((written, change)))
}

/// Server-side apply that takes ownership of conflicting fields.
pub(crate) fn server_side() -> PatchParams {
    PatchParams::apply(OPERATOR).force()
}

/// Adds the fingerprint, which reveals a desired state that only removes fields.
fn with_fingerprint(mut value: Value) -> Value {
    let stamp = fingerprint(&value);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[APPLIED_ANNOTATION] = json!(stamp);
    }
    value
}

/// Fails if an object of this name exists that does not belong to the pipeline.
async fn check_ownership(key: &Key, owner: &Owner, api: &Api<DynamicObject>) -> Result<(), ApplyError> {
    let refused = |source| ApplyError::Refused { key: key.clone(), source };
    let Some(found) = present(api.get_metadata_opt(&key.name).await).map_err(refused)? else { return Ok(()) };
    match ownership(&found, owner) {
        Ownership::Own | Ownership::Released => Ok(()),
        Ownership::Other(owner) => Err(ApplyError::NameConflict { key: key.clone(), owner }),
    }
}

/// Applies the objects in `renewals`, which exist, and leaves all others of the pipeline as they are.
pub async fn apply_renewals(renewals: &Desired, state: &ClusterState, owner: &Owner, context: &Context) -> Applied {
    let mut applied = Applied::unchanged(state);
    for object in &renewals.objects {
        apply_one(object, &mut applied, owner, context).await;
    }
    applied
}

/// Deletes objects of the pipeline that are not desired.
async fn prune(desired: &Desired, state: &ClusterState, applied: &mut Applied, owner: &Owner, context: &Context) {
    for (key, object) in leftovers(desired, &state.live, owner) {
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

/// The objects of the pipeline that are not desired. Data is never among them. What a deleted pipeline retained with its Postgres is, if this
/// pipeline uses that Postgres again.
fn leftovers<'a>(desired: &Desired, live: &'a ObservedObjects, owner: &Owner) -> Vec<(&'a Key, &'a DynamicObject)> {
    let wanted: BTreeSet<&Key> = desired.objects.iter().map(|object| &object.key).chain(&desired.keep).collect();
    let uses_postgres = wanted.iter().any(|key| key.kind == Kind::Cluster);
    let is_ours = |object: &DynamicObject| match ownership(object, owner) {
        Ownership::Own => true,
        Ownership::Released => uses_postgres,
        Ownership::Other(_) => false,
    };
    let unwanted = live.0.iter().filter(|(key, _)| !wanted.contains(key) && !key.kind.holds_data());
    unwanted.filter(|(_, object)| object.metadata.deletion_timestamp.is_none() && is_ours(object)).collect()
}

/// Deletes this object, identified by its UID. A missing object is not an error.
///
/// # Errors
/// If the API server rejects the request or does not respond.
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

#[cfg(test)]
mod tests {
    use ping_api::names::{NAMESPACE_LABEL, Names, OWNER_ANNOTATION, OWNER_UID_ANNOTATION, PIPELINE_LABEL};

    use super::*;

    /// An object of pipeline `demo` with this owner UID in its annotations; without one, it was retained by an earlier `demo`.
    fn object(kind: Kind, uid: Option<&str>) -> (Key, DynamicObject) {
        let key = Key::new(kind, "team", "demo-postgres");
        let mut annotations = BTreeMap::from([(OWNER_ANNOTATION, "team/demo")]);
        annotations.extend(uid.map(|uid| (OWNER_UID_ANNOTATION, uid)));
        let object = json!({ "metadata": {
            "name": key.name, "labels": { PIPELINE_LABEL: "demo", NAMESPACE_LABEL: "team" }, "annotations": annotations,
        } });
        (key, serde_json::from_value(object).unwrap())
    }

    /// The kinds that are pruned, of a store and a schedule for backups.
    fn pruned(uid: Option<&str>, desired: &Desired) -> Vec<Kind> {
        let owner = Owner { names: Names { namespace: "team".into(), pipeline: "demo".into() }, uid: "1".into() };
        let kinds = [Kind::Cluster, Kind::ObjectStore, Kind::ScheduledBackup];
        let live = ObservedObjects(kinds.map(|kind| object(kind, uid)).into());
        leftovers(desired, &live, &owner).into_iter().map(|(key, _)| key.kind).collect()
    }

    #[test]
    fn backups_that_a_deleted_pipeline_retained_are_pruned_only_by_one_that_uses_its_postgres() {
        let backups = [Kind::ScheduledBackup, Kind::ObjectStore];
        let (external, mut managed) = (Desired::default(), Desired::default());
        managed.push(Kind::Cluster, "team", "demo-postgres", json!({}));
        assert_eq!(pruned(Some("1"), &external), backups, "the pipeline's own");
        assert!(pruned(None, &external).is_empty(), "the retained data needs them");
        assert_eq!(pruned(None, &managed), backups);
        assert!(pruned(Some("2"), &managed).is_empty(), "another pipeline's");
    }
}
