//! What the audit of the views compares: sums of commits, checkpoints and segments, and each segment's digest.

use ping_core::{Day, Event, Retention, RetentionCutoffs};
use ping_ports::{Advance, Applied, Incarnation, SAME_CHANGE, ViewAuditState, ViewSums, compare_views};
use ping_segments::{Changes, Family, Segment, merge};
use uuid::Uuid;

use crate::fixture::{Fixture, THEN};

const DAY: i64 = 86_400_000;

fn cutoffs() -> RetentionCutoffs {
    Retention { windows: 7, days: Some(30) }.at(THEN)
}

fn event(id: u128, source: &str, timestamp_ms: i64) -> Event {
    Event { id: Uuid::from_u128(id), timestamp_ms, timestamp_assumed: false, source: source.into(), kind: "".into() }
}

/// The segments of one event per time, of a source.
fn segments(times: &[i64]) -> Vec<Segment> {
    let mut changes = Changes::default();
    for at in times {
        changes.add("a", "", *at);
    }
    changes.segments(cutoffs()).map(Result::unwrap).collect()
}

async fn rebuild(fixture: &Fixture, seen: Option<&str>, new: &str) {
    let seen = seen.map(str::to_owned);
    assert!(fixture.store.rebuild(seen.as_ref(), &new.into(), &[(0, 0)].into(), cutoffs()).await.unwrap());
}

async fn apply(fixture: &Fixture, at: i64, segments: &[Segment]) {
    let (from, to) = ([(0, at)].into(), [(0, at + 1)].into());
    let advance = Advance { generation: "g".into(), from, to, ..Advance::default() };
    assert_eq!(fixture.store.apply(&advance, segments).await.unwrap(), Applied::Done);
}

async fn sums(fixture: &Fixture) -> ViewSums {
    fixture.store.view_sums().await.unwrap().unwrap()
}

/// Views of two events of today and one of yesterday, counted by a rebuild and two steps.
async fn counted(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, vec![event(1, "a", THEN), event(2, "", THEN)]).await;
    rebuild(fixture, None, "g").await;
    fixture.commit(writer, 3, vec![event(3, "a", THEN - DAY), event(4, "a", THEN)]).await;
    apply(fixture, 0, &segments(&[THEN - DAY])).await;
    apply(fixture, 1, &segments(&[THEN])).await;
}

pub async fn the_accounts_of_views_agree(fixture: &Fixture) {
    assert_eq!(fixture.store.view_sums().await.unwrap(), None, "there are no views yet");
    counted(fixture).await;
    let sums = sums(fixture).await;
    let today = Day::of(THEN);
    assert!(sums.complete && sums.generation == "g" && sums.until > 0, "{sums:?}");
    assert_eq!(sums.committed, [(today.back(1), 1), (today, 2)].into());
    let of_days = |family| [((family, today.back(1).0), 1), ((family, today.0), 2)];
    let all = [((Family::Kinds, 0), 3)].into_iter().chain(of_days(Family::Windows)).chain(of_days(Family::Days));
    assert_eq!(sums.added, all.collect());
    assert_eq!(sums.held, sums.added);
    assert_eq!(compare_views(None, &sums, cutoffs()), None);
}

pub async fn merges_and_retention_keep_the_accounts_equal(fixture: &Fixture) {
    counted(fixture).await;
    let before = sums(fixture).await;
    for place in fixture.store.full_places(2, 100).await.unwrap() {
        let held = fixture.store.segments_at(&[place], 100).await.unwrap();
        let sum = merge(place, held.iter().map(|segment| segment.data.as_slice())).unwrap();
        let merged: Vec<_> = held.iter().map(|segment| segment.id).collect();
        assert!(fixture.store.replace(&"g".into(), &merged, &sum).await.unwrap());
    }
    let after = sums(fixture).await;
    assert_eq!((&after.added, &after.held), (&before.added, &before.held));
    fixture.store.apply_retention(Retention { windows: 0, days: Some(0) }.at(THEN)).await.unwrap();
    let kept = sums(fixture).await;
    assert_eq!(kept.added.len(), 3, "{kept:?}");
    assert_eq!(kept.added, kept.held);
    rebuild(fixture, Some("g"), "h").await;
    let rebuilt = sums(fixture).await;
    assert_eq!((rebuilt.added, rebuilt.held, rebuilt.committed), (before.added, before.held, before.committed));
}

pub async fn an_id_is_committed_to_its_source_once(fixture: &Fixture) {
    rebuild(fixture, None, "g").await;
    let writer = fixture.open().await;
    let batch = vec![event(1, "a", THEN), event(2, "", THEN), event(3, "b", THEN)];
    fixture.commit(writer, 1, batch.clone()).await;
    fixture.commit(writer, 4, batch).await;
    fixture.commit(writer, 7, vec![event(3, "c", THEN), event(4, "c", THEN), event(5, "", THEN)]).await;
    fixture.commit(writer, 10, vec![event(6, "", THEN)]).await;
    assert_eq!(sums(fixture).await.committed, [(Day::of(THEN), 3)].into());
    fixture.store.close_writer(writer).await.unwrap();
    fixture.store.forget(writer, 10).await.unwrap();
    fixture.advance(std::time::Duration::from_millis(20)).await;
    assert_eq!(fixture.store.compact_writers(std::time::Duration::from_millis(10)).await.unwrap(), [writer]);
    assert_eq!(sums(fixture).await.committed, [(Day::of(THEN), 3)].into(), "compaction keeps them");
}

