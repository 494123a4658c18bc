//! The operator's dashboard, and the alerts about what the operator knows, by a real Prometheus that scrapes the operator's metrics.
#![cfg(test)]

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ping_api::{crd::status::PostgresVolume, kinds::Dependency};
use ping_operator::{
    index::PipelineName,
    metrics::{Metrics, Outcome},
    storage::{Estimate, Usage},
};
use ping_runtime::{admin, process};
use ping_testbed::prometheus::{Prometheus, Target};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::Value;

const ALERTS: [&str; 7] = [
    "PingOperatorHasNoLeader",
    "PingOperatorReconcilesFail",
    "PingOperatorRepairsRepeatedly",
    "PingPipelineNotReady",
    "PingPipelineNotBackedUp",
    "PingPipelineStorageLow",
    "PingPipelineBackupOld",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What an operator with one pipeline reports.
struct Reported {
    metrics: Metrics,
    pipeline: PipelineName,
    /// CloudNativePG exports it for its Postgres. Here it stands among the metrics of the operator.
    last_backup: Gauge<f64, AtomicU64>,
}

impl Reported {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics::register(registry);
        process::register(registry, "operator", "0.0.0");
        let last_backup = Gauge::default();
        let name = "barman_cloud_cloudnative_pg_io_last_available_backup_timestamp";
        registry.register(name, "Time of the last backup", last_backup.clone());
        let pipeline = PipelineName { namespace: "default".into(), name: "demo".into() };
        Self { metrics, pipeline, last_backup }
    }

    /// Sets every metric, for an operator for which all is well, or nothing.
    fn set(&self, is_well: bool) {
        let Self { metrics, pipeline, last_backup } = self;
        metrics.request("GET", 200);
        metrics.dependency(Dependency::ALL[0], true);
        metrics.total(pipeline, 1);
        metrics.leads(is_well);
        metrics.ready(pipeline, Some(is_well));
        metrics.backed_up(pipeline, Some(is_well));
        let usage = Usage { used: if is_well { 50 } else { 99 }, wal: 0, growth_per_day: None };
        let volume = PostgresVolume { bytes: 100, holds_wal: false };
        metrics.storage(pipeline, Estimate::new(usage, volume).as_ref());
        metrics.reconcile_started(pipeline);
        let outcome = if is_well { Outcome::Settled } else { Outcome::Failed };
        metrics.reconcile_finished(outcome, Duration::from_millis(20));
        let repairs = if is_well { 0 } else { 100 };
        (0..repairs).for_each(|_| metrics.repaired());
        let age = Duration::from_secs(if is_well { 60 } else { 3 * 86_400 });
        last_backup.set((SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - age).as_secs_f64());
    }
}

/// The metrics under a Prometheus that evaluates `rules`.
struct Scraped {
    reported: Reported,
    prometheus: Prometheus,
}

impl Scraped {
    /// All is well, and has been scraped often enough for rates.
    async fn start(rules: &str) -> Self {
        let mut registry = Registry::default();
        let reported = Reported::register(&mut registry);
        reported.set(true);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = admin::Router::new();
        tokio::spawn(admin::serve(listener, admin::Readiness::default(), registry.into(), router, Default::default()));
        let target = Target { job: "ping-operator", url: &url, ca: None };
        let prometheus = Prometheus::start(&[target], rules).await.unwrap();
        let scraped = Self { reported, prometheus };
        scraped.eventually("sum_over_time(up[1m]) > 2", true).await;
        scraped
    }

    /// Reports until `expression` selects something.
    async fn eventually(&self, expression: &str, is_well: bool) {
        let started = Instant::now();
        while self.prometheus.query(expression).unwrap().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60), "nothing is selected by {expression}");
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.reported.set(is_well);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_operators_dashboard_has_data() {
    let scraped = Scraped::start(&read("charts/ping-operator/files/alerts.yaml")).await;
    let dashboard: Value =
        serde_json::from_str(&read("charts/ping-operator/files/dashboards/ping-operator.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 10, "only {} queries", queries.len());
    for query in queries {
        let query = query.replace("$job", ".*").replace("$__rate_interval", "1m").replace("[1h]", "[1m]");
        assert!(!scraped.prometheus.query(&query).unwrap().is_empty(), "no data for {query}");
    }
    // The namespace is that of the pipeline, not of the operator.
    let ready = scraped.prometheus.query(r#"ping_operator_pipeline_ready{namespace="default"}"#).unwrap();
    assert_eq!(ready.len(), 1, "{ready:?}");
}

/// The rules with shorter times, so that a drill takes seconds. The unit tests have the real times.
fn hastened() -> String {
    let rules = read("charts/ping-operator/files/alerts.yaml");
    let line = |line: &str| match line.trim().strip_prefix("for: ") {
        Some(_) => line.replace(line.trim(), "for: 0s"),
        None => line.replace("[30m]", "[10s]").replace("[10m]", "[10s]"),
    };
    rules.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_about_what_the_operator_knows_fire_and_resolve() {
    let scraped = Scraped::start(&hastened()).await;
    let firing = |alert: &str| format!("ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}}");
    for (is_well, fires) in [(true, false), (false, true), (true, false)] {
        scraped.reported.set(is_well);
        for alert in ALERTS {
            let expression = if fires { firing(alert) } else { format!("absent({})", firing(alert)) };
            scraped.eventually(&expression, is_well).await;
        }
    }
}
