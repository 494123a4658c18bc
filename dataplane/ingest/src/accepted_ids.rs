//! Which event ids are accepted: those of days that are kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ping_core::{Day, EventError, IdDays, Millis};
use ping_ports::{EventRetention, chain};
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

/// Pause between two looks at the cutoff of the store. Much shorter than the time from a move of the cutoff until a day is dropped.
const INTERVAL: Duration = Duration::from_secs(5);
/// Stands for "no day": the store accepts all.
const NO_DAY: i64 = i64::MIN;

/// Rejects ids that are too old to know whether they were counted. It follows the cutoff of the store, which other programs move. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct AcceptedIds {
    days: Option<i64>,
    first_day: Arc<AtomicI64>,
}

impl AcceptedIds {
    /// Follows the cutoff of `store` as one of `tasks`. `days`: for how many days this server keeps events, not counting today; `None`
    /// leaves it to the store.
    pub fn follow(store: Arc<dyn EventRetention>, days: Option<i64>, tasks: &mut JoinSet<()>) -> Self {
        let accepted = Self { days, first_day: Arc::new(AtomicI64::new(NO_DAY)) };
        let first_day = Arc::clone(&accepted.first_day);
        tasks.spawn(async move {
            loop {
                match store.event_cutoff().await {
                    Ok(cutoff) => {
                        first_day.store(cutoff.first_day.map_or(NO_DAY, |day| day.0), Ordering::Relaxed);
                    }
                    // The store itself refuses what it has dropped.
                    Err(error) => tracing::debug!(error = chain(&error), "the cutoff of the store is not known"),
                }
                sleep(INTERVAL).await;
            }
        });
        accepted
    }

    /// Whether `id` is accepted at the time `now`.
    ///
    /// # Errors
    /// When its day is no longer kept, or more than one day ahead.
    pub fn check(&self, id: Uuid, now: Millis) -> Result<(), EventError> {
        let first_day = self.first_day.load(Ordering::Relaxed);
        let first_day = (first_day != NO_DAY).then_some(Day(first_day));
        IdDays::at(now, self.days, first_day).map_or(Ok(()), |days| days.check(id))
    }
}
