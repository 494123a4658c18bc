//! Quotas of the access policy: which callers and events they cover. Counting is the job of `ping-quota`.

use std::{fmt::Write, sync::Arc};

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::pattern::Pattern;

/// Longest name of a caller that is written in a key, in bytes. A longer one is written as its digest.
const MAX_CALLER_BYTES: usize = 128;

/// Which callers share a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sharing {
    /// Each caller has its own.
    #[default]
    Caller,
    /// All callers together.
    Quota,
}

/// How much a quota allows; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Events per second.
    pub events_per_second: Option<u64>,
    /// Bytes of events per second.
    pub bytes_per_second: Option<u64>,
    /// How many seconds' worth may be used at once.
    pub burst_seconds: u32,
    /// Sources per day (UTC) that were not known before.
    pub new_sources_per_day: Option<u64>,
    /// Kinds of sources per day (UTC) that were not known before.
    pub new_kinds_per_day: Option<u64>,
}

/// One quota of the access policy.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) name: Arc<str>,
    pub(crate) callers: Vec<Pattern>,
    pub(crate) sources: Vec<Pattern>,
    pub(crate) kinds: Vec<Pattern>,
    pub(crate) sharing: Sharing,
    pub(crate) limits: QuotaLimits,
}

/// A quota, for one of the callers that it covers.
#[derive(Clone, Debug)]
pub struct CallerQuota {
    quota: Arc<Quota>,
    /// The key of what the callers that share the quota have in common, for each of its limits.
    keys: [Arc<str>; 4],
}

impl CallerQuota {
    pub(crate) fn new(quota: Arc<Quota>, caller: &str) -> Self {
        let key = match quota.sharing {
            Sharing::Quota => quota.name.to_string(),
            Sharing::Caller => format!("{}/{}", quota.name, readable_or_digest(caller)),
        };
        let keys = ["events", "bytes", "sources", "kinds"].map(|limit| format!("{limit}:{key}").into());
        Self { quota, keys }
    }

    /// The name in the access policy.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.quota.name
    }

    /// How much it allows.
    #[must_use]
    pub fn limits(&self) -> QuotaLimits {
        self.quota.limits
    }

    /// The keys under which events, bytes, new sources and new kinds are counted. Two callers have the same keys if they share the quota.
    #[must_use]
    pub fn keys(&self) -> &[Arc<str>; 4] {
        &self.keys
    }

    /// Whether it covers events of `source` and `kind`.
    #[must_use]
    pub fn covers(&self, source: &str, kind: &str) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        any(&self.quota.sources, source) && any(&self.quota.kinds, kind)
    }

    /// About how many bytes it occupies.
    pub(crate) fn size(&self) -> usize {
        std::mem::size_of::<Self>() + self.keys.iter().map(|key| key.len() + 16).sum::<usize>()
    }
}

/// A caller's name, if it is short and any database takes it. Names of callers never start with `#`.
fn readable_or_digest(caller: &str) -> String {
    if caller.len() <= MAX_CALLER_BYTES && caller.bytes().all(|byte| byte.is_ascii_graphic()) {
        return caller.to_owned();
    }
    digest(&SHA256, caller.as_bytes()).as_ref().iter().fold("#".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(sharing: Sharing) -> Arc<Quota> {
        let patterns = |text: &str| vec![Pattern::new(text)];
        let limits = QuotaLimits { events_per_second: Some(5), burst_seconds: 1, ..QuotaLimits::default() };
        let (callers, sources, kinds) = (patterns("*"), patterns("a-*"), patterns("*"));
        Arc::new(Quota { name: "shop".into(), callers, sources, kinds, sharing, limits })
    }

    #[test]
    fn callers_share_a_quota_or_have_their_own() {
        let key = |sharing, caller| CallerQuota::new(quota(sharing), caller).keys()[0].to_string();
        assert_eq!(key(Sharing::Quota, "token:a"), "events:shop");
        assert_eq!(key(Sharing::Caller, "token:a"), "events:shop/token:a");
        let long = "x".repeat(5_000);
        for caller in [&*long, "a\0b", "a b", "ä"] {
            let key = key(Sharing::Caller, caller);
            assert!(key.len() == 12 + 65 && key.is_ascii(), "{key}");
        }
        assert_ne!(key(Sharing::Caller, "a\0b"), key(Sharing::Caller, "a\0c"));
    }

    #[test]
    fn a_quota_covers_its_sources() {
        let quota = CallerQuota::new(quota(Sharing::Caller), "token:a");
        assert!(quota.covers("a-1", "ping") && !quota.covers("b-1", "ping"));
    }
}
