//! What is true in these tests: on each partition, a writer of its own published one event per offset. Everything else follows from
//! the offsets.

use std::collections::{BTreeMap, BTreeSet};

use ping_core::{Generation, Mark, Marks, Millis, Minute, Offset, Partition, Positions, Token, WriterId};
use ping_ports::{Advance, CacheSnapshot, CounterCache, Flush};

use crate::fixture::{NOW, map};

const PARTITIONS: [Partition; 2] = [0, 1];
/// Where the log ends when a cache is rebuilt.
const END: Offset = 20;
const WINDOW: i64 = 60;
/// Writers whose marks need more arguments than a script passes to one call.
pub(crate) const MANY: i64 = 600;
/// The first of them.
const FIRST_OF_MANY: i64 = 100;

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: the store answers.
    Nothing,
    /// A cache that it does not use.
    Suspect,
    /// The count that belongs to the positions.
    Exact,
}

fn writer(partition: Partition) -> WriterId {
    WriterId(i64::from(partition) + 1)
}

fn minute_of(partition: Partition, offset: Offset) -> Minute {
    NOW.back((offset + i64::from(partition)) % 3)
}

/// When the event at `offset` of any partition was acknowledged.
fn acknowledged_at(offset: Offset) -> Millis {
    1_000 + 10 * offset
}

fn events(from: &BTreeMap<Partition, Offset>, to: &BTreeMap<Partition, Offset>) -> BTreeMap<Minute, i64> {
    let mut minutes = BTreeMap::new();
    for (partition, end) in to {
        for offset in from.get(partition).copied().unwrap_or(0)..*end {
            *minutes.entry(minute_of(*partition, offset)).or_insert(0) += 1;
        }
    }
    minutes
}

fn watermark(offsets: &BTreeMap<Partition, Offset>) -> Millis {
    acknowledged_at(PARTITIONS.iter().map(|partition| offsets.get(partition).copied().unwrap_or(0)).min().unwrap())
}

/// The next events after `known`.
pub(crate) fn flush_after(known: &Positions, counts: &[(Partition, i64)], with_watermark: bool, now: Minute) -> Flush {
    let at = |partition| known.offsets.get(&partition).copied().unwrap_or(0);
    let counts: BTreeMap<_, _> = map(counts.iter().copied());
    let read = PARTITIONS.into_iter().filter(|partition| with_watermark || counts.contains_key(partition));
    let from: BTreeMap<_, _> = map(read.map(|partition| (partition, at(partition))));
    let end = |partition: &Partition| at(*partition) + counts.get(partition).copied().unwrap_or(0);
    let to: BTreeMap<_, _> = map(from.keys().map(|partition| (*partition, end(partition))));
    let minutes = events(&from, &to);
    Flush {
        advance: Advance {
            generation: known.generation.clone(),
            marks: map(counts.keys().map(|partition| ((writer(*partition), *partition), to[partition]))),
            as_of: with_watermark.then(|| watermark(&to)),
            partitions: if with_watermark { 2 } else { 0 },
            from,
            to,
        },
        total: minutes.values().sum(),
        minutes,
        now,
        window: WINDOW,
    }
}

/// The next event, and higher marks of many writers.
pub(crate) fn large_flush_after(known: &Positions, now: Minute) -> Flush {
    let mut flush = flush_after(known, &[(0, 1)], true, now);
    let next = known.marks.get(WriterId(FIRST_OF_MANY), 0) + 1;
    flush.advance.marks.extend((FIRST_OF_MANY..FIRST_OF_MANY + MANY).map(|writer| ((WriterId(writer), 0), next)));
    flush
}

