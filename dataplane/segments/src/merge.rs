//! Merging segments: their sum takes their place, or moves down the tree when it is too large.

use std::collections::BTreeMap;

use super::{
    codec::{Encoder, decode},
    error::FormatError,
    place::{Node, Place, Segment},
    row::{Row, sum},
};

/// The number of segments at one place from which they are merged. While merging has to catch up, a reader reads up to three times as many.
pub const FAN_IN: usize = 8;
/// Rows of a segment that is split.
const MAX_ROWS: usize = 1_024;

/// The sum of the segments at `place`: one segment at the same place, or several below it if it is too large for one.
///
/// # Errors
/// When the bytes are not segments of this place.
pub fn merge<'a>(place: Place, segments: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Segment>, FormatError> {
    let decoded = segments.into_iter().map(|data| decode(place, data)).collect::<Result<Vec<_>, _>>()?;
    let mut rows: Vec<Row<'_>> = decoded.iter().flat_map(|segment| segment.rows()).collect();
    sum(&mut rows, place.family);
    let mut encoder = Encoder::new()?;
    let Some(depth) = place.node.split_depth().filter(|_| rows.len() > MAX_ROWS) else {
        return Ok(vec![encoder.encode(place, &rows)?]);
    };
    let mut split: BTreeMap<Node, Vec<Row<'_>>> = BTreeMap::new();
    for row in rows {
        split.entry(Node::of(row.source, depth)).or_default().push(row);
    }
    split.into_iter().map(|(node, rows)| encoder.encode(Place { node, ..place }, &rows)).collect()
}
