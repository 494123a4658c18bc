//! Output on stdout: formats, numbers, times and tables.

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent, presets};
use console::Term;
use indicatif::HumanCount;
use jiff::Timestamp;
use ping_proto::ComponentState;
use serde::Serialize;

use crate::time::Millis;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text: tables that fit the terminal; in pipes, columns with a tab between them.
    Text,
    /// The API's JSON (`watch`: one object per line); errors go to stderr as {"error":{"code","message"}}.
    Json,
    /// The same as YAML.
    Yaml,
    /// Only names, one per line: sources, contexts, event ids, or the times of a series.
    Name,
}

impl Format {
    /// The format that an invalid command line asks for.
    pub(crate) fn guess(args: impl Iterator<Item = OsString>) -> Self {
        let args: Vec<OsString> = args.collect();
        let alone =
            args.iter().any(|arg| ["--json", "-ojson", "-o=json", "--output=json"].iter().any(|json| arg == json));
        let paired = args.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json");
        if alone || paired { Self::Json } else { Self::Text }
    }
}

/// Writes a line to stdout.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints an object as JSON in one line, or as a YAML document.
pub(crate) fn object(format: Format, object: &impl Serialize) -> anyhow::Result<()> {
    match format {
        Format::Yaml => line(format!("---\n{}", yaml_serde::to_string(object)?.trim_end()))?,
        _ => line(serde_json::to_string(object)?)?,
    }
    Ok(())
}

/// Prints a line that only people need, such as how fresh a table is. In pipes, the table stands alone.
pub(crate) fn note(text: impl Display) -> io::Result<()> {
    if is_terminal() { line(text) } else { Ok(()) }
}

/// Whether people read the output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A number in a table: grouped for people, plain digits for programs.
pub(crate) fn number(number: i64) -> String {
    if is_terminal() { grouped(number) } else { number.to_string() }
}

/// 1234567 as 1,234,567. For unsigned numbers use `HumanCount` itself.
pub(crate) fn grouped(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", HumanCount(number.unsigned_abs()))
}

/// "1 event", "2 events".
pub(crate) fn events(number: i64) -> String {
    format!("{} {}", grouped(number), if number == 1 { "event" } else { "events" })
}

/// A time as RFC 3339.
pub(crate) fn time(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| format!("{millis} ms"), |time| format!("{time:.3}"))
}

/// Text that another program wrote, with control characters escaped: a terminal must not obey them.
pub(crate) fn printable(text: &str) -> String {
    let escaped = |char: char| if char.is_control() { char.escape_debug().to_string() } else { char.to_string() };
    text.chars().map(escaped).collect()
}

/// How fresh an answer about sources is.
pub(crate) fn freshness(as_of_ms: Millis, lag_ms: Millis) -> String {
    if as_of_ms == 0 {
        return "no processor has reported yet".to_owned();
    }
    format!("exact as of {} (lag {} ms)", time(as_of_ms), grouped(lag_ms))
}

/// Prints a table with a header; the columns of `numbers` are aligned to the right.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, numbers: &[usize]) -> io::Result<()> {
    if !is_terminal() {
        return line(tab_separated(header, rows));
    }
    let width = Term::stdout().size_checked().map(|(_, width)| width);
    line(ruled(header, rows, numbers, width))
}

/// Columns with a tab between them. No cell has one: sources and kinds have no control characters.
fn tab_separated(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows = rows.into_iter().map(|row| row.join("\t"));
    std::iter::once(header.join("\t")).chain(rows).collect::<Vec<_>>().join("\n")
}

/// The state of a component.
pub(crate) fn component(state: Option<ComponentState>) -> &'static str {
    match state {
        Some(ComponentState::Available) => "available",
        Some(ComponentState::Unavailable) => "unavailable",
        Some(ComponentState::Rebuilding) => "rebuilding",
        _ => "unknown",
    }
}

/// A table that is at most `width` characters wide.
fn ruled(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, numbers: &[usize], width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.add_rows(rows);
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 1_234_567, -1000].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "-1,000"]);
        assert_eq!([events(1), events(1000)], ["1 event", "1,000 events"]);
    }

    #[test]
    fn a_time_always_has_milliseconds() {
        assert_eq!(time(1_728_926_331_000), "2024-10-14T17:18:51.000Z");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
    }

    #[test]
    fn a_table_fits_the_terminal_and_is_plain_in_a_pipe() {
        let rows = || [vec!["a-source-with-a-long-name.example.com".to_owned(), "1,234".to_owned()]];
        for width in [20, 30, 80] {
            let text = ruled(&["source", "events"], rows(), &[1], Some(width)).to_string();
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
            assert!(text.contains("1,234"), "{text}");
        }
        let plain = tab_separated(&["source", "events"], rows());
        assert_eq!(plain, "source\tevents\na-source-with-a-long-name.example.com\t1,234");
    }

    #[test]
    fn json_is_asked_for_in_several_ways() {
        let guess = |line: &str| Format::guess(line.split(' ').map(OsString::from));
        assert!(["x -o json", "x --output=json", "x --json"].iter().all(|line| guess(line) == Format::Json));
        assert_eq!(guess("x -o text json"), Format::Text);
    }
}
