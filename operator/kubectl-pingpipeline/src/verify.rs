//! `kubectl pingpipeline verify`

use anyhow::{Context as _, ensure};
use clap::Args;
use http::{Request, header};
use ping_api::{names::Names, roles::query_role};
use serde_json::Value;

use crate::{
    cluster::ConnectionArgs,
    output::{Format, table},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline.
    name: String,
}

/// Calls a server through the API server, which requires permission to create `services/proxy`.
pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipelines = cluster.find(Some(&arguments.name)).await?;
    let pipeline = pipelines.first().context("no such pipeline")?;
    let server = &pipeline.spec.server;
    let (service, port) = (Names::of(pipeline).part(query_role(server).component()), server.service.port);
    let path = format!(
        "/api/v1/namespaces/{}/services/http:{service}:{port}/proxy/ping.v1.PingService/Verify",
        cluster.namespace
    );
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(b"{}".to_vec())?;
    let response = cluster.client.request::<Value>(request).await;
    let report =
        response.with_context(|| format!("no server of {} responded through Service {service}", arguments.name))?;
    ensure!(report["exact"].is_boolean(), "unexpected response from the server: {report}");
    match format {
        Format::Json => println!("{report}"),
        Format::Text => println!("{}", text(&report)),
    }
    Ok(report["exact"] == true)
}

fn text(report: &Value) -> String {
    let field = |name: &str| report[name].as_str().unwrap_or("-").to_owned();
    let names = ["rows", "total", "minutesTotal", "daysTotal", "cacheTotal", "minutesCompared"];
    let header = ["ROWS", "TOTAL", "MINUTES", "DAYS", "CACHE", "MINUTES COMPARED"];
    let mut parts = vec![table(header, [names.map(field)])];
    let differences = report["differences"].as_array().cloned().unwrap_or_default();
    parts.extend(differences.iter().filter_map(Value::as_str).map(|difference| format!("DIFFERS: {difference}")));
    parts.push(if report["exact"] == true { "exact" } else { "NOT EXACT" }.into());
    parts.join("\n")
}
