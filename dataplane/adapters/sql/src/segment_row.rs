//! Rows of the table of segments.

use ping_ports::StoreError;
use ping_segments::{Family, Node, Place, StoredSegment};

/// Number, family, node, period and data.
pub type SegmentRow = (i64, i16, i32, i64, Vec<u8>);

/// The place in three columns.
///
/// # Errors
/// When the family is unknown: a later version wrote it.
pub fn place(family: i16, node: i32, period: i64) -> Result<Place, StoreError> {
    let unknown =
        || StoreError(format!("source_segments has the unknown family {family}; run the version that wrote it").into());
    Ok(Place { family: Family::from_code(family).ok_or_else(unknown)?, node: Node(node), period })
}

/// The segments in `rows`.
///
/// # Errors
/// As [`place`].
pub fn stored_segments(rows: Vec<SegmentRow>) -> Result<Vec<StoredSegment>, StoreError> {
    let segment =
        |(id, family, node, period, data)| Ok(StoredSegment { id, place: place(family, node, period)?, data });
    rows.into_iter().map(segment).collect()
}
