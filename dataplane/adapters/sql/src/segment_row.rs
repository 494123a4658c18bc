//! Rows of the table of segments.

use ping_ports::StoreError;
use ping_segments::{Family, Node, Place, StoredSegment};

/// Number, family, node, period and data.
pub type SegmentRow = (i64, i16, i32, i64, Vec<u8>);

/// The family with this number.
///
/// # Errors
/// When it is unknown: a later version wrote it.
pub fn family(code: i16) -> Result<Family, StoreError> {
    let unknown =
        || StoreError(format!("source_segments has the unknown family {code}; run the version that wrote it").into());
    Family::from_code(code).ok_or_else(unknown)
}

/// The place in three columns.
///
/// # Errors
/// As [`family`].
pub fn place(code: i16, node: i32, period: i64) -> Result<Place, StoreError> {
    Ok(Place { family: family(code)?, node: Node(node), period })
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
