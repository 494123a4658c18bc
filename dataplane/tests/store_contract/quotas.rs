//! Quotas: servers take from shared buckets, and share budgets of new names.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use ping_core::{BucketClaim, BucketGrant, NANOS_PER_SECOND, Nanos, Retention};
use ping_ports::{Name, QuotaStore, SourceViews};
use ping_postgres::{PostgresOptions, PostgresStore};
use sqlx::{Connection, Executor, PgConnection};

use crate::fixture::{Fixture, THEN, database, events};

const SECOND: Nanos = NANOS_PER_SECOND;
/// So long that what refills during a test does not matter.
const HOUR: Nanos = 3_600 * SECOND;

fn claim(need: Nanos, want: Nanos) -> BucketClaim {
    BucketClaim { released: 0, need, want, capacity: HOUR }
}

async fn settle(fixture: &Fixture, bucket: &str, claim: BucketClaim) -> BucketGrant {
    fixture.store.settle(&[(bucket.into(), claim)]).await.unwrap()[0]
}

/// Equal but for what refilled in the meantime, at most a minute.
fn is_about(found: Nanos, expected: Nanos) -> bool {
    (expected - 60 * SECOND..=expected + 60 * SECOND).contains(&found)
}

pub async fn a_bucket_grants_what_it_holds_and_no_more(fixture: &Fixture) {
    assert_eq!(settle(fixture, "a", claim(1, HOUR / 2)).await.granted, HOUR / 2);
    let grant = settle(fixture, "a", claim(1, HOUR)).await;
    assert!(is_about(grant.granted, HOUR / 2) && is_about(grant.full_in, HOUR), "{grant:?}");
    let grant = settle(fixture, "a", claim(HOUR / 2, HOUR)).await;
    assert!(grant.granted == 0 && is_about(grant.full_in, HOUR), "{grant:?}");
    let other = settle(fixture, "b", claim(1, 10)).await;
    assert_eq!(other, BucketGrant { granted: 10, full_in: 10 }, "each bucket is its own");
}

pub async fn what_is_returned_can_be_taken_again(fixture: &Fixture) {
    settle(fixture, "a", claim(HOUR, HOUR)).await;
    let release = BucketClaim { released: HOUR / 2, ..claim(0, 0) };
    let grant = settle(fixture, "a", release).await;
    assert!(grant.granted == 0 && is_about(grant.full_in, HOUR / 2), "{grant:?}");
    assert!(is_about(settle(fixture, "a", claim(1, HOUR)).await.granted, HOUR / 2));
}

pub async fn a_bucket_refills(fixture: &Fixture) {
    let claim = BucketClaim { released: 0, need: 1, want: SECOND, capacity: SECOND };
    assert_eq!(settle(fixture, "a", claim).await.granted, SECOND);
    fixture.advance(Duration::from_millis(300)).await;
    let granted = settle(fixture, "a", claim).await.granted;
    assert!((300_000_000..=SECOND).contains(&granted), "{granted}");
}

