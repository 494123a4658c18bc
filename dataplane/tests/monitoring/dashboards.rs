//! Every query of the dashboards finds data. The operator's dashboard has a test of its own, beside the operator.

use serde_json::Value;

use crate::{read, scraped::Scraped};

/// The dashboards of the data plane.
const DASHBOARDS: [&str; 4] = ["ping-overview", "ping-write-path", "ping-count-path", "ping-sources"];

/// Titles and queries of a dashboard's panels.
fn queries(dashboard: &str) -> Vec<(String, String)> {
    let text = read(&format!("charts/ping-operator/files/dashboards/{dashboard}.json"));
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(move |target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()))
    });
    queries.collect()
}

/// What Grafana fills in for its variables, when all jobs are selected.
fn filled_in(query: &str) -> String {
    let query = query.replace("$job", ".*").replace("$__rate_interval", "10s");
    assert!(!query.contains('$'), "a variable that is not known here: {query}");
    query
}

/// Checks every query; returns how many there are.
pub fn all_have_data(scraped: &Scraped) -> usize {
    let mut empty = Vec::new();
    let mut asked = 0;
    for dashboard in DASHBOARDS {
        for (title, query) in queries(dashboard) {
            asked += 1;
            if scraped.prometheus.query(&filled_in(&query)).unwrap().is_empty() {
                empty.push(format!("{dashboard}, {title}: {query}"));
            }
        }
    }
    assert!(empty.is_empty(), "{} queries without data:\n{}", empty.len(), empty.join("\n"));
    asked
}