pub async fn segments_are_audited_in_the_order_of_their_numbers(fixture: &Fixture) {
    counted(fixture).await;
    let all = fixture.store.audited_segments(0, 1_000).await.unwrap();
    assert!(all.len() > 9 && all.iter().all(|segment| segment.is_intact()), "{all:?}");
    assert!(all.is_sorted_by_key(|segment| segment.segment.id));
    let mut after = 0;
    for expected in all.chunks(2) {
        let found = fixture.store.audited_segments(after, 2).await.unwrap();
        assert_eq!(found, expected);
        after = found.last().unwrap().segment.id;
    }
    assert_eq!(fixture.store.audited_segments(after, 2).await.unwrap(), []);
}

pub async fn the_result_of_an_audit_is_kept(fixture: &Fixture) {
    let state = |suspect, last_audit| ViewAuditState { suspect, last_audit, change: None };
    assert_eq!(fixture.store.view_audit_state().await.unwrap(), state(false, None));
    rebuild(fixture, None, "g").await;
    fixture.store.views_audited(&"another".into(), 5).await.unwrap();
    assert_eq!(fixture.store.view_audit_state().await.unwrap(), state(false, None));
    fixture.store.views_audited(&"g".into(), THEN).await.unwrap();
    assert_eq!(fixture.store.view_audit_state().await.unwrap(), state(false, Some(THEN)));
    fixture.store.mark_views_suspect(&"another".into()).await.unwrap();
    assert_eq!(fixture.store.view_audit_state().await.unwrap(), state(false, Some(THEN)));
    fixture.store.mark_views_suspect(&"g".into()).await.unwrap();
    rebuild(fixture, Some("g"), "h").await;
    assert_eq!(fixture.store.view_audit_state().await.unwrap(), state(true, Some(THEN)), "a rebuild is no audit");
    fixture.store.views_audited(&"h".into(), THEN + 1).await.unwrap();
    assert_eq!(fixture.store.view_audit_state().await.unwrap(), state(false, Some(THEN + 1)));
}

pub async fn the_last_change_of_an_incarnation_is_kept(fixture: &Fixture) {
    use Incarnation::{Log, Store};
    rebuild(fixture, None, "g").await;
    let note = async |of, phantoms, at| {
        fixture.store.note_change(of, phantoms, at).await.unwrap();
        // An audit does not hide it.
        fixture.store.views_audited(&"g".into(), at).await.unwrap();
        let change = fixture.store.view_audit_state().await.unwrap().change.unwrap();
        (change.of, change.noticed, change.phantoms)
    };
    assert_eq!(fixture.store.view_audit_state().await.unwrap().change, None);
    assert_eq!(note(Store, 0, THEN).await, (Store, THEN, 0));
    assert_eq!(note(Store, 20, THEN + SAME_CHANGE - 1).await, (Store, THEN, 20));
    assert_eq!(note(Store, 3, THEN + 2 * SAME_CHANGE - 2).await, (Store, THEN, 23), "it is noted again and again");
    let later = THEN + 2 * SAME_CHANGE;
    assert_eq!(note(Log, 0, later).await, (Log, later, 0), "another one");
    assert_eq!(note(Log, 0, later + SAME_CHANGE).await, (Log, later + SAME_CHANGE, 0), "a later one");
}

pub async fn edited_segments_are_recognized(fixture: &Fixture) {
    counted(fixture).await;
    for edit in [
        "UPDATE source_segments SET data = (SELECT data FROM source_segments WHERE family = 0 ORDER BY id LIMIT 1) WHERE family = 2",
        "UPDATE source_segments SET node = 2 WHERE family = 3",
    ] {
        let damaged = |all: Vec<ping_segments::AuditedSegment>| all.iter().filter(|one| !one.is_intact()).count();
        let before = damaged(fixture.store.audited_segments(0, 1_000).await.unwrap());
        fixture.tamper(edit).await;
        assert!(damaged(fixture.store.audited_segments(0, 1_000).await.unwrap()) > before, "{edit}");
    }
    for edit in [
        "DELETE FROM source_segments WHERE family = 0",
        "UPDATE source_segments SET events = events + 1 WHERE family = 2",
        "UPDATE rollups SET attributed = attributed - 1 WHERE width_minutes = 1440",
    ] {
        let before = compare_views(None, &sums(fixture).await, cutoffs()).map_or(0, |drift| drift.events);
        fixture.tamper(edit).await;
        let after = compare_views(None, &sums(fixture).await, cutoffs()).map_or(0, |drift| drift.events);
        assert!(after > before, "{edit}");
    }
    rebuild(fixture, Some("g"), "h").await;
    assert_eq!(compare_views(None, &sums(fixture).await, cutoffs()), None, "a rebuild repairs them");
}

pub async fn views_of_an_earlier_version_are_rebuilt_before_they_are_compared(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, vec![event(1, "a", THEN), event(2, "", THEN)]).await;
    fixture.tamper("UPDATE rollups SET attributed = 0").await;
    rebuild(fixture, None, "g").await;
    let rebuilt = sums(fixture).await;
    assert_eq!((rebuilt.complete, rebuilt.committed), (true, [(Day::of(THEN), 1)].into()));
    fixture.tamper("UPDATE source_segments SET events = 0, digest = 0 WHERE family = 1").await;
    assert!(!sums(fixture).await.complete);
    rebuild(fixture, Some("g"), "h").await;
    assert!(sums(fixture).await.complete);
}
