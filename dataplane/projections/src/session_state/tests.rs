//! What a session does next, in every state it can be in.

use super::*;
use crate::counters::EventCounts;
use ping_core::{Marks, WriterId};
use ping_ports::{Bounds, LogEvent, Malformed};
use ping_segments::Changes;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> CountSettings {
    // Three records fill a delta: of the views, one has 25 bytes, and its kind 24 more.
    CountSettings { flush_records: 3, flush_bytes: 80, ..CountSettings::default() }
}

fn state<T: Sums>(primary: bool, assigned: &[Partition], now: Instant) -> SessionState<T> {
    let offsets = assigned.iter().map(|partition| (*partition, 0)).collect();
    let positions = Positions { generation: "g".into(), offsets, marks: Marks::default() };
    SessionState::new(primary, settings(), assigned.to_vec(), positions, now)
}

/// A session of the primary on partition 1 (so without audits), whose first check found an empty log.
fn primary(now: Instant) -> SessionState<EventCounts> {
    checked(state(true, &[1], now), now)
}

/// The same of a projection that is not primary.
fn secondary(now: Instant) -> SessionState<Changes> {
    checked(state(false, &[1], now), now)
}

fn checked<T: Sums>(mut state: SessionState<T>, now: Instant) -> SessionState<T> {
    state.watermark_check = Task::Never;
    assert_eq!(state.next_action(now), wait(None));
    state
}

fn wait(wake_at: Option<Instant>) -> Action {
    Action::Wait(Wait { for_records: true, for_shutdown: true, flush_when_quiet: false, wake_at })
}

fn watermark(end: Offset) -> LogWatermark {
    LogWatermark { as_of: 77, bounds: [(0, Bounds { low: 0, end: 9 }), (1, Bounds { low: 0, end })].into() }
}

fn records(offsets: std::ops::Range<Offset>, source: &str) -> Vec<Record> {
    let record = |offset| {
        let event = LogEvent {
            id: Uuid::nil(),
            writer: WriterId(1),
            seq: offset + 1,
            timestamp_ms: 0,
            source: source.into(),
            kind: "".into(),
        };
        Record { partition: 1, offset, trace: None, body: Ok(event) }
    };
    offsets.map(record).collect()
}

#[test]
fn an_idle_session_waits_for_records() {
    let now = Instant::now();
    assert_eq!(primary(now).next_action(now + 100 * SECOND), wait(None));
}

#[test]
fn the_primary_flushes_when_no_more_records_are_ready() {
    let now = Instant::now();
    let mut state = primary(now);
    state.take(records(0..1, ""), None, now);
    let wake_at = Some(now + SECOND);
    let expected = Wait { for_records: true, for_shutdown: true, flush_when_quiet: true, wake_at };
    assert_eq!(state.next_action(now), Action::Wait(expected));
}

#[test]
fn a_full_delta_is_flushed_at_once() {
    let now = Instant::now();
    let mut state = primary(now);
    state.take(records(0..2, ""), None, now);
    assert!(matches!(state.next_action(now), Action::Wait(_)));
    state.take(records(2..3, ""), None, now);
    assert_eq!(state.next_action(now), Action::Flush);
}

#[test]
fn records_that_change_nothing_do_not_fill_a_secondary() {
    let now = Instant::now();
    let mut state = secondary(now);
    state.take(records(0..5, ""), None, now);
    assert_eq!(state.next_action(now), wait(Some(now + SECOND)));
    state.take(records(5..8, "a"), None, now);
    assert_eq!(state.next_action(now), Action::Flush);
}

#[test]
fn a_secondary_flushes_an_interval_after_the_first_record() {
    let now = Instant::now();
    let mut state = secondary(now);
    state.take(records(0..1, "a"), None, now);
    state.take(records(1..2, "a"), None, now + SECOND / 2);
    assert_eq!(state.next_action(now + SECOND / 2), wait(Some(now + SECOND)));
    assert_eq!(state.next_action(now + SECOND), Action::Flush);
}

#[test]
fn one_flush_runs_at_a_time_and_a_full_delta_stops_reading() {
    let now = Instant::now();
    let mut state = primary(now);
    state.take(records(0..3, ""), None, now);
    let (advance, counts) = state.begin_flush(now);
    assert_eq!((advance.from[&1], advance.to[&1], counts.total), (0, 3, 3));
    state.take(records(3..5, ""), None, now);
    assert_eq!(state.next_action(now + 9 * SECOND), wait(None));
    state.take(records(5..6, ""), None, now);
    let expected = Wait { for_records: false, for_shutdown: true, flush_when_quiet: false, wake_at: None };
    assert_eq!(state.next_action(now), Action::Wait(expected));
    let flushed = state.flushed(now + SECOND).unwrap();
    assert_eq!(flushed, FinishedFlush { to: [(1, 3)].into(), records: 3, time: SECOND });
    assert_eq!(state.next_action(now + SECOND), Action::Flush);
}

