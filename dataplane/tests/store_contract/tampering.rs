//! A recount finds changes that were made directly in the tables.

use ping_core::Minute;

use crate::fixture::{Fixture, THEN, event, events};

const NEXT: i64 = THEN + 60_000;

pub async fn a_deleted_row_is_found(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, vec![event(1, THEN), event(2, THEN), event(3, NEXT)]).await;
    fixture.tamper("DELETE FROM events WHERE timestamp_ms >= 1728926391000").await;
    let recount = fixture.store.recount().await.unwrap();
    assert_eq!((recount.rows, recount.total, recount.minutes_total, recount.days_total), (2, 3, 3, 3));
    assert_eq!(recount.differing_minutes, [Minute::of(NEXT)]);
}

pub async fn a_wrong_minute_is_found(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, vec![event(1, THEN), event(2, THEN), event(3, NEXT)]).await;
    fixture.tamper("UPDATE rollups SET count = count - 1 WHERE width_minutes = 1").await;
    fixture.tamper("DELETE FROM rollups WHERE count = 0").await;
    let recount = fixture.store.recount().await.unwrap();
    assert_eq!((recount.rows, recount.total, recount.minutes_total, recount.days_total), (3, 3, 1, 3));
    assert_eq!(recount.differing_minutes, [Minute::of(THEN), Minute::of(NEXT)]);
    fixture.tamper("UPDATE rollups SET count = count + 1 WHERE width_minutes = 1").await;
    fixture.tamper("UPDATE millisecond_counts SET count = 5 WHERE timestamp_ms < 1728926391000").await;
    let recount = fixture.store.recount().await.unwrap();
    assert_eq!(recount.differing_minutes, [Minute::of(THEN), Minute::of(NEXT)]);
}

pub async fn a_wrong_day_and_a_wrong_total_are_found(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, events([1, 2, 3])).await;
    fixture.tamper("UPDATE rollups SET count = 7 WHERE width_minutes = 1440").await;
    fixture.tamper("UPDATE writers SET total = total + 1 WHERE open").await;
    let recount = fixture.store.recount().await.unwrap();
    assert_eq!((recount.rows, recount.total, recount.minutes_total, recount.days_total), (3, 4, 3, 7));
    assert_eq!(recount.differing_minutes, []);
}
