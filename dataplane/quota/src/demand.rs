//! What a call asks of its caller's quotas, and why it may be refused.

use std::{fmt, sync::Arc, time::Duration};

use ping_core::{NANOS_PER_SECOND, Nanos, cost};
use ping_ports::Name;

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Events per second.
    Events,
    /// Bytes of events per second.
    Bytes,
    /// New sources per day.
    Sources,
    /// New kinds of sources per day.
    Kinds,
    /// Sources of all callers, in total: [`crate::NameLimits::sources`].
    AllSources,
    /// New names of kinds of all callers, per day: [`crate::NameLimits::kind_names_per_day`].
    KindNames,
}

impl Limit {
    /// Those that an access policy can set.
    pub const ALL: [Self; 4] = [Self::Events, Self::Bytes, Self::Sources, Self::Kinds];

    /// The field of the access policy, or the flag, that sets it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "eventsPerSecond",
            Self::Bytes => "bytesPerSecond",
            Self::Sources => "newSourcesPerDay",
            Self::Kinds => "newKindsPerDay",
            Self::AllSources => "--max-sources",
            Self::KindNames => "--new-kind-names-per-day",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bytes => "bytes of events",
            Self::Sources | Self::AllSources => "new sources",
            Self::Kinds | Self::KindNames => "new kinds",
        }
    }

    fn period(self) -> &'static str {
        match self {
            Self::Events | Self::Bytes => "second",
            Self::Sources | Self::Kinds | Self::AllSources | Self::KindNames => "day (UTC)",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// An amount that a call takes from a bucket.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The name of the quota.
    pub quota: Arc<str>,
    /// The bucket, which the callers that share it have in common.
    pub bucket: Arc<str>,
    /// What is limited: events or bytes.
    pub limit: Limit,
    /// How many of them the call has.
    pub amount: u64,
    /// How many the quota allows per second.
    pub per_second: u64,
    /// How many seconds' worth may be used at once.
    pub burst_seconds: u32,
}

impl Charge {
    pub(crate) fn cost(&self) -> Nanos {
        cost(self.amount, self.per_second)
    }

    pub(crate) fn capacity(&self) -> Nanos {
        Nanos::from(self.burst_seconds).saturating_mul(NANOS_PER_SECOND)
    }

    /// Why the call can never be admitted, if it cannot.
    fn too_large(&self) -> Option<QuotaRefusal> {
        let most = self.per_second.saturating_mul(u64::from(self.burst_seconds));
        (self.amount > most).then(|| QuotaRefusal::TooLarge {
            quota: Arc::clone(&self.quota),
            limit: self.limit,
            amount: self.amount,
            most,
        })
    }

    pub(crate) fn exceeded(&self, wait: Nanos) -> QuotaRefusal {
        QuotaRefusal::Exceeded {
            quota: Arc::clone(&self.quota),
            limit: self.limit,
            allowed: self.per_second,
            retry_in: Duration::from_nanos(wait.unsigned_abs()),
        }
    }
}

/// Names that may be new.
#[derive(Clone, Debug)]
pub struct NewNames {
    /// The name of the quota.
    pub quota: Arc<str>,
    /// The budget, which the callers that share it have in common.
    pub budget: Arc<str>,
    /// What is limited: sources or kinds.
    pub limit: Limit,
    /// How many new ones the quota allows per day.
    pub per_day: u64,
    /// The names, each once.
    pub names: Vec<Name>,
}

/// What a call asks of all quotas of its caller.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// How many of the call's events each quota covers.
    pub events: Vec<(Arc<str>, u64)>,
    /// Taken together or not at all.
    pub charges: Vec<Charge>,
    /// Names that the limiter does not know, see [`crate::QuotaLimiter::knows`].
    pub names: Arc<[NewNames]>,
}

impl Demand {
    pub(crate) fn too_large(&self) -> Option<QuotaRefusal> {
        self.charges.iter().find_map(Charge::too_large)
    }
}

