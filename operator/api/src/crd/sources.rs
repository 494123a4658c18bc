//! `spec.sources`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// What is known per source: a client, a domain, whatever an event says that it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SourcesSpec {
    /// When a source counts as what.
    pub status: StatusRule,
    /// Days that five-minute windows per source are kept, today not counted. Default 7; from 1 to 3650. With fewer, older
    /// windows are dropped; with more, what was dropped does not come back.
    #[schemars(range(min = 1, max = 3650))]
    pub window_retention_days: i32,
    /// Days that daily counts per source are kept; 0 means for ever. Default 0; from 0 to 65,535.
    #[schemars(range(min = 0, max = 65_535))]
    pub day_retention_days: i32,
}

impl Default for SourcesSpec {
    fn default() -> Self {
        Self { status: StatusRule::default(), window_retention_days: 7, day_retention_days: 0 }
    }
}

/// When a source counts as what. A change rolls servers and processors, and holds for what was counted before as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.notWhen.kind != self.yesWhen.kind || self.yesWhen.atLeast < self.notWhen.atLeast",
        "notWhen and yesWhen ask for the same kind, and no source could reach yesWhen without notWhen. Set yesWhen.atLeast below notWhen.atLeast, or ask for different kinds",
    ),
]))]
pub struct StatusRule {
    /// A source with so many events of this kind is not, for ever. Default 1 of kind `bounced`.
    pub not_when: Threshold,
    /// A source with so many events of this kind is, unless it is not. Default 1000 of kind `delivered`.
    pub yes_when: Threshold,
    /// What that is called. Default `not catch-all`, `catch-all` and `unknown`.
    pub names: StatusNames,
}

impl Default for StatusRule {
    fn default() -> Self {
        Self {
            not_when: Threshold { kind: "bounced".into(), at_least: 1 },
            yes_when: Threshold { kind: "delivered".into(), at_least: 1000 },
            names: StatusNames::default(),
        }
    }
}

/// So many events of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// What happened, as events say it: 1 to 64 bytes without control characters.
    #[schemars(length(min = 1, max = 64))]
    pub kind: String,
    /// How often; from 1 to 1,000,000,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub at_least: i64,
}

/// What the three answers are called. (A field `yes` would be read as `true` by YAML.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.not != self.is && self.is != self.unknown && self.not != self.unknown",
        "callers could not tell two of the answers apart. Give not, is and unknown three different names",
    ),
]))]
pub struct StatusNames {
    /// A source that reached `notWhen`. Default `not catch-all`; 1 to 64 characters, no comma.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^,]+$"))]
    pub not: String,
    /// A source that reached `yesWhen` only. Default `catch-all`; 1 to 64 characters, no comma.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^,]+$"))]
    pub is: String,
    /// A source that reached neither. Default `unknown`; 1 to 64 characters, no comma.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^,]+$"))]
    pub unknown: String,
}

impl Default for StatusNames {
    fn default() -> Self {
        Self { not: "not catch-all".into(), is: "catch-all".into(), unknown: "unknown".into() }
    }
}
