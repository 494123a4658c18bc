//! `spec.server` and `spec.processor`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, EnvVar, Toleration},
    apimachinery::pkg::util::intstr::IntOrString,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// The servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerSpec {
    /// Pods. Default 3; from 0 to 100. Ignored while `autoscaling` is given.
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// Let the number of pods follow the CPU they use. Absent: `replicas` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<ServerAutoscaling>,
    /// Servers that take events and answer nothing, with an address of their own: `<name>-ingest`. Absent, and `query` too: one
    /// kind of server does both. With either, both are made; what one leaves out is as `spec.server` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<ServerRole>,
    /// Servers that answer and take no events, with an address of their own: `<name>-query`. Absent: see `ingest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<ServerRole>,
    /// How the servers are reached. Default: inside the cluster.
    pub service: ServiceSpec,
    /// Write lanes per server. Default 1; from 1 to 64. More help where one connection to Postgres is not fast enough.
    #[schemars(range(min = 1, max = 64))]
    pub lanes: i32,
    /// Networks of proxies that are believed when they say whom they call for (`X-Forwarded-For`), as address and prefix length,
    /// e.g. `10.0.0.0/8`: an event without a source has the caller's address for one. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    pub trusted_proxies: Vec<String>,
    /// CPU and memory of each pod. Default: requests of 400m and 256Mi, memory limit of 256Mi. By default whoever is waited for,
    /// servers and cache, requests twice the CPU of the others (see bench/README.md).
    pub resources: Resources,
    /// What servers and processors have in common.
    #[serde(flatten)]
    pub pod: PodSpec,
}

impl ServerSpec {
    /// How many pods are wanted at least, unless all sleep.
    #[must_use]
    pub fn at_least(&self) -> i32 {
        self.autoscaling.as_ref().map_or(self.replicas, |scaling| scaling.min_replicas)
    }
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self {
            replicas: 3,
            autoscaling: None,
            ingest: None,
            query: None,
            service: ServiceSpec::default(),
            lanes: 1,
            trusted_proxies: Vec::new(),
            resources: Resources::of("400m", "256Mi"),
            pod: PodSpec::default(),
        }
    }
}

/// Servers of one role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerRole {
    /// Pods; from 0 to 100. Absent: as `spec.server` says. Ignored while `autoscaling` is given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<i32>,
    /// Let the number of pods follow the CPU they use. Absent: `replicas` holds, and without it what `spec.server` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<ServerAutoscaling>,
    /// CPU and memory of each pod. Absent: as `spec.server` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProcessorSpec {
    /// Pods. Default 2; from 0 to 100, at most one per partition. Ignored while `autoscaling` is given.
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// Let the number of pods follow the events that wait. Absent: `replicas` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<ProcessorAutoscaling>,
    /// When counted events go to the cache. These are upper bounds: at normal load it happens at once.
    pub flush: Flush,
    /// Minutes that the cache keeps per-minute counts. Default 60; from 2 to 10,080. Older ranges are read from
    /// Postgres.
    #[schemars(range(min = 2, max = 10_080))]
    pub window_minutes: i32,
    /// CPU and memory of each pod. Default: requests of 200m and 256Mi, memory limit of 256Mi.
    pub resources: Resources,
    /// What servers and processors have in common.
    #[serde(flatten)]
    pub pod: PodSpec,
}

impl Default for ProcessorSpec {
    fn default() -> Self {
        Self {
            replicas: 2,
            autoscaling: None,
            flush: Flush::default(),
            window_minutes: 60,
            resources: Resources::of("200m", "256Mi"),
            pod: PodSpec::default(),
        }
    }
}

/// What servers and processors have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Image with `pingd`. Absent: the one that this operator was released with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Names of Secrets to pull the image with. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Labels a node must have. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods put up with. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity, besides the spread over nodes and zones that the operator asks for. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// PriorityClass. Absent: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Seconds a pod may take to drain after SIGTERM. Default 20; from 1 to 300.
    #[schemars(range(min = 1, max = 300))]
    pub drain_seconds: i32,
    /// Log filter, e.g. `info,rdkafka=warn`. Default `info`.
    pub log: String,
    /// More environment variables. Names that the operator sets itself are refused. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

