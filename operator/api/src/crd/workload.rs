//! `spec.server` and `spec.processor`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, EnvVar, Toleration},
    apimachinery::pkg::util::intstr::IntOrString,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    access::{Authentication, Authorization, ServerTls},
    schema::rule,
};

/// The servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerSpec {
    /// Number of pods. Default 3; 1 to 100. Ignored if `autoscaling` is set. To run none, set `spec.hibernate`.
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// Scale the number of pods by CPU usage. Absent: `replicas` applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<ServerAutoscaling>,
    /// Ingest servers, which accept events only, at their own address `<name>-ingest`. If `ingest` and `query` are both absent, one
    /// Deployment does both. If either is set, both are created, and each takes the fields it omits from `spec.server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<ServerRole>,
    /// Query servers, which answer queries only, at their own address `<name>-query`. Absent: see `ingest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<ServerRole>,
    /// The Service in front of the servers. Default: reachable inside the cluster.
    pub service: ServiceSpec,
    /// Encryption of the API and the admin port. Default: TLS with a certificate that the operator issues.
    pub tls: ServerTls,
    /// Who callers are. Default: callers need a token; the operator generates a first one.
    pub authentication: Authentication,
    /// What callers may do, and how much. Default: only the generated tokens may do anything, as much as they want.
    pub authorization: Authorization,
    /// Concurrent write lanes per server. Default 1; 1 to 64. Use more if a single connection to Postgres is too slow.
    #[schemars(range(min = 1, max = 64))]
    pub lanes: i32,
    /// CIDRs of proxies whose `X-Forwarded-For` is trusted, for example `10.0.0.0/8`. Events without a source use the caller's
    /// address. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    pub trusted_proxies: Vec<String>,
    /// CPU and memory of each pod. Default: requests of 400m CPU and 256Mi memory, memory limit of 256Mi. Servers and the cache
    /// request twice as much CPU as the other components, because callers wait for them.
    pub resources: Resources,
    /// Pod settings.
    #[serde(flatten)]
    pub pod: PodSpec,
}

impl ServerSpec {
    /// Minimum number of pods, unless the pipeline hibernates.
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
            tls: ServerTls::default(),
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            lanes: 1,
            trusted_proxies: Vec::new(),
            resources: Resources::of("400m", "256Mi"),
            pod: PodSpec::default(),
        }
    }
}

/// Servers with one role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerRole {
    /// Number of pods; 1 to 100. Absent: the value in `spec.server`. Ignored if `autoscaling` is set here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i32>,
    /// Scale the number of pods by CPU usage. Absent: `replicas` applies, or if that is absent too, the settings in `spec.server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<ServerAutoscaling>,
    /// CPU and memory of each pod. Absent: the value in `spec.server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProcessorSpec {
    /// Number of pods. Default 2; 1 to 100, at most one per partition. Ignored if `autoscaling` is set. To run none, set `spec.hibernate`.
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// Scale the number of pods by consumer lag. Absent: `replicas` applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<ProcessorAutoscaling>,
    /// Upper bounds for flushing counts to the cache. Under normal load, counts are flushed immediately.
    pub flush: Flush,
    /// Minutes of per-minute counts that the cache keeps. Default 60; 2 to 10,080. Queries for older ranges read from Postgres.
    #[schemars(range(min = 2, max = 10_080))]
    pub window_minutes: i32,
    /// CPU and memory of each pod. Default: requests of 200m CPU and 256Mi memory, memory limit of 256Mi.
    pub resources: Resources,
    /// Pod settings.
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

/// Pod settings that servers and processors share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Container image with `pingd`. Absent: the image of this operator's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Names of image pull secrets. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Labels that a node must have to run the pods. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the pods. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the pods, in addition to the spread over nodes and zones that the operator sets. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// PriorityClass of the pods. Absent: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Seconds to drain in-flight work after SIGTERM. Default 20; 1 to 300.
    #[schemars(range(min = 1, max = 300))]
    pub drain_seconds: i32,
    /// Log filter, for example `info,rdkafka=warn`. Default `info`.
    pub log: String,
    /// Additional environment variables. Variables that the operator sets itself are rejected. Default none.
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
    /// Resources reserved for each pod, for example `cpu: 500m` (cores) and `memory: 256Mi` (bytes). Absent: none if `resources` is
    /// set, otherwise its default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, IntOrString>,
    /// Maximum resources of each pod, for example `memory: 512Mi` (bytes). Absent: no limit if `resources` is set, otherwise its
    /// default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

impl Resources {
    /// Requests `cpu` and `memory`, and sets the memory limit to the same amount.
    #[must_use]
    pub fn of(cpu: &str, memory: &str) -> Self {
        let quantity = |text: &str| IntOrString::String(text.into());
        Self {
            requests: [("cpu".into(), quantity(cpu)), ("memory".into(), quantity(memory))].into(),
            limits: [("memory".into(), quantity(memory))].into(),
        }
    }

    /// The CPU request in cores; `None` if it is not set.
    #[must_use]
    pub fn cpu_request(&self) -> Option<f64> {
        value(self.requests.get("cpu")?)
    }

    /// The memory limit in bytes; `None` if it is not set.
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

/// Autoscaling of servers by CPU usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("self.minReplicas <= self.maxReplicas", "minReplicas cannot exceed maxReplicas"),
]))]
pub struct ServerAutoscaling {
    /// Minimum number of pods. Default 3; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// Maximum number of pods. Default 10; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// Target CPU usage in percent of the request. Default 70; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: i32,
}

impl Default for ServerAutoscaling {
    fn default() -> Self {
        Self { min_replicas: 3, max_replicas: 10, target_cpu_percent: 70 }
    }
}

/// Autoscaling of processors by consumer lag. Requires a metrics adapter that serves `ping_count_lag_records`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("self.minReplicas <= self.maxReplicas", "minReplicas cannot exceed maxReplicas"),
]))]
pub struct ProcessorAutoscaling {
    /// Minimum number of pods. Default 2; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// Maximum number of pods, limited by the number of partitions. Default 6; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// Target number of unprocessed records per pod. Default 10,000; at least 1.
    #[schemars(range(min = 1))]
    pub target_lag_records: i64,
}

impl Default for ProcessorAutoscaling {
    fn default() -> Self {
        Self { min_replicas: 2, max_replicas: 6, target_lag_records: 10_000 }
    }
}

/// Upper bounds for flushing counts to the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Flush {
    /// Maximum number of records per flush. Default 4000; 1 to 100,000.
    #[schemars(range(min = 1, max = 100_000))]
    pub records: i32,
    /// Maximum time from the first record to the flush, in milliseconds. Default 1000; 1 to 60,000.
    #[schemars(range(min = 1, max = 60_000))]
    pub interval_ms: i32,
}

impl Default for Flush {
    fn default() -> Self {
        Self { records: 4000, interval_ms: 1000 }
    }
}

/// The Service in front of the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type of the Service. Default `ClusterIP`.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// Port of the Service. Default 8080; 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Annotations of the Service, for example for a load balancer. Default none.
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
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through a cloud load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// The value as Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}
