//! Every alert fires and resolves: in `promtool`'s unit tests, and in a pipeline that is broken on purpose. Alerts about the operator,
//! volumes and backups have their drill beside the operator.

use ping_testbed::prometheus::promtool;
use serde_json::Value;

use crate::{dashboards, drill::drill, read, reference, repository, scraped::Scraped};

const RULES: &str = "charts/ping-operator/files/alerts.yaml";
/// Alerts about metrics that other programs export, and about failed calls, which only the drill has.
const WITHOUT_DATA: [&str; 3] = ["PingPipelineBackupOld", "PingPipelineStorageLow", "PingPipelineErrorRate"];

/// The rules with shorter times, so that a drill takes seconds. The unit tests have the real times.
fn hastened() -> String {
    let rules = read(RULES);
    let mut lines: Vec<String> = Vec::new();
    for line in rules.lines() {
        let line = match line.trim().strip_prefix("for: ") {
            Some(_) => line.replace(line.trim(), "for: 0s"),
            None => line
                .replace("[15m]", "[10s]")
                .replace("[10m]", "[10s]")
                .replace("[5m]", "[10s]")
                .replace("[2m]", "[10s]")
                .replace(" > 60", " > 8"),
        };
        lines.push(line);
    }
    lines.join("\n")
}

#[test]
fn promtool_accepts_the_rules_and_every_unit_test_passes() {
    let rules = repository(RULES);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", rules.to_str().unwrap()]).unwrap();
    promtool(&["test", "rules", repository("dataplane/tests/monitoring/alerts.test.yaml").to_str().unwrap()]).unwrap();
}

/// Rules of the data plane by name, as Prometheus has read them.
async fn rules(scraped: &Scraped) -> Vec<(String, String)> {
    let url = format!("{}/api/v1/rules", scraped.prometheus.url());
    let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let groups = answer["data"]["groups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["name"] == "ping-pipelines").unwrap();
    let text = |rule: &Value, field: &str| rule[field].as_str().unwrap().to_owned();
    group["rules"].as_array().unwrap().iter().map(|rule| (text(rule, "name"), text(rule, "query"))).collect()
}

/// An expression without its last comparison, which decides whether the alert fires.
fn measured(query: &str) -> &str {
    let end = [" > ", " < ", " == "].iter().filter_map(|operator| query.rfind(operator)).max().unwrap();
    &query[..end]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_have_data_and_alerts_fire_and_resolve() {
    let mut scraped = Scraped::start(&hastened()).await;
    scraped.traffic().await;

    let asked = dashboards::all_have_data(&scraped);
    assert!(asked > 60, "only {asked} queries");
    reference::names_follow_conventions(&scraped).await;
    reference::is_current(&scraped).await;
    for (name, query) in rules(&scraped).await {
        let samples = scraped.prometheus.query(measured(&query)).unwrap();
        assert_eq!(samples.is_empty(), WITHOUT_DATA.contains(&&*name), "{name}: {query}\n{samples:?}");
    }
    let firing = scraped.prometheus.query(r#"ALERTS{alertstate="firing",alertname=~"PingPipeline.*"}"#).unwrap();
    assert!(firing.is_empty(), "nothing is broken yet: {firing:?}");

    drill(&mut scraped).await;
}
