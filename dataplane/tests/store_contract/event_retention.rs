//! Rows of events are dropped by the day of their ids, and everything that was counted from them stays.

use std::collections::BTreeMap;

use ping_core::{Day, Event, Millis, Minute, Retention, RetentionCutoffs, TimeRange, Window};
use ping_ports::{CommitError, RangeCountError, ViewSums, compare_views};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::{Builder, Uuid};

use crate::fixture::{Fixture, THEN, batch};

const MINUTE: Millis = 60_000;
const DAY: Millis = 1_440 * MINUTE;
const SOURCES: u64 = 5;

/// A version 7 UUID of the time `at`.
pub fn id(number: u64, at: Millis) -> Uuid {
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&number.to_be_bytes());
    Builder::from_unix_timestamp_millis(at.unsigned_abs(), &tail).into_uuid()
}

/// An event that happened, and whose id was created, at `at`. Every third one has no source.
pub fn dated(number: u64, at: Millis) -> Event {
    let source = if number.is_multiple_of(3) { String::new() } else { format!("source-{}", number % SOURCES) };
    let kind = if number.is_multiple_of(2) { "failed" } else { "" };
    Event { id: id(number, at), timestamp_ms: at, timestamp_assumed: false, source: source.into(), kind: kind.into() }
}

fn today() -> Day {
    Day::of(THEN)
}

fn cutoffs(now: Millis) -> RetentionCutoffs {
    Retention::default().at(now)
}

/// Keeps the events of `days` days before `now`.
pub async fn keep(fixture: &Fixture, now: Millis, days: i64) -> u64 {
    let store = &fixture.store;
    store.move_cutoff(Day::of(now).back(days), now).await.unwrap();
    store.prepare_days(Day::of(now)).await.unwrap();
    store.drop_expired(cutoffs(now)).await.unwrap().unwrap()
}

async fn commit(fixture: &Fixture, events: Vec<Event>) {
    let writer = fixture.open().await;
    for (place, chunk) in events.chunks(500).enumerate() {
        fixture.commit(writer, i64::try_from(place * 500 + 1).unwrap(), chunk.to_vec()).await;
    }
}

/// Events of eight days: 600 from before the tables are partitioned, and 300 later ones, of days that have partitions of their own.
async fn eight_days(fixture: &Fixture) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(11);
    let first = THEN - 5 * DAY;
    let mut events: Vec<_> = (0..600).map(|number| dated(number, first - random.random_range(0..3 * DAY))).collect();
    commit(fixture, events.clone()).await;
    assert_eq!(keep(fixture, first, 5).await, 0);
    let later: Vec<_> = (600..900).map(|number| dated(number, THEN - random.random_range(0..2 * DAY))).collect();
    commit(fixture, later.clone()).await;
    events.extend(later);
    events
}

pub async fn dropped_events_stay_counted(fixture: &Fixture) {
    let events = eight_days(fixture).await;
    let kept = |event: &&Event| Day::of(event.timestamp_ms) >= today().back(1);
    let expired = events.iter().filter(|event| !kept(event)).count();
    assert!(expired > 600 && expired < 900);
    assert_eq!(keep(fixture, THEN, 1).await, expired as u64);
    assert_eq!(keep(fixture, THEN, 1).await, 0, "once");
    let recount = fixture.store.recount().await.unwrap();
    assert_eq!((recount.events(), recount.total, recount.minutes_total, recount.days_total), (900, 900, 900, 900));
    assert_eq!((recount.dropped.count, recount.differing_minutes), (expired as i64, vec![]));
    let last = events.iter().filter(|event| !kept(event)).map(|event| Minute::of(event.timestamp_ms)).max().unwrap();
    assert_eq!(recount.dropped.until, Minute(last.0 + 1).start());
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let mut found = fixture.store.find(&ids).await.unwrap();
    found.sort_unstable_by_key(|event| event.id);
    let mut expected: Vec<_> = events.iter().filter(kept).cloned().collect();
    expected.sort_unstable_by_key(|event| event.id);
    assert_eq!(found, expected);
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..60 {
        let bound = |random: &mut StdRng| {
            let at = THEN + DAY - random.random_range(0..10 * DAY);
            if at < today().back(1).start() { at / MINUTE * MINUTE } else { at }
        };
        let (a, b) = (bound(&mut random), bound(&mut random));
        let (from, to) = (a.min(b), a.max(b));
        let expected = events.iter().filter(|event| (from..to).contains(&event.timestamp_ms)).count();
        let counted = fixture.store.count(Some(TimeRange::new(from, to).unwrap())).await.unwrap().count;
        assert_eq!(counted, expected as i64, "{from} {to}");
    }
}

