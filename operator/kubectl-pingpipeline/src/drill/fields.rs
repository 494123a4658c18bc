//! What drills add to objects: fields of their own manager. The API server knows which ones these are, so `drill undo` finds them after a drill
//! that was killed, and removes them and nothing else.

use std::fmt::Debug;

use anyhow::Context as _;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Field manager of drills.
const MANAGER: &str = "pingpipeline-drill";

/// Sets the fields in `patch`, which has `apiVersion` and `kind`, too.
pub(super) async fn add<K>(objects: &Api<K>, name: &str, patch: &Value) -> Result<K, kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    objects.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await
}

/// Removes the fields that a drill has set, except for those that someone else has set to the same value. Returns the object without them;
/// `None` if there were none. Can be called repeatedly.
pub(super) async fn remove<K>(objects: &Api<K>, name: &str) -> anyhow::Result<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&());
    let found = objects.get_opt(name).await.with_context(|| format!("cannot read {kind} {name}"))?;
    let Some(metadata) = found.as_ref().map(Resource::meta).filter(|metadata| {
        metadata.managed_fields.iter().flatten().any(|fields| fields.manager.as_deref() == Some(MANAGER))
    }) else {
        return Ok(None);
    };
    // A manager that applies no fields gives up those that it applied before. With the UID, a deleted object is not created again.
    let nothing = json!({
        "apiVersion": K::api_version(&()), "kind": kind, "metadata": { "name": name, "uid": metadata.uid },
    });
    let removed = add(objects, name, &nothing).await;
    removed.map(Some).with_context(|| format!("cannot remove from {kind} {name} what a drill has added"))
}
