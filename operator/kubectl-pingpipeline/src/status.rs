//! `kubectl pingpipeline status`

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use clap::Args;
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::ResourceExt;
use ping_api::{
    condition::ConditionType,
    crd::{
        PingPipeline,
        status::{Components, VIEWS_DIFFER},
    },
};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, ConnectionArgs, last_seen},
    output::{Format, age, table},
};

/// Interval between updates.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of events to show.
const MAX_EVENTS: usize = 5;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the pipeline. Default: all in the namespace.
    name: Option<String>,
    /// Keep watching, and print the status whenever it changes.
    #[arg(short, long)]
    watch: bool,
}

pub(crate) async fn run(arguments: &Arguments, connection: &ConnectionArgs, format: Format) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let mut shown = String::new();
    loop {
        let (text, ready) = render(arguments, &cluster, format).await?;
        if text != shown {
            if arguments.watch && format == Format::Text && stdout().is_terminal() {
                // Clears the screen and moves to the first line.
                print!("\x1b[2J\x1b[H");
            }
            println!("{text}");
            shown = text;
        }
        if !arguments.watch {
            return Ok(ready);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn render(arguments: &Arguments, cluster: &Cluster, format: Format) -> anyhow::Result<(String, bool)> {
    let (mut texts, mut values, mut all_ready) = (Vec::new(), Vec::new(), true);
    for pipeline in cluster.find(arguments.name.as_deref()).await? {
        let events = cluster.events(&pipeline).await?;
        all_ready &= is_ready(&pipeline);
        match format {
            Format::Text => texts.push(screen(&pipeline, &events, Timestamp::now())),
            Format::Json => values.push(value(&pipeline, &events)),
        }
    }
    let text = match format {
        Format::Text => texts.join("\n\n"),
        Format::Json => json!({ "pipelines": values }).to_string(),
    };
    Ok((text, all_ready))
}

fn is_ready(pipeline: &PingPipeline) -> bool {
    let conditions = pipeline.status.iter().flat_map(|status| &status.conditions);
    let ready = ConditionType::Ready.to_string();
    conditions.into_iter().any(|condition| condition.type_ == ready && condition.status == "True")
}

fn value(pipeline: &PingPipeline, events: &[Event]) -> Value {
    let events = events.iter().take(MAX_EVENTS).map(|event| {
        json!({ "type": event.type_, "reason": event.reason, "message": event.message, "lastSeen": last_seen(event) })
    });
    json!({
        "name": pipeline.name_any(), "namespace": pipeline.namespace(), "ready": is_ready(pipeline),
        "status": pipeline.status, "events": events.collect::<Vec<_>>(),
    })
}

/// Text output for one pipeline. Pure.
fn screen(pipeline: &PingPipeline, events: &[Event], now: Timestamp) -> String {
    let status = pipeline.status.clone().unwrap_or_default();
    let since = |second: i64| age(now.as_second() - second);
    let created = pipeline.creation_timestamp().map_or_else(String::new, |time| since(time.0.as_second()));
    let readiness = if is_ready(pipeline) { "ready" } else { "NOT READY" };
    let mut parts = vec![format!(
        "{}/{}: {readiness}, {created} old",
        pipeline.namespace().unwrap_or_default(),
        pipeline.name_any()
    )];
    if status.observed_generation != pipeline.metadata.generation {
        parts.push("The operator has not processed the latest change yet. Check that it is running.".into());
    }
    if let Some(stats) = &status.stats {
        let audited = stats.last_audit.as_deref().unwrap_or("not yet");
        parts
            .push(format!("{} events, {} old, from the {}; last audit {audited}", stats.total, stats.lag, stats.store));
        parts.push(match stats.views_audit.as_deref().unwrap_or("not yet") {
            VIEWS_DIFFER => "counts per source: differ from the events".into(),
            audited => format!("counts per source: last audit {audited}"),
        });
        parts.extend(stats.storage.as_ref().map(|storage| format!("volume of Postgres: {storage}")));
    }
    if let Some(endpoints) = &status.endpoints {
        parts.push(match &endpoints.query {
            None => format!("address: {}", endpoints.server),
            Some(query) => format!("ingest address: {}, query address: {query}", endpoints.server),
        });
    }
    if let Some(access) = &status.access {
        parts.push(format!("to connect: {}", access.hint));
    }
    let Components { postgres, kafka, cache, server, processor } = status.components.unwrap_or_default();
    parts.push(String::new());
    parts.push(table(
        ["POSTGRES", "KAFKA", "CACHE", "SERVER", "PROCESSOR"],
        [[postgres, kafka, cache, server, processor]],
    ));
    let conditions = status.conditions.into_iter().map(|condition| {
        let since = since(condition.last_transition_time.0.as_second());
        [condition.type_, condition.status, condition.reason, since, condition.message]
    });
    parts.push(String::new());
    parts.push(table(["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], conditions));
    if !events.is_empty() {
        let latest = events.iter().take(MAX_EVENTS).map(|event| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            [since(last_seen(event)), text(&event.type_), text(&event.reason), text(&event.message)]
        });
        parts.push(String::new());
        parts.push(table(["EVENT", "TYPE", "REASON", "MESSAGE"], latest));
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::WIDTH;

    #[test]
    fn the_output_fits_into_a_hundred_columns() {
        let long = "KafkaTopic default/demo-pings waits for the topic operator of another team. ".repeat(4);
        let time = "2026-11-21T03:31:51Z";
        let condition = |kind: &str| json!({ "type": kind, "status": "False", "reason": "DependencyMissing", "message": long, "lastTransitionTime": time });
        let pipeline = serde_json::from_value(json!({
            "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline",
            "metadata": { "name": "demo", "namespace": "default", "creationTimestamp": time, "generation": 2 },
            "spec": {},
            "status": {
                "observedGeneration": 1, "conditions": [condition("KafkaReady"), condition("Ready")],
                "components": { "postgres": "3/3", "kafka": "Ready", "cache": "2/2", "server": "3/3", "processor": "2/2" },
                "stats": { "total": 42, "lag": "<1s", "store": "cache", "lastAudit": "<1m", "viewsAudit": "differ", "storage": "74%, 9d left" },
            },
        }));
        let event = serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "type": "Warning", "reason": "DriftRepaired", "message": long,
            "eventTime": "2026-11-21T03:32:51.000000Z",
        }));
        let now = "2026-11-21T03:35:51Z".parse().unwrap();
        let screen = screen(&pipeline.unwrap(), &[event.unwrap()], now);
        assert!(screen.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{screen}");
        for part in [
            "default/demo: NOT READY, 4m old",
            "has not processed",
            "42 events, <1s old",
            "counts per source: differ from the events",
            "volume of Postgres: 74%, 9d left",
            "DriftRepaired",
            "3m",
        ] {
            assert!(screen.contains(part), "{part} is not in\n{screen}");
        }
    }
}
