//! The projection per source: windows, days and kinds, in tables of the store.

use std::{
    collections::BTreeSet,
    mem,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{Duration, sleep},
};

use super::{AuditOutcome, CountError, LogPorts, MinutePublisher, Projection, Sums};
use ping_core::{Generation, Millis, Minute, Positions, Retention, RetentionCutoffs, SourceCounts, StatusRule};
use ping_ports::{
    Advance, Applied, Clock, LogBounds, LogEvent, SourceReader, SourceViews, StatusCache, StatusUpdate,
    StatusWatermark, chain,
};

/// Pause after nobody could be told.
const UNHEARD: Duration = Duration::from_secs(5);
/// SourceProjection that are asked for at once: a question that is answered within a millisecond keeps nobody from a core.
const ASKED: usize = 64;
/// Milliseconds in an hour.
const HOUR: Millis = 60 * 60_000;

impl Sums for SourceCounts {
    fn add(&mut self, event: &LogEvent) -> bool {
        self.add(&event.source, &event.kind, event.timestamp_ms)
    }
}

/// Keeps what the rule of statuses asks for at hand.
pub struct StatusProjection {
    /// The rule.
    pub rule: StatusRule,
    /// Where it is kept.
    pub cache: Arc<dyn StatusCache>,
    /// Who knows it.
    pub reader: Arc<dyn SourceReader>,
}

impl StatusProjection {
    /// SourceProjection of which something was counted that the rule asks for.
    fn sources(&self, counts: &SourceCounts) -> BTreeSet<Box<str>> {
        let asked = counts.kinds.keys().filter(|(_, kind)| self.rule.asks_for(kind));
        asked.map(|(source, _)| source.clone()).collect()
    }

    /// Says what the store now knows of these.
    async fn update_cache(&self, sources: BTreeSet<Box<str>>, now: Minute) -> Result<(), CountError> {
        let kinds = [&self.rule.negative_when.kind, &self.rule.positive_when.kind];
        let update = |(source, counts): (&str, &[i64])| {
            let count = |kind: &str| if *kind == **kinds[0] { counts[0] } else { counts[1] };
            let counts = self.rule.counts(count);
            StatusUpdate { source: source.into(), counts, last: self.rule.is_final(counts) }
        };
        let sources: Vec<_> = sources.into_iter().collect();
        for some in sources.chunks(ASKED) {
            let pairs: Vec<_> =
                some.iter().flat_map(|source| kinds.map(|kind| (source.clone(), kind.clone()))).collect();
            let counts = self.reader.counts(&pairs).await?;
            let all: Vec<_> = some.iter().map(|source| &**source).zip(counts.chunks_exact(2)).map(update).collect();
            self.cache.merge_max(None, now, &all).await?;
        }
        Ok(())
    }
}

/// Keeps the views per source.
pub struct SourceProjection {
    views: Arc<dyn SourceViews>,
    bounds: Arc<dyn LogBounds>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    statuses: Option<StatusProjection>,
    minutes: Option<MinutePublisher>,
    /// The cache of statuses may believe something that has changed since.
    owes: Mutex<bool>,
    /// The hour in which they were tidied last.
    tidied: AtomicI64,
}

impl SourceProjection {
    /// The views, and the log they are made of.
    #[must_use]
    pub fn new(views: Arc<dyn SourceViews>, log: &LogPorts, retention: Retention) -> Self {
        let (bounds, clock) = (Arc::clone(&log.bounds), Arc::clone(&log.clock));
        Self {
            views,
            bounds,
            clock,
            retention,
            statuses: None,
            minutes: None,
            owes: Mutex::new(true),
            tidied: AtomicI64::new(0),
        }
    }

    /// Also keeps the statuses of sources at hand up to date.
    #[must_use]
    pub fn with(self, statuses: StatusProjection) -> Self {
        Self { statuses: Some(statuses), ..self }
    }

    /// Also tells of every minute that is over.
    #[must_use]
    pub fn with_minutes(self, minutes: Option<MinutePublisher>) -> Self {
        Self { minutes, ..self }
    }