impl Default for PodSpec {
    fn default() -> Self {
        Self {
            image: None,
            image_pull_secrets: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            priority_class_name: None,
            drain_seconds: 20,
            log: "info".into(),
            env: Vec::new(),
        }
    }
}

/// CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// What a pod is sure to get, e.g. `cpu: 500m` (cores) and `memory: 256Mi` (bytes). Absent: nothing, unless `resources` is
    /// absent as well.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What a pod gets at most, e.g. `memory: 512Mi` (bytes). Absent: as much as the node has, unless `resources` is absent as
    /// well.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

impl Resources {
    /// Requests `cpu` and `memory`, and limits memory to the same.
    #[must_use]
    pub fn of(cpu: &str, memory: &str) -> Self {
        let quantity = |text: &str| IntOrString::String(text.into());
        Self {
            requests: [("cpu".into(), quantity(cpu)), ("memory".into(), quantity(memory))].into(),
            limits: [("memory".into(), quantity(memory))].into(),
        }
    }

    /// The cores requested; none when nothing is said of them.
    #[must_use]
    pub fn cpu_request(&self) -> Option<f64> {
        value(self.requests.get("cpu")?)
    }

    /// The memory limit in bytes; none when there is none.
    #[must_use]
    pub fn memory_limit(&self) -> Option<f64> {
        value(self.limits.get("memory")?)
    }
}

fn value(quantity: &IntOrString) -> Option<f64> {
    match quantity {
        IntOrString::Int(number) => Some(f64::from(*number)),
        IntOrString::String(text) => crate::quantity::parse(text),
    }
}

fn quantities(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "x-kubernetes-int-or-string": true }
    })
}

/// How the number of servers follows the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("self.minReplicas <= self.maxReplicas", "minReplicas cannot be more than maxReplicas"),
]))]
pub struct ServerAutoscaling {
    /// At least this many pods. Default 3; from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// At most this many pods. Default 10; from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// CPU use to aim for, in percent of the request. Default 70; from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: i32,
}

impl Default for ServerAutoscaling {
    fn default() -> Self {
        Self { min_replicas: 3, max_replicas: 10, target_cpu_percent: 70 }
    }
}

/// How the number of processors follows the load. Needs a metrics adapter that serves `ping_count_lag_records`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("self.minReplicas <= self.maxReplicas", "minReplicas cannot be more than maxReplicas"),
]))]
pub struct ProcessorAutoscaling {
    /// At least this many pods. Default 2; from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// At most this many pods, and never more than partitions. Default 6; from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// Waiting records per pod to aim for. Default 10,000; at least 1.
    #[schemars(range(min = 1))]
    pub target_lag_records: i64,
}

impl Default for ProcessorAutoscaling {
    fn default() -> Self {
        Self { min_replicas: 2, max_replicas: 6, target_lag_records: 10_000 }
    }
}

/// When counted events go to the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Flush {
    /// At most this many records per flush. Default 1000; from 1 to 100,000.
    #[schemars(range(min = 1, max = 100_000))]
    pub records: i32,
    /// At most this many milliseconds after the first record. Default 1000; from 1 to 60,000.
    #[schemars(range(min = 1, max = 60_000))]
    pub interval_ms: i32,
}

impl Default for Flush {
    fn default() -> Self {
        Self { records: 1000, interval_ms: 1000 }
    }
}

/// How the servers are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type of the Service. Default `ClusterIP`.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// Port of the Service. Default 8080; from 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Annotations of the Service, e.g. for a load balancer. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self { service_type: ServiceType::ClusterIP, port: 8080, annotations: BTreeMap::new() }
    }
}

/// Type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIP,
    /// Reachable at a port of every node.
    NodePort,
    /// Reachable through a load balancer of the cloud.
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}