pub async fn a_dropped_id_is_refused_and_an_id_without_a_day_is_remembered(fixture: &Fixture) {
    let undated = Event { id: Uuid::from_u128(77), ..dated(1, THEN - 9 * DAY) };
    commit(fixture, vec![dated(2, THEN - 3 * DAY), undated.clone(), dated(3, THEN)]).await;
    let far_ahead = dated(4, THEN + 700 * DAY);
    commit(fixture, vec![far_ahead.clone()]).await;
    let repeat = async |event: Event| {
        let writer = fixture.open().await;
        let result = fixture.store.commit(&batch(writer, 1, vec![dated(900, THEN), event])).await;
        (result, writer)
    };
    fixture.store.move_cutoff(today().back(2), THEN).await.unwrap();
    // Before and after it is dropped.
    for _ in 0..2 {
        for event in [dated(2, THEN - 3 * DAY), dated(5, THEN - 4 * DAY)] {
            let (refused, writer) = repeat(event).await;
            assert!(matches!(refused, Err(CommitError::Expired)), "{refused:?}");
            fixture.commit(writer, 1, vec![dated(3, THEN)]).await;
            assert_eq!(fixture.total().await, 4, "nothing of the batch is counted");
        }
        keep(fixture, THEN, 2).await;
    }
    fixture.store.move_cutoff(today().back(8), THEN + 1).await.unwrap();
    let cutoff = fixture.store.event_cutoff().await.unwrap();
    assert_eq!((cutoff.first_day, cutoff.moved_at), (Some(today().back(2)), THEN), "it never moves back");
    for known in [undated, dated(3, THEN), far_ahead] {
        let writer = fixture.open().await;
        assert_eq!(fixture.commit(writer, 1, vec![known.clone()]).await.known, [known.id].into());
    }
    fixture.assert_events(4).await;
    commit(fixture, vec![dated(6, THEN - 2 * DAY)]).await;
    fixture.assert_events(5).await;
}

pub async fn counts_within_dropped_minutes_are_refused(fixture: &Fixture) {
    commit(fixture, vec![dated(1, THEN - 3 * DAY), dated(2, THEN)]).await;
    keep(fixture, THEN, 2).await;
    let count = async |from, to| fixture.store.count(Some(TimeRange::new(from, to).unwrap())).await;
    let kept_from = today().back(2).start();
    for (from, to) in [(kept_from - 1, THEN), (0, kept_from - 1), (5, 9)] {
        let refused = count(from, to).await;
        assert!(matches!(refused, Err(RangeCountError::EdgeDropped(from)) if from == kept_from), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains("whole minutes"));
    }
    assert_eq!(count(kept_from + 1, 0).await.unwrap().count, 1);
    assert_eq!(count(kept_from - MINUTE, THEN + 1).await.unwrap().count, 1);
    assert_eq!(count(0, THEN).await.unwrap().count, 1);
}

/// Everything that readers see of the views.
async fn seen(fixture: &Fixture) -> impl PartialEq + std::fmt::Debug + use<> {
    let store = &fixture.store;
    let mut sources = BTreeMap::new();
    for source in (0..SOURCES).map(|number| format!("source-{number}")) {
        let summary = store.summary(&source, Window::of(THEN - DAY)).await.unwrap();
        let windows = store.windows(&source, Window::of(THEN - 6 * DAY), Window::of(THEN + DAY)).await.unwrap();
        let days = store.days(&source, today().back(9), today().back(-2)).await.unwrap();
        sources.insert(source, (summary, windows, days));
    }
    let ViewSums { committed, added, held, complete, .. } = store.view_sums().await.unwrap().unwrap();
    (sources, store.top(None, 9).await.unwrap(), committed, added, held, complete)
}

