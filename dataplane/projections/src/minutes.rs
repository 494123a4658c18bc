//! Publishes a summary of each closed minute. The clock decides when a minute is closed, so an empty minute is published too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::error::CountError;
use ping_core::{Millis, Minute};
use ping_ports::{MinuteSummary, MinuteTopic, SourceReader, chain};

/// How long after its end a minute is checked: at once, and again for events that had not reached the views.
const CHECKS: [Millis; 5] = [0, 1_000, 3_000, 10_000, 60_000];
/// How many of the latest closed minutes are checked.
const CHECKED: i64 = 2;
/// Milliseconds in a minute.
const MINUTE: Millis = 60_000;
/// Pause after an error.
const RETRY: Duration = Duration::from_secs(5);

/// Publishes a summary of each closed minute, and publishes it again when late events change it within a minute.
pub struct MinutePublisher {
    reader: Arc<dyn SourceReader>,
    topic: Arc<dyn MinuteTopic>,
    published: Mutex<BTreeMap<Minute, Published>>,
}

/// What was published of a minute, after how many checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Published {
    checks: usize,
    summary: Option<MinuteSummary>,
}

/// The minutes to check at the time `now`, each with the number of checks it will have had by then.
fn due(published: &BTreeMap<Minute, Published>, now: Millis) -> Vec<(Minute, usize)> {
    let current = Minute::of(now);
    let checks = |minute: Minute| {
        let age = now - (minute.0 + 1) * MINUTE;
        CHECKS.iter().filter(|after| age >= **after).count()
    };
    let minutes = (current.back(CHECKED).0..current.0).map(Minute).map(|minute| (minute, checks(minute)));
    minutes.filter(|(minute, checks)| *checks > published.get(minute).map_or(0, |done| done.checks)).collect()
}

impl MinutePublisher {
    /// Publishes to `topic` what `reader` knows.
    #[must_use]
    pub fn new(reader: Arc<dyn SourceReader>, topic: Arc<dyn MinuteTopic>) -> Self {
        Self { reader, topic, published: Mutex::default() }
    }

    /// Publishes what changed in the closed minutes that are due. A failure is logged and followed by a pause; counting
    /// continues, and the minutes are published later.
    pub(super) async fn publish_closed(&self, now: Millis) {
        if let Err(error) = self.publish_due(now).await {
            tracing::warn!(error = chain(&error), "closed minutes not published; retrying");
            sleep(RETRY).await;
        }
    }

    async fn publish_due(&self, now: Millis) -> Result<(), CountError> {
        let due = due(&self.published.lock(), now);
        let Some(((first, _), (last, _))) = due.first().zip(due.last()) else { return Ok(()) };
        let counts = self.reader.all_minutes(*first, Minute(last.0 + 1)).await?;
        let uniques = self.reader.uniques(*first, Minute(last.0 + 1)).await?;
        let of = |counts: &BTreeMap<Minute, i64>, minute| counts.get(&minute).copied().unwrap_or(0);
        let summary = |minute| MinuteSummary { minute, count: of(&counts, minute), unique: of(&uniques, minute) };
        let before = |minute| self.published.lock().get(&minute).and_then(|done: &Published| done.summary);
        let checked: Vec<_> = due.iter().map(|(minute, checks)| (summary(*minute), *checks)).collect();
        let changed: Vec<_> =
            checked.iter().map(|(summary, _)| *summary).filter(|new| before(new.minute) != Some(*new)).collect();
        if !changed.is_empty() {
            self.topic.publish(&changed).await?;
        }
        let mut published = self.published.lock();
        for (summary, checks) in checked {
            published.insert(summary.minute, Published { checks, summary: Some(summary) });
        }
        published.retain(|minute, _| *minute >= Minute::of(now).back(CHECKED));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_checked_when_it_closes_and_a_few_times_more() {
        let end = 100 * MINUTE;
        let minutes = |published: &BTreeMap<Minute, Published>, now| due(published, now);
        let mut published = BTreeMap::new();
        assert_eq!(minutes(&published, end), [(Minute(98), 5), (Minute(99), 1)]);
        published.insert(Minute(98), Published { checks: 5, summary: None });
        published.insert(Minute(99), Published { checks: 1, summary: None });
        assert_eq!(minutes(&published, end + 999), []);
        assert_eq!(minutes(&published, end + 1_000), [(Minute(99), 2)]);
        published.insert(Minute(99), Published { checks: 2, summary: None });
        assert_eq!(minutes(&published, end + 59_999), [(Minute(99), 4)]);
        assert_eq!(minutes(&published, end + MINUTE), [(Minute(99), 5), (Minute(100), 1)]);
    }
}
