//! The quotas of the policy as written, and their validation.

use std::{ops::RangeInclusive, sync::Arc};

use serde::Deserialize;

use super::checks::{PolicyError, all, check_callers, check_name, invalid};
use crate::{
    pattern::Pattern,
    quota::{Quota, QuotaLimits, Sharing},
};

/// Most quotas of a policy: each is checked for each event of the callers that it names.
const MAX_QUOTAS: usize = 100;
const EVENTS: RangeInclusive<u64> = 1..=100_000_000;
/// The smallest is more than one event can have.
const BYTES: RangeInclusive<u64> = 1_024..=1_000_000_000;
const BURST: RangeInclusive<u64> = 1..=3_600;
/// Each new name is a row until the next day ends.
const NAMES: RangeInclusive<u64> = 0..=1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct QuotaEntry {
    name: String,
    callers: Vec<String>,
    #[serde(default = "all")]
    sources: Vec<String>,
    #[serde(default = "all")]
    kinds: Vec<String>,
    #[serde(default)]
    per: Sharing,
    events_per_second: Option<u64>,
    bytes_per_second: Option<u64>,
    burst_seconds: Option<u64>,
    new_sources_per_day: Option<u64>,
    new_kinds_per_day: Option<u64>,
}

pub(super) fn quotas(entries: Vec<QuotaEntry>) -> Result<Vec<Arc<Quota>>, PolicyError> {
    if entries.len() > MAX_QUOTAS {
        let problem = format!("there are {}; write at most {MAX_QUOTAS}, with patterns that cover more", entries.len());
        return invalid("quotas", problem);
    }
    let mut quotas: Vec<Arc<Quota>> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let quota = quota(index, entry)?;
        if quotas.iter().any(|other| other.name == quota.name) {
            let problem = format!("\"{}\" is the name of another quota; use each once", quota.name);
            return invalid(format!("quotas[{index}].name"), problem);
        }
        quotas.push(Arc::new(quota));
    }
    Ok(quotas)
}

fn quota(index: usize, entry: QuotaEntry) -> Result<Quota, PolicyError> {
    let at = |field: &str| format!("quotas[{index}].{field}");
    check_name(&at("name"), &entry.name)?;
    check_callers(&at("callers"), &entry.callers, &["anonymous"])?;
    for (field, list) in [("callers", &entry.callers), ("sources", &entry.sources), ("kinds", &entry.kinds)] {
        if list.is_empty() {
            return invalid(at(field), "is empty, so the quota limits nothing; name one, or remove the quota");
        }
    }
    let limits = limits(index, &entry)?;
    let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
    Ok(Quota {
        name: entry.name.as_str().into(),
        callers: patterns(&entry.callers),
        sources: patterns(&entry.sources),
        kinds: patterns(&entry.kinds),
        sharing: entry.per,
        limits,
    })
}

