//! `spec.sources`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::rule;

/// Status rule for sources, and retention of per-source data. A source is whatever an event says it comes from, such as a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SourcesSpec {
    /// Rule that classifies sources.
    pub status: StatusRule,
    /// Days that five-minute windows per source are kept, not counting today. Default 7; 1 to 3650. A lower value deletes older
    /// windows; a higher value does not restore deleted ones.
    #[schemars(range(min = 1, max = 3650))]
    pub window_retention_days: i32,
    /// Days that daily counts per source are kept; 0 keeps them indefinitely. Default 0; 0 to 65,535.
    #[schemars(range(min = 0, max = 65_535))]
    pub day_retention_days: i32,
    /// Number of sources from which on servers refuse events of new ones; those that exist are still counted. 0 sets no limit. Default
    /// 100,000,000.
    #[schemars(range(min = 0))]
    pub max_sources: i64,
    /// New names of kinds that servers accept per day (UTC); events with further ones are refused. 0 sets no limit. Default 10,000; 0 to
    /// 1,000,000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub new_kind_names_per_day: i32,
}

impl Default for SourcesSpec {
    fn default() -> Self {
        Self {
            status: StatusRule::default(),
            window_retention_days: 7,
            day_retention_days: 0,
            max_sources: 100_000_000,
            new_kind_names_per_day: 10_000,
        }
    }
}

/// Rule that classifies sources as negative, positive or unknown. Changing it restarts servers and processors one by one, and
/// also applies to events that were counted before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.negativeWhen.kind != self.positiveWhen.kind || self.positiveWhen.atLeast < self.negativeWhen.atLeast",
        "negativeWhen and positiveWhen use the same kind, so every source that reached positiveWhen would be negative already. Set positiveWhen.atLeast below negativeWhen.atLeast, or use different kinds",
    ),
]))]
pub struct StatusRule {
    /// A source with at least this many events of this kind is negative. That can be revoked. Default: 1 event of kind
    /// `failed`.
    pub negative_when: Threshold,
    /// A source with at least this many events of this kind is positive, unless the negative rule matched. Default: 1000 events
    /// of kind `succeeded`.
    pub positive_when: Threshold,
    /// Labels that `GetStatus` returns. Default `negative`, `positive` and `unknown`.
    pub labels: StatusLabels,
}

impl Default for StatusRule {
    fn default() -> Self {
        Self {
            negative_when: Threshold { kind: "failed".into(), at_least: 1 },
            positive_when: Threshold { kind: "succeeded".into(), at_least: 1000 },
            labels: StatusLabels::default(),
        }
    }
}

/// A minimum number of events of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// Kind of event: 1 to 64 bytes without control characters.
    #[schemars(length(min = 1, max = 64))]
    pub kind: String,
    /// Minimum number of events; 1 to 1,000,000,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub at_least: i64,
}

/// Labels of the three statuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.negative != self.positive && self.positive != self.unknown && self.negative != self.unknown",
        "two statuses have the same label, so callers could not tell them apart. Give negative, positive and unknown three different labels",
    ),
]))]
pub struct StatusLabels {
    /// Label of a source that matches `negativeWhen`. Default `negative`; 1 to 64 characters, no comma.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^,]+$"))]
    pub negative: String,
    /// Label of a source that matches only `positiveWhen`. Default `positive`; 1 to 64 characters, no comma.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^,]+$"))]
    pub positive: String,
    /// Label of a source that matches neither. Default `unknown`; 1 to 64 characters, no comma.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^,]+$"))]
    pub unknown: String,
}

impl Default for StatusLabels {
    fn default() -> Self {
        Self { negative: "negative".into(), positive: "positive".into(), unknown: "unknown".into() }
    }
}
