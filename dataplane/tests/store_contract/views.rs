//! The views per source count every event once, and a rebuild gives the same result.

use std::collections::BTreeMap;

use ping_core::{
    Day, Event, KindCounts, Minute, Partition, Retention, RetentionCutoffs, Span, StatusCounts, StatusRule, TimeRange,
    Window, WriterId,
};
use ping_ports::{Advance, Applied};
use ping_segments::{Changes, Family, Node, Place, Segment, merge};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::fixture::{Fixture, THEN};

const HOUR: i64 = 3_600_000;
/// The generation that [`built`] makes.
const GENERATION: &str = "first";

fn cutoffs() -> RetentionCutoffs {
    Retention::default().at(THEN)
}

/// The segments of some events, each with source, kind and time.
fn segments<'a>(events: impl IntoIterator<Item = (&'a str, &'a str, i64)>, cutoffs: RetentionCutoffs) -> Vec<Segment> {
    let mut changes = Changes::default();
    for (source, kind, at) in events {
        changes.add(source, kind, at);
    }
    changes.segments(cutoffs).map(Result::unwrap).collect()
}

fn of(source: &str, kind: &str, at: i64) -> Vec<Segment> {
    segments([(source, kind, at)], cutoffs())
}

fn event(id: u128, source: &str, kind: &str, at: i64) -> Event {
    Event {
        id: Uuid::from_u128(id),
        timestamp_ms: at,
        timestamp_assumed: false,
        source: source.into(),
        kind: kind.into(),
    }
}

async fn built(fixture: &Fixture, ends: &[(Partition, i64)]) -> String {
    let ends = ends.iter().copied().collect();
    let generation = GENERATION.to_owned();
    assert!(fixture.store.rebuild(None, &generation, &ends, cutoffs()).await.unwrap());
    let views = fixture.store.positions().await.unwrap().unwrap();
    assert_eq!((&views.positions.generation, views.unique_sources), (&generation, true));
    generation
}

/// From `at` to `at + 1` on `partition`.
fn step(generation: &str, partition: Partition, at: i64) -> Advance {
    Advance {
        generation: generation.into(),
        from: [(partition, at)].into(),
        to: [(partition, at + 1)].into(),
        ..Advance::default()
    }
}

async fn total(fixture: &Fixture, source: &str) -> i64 {
    let summary = fixture.store.summary(source, Window(0)).await.unwrap();
    summary.map_or(0, |summary| summary.kinds.values().map(|span| span.count).sum())
}

pub async fn a_step_is_applied_once(fixture: &Fixture) {
    assert_eq!(fixture.store.positions().await.unwrap(), None);
    assert!(matches!(fixture.store.apply(&step("g", 0, 0), &of("a", "", THEN)).await.unwrap(), Applied::Stale(_)));
    let generation = built(fixture, &[(0, 5), (1, 0)]).await;
    let writer = fixture.open().await;
    fixture.commit(writer, 1, (1..=6).map(|id| event(id, "a", "", THEN)).collect()).await;
    let first = Advance { marks: [((writer, 0), 6)].into(), ..step(&generation, 0, 5) };
    // The store was restored: it does not have what was counted.
    for lost in [((writer, 0), 7), ((WriterId(4_711), 0), 1)] {
        let ahead = Advance { marks: [lost].into(), ..first.clone() };
        assert!(
            matches!(fixture.store.apply(&ahead, &of("a", "", THEN)).await.unwrap(), Applied::Stale(_)),
            "{lost:?}"
        );
    }
    assert_eq!(fixture.store.apply(&first, &of("a", "", THEN)).await.unwrap(), Applied::Done);
    for stale in [first.clone(), step("another", 0, 6), step(&generation, 0, 9), step(&generation, 1, 1)] {
        assert!(
            matches!(fixture.store.apply(&stale, &of("a", "", THEN)).await.unwrap(), Applied::Stale(_)),
            "{stale:?}"
        );
    }
    // All positions or none: the first is right, the second is not.
    let mut both = step(&generation, 0, 6);
    both.from.insert(1, 3);
    both.to.insert(1, 4);
    assert!(matches!(fixture.store.apply(&both, &of("a", "", THEN)).await.unwrap(), Applied::Stale(_)));
    assert_eq!(total(fixture, "a").await, 1);
    let positions = fixture.store.positions().await.unwrap().unwrap().positions;
    assert_eq!((&positions.offsets[&0], positions.offsets[&1]), (&6, 0));
    assert_eq!((positions.marks.get(writer, 0), positions.marks.get(writer, 1)), (6, 0));
    // A partition that the topic has grown by stands at 0.
    assert_eq!(fixture.store.apply(&step(&generation, 2, 0), &of("b", "", THEN)).await.unwrap(), Applied::Done);
    assert_eq!(fixture.store.positions().await.unwrap().unwrap().positions.offsets[&2], 1);
}

