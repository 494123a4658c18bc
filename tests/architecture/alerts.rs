//! Every alert has a runbook, a unit test and a drill, and every runbook an alert. Every panel of a dashboard says what it shows.

use std::collections::BTreeSet;

use regex::Regex;

use crate::source::{assert_none, root, sources};

const ALERTS: &str = "charts/ping-operator/files/alerts.yaml";
const RUNBOOKS: &str = "docs/operations/runbooks";
const SECTIONS: [&str; 4] = ["## Meaning", "## Impact", "## Diagnosis", "## Fix"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The first group of every match.
fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_alert_has_a_runbook_and_a_unit_test() {
    let rules = read(ALERTS);
    let alerts = found(r"- alert: (\w+)", &rules);
    assert!(alerts.len() > 15, "only {} alerts found in {ALERTS}", alerts.len());
    let linked = found(r"runbook_url: https://pingpipeline\.io/docs/operations/runbooks/(\w+)\.html", &rules);
    assert_eq!(linked, alerts, "each alert links to its runbook");
    let unit_tests = read("dataplane/tests/monitoring/alerts.test.yaml");
    assert_eq!(found(r#"alertname="(\w+)""#, &unit_tests), alerts, "each alert has a unit test");
    let pages: BTreeSet<_> = sources(&root().join(RUNBOOKS), &["md"])
        .iter()
        .filter(|page| page.path.file_name().is_none_or(|name| name != "README.md"))
        .map(|page| {
            let missing: Vec<_> = SECTIONS.into_iter().filter(|section| !page.text.contains(section)).collect();
            assert!(missing.is_empty(), "{} lacks {missing:?}", page.path.display());
            page.path.file_stem().unwrap().to_string_lossy().into_owned()
        })
        .collect();
    assert_eq!(pages, alerts, "each runbook has an alert");
    assert_eq!(found(r"\[\w+\]\((\w+)\.md\)", &read(&format!("{RUNBOOKS}/README.md"))), alerts, "the list of runbooks");
}

#[test]
fn every_alert_fires_in_a_drill() {
    let drills = ["dataplane/tests/monitoring/drill.rs", "operator/controller/tests/dashboard.rs"].map(read).concat();
    let alerts = found(r"- alert: (\w+)", &read(ALERTS));
    let missing: Vec<_> = alerts.into_iter().filter(|alert| !drills.contains(&format!("\"{alert}\""))).collect();
    assert_none("alerts fire in no drill", &missing);
}

#[test]
fn every_panel_says_what_it_shows() {
    let mut silent = Vec::new();
    let dashboards = sources(&root().join("charts/ping-operator/files/dashboards"), &["json"]);
    assert!(dashboards.len() >= 5, "only {} dashboards", dashboards.len());
    for dashboard in &dashboards {
        assert!(
            dashboard.text.contains(r#""name": "job""#),
            "{} has no variable for the job",
            dashboard.path.display()
        );
        let descriptions = found(r#""description": "([^"]+)""#, &dashboard.text).len();
        let panels = dashboard.text.matches("\"gridPos\"").count();
        // The dashboard itself has one, too.
        if descriptions != panels + 1 {
            silent.push(format!("{}: {descriptions} descriptions for {panels} panels", dashboard.path.display()));
        }
    }
    assert_none("panels without a description, or with that of another", &silent);
}
