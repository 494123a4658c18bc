//! What servers share of the quotas. A claim on buckets is one statement; admitting new names is a transaction, of which there are at most
//! as many per day as there may be new names.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::PostgresStore;
use ping_core::{BucketClaim, BucketGrant, Day, Millis, until_next_day};
use ping_ports::{Name, NamesAdmitted, QuotaStore, SegmentReader, StoreError};
use ping_segments::{NamesInViews, SegmentQuery};

const SETTLE: &str = include_str!("sql/settle_quotas.sql");
/// In the order of their names, so that servers that add the same ones cannot deadlock.
const ADD_BUCKETS: &str = "INSERT INTO quota_buckets (bucket)
SELECT bucket FROM unnest($1::text[]) AS missing (bucket) ORDER BY bucket COLLATE \"C\" ON CONFLICT DO NOTHING";
/// A bucket can be deleted between its insertion and the claim, but not again and again.
const ATTEMPTS: usize = 3;

/// But for those in the views, which are in segments. Kinds of all sources, whose source is empty, are known for good.
const KNOWN: &str = "SELECT NOT EXISTS (SELECT FROM source_views)
    OR EXISTS (SELECT FROM quota_names q WHERE q.budget = n.budget AND q.source = n.source AND q.is_kind = n.is_kind
        AND q.kind = n.kind AND (q.source = '' OR q.day >= floor(extract(epoch FROM now()) / 86400)::bigint - 1))
FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[]) WITH ORDINALITY AS n (budget, source, is_kind, kind, position)
ORDER BY n.position";

const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// The row's lock makes the callers of a budget wait for each other.
const LOCK_DAY: &str = "INSERT INTO quota_days AS d (budget, day) VALUES ($1, $2)
ON CONFLICT (budget, day) DO UPDATE SET used = d.used RETURNING used";
const ADMITTED_BEFORE: &str = "SELECT n.position FROM unnest($2::text[], $3::boolean[], $4::text[])
    WITH ORDINALITY AS n (source, is_kind, kind, position)
    JOIN quota_names q ON q.budget = $1 AND q.source = n.source AND q.is_kind = n.is_kind AND q.kind = n.kind
WHERE q.source = '' OR q.day >= $5";
const ADD_NAMES: &str = "INSERT INTO quota_names AS q (budget, source, is_kind, kind, day)
SELECT $1, *, $5 FROM unnest($2::text[], $3::boolean[], $4::text[])
ON CONFLICT (budget, source, is_kind, kind) DO UPDATE SET day = excluded.day";
const ADD_USED: &str = "UPDATE quota_days SET used = used + $3 WHERE budget = $1 AND day = $2";

/// Rows that one statement deletes. Rows that are locked wait for the next time, so that deleting cannot deadlock.
const FORGET_AT_ONCE: u64 = 10_000;
const FORGET_BUCKETS: &str = "DELETE FROM quota_buckets WHERE bucket = ANY (ARRAY(
    SELECT bucket FROM quota_buckets
    WHERE full_at < (extract(epoch FROM now() - interval '1 minute') * 1000000000)::bigint LIMIT $1 FOR UPDATE SKIP LOCKED))";
const FORGET_NAMES: &str = "DELETE FROM quota_names WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM quota_names
    WHERE source <> '' AND day < floor(extract(epoch FROM now()) / 86400)::bigint - 1 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const FORGET_DAYS: &str = "DELETE FROM quota_days WHERE (budget, day) IN (
    SELECT budget, day FROM quota_days
    WHERE day < floor(extract(epoch FROM now()) / 86400)::bigint - 1 LIMIT $1 FOR UPDATE SKIP LOCKED)";

/// Names in columns: sources, whether each is a kind, and kinds.
type Columns<'a> = (Vec<&'a str>, Vec<bool>, Vec<&'a str>);

fn columns<'a>(names: impl Iterator<Item = &'a Name>) -> Columns<'a> {
    let (mut sources, mut are_kinds, mut kinds) = Columns::default();
    for (source, kind) in names.map(Name::parts) {
        sources.push(source);
        are_kinds.push(kind.is_some());
        kinds.push(kind.unwrap_or_default());
    }
    (sources, are_kinds, kinds)
}

#[async_trait]
impl QuotaStore for PostgresStore {
    async fn settle(&self, claims: &[(Arc<str>, BucketClaim)]) -> Result<Vec<BucketGrant>, StoreError> {
        let mut grants = vec![BucketGrant::default(); claims.len()];
        let mut open: Vec<usize> = (0..claims.len()).collect();
        let mut connection = self.write_pool.acquire().await?;
        let settled = timeout(self.timeout, async {
            for attempt in 0..ATTEMPTS {
                let rows = settle(connection.get_mut(), claims, &open).await?;
                let mut done = HashSet::new();
                for (position, granted, full_in) in rows {
                    // Positions count from 1.
                    let place = usize::try_from(position - 1).unwrap_or(usize::MAX);
                    if let Some(index) = open.get(place) {
                        grants[*index] = BucketGrant { granted, full_in };
                        done.insert(*index);
                    }
                }
                open.retain(|index| !done.contains(index));
                if open.is_empty() || attempt + 1 == ATTEMPTS {
                    break;
                }
                let missing: Vec<_> = open.iter().map(|index| &*claims[*index].0).collect();
                sqlx::query(ADD_BUCKETS).bind(missing).execute(connection.get_mut()).await?;
            }
            Ok::<_, sqlx::Error>(())
        });
        let settled = settled.await;
        connection.finish(settled)?;
        Ok(grants)
    }