/// Everything up to the end of the log, with the marks of `many` more writers.
pub(crate) fn snapshot_after(seen: Option<&Generation>, now: Minute, many: i64) -> CacheSnapshot {
    let offsets = map(PARTITIONS.map(|partition| (partition, END)));
    let base = |base| Mark { base, partitions: BTreeMap::new() };
    let mut marks = map(PARTITIONS.map(|partition| (writer(partition), base(END))));
    marks.extend((FIRST_OF_MANY..FIRST_OF_MANY + many).map(|writer| (WriterId(writer), base(5))));
    let minutes = events(&BTreeMap::new(), &offsets);
    CacheSnapshot {
        total: minutes.values().sum(),
        minutes: minutes.into_iter().filter(|(minute, _)| *minute > now.back(WINDOW)).collect(),
        minutes_from: Minute(now.back(WINDOW).0 + 1),
        as_of: watermark(&offsets),
        positions: Positions {
            generation: seen.map_or_else(|| "g".into(), |seen| format!("{seen}+")),
            offsets,
            marks: Marks(marks),
        },
        now,
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} instead of {expected:?}")),
    }
}

/// Reads everything in every way. What a reader would use must be true.
pub(crate) async fn check(cache: &dyn CounterCache, now: Minute) -> Result<Found, String> {
    let (start, end) = (now.back(WINDOW - 1), Minute(now.0 + 1));
    let reading = cache.read(None).await.unwrap();
    let ranges = [cache.read(Some((start, end))).await.unwrap(), cache.read(Some((now.back(500), end))).await.unwrap()];
    let (positions, counters) = (cache.positions().await.unwrap(), cache.counters().await.unwrap());
    let empty = [reading.is_none(), positions.is_none(), counters.is_none(), ranges[0].is_none(), ranges[1].is_none()];
    let token = |partition, seq| Token { writer: writer(partition), partition, seq };
    let (Some(reading), Some(positions), Some(counters)) = (reading, positions, counters) else {
        let counted = cache.have_counted(&PARTITIONS.map(|partition| token(partition, 1))).await.unwrap();
        return equal("empty", &empty, &[true; 5])
            .and_then(|()| equal("counted in an empty cache", &counted, &vec![false; 2]))
            .map(|()| Found::Nothing);
    };
    if reading.suspect {
        return Ok(Found::Suspect);
    }
    let offsets = positions.offsets.clone();
    let minutes = events(&BTreeMap::new(), &offsets);
    let total = minutes.values().sum::<i64>();
    let recent = minutes.range(start..end).map(|(_, count)| count).sum::<i64>();
    equal("total", &reading.total, &total)?;
    equal("all counters", &(counters.total, &counters.generation), &(total, &positions.generation))?;
    for minute in minutes.range(start..end) {
        equal("a minute", &counters.minutes.get(minute.0), &Some(minute.1))?;
    }
    let from = counters.minutes_from.ok_or("no minute is known to be complete")?;
    for minute in minutes.range(from..) {
        equal("a minute that the cache claims to have", &counters.minutes.get(minute.0), &Some(minute.1))?;
    }
    equal("where complete minutes begin", &reading.minutes_from, &Some(from))?;
    equal("recent minutes", &ranges[0].as_ref().map(|reading| reading.minutes_total), &Some(recent))?;
    if reading.as_of > watermark(&offsets) {
        return Err(format!("as_of is {} at {offsets:?}", reading.as_of));
    }
    let at = PARTITIONS.map(|partition| (partition, offsets.get(&partition).copied().unwrap_or(0)));
    for (partition, at) in at {
        equal("a mark", &positions.marks.get(writer(partition), partition), &at)?;
    }
    let tokens = at.map(|(partition, at)| [token(partition, at), token(partition, at + 1)]);
    let counted = cache.have_counted(tokens.as_flattened()).await.unwrap();
    equal("counted", &counted, &vec![true, false, true, false])?;
    let many = positions.marks.0.range(WriterId(FIRST_OF_MANY)..).map(|(writer, _)| positions.marks.get(*writer, 0));
    let (many, distinct): (Vec<_>, BTreeSet<_>) = (many.clone().collect(), many.collect());
    if !(many.is_empty() || many.len() == usize::try_from(MANY).unwrap() && distinct.len() == 1) {
        return Err(format!("{} writers have the marks {distinct:?}", many.len()));
    }
    Ok(Found::Exact)
}
