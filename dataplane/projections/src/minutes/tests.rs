use async_trait::async_trait;
use ping_core::{Event, Retention};
use ping_memory::MemoryStore;
use ping_ports::{Advance, Batch, Clock, EventStore, LogError, SourceViews};
use ping_segments::Changes;
use uuid::Uuid;

use super::*;

/// Where a minute begins.
const NOW: Millis = 28_815_439 * MINUTE;

#[test]
fn a_minute_is_checked_when_it_closes_and_a_few_times_more() {
    let end = 100 * MINUTE;
    let done = |checks| Published { checks, summary: None };
    let mut published: BTreeMap<_, _> = (0..99).map(|minute| (Minute(minute), done(5))).collect();
    assert_eq!(due(&published, end, end), [(Minute(99), 1)]);
    published.insert(Minute(99), done(1));
    assert_eq!(due(&published, end + 999, end + 999), []);
    assert_eq!(due(&published, end + 1_000, end + 1_000), [(Minute(99), 2)]);
    published.insert(Minute(99), done(2));
    assert_eq!(due(&published, end + 59_999, end + 59_999), [(Minute(99), 4)]);
    assert_eq!(due(&published, end + MINUTE, end + MINUTE), [(Minute(99), 5), (Minute(100), 1)]);
}

#[test]
fn a_minute_is_checked_again_once_the_views_are_past_it() {
    let (end, later) = (100 * MINUTE, 107 * MINUTE);
    let mut published: BTreeMap<_, _> =
        (0..107).map(|minute| (Minute(minute), Published { checks: 5, summary: None })).collect();
    published.insert(Minute(99), Published { checks: 1, summary: None });
    assert_eq!(due(&published, later, end - 1), []);
    assert_eq!(due(&published, later, end + 3_000), [(Minute(99), 3)]);
    assert_eq!(due(&published, later, later - 1), [(Minute(99), 5)]);
}

#[test]
fn the_latest_minutes_come_first_and_few_at_once() {
    let (mut published, now) = (BTreeMap::new(), 1_000 * MINUTE);
    let mut rounds = Vec::new();
    loop {
        let due = due(&published, now, now);
        let Some((last, _)) = due.last() else { break };
        rounds.push((due.len(), last.0));
        for (minute, checks) in due {
            published.insert(minute, Published { checks, summary: None });
        }
    }
    assert_eq!(rounds[..2], [(3, 999), (3, 996)]);
    assert_eq!((rounds.len(), rounds.last()), (19, Some(&(1, 945))));
}

struct Topic(Mutex<BTreeMap<Minute, MinuteSummary>>);

#[async_trait]
impl MinuteTopic for Topic {
    async fn publish(&self, minutes: &[MinuteSummary]) -> Result<(), LogError> {
        self.0.lock().extend(minutes.iter().map(|summary| (summary.minute, *summary)));
        Ok(())
    }
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Millis {
        NOW
    }
}

/// The views stand still for ten minutes, and have not read everything when they continue.
#[tokio::test]
async fn minutes_that_closed_while_the_views_stood_still_are_published() {
    let store = Arc::new(MemoryStore::new(Arc::new(Standing)));
    let topic = Arc::new(Topic(Mutex::default()));
    let publisher = MinutePublisher::new(store.clone(), topic.clone());
    let (generation, cutoffs) = ("g".to_owned(), Retention::default().at(NOW));
    assert!(store.rebuild(None, &generation, &[(0, 0)].into(), cutoffs).await.unwrap());
    let rounds = async |now| {
        for _ in 0..CHECKED {
            publisher.publish_due(now).await.unwrap();
        }
    };
    rounds(NOW).await;
    let (at, later) = (NOW + 5 * MINUTE, NOW + 10 * MINUTE);
    let event = Event {
        id: Uuid::from_u128(1),
        timestamp_ms: at,
        timestamp_assumed: false,
        source: "a".into(),
        kind: "".into(),
    };
    let writer = store.open_writer(Duration::from_secs(60)).await.unwrap();
    let events = Arc::new(vec![event]);
    let batch = Batch { writer, first_seq: 1, events, partitions: 1, partition: 0, lease: Duration::from_secs(60) };
    store.commit(&batch).await.unwrap();
    rounds(later).await;
    let minutes: Vec<_> = topic.0.lock().keys().map(|minute| minute.0).collect();
    let current = Minute::of(later).0;
    assert_eq!(minutes, (current - 10 - CHECKED..current).collect::<Vec<_>>());
    let summary = |unique| MinuteSummary { minute: Minute::of(at), count: 1, unique };
    assert_eq!(topic.0.lock()[&Minute::of(at)], summary(0));
    let mut changes = Changes::default();
    changes.add("a", "", at);
    let segments: Vec<_> = changes.segments(cutoffs).map(Result::unwrap).collect();
    let advance = Advance {
        generation,
        from: [(0, 0)].into(),
        to: [(0, 1)].into(),
        as_of: Some(later),
        partitions: 1,
        ..Advance::default()
    };
    store.apply(&advance, &segments).await.unwrap();
    rounds(later).await;
    assert_eq!(topic.0.lock()[&Minute::of(at)], summary(1));
}
