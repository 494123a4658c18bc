//! `kubectl pingpipeline report`

use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use ping_api::{
    crd::PingPipeline,
    kinds::{Dependency, Kind},
    names::{OPERATOR, PIPELINE_LABEL},
};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, ConnectionArgs},
    output::Format,
    redact::redact,
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline. Default: all in the namespace.
    name: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let mut pipelines = Vec::new();
    for pipeline in cluster.find(arguments.name.as_deref()).await? {
        pipelines.push(describe(&pipeline, &cluster).await?);
    }
    let report = json!({
        "plugin": env!("CARGO_PKG_VERSION"),
        "kubernetes": cluster.client.apiserver_version().await?.git_version,
        "apis": served(&cluster).await?,
        "operator": operator(&cluster).await,
        "pipelines": pipelines,
    });
    match format {
        Format::Json => println!("{report}"),
        Format::Text => print!("{}", yaml_serde::to_string(&report)?),
    }
    Ok(true)
}

/// Which APIs of other operators are served.
async fn served(cluster: &Cluster) -> anyhow::Result<Value> {
    let groups = cluster.client.list_api_groups().await?.groups;
    let all = Dependency::ALL.into_iter().map(|dependency| {
        let (group, version) = dependency.group_version();
        let versions = groups.iter().filter(|known| known.name == group).flat_map(|known| &known.versions);
        (dependency.title().to_owned(), json!(versions.into_iter().any(|known| known.version == version)))
    });
    Ok(Value::Object(all.collect()))
}

/// The operator's Deployments, or an error message if the user may not list them.
async fn operator(cluster: &Cluster) -> Value {
    let everywhere: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &Kind::Deployment.api_resource());
    let labels = ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"));
    match everywhere.list(&labels).await {
        Ok(found) => found.items.into_iter().map(|object| redact(json!(object))).collect(),
        Err(error) => json!(format!("cannot list Deployments: {error}")),
    }
}

/// The pipeline with its objects and events. For kinds that cannot be read, the report contains the error.
async fn describe(pipeline: &PingPipeline, cluster: &Cluster) -> anyhow::Result<Value> {
    let labels = ListParams::default().labels(&format!("{PIPELINE_LABEL}={}", pipeline.name_any()));
    let mut objects = serde_json::Map::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_created() || *kind == Kind::StatefulSet) {
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind.api_resource());
        let found = match api.list(&labels).await {
            Ok(found) => found.items.into_iter().map(|object| redact(json!(object))).collect(),
            Err(error) => json!(format!("cannot list objects: {error}")),
        };
        objects.insert(kind.name().into(), found);
    }
    let events: Vec<Value> = cluster.events(pipeline).await?.into_iter().map(|event| redact(json!(event))).collect();
    Ok(json!({ "pipeline": redact(json!(pipeline)), "objects": objects, "events": events }))
}
