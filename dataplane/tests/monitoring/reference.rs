//! `docs/reference/metrics.md` lists the metrics that the programs export, and no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};

use crate::{processes::Pingd, repository, scraped::Scraped};

const PAGE: &str = "docs/reference/metrics.md";
const INTRODUCTION: &str = "# Metrics

<!-- Written by the test `monitoring`: make reference. -->

Servers, processors and the embedded program serve these on `/metrics` of the admin port, as OpenMetrics text. [Metrics of the
operator](operator-metrics.md) are on a page of their own. Names and units follow the conventions of Prometheus: base units, counters end in
`_total`, times are seconds since the Unix epoch and end in `_timestamp_seconds`. A histogram has the series `_bucket`, `_sum` and `_count`.

`ping_count_…` is about the counters in the cache, `ping_views_…` about the views per source. Series with a label appear with their first
value.

";

/// One metric.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    programs: BTreeSet<&'static str>,
}

/// Reads what `program` exports.
async fn export(metrics: &mut BTreeMap<String, Metric>, program: &'static str, pingd: &Pingd) {
    let text = pingd.metrics().await;
    let mut name = String::new();
    for line in text.lines() {
        let words = line.splitn(4, ' ').collect::<Vec<_>>();
        if let ["#", "HELP", metric, help] = words[..] {
            name = metric.to_owned();
            let metric = metrics.entry(name.clone()).or_default();
            help.trim_end_matches('.').clone_into(&mut metric.help);
            metric.programs.insert(program);
        } else if let ["#", "TYPE", _, kind] = words[..] {
            kind.clone_into(&mut metrics.get_mut(&name).unwrap().kind);
        } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let labels = labels.rsplit_once('}').unwrap().0.split("\",").filter_map(|label| label.split_once('='));
            let names = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
            metrics.get_mut(&name).unwrap().labels.extend(names);
        }
    }
}

/// Compares the page with what the programs export; writes it if `UPDATE` is set.
pub async fn is_current(scraped: &Scraped) {
    let mut metrics = BTreeMap::new();
    export(&mut metrics, "server", &scraped.server).await;
    export(&mut metrics, "processor", &scraped.processor).await;
    // The embedded program is both.
    export(&mut metrics, "embedded", &scraped.embedded).await;
    let mut page =
        INTRODUCTION.to_owned() + "| metric | type | labels | of | meaning |\n| --- | --- | --- | --- | --- |\n";
    for (name, metric) in &metrics {
        let end = if metric.kind == "counter" { "_total" } else { "" };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let of: Vec<_> = metric.programs.iter().copied().filter(|program| *program != "embedded").collect();
        let of = if of.is_empty() { "both, with TLS".to_owned() } else { of.join(", ") };
        let Metric { kind, help, .. } = metric;
        writeln!(page, "| `{name}{end}` | {kind} | {} | {of} | {help} |", labels.join(", ")).unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(repository(PAGE), page).unwrap();
        return;
    }
    let committed = fs::read_to_string(repository(PAGE)).unwrap_or_default();
    assert!(committed == page, "{PAGE} is stale: run `make reference`");
}

/// Names follow the conventions of Prometheus.
pub async fn names_follow_conventions(scraped: &Scraped) {
    for pingd in [&scraped.server, &scraped.processor] {
        let text = pingd.metrics().await;
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(!["milliseconds", "_ms", "minutes", "kilobytes"].iter().any(|unit| name.contains(unit)), "{name}");
            assert!(name.starts_with("ping_") || name.starts_with("process_"), "{name}");
            assert!(!name.ends_with("_total"), "{name}: the suffix is added to {kind}s");
        }
    }
}
