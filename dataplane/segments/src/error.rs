//! Why bytes are not a segment.

/// The version of the format.
pub(crate) const VERSION: u8 = 1;

/// Why bytes are not a segment.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Written by a later version.
    #[error(
        "the segment has format {0}, and this version knows format {VERSION}; run the version that wrote it, or rebuild the views"
    )]
    Version(u8),
    /// It ends too early.
    #[error("the segment is truncated; rebuild the views")]
    Truncated,
    /// A number in it is out of range.
    #[error("the segment has a number that is out of range; rebuild the views")]
    TooLarge,
    /// A name in it is not UTF-8.
    #[error("the segment has a name that is not UTF-8; rebuild the views")]
    Name,
    /// It cannot be compressed or decompressed.
    #[error("the segment cannot be compressed or decompressed; rebuild the views")]
    Compression(#[from] std::io::Error),
}
