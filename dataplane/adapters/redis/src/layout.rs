//! Keys and fields of the cache. Operators may read `ping:counters` with `HGETALL`; the other keys are internal.

use std::collections::BTreeMap;

use ping_core::{Marks, Millis, Minute, Offset, Partition, Positions, Seq, WriterId};
use ping_ports::CacheSnapshot;

/// Hash: `total`, `minute:<minute since the epoch>`. Nothing else.
pub(super) const COUNTERS: &str = "ping:counters";
/// Hash: `generation`, `incomplete` while a change is being made, `offset:<partition>`, `mark:<writer>` on every partition,
/// `mark:<writer>:<partition>`.
pub(super) const POSITIONS: &str = "ping:positions";
/// Hash: `as_of:<partition>`, `partitions` (how many the topic has), `minutes_from` (every minute from it on is complete), `suspect`,
/// `last_audit`.
pub(super) const WATERMARK: &str = "ping:watermark";
/// Sorted set: minutes, scored by the later of the minute itself and its last change.
pub(super) const TOUCHED: &str = "ping:touched";
/// All keys, in the order in which the scripts expect them.
pub(super) const KEYS: [&str; 4] = [COUNTERS, POSITIONS, WATERMARK, TOUCHED];

pub(super) const GENERATION: &str = "generation";
/// A change has begun and did not end: the cache counts as empty. See `apply.lua`.
pub(super) const INCOMPLETE: &str = "incomplete";
pub(super) const TOTAL: &str = "total";
pub(super) const SUSPECT: &str = "suspect";
pub(super) const LAST_AUDIT: &str = "last_audit";
const MINUTES_FROM: &str = "minutes_from";
const PARTITIONS: &str = "partitions";

/// The fields and values of a hash.
pub(super) type Fields = Vec<(String, String)>;

pub(super) fn offset(partition: Partition) -> String {
    format!("offset:{partition}")
}

pub(super) fn base(writer: WriterId) -> String {
    format!("mark:{writer}")
}

pub(super) fn mark(writer: WriterId, partition: Partition) -> String {
    format!("mark:{writer}:{partition}")
}

pub(super) fn minute(minute: Minute) -> String {
    format!("minute:{}", minute.0)
}

/// The writer and, unless it is the base, the partition of a mark in `ping:positions`; `None` for other fields.
pub(super) fn mark_of(field: &str) -> Option<(WriterId, Option<Partition>)> {
    let name = field.strip_prefix("mark:")?;
    match name.split_once(':') {
        Some((writer, partition)) => Some((WriterId(writer.parse().ok()?), Some(partition.parse().ok()?))),
        None => Some((WriterId(name.parse().ok()?), None)),
    }
}

/// The content of every key but for the generation, in the order of [`KEYS`]; the last one as score and member.
pub(super) fn contents(snapshot: &CacheSnapshot) -> [Fields; 4] {
    let counters = snapshot.minutes.iter().map(|(time, count)| (minute(*time), count.to_string()));
    let counters = std::iter::once((TOTAL.to_owned(), snapshot.total.to_string())).chain(counters);

    let Positions { generation: _, offsets, marks } = &snapshot.positions;
    let mut positions: Fields =
        offsets.iter().map(|(partition, next)| (offset(*partition), next.to_string())).collect();
    for (writer, mark_of_writer) in &marks.0 {
        positions.push((base(*writer), mark_of_writer.base.to_string()));
        positions.extend(
            mark_of_writer.partitions.iter().map(|(partition, seq)| (mark(*writer, *partition), seq.to_string())),
        );
    }

    let watermark = offsets.keys().map(|partition| (format!("as_of:{partition}"), snapshot.as_of.to_string()));
    let about_all = [
        (PARTITIONS.to_owned(), offsets.len().to_string()),
        (MINUTES_FROM.to_owned(), snapshot.minutes_from.0.to_string()),
    ];
    let watermark = about_all.into_iter().chain(watermark);

    let touched = snapshot.minutes.keys().map(|at| (snapshot.now.max(*at).0.to_string(), at.0.to_string()));
    [counters.collect(), positions, watermark.collect(), touched.collect()]
}

/// Reads `ping:positions`; `None` when it has no generation, or is incomplete.
pub(super) fn positions(fields: &Fields) -> Option<Positions> {
    let mut generation = None;
    let (mut offsets, mut marks): (BTreeMap<Partition, Offset>, _) = (BTreeMap::new(), Marks::default());
    for (field, value) in fields {
        if field == INCOMPLETE {
            return None;
        } else if field == GENERATION {
            generation = Some(value.clone());
        } else if let Some(partition) = field.strip_prefix("offset:").and_then(|name| name.parse().ok()) {
            offsets.insert(partition, value.parse().ok()?);
        } else if let Some((writer, partition)) = mark_of(field) {
            let mark = marks.0.entry(writer).or_default();
            let seq: Seq = value.parse().ok()?;
            match partition {
                Some(partition) => _ = mark.partitions.insert(partition, seq),
                None => mark.base = seq,
            }
        }
    }
    Some(Positions { generation: generation?, offsets, marks })
}

/// Reads the total of `ping:counters`.
pub(super) fn total(fields: &Fields) -> Option<i64> {
    value(fields, TOTAL)?.parse().ok()
}

/// Reads the minutes of `ping:counters`.
pub(super) fn minutes(fields: &Fields) -> BTreeMap<Minute, i64> {
    let minute = |(field, count): &(String, String)| {
        Some((Minute(field.strip_prefix("minute:")?.parse().ok()?), count.parse().ok()?))
    };
    fields.iter().filter_map(minute).collect()
}

/// The value of the field `name`.
pub(super) fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
}

/// The first minute in `ping:watermark` from which on all are complete.
pub(super) fn minutes_from(watermark: &Fields) -> Option<Minute> {
    value(watermark, MINUTES_FROM)?.parse().ok().map(Minute)
}

/// The watermark in `ping:watermark`: every event acknowledged before this time is counted, on every partition.
pub(super) fn as_of(fields: &Fields) -> Millis {
    let times = fields.iter().filter(|(field, _)| field.starts_with("as_of:"));
    times.map(|(_, at)| at.parse().unwrap_or(0)).min().unwrap_or(0)
}
