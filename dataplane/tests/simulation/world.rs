//! One schedule: servers, processors and callers, the faults injected into them, and what must be true meanwhile and in the
//! end.

mod checks;
mod faults;
mod recreation;
mod restores;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ping_core::Retention;
use ping_ingest::{Ingest, IngestMetrics, IngestPorts, IngestSettings};
use ping_memory::{LoggedMinutes, MemoryCache, MemoryLog, MemoryStatuses, MemoryStore};
use ping_ports::{Clock, Traces};
use ping_projections::{
    CountMetrics, CountSettings, CounterProjection, LogPorts, MinutePublisher, Processor, SourceProjection,
    StatusProjection,
};
use ping_query::StatusQuery;
use prometheus_client::registry::Registry;
use restores::Snapshots;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bugs::Bug,
    cache::{FaultyCache, FullUntil},
    clients::{self, Clocks, Sent, Servers},
    dropping::dropping,
    log::{CommittedOffsets, FaultyConsumer, FaultyLog},
    reader::read_statuses,
    report::Report,
    rng::{FastClock, FaultRng, Host, VirtualClock},
    statuses::{self, FaultyStatuses},
    store::FaultyStore,
    topic::Topic,
    views::FaultyViews,
};

/// Audits are frequent, so that a schedule need not wait for them for long.
const AUDIT_INTERVAL: Duration = Duration::from_secs(1);

struct Server {
    host: Host,
    _tasks: JoinSet<()>,
}

struct World {
    rng: FaultRng,
    clock: Arc<dyn Clock>,
    fast_clock: Arc<dyn Clock>,
    store: Arc<MemoryStore>,
    log: MemoryLog,
    topic: Topic,
    cache: Arc<MemoryCache>,
    full_until: FullUntil,
    statuses: Arc<MemoryStatuses>,
    committed: CommittedOffsets,
    ingest_metrics: Arc<IngestMetrics>,
    count_metrics: Arc<CountMetrics>,
    views_metrics: Arc<CountMetrics>,
    views_committed: CommittedOffsets,
    lane_handles: Servers,
    servers: Vec<Server>,
    processors: Vec<(Host, JoinSet<()>)>,
    sent: Arc<Mutex<Sent>>,
    crashes: u64,
    restores: u64,
    recreations: u64,
    outgrown: u64,
    old_statuses: u64,
    earlier_epochs: u64,
}

