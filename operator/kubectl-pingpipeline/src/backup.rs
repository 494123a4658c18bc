//! `kubectl pingpipeline backup`

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, PostParams, TypeMeta},
};
use ping_api::{
    crd::PingPipeline,
    names::{BARMAN_PLUGIN, Names},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Cluster, ConnectionArgs},
    output::Format,
};

/// How often the state of the backup is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline.
    name: String,
    /// How long to wait for the end of the backup, in seconds; 0 does not wait.
    #[arg(long, default_value_t = 3600)]
    timeout_seconds: u64,
}

/// Makes a base backup now, besides the schedule.
pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipelines = cluster.find(Some(&arguments.name)).await?;
    let pipeline = pipelines.first().context("no such pipeline")?;
    ensure!(
        pipeline.spec.postgres.cluster.as_ref().is_some_and(|cluster| cluster.backup.is_some()),
        "{} has no backups; set spec.postgres.cluster.backup first",
        arguments.name
    );
    let api = backups(&cluster);
    let created = api.create(&PostParams::default(), &backup(pipeline)).await.context("cannot create the Backup")?;
    let name = created.name_any();
    if arguments.timeout_seconds == 0 {
        print(format, &name, "started", "");
        return Ok(true);
    }
    let deadline = Instant::now() + Duration::from_secs(arguments.timeout_seconds);
    loop {
        let status = api.get_status(&name).await?.data["status"].clone();
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        match text("phase").as_str() {
            "completed" => {
                print(format, &name, "completed", &text("stoppedAt"));
                return Ok(true);
            }
            "failed" | "walArchivingFailing" => {
                bail!("{name} failed: {}. Run: kubectl describe backups.postgresql.cnpg.io {name}", text("error"))
            }
            phase if Instant::now() > deadline => bail!(
                "{name} has not ended within {} s and continues (phase: {phase}). Run: kubectl describe \
                 backups.postgresql.cnpg.io {name}",
                arguments.timeout_seconds
            ),
            _ => sleep(POLL_INTERVAL).await,
        }
    }
}

fn print(format: Format, name: &str, phase: &str, ended: &str) {
    match format {
        Format::Json => println!("{}", json!({ "backup": name, "phase": phase, "stoppedAt": ended })),
        Format::Text if ended.is_empty() => println!("{name} {phase}"),
        Format::Text => println!("{name} {phase} at {ended}"),
    }
}

fn backups(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Backup");
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &ApiResource::from_gvk(&kind))
}

/// A Backup of the pipeline's cluster, named by the API server.
fn backup(pipeline: &PingPipeline) -> DynamicObject {
    let names = Names::of(pipeline);
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", names.postgres())),
        labels: Some(names.labels("postgres")),
        ..ObjectMeta::default()
    };
    let types = TypeMeta { api_version: "postgresql.cnpg.io/v1".into(), kind: "Backup".into() };
    let spec = json!({
        "cluster": { "name": names.postgres() },
        "method": "plugin",
        "pluginConfiguration": { "name": BARMAN_PLUGIN },
    });
    DynamicObject { types: Some(types), metadata, data: json!({ "spec": spec }) }
}
