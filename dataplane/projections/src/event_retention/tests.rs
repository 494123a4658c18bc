use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::RetentionCutoffs;
use ping_ports::StoreError;

use super::*;

/// Noon of a day.
const NOW: Millis = 20_010 * 24 * HOUR + 12 * HOUR;

#[test]
fn the_cutoff_moves_before_anything_is_dropped() {
    let settings = EventRetentionSettings::new(Some(3));
    let cutoff = |day, moved_at| EventCutoff { first_day: Some(Day(day)), moved_at, ..EventCutoff::default() };
    assert_eq!(due(&settings, NOW, EventCutoff::default(), false), Due::Move(Day(20_006)));
    assert_eq!(due(&settings, NOW, cutoff(20_005, 0), false), Due::Move(Day(20_006)));
    assert_eq!(due(&settings, NOW, cutoff(20_006, NOW - 59_000), false), Due::Nothing);
    assert_eq!(due(&settings, NOW, cutoff(20_006, NOW - 60_000), false), Due::Drop);
    assert_eq!(due(&settings, NOW, cutoff(20_006, NOW - 60_000), true), Due::Prepare);
    // More days are kept than before: what was dropped stays dropped.
    assert_eq!(due(&settings, NOW, cutoff(20_009, 0), false), Due::Drop);
}

#[test]
fn nothing_moves_without_a_setting() {
    let settings = EventRetentionSettings::new(None);
    assert_eq!(due(&settings, NOW, EventCutoff::default(), false), Due::Nothing);
    let cutoff = EventCutoff { first_day: Some(Day(20_000)), ..EventCutoff::default() };
    for is_dropped in [false, true] {
        assert_eq!(due(&settings, NOW, cutoff, is_dropped), Due::Prepare, "what is left before the cutoff stays");
    }
}

/// A store whose clock stands.
#[derive(Default)]
struct FakeStore {
    cutoff: Mutex<EventCutoff>,
    /// Another program is dropping.
    is_taken: AtomicBool,
    drops: AtomicUsize,
}

#[async_trait]
impl EventRetention for FakeStore {
    async fn event_cutoff(&self) -> Result<EventCutoff, StoreError> {
        Ok(EventCutoff { now: NOW, ..*self.cutoff.lock() })
    }

    async fn move_cutoff(&self, first_day: Day, now: Millis) -> Result<(), StoreError> {
        *self.cutoff.lock() = EventCutoff { first_day: Some(first_day), moved_at: now, ..EventCutoff::default() };
        Ok(())
    }

    async fn prepare_days(&self, _: Day) -> Result<(), StoreError> {
        Ok(())
    }

    async fn drop_expired(&self, _: RetentionCutoffs) -> Result<Option<u64>, StoreError> {
        self.drops.fetch_add(1, Ordering::Relaxed);
        Ok((!self.is_taken.load(Ordering::Relaxed)).then_some(0))
    }
}

struct Standing(Millis);

impl Clock for Standing {
    fn now(&self) -> Millis {
        self.0
    }
}

/// A task of a process whose clock stands at `now`.
fn task(store: &Arc<FakeStore>, now: Millis) -> EventRetentionTask {
    let settings = EventRetentionSettings { grace: Duration::ZERO, ..EventRetentionSettings::new(Some(3)) };
    let clock = Arc::new(Standing(now));
    EventRetentionTask::new(
        Arc::<FakeStore>::clone(store),
        clock,
        settings,
        Retention::default(),
        &mut Registry::default(),
    )
}

#[tokio::test]
async fn nothing_is_dropped_by_a_clock_that_is_wrong() {
    let store = Arc::new(FakeStore::default());
    for off in [-2 * HOUR, 2 * HOUR, 365 * 24 * HOUR] {
        let refused = task(&store, NOW + off).step(&mut None).await.unwrap_err();
        assert!(refused.to_string().contains("the clock of this process"), "{refused}");
        assert_eq!(*store.cutoff.lock(), EventCutoff::default());
    }
    task(&store, NOW + HOUR / 2).step(&mut None).await.unwrap();
    let moved = *store.cutoff.lock();
    assert_eq!((moved.first_day, moved.moved_at), (Some(Day(20_006)), NOW));
    task(&store, NOW + 2 * HOUR).step(&mut None).await.unwrap_err();
    assert_eq!(store.drops.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_another_program_is_dropping_is_tried_again() {
    let store = Arc::new(FakeStore::default());
    let (task, mut dropped_at) = (task(&store, NOW), None);
    task.step(&mut dropped_at).await.unwrap();
    store.is_taken.store(true, Ordering::Relaxed);
    let mut drops = Vec::new();
    for _ in 0..4 {
        task.step(&mut dropped_at).await.unwrap();
        drops.push(store.drops.load(Ordering::Relaxed));
        // It ends half-way.
        store.is_taken.store(drops.len() < 2, Ordering::Relaxed);
    }
    assert_eq!(drops, [1, 2, 3, 3], "once per hour after it was done");
}
