//! Quotas, which survive a restart of the process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, begin_write, failed};
use ping_core::{BucketClaim, BucketGrant, Day, Nanos, until_next_day};
use ping_ports::{Name, NamesAdmitted, QuotaStore, StoreError};
use ping_segments::{NamesInViews, SegmentQuery};

const FULL_AT: &str = "SELECT full_at FROM quota_buckets WHERE bucket = $1";
const SET_FULL_AT: &str = "INSERT INTO quota_buckets (bucket, full_at) VALUES ($1, $2)
ON CONFLICT (bucket) DO UPDATE SET full_at = excluded.full_at";
const FORGET_BUCKETS: &str = "DELETE FROM quota_buckets WHERE full_at < $1";

const ARE_VIEWS_BUILT: &str = "SELECT EXISTS (SELECT 1 FROM source_views)";
/// Kinds of all sources, whose source is empty, are known for good. They are few: the second search reads all names of their budget.
const HAS_ADMITTED: &str = "SELECT EXISTS (SELECT 1 FROM quota_names
    WHERE budget = $1 AND day IN ($2, $2 - 1) AND source = $3 AND is_kind = $4 AND kind = $5)
OR $3 = '' AND EXISTS (SELECT 1 FROM quota_names WHERE budget = $1 AND source = '' AND is_kind = $4 AND kind = $5)";
const USED: &str = "SELECT count(*) FROM quota_names WHERE budget = $1 AND day = $2";
const ADD_NAME: &str = "INSERT INTO quota_names (budget, day, source, is_kind, kind) VALUES ($1, $2, $3, $4, $5)";
const FORGET_NAMES: &str = "DELETE FROM quota_names WHERE day < $1 AND source <> ''";

async fn has_admitted(
    transaction: &mut Transaction<'_, Sqlite>,
    budget: &str,
    today: Day,
    name: &Name,
) -> Result<bool, sqlx::Error> {
    let (source, kind) = name.parts();
    let query = sqlx::query_scalar(HAS_ADMITTED).bind(budget.to_owned()).bind(today.0).bind(source.to_owned());
    let query = query.bind(kind.is_some()).bind(kind.unwrap_or_default().to_owned());
    query.fetch_one(&mut **transaction).await
}

#[async_trait]
impl QuotaStore for SqliteStore {
    async fn settle(&self, claims: &[(Arc<str>, BucketClaim)]) -> Result<Vec<BucketGrant>, StoreError> {
        let mut writer = self.writer().await?;
        let now = self.clock.now();
        let settle = async {
            let mut transaction = begin_write(&mut writer).await?;
            let mut grants = Vec::with_capacity(claims.len());
            for (bucket, claim) in claims {
                let full_at = sqlx::query_scalar(FULL_AT).bind(bucket.to_string());
                let full_at: Option<Nanos> = full_at.fetch_optional(&mut *transaction).await?;
                let (grant, next) = claim.settle_at(full_at.unwrap_or(0), now);
                let set = sqlx::query(SET_FULL_AT).bind(bucket.to_string()).bind(next);
                set.execute(&mut *transaction).await?;
                grants.push(grant);
            }
            transaction.commit().await?;
            Ok::<_, sqlx::Error>(grants)
        };
        settle.await.map_err(failed)
    }

    async fn known_names(&self, names: &[(Arc<str>, Name)]) -> Result<Vec<bool>, StoreError> {
        let (now, mut snapshot) = self.begin_read().await?;
        let are_built: bool = sqlx::query_scalar(ARE_VIEWS_BUILT).fetch_one(&mut *snapshot).await.map_err(failed)?;
        if !are_built {
            return Ok(vec![true; names.len()]);
        }
        let query = SegmentQuery::kinds(names.iter().map(|(_, name)| name.parts().0));
        let segments = Self::select(&mut snapshot, &[query]).await?;
        let in_views = NamesInViews::new(&segments).map_err(|error| StoreError(error.into()))?;
        let mut known = Vec::with_capacity(names.len());
        for (budget, name) in names {
            let (source, kind) = name.parts();
            let is_known = in_views.contains(source, kind)
                || has_admitted(&mut snapshot, budget, Day::of(now), name).await.map_err(failed)?;
            known.push(is_known);
        }
        Ok(known)
    }

    async fn admit_names(&self, budget: &str, per_day: u64, names: &[Name]) -> Result<NamesAdmitted, StoreError> {
        let mut writer = self.writer().await?;
        let now = self.clock.now();
        let today = Day::of(now);
        let day_ends_in = Duration::from_millis(until_next_day(now).unsigned_abs());
        let admit = async {
            let mut transaction = begin_write(&mut writer).await?;
            let used = sqlx::query_scalar(USED).bind(budget.to_owned()).bind(today.0);
            let used: i64 = used.fetch_one(&mut *transaction).await?;
            let mut fresh = Vec::new();
            for name in names {
                if !has_admitted(&mut transaction, budget, today, name).await? {
                    fresh.push(name.parts());
                }
            }
            let (used, count) = (used.unsigned_abs(), fresh.len() as u64);
            if count > 0 && used.saturating_add(count) > per_day {
                return Ok(NamesAdmitted { admitted: false, used, day_ends_in });
            }
            for (source, kind) in fresh {
                let add = sqlx::query(ADD_NAME).bind(budget.to_owned()).bind(today.0).bind(source.to_owned());
                let add = add.bind(kind.is_some()).bind(kind.unwrap_or_default().to_owned());
                add.execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok::<_, sqlx::Error>(NamesAdmitted { admitted: true, used: used + count, day_ends_in })
        };
        admit.await.map_err(failed)
    }

    async fn forget_expired_quotas(&self) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let now = self.clock.now();
        let forget = async {
            sqlx::query(FORGET_BUCKETS).bind(now.saturating_mul(1_000_000)).execute(&mut *writer).await?;
            sqlx::query(FORGET_NAMES).bind(Day::of(now).back(1).0).execute(&mut *writer).await?;
            Ok::<_, sqlx::Error>(())
        };
        forget.await.map_err(failed)
    }
}
