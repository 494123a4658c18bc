//! MinutePublisher that are over: by the clock, so that a minute without an event is told of, too.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::CountError;
use ping_core::{Millis, Minute};
use ping_ports::{MinuteSummary, MinuteTopic, SourceReader};

/// How long after a minute's end it is looked at: at once, and again for what was still on its way into the views.
const LOOKS: [Millis; 5] = [0, 1_000, 3_000, 10_000, 60_000];
/// MinutePublisher that are still looked at.
const OPEN: i64 = 2;
/// Milliseconds in a minute.
const MINUTE: Millis = 60_000;

/// Tells of every minute when it is over, and again when it turns out to have been more.
pub struct MinutePublisher {
    reader: Arc<dyn SourceReader>,
    topic: Arc<dyn MinuteTopic>,
    told: Mutex<BTreeMap<Minute, Published>>,
}

/// What was told of a minute, and after how many looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Published {
    looks: usize,
    summary: Option<MinuteSummary>,
}

/// MinutePublisher to be looked at `now`, with how many looks they will have had then.
fn due(told: &BTreeMap<Minute, Published>, now: Millis) -> Vec<(Minute, usize)> {
    let current = Minute::of(now);
    let looks = |minute: Minute| {
        let age = now - (minute.0 + 1) * MINUTE;
        LOOKS.iter().filter(|after| age >= **after).count()
    };
    let minutes = (current.back(OPEN).0..current.0).map(Minute).map(|minute| (minute, looks(minute)));
    minutes.filter(|(minute, looks)| *looks > told.get(minute).map_or(0, |told| told.looks)).collect()
}

impl MinutePublisher {
    /// Tells `topic` what `reader` knows.
    #[must_use]
    pub fn new(reader: Arc<dyn SourceReader>, topic: Arc<dyn MinuteTopic>) -> Self {
        Self { reader, topic, told: Mutex::default() }
    }

    /// Looks at what is due, and tells what is new.
    pub(super) async fn close(&self, now: Millis) -> Result<(), CountError> {
        let due = due(&self.told.lock(), now);
        let Some(((first, _), (last, _))) = due.first().zip(due.last()) else { return Ok(()) };
        let counts = self.reader.all_minutes(*first, Minute(last.0 + 1)).await?;
        let uniques = self.reader.uniques(*first, Minute(last.0 + 1)).await?;
        let of = |counts: &BTreeMap<Minute, i64>, minute| counts.get(&minute).copied().unwrap_or(0);
        let summary = |minute| MinuteSummary { minute, count: of(&counts, minute), unique: of(&uniques, minute) };
        let said = |minute| self.told.lock().get(&minute).and_then(|told: &Published| told.summary);
        let all: Vec<_> = due.iter().map(|(minute, looks)| (summary(*minute), *looks)).collect();
        let new: Vec<_> =
            all.iter().map(|(summary, _)| *summary).filter(|new| said(new.minute) != Some(*new)).collect();
        if !new.is_empty() {
            self.topic.publish(&new).await?;
        }
        let mut told = self.told.lock();
        for (summary, looks) in all {
            told.insert(summary.minute, Published { looks, summary: Some(summary) });
        }
        told.retain(|minute, _| *minute >= Minute::of(now).back(OPEN));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_looked_at_when_it_is_over_and_a_few_times_more() {
        let end = 100 * MINUTE;
        let minutes = |told: &BTreeMap<Minute, Published>, now| due(told, now);
        let mut told = BTreeMap::new();
        assert_eq!(minutes(&told, end), [(Minute(98), 5), (Minute(99), 1)]);
        told.insert(Minute(98), Published { looks: 5, summary: None });
        told.insert(Minute(99), Published { looks: 1, summary: None });
        assert_eq!(minutes(&told, end + 999), []);
        assert_eq!(minutes(&told, end + 1_000), [(Minute(99), 2)]);
        told.insert(Minute(99), Published { looks: 2, summary: None });
        assert_eq!(minutes(&told, end + 59_999), [(Minute(99), 4)]);
        assert_eq!(minutes(&told, end + MINUTE), [(Minute(99), 5), (Minute(100), 1)]);
    }
}
