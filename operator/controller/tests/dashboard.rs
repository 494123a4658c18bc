//! The operator's dashboard, by a real Prometheus that scrapes the operator's metrics.
#![cfg(test)]

use std::time::{Duration, Instant};

use ping_api::{crd::status::PostgresVolume, kinds::Dependency};
use ping_operator::{
    index::PipelineName,
    metrics::{Metrics, Outcome},
    storage::{Estimate, Usage},
};
use ping_runtime::{admin, process};
use ping_testbed::prometheus::{Prometheus, Target};
use prometheus_client::registry::Registry;
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_operators_dashboard_has_data() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    process::register(&mut registry, "operator", "0.0.0");
    let pipeline = PipelineName { namespace: "default".into(), name: "demo".into() };
    metrics.request("GET", 200);
    metrics.dependency(Dependency::ALL[0], true);
    metrics.pipeline(&pipeline, true);
    metrics.total(&pipeline, 1);
    let usage = Usage { used: 1, wal: 0, growth_per_day: None };
    let volume = PostgresVolume { bytes: 2, holds_wal: false };
    metrics.storage(&pipeline, Estimate::new(usage, volume).as_ref());
    metrics.leads(true);
    metrics.reconcile_finished(Outcome::Settled, Duration::from_millis(20));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = admin::Router::new();
    tokio::spawn(admin::serve(listener, admin::Readiness::default(), registry.into(), router, Default::default()));
    let target = Target { job: "ping-operator", url: &url, ca: None };
    let prometheus = Prometheus::start(&[target], &read("charts/ping-operator/files/alerts.yaml")).await.unwrap();
    // Rates need two scrapes.
    let scraped = "sum_over_time(up[1m]) > 2";
    let started = Instant::now();
    while prometheus.query(scraped).unwrap().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", prometheus.query("up"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let dashboard: Value =
        serde_json::from_str(&read("charts/ping-operator/files/dashboards/ping-operator.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 10, "only {} queries", queries.len());
    for query in queries {
        let query = query.replace("$job", ".*").replace("$__rate_interval", "1m").replace("[1h]", "[1m]");
        assert!(!prometheus.query(&query).unwrap().is_empty(), "no data for {query}");
    }
    // The namespace is that of the pipeline, not of the operator.
    let ready = prometheus.query(r#"ping_operator_pipeline_ready{namespace="default"}"#).unwrap();
    assert_eq!(ready.len(), 1, "{ready:?}");
}