pub async fn claims_are_answered_in_their_order(fixture: &Fixture) {
    settle(fixture, "b", claim(5, 5)).await;
    let names = ["c", "a", "b", "d"];
    let claims: Vec<_> = (1..).zip(names).map(|(want, name)| (Arc::from(name), claim(want, want))).collect();
    let grants = fixture.store.settle(&claims).await.unwrap();
    assert_eq!(grants.iter().map(|grant| grant.granted).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(fixture.store.settle(&[]).await.unwrap(), []);
}

/// Two buckets in opposite orders: a store that locks them in the order of the claims deadlocks.
pub async fn concurrent_claims_stay_within_the_bucket(fixture: &Fixture) {
    let part = HOUR / 20;
    let claims = (0..40).map(async |number| {
        let mut claims = vec![(Arc::from("a"), claim(part, part)), (Arc::from("b"), claim(part, part))];
        if number % 2 == 0 {
            claims.reverse();
        }
        let grants = fixture.store.settle(&claims).await.unwrap();
        grants.iter().map(|grant| grant.granted).sum::<Nanos>()
    });
    let granted: Nanos = join_all(claims).await.into_iter().sum();
    assert_eq!(granted, 2 * HOUR, "forty claims of a twentieth each");
}

fn source(text: &str) -> Name {
    Name::Source(text.into())
}

fn kind(source: &str, kind: &str) -> Name {
    Name::Kind { source: source.into(), kind: kind.into() }
}

async fn admit(fixture: &Fixture, budget: &str, names: &[Name]) -> (bool, u64) {
    let answer = fixture.store.admit_names(budget, 3, names).await.unwrap();
    assert!(answer.day_ends_in <= Duration::from_secs(86_400) && !answer.day_ends_in.is_zero());
    (answer.admitted, answer.used)
}

pub async fn new_names_are_admitted_up_to_the_budget_and_counted_once(fixture: &Fixture) {
    assert_eq!(admit(fixture, "x", &[source("a"), kind("a", "")]).await, (true, 2));
    assert_eq!(admit(fixture, "x", &[source("a"), source("b")]).await, (true, 3));
    assert_eq!(admit(fixture, "x", &[source("c")]).await, (false, 3));
    assert_eq!(admit(fixture, "x", &[source("b"), kind("a", "")]).await, (true, 3), "they are not new any more");
    assert_eq!(admit(fixture, "y", &[source("c")]).await, (true, 1), "each budget is its own");
}

pub async fn names_are_admitted_together_or_not_at_all(fixture: &Fixture) {
    assert_eq!(admit(fixture, "x", &["a", "b", "c", "d"].map(source)).await, (false, 0));
    assert_eq!(admit(fixture, "x", &["a", "b", "c"].map(source)).await, (true, 3));
    assert_eq!(admit(fixture, "x", &["a", "e"].map(source)).await, (false, 3));
}

pub async fn concurrent_admissions_stay_within_the_budget(fixture: &Fixture) {
    let names: Vec<_> = (0..20).map(|number| [source(&format!("s{}", number / 2))]).collect();
    let answers = join_all(names.iter().map(|name| admit(fixture, "x", name))).await;
    // Each name comes twice.
    assert_eq!(answers.iter().filter(|(admitted, _)| *admitted).count(), 6, "{answers:?}");
    assert_eq!(admit(fixture, "x", &[source("other")]).await, (false, 3));
}

pub async fn a_new_day_has_a_new_budget(fixture: &Fixture) {
    assert_eq!(admit(fixture, "x", &["a", "b", "c"].map(source)).await, (true, 3));
    fixture.advance(Duration::from_secs(86_400)).await;
    assert_eq!(admit(fixture, "x", &["a", "d", "e"].map(source)).await, (true, 2), "yesterday's names are known");
    fixture.advance(Duration::from_secs(2 * 86_400)).await;
    fixture.store.forget_expired_quotas().await.unwrap();
    assert_eq!(admit(fixture, "x", &["a", "d", "e"].map(source)).await, (true, 3));
}

pub async fn names_in_the_views_and_admitted_ones_are_known(fixture: &Fixture) {
    let ask = async |names: &[Name]| {
        let names: Vec<_> = names.iter().map(|name| (Arc::from("x"), name.clone())).collect();
        fixture.store.known_names(&names).await.unwrap()
    };
    let names = [source("a"), kind("a", ""), kind("a", "k"), source("b"), kind("b", "k"), kind("c", "")];
    assert_eq!(ask(&names).await, [true; 6], "as long as there are no views");
    let mut events = events([1, 2]);
    for (event, (source, kind)) in events.iter_mut().zip([("a", ""), ("b", "k")]) {
        (event.source, event.kind) = (source.into(), kind.into());
    }
    fixture.closed_writer(events).await;
    let built = fixture.store.rebuild(None, &"first".to_owned(), &[].into(), Retention::default().at(THEN)).await;
    assert!(built.unwrap());
    assert_eq!(ask(&names).await, [true, true, false, true, true, false]);
    admit(fixture, "x", &[source("d"), kind("c", "")]).await;
    assert_eq!(ask(&[kind("c", ""), source("c"), source("d"), kind("d", "")]).await, [true, false, true, false]);
    let other = fixture.store.known_names(&[(Arc::from("y"), source("d"))]).await.unwrap();
    assert_eq!(other, [false], "another budget has not admitted it");
    assert_eq!(ask(&[]).await, [false; 0]);
}

/// Builds views without events.
async fn build_views(store: &dyn SourceViews) {
    assert!(store.rebuild(None, &"first".to_owned(), &[].into(), Retention::default().at(THEN)).await.unwrap());
}

/// A server that was just started remembers nothing, so it asks the store, after the day's budget has been used up.
async fn is_known_to_a_new_server(store: &dyn QuotaStore) {
    assert_eq!(store.known_names(&[("x".into(), kind("", "old"))]).await.unwrap(), [true]);
    let new = ["a", "b", "c"].map(|name| kind("", name));
    let admitted = async |names: &[Name]| store.admit_names("x", 3, names).await.unwrap().admitted;
    assert!(admitted(&new).await && admitted(&[kind("", "old")]).await && !admitted(&[kind("", "new")]).await);
}

pub async fn a_kind_of_all_sources_stays_known(fixture: &Fixture) {
    build_views(&*fixture.store).await;
    let names = [kind("", "old"), kind("a", "old"), source("a")];
    assert_eq!(admit(fixture, "x", &names).await, (true, 3));
    fixture.advance(Duration::from_secs(3 * 86_400)).await;
    fixture.store.forget_expired_quotas().await.unwrap();
    let names: Vec<_> = names.into_iter().map(|name| (Arc::from("x"), name)).collect();
    assert_eq!(
        fixture.store.known_names(&names).await.unwrap(),
        [true, false, false],
        "the others would be in the views"
    );
    is_known_to_a_new_server(&*fixture.store).await;
}

/// The clock of Postgres is that of the machine, so the row is dated back.
#[tokio::test]
async fn postgres_knows_a_kind_of_all_sources_that_it_admitted_three_days_ago() {
    let (_server, url) = database().await;
    let store = PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    build_views(&store).await;
    store.admit_names("x", 3, &[kind("", "old"), source("a")]).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("UPDATE quota_names SET day = day - 3; UPDATE quota_days SET day = day - 3").await.unwrap();
    store.forget_expired_quotas().await.unwrap();
    assert_eq!(store.known_names(&[("x".into(), source("a"))]).await.unwrap(), [false]);
    is_known_to_a_new_server(&store).await;
}

pub async fn full_buckets_are_forgotten_and_others_are_not(fixture: &Fixture) {
    settle(fixture, "a", claim(HOUR, HOUR)).await;
    settle(fixture, "b", claim(1, 1)).await;
    fixture.advance(Duration::from_millis(5)).await;
    fixture.store.forget_expired_quotas().await.unwrap();
    assert!(settle(fixture, "a", claim(1, HOUR)).await.granted < HOUR / 2);
    assert_eq!(settle(fixture, "b", claim(1, HOUR)).await.granted, HOUR);
}

/// More than one statement deletes, and one that a transaction has locked.
#[tokio::test]
async fn postgres_deletes_expired_rows_in_parts_and_locked_ones_later() {
    let (_server, url) = database().await;
    let store = PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in [
        "INSERT INTO quota_names SELECT 'b', 's' || n, false, '', 5 FROM generate_series(1, 25000) AS n",
        "INSERT INTO quota_days VALUES ('b', 5, 25000)",
        "INSERT INTO quota_buckets VALUES ('full', 0)",
    ] {
        connection.execute(statement).await.unwrap();
    }
    let left = async || {
        let count = "SELECT (SELECT count(*) FROM quota_names) + (SELECT count(*) FROM quota_days) + (SELECT count(*) FROM quota_buckets)";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap()
    };
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute("SELECT FROM quota_names WHERE source = 's1' FOR UPDATE").await.unwrap();
    store.forget_expired_quotas().await.unwrap();
    assert_eq!(left().await, 1, "the one that is locked");
    transaction.rollback().await.unwrap();
    store.forget_expired_quotas().await.unwrap();
    assert_eq!(left().await, 0);
}