pub async fn the_watermark_is_that_of_the_slowest_partition(fixture: &Fixture) {
    assert_eq!(fixture.store.as_of().await.unwrap(), 0);
    let generation = built(fixture, &[(0, 0), (1, 0)]).await;
    let rebuilt = fixture.store.as_of().await.unwrap();
    assert!(rebuilt > 0, "a rebuild includes all rows");
    let advance_to =
        |partition, at, as_of| Advance { as_of: Some(as_of), partitions: 2, ..step(&generation, partition, at) };
    for (advance, all) in [
        (advance_to(0, 0, rebuilt + 500), rebuilt),
        (advance_to(1, 0, rebuilt + 300), rebuilt + 300),
        // A watermark never decreases, and a step without one changes nothing.
        (advance_to(0, 1, rebuilt - 500), rebuilt + 300),
        (step(&generation, 1, 1), rebuilt + 300),
        // A new partition starts with the lowest watermark of the others.
        (Advance { partitions: 3, ..advance_to(1, 2, rebuilt + 900) }, rebuilt + 300),
    ] {
        assert_eq!(fixture.store.apply(&advance, &of("a", "", THEN)).await.unwrap(), Applied::Done);
        assert_eq!(fixture.store.as_of().await.unwrap(), all, "{advance:?}");
    }
    // A rejected step changes no watermark.
    let stale = Advance { generation: "another".into(), ..advance_to(0, 2, rebuilt + 9_000) };
    assert!(matches!(fixture.store.apply(&stale, &of("a", "", THEN)).await.unwrap(), Applied::Stale(_)));
    assert_eq!(fixture.store.as_of().await.unwrap(), rebuilt + 300);
}

pub async fn late_events_correct_their_window(fixture: &Fixture) {
    let generation = built(fixture, &[(0, 0)]).await;
    let window = Window::of(THEN);
    let (early, late) = (window.start() + 1_000, window.start() + 31_000);
    for (at, time) in [late, early, late - 10_000].into_iter().enumerate() {
        let at = i64::try_from(at).unwrap();
        let applied = fixture.store.apply(&step(&generation, 0, at), &of("a", "opened", time)).await.unwrap();
        assert_eq!(applied, Applied::Done);
    }
    let windows = fixture.store.windows("a", window, Window(window.0 + 1)).await.unwrap();
    let span = Span { count: 3, first: early, last: late };
    assert_eq!((windows, span.average_interval()), ([(window, span)].into(), Some(15_000.0)));
    let summary = fixture.store.summary("a", window).await.unwrap().unwrap();
    assert_eq!((summary.recent, summary.kinds), (3, [("opened".into(), span)].into()));
    assert_eq!(
        fixture.store.days("a", Day::of(THEN), Day(Day::of(THEN).0 + 1)).await.unwrap(),
        [(Day::of(THEN), 3)].into()
    );
    assert_eq!(fixture.store.summary("unknown", window).await.unwrap(), None);
}