fn limits(index: usize, entry: &QuotaEntry) -> Result<QuotaLimits, PolicyError> {
    let at = |field: &str| format!("quotas[{index}].{field}");
    let checked = |field: &str, value: Option<u64>, range: &RangeInclusive<u64>, why: &str| match value {
        Some(value) if !range.contains(&value) => {
            let (from, to) = (range.start(), range.end());
            invalid(at(field), format!("is {value}; write a number from {from} to {to}{why}"))
        }
        value => Ok(value),
    };
    let no_zero = "; to forbid all events, take the permission ingest away in rules";
    let one_event = ", which one event of any size does not exceed";
    let burst = checked("burstSeconds", entry.burst_seconds, &BURST, "")?;
    let limits = QuotaLimits {
        events_per_second: checked("eventsPerSecond", entry.events_per_second, &EVENTS, no_zero)?,
        bytes_per_second: checked("bytesPerSecond", entry.bytes_per_second, &BYTES, one_event)?,
        burst_seconds: burst.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(1),
        new_sources_per_day: checked("newSourcesPerDay", entry.new_sources_per_day, &NAMES, "")?,
        new_kinds_per_day: checked("newKindsPerDay", entry.new_kinds_per_day, &NAMES, "")?,
    };
    let has_rate = limits.events_per_second.is_some() || limits.bytes_per_second.is_some();
    if !has_rate && limits.new_sources_per_day.is_none() && limits.new_kinds_per_day.is_none() {
        let problem = "limits nothing; set eventsPerSecond, bytesPerSecond, newSourcesPerDay or newKindsPerDay";
        return invalid(format!("quotas[{index}]"), problem);
    }
    if !has_rate && burst.is_some() {
        let problem =
            "has no effect, because new names have no burst; set eventsPerSecond or bytesPerSecond, or remove it";
        return invalid(at("burstSeconds"), problem);
    }
    if let (Some(sources), Some(kinds)) = (limits.new_sources_per_day, limits.new_kinds_per_day)
        && kinds < sources
    {
        let problem = format!(
            "is less than newSourcesPerDay, but the first kind of each new source counts, too; write at least {sources}"
        );
        return invalid(at("newKindsPerDay"), problem);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use crate::AccessPolicy;

    fn parsed(fields: &str) -> Result<AccessPolicy, String> {
        let yaml = format!("quotas: [{{name: a, callers: [\"token:*\", anonymous], {fields}}}]");
        AccessPolicy::parse(yaml.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_mistake_in_a_quota_is_named_with_its_place_and_a_remedy() {
        for (fields, expected) in [
            ("eventsPerSecond: 0", "quotas[0].eventsPerSecond: is 0; write a number from 1 to 100000000; to forbid"),
            ("eventsPerSecond: -1", "eventsPerSecond"),
            ("eventsPerSecond: many", "eventsPerSecond"),
            ("bytesPerSecond: 100", "quotas[0].bytesPerSecond: is 100; write a number from 1024"),
            ("newSourcesPerDay: 1000001", "quotas[0].newSourcesPerDay: is 1000001; write a number from 0 to 1000000"),
            ("burstSeconds: 2, newKindsPerDay: 1", "quotas[0].burstSeconds: has no effect"),
            ("eventsPerSecond: 1, burstSeconds: 0", "quotas[0].burstSeconds: is 0; write a number from 1 to 3600"),
            ("per: quota", "quotas[0]: limits nothing; set eventsPerSecond"),
            ("per: source, eventsPerSecond: 1", "per"),
            ("eventsPerSecond: 1, sources: []", "quotas[0].sources: is empty"),
            ("newSourcesPerDay: 3, newKindsPerDay: 2", "quotas[0].newKindsPerDay: is less than newSourcesPerDay"),
            ("eventPerSecond: 1", "unknown field `eventPerSecond`"),
        ] {
            let error = parsed(fields).unwrap_err();
            assert!(error.contains(expected), "{fields}\n{error}");
        }
        for (yaml, expected) in [
            ("quotas: [{name: A, callers: [\"*\"], eventsPerSecond: 1}]", "quotas[0].name: \"A\" is not a name"),
            ("quotas: [{name: a, callers: [], eventsPerSecond: 1}]", "quotas[0].callers: is empty"),
            ("quotas: [{name: a, callers: [ci], eventsPerSecond: 1}]", "quotas[0].callers[0]: \"ci\" is not a caller"),
            (
                "quotas: [{name: a, callers: [\"*\"], eventsPerSecond: 1}, {name: a, callers: [\"*\"], eventsPerSecond: 1}]",
                "quotas[1].name: \"a\" is the name of another quota",
            ),
        ] {
            let error = AccessPolicy::parse(yaml.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml}\n{error}");
        }
        let many = "{name: a, callers: [\"*\"], eventsPerSecond: 1},".repeat(101);
        let error = AccessPolicy::parse(format!("quotas: [{many}]").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("quotas: there are 101"), "{error}");
    }

    #[test]
    fn a_quota_needs_one_limit_and_covers_anonymous_callers_if_it_says_so() {
        use crate::identity::Identity;
        let policy = parsed("newSourcesPerDay: 0").unwrap();
        let quotas = |policy: &AccessPolicy, identity| policy.caller(identity, None, 1).quotas().len();
        assert_eq!(quotas(&policy, Identity::Anonymous), 1);
        assert_eq!(quotas(&policy, Identity::Certificate { name: "x".into() }), 0);
        let all = AccessPolicy::parse(b"quotas: [{name: a, callers: [\"*\"], eventsPerSecond: 1}]").unwrap();
        assert_eq!(quotas(&all, Identity::Anonymous), 1);
        assert_eq!(quotas(&all, Identity::Certificate { name: "x".into() }), 1);
    }
}