/// Why a call is refused. Nothing of it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaRefusal {
    /// It would be refused at any time.
    #[error("{}", too_large(.quota, *.limit, *.amount, *.most))]
    TooLarge {
        /// The name of the quota.
        quota: Arc<str>,
        /// What it limits.
        limit: Limit,
        /// What the call has.
        amount: u64,
        /// What it may have.
        most: u64,
    },
    /// It may be admitted later.
    #[error("quota \"{quota}\" allows {allowed} {} per {}, and nothing was recorded; retry in {} with the same event_id", .limit.unit(), .limit.period(), readable(*.retry_in))]
    Exceeded {
        /// The name of the quota.
        quota: Arc<str>,
        /// What it limits.
        limit: Limit,
        /// How much the quota allows per second, or per day.
        allowed: u64,
        /// When the call would fit if no other came before it.
        retry_in: Duration,
    },
    /// There are as many sources as allowed, and the call has a new one.
    #[error(
        "there are {most} sources or more, which is the limit, and the source is new; nothing was recorded. Use known sources, or raise --max-sources of the server"
    )]
    TooManySources {
        /// How many may exist.
        most: u64,
    },
    /// As many names of kinds as allowed were new today, and the call has another one.
    #[error("the server accepts {most} new kinds per day (UTC), and the kind is new; nothing was recorded. Use known kinds, retry in {}, or raise --new-kind-names-per-day of the server", readable(*.retry_in))]
    TooManyKindNames {
        /// How many may be new per day.
        most: u64,
        /// When the next day begins.
        retry_in: Duration,
    },
    /// The server counts the use of as many buckets as it can.
    #[error("too many callers with quotas are active on this server, and nothing was recorded; retry in {} with the same event_id", readable(*.retry_in))]
    TooManyBuckets {
        /// When buckets may have become idle.
        retry_in: Duration,
    },
    /// The store is unavailable, with the cause.
    #[error("the store is unavailable and nothing was recorded; retry: {0}")]
    Unavailable(String),
    /// The server is ending.
    #[error("the server is shutting down and nothing was recorded; retry with another one")]
    ShuttingDown,
}

/// Why a call would be refused at any time, and what to do about it.
fn too_large(quota: &str, limit: Limit, amount: u64, most: u64) -> String {
    let (unit, period) = (limit.unit(), limit.period());
    let (allows, remedy) = match limit {
        Limit::Events | Limit::Bytes => (format!("at most {most} {unit} at once"), "send less at once"),
        Limit::Sources | Limit::Kinds if most == 0 => (format!("no {unit}"), "send only what is known already"),
        Limit::Sources | Limit::Kinds | Limit::AllSources | Limit::KindNames => {
            (format!("{most} {unit} per {period}"), "send less at once")
        }
    };
    format!(
        "quota \"{quota}\" allows {allows}, and the call has {amount}; {remedy}, or ask for a higher {limit} in the server's access \
         policy"
    )
}

/// A duration with the precision that matters to someone who waits.
fn readable(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_micros().div_ceil(1_000).max(1)),
        seconds @ 1..120 => format!("{} s", seconds + u64::from(duration.subsec_nanos() > 0)),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_quota_and_says_what_to_do() {
        let charge = Charge {
            quota: "shop".into(),
            bucket: "shop".into(),
            limit: Limit::Events,
            amount: 21,
            per_second: 10,
            burst_seconds: 2,
        };
        assert_eq!(
            charge.too_large().unwrap().to_string(),
            "quota \"shop\" allows at most 20 events at once, and the call has 21; send less at once, or ask for a higher \
             eventsPerSecond in the server's access policy"
        );
        assert_eq!(
            charge.exceeded(1_500_000).to_string(),
            "quota \"shop\" allows 10 events per second, and nothing was recorded; retry in 2 ms with the same event_id"
        );
        assert!(Charge { amount: 20, ..charge }.too_large().is_none());
    }

    #[test]
    fn a_refusal_of_new_names_says_whether_any_are_allowed() {
        let refusal =
            |most| QuotaRefusal::TooLarge { quota: "shop".into(), limit: Limit::Sources, amount: 3, most }.to_string();
        assert!(refusal(0).starts_with(
            "quota \"shop\" allows no new sources, and the call has 3; send only what is known already, or ask for"
        ));
        assert!(
            refusal(2).starts_with("quota \"shop\" allows 2 new sources per day (UTC), and the call has 3; send less")
        );
    }

    #[test]
    fn a_wait_is_rounded_up() {
        for (millis, text) in [(0, "1 ms"), (999, "999 ms"), (1_000, "1 s"), (1_001, "2 s"), (120_001, "2 min")] {
            assert_eq!(readable(Duration::from_millis(millis)), text);
        }
        assert_eq!(readable(Duration::from_secs(86_400)), "1440 min");
    }
}
