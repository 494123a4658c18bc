use ping_core::{Retention, SourceCounts};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{FAN_IN, Ranking, StoredSegment, counts, kinds_of, merge, slices, windows_of};

const NOW: Millis = 1_728_926_331_000;
const HOUR: Millis = 3_600_000;

fn cutoffs() -> RetentionCutoffs {
    Retention { windows: 2, days: Some(3) }.at(NOW)
}

/// `counts` without anything that is too old to be kept.
fn kept(mut counts: SourceCounts) -> SourceCounts {
    let cutoffs = cutoffs();
    counts.windows.retain(|(_, window), _| window.day() >= cutoffs.windows);
    counts.days.retain(|(_, day), _| *day >= cutoffs.days);
    counts.minutes.retain(|(minute, _)| cutoffs.minutes.is_some_and(|first| *minute >= first));
    counts
}

/// The segments of a store, by number.
#[derive(Default)]
struct Stored(Vec<StoredSegment>, i64);

impl Stored {
    fn add(&mut self, segments: impl IntoIterator<Item = Segment>) {
        for Segment { place, data, .. } in segments {
            self.1 += 1;
            self.0.push(StoredSegment { id: self.1, place, data });
        }
    }

    /// Merges every place that has `fan_in` segments, until there is none. Returns the number of merges.
    fn merge(&mut self, fan_in: usize) -> usize {
        let mut merges = 0;
        loop {
            let mut places: BTreeMap<Place, Vec<StoredSegment>> = BTreeMap::new();
            for segment in &self.0 {
                places.entry(segment.place).or_default().push(segment.clone());
            }
            let Some((place, full)) = places.into_iter().find(|(_, segments)| segments.len() >= fan_in) else {
                return merges;
            };
            let sum = merge(place, full.iter().map(|segment| segment.data.as_slice())).unwrap();
            self.0.retain(|segment| segment.place != place);
            self.add(sum);
            merges += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn checkpoints_and_merges_add_up(
        events in vec((0u32..40, 0usize..4, 0i64..100), 1..400),
        per_checkpoint in 1usize..60,
        fan_in in 2usize..9,
    ) {
        let (mut stored, mut oracle) = (Stored::default(), SourceCounts::default());
        for checkpoint in events.chunks(per_checkpoint) {
            let mut changes = Changes::default();
            for (source, kind, hours) in checkpoint {
                let (source, kind) = (format!("söurce-{source}"), ["", "failed", "grün", "~revoked:failed:3"][*kind]);
                let at = NOW - hours * HOUR + i64::from(source.len() as u32) * 7;
                prop_assert!(changes.add(&source, kind, at));
                oracle.add(&source, kind, at);
            }
            stored.add(changes.segments(cutoffs()).map(Result::unwrap));
            stored.merge(fan_in);
        }
        prop_assert_eq!(counts(&stored.0).unwrap(), kept(oracle));
    }
}

#[test]
fn many_sources_are_split_and_a_reader_finds_each_of_them_in_a_few_segments() {
    let (mut stored, mut oracle) = (Stored::default(), SourceCounts::default());
    for checkpoint in 0..30 {
        let mut changes = Changes::default();
        for number in 0..2_000 {
            let source = format!("source-{}", (number * 7 + checkpoint * 911) % 9_000);
            let at = NOW - checkpoint * 60_000 - number;
            changes.add(&source, "delivered", at);
            oracle.add(&source, "delivered", at);
        }
        stored.add(changes.segments(cutoffs()).map(Result::unwrap));
        stored.merge(FAN_IN);
    }
    assert_eq!(counts(&stored.0).unwrap(), kept(oracle.clone()));
    let deepest = stored.0.iter().map(|segment| segment.place.node).max().unwrap();
    assert!((4..=9).contains(&deepest.depth()), "{deepest:?}");
    for number in [0, 1, 77, 8_999] {
        let source = format!("source-{number}");
        let query = crate::SegmentQuery::kinds([source.as_str()]);
        let read: Vec<_> = stored.0.iter().filter(|segment| query.contains(segment.place)).cloned().collect();
        assert!(read.len() < 4 * FAN_IN, "{}", read.len());
        let expected = oracle.kinds[&(source.as_str().into(), "delivered".into())];
        assert_eq!(kinds_of(&source, &read).unwrap(), [("delivered".into(), expected)].into());
        let query = crate::SegmentQuery::windows(&source, Day(0), Day(i64::MAX));
        let read: Vec<_> = stored.0.iter().filter(|segment| query.contains(segment.place)).cloned().collect();
        let windows = windows_of(&source, &read).unwrap();
        assert_eq!(windows.values().map(|span| span.count).sum::<i64>(), expected.count);
    }
    ranks_the_same_in_slices(&stored.0, &oracle);
}

fn ranks_the_same_in_slices(stored: &[StoredSegment], oracle: &SourceCounts) {
    let mut expected: Vec<_> =
        oracle.kinds.iter().map(|((source, _), span)| (source.to_string(), span.count)).collect();
    expected.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    expected.truncate(25);
    for deepest in [Node::ROOT, Node(1 << 11)] {
        let mut ranking = Ranking::new(25);
        for slice in slices(deepest) {
            let query = crate::SegmentQuery::all_kinds(slice);
            let read: Vec<_> = stored.iter().filter(|segment| query.contains(segment.place)).cloned().collect();
            ranking.add(slice, &[], &read).unwrap();
        }
        assert_eq!(ranking.finish(), expected, "{deepest:?}");
    }
}

#[test]
fn bytes_that_are_not_a_segment_are_refused_in_words() {
    let mut changes = Changes::default();
    changes.add("a", "", NOW);
    let segment = changes.segments(cutoffs()).next().unwrap().unwrap();
    let later = [&[9], &segment.data[1..]].concat();
    for (data, word) in [(&later[..], "format 9"), (&segment.data[..5], "decompressed"), (&[], "truncated")] {
        let refused = merge(segment.place, [data]).unwrap_err().to_string();
        assert!(refused.contains(word) && refused.contains("rebuild"), "{refused}");
    }
}

#[test]
fn the_memory_of_changes_is_known() {
    let mut changes = Changes::default();
    assert!(!changes.add("", "opened", NOW) && changes.bytes() == 0);
    for number in 0..1_000 {
        assert!(changes.add(&format!("source-{number}.example"), "opened", NOW));
    }
    assert!((40_000..70_000).contains(&changes.bytes()), "{}", changes.bytes());
}

#[test]
fn events_are_listed_by_source_and_kind() {
    let mut changes = Changes::default();
    for (source, kind) in [("a", "failed"), ("b", ""), ("c", "failed"), ("a", "failed"), ("a", "")] {
        changes.add(source, kind, NOW);
    }
    let kinds = changes.kinds();
    let mut events: Vec<_> = changes.events().map(|(source, kind)| (source, kinds[kind])).collect();
    events.sort_unstable();
    assert_eq!(events, [("a", ""), ("a", "failed"), ("a", "failed"), ("b", ""), ("c", "failed")]);
}