pub async fn kinds_are_read_by_ranges_that_compare_bytes(fixture: &Fixture) {
    let rule = StatusRule { negative_when: "failed=1".parse().unwrap(), positive_when: "Delivered=9".parse().unwrap() };
    let sources: [Box<str>; 3] = ["a".into(), "absent".into(), "b".into()];
    let read = async || fixture.store.kind_counts(&sources, &rule.kinds()).await.unwrap();
    assert_eq!(read().await, [(); 3].map(|()| KindCounts::new()), "before the views are built");
    let generation = built(fixture, &[(0, 0)]).await;
    let kinds = ["failed", "failed", "failed2", "Failed", "", "delivered", "~revoked:failed:", "~revoked:failed:1:2"];
    let revoked =
        ["~revoked:failed:2", "~revoked:failed:9223372036854775807", "~revoked:failed2:7", "~revoked:Failed:7"];
    let of_a = kinds.into_iter().chain(revoked).map(|kind| ("a", kind, THEN));
    let segments = segments(of_a.chain([("b", "Delivered", THEN)]), cutoffs());
    assert_eq!(fixture.store.apply(&step(&generation, 0, 0), &segments).await.unwrap(), Applied::Done);
    let expected =
        |kinds: &[(&str, i64)]| -> KindCounts { kinds.iter().map(|(kind, count)| ((*kind).into(), *count)).collect() };
    // A range also has what only looks like a revocation; the rule ignores it.
    let of_a = [
        ("failed", 2),
        ("~revoked:failed:1:2", 1),
        ("~revoked:failed:2", 1),
        ("~revoked:failed:9223372036854775807", 1),
    ];
    assert_eq!(read().await, [expected(&of_a), expected(&[]), expected(&[("Delivered", 1)])]);
    assert_eq!(rule.counts(&read().await[0]), StatusCounts { negative: 0, revoked: i64::MAX, positive: 0 });
    // The same of all sources of a node.
    let of_node = async |node| fixture.store.kind_counts_in(node, &rule.kinds()).await.unwrap();
    let (a, b) = (("a".into(), expected(&of_a)), ("b".into(), expected(&[("Delivered", 1)])));
    assert_eq!(of_node(Node::ROOT).await, [a.clone(), b].into());
    assert_eq!(of_node(Node::of("a", 16)).await, [a].into());
    assert_eq!(of_node(Node::of("absent", 16)).await, [].into());
}

/// Everything that can be read, to compare.
async fn everything(fixture: &Fixture) -> impl PartialEq + std::fmt::Debug {
    let top = fixture.store.top(None, 100).await.unwrap();
    let mut each = Vec::new();
    for (source, _) in &top {
        let summary = fixture.store.summary(source, Window(0)).await.unwrap();
        let windows = fixture.store.windows(source, Window(0), Window(i64::MAX)).await.unwrap();
        let uniques = fixture.store.uniques(Minute(0), Minute(i64::MAX)).await.unwrap();
        each.push((summary, uniques, windows, fixture.store.days(source, Day(0), Day(i64::MAX)).await.unwrap()));
    }
    (top, each)
}

pub async fn a_rebuild_equals_the_steps(fixture: &Fixture) {
    let mut random = StdRng::seed_from_u64(3);
    let mut events = Vec::new();
    for id in 0..400 {
        let source = ["", "a", "b", "c"][random.random_range(0..4)];
        let kind = ["", "opened", "~revoked:opened:3"][random.random_range(0..3)];
        events.push(event(id, source, kind, THEN - random.random_range(0..9 * 24 * HOUR)));
    }
    let generation = built(fixture, &[(0, 0)]).await;
    let writer = fixture.open().await;
    for (place, batch) in (0..).zip(events.chunks(50)) {
        fixture.commit(writer, place * 50 + 1, batch.to_vec()).await;
        let events = batch.iter().map(|event| (&*event.source, &*event.kind, event.timestamp_ms));
        let applied = fixture.store.apply(&step(&generation, 0, place), &segments(events, cutoffs())).await.unwrap();
        assert_eq!(applied, Applied::Done);
    }
    let stepwise = everything(fixture).await;
    let ends = BTreeMap::from([(0, 77), (1, 5)]);
    let new = "second".to_owned();
    assert!(!fixture.store.rebuild(None, &new, &ends, cutoffs()).await.unwrap(), "another processor was faster");
    assert!(fixture.store.rebuild(Some(&generation), &new, &ends, cutoffs()).await.unwrap());
    assert_eq!(everything(fixture).await, stepwise);
    let positions = fixture.store.positions().await.unwrap().unwrap().positions;
    assert_eq!((&positions.offsets, positions.marks.get(writer, 4)), (&ends, 400));
    assert!(matches!(
        fixture.store.apply(&step(&generation, 0, 77), &of("a", "", THEN)).await.unwrap(),
        Applied::Stale(_)
    ));
}

