//! How answers are written.

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write},
};

use crate::when::Millis;
use clap::ValueEnum;
use jiff::Timestamp;

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one object, for `watch` one a line; errors as {"error":{"code","message"}} on stderr.
    Json,
}

impl Format {
    /// What a command line that can't be parsed asks for.
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

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 ping", "2 pings".
pub(crate) fn pings(number: i64) -> String {
    format!("{} {}", grouped(number), if number == 1 { "ping" } else { "pings" })
}

/// A time as RFC 3339.
pub(crate) fn time(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| format!("{at} ms"), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 1_234_567, -1000].map(|number: i64| grouped(number));
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "-1,000"]);
        assert_eq!([pings(1), pings(1000)], ["1 ping", "1,000 pings"]);
    }

    #[test]
    fn a_time_always_has_milliseconds() {
        assert_eq!(time(1_728_926_331_000), "2024-10-14T17:18:51.000Z");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
    }

    #[test]
    fn json_is_asked_for_in_several_ways() {
        let guess = |line: &str| Format::guess(line.split(' ').map(OsString::from));
        assert!(["x -o json", "x --output=json", "x --json"].iter().all(|line| guess(line) == Format::Json));
        assert_eq!(guess("x -o text json"), Format::Text);
    }
}
