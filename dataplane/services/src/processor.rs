//! The processor over any adapters.

use std::{sync::Arc, time::Duration};

use ping_core::Retention;
use ping_ports::{CounterCache, EventRetention, LogConsumer, SourceReader, SourceViews, TotalsStore};
use ping_projections::{
    CountMetrics, CountSettings, CounterProjection, EventRetentionSettings, EventRetentionTask, LogPorts,
    MinutePublisher, Processor, SourceProjection, StatusProjection,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// Maximum time between an event's arrival and its flush to the views. Batching saves transactions, and a status still changes within
/// a second.
const VIEWS_FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// The interval at which closed minutes are looked for.
const MINUTES_INTERVAL: Duration = Duration::from_millis(250);

/// Pause between two updates of the views' watermark. Each costs a transaction, and `as_of` must stay within a second.
const VIEWS_WATERMARK_INTERVAL: Duration = Duration::from_millis(400);

/// The processor. Each projection reads the log with a consumer of its own, so neither waits for the other.
pub struct ProcessorService<S> {
    /// Outbox, log bounds, dead letters and clock.
    pub log: LogPorts,
    /// Exact totals, from which the cache is rebuilt and audited.
    pub totals: Arc<dyn TotalsStore>,
    /// Stores the counters.
    pub cache: Arc<dyn CounterCache>,
    /// Reads the log for the counters.
    pub cache_log: S,
    /// Stores the views per source.
    pub views: Arc<dyn SourceViews>,
    /// Reads the views.
    pub view_reader: Arc<dyn SourceReader>,
    /// Reads the log for the views.
    pub views_log: S,
    /// Settings of the projections.
    pub settings: CountSettings,
    /// Retention of the views.
    pub retention: Retention,
    /// Drops events.
    pub events: Arc<dyn EventRetention>,
    /// Days for which events are kept; `None` keeps all of them.
    pub event_days: Option<i64>,
    /// Keeps the cache of statuses up to date.
    pub statuses: StatusProjection,
    /// Publishes a summary of each closed minute; none if disabled.
    pub minutes: Option<MinutePublisher>,
}

impl<S: LogConsumer + 'static> ProcessorService<S> {
    /// Counts until `shutdown`, then flushes pending counts.
    pub fn run(self, registry: &mut Registry, shutdown: CancellationToken) -> impl Future<Output = ()> + use<S> {
        let Self {
            log,
            totals,
            cache,
            cache_log,
            views,
            view_reader,
            views_log,
            settings,
            retention,
            events,
            event_days,
            statuses,
            minutes,
        } = self;
        let dropping = EventRetentionSettings::new(event_days);
        let dropping = EventRetentionTask::new(events, Arc::clone(&log.clock), dropping, retention, registry);
        let counters = CounterProjection::new(cache, totals, view_reader, &log, &settings);
        let metrics = Arc::new(CountMetrics::of_counters(registry));
        let counting = Processor::new(cache_log, counters, log.clone(), settings.clone(), metrics);
        let sources = SourceProjection::new(views, &log, &settings, retention);
        let sources = sources.with_statuses(statuses).with_minutes(minutes);
        let metrics = Arc::new(CountMetrics::of_views(registry));
        let settings = CountSettings {
            flush_interval: settings.flush_interval.min(VIEWS_FLUSH_INTERVAL),
            audit_interval: MINUTES_INTERVAL,
            watermark_interval: VIEWS_WATERMARK_INTERVAL,
            ..settings
        };
        let viewing = Processor::new(views_log, sources, log, settings, metrics);
        async move {
            tokio::join!(counting.run(shutdown.clone()), viewing.run(shutdown.clone()), dropping.run(shutdown));
        }
    }
}
