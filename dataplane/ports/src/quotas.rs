//! Quotas that all servers share. They are in the store of record: without it nothing can be recorded anyway.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ping_core::{BucketClaim, BucketGrant};

use super::StoreError;

/// What a budget of new names counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A source.
    Source(Box<str>),
    /// A kind of a source. An empty one means "ping".
    Kind {
        /// The source. An empty one stands for all sources.
        source: Box<str>,
        /// The kind.
        kind: Box<str>,
    },
}

impl Name {
    /// The source, and the kind if it is one.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self {
            Self::Source(source) => (source, None),
            Self::Kind { source, kind } => (source, Some(kind)),
        }
    }

    /// Whether it is a kind of all sources. The views have none, so what the budget admitted is their only record, and is kept.
    #[must_use]
    pub fn is_of_all_sources(&self) -> bool {
        self.parts().0.is_empty()
    }
}

/// The answer to [`QuotaStore::admit_names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamesAdmitted {
    /// Whether all names are admitted; otherwise none is.
    pub admitted: bool,
    /// Names that were admitted today, with these.
    pub used: u64,
    /// How long the day lasts.
    pub day_ends_in: Duration,
}

/// Holds what the servers share of each quota. Times and days (UTC) are the store's.
#[async_trait]
pub trait QuotaStore: Send + Sync {
    /// Settles claims on buckets, each at once and as [`BucketClaim::settle`] defines. A bucket that is not known is full. The grants
    /// are in the order of the claims, whose buckets are distinct.
    async fn settle(&self, claims: &[(Arc<str>, BucketClaim)]) -> Result<Vec<BucketGrant>, StoreError>;

    /// Which of the names, each with a budget, the views have or the budget admitted today or yesterday; kinds of all sources, on any day. All
    /// of them as long as the views are not built.
    async fn known_names(&self, names: &[(Arc<str>, Name)]) -> Result<Vec<bool>, StoreError>;

    /// Admits `names`, which are distinct, on the account of `budget`: all of them, or none if the budget would then have admitted more than
    /// `per_day` names today. A name that it admitted today or yesterday is not counted again, and a kind of all sources never.
    async fn admit_names(&self, budget: &str, per_day: u64, names: &[Name]) -> Result<NamesAdmitted, StoreError>;

    /// Deletes buckets that are full, and names of days before yesterday, but for kinds of all sources.
    async fn forget_expired_quotas(&self) -> Result<(), StoreError>;
}
