//! `spec.server.authorization.quotas`: how much callers may send. Serialized as in the servers' access policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::rule;

/// Which callers share a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Each caller has its own.
    #[default]
    Caller,
    /// All callers together.
    Quota,
}

/// How much the callers that it names may send. All servers share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "has(self.eventsPerSecond) || has(self.bytesPerSecond) || has(self.newSourcesPerDay) || has(self.newKindsPerDay)",
        "the quota limits nothing. Set eventsPerSecond, bytesPerSecond, newSourcesPerDay or newKindsPerDay",
    ),
    rule(
        "!has(self.burstSeconds) || has(self.eventsPerSecond) || has(self.bytesPerSecond)",
        "burstSeconds has no effect, because new names have no burst. Set eventsPerSecond or bytesPerSecond, or remove it",
    ),
    rule(
        "!has(self.newSourcesPerDay) || !has(self.newKindsPerDay) || self.newKindsPerDay >= self.newSourcesPerDay",
        "newKindsPerDay is less than newSourcesPerDay, but the first kind of each new source counts, too. Set it to at least newSourcesPerDay",
    ),
]))]
pub struct Quota {
    /// Name in messages and metrics, used once.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[-.a-z0-9]+$"))]
    pub name: String,
    /// Callers, as in rules, or `anonymous` for callers without credentials. `*` stands for any text.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub callers: Vec<String>,
    /// Patterns of sources. `*` stands for any text. Absent: all sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub sources: Vec<String>,
    /// Patterns of kinds. Absent: all kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub kinds: Vec<String>,
    /// `caller` (default): each caller has its own quota. `quota`: all callers share one.
    #[serde(default)]
    pub per: Sharing,
    /// Events per second. Absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub events_per_second: Option<i64>,
    /// Bytes of events per second: 24 per event, and those of its source and kind. Absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_000_000_000))]
    pub bytes_per_second: Option<i64>,
    /// How many seconds' worth of events and bytes may be used at once. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub burst_seconds: Option<i64>,
    /// Sources per day (UTC) that have no events yet. Absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub new_sources_per_day: Option<i64>,
    /// Kinds per day (UTC) that a source has no events of yet. The first kind of a new source counts, too. Absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub new_kinds_per_day: Option<i64>,
}
