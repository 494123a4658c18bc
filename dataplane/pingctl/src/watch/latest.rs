//! The latest values of a stream, and how they are shown.

use std::collections::BTreeMap;

use ping_proto::{ComponentState, PingCountResponse, SourceCount, WatchResponse};

use crate::{
    output::{self, grouped},
    time::Millis,
};

const MINUTE_MS: Millis = 60_000;
/// Number of minutes of the chart.
const MINUTES: i64 = 60;
/// From few events to many.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The latest values of a stream.
#[derive(Default)]
pub(super) struct Latest {
    count: PingCountResponse,
    /// Events by the start of their minute.
    minutes: BTreeMap<Millis, i64>,
    top_sources: Vec<SourceCount>,
    database: Option<ComponentState>,
    cache: Option<ComponentState>,
}

impl Latest {
    /// Adds what has changed.
    pub(super) fn apply(&mut self, message: &WatchResponse) {
        if let Some(count) = message.count.as_option() {
            self.count = count.clone();
        }
        self.minutes.extend(message.minutes.iter().map(|minute| (minute.start_ms, minute.count)));
        if let Some((last, _)) = self.minutes.last_key_value() {
            self.minutes = self.minutes.split_off(&(last - (MINUTES - 1) * MINUTE_MS));
        }
        if let Some(ranking) = message.top_sources.as_option() {
            self.top_sources.clone_from(&ranking.sources);
        }
        self.database = message.database.as_known();
        self.cache = message.cache.as_known();
    }

    /// The newest count.
    pub(super) fn count(&self) -> &PingCountResponse {
        &self.count
    }

    /// One line, for pipes.
    pub(super) fn line(&self, rate: Option<f64>) -> String {
        let exact = if self.count.exact { "" } else { "  approximate" };
        let (events, lag) = (output::events(self.count.ping_count), grouped(self.count.lag_ms));
        format!("{}  {events}  {}/s  lag {lag} ms{exact}", output::time(self.count.as_of_ms), rate_text(rate))
    }

    /// The lines of a terminal of this width.
    pub(super) fn lines(&self, rate: Option<f64>, width: usize) -> Vec<String> {
        let mut lines = vec![self.line(rate), self.health()];
        let chart = self.chart(width);
        if !chart.is_empty() {
            let peak = self.minutes.values().max().copied().unwrap_or_default();
            lines.push(String::new());
            lines.push(format!("last hour, at most {} in a minute", grouped(peak)));
            lines.push(chart);
        }
        if !self.top_sources.is_empty() {
            lines.push(String::new());
            lines.push("top sources".to_owned());
            let width = self.top_sources.iter().map(|source| grouped(source.count).len()).max().unwrap_or_default();
            let row = |source: &SourceCount| format!("  {:>width$}  {}", grouped(source.count), source.source);
            lines.extend(self.top_sources.iter().map(row));
        }
        lines
    }

    fn health(&self) -> String {
        let audit = self.count.last_audit_ms.map_or_else(
            || "not audited yet".to_owned(),
            |at| format!("audited {} s ago", grouped((self.count.as_of_ms + self.count.lag_ms - at).max(0) / 1000)),
        );
        let views = if self.count.views_differ { "  views per source differ" } else { "" };
        format!(
            "database {}  cache {}  {audit}{views}",
            output::component(self.database),
            output::component(self.cache)
        )
    }

    /// One character per minute, up to the newest; at most `width` of them.
    fn chart(&self, width: usize) -> String {
        let (Some((last, _)), Some(peak)) = (self.minutes.last_key_value(), self.minutes.values().max()) else {
            return String::new();
        };
        let starts = (0..MINUTES).take(width).map(|age| last - age * MINUTE_MS);
        let bar = |start: Millis| match self.minutes.get(&start) {
            None | Some(0) => ' ',
            // The peak is at least the count, so the index is below the length.
            Some(count) => BARS[usize::try_from((count.saturating_mul(8) - 1) / peak).unwrap_or_default().min(7)],
        };
        let newest_first: Vec<_> = starts.map(bar).collect();
        newest_first.into_iter().rev().collect()
    }
}

fn rate_text(rate: Option<f64>) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a rate fits into an integer")]
    rate.map_or_else(|| "-".to_owned(), |rate| grouped(rate.round() as i64))
}

#[cfg(test)]
mod tests {
    use ping_proto::{MinuteCount, TopSourcesResponse};

    use super::*;

    fn message(minutes: &[(i64, i64)]) -> WatchResponse {
        let minutes = minutes.iter().map(|(minute, count)| MinuteCount { start_ms: minute * MINUTE_MS, count: *count });
        WatchResponse { minutes: minutes.collect(), ..WatchResponse::default() }
    }

    #[test]
    fn the_chart_has_the_last_hour_and_corrections() {
        let mut latest = Latest::default();
        assert_eq!(latest.chart(80), "");
        latest.apply(&message(&[(100, 8), (102, 1)]));
        assert_eq!(latest.chart(80).trim_start(), "█ ▁");
        latest.apply(&message(&[(102, 4), (103, 0)]));
        assert_eq!(latest.chart(80).trim_start(), "█ ▄ ");
        latest.apply(&message(&[(170, 2)]));
        assert_eq!(latest.chart(10).chars().count(), 10, "the newest");
        assert_eq!((latest.chart(80).chars().count(), latest.chart(80).trim_start()), (60, "█"));
        let many: Vec<_> = (200..400).map(|minute| (minute, 1)).collect();
        latest.apply(&message(&many));
        assert_eq!(latest.minutes.len(), 60);
    }

    #[test]
    fn what_a_message_leaves_out_stays() {
        let mut latest = Latest::default();
        let sources = vec![SourceCount { source: "example.com".into(), count: 7 }];
        let ranking = TopSourcesResponse { sources, ..TopSourcesResponse::default() };
        latest.apply(&WatchResponse { top_sources: ranking.into(), ..WatchResponse::default() });
        latest.apply(&message(&[(1, 1)]));
        let lines = latest.lines(None, 80).join("\n");
        assert!(lines.contains("7  example.com") && lines.contains("0 events  -/s"), "{lines}");
    }
}