#[test]
fn a_secondary_rests_for_as_long_as_its_flush_took_within_limits() {
    let now = Instant::now();
    let (mut first, mut second) = (primary(now), secondary(now));
    first.take(records(0..3, "a"), None, now);
    second.take(records(0..3, "a"), None, now);
    first.begin_flush(now);
    second.begin_flush(now);
    let done = now + SECOND / 10;
    first.flushed(done);
    second.flushed(done);
    first.take(records(3..6, "a"), None, done);
    second.take(records(3..6, "a"), None, done);
    assert_eq!(first.next_action(done), Action::Flush);
    let until = |wake_at| {
        Action::Wait(Wait { for_records: false, for_shutdown: true, flush_when_quiet: false, wake_at: Some(wake_at) })
    };
    assert_eq!(second.next_action(done), until(done + SECOND / 10));
    assert_eq!(second.next_action(done + SECOND / 10), Action::Flush);
    second.begin_flush(done);
    let late = done + 9 * SECOND;
    second.flushed(late);
    second.take(records(6..9, "a"), None, late);
    assert_eq!(second.next_action(late), until(late + MAX_REST));
    second.drain();
    assert_eq!(second.next_action(late), Action::Flush, "a shutdown does not wait");
}

#[test]
fn the_watermark_is_checked_at_the_start_and_at_intervals() {
    let now = Instant::now();
    let mut state: SessionState<Changes> = state(false, &[1], now);
    assert_eq!(state.next_action(now), Action::CheckWatermark);
    state.start_watermark_check();
    assert_eq!(state.next_action(now), wait(None));
    assert_eq!(state.watermark_checked(watermark(5), now + SECOND), 5);
    let next = now + SECOND + settings().watermark_interval;
    assert_eq!(state.next_action(now + SECOND), wait(Some(next)));
    assert_eq!(state.next_action(next), Action::CheckWatermark);
}

#[test]
fn a_watermark_is_flushed_once_everything_below_it_is_read() {
    let now = Instant::now();
    let mut state = secondary(now);
    state.watermark_checked(watermark(2), now);
    state.watermark_check = Task::Never;
    state.take(records(0..1, "a"), None, now);
    assert!(matches!(state.next_action(now), Action::Wait(wait) if !wait.flush_when_quiet));
    // A later watermark does not replace one that is not reached yet.
    state.watermark_checked(watermark(100), now);
    state.watermark_check = Task::Never;
    state.take(records(1..2, "a"), None, now);
    assert!(matches!(state.next_action(now), Action::Wait(wait) if wait.flush_when_quiet));
    let (advance, _) = state.begin_flush(now);
    assert_eq!((advance.as_of, advance.partitions), (Some(77), 2));
    state.flushed(now);
    assert_eq!(state.next_action(now), wait(None), "it is flushed once");
}

#[test]
fn a_watermark_pins_every_assigned_partition() {
    let now = Instant::now();
    let mut state: SessionState<EventCounts> = state(true, &[1, 2], now);
    state.watermark_checked(watermark(0), now);
    let (advance, _) = state.begin_flush(now);
    assert_eq!((advance.from, advance.to), ([(1, 0), (2, 0)].into(), [(1, 0), (2, 0)].into()));
}

#[test]
fn the_processor_with_the_first_partition_audits_at_intervals() {
    let now = Instant::now();
    let mut state: SessionState<EventCounts> = state(true, &[0, 1], now);
    state.watermark_check = Task::Never;
    let first = now + settings().audit_interval;
    assert_eq!(state.next_action(now), wait(Some(first)));
    assert_eq!(state.next_action(first), Action::Audit);
    state.start_audit();
    assert_eq!(state.next_action(first), wait(None));
    state.audited(first + SECOND);
    assert_eq!(state.next_action(first + SECOND), wait(Some(first + SECOND + settings().audit_interval)));
}

#[test]
fn a_shutdown_flushes_what_was_read_and_reads_nothing_more() {
    let now = Instant::now();
    let mut state = primary(now);
    state.take(records(0..1, ""), None, now);
    state.begin_flush(now);
    state.take(records(1..2, ""), None, now);
    state.drain();
    let expected = Wait { for_records: false, for_shutdown: false, flush_when_quiet: false, wake_at: None };
    assert_eq!(state.next_action(now), Action::Wait(expected));
    state.flushed(now);
    assert_eq!(state.next_action(now), Action::Flush);
    state.begin_flush(now);
    state.flushed(now);
    assert_eq!(state.next_action(now), Action::Finish);
}

#[test]
fn records_that_are_not_counted_are_tallied() {
    let now = Instant::now();
    let mut state = primary(now);
    let dead = Record { partition: 1, offset: 2, trace: None, body: Err((Malformed::Foreign, vec![1])) };
    let again = Record { offset: 1, ..records(0..1, "").remove(0) };
    let tally = state.take([records(0..1, ""), vec![again, dead]].concat(), None, now);
    assert_eq!(tally, Tally { duplicates: 1, dead: 1, phantoms: 0 });
    assert_eq!((state.take_dead_letters().len(), state.take_dead_letters().len()), (1, 0));
    assert_eq!(state.begin_flush(now).0.to[&1], 3);
}