    /// Tells of the minutes that are over. When nobody listens the views go on, and they are told later.
    async fn close_minutes(&self) {
        let Some(minutes) = &self.minutes else { return };
        if let Err(error) = minutes.close(self.clock.now()).await {
            tracing::warn!(error = chain(&error), "a minute that is over could not be told of");
            sleep(UNHEARD).await;
        }
    }

    /// Tells the cache of statuses what changed. While it is away nobody is told, and nothing here waits for it: readers ask the
    /// store then, and when it is back the first word to it is that what it held is not to be believed.
    async fn update_status_cache(&self, changed: BTreeSet<Box<str>>, promise: Option<StatusWatermark>) {
        let Some(statuses) = &self.statuses else { return };
        let mut owes = self.owes.lock().await;
        let tell = async {
            // Until it is done, and when it is dropped half-way.
            if mem::replace(&mut *owes, true) {
                statuses.cache.begin_epoch().await?;
            }
            if !changed.is_empty() {
                statuses.update_cache(changed, Minute::of(self.clock.now())).await?;
            }
            if let Some(promise) = promise {
                statuses.cache.advance_watermark(&promise).await?;
            }
            *owes = false;
            Ok::<_, CountError>(())
        };
        if let Err(error) = tell.await {
            tracing::warn!(error = chain(&error), "statuses are not kept at hand; they are looked up");
        }
    }

    fn kept(&self) -> RetentionCutoffs {
        self.retention.at(self.clock.now())
    }
}

#[async_trait]
impl Projection for SourceProjection {
    type Sums = SourceCounts;
    const PRIMARY: bool = false;

    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        let mut positions = self.views.positions().await?;
        let short =
            |held: &Positions| self.minutes.is_some() && self.kept().of_filling(&held.generation).minutes.is_none();
        if let Some(held) = positions.as_ref().filter(|held| short(held)) {
            // Nobody asked for the minutes until now.
            self.rebuild(Some(&held.generation)).await?;
            positions = self.views.positions().await?;
        }
        // Whoever was here before may have counted something without saying so: up to these positions, and not beyond them.
        *self.owes.lock().await = true;
        self.update_status_cache(BTreeSet::new(), None).await;
        Ok(positions)
    }

    async fn apply(&self, advance: Advance, counts: SourceCounts) -> Result<Applied, CountError> {
        let changed = self.statuses.as_ref().map(|statuses| statuses.sources(&counts)).unwrap_or_default();
        let kept = self.kept().of_filling(&advance.generation);
        let applied = self.views.apply(&advance, &kept.keep(counts)).await?;
        if applied == Applied::Done {
            let on = advance.from.into_keys().collect();
            let promise = advance.as_of.map(|as_of| StatusWatermark { as_of, on, partitions: advance.partitions });
            self.update_status_cache(changed, promise).await;
        }
        Ok(applied)
    }

    /// In the order of the cache's rebuild, and for the same reason: the ends of the log first, then the rows.
    async fn rebuild(&self, seen: Option<&Generation>) -> Result<bool, CountError> {
        let bounds = self.bounds.bounds().await?;
        let ends = bounds.iter().map(|(partition, bounds)| (*partition, bounds.end)).collect();
        let kept = if self.minutes.is_some() { self.kept() } else { self.kept().without_minutes() };
        let rebuilt = self.views.rebuild(seen, &ends, kept).await?;
        if rebuilt {
            tracing::info!("views per source rebuilt from the rows");
        }
        Ok(rebuilt)
    }

    /// Comparing would take every row: `make oracle` does it. What is too old goes.
    async fn audit(&self) -> Result<AuditOutcome, CountError> {
        self.update_status_cache(BTreeSet::new(), None).await;
        self.close_minutes().await;
        let hour = self.clock.now() / HOUR;
        if self.tidied.load(Ordering::Relaxed) != hour {
            self.views.apply_retention(self.kept()).await?;
            self.tidied.store(hour, Ordering::Relaxed);
        }
        Ok(AuditOutcome::Unknown)
    }

    /// Nobody is warned: nothing finds these wrong.
    async fn mark_suspect(&self, _: &Generation) -> Result<(), CountError> {
        Ok(())
    }
}
