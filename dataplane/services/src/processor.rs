//! The processor over the adapters it is given.

use std::{sync::Arc, time::Duration};

use ping_core::Retention;
use ping_ports::{CounterCache, LogConsumer, SourceViews, TotalsStore};
use ping_projections::{
    CountMetrics, CountSettings, CounterProjection, LogPorts, MinutePublisher, Processor, SourceProjection,
    StatusProjection,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// Longest time that an event waits for company on its way into the views: a transaction for each would be a waste, and a status
/// is to change within a second. Also how often somebody looks whether a minute is over.
const VIEWS_INTERVAL: Duration = Duration::from_millis(250);

/// Pause between looks at how far the views can be: each costs a transaction that says so, and `as_of` is to be within a second.
const VIEWS_LAG: Duration = Duration::from_millis(400);

/// What the processor half needs: each projection reads the log for itself, so that neither waits for the other.
pub struct ProcessorService<S> {
    /// Outbox, log bounds, dead letters and clock.
    pub log: LogPorts,
    /// Exact totals, to rebuild the cache from and to audit it.
    pub totals: Arc<dyn TotalsStore>,
    /// Holds the counters.
    pub cache: Arc<dyn CounterCache>,
    /// Reads the log for the counters.
    pub cache_log: S,
    /// Holds the views per source.
    pub views: Arc<dyn SourceViews>,
    /// Reads the log for the views.
    pub views_log: S,
    /// Limits of counting.
    pub settings: CountSettings,
    /// How long the views keep data.
    pub retention: Retention,
    /// Keeps the cache of statuses up to date.
    pub statuses: StatusProjection,
    /// Publishes closed minutes; none when nobody consumes them.
    pub minutes: Option<MinutePublisher>,
}

impl<S: LogConsumer + 'static> ProcessorService<S> {
    /// Counts until `shutdown`, then flushes what it holds.
    pub fn run(self, registry: &mut Registry, shutdown: CancellationToken) -> impl Future<Output = ()> + use<S> {
        let Self { log, totals, cache, cache_log, views, views_log, settings, retention, statuses, minutes } = self;
        let counters = CounterProjection::new(cache, totals, &log, &settings);
        let metrics = Arc::new(CountMetrics::register(registry, "ping_count"));
        let counting = Processor::new(cache_log, counters, log.clone(), settings.clone(), metrics);
        let sources = SourceProjection::new(views, &log, retention).with_statuses(statuses).with_minutes(minutes);
        let metrics = Arc::new(CountMetrics::register(registry, "ping_views"));
        let settings = CountSettings {
            flush_interval: settings.flush_interval.min(VIEWS_INTERVAL),
            audit_interval: VIEWS_INTERVAL,
            watermark_interval: VIEWS_LAG,
            ..settings
        };
        let viewing = Processor::new(views_log, sources, log, settings, metrics);
        async move {
            tokio::join!(counting.run(shutdown.clone()), viewing.run(shutdown));
        }
    }
}