    async fn known_names(&self, names: &[(Arc<str>, Name)]) -> Result<Vec<bool>, StoreError> {
        let budgets: Vec<_> = names.iter().map(|(budget, _)| &**budget).collect();
        let (sources, are_kinds, kinds) = columns(names.iter().map(|(_, name)| name));
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query_scalar(KNOWN).bind(budgets).bind(sources).bind(are_kinds).bind(kinds);
        let result = timeout(self.timeout, query.fetch_all(connection.get_mut())).await;
        let mut known: Vec<bool> = connection.finish(result)?;
        let asked = || names.iter().map(|(_, name)| name.parts());
        let unknown = asked().zip(&known).filter(|(_, known)| !**known).map(|((source, _), _)| source);
        let query = SegmentQuery::kinds(unknown);
        if !query.nodes.is_empty() {
            let segments = self.segments(&[query]).await?;
            let in_views = NamesInViews::new(&segments).map_err(|error| StoreError(error.into()))?;
            for ((source, kind), known) in asked().zip(&mut known) {
                *known |= in_views.contains(source, kind);
            }
        }
        Ok(known)
    }

    async fn admit_names(&self, budget: &str, per_day: u64, names: &[Name]) -> Result<NamesAdmitted, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(self.timeout, admit(connection.get_mut(), budget, per_day, names)).await;
        Ok(connection.finish(result)?)
    }

    async fn forget_expired_quotas(&self) -> Result<(), StoreError> {
        for statement in [FORGET_BUCKETS, FORGET_NAMES, FORGET_DAYS] {
            // Each in its own transaction: a million rows take longer than one statement may.
            while self.forget(statement).await? == FORGET_AT_ONCE {}
        }
        Ok(())
    }
}

impl PostgresStore {
    /// Deletes rows; returns how many.
    async fn forget(&self, statement: &'static str) -> Result<u64, StoreError> {
        let mut connection = self.write_pool.acquire().await?;
        let query = sqlx::query(statement).bind(FORGET_AT_ONCE.cast_signed());
        let result = timeout(self.timeout, query.execute(connection.get_mut())).await;
        Ok(connection.finish(result)?.rows_affected())
    }
}

/// Settles the claims at these places. The rows have a position among them, what was granted, and when the bucket will be full.
async fn settle(
    connection: &mut PgConnection,
    claims: &[(Arc<str>, BucketClaim)],
    places: &[usize],
) -> Result<Vec<(i64, i64, i64)>, sqlx::Error> {
    let column =
        |value: fn(&BucketClaim) -> i64| places.iter().map(|place| value(&claims[*place].1)).collect::<Vec<_>>();
    sqlx::query_as(SETTLE)
        .bind(places.iter().map(|place| &*claims[*place].0).collect::<Vec<_>>())
        .bind(column(|claim| claim.released))
        .bind(column(|claim| claim.need))
        .bind(column(|claim| claim.want))
        .bind(column(|claim| claim.capacity))
        .fetch_all(connection)
        .await
}

async fn admit(
    connection: &mut PgConnection,
    budget: &str,
    per_day: u64,
    names: &[Name],
) -> Result<NamesAdmitted, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let now: Millis = sqlx::query_scalar(NOW).fetch_one(&mut *transaction).await?;
    let today = Day::of(now);
    let used: i64 = sqlx::query_scalar(LOCK_DAY).bind(budget).bind(today.0).fetch_one(&mut *transaction).await?;
    let (sources, are_kinds, kinds) = columns(names.iter());
    let before = sqlx::query_scalar(ADMITTED_BEFORE).bind(budget).bind(sources).bind(are_kinds).bind(kinds);
    let before: Vec<i64> = before.bind(today.back(1).0).fetch_all(&mut *transaction).await?;
    let before: HashSet<_> = before.into_iter().collect();
    let fresh: Vec<_> =
        (1..).zip(names).filter(|(position, _)| !before.contains(position)).map(|(_, name)| name).collect();
    let day_ends_in = Duration::from_millis(until_next_day(now).unsigned_abs());
    let (used, count) = (used.unsigned_abs(), fresh.len() as u64);
    if count > 0 && used.saturating_add(count) > per_day {
        transaction.rollback().await?;
        return Ok(NamesAdmitted { admitted: false, used, day_ends_in });
    }
    let (sources, are_kinds, kinds) = columns(fresh.into_iter());
    let add = sqlx::query(ADD_NAMES).bind(budget).bind(sources).bind(are_kinds).bind(kinds).bind(today.0);
    add.execute(&mut *transaction).await?;
    // There are at most a million a day.
    let added = i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(ADD_USED).bind(budget).bind(today.0).bind(added).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(NamesAdmitted { admitted: true, used: used + count, day_ends_in })
}
