use ping_memory::MemoryStore;

use super::*;

const NOW: Millis = 1_728_926_331_000;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Millis {
        NOW
    }
}

fn query(days: Option<i64>) -> SourceQuery {
    let clock = Arc::new(Stopped);
    SourceQuery::new(Arc::new(MemoryStore::new(clock.clone())), clock, Retention { windows: 1, days })
}

/// From the beginning of the day `days` ago until yesterday.
fn since(days: i64) -> TimeRange {
    let today = Day::of(NOW);
    TimeRange::new(today.back(days).start(), today.start()).unwrap()
}

#[tokio::test]
async fn deleted_days_are_not_reported_as_days_without_events() {
    let query = query(Some(3));
    query.series("a", since(3), Step::Day).await.expect("these days are kept");
    query.top(Some(since(3)), 0).await.expect("these days are kept");
    let series = query.series("a", since(4), Step::Day).await.map(drop);
    let top = query.top(Some(since(4)), 0).await.map(drop);
    for refused in [series, top] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("kept since 1728604800000 (--day-retention-days)"), "{refused}");
        assert!(refused.ends_with("starts at 1728518400000; use a later start"), "{refused}");
    }
}

#[tokio::test]
async fn days_that_are_kept_indefinitely_and_totals_can_be_read_from_any_start() {
    let old = since(5_000);
    query(None).series("a", old, Step::Day).await.unwrap();
    query(None).top(Some(old), 0).await.unwrap();
    query(Some(3)).series("", old, Step::Day).await.unwrap();
}
