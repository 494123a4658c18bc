//! `spec.tracing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of `spec.tracing.samplingRatePerMillion` with which all calls are traced.
pub const ALL_CALLS: i32 = 1_000_000;

/// Traces of calls, and of what becomes of their events until they are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TracingSpec {
    /// OpenTelemetry collector that receives traces by OTLP over gRPC: `http://host:port`, or `https://host:port` if its certificate is from a
    /// public CA. Network policies allow connections to its port. Absent (default): no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://[^@/]+:[0-9]+$"))]
    pub endpoint: Option<String>,
    /// How many of a million calls are traced if their callers do not say; callers say with the header `traceparent`. Default 10000, which is
    /// one percent; 0 to 1000000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub sampling_rate_per_million: i32,
}

impl Default for TracingSpec {
    fn default() -> Self {
        Self { endpoint: None, sampling_rate_per_million: 10_000 }
    }
}
