//! `kubectl pingpipeline restore-plan`

use anyhow::{Context as _, ensure};
use clap::Args;
use jiff::Timestamp;
use kube::{Api, api::DynamicObject};
use ping_api::{
    crd::{
        PingPipeline, PingPipelineSpec,
        backup::{ObjectStore, Recovery},
    },
    kinds::Kind,
    names::Names,
};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, ConnectionArgs},
    output::Format,
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline whose backups are restored.
    name: String,
    /// Name of the pipeline to create.
    #[arg(long = "as", value_name = "NAME")]
    new: String,
    /// Restore the state at this time, for example 2026-11-28T09:30:00Z. Default: the latest state.
    #[arg(long)]
    time: Option<Timestamp>,
}

/// What the object store has.
#[derive(Debug, Default, PartialEq)]
struct RecoveryWindow {
    first: Option<Timestamp>,
    last_backup: Option<Timestamp>,
}

/// Prints the manifest of a pipeline that starts from the backups of another one, and what to check before it is applied.
pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipelines = cluster.find(Some(&arguments.name)).await?;
    let pipeline = pipelines.first().context("no such pipeline")?;
    ensure!(arguments.new != arguments.name, "restore into a pipeline with another name: {} exists", arguments.name);
    ensure!(
        store(&pipeline.spec).is_some(),
        "{} has no backups: spec.postgres.cluster.backup is not set",
        arguments.name
    );
    let window = recovery_window(&cluster, pipeline).await?;
    let possible = possible(&window, arguments.time);
    let notes = notes(pipeline, &window);
    let manifest = manifest(pipeline, &arguments.new, arguments.time)?;
    match format {
        Format::Json => {
            let (first, last) = (window.first, window.last_backup);
            let problem = possible.as_ref().err();
            let window = json!({ "firstRecoverabilityPoint": first, "lastSuccessfulBackupTime": last });
            println!("{}", json!({ "manifest": manifest, "window": window, "notes": notes, "problem": problem }));
        }
        Format::Text => {
            notes.iter().for_each(|note| println!("# {note}"));
            print!("{}", yaml_serde::to_string(&manifest)?);
        }
    }
    if let Err(problem) = &possible {
        eprintln!("error: {problem}");
    }
    Ok(possible.is_ok())
}

fn store(spec: &PingPipelineSpec) -> Option<&ObjectStore> {
    Some(&spec.postgres.cluster.as_ref()?.backup.as_ref()?.store)
}

/// What the Barman Cloud plugin reports in the status of the ObjectStore.
async fn recovery_window(cluster: &Cluster, pipeline: &PingPipeline) -> anyhow::Result<RecoveryWindow> {
    let name = Names::of(pipeline).postgres();
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &Kind::ObjectStore.api_resource());
    let store = api.get_opt(&name).await.context("cannot read the ObjectStore")?;
    let status = store.map(|store| store.data["status"]["serverRecoveryWindow"][&name].clone()).unwrap_or_default();
    let time = |field: &str| status[field].as_str().and_then(|time| time.parse().ok());
    Ok(RecoveryWindow { first: time("firstRecoverabilityPoint"), last_backup: time("lastSuccessfulBackupTime") })
}

/// Whether the state at `time` can be restored.
fn possible(window: &RecoveryWindow, time: Option<Timestamp>) -> Result<(), String> {
    match (window.first, time) {
        (None, _) => {
            Err("no backup has ended yet, so nothing can be restored. Run: kubectl pingpipeline backup".into())
        }
        (Some(first), Some(time)) if time < first => {
            Err(format!("the state at {time} cannot be restored: the oldest backup is from {first}"))
        }
        (Some(_), Some(time)) if time > Timestamp::now() => Err(format!("{time} is in the future")),
        (Some(_), _) => Ok(()),
    }
}

/// What to know before the manifest is applied.
fn notes(pipeline: &PingPipeline, window: &RecoveryWindow) -> Vec<String> {
    let mut notes = Vec::new();
    if let (Some(first), Some(last)) = (window.first, window.last_backup) {
        notes.push(format!("Every time since {first} can be restored; the last base backup is from {last}."));
    }
    notes
        .push("Events after the restored state are not in the new pipeline. Stop writing to the old one first.".into());
    let spec = &pipeline.spec;
    if spec.kafka.external.is_some() || spec.kafka.topic.name.is_some() {
        notes.push("Change spec.kafka.topic.name: two pipelines must not share a topic.".into());
    }
    if spec.cache.external.is_some() {
        notes.push("Change spec.cache.external.url to an empty cache: two pipelines must not share one.".into());
    }
    notes
}

/// The spec of `pipeline` as a new one that starts from its backups.
fn manifest(pipeline: &PingPipeline, new: &str, time: Option<Timestamp>) -> anyhow::Result<Value> {
    let mut spec = pipeline.spec.clone();
    (spec.suspend, spec.hibernate) = (false, false);
    let cluster = spec.postgres.cluster.get_or_insert_default();
    cluster.recovery = Some(Recovery {
        object_store: None,
        pipeline: pipeline.metadata.name.clone(),
        volume_snapshots: None,
        target_time: time.map(|time| time.to_string()),
    });
    let metadata = json!({ "name": new, "namespace": pipeline.metadata.namespace });
    let (version, kind) = ("pingpipeline.io/v1alpha1", "PingPipeline");
    Ok(json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": serde_json::to_value(spec)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn example() -> PingPipeline {
        let mut pipeline: PingPipeline =
            yaml_serde::from_str(include_str!("../../../examples/production.yaml")).unwrap();
        pipeline.metadata.namespace = Some("default".into());
        pipeline.spec.suspend = true;
        pipeline
    }

    #[test]
    fn only_times_in_the_window_can_be_restored() {
        let window = RecoveryWindow {
            first: Some(time("2026-11-01T02:00:00Z")),
            last_backup: Some(time("2026-11-20T02:00:00Z")),
        };
        assert_eq!(possible(&window, None), Ok(()));
        assert_eq!(possible(&window, Some(time("2026-11-01T02:00:00Z"))), Ok(()));
        assert!(possible(&window, Some(time("2026-11-01T01:59:59Z"))).unwrap_err().contains("the oldest backup"));
        assert!(possible(&window, Some(time("2999-01-01T00:00:00Z"))).unwrap_err().contains("in the future"));
        assert!(possible(&RecoveryWindow::default(), None).unwrap_err().contains("no backup has ended yet"));
    }

    #[test]
    fn the_manifest_is_that_of_the_pipeline_with_a_recovery() {
        let old = example();
        let name = old.metadata.name.clone().unwrap();
        let manifest = manifest(&old, "restored", Some(time("2026-11-20T02:00:00Z"))).unwrap();
        let new: PingPipeline = serde_json::from_value(manifest).unwrap();
        assert_eq!(new.metadata.name.as_deref(), Some("restored"));
        let cluster = new.spec.postgres.cluster.clone().unwrap();
        let recovery = cluster.recovery.unwrap();
        assert_eq!((recovery.pipeline, recovery.target_time), (Some(name), Some("2026-11-20T02:00:00Z".into())));
        assert_eq!(cluster.backup, old.spec.postgres.cluster.unwrap().backup);
        assert!(!new.spec.suspend);
    }
}
