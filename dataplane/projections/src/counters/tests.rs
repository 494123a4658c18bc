use std::sync::atomic::{AtomicI64, Ordering};

use ping_core::Retention;
use ping_memory::{MemoryCache, MemoryLog, MemoryStore};
use ping_ports::{EventStore, SourceViews, Traces};

use super::*;

const NOW: Millis = 1_728_926_331_000;
const HOUR: Millis = 3_600_000;

/// A clock that is advanced by hand.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn the_age_of_writers_counts_from_what_the_projections_have_read() {
    let day = Duration::from_secs(24 * 3_600);
    assert_eq!(compaction_age(NOW, NOW, day), Some(day));
    assert_eq!(compaction_age(NOW, NOW + 1, day), Some(day));
    assert_eq!(compaction_age(NOW, NOW - 5, day), Some(day + Duration::from_millis(5)));
    assert_eq!(compaction_age(NOW, 0, day), None);
}

/// Both projections stand still for three days, and so have records of writers that were closed since.
#[tokio::test]
async fn writers_of_a_backlog_are_not_compacted() {
    let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let (cache, log) = (Arc::new(MemoryCache::default()), Arc::new(MemoryLog::new(1)));
    let ports = LogPorts {
        outbox: store.clone(),
        bounds: log.clone(),
        producer: log,
        incarnations: store.clone(),
        clock: clock.clone(),
        traces: Traces::default(),
    };
    let counters =
        CounterProjection::new(cache.clone(), store.clone(), store.clone(), &ports, &CountSettings::default());
    let writer = store.open_writer(Duration::from_secs(60)).await.unwrap();
    store.close_writer(writer).await.unwrap();
    let is_compacted = async || {
        counters.maintain().await.unwrap();
        store.last_seqs(&[writer]).await.unwrap().compacted.contains_key(&writer)
    };
    clock.0.store(NOW + 12 * HOUR, Ordering::Relaxed);
    assert!(counters.rebuild(None).await.unwrap());
    let (generation, cutoffs) = ("views".to_owned(), Retention::default().at(NOW));
    assert!(store.rebuild(None, &generation, &[(0, 0)].into(), cutoffs).await.unwrap());
    let now = NOW + 84 * HOUR;
    clock.0.store(now, Ordering::Relaxed);
    assert!(!is_compacted().await);
    let caught_up = |generation| Advance {
        generation,
        from: [(0, 0)].into(),
        to: [(0, 0)].into(),
        as_of: Some(now),
        partitions: 1,
        ..Advance::default()
    };
    let held = cache.positions().await.unwrap().unwrap().generation;
    assert_eq!(counters.apply(caught_up(held), EventCounts::default()).await.unwrap(), Applied::Done);
    assert!(!is_compacted().await, "the views are behind");
    assert_eq!(store.apply(&caught_up(generation), &[]).await.unwrap(), Applied::Done);
    assert!(is_compacted().await);
}