pub async fn a_closed_day_keeps_its_count(fixture: &Fixture) {
    const DAY: i64 = 24 * HOUR;
    let generation = built(fixture, &[(0, 0)]).await;
    let (first, last) = (Day(Day::of(THEN).0 - 9), Day(Day::of(THEN).0 + 9));
    let range = TimeRange::new(first.start(), last.start()).unwrap().whole_windows().unwrap();
    let mut expected = BTreeMap::new();
    // Days that have passed, and the day of an event; windows are kept for a week.
    let all = [(0, 0), (0, -1), (0, -9), (1, 0), (1, 1), (1, -1), (3, 3), (3, 0), (12, 3), (12, 0), (12, 8), (30, 8)];
    for (place, (passed, day)) in (0..).zip(all) {
        let cutoffs = Retention::default().at(THEN + passed * DAY);
        // A processor that was down for long finds old days that are still open, and adds to them before or after closing them.
        if place % 2 == 0 {
            fixture.store.apply_retention(cutoffs).await.unwrap();
        }
        let late = segments([("a", "", THEN + day * DAY)], cutoffs);
        assert_eq!(fixture.store.apply(&step(&generation, 0, place), &late).await.unwrap(), Applied::Done);
        *expected.entry(Day::of(THEN + day * DAY)).or_insert(0) += 1;
        for _ in 0..2 {
            assert_eq!(fixture.store.days("a", first, last).await.unwrap(), expected, "{place}");
            assert_eq!(fixture.store.top(Some(&range), 9).await.unwrap(), [("a".to_owned(), place + 1)], "{place}");
            fixture.store.apply_retention(cutoffs).await.unwrap();
        }
    }
}

pub async fn the_busiest_come_first(fixture: &Fixture) {
    let generation = built(fixture, &[(0, 0)]).await;
    let midnight = Day::of(THEN).start();
    let times = [("a", vec![1, 2, 3]), ("b", vec![-1, 4]), ("c", vec![-2, -HOUR, 5, 6])];
    let events =
        times.into_iter().flat_map(|(source, times)| times.into_iter().map(move |at| (source, "", midnight + at)));
    let segments = segments(events, cutoffs());
    assert_eq!(fixture.store.apply(&step(&generation, 0, 0), &segments).await.unwrap(), Applied::Done);
    let top = async |start: i64, end: i64, limit| {
        let range = TimeRange::new(midnight + start, midnight + end).unwrap().whole_windows().unwrap();
        let top = fixture.store.top(Some(&range), limit).await.unwrap();
        top.into_iter().map(|(source, count)| format!("{source}{count}")).collect::<Vec<_>>()
    };
    assert_eq!(fixture.store.top(None, 2).await.unwrap(), [("c".to_owned(), 4), ("a".to_owned(), 3)]);
    assert_eq!(top(0, 24 * HOUR, 9).await, ["a3", "c2", "b1"]);
    assert_eq!(top(-300_000, 300_000, 9).await, ["a3", "c3", "b2"]);
    assert_eq!(top(-HOUR, 24 * HOUR, 1).await, ["c4"]);
}

pub async fn expired_rows_are_deleted(fixture: &Fixture) {
    let generation = built(fixture, &[(0, 0)]).await;
    let segments = segments([("a", "", THEN), ("a", "", THEN - 6 * 24 * HOUR)], cutoffs());
    assert_eq!(fixture.store.apply(&step(&generation, 0, 0), &segments).await.unwrap(), Applied::Done);
    let windows = async || fixture.store.windows("a", Window(0), Window(i64::MAX)).await.unwrap().len();
    fixture.store.apply_retention(cutoffs()).await.unwrap();
    assert_eq!(windows().await, 2);
    let later = Retention { windows: 2, days: Some(1) }.at(THEN);
    fixture.store.apply_retention(later).await.unwrap();
    assert_eq!(windows().await, 1);
    assert_eq!(fixture.store.days("a", Day(0), Day(i64::MAX)).await.unwrap(), [(Day::of(THEN), 1)].into());
    assert_eq!(total(fixture, "a").await, 2, "totals per source never expire");
    // A day whose partition was dropped gets a new one. The mark of an unknown writer is gone.
    let again = of("a", "", THEN - 6 * 24 * HOUR);
    assert_eq!(fixture.store.apply(&step(&generation, 0, 1), &again).await.unwrap(), Applied::Done);
    assert_eq!(windows().await, 2);
}

/// The segments of kinds, by number.
async fn numbers(fixture: &Fixture, place: Place) -> Vec<i64> {
    let mut found: Vec<_> =
        fixture.store.segments_at(&[place], 100).await.unwrap().into_iter().map(|segment| segment.id).collect();
    found.sort_unstable();
    found
}