/// Runs one schedule to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // Clocks start at the paused time. Outside of the runtime, they would start at the real time, and schedules would differ.
    let context = runtime.enter();
    let world = World::new(seed, bug);
    drop(context);
    let topic = world.topic.clone();
    let result = runtime.block_on(world.run());
    if topic.is_unnoticed() { Ok(Report { unnoticed: 1, ..Report::default() }) } else { result }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let rng = FaultRng::new(seed, bug);
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(Instant::now()));
        let fast_clock: Arc<dyn Clock> = Arc::new(FastClock(Instant::now()));
        Self {
            store: Arc::new(MemoryStore::new(Arc::clone(&clock))),
            log: MemoryLog::new(1 + u32::try_from(rng.below(3)).unwrap()),
            topic: Topic::default(),
            cache: Arc::default(),
            full_until: FullUntil::default(),
            // Nodes with one source, and with several.
            statuses: Arc::new(MemoryStatuses::new(2, statuses::TIMES)),
            committed: Arc::default(),
            ingest_metrics: Arc::new(IngestMetrics::register(&mut Registry::default())),
            count_metrics: Arc::new(CountMetrics::of_counters(&mut Registry::default())),
            views_metrics: Arc::new(CountMetrics::of_views(&mut Registry::default())),
            views_committed: Arc::default(),
            lane_handles: Arc::default(),
            servers: Vec::new(),
            processors: Vec::new(),
            sent: Arc::default(),
            crashes: 0,
            restores: 0,
            recreations: 0,
            outgrown: 0,
            old_statuses: 0,
            earlier_epochs: 0,
            rng,
            clock,
            fast_clock,
        }
    }

    fn start_server(&mut self) {
        let host = Host::new(&self.rng);
        let store = FaultyStore::new(&host, &self.store);
        let log = FaultyLog::new(&self.log, &store, &self.topic);
        let ports = IngestPorts {
            store: Arc::new(store.clone()),
            outbox: Arc::new(store),
            producer: Arc::new(log),
            traces: Traces::default(),
        };
        let settings = IngestSettings {
            lanes: 1 + usize::try_from(self.rng.below(2)).unwrap(),
            queue_events: 40,
            batch_events: 1 + usize::try_from(self.rng.below(10)).unwrap(),
            lease: Duration::from_millis(300),
            timeout: Duration::from_millis(800),
        };
        let mut tasks = JoinSet::new();
        let ingest = Ingest::start(ports, settings, Arc::clone(&self.ingest_metrics), &mut tasks);
        self.lane_handles.lock().push(ingest);
        self.servers.push(Server { host, _tasks: tasks });
    }

    fn start_processor(&mut self) {
        let host = Host::new(&self.rng);
        let settings = CountSettings {
            flush_records: 1 + usize::try_from(self.rng.below(20)).unwrap(),
            flush_bytes: 1 + usize::try_from(self.rng.below(700)).unwrap(),
            fan_in: 2 + usize::try_from(self.rng.below(2)).unwrap(),
            retry: Duration::from_millis(20),
            audit_interval: AUDIT_INTERVAL,
            ..CountSettings::default()
        };
        let dropping = dropping(FaultyStore::new(&host, &self.store), Arc::clone(&self.fast_clock));
        let mut tasks = JoinSet::new();
        tasks.spawn(self.counting(&host, settings.clone()).run(CancellationToken::new()));
        tasks.spawn(self.viewing(&host, settings).run(CancellationToken::new()));
        tasks.spawn(dropping.run(CancellationToken::new()));
        self.processors.push((host, tasks));
    }

    fn views(&self, host: &Host, log: &FaultyLog) -> FaultyViews {
        FaultyViews { host: host.clone(), inner: Arc::clone(&self.store), topic: log.topic.clone() }
    }

    fn log_ports(&self, host: &Host, log: &FaultyLog) -> LogPorts {
        LogPorts {
            outbox: Arc::new(log.store.clone()),
            bounds: Arc::new(log.clone()),
            producer: Arc::new(log.clone()),
            incarnations: Arc::new(self.views(host, log)),
            clock: Arc::clone(&self.clock),
            traces: Traces::default(),
        }
    }

    fn counting(&self, host: &Host, settings: CountSettings) -> Processor<FaultyConsumer, CounterProjection> {
        let store = FaultyStore::new(host, &self.store);
        let log = FaultyLog::new(&self.log, &store, &self.topic);
        let cache = FaultyCache {
            host: host.clone(),
            inner: Arc::clone(&self.cache),
            topic: log.topic.clone(),
            full_until: self.full_until.clone(),
        };
        let ports = self.log_ports(host, &log);
        let counters = CounterProjection::new(Arc::new(cache), Arc::new(store), self.store.clone(), &ports, &settings);
        let consumer = FaultyConsumer {
            log,
            inner: self.log.subscribe("counts"),
            committed: Arc::clone(&self.committed),
            cache: Some(Arc::clone(&self.cache)),
        };
        Processor::new(consumer, counters, ports, settings, Arc::clone(&self.count_metrics))
    }

    fn viewing(&self, host: &Host, settings: CountSettings) -> Processor<FaultyConsumer, SourceProjection> {
        let log = FaultyLog::new(&self.log, &FaultyStore::new(host, &self.store), &self.topic);
        let views = self.views(host, &log);
        let ports = self.log_ports(host, &log);
        let cached = Arc::new(self.statuses_seen_by(host));
        let statuses = StatusProjection { rule: statuses::rule_of_processors(self.rng.bug), cache: cached };
        let views =
            SourceProjection::new(Arc::new(views), &ports, &settings, Retention::default()).with_statuses(statuses);
        let views = views.with_minutes(Some(MinutePublisher::new(self.store.clone(), Arc::new(LoggedMinutes))));
        let committed = Arc::clone(&self.views_committed);
        let consumer = FaultyConsumer { log, inner: self.log.subscribe("views"), committed, cache: None };
        Processor::new(consumer, views, ports, settings, Arc::clone(&self.views_metrics))
    }

    fn statuses_seen_by(&self, host: &Host) -> FaultyStatuses {
        FaultyStatuses { host: host.clone(), inner: Arc::clone(&self.statuses) }
    }

    /// Reads statuses as a server does, which caches what it had to read from the store.
    fn start_reader(&self, reaches_cache: bool) -> JoinSet<()> {
        let host = Host::new(&self.rng);
        if !reaches_cache {
            host.cut_off(Duration::from_secs(3_600));
        }
        let cache = Arc::new(self.statuses_seen_by(&host));
        let (clock, sent) = (Arc::clone(&self.clock), Arc::clone(&self.sent));
        let query = StatusQuery::new(statuses::rule(), cache, self.store.clone(), Arc::clone(&clock));
        let mut tasks = JoinSet::new();
        tasks.spawn(read_statuses(host, query, clock, sent));
        tasks
    }

    async fn run(mut self) -> Result<Report, String> {
        let readers = [false, true, true].map(|reaches_cache| self.start_reader(reaches_cache));
        self.start_server();
        self.start_server();
        self.start_processor();
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let (rng, servers) = (self.rng.clone(), Arc::clone(&self.lane_handles));
            let clocks = Clocks { events: Arc::clone(&self.clock), ids: Arc::clone(&self.fast_clock) };
            callers.spawn(clients::run(rng, servers, clocks, Arc::clone(&self.sent), 12));
        }
        let mut snapshots = Snapshots { cache: Some(Box::new(self.cache.save())), ..Snapshots::default() };
        self.back_up(&mut snapshots).await;
        for _ in 0..25 {
            sleep(self.rng.millis(200)).await;
            self.check_reading().await?;
            self.step(&mut snapshots).await?;
        }
        self.rng.end_of_faults();
        while callers.join_next().await.is_some() {}
        if self.rng.chance(50) {
            let within_epoch = self.rng.chance(50);
            self.restore_statuses(&mut snapshots, within_epoch);
        }
        self.settle(readers).await
    }
}
