//! The Prometheus operator: `PodMonitor`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

/// `PodMonitor.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorSpec {
    /// Pods to scrape.
    pub selector: LabelSelector,
    /// Ports to scrape.
    pub pod_metrics_endpoints: Vec<Endpoint>,
}

/// A port to scrape.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    /// Its name.
    pub port: &'static str,
    /// Its path.
    pub path: &'static str,
}