pub async fn segments_are_merged_once(fixture: &Fixture) {
    let generation = built(fixture, &[(0, 0)]).await;
    for at in 0..3 {
        let applied = fixture.store.apply(&step(&generation, 0, at), &of("a", "opened", THEN + at)).await.unwrap();
        assert_eq!(applied, Applied::Done);
    }
    let place = Place { family: Family::Kinds, node: Node::ROOT, period: 0 };
    assert_eq!(fixture.store.full_places(4, 9).await.unwrap(), []);
    assert!(fixture.store.full_places(3, 9).await.unwrap().contains(&place));
    assert_eq!(fixture.store.full_places(1, 1).await.unwrap(), [place]);
    let found = fixture.store.segments_at(&[place], 100).await.unwrap();
    let days = Place { family: Family::Days, period: Day::of(THEN).0, ..place };
    let first = fixture.store.segments_at(&[place, days], 2).await.unwrap();
    assert_eq!(first.iter().filter(|segment| segment.place == place).collect::<Vec<_>>(), [&found[0], &found[1]]);
    assert_eq!(first.iter().filter(|segment| segment.place == days).count(), 2);
    let sums = merge(place, found.iter().map(|segment| &*segment.data)).unwrap();
    let ids: Vec<_> = found.iter().map(|segment| segment.id).collect();
    assert_eq!((ids.len(), sums.len()), (3, 1));
    let replace =
        async |generation: &str, ids: &[i64]| fixture.store.replace(&generation.to_owned(), ids, &sums).await.unwrap();
    assert!(!replace("another", &ids).await, "the views were rebuilt");
    // Two processors merge the same segments at the same time.
    let (first, second) = tokio::join!(replace(&generation, &ids), replace(&generation, &ids));
    assert!(first ^ second, "{first} {second}");
    assert!(!replace(&generation, &ids[..1]).await, "one of them is gone");
    assert_eq!((total(fixture, "a").await, numbers(fixture, place).await.len()), (3, 1));
    // Numbers are never used again, not even after a rebuild.
    let last = numbers(fixture, place).await[0];
    assert!(last > ids[2], "{last} {ids:?}");
    assert!(fixture.store.rebuild(Some(&generation), &"second".into(), &[].into(), cutoffs()).await.unwrap());
    fixture.store.apply(&step("second", 0, 0), &of("a", "opened", THEN)).await.unwrap();
    assert!(numbers(fixture, place).await[0] > last);
}

pub async fn many_sources_are_found_after_many_merges(fixture: &Fixture) {
    let generation = built(fixture, &[(0, 0)]).await;
    let names: Vec<_> = (0..3_000).map(|number| format!("source-{number}")).collect();
    for at in 0..4 {
        let events = names.iter().map(|name| (&**name, "", THEN + at));
        fixture.store.apply(&step(&generation, 0, at), &segments(events, cutoffs())).await.unwrap();
    }
    loop {
        let full = fixture.store.full_places(2, 7).await.unwrap();
        if full.is_empty() {
            break;
        }
        for place in full {
            let found = fixture.store.segments_at(&[place], 100).await.unwrap();
            let sums = merge(place, found.iter().map(|segment| &*segment.data)).unwrap();
            let ids: Vec<_> = found.iter().map(|segment| segment.id).collect();
            assert!(fixture.store.replace(&generation, &ids, &sums).await.unwrap());
        }
    }
    for name in [&names[0], &names[1_234], &names[2_999]] {
        assert_eq!(total(fixture, name).await, 4, "{name}");
    }
    let day = Day::of(THEN);
    let range = TimeRange::new(day.start(), Day(day.0 + 1).start()).unwrap().whole_windows().unwrap();
    for top in [fixture.store.top(None, 3).await.unwrap(), fixture.store.top(Some(&range), 3).await.unwrap()] {
        assert_eq!(top, ["source-0", "source-1", "source-10"].map(|name| (name.to_owned(), 4)));
    }
    let minute = Minute::of(THEN);
    assert_eq!(fixture.store.uniques(minute, Minute(minute.0 + 1)).await.unwrap(), [(minute, 3_000)].into());
}

pub async fn totals_over_time_are_those_of_the_rows(fixture: &Fixture) {
    let writer = fixture.open().await;
    let times = [THEN, THEN + 1, THEN + 24 * HOUR];
    let events = (1..).zip(times).map(|(id, at)| event(id, "", "", at)).collect();
    fixture.commit(writer, 1, events).await;
    let (minute, day) = (Minute::of(THEN), Day::of(THEN));
    let minutes = fixture.store.all_minutes(minute, Minute(minute.0 + 5)).await.unwrap();
    assert_eq!(minutes, [(minute, 2)].into());
    let days = fixture.store.all_days(day, Day(day.0 + 2)).await.unwrap();
    assert_eq!(days, [(day, 2), (Day(day.0 + 1), 1)].into());
}
