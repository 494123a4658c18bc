//! Reading dead letters, for people who decide what to do about them.

use async_trait::async_trait;

use super::log::{LogError, LogEvent};
use ping_core::{Millis, Offset, Partition};

/// A dead letter, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// When it was stored, in milliseconds since the Unix epoch; none if that was not noted.
    pub sent: Option<Millis>,
    /// Why it is not counted.
    pub reason: String,
    /// Where it was read: topic, partition and offset.
    pub place: String,
    /// Its event, or its value if that is not an event of a server.
    pub content: Result<LogEvent, Vec<u8>>,
}

/// A position in the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterPosition {
    /// The partition of the dead-letter topic.
    pub partition: Partition,
    /// The offset in it.
    pub offset: Offset,
}

/// Which dead letters to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterQuery {
    /// Only those whose reason contains this text, in upper or lower case.
    pub reason: String,
    /// Only those stored at or after this time.
    pub since: Option<Millis>,
    /// At most this many, and at least one.
    pub limit: usize,
    /// Those from here on; `None`: all.
    pub from: Option<LetterPosition>,
}

impl LetterQuery {
    /// Whether `letter` is one of them, wherever it is stored. One without a time always is.
    #[must_use]
    pub fn matches(&self, letter: &StoredLetter) -> bool {
        let is_late = self.since.zip(letter.sent).is_none_or(|(since, sent)| sent >= since);
        is_late && letter.reason.to_lowercase().contains(&self.reason.to_lowercase())
    }
}

/// Some of the dead letters, oldest first in each partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// The dead letters; possibly none.
    pub letters: Vec<StoredLetter>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<LetterPosition>,
}

/// Reads the dead letters.
#[async_trait]
pub trait DeadLetterReader: Send + Sync {
    /// A page of those that match `query`. Its size and its duration are bounded.
    async fn page(&self, query: LetterQuery) -> Result<LetterPage, LogError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_selects_by_reason_and_time() {
        let letter = |sent, reason: &str| StoredLetter {
            sent,
            reason: reason.into(),
            place: "pings/0/9".into(),
            content: Err(Vec::new()),
        };
        let query = |reason: &str, since| LetterQuery { reason: reason.into(), since, limit: 1, from: None };
        assert!(query("", None).matches(&letter(Some(5), "It was restored")));
        assert!(query("it WAS", Some(5)).matches(&letter(Some(5), "It was restored")));
        assert!(!query("it was", Some(6)).matches(&letter(Some(5), "It was restored")));
        assert!(!query("published", None).matches(&letter(Some(5), "It was restored")));
        assert!(query("", Some(6)).matches(&letter(None, "")));
    }
}
