//! Differences made behind the store's back are found by counting again.

use ping_core::Minute;

use crate::stage::{Stage, THEN, event, events};

const NEXT: i64 = THEN + 60_000;

pub async fn a_lost_row_is_found(stage: &Stage) {
    let writer = stage.open().await;
    stage.commit(writer, 1, vec![event(1, THEN), event(2, THEN), event(3, NEXT)]).await;
    stage.tamper("DELETE FROM events WHERE timestamp_ms >= 1728926391000").await;
    let recount = stage.store.recount().await.unwrap();
    assert_eq!((recount.rows, recount.total, recount.minutes_total, recount.days_total), (2, 3, 3, 3));
    assert_eq!(recount.differing_minutes, [Minute::of(NEXT)]);
}

pub async fn a_wrong_minute_is_found(stage: &Stage) {
    let writer = stage.open().await;
    stage.commit(writer, 1, vec![event(1, THEN), event(2, THEN), event(3, NEXT)]).await;
    stage.tamper("UPDATE rollups SET count = count - 1 WHERE width_minutes = 1").await;
    stage.tamper("DELETE FROM rollups WHERE count = 0").await;
    let recount = stage.store.recount().await.unwrap();
    assert_eq!((recount.rows, recount.total, recount.minutes_total, recount.days_total), (3, 3, 1, 3));
    assert_eq!(recount.differing_minutes, [Minute::of(THEN), Minute::of(NEXT)]);
    stage.tamper("UPDATE rollups SET count = count + 1 WHERE width_minutes = 1").await;
    stage.tamper("UPDATE millisecond_counts SET count = 5 WHERE timestamp_ms < 1728926391000").await;
    let recount = stage.store.recount().await.unwrap();
    assert_eq!(recount.differing_minutes, [Minute::of(THEN), Minute::of(NEXT)]);
}

pub async fn a_wrong_day_and_a_wrong_total_are_seen(stage: &Stage) {
    let writer = stage.open().await;
    stage.commit(writer, 1, events([1, 2, 3])).await;
    stage.tamper("UPDATE rollups SET count = 7 WHERE width_minutes = 1440").await;
    stage.tamper("UPDATE writers SET total = total + 1 WHERE open").await;
    let recount = stage.store.recount().await.unwrap();
    assert_eq!((recount.rows, recount.total, recount.minutes_total, recount.days_total), (3, 4, 3, 7));
    assert_eq!(recount.differing_minutes, []);
}
