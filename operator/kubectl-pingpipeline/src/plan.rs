//! `kubectl pingpipeline plan`

use std::{
    io::{Read, stdin},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective},
};
use ping_api::crd::PingPipeline;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, ConnectionArgs},
    output::{Format, table},
    risk::{Risk, risk},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// YAML file with PingPipelines; `-` reads standard input.
    #[arg(short, long)]
    filename: PathBuf,
}

/// Effect of a manifest on one pipeline.
#[derive(Serialize)]
struct Plan {
    namespace: String,
    name: String,
    /// True if the pipeline does not exist yet.
    new: bool,
    /// Message of the API server, if it would reject the manifest.
    rejected: Option<String>,
    changes: Vec<Change>,
}

/// A field that would change. Both values include defaults.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    path: String,
    old: Value,
    new: Value,
    risk: Risk,
    why: &'static str,
}

pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let file = arguments.filename.display();
    let mut text = String::new();
    match arguments.filename.as_os_str() == "-" {
        true => stdin().read_to_string(&mut text).map(|_| ()),
        false => std::fs::read_to_string(&arguments.filename).map(|read| text = read),
    }
    .with_context(|| format!("cannot read {file}"))?;
    let cluster = connection.connect().await?;
    let mut plans = Vec::new();
    for document in yaml_serde::Deserializer::from_str(&text) {
        let value = Value::deserialize(document).with_context(|| format!("{file} is not valid YAML"))?;
        if value["kind"] == "PingPipeline" {
            let manifest =
                serde_json::from_value(value).with_context(|| format!("{file} contains an invalid PingPipeline"))?;
            plans.push(plan(manifest, &cluster).await?);
        }
    }
    ensure!(!plans.is_empty(), "{file} contains no PingPipeline");
    match format {
        Format::Json => println!("{}", json!({ "plans": plans })),
        Format::Text => plans.iter().for_each(|plan| println!("{}", plan.text())),
    }
    Ok(plans.iter().all(|plan| plan.rejected.is_none()))
}

/// Sends the manifest to the API server as a dry run.
async fn plan(manifest: DynamicObject, cluster: &Cluster) -> anyhow::Result<Plan> {
    let (name, namespace) = (manifest.name_any(), manifest.namespace().unwrap_or_else(|| cluster.namespace.clone()));
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &namespace, &ApiResource::erase::<PingPipeline>(&()));
    let old = api.get_opt(&name).await?;
    let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("kubectl") };
    let params = params.dry_run();
    let answer = match old.as_ref().and_then(last_applied) {
        Some(last) => {
            let patch = json!({ "spec": three_way(&last["spec"], &manifest.data["spec"]) });
            api.patch(&name, &params, &Patch::Merge(patch)).await
        }
        None => api.patch(&name, &params.force(), &Patch::Apply(&manifest)).await,
    };
    let (new, rejected) = match answer {
        Ok(new) => (Some(new), None),
        // The API server responds with 500 to unknown fields.
        Err(kube::Error::Api(status)) if ![401, 403, 404].contains(&status.code) => {
            (None, Some(status.message.clone()))
        }
        Err(error) => return Err(error.into()),
    };
    let spec =
        |object: &Option<DynamicObject>| object.as_ref().map_or(Value::Null, |object| object.data["spec"].clone());
    let mut changes = Vec::new();
    if old.is_some() && new.is_some() {
        compare("", &spec(&old), &spec(&new), &mut changes);
    }
    Ok(Plan { namespace, name, new: old.is_none(), rejected, changes })
}

/// The manifest that `kubectl apply` applied last; `None` if there is none, or if it was applied with `--server-side`.
fn last_applied(live: &DynamicObject) -> Option<Value> {
    serde_json::from_str(live.annotations().get("kubectl.kubernetes.io/last-applied-configuration")?).ok()
}

/// The merge patch that `kubectl apply` would send. It removes fields that were applied last and are no longer in the manifest.
fn three_way(last: &Value, wanted: &Value) -> Value {
    let empty = serde_json::Map::new();
    match wanted {
        Value::Object(wanted) => {
            let last = last.as_object().unwrap_or(&empty);
            let gone = last.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), Value::Null));
            let kept = wanted
                .iter()
                .map(|(name, value)| (name.clone(), three_way(last.get(name).unwrap_or(&Value::Null), value)));
            Value::Object(gone.chain(kept).collect())
        }
        wanted => wanted.clone(),
    }
}

/// Lists the leaf fields in which `old` and `new` differ.
fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let empty = serde_json::Map::new();
    let is_empty = |value: &Value| value.is_null() || *value == json!({});
    match (old, new) {
        (old, new) if old == new => {}
        // An empty object can have a meaning, for example `server.query: {}`.
        (old, new) if is_empty(old) && is_empty(new) => {
            let (risk, why) = risk(path, old, new);
            changes.push(Change { path: path.into(), old: old.clone(), new: new.clone(), risk, why });
        }
        (Value::Object(_) | Value::Null, Value::Object(_) | Value::Null) => {
            let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
            let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let field = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                compare(&path, &field(old), &field(new), changes);
            }
        }
        (old, new) => {
            let (risk, why) = risk(path, old, new);
            changes.push(Change { path: path.into(), old: old.clone(), new: new.clone(), risk, why });
        }
    }
}

impl Plan {
    fn text(&self) -> String {
        let pipeline = format!("{}/{}", self.namespace, self.name);
        if let Some(message) = &self.rejected {
            return format!("{pipeline}: would be REJECTED\n{message}");
        }
        if self.new {
            return format!("{pipeline}: would be created");
        }
        if self.changes.is_empty() {
            return format!("{pipeline}: nothing would change");
        }
        let short =
            |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace("null", "-");
        let mut changes: Vec<&Change> = self.changes.iter().collect();
        changes.sort_by_key(|change| std::cmp::Reverse(change.risk));
        let rows = changes.iter().map(|change| {
            let (old, new) = (short(&change.old), short(&change.new));
            [format!("{:?}", change.risk), change.path.clone(), format!("{old} -> {new}"), change.why.into()]
        });
        format!(
            "{pipeline}: {} fields would change\n{}",
            changes.len(),
            table(["RISK", "FIELD", "CHANGE", "EFFECT"], rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_no_longer_in_the_manifest_are_removed() {
        let last = json!({ "server": { "replicas": 5, "lanes": 2 }, "suspend": true, "processor": {} });
        let wanted = json!({ "server": { "lanes": 4 }, "processor": { "env": [] } });
        let patch = json!({ "server": { "replicas": null, "lanes": 4 }, "suspend": null, "processor": { "env": [] } });
        assert_eq!(three_way(&last, &wanted), patch);
        assert_eq!(three_way(&last["suspend"], &wanted["server"]), wanted["server"]);
    }

    #[test]
    fn leaves_that_differ_are_listed_with_their_risk() {
        let old = json!({ "server": { "replicas": 3, "lanes": 1 }, "suspend": false });
        let new =
            json!({ "server": { "replicas": 3, "lanes": 2, "nodeSelector": { "disk": "fast" } }, "suspend": false });
        let mut changes = Vec::new();
        compare("", &old, &new, &mut changes);
        let found: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.risk)).collect();
        assert_eq!(found, [("server.lanes", Risk::Rolling), ("server.nodeSelector.disk", Risk::Rolling)]);
        assert_eq!((&changes[1].old, &changes[1].new), (&Value::Null, &json!("fast")));
    }
}
