//! Output formats and tables.

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};

/// Maximum width of text output, in columns.
pub(crate) const WIDTH: u16 = 100;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable text.
    Text,
    /// One JSON object; with `--watch`, one per line.
    Json,
}

/// A table of at most `WIDTH` columns. Long cells are wrapped.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header).add_rows(rows);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
}

/// Text that another program wrote, with control characters escaped: a terminal must not obey them.
pub(crate) fn printable(text: &str) -> String {
    let escaped = |char: char| if char.is_control() { char.escape_debug().to_string() } else { char.to_string() };
    text.chars().map(escaped).collect()
}

/// A duration in one unit: `7s`, `3m`, `2h` or `5d`.
pub(crate) fn age(seconds: i64) -> String {
    match seconds {
        i64::MIN..=119 => format!("{}s", seconds.max(0)),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
