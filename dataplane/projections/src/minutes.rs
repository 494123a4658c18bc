//! Publishes a summary of each closed minute. The clock decides when a minute is closed, so an empty minute is published too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::error::CountError;
use ping_core::{Millis, Minute};
use ping_ports::{MinuteSummary, MinuteTopic, SourceReader, chain};

/// How far the views must be past the end of a minute when it is checked again, for events that had not reached them. It is checked for the
/// first time when it ends.
const CHECKS: [Millis; 4] = [1_000, 3_000, 10_000, 60_000];
/// How many of the latest closed minutes are checked: as many as unique sources are kept for, but for a few that may be deleted meanwhile.
const CHECKED: i64 = 55;
/// Minutes that are checked at once. Their unique sources are read together.
const AT_ONCE: i64 = 3;
/// Milliseconds in a minute.
const MINUTE: Millis = 60_000;
/// Pause after an error.
const RETRY: Duration = Duration::from_secs(5);

/// Publishes a summary of each closed minute, and publishes it again when late events change it within a minute, or when the views had not
/// read all of its events yet. It begins with the last hour, whether or not another processor has published that.
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

/// The minutes to check at the time `now`, each with the number of checks it will have had by then: the latest ones that are due, at most
/// [`AT_ONCE`] minutes apart. Every event acknowledged before `as_of` is in the views.
fn due(published: &BTreeMap<Minute, Published>, now: Millis, as_of: Millis) -> Vec<(Minute, usize)> {
    let current = Minute::of(now);
    let checks = |minute: Minute| {
        let past_its_end = as_of.min(now) - (minute.0 + 1) * MINUTE;
        1 + CHECKS.iter().filter(|after| past_its_end >= **after).count()
    };
    let minutes = (current.back(CHECKED).0..current.0).map(Minute).map(|minute| (minute, checks(minute)));
    let mut due: Vec<_> =
        minutes.filter(|(minute, checks)| *checks > published.get(minute).map_or(0, |done| done.checks)).collect();
    if let Some((last, _)) = due.last().copied() {
        due.retain(|(minute, _)| *minute > last.back(AT_ONCE));
    }
    due
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
        if due(&self.published.lock(), now, now).is_empty() {
            return Ok(());
        }
        let as_of = self.reader.as_of().await?;
        let due = due(&self.published.lock(), now, as_of);
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
mod tests;