pub async fn views_that_are_rebuilt_after_a_drop_equal_those_before(fixture: &Fixture) {
    let store = &fixture.store;
    eight_days(fixture).await;
    assert!(store.rebuild(None, &"0".into(), &[(0, 0)].into(), cutoffs(THEN)).await.unwrap());
    let before = seen(fixture).await;
    // More drops than segments are merged at once.
    for (round, days) in [7, 5, 2, 1, 0, -1].into_iter().enumerate() {
        keep(fixture, THEN, days).await;
        let (held, new) = (round.to_string(), (round + 1).to_string());
        assert!(store.rebuild(Some(&held), &new, &[(0, 0)].into(), cutoffs(THEN)).await.unwrap());
        assert_eq!(seen(fixture).await, before, "{days}");
        let sums = store.view_sums().await.unwrap().unwrap();
        assert_eq!(compare_views(None, &sums, cutoffs(THEN)), None);
        assert_eq!(store.differing_rows(today().back(20), today().back(-2)).await.unwrap(), []);
    }
    assert_eq!(store.recount().await.unwrap().rows, 0);
    // What the views no longer keep is not in the base either.
    let later = THEN + 8 * DAY;
    store.apply_retention(cutoffs(later)).await.unwrap();
    assert!(store.rebuild(Some(&"6".into()), &"7".into(), &[(0, 0)].into(), cutoffs(later)).await.unwrap());
    assert_eq!(store.windows("source-1", Window(0), Window(i64::MAX)).await.unwrap(), BTreeMap::new());
    let segments = store.audited_segments(0, 1_000).await.unwrap();
    assert!(!segments.is_empty() && segments.iter().all(|segment| segment.is_intact()));
}

pub async fn late_events_of_dropped_days_are_counted(fixture: &Fixture) {
    commit(fixture, vec![dated(1, THEN - 3 * DAY), dated(2, THEN)]).await;
    keep(fixture, THEN, 1).await;
    // Their ids are new.
    let late = |number| Event { id: id(number, THEN), ..dated(number, THEN - 3 * DAY) };
    commit(fixture, vec![late(4), late(5), dated(7, THEN)]).await;
    keep(fixture, THEN, 1).await;
    fixture.assert_events(5).await;
    let day = today().back(3).start();
    let counted = fixture.store.count(Some(TimeRange::new(day, day + DAY).unwrap())).await.unwrap().count;
    assert_eq!(counted, 3);
    assert_eq!(keep(fixture, THEN + 3 * DAY, 1).await, 4);
    fixture.assert_events(5).await;
    assert_eq!(fixture.store.recount().await.unwrap().rows, 0);
}

pub async fn ten_days_keep_as_many_rows_as_two(fixture: &Fixture) {
    const PER_DAY: u64 = 300;
    let mut rows = Vec::new();
    for day in 0..10_u64 {
        let now = THEN + i64::try_from(day).unwrap() * DAY;
        let number = |place| day * PER_DAY + place;
        commit(fixture, (0..PER_DAY).map(|place| dated(number(place), now + i64::try_from(place).unwrap())).collect())
            .await;
        keep(fixture, now, 1).await;
        rows.push(fixture.store.recount().await.unwrap().rows);
    }
    assert_eq!(rows, [vec![300], vec![600; 9]].concat());
    fixture.assert_events(3_000).await;
    // Some of these days had partitions of their own.
    for day in 0..10_i64 {
        let writer = fixture.open().await;
        let late = vec![dated(9_000 + day.unsigned_abs(), THEN + day * DAY)];
        let refused = matches!(fixture.store.commit(&batch(writer, 1, late)).await, Err(CommitError::Expired));
        assert_eq!(refused, day < 8, "{day}");
    }
    fixture.assert_events(3_002).await;
}
